"""Autoscaled models under LMC, which asks most of a convolution: it runs twice, and trains once."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.loader import DataLoader
from gnnscale.nn.autoscale_blocks import Blocks
from gnnscale.samplers import FullSampler
from tests.samplers.test_lmc import TRAIN, difference, epoch_gradient, exact_loader, full_gradient, sparse_graph


class Plain(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.convs = nn.ModuleList([make(5, 8), make(8, 6), make(6, 3)])

    def forward(self, blocks, x):
        for index, (conv, block) in enumerate(zip(self.convs, blocks, strict=True)):
            x = conv(block, torch.relu(x) if index else x)
        return x


class Deep(nn.Module):
    """GCNII in DGL's way: each convolution sees the first rows."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.convs = nn.ModuleList(dgl.nn.GCN2Conv(6, layer, allow_zero_in_degree=True) for layer in (1, 2, 3))

    def forward(self, blocks, x):
        h = first = torch.relu(self.first(x))
        for conv, block in zip(self.convs, blocks, strict=True):
            h = torch.relu(conv(block, h, first))
        return self.last(h)


class Propagated(nn.Module):
    """A linear map and APPNP's propagation of its rows."""

    def __init__(self):
        super().__init__()
        self.linear, self.conv = nn.Linear(5, 3), dgl.nn.APPNPConv(4, 0.2)

    def forward(self, graph, x):
        return self.conv(graph, self.linear(x))


MODELS = {
    "GraphConv": lambda: Plain(lambda a, b: dgl.nn.GraphConv(a, b, allow_zero_in_degree=True)),
    "SAGEConv mean": lambda: Plain(lambda a, b: dgl.nn.SAGEConv(a, b, "mean")),
    "SAGEConv gcn": lambda: Plain(lambda a, b: dgl.nn.SAGEConv(a, b, "gcn")),
    "GINConv": lambda: Plain(lambda a, b: dgl.nn.GINConv(nn.Linear(a, b), "sum")),
    "GCN2Conv": Deep,
}


@pytest.mark.parametrize("name", MODELS)
def test_the_gradients_of_an_epoch_add_up_to_the_full_one(name):
    torch.manual_seed(0)
    graph, model = sparse_graph(), gs.autoscale(MODELS[name]())
    exact, of_outputs = full_gradient(model, graph)
    assert difference(epoch_gradient(model, exact_loader(model, graph, None, of_outputs)), exact) < 1e-5


HOPS = {
    "SGConv": lambda: Plain(lambda a, b: dgl.nn.SGConv(a, b, k=2, allow_zero_in_degree=True)),
    "TAGConv": lambda: Plain(lambda a, b: dgl.nn.TAGConv(a, b, k=2)),
    "APPNPConv": Propagated,
}


def whole_gradient(model, graph):
    """The gradient of the sum of the training nodes' losses."""
    (full,) = DataLoader(graph, torch.arange(60), FullSampler())
    loss = cross_entropy(model(full, full.x)[TRAIN], full.y[TRAIN], reduction="sum")
    return torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("name", HOPS)
def test_hops_within_a_convolution_add_up_too(name):
    """Epochs without a step of the optimiser build the gradient histories up, from the output inwards."""
    torch.manual_seed(0)
    graph, model = sparse_graph(), gs.autoscale(HOPS[name]())
    exact = whole_gradient(model, graph)
    loader = exact_loader(model, graph, None, [])
    first = difference(epoch_gradient(model, loader), exact)
    for _ in range(sum(model.forward.hops)):
        last = difference(epoch_gradient(model, loader), exact)
    assert last < 1e-5 < first


def test_first_rows_that_were_not_exchanged_would_train_twice(monkeypatch):
    monkeypatch.setattr(Blocks, "seen", lambda self, rows: rows)
    torch.manual_seed(0)
    graph, model = sparse_graph(), gs.autoscale(Deep())
    exact, of_outputs = full_gradient(model, graph)
    assert difference(epoch_gradient(model, exact_loader(model, graph, None, of_outputs)), exact) > 0.01
