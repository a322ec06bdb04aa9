"""The in-edges of a graph as arrays."""

import dgl
import torch

import gnnscale as gs
from gnnscale.csc import CSC


def test_a_graph_made_of_in_edges_without_ids_is_as_any_other():
    indptr, indices = torch.tensor([0, 2, 3, 3]), torch.tensor([1, 2, 0])
    graph = dgl.graph(("csc", (indptr, indices, torch.empty(0, dtype=torch.int64))), num_nodes=3)
    graph.edata["weight"] = torch.tensor([1.0, 2.0, 3.0])
    csc = CSC.of(graph)
    assert csc.edge_ids.tolist() == [0, 1, 2]
    assert csc.weight is not None
    assert csc.weight.tolist() == [1.0, 2.0, 3.0]
    _, _, (block,) = gs.samplers.NeighborSampler([-1]).sample_blocks(graph, torch.tensor([0]))
    assert block.edata[dgl.EID].tolist() == [0, 1]
