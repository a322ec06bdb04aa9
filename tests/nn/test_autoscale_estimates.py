"""What autoscaled convolutions estimate from samples: unbiased where they are linear, and not so without an adapter."""

import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.batch import MiniBatch
from gnnscale.csc import CSC
from gnnscale.loader import DataLoader
from gnnscale.samplers import LADIESSampler, NeighborSampler, VRGCNSampler
from gnnscale.testing.graphs import plain

DRAWS = 300

LINEAR = {
    "GraphConv both": lambda a, b: dgl.nn.GraphConv(a, b),
    "GraphConv left": lambda a, b: dgl.nn.GraphConv(a, b, norm="left"),
    "GraphConv none": lambda a, b: dgl.nn.GraphConv(a, b, norm="none"),
    "SAGEConv mean": lambda a, b: dgl.nn.SAGEConv(a, b, "mean"),
    "SAGEConv gcn": lambda a, b: dgl.nn.SAGEConv(a, b, "gcn"),
    "GINConv sum": lambda a, b: dgl.nn.GINConv(nn.Linear(a, b), "sum"),
    "GINConv mean": lambda a, b: dgl.nn.GINConv(nn.Linear(a, b), "mean"),
    "SGConv": lambda a, b: dgl.nn.SGConv(a, b, k=2),
    "TAGConv": lambda a, b: dgl.nn.TAGConv(a, b, k=2),
    "APPNPConv": lambda a, b: dgl.nn.APPNPConv(2, 0.1),
}


def largest_z(estimates, exact):
    stacked = torch.stack(estimates).double()
    error = stacked.std(0) / len(stacked) ** 0.5 + 1e-5 * (1 + exact.abs())
    return float(((stacked.mean(0) - exact).abs() / error).max())


@pytest.mark.parametrize("sampler", ["neighbor", "ladies"])
@pytest.mark.parametrize("name", LINEAR)
@torch.no_grad()
def test_linear_convolutions_are_unbiased(name, sampler):
    graph, conv = plain(), LINEAR[name](4, 3)
    exact = conv(graph, graph.ndata["feat"]).double()
    gs.autoscale(conv)
    hops = sum(conv.forward.hops)
    drawer = NeighborSampler([3] * hops) if sampler == "neighbor" else LADIESSampler([25] * hops, debias=True)
    csc, seeds, estimates = CSC.of(graph), torch.arange(60), []
    for key in range(DRAWS):
        sample = drawer.draw(csc, seeds, key)
        batch = MiniBatch(graph, sample, x=graph.ndata["feat"][sample.nodes])
        estimates.append(conv(batch, batch.x))
    assert largest_z(estimates, exact) < 5


@pytest.mark.parametrize("name", ["GraphConv both", "GraphConv left", "GraphConv none", "SAGEConv gcn", "GINConv sum"])
@torch.no_grad()
def test_dgls_modules_on_the_same_blocks_are_biased(name):
    graph, conv = plain(), LINEAR[name](4, 3)
    exact = conv(graph, graph.ndata["feat"]).double()
    csc, sampler, estimates = CSC.of(graph), NeighborSampler([3]), []
    for key in range(DRAWS // 4):
        sample = sampler.draw(csc, torch.arange(60), key)
        (block,) = MiniBatch(graph, sample).blocks
        estimates.append(conv(block, graph.ndata["feat"][sample.nodes]))
    assert largest_z(estimates, exact) > 10


class Mean(nn.Module):
    """Somebody's own convolution; affine."""

    def __init__(self, in_size, out_size):
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)

    def forward(self, block, x):
        with block.local_scope():
            block.srcdata["h"] = x
            block.update_all(dgl.function.copy_u("h", "m"), dgl.function.mean("m", "mean"))
            return self.linear(block.dstdata["mean"]) + x[: block.num_dst_nodes()].sum(1, keepdim=True)


class Squared(Mean):
    """The same, and not affine."""

    def forward(self, block, x):
        return super().forward(block, x).square()


class Linear(nn.Module):
    """Two convolutions and nothing between."""

    def __init__(self, make, sizes=(4, 4, 4)):
        super().__init__()
        self.convs = nn.ModuleList([make(a, b) for a, b in pairwise(sizes)])

    def forward(self, blocks, x):
        for conv, block in zip(self.convs, blocks, strict=True):
            x = conv(block, x)
        return x


def scaled(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gs.autoscale(Linear(make), convs=[Mean])


CONTROLLED = {
    "GraphConv": LINEAR["GraphConv both"],
    "SAGEConv gcn": LINEAR["SAGEConv gcn"],
    "GINConv": LINEAR["GINConv sum"],
    "SGConv": lambda a, b: dgl.nn.SGConv(a, b, k=1),
    "TAGConv": lambda a, b: dgl.nn.TAGConv(a, b, k=1),
    "APPNPConv": lambda a, b: dgl.nn.APPNPConv(1, 0.1),
    "Mean": Mean,
}


@pytest.mark.parametrize("cvd", [True, False])
@pytest.mark.parametrize("make", CONTROLLED.values(), ids=CONTROLLED)
@torch.no_grad()
def test_control_variates_are_unbiased_whatever_the_history_holds_and_exact_once_it_is_fresh(make, cvd):
    graph, model = plain(), scaled(make)
    exact = gs.infer(model, graph).double()
    num_layers = sum(model.forward.hops)
    loader = DataLoader(graph, torch.arange(60), VRGCNSampler([2] * num_layers, cvd=cvd), batch_size=60)
    gs.infer(model, graph, history=loader.history)
    (batch,) = loader
    fresh = model.train()(batch, batch.x)
    places = batch.output_nodes
    if make is not Mean:  # whose first layer is plain neighbour sampling
        torch.testing.assert_close(fresh.double(), exact[places], rtol=1e-4, atol=1e-4)
    generator = torch.Generator().manual_seed(2)
    stale = [
        loader.history.pull(table, torch.arange(60)).wait()
        + 0.5 * torch.randn(60, width, generator=generator)
        for table, width in enumerate(loader.history.widths)
    ]  # fmt: skip
    estimates = []
    while len(estimates) < DRAWS // 2:
        for table, rows in enumerate(stale):
            loader.history.push(table, torch.arange(60), rows)
        (batch,) = loader
        out = torch.empty(60, exact.shape[1])
        out[batch.output_nodes] = model(batch, batch.x)
        estimates.append(out)
    assert largest_z(estimates, exact) < 5


@torch.no_grad()
def test_fresh_histories_make_the_later_layers_of_an_affine_convolution_exact():
    """Given the rows that the first convolution made of a sample, the second one is exact up to their error."""
    graph, model = plain(), scaled(Mean)
    loader = DataLoader(graph, torch.arange(60), VRGCNSampler([-1, 2], cvd=False), batch_size=60)
    exact = gs.infer(model, graph, history=loader.history)
    for batch in loader:
        torch.testing.assert_close(model(batch, batch.x), exact[batch.output_nodes], rtol=1e-4, atol=1e-5)


def test_whether_a_convolution_is_affine_is_tried_out():
    graph, model = plain(), scaled(Squared)
    loader = DataLoader(graph, torch.arange(60), VRGCNSampler([2, 2]), batch_size=20)
    batch = next(iter(loader))
    with pytest.raises(ValueError, match=r"Squared .* use gas, neighbor or cluster"):
        model(batch, batch.x)
    assert all(module.training for module in model.modules())  # the trial has left nothing behind
