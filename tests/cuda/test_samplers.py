"""Every sampler that draws on a GPU draws the CPU's batches there, bit for bit."""

import pytest
import torch

pytest.importorskip("dgl")

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.ops import _backend
from gnnscale.ops.random import key_of
from gnnscale.samplers import SAMPLERS

SIZES = {
    "neighbor": [4, 7], "labor": [3, 6], "fastgcn": [60, 40], "ladies": [50, 40], "pinsage": [3, 5], "ppr": [4, -1],
    "vrgcn": [2, 3], "asgcn": [9, 9], "mvs": [3, 5],
}  # fmt: skip
PARTS = {"cluster": 6, "gas": 6, "lmc": 6, "graphfm": 6}
OTHERS = {
    "neighbor, all of some": lambda: gs.samplers.NeighborSampler([-1, 5]),
    "neighbor with replacement": lambda: gs.samplers.NeighborSampler([4, 9], replace=True),
    "neighbor by weight": lambda: gs.samplers.NeighborSampler([5, 1], by_weight=True),
    "neighbor by weight with replacement": lambda: gs.samplers.NeighborSampler([4, 9], replace=True, by_weight=True),
    "labor-1": lambda: gs.samplers.LaborSampler([3, 6], importance_sampling=1),
    "labor-*": lambda: gs.samplers.LaborSampler([3, 6], importance_sampling=-1),
    "labor, one random number a node": lambda: gs.samplers.LaborSampler([-1, 6], layer_dependency=True),
    "ladies, unbiased": lambda: gs.samplers.LADIESSampler([50, 400], debias=True),
    "ladies, mean": lambda: gs.samplers.LADIESSampler([50, 40], norm="mean"),
    "fastgcn, left": lambda: gs.samplers.FastGCNSampler([60, 40], norm="left"),
    "cluster, all parts": lambda: gs.samplers.ClusterGCNSampler(1),
    "vrgcn without cvd": lambda: gs.samplers.VRGCNSampler([2, 2], cvd=False),
}


def sampler_of(name):
    if name in OTHERS:
        return OTHERS[name]()
    return SAMPLERS[name](SIZES[name]) if name in SIZES else SAMPLERS[name](*filter(None, [PARTS.get(name)]))


def graph(weighted, loops, seed=0):
    """400 nodes, a few with very many in-edges and some with none, parallel edges, and features."""
    generator = torch.Generator().manual_seed(seed)
    source, destination = (390 * torch.rand(2, 6000, generator=generator) ** 3).long()
    if not loops:
        keep = source != destination
        source, destination = source[keep], destination[keep]
    made = dgl.graph((source, destination), num_nodes=400)
    made.ndata["feat"] = torch.randn(400, 5, generator=generator)
    if weighted:
        weight = torch.rand(made.num_edges(), generator=generator)
        weight[::7] = 0.0
        made.edata["weight"] = weight
    return made


def parts_of(sample):
    """All that a sample holds, on the CPU."""
    found = {"nodes": sample.nodes, "loss_weight": sample.loss_weight, "beta": getattr(sample, "beta", None)}
    adjacencies = {f"layer {i}": a for i, a in enumerate(sample.adjacencies)}
    if hasattr(sample, "halo"):
        adjacencies["halo"] = sample.halo
    for i, (nodes, adjacency) in enumerate(getattr(sample, "neighborhoods", [])):
        found[f"neighborhood {i}"] = nodes
        adjacencies[f"neighborhood {i}'s edges"] = adjacency
    for i, adjacency in enumerate(getattr(sample, "damped", None) or []):
        adjacencies[f"damped {i}"] = adjacency
    for name, adjacency in adjacencies.items():
        for part in ("importance", "degree", "_loops", "_weight", "replaced_weight"):
            found[f"{part} of {name}"] = getattr(adjacency, part)
        found |= {f"{part} of {name}": getattr(adjacency.hop, part) for part in adjacency.hop._fields}
    return {name: part.cpu() if isinstance(part, torch.Tensor) else part for name, part in found.items()}


@pytest.mark.parametrize(("weighted", "loops"), [(False, False), (True, True)])
@pytest.mark.parametrize("place", ["device", "pinned"])
@pytest.mark.parametrize("name", [*(name for name, made in SAMPLERS.items() if sampler_of(name).draws_on_gpu), *OTHERS])
def test_the_samples_are_the_cpus(device, name, place, weighted, loops, monkeypatch):
    g = graph(weighted, loops)
    csc, sampler = CSC.of(g), sampler_of(name)
    train = torch.randperm(400, generator=torch.Generator().manual_seed(1))[:150]
    size = sampler.default_batch_size if name.startswith(("saint", "cluster")) else 30
    size = 2 if isinstance(sampler, gs.samplers.ClusterGCNSampler | gs.samplers.GASSampler) else min(size, 200)
    with monkeypatch.context() as on_the_cpu:
        on_the_cpu.setattr(_backend, "emulated", None)
        sampler.prepare(g, train, size)
        batches = sampler.batches(train, size, True, False, torch.Generator().manual_seed(2))[:3]
        wanted = [parts_of(sampler.draw(csc, seeds, key_of(3, n))) for n, seeds in enumerate(batches)]
    there = csc.on(device, pinned=place == "pinned" and device.type == "cuda")
    for number, seeds in enumerate(batches):
        sample = sampler.draw(there, seeds, key_of(3, number))
        for adjacency in sample.adjacencies:
            assert adjacency.hop.indices.device == device
        found = parts_of(sample.named_here())
        assert found.keys() == wanted[number].keys()
        for part, value in wanted[number].items():
            if isinstance(value, torch.Tensor):
                assert found[part].dtype == value.dtype, part
                assert torch.equal(found[part], value), part
            else:
                assert found[part] == value, part
