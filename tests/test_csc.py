"""The in-edges of a graph as arrays."""

import dgl
import torch

import gnnscale as gs
from gnnscale.csc import CSC


def test_a_graph_made_of_in_edges_without_ids_is_as_any_other():
    indptr, indices = torch.tensor([0, 2, 3, 3]), torch.tensor([1, 2, 0])
    graph = dgl.graph(("csc", (indptr, indices, torch.empty(0, dtype=torch.int64))), num_nodes=3)
    graph.edata["weight"] = torch.tensor([1.0, 2.0, 3.0])
    weight = CSC.of(graph).weight
    assert weight is not None
    assert weight.tolist() == [1.0, 2.0, 3.0]
    _, _, (block,) = gs.samplers.NeighborSampler([-1]).sample_blocks(graph, torch.tensor([0]))
    assert block.edata[dgl.EID].tolist() == [0, 1]


def test_self_loops_and_weights_are_added_up_range_by_range(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randint(50, (2, 900), generator=generator)
    graph = dgl.graph((source, target), num_nodes=60)
    for weight in (None, torch.rand(900, generator=generator)):
        if weight is not None:
            graph.edata["weight"] = weight
        ones = torch.ones(900) if weight is None else weight
        loop = source == target
        for edges in (1, 7, 100, 1 << 20):
            monkeypatch.setattr("gnnscale.csc._CHUNK", edges)
            csc = CSC._build(graph, weight)
            torch.testing.assert_close(csc.degree, torch.zeros(60).index_add(0, target, ones))
            torch.testing.assert_close(csc.loops, torch.zeros(60).index_add(0, target[loop], ones[loop]))


def test_the_arrays_of_a_graph_made_of_them_are_shared():
    data = gs.load("rmat", num_nodes=500, num_edges=3000)
    graph = data.graph.int()
    csc = CSC.of(graph)
    assert csc.indices.data_ptr() == graph.adj_tensors("csc")[1].data_ptr()
    assert csc.edge_order is None
