"""Every sampler draws the same batches with the native code on and off, and on any number of threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gnnscale import ops
from gnnscale._dgl import dgl
from gnnscale.loader import DataLoader
from gnnscale.samplers import SAMPLERS, make_sampler

NUM_NODES = 300

# What to draw with, where the defaults do not reach much or take long.
OPTIONS = {
    "asgcn": [{"sizes": [30, 40]}],
    "cluster": [{"num_parts": 8, "diag_lambda": 0.5}],
    "fastgcn": [{"sizes": [30, 40]}, {"sizes": [30, 40], "norm": "mean"}],
    "labor": [
        {"fanouts": [3, 2]},
        {"fanouts": [3, 4], "importance_sampling": 2},
        {"fanouts": [3, -1], "importance_sampling": -1, "layer_dependency": True},
    ],
    "ladies": [{"sizes": [30, 40]}, {"sizes": [30, 40], "debias": True, "norm": "mean"}],
    "neighbor": [
        {"fanouts": [3, 70]},
        {"fanouts": [5, -1], "replace": True},
        {"fanouts": [1, 4], "by_weight": True},
        {"fanouts": [3, 4], "by_weight": True, "replace": True},
    ],
    "pinsage": [{"num_neighbors": [4, 3]}],
    "ppr": [{"num_neighbors": [4, 3], "num_walks": 9}],
    "saint-edge": [{"coverage": 2}],
    "saint-node": [{"coverage": 2}],
    "saint-walk": [{"walk_length": 4, "coverage": 2}],
    "vrgcn": [{"fanouts": [2, 1]}, {"fanouts": [2, 2], "cvd": False}],
}


def _graph(weighted):
    """A directed graph with hubs, parallel edges, self-loops and nodes without edges."""
    generator = torch.Generator().manual_seed(7)
    ends = (torch.rand(2, 5000, generator=generator) ** 2 * (NUM_NODES - 20)).long()
    graph = dgl.graph(tuple(ends), num_nodes=NUM_NODES)
    graph.ndata["feat"] = torch.randn(NUM_NODES, 5, generator=generator)
    graph.ndata["label"] = torch.randint(3, (NUM_NODES,), generator=generator)
    if weighted:
        weight = torch.rand(graph.num_edges(), generator=generator)
        graph.edata["weight"] = weight * (weight > 0.1)  # some edges weigh nothing
    return graph


def _cases():
    for name in SAMPLERS:
        for options in OPTIONS.get(name, [{}]):
            yield name, options


def _arrays(sample):
    """All that a sample consists of."""
    parts = [("nodes", sample.nodes), ("loss_weight", sample.loss_weight)]
    for number, adjacency in enumerate([*sample.adjacencies, *filter(None, [getattr(sample, "halo", None)])]):
        hop = adjacency.hop
        own = {"indptr": hop.indptr, "indices": hop.indices, "positions": hop.positions}
        own |= {"importance": adjacency.importance, "degree": adjacency.degree}
        own |= {"replaced": adjacency.replaced_weight}
        parts += [(f"{number}.{name}", value) for name, value in own.items()]
    return {name: value.clone() for name, value in parts if value is not None}


def draws(num_threads):
    """The arrays of two batches of each case, by the case."""
    torch.set_num_threads(num_threads)
    found = {}
    for weighted in (False, True):
        graph = _graph(weighted)
        for name, options in _cases():
            sampler = make_sampler(name, num_layers=2, num_nodes=NUM_NODES, **options)
            size = getattr(sampler, "default_batch_size", None)
            loader = DataLoader(graph, torch.arange(0, NUM_NODES, 2), sampler, batch_size=min(size or 200, 50), seed=3)
            for number, batch in zip(range(2), loader, strict=False):
                found[f"{name} {options} {'weighted ' if weighted else ''}{number}"] = _arrays(batch.sample)
    return found


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for case, arrays in ours.items():
        assert arrays.keys() == theirs[case].keys(), case
        for name, array in arrays.items():
            other = theirs[case][name]
            assert array.dtype == other.dtype, (case, name)
            assert array.shape == other.shape, (case, name)
            same = torch.allclose if array.is_floating_point() else torch.equal
            assert same(array, other), (case, name)


@pytest.fixture(scope="module")
def on_one_thread():
    return draws(1)


@pytest.mark.skipif(ops.backend() == "torch", reason="the native operations are not in use")
def test_the_torch_reference_draws_the_same_batches(on_one_thread, tmp_path):
    file = tmp_path / "batches.pt"
    code = f"import torch; from tests.samplers.test_both_paths import draws; torch.save(draws(1), {str(file)!r})"
    environment = os.environ | {"GNNSCALE_NATIVE": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
    assert_same(on_one_thread, torch.load(file, weights_only=True))


def test_threads_change_no_batch(on_one_thread):
    before = torch.get_num_threads()
    try:
        assert_same(on_one_thread, draws(3))
    finally:
        torch.set_num_threads(before)


def test_another_batch_is_told_apart(on_one_thread):
    first, second = list(on_one_thread)[:2]
    other = on_one_thread | {first: {name: array + 1 for name, array in on_one_thread[first].items()}}
    assert second != first
    with pytest.raises(AssertionError):
        assert_same(on_one_thread, other)
