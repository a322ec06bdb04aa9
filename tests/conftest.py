"""Graphs that the tests share."""

from pathlib import Path

import pytest
import torch

from gnnscale._dgl import dgl

# The graphs here are tiny: a second thread would cost more than it does, and far more on a busy machine.
torch.set_num_threads(1)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real graphs beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the folder of real graphs {SHARED_DATA} is not there")
    return SHARED_DATA


def make_graph(num_nodes=60, num_edges=400, *, num_features=5, num_classes=3, weighted=False, odd=True, seed=0):
    """A random directed graph; with ``odd``, self-loops, duplicate edges and isolated nodes are in it."""
    generator = torch.Generator().manual_seed(seed)
    reach = num_nodes - 3 if odd else num_nodes  # the last three nodes of an odd graph have no edge
    source = torch.randint(reach, (num_edges,), generator=generator)
    # Squares crowd the edges onto a few destinations, so that degrees differ.
    destination = (reach * torch.rand(num_edges, generator=generator).square()).long()
    if odd:
        source[:5] = destination[:5]
        source[5:10], destination[5:10] = source[10:15].clone(), destination[10:15].clone()
    else:
        kept = source != destination
        source, destination = source[kept], destination[kept]
    graph = dgl.graph((source, destination), num_nodes=num_nodes)
    graph.ndata["feat"] = torch.randn(num_nodes, num_features, generator=generator)
    graph.ndata["label"] = torch.randint(num_classes, (num_nodes,), generator=generator)
    if weighted:
        graph.edata["weight"] = torch.rand(graph.num_edges(), generator=generator) + 0.5
    return graph


def first_layer(sample):
    """The input layer of a sample that needs no history."""
    return sample.layer_class(0, sample.adjacencies[0], None)


@pytest.fixture
def odd_graph():
    return make_graph()
