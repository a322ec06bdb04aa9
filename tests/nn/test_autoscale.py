"""Unmodified models of DGL's modules: what they compute under samplers is what DGL computes on the whole graph."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.loader import DataLoader
from gnnscale.samplers import FullSampler, GASSampler, NeighborSampler, VRGCNSampler
from tests.conftest import make_graph
from tests.nn.dgl_convs import CONVS, OPTIONS, Stack, num_layers

ALL = {**CONVS, **OPTIONS}


def make_model(make, in_size=6, hidden_size=6, out_size=4, **arguments):
    torch.manual_seed(1)
    model = Stack(make, in_size, hidden_size, out_size, **arguments)
    for parameter in model.parameters():
        if parameter.dim() < 2:  # biases start at zero
            nn.init.normal_(parameter, 1.0, 0.3)
    return model


def two_wide(make):
    """The same width everywhere, for convolutions that keep it; statistics of batches have no part in it."""
    return make_model(make, 6, 6, 6, dropout=0.0).eval()


def dtype_for(name):
    """float64, because small standard deviations are ill-conditioned; but DGL's APPNPConv knows float32 alone."""
    return torch.float32 if name == "APPNPConv" else torch.float64


def of_dgl(model, graph, x, seeds):
    """Rows and gradients of DGL's own modules on the whole graph."""
    model.zero_grad()
    out = model(graph, x)
    functional.cross_entropy(out[seeds], seeds % out.shape[1]).backward()
    return out.detach(), [p.grad.clone() for p in model.parameters()]


def of_batch(model, batch, x, seeds):
    model.zero_grad()
    out = model(batch, x)
    rows = out if len(out) == len(seeds) else out[seeds]
    functional.cross_entropy(rows, seeds % out.shape[1]).backward()
    return rows.detach(), [p.grad.clone() for p in model.parameters()]


def assert_same(got, wanted, seeds):
    torch.testing.assert_close(got[0], wanted[0][seeds], rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(got[1], wanted[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * max(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("name", ALL)
def test_the_whole_graph_and_all_neighbours_give_dgls_rows_and_gradients(name):
    """On a directed graph with self-loops, parallel edges and isolated nodes."""
    dtype = dtype_for(name)
    graph, model = make_graph(num_features=6), two_wide(ALL[name]).to(dtype)
    seeds, x = torch.tensor([0, 5, 59, 30, 7]), graph.ndata["feat"].to(dtype)
    wanted = of_dgl(model, graph, x, seeds)
    assert gs.autoscale(model) is model
    (batch,) = DataLoader(graph, seeds, FullSampler())
    assert_same(of_batch(model, batch, x, seeds), wanted, seeds)
    (batch,) = DataLoader(graph, seeds, NeighborSampler([-1] * num_layers(model)), batch_size=5)
    assert_same(of_batch(model, batch, x[batch.input_nodes], seeds), wanted, seeds)


@pytest.fixture(scope="module")
def cora(shared_data):
    graph = gs.load("cora", data_dir=shared_data).graph
    torch.manual_seed(0)
    graph.ndata["feat"] = graph.ndata["feat"] @ torch.randn(graph.ndata["feat"].shape[1], 6)
    return graph


@pytest.mark.parametrize("name", CONVS)
def test_cora_under_dgl_the_whole_graph_all_neighbours_and_gas_with_fresh_histories(cora, name):
    model, seeds, dtype = two_wide(CONVS[name]), torch.arange(0, 2708, 90), dtype_for(name)
    model.to(dtype)
    x = cora.ndata["feat"].to(dtype)
    wanted = of_dgl(model, cora, x, seeds)
    gs.autoscale(model)
    for sampler in (FullSampler(), NeighborSampler([-1] * num_layers(model))):
        (batch,) = DataLoader(cora, seeds, sampler, batch_size=len(seeds))
        assert_same(of_batch(model, batch, x[batch.input_nodes], seeds), wanted, seeds)
    model.float()
    loader = DataLoader(cora, torch.arange(2708), GASSampler(8, partition="random"), batch_size=4)
    gs.infer(model, cora, history=loader.history)
    for batch in loader:
        rows, all_rows = model(batch, batch.x).detach(), wanted[0].float()
        torch.testing.assert_close(
            rows, all_rows[batch.output_nodes], rtol=1e-5, atol=1e-5 * max(1.0, float(all_rows.abs().max()))
        )


@pytest.mark.parametrize("name", ALL)
def test_fresh_histories_and_chunks_are_exact(name):
    graph, model = make_graph(num_features=6), two_wide(ALL[name])
    with torch.no_grad():
        wanted = model(graph, graph.ndata["feat"])
    gs.autoscale(model)
    torch.testing.assert_close(gs.infer(model, graph, chunk_edges=60), wanted, rtol=1e-5, atol=1e-5)
    loader = DataLoader(graph, torch.arange(60), GASSampler(6, partition="random"), batch_size=2)
    gs.infer(model, graph, chunk_edges=60, history=loader.history)
    seen = 0
    for batch in loader:
        rows = model(batch, batch.x).detach()
        torch.testing.assert_close(rows, wanted[batch.output_nodes], rtol=1e-5, atol=1e-5)
        seen += len(rows)
    assert seen == 60


class OneGraph(nn.Module):
    """DGL's way for whole graphs: one graph for all convolutions."""

    def __init__(self):
        super().__init__()
        self.first = dgl.nn.GraphConv(6, 6, allow_zero_in_degree=True)
        self.last = dgl.nn.APPNPConv(3, 0.1)

    def forward(self, g, features):
        return self.last(g, torch.relu(self.first(g, features)))


class Pairs(nn.Module):
    """DGL's examples of GraphSAGE in an older form: rows of sources and of destinations."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.layers = nn.ModuleList([dgl.nn.SAGEConv(6, 6, "mean"), dgl.nn.SAGEConv(6, 4, "mean")])
        self.dropout = dropout

    def forward(self, blocks, x):
        h = x
        for index, (layer, block) in enumerate(zip(self.layers, blocks, strict=True)):
            own = h[: block.num_dst_nodes()]
            h = layer(block, (h, own))
            if index + 1 < len(self.layers):
                h = functional.dropout(torch.relu(h), self.dropout, self.training)
        return h


def test_models_of_one_graph_and_models_of_pairs():
    graph = make_graph(num_features=6)
    x = graph.ndata["feat"]
    one, pairs = OneGraph(), Pairs()
    wanted = one(graph, x)
    gs.autoscale(one)
    torch.testing.assert_close(gs.infer(one, graph), wanted)
    (batch,) = DataLoader(graph, torch.arange(60), NeighborSampler([-1] * 4), batch_size=60)
    torch.testing.assert_close(one(batch, batch.x), wanted, rtol=1e-4, atol=1e-5)
    wanted = pairs([graph, graph], x)
    torch.testing.assert_close(gs.infer(gs.autoscale(pairs), graph, chunk_edges=80), wanted, rtol=1e-4, atol=1e-5)


def test_the_model_stays_what_it_was():
    graph = make_graph(num_features=6)
    model = make_model(CONVS["GraphConv"], dropout=0.0)
    keys, before = list(model.state_dict()), model(graph, graph.ndata["feat"])
    gs.autoscale(gs.autoscale(model))
    assert list(model.state_dict()) == keys
    assert isinstance(model.layers[0], dgl.nn.GraphConv)
    torch.testing.assert_close(model(graph, graph.ndata["feat"]), before)
    block = dgl.to_block(graph, torch.arange(60))
    assert model.layers[0](block, graph.ndata["feat"]).shape == (60, 6)
    torch.testing.assert_close(gs.infer(model, graph), before)


def test_a_copy_is_a_model_of_its_own():
    graph = make_graph(num_features=6)
    model = gs.autoscale(make_model(CONVS["SAGEConv mean"], dropout=0.0))
    twin, before = copy.deepcopy(model), gs.infer(model, graph)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert gs.infer(model, graph).abs().max() == 0
    torch.testing.assert_close(gs.infer(twin, graph), before)


def test_a_model_that_is_one_convolution():
    graph = make_graph(num_features=6)
    conv = dgl.nn.SAGEConv(6, 4, "pool")
    wanted = conv(graph, graph.ndata["feat"])
    torch.testing.assert_close(gs.infer(gs.autoscale(conv), graph, chunk_edges=80), wanted)
    torch.testing.assert_close(conv(graph, graph.ndata["feat"]), wanted)


class Shared(nn.Module):
    """One convolution called three times, twice on one block."""

    def __init__(self):
        super().__init__()
        self.conv = dgl.nn.SAGEConv(6, 6, "mean")
        self.other = dgl.nn.SAGEConv(6, 6, "mean")

    def forward(self, blocks, x):
        h = torch.relu(self.conv(blocks[0], x) + self.other(blocks[0], x))
        return self.conv(blocks[1], h)


@pytest.mark.parametrize("sampler", [GASSampler(5, partition="random"), VRGCNSampler([2, 2], cvd=False)])
def test_convolutions_called_twice_and_blocks_read_twice(sampler):
    graph = make_graph(num_features=6)
    model = Shared()
    wanted = model([graph, graph], graph.ndata["feat"]).detach()
    gs.autoscale(model, num_blocks=2)
    torch.testing.assert_close(gs.infer(model, graph, chunk_edges=80), wanted, rtol=1e-4, atol=1e-5)
    loader = DataLoader(graph, torch.arange(60), sampler, batch_size=5)
    gs.infer(model, graph, history=loader.history)
    for batch in loader:
        torch.testing.assert_close(model(batch, batch.x), wanted[batch.output_nodes], rtol=1e-4, atol=1e-5)


# Dropout.


class DropsOut(nn.Module):
    """ELU, dropout in one of several ways, convolution."""

    def __init__(self, way):
        super().__init__()
        self.first = dgl.nn.GATConv(6, 3, 2, allow_zero_in_degree=True)
        self.last = dgl.nn.GraphConv(6, 4, allow_zero_in_degree=True)
        self.way = way
        self.module, self.in_place, self.ours = nn.Dropout(0.5), nn.Dropout(0.5, inplace=True), gs.nn.Dropout(0.5)

    def forward(self, blocks, x):
        h = functional.elu(self.first(blocks[0], x)) + 5.0  # no row is zero but for dropout
        if self.way == "before flatten":
            h = self.module(h).flatten(1)
        else:
            ways = {
                "module": self.module,
                "in place": self.in_place,
                "ours": self.ours,
                "functional": lambda h: functional.dropout(h, training=self.training),
                "torch": lambda h: torch.dropout(h, 0.5, self.training),
            }
            h = ways[self.way](h.flatten(1))
        self.given = h
        return self.last(blocks[1], h)


WAYS = ["module", "in place", "ours", "functional", "torch", "before flatten"]


def one_step(way, sampler):
    """The history after one training step, and the share of zeros among the rows that the last convolution read."""
    graph, zeros = make_graph(num_features=6), []
    model = gs.autoscale(DropsOut(way)).train()
    original = model.last.forward.adapter.forward

    def forward(layer, x, *rows):
        zeros.append((x == 0).float().mean(1))
        return original(layer, x, *rows)

    model.last.forward.adapter.forward = forward
    loader = DataLoader(graph, torch.arange(60), sampler, batch_size=3)
    gs.infer(model, graph, history=loader.history)
    zeros.clear()
    for batch in loader:
        batch.loss(model(batch, batch.x)).backward()
    return loader.history.pull(0, torch.arange(60)).wait(), zeros


@pytest.mark.parametrize("way", WAYS)
def test_histories_hold_rows_before_dropout_and_convolutions_read_rows_after_it(way):
    rows, zeros = one_step(way, GASSampler(6, partition="random"))
    assert (rows == 0).sum() == 0
    for of_batch_and_halo in zeros:
        assert 0.3 < of_batch_and_halo[:20].mean() < 0.7
        assert 0.3 < of_batch_and_halo[20:].mean() < 0.7  # the halo's


class ChangesInPlace(DropsOut):
    """Something in place after dropout, in one of two ways."""

    def forward(self, blocks, x):
        h = self.first(blocks[0], x).flatten(1)
        h = self.module(h)
        if self.way == "relu":
            h = nn.ReLU(inplace=True)(h)
        else:
            h += 7.0 + x[: len(h)]
        self.given = h
        return self.last(blocks[1], h)


@pytest.mark.parametrize("way", ["relu", "skip"])
def test_what_is_changed_in_place_after_dropout_is_pushed_as_the_convolution_got_it(way):
    graph, model = make_graph(num_features=6), gs.autoscale(ChangesInPlace(way)).train()
    loader, seen = DataLoader(graph, torch.arange(60), GASSampler(6, partition="random"), batch_size=3), []
    gs.infer(model, graph, history=loader.history)
    original = model.last.forward.adapter.forward
    model.last.forward.adapter.forward = lambda layer, x: (seen.append(x), original(layer, x))[1]
    for batch in loader:
        halo = loader.history.pull(0, batch.input_nodes[len(batch.output_nodes) :]).wait()
        model(batch, batch.x)
        torch.testing.assert_close(loader.history.pull(0, batch.output_nodes).wait(), model.given)
        assert len(halo)
        torch.testing.assert_close(seen[-1], torch.cat([model.given, halo]))


def test_rows_changed_in_place_since_they_were_exchanged_are_other_rows():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.a, self.b = (dgl.nn.SAGEConv(6, 6, "mean") for _ in range(3))

        def forward(self, blocks, x):
            with torch.no_grad():
                h = self.first(blocks[0], x)
                out = self.a(blocks[1], h)
                h += 1.0
                return out + self.b(blocks[1], h)

    graph, model = make_graph(num_features=6), gs.autoscale(Twice(), num_blocks=2)
    batch = next(iter(DataLoader(graph, torch.arange(60), GASSampler(6, partition="random"), batch_size=3)))
    with pytest.raises(ValueError, match="read block 1 with different rows"):
        model(batch, batch.x)


def test_without_watching_dropout_histories_would_hold_dropped_rows(monkeypatch):
    class Blind:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def of(self, x):
            return x, 0.0

    monkeypatch.setattr("gnnscale.nn.autoscale.RowsBeforeDropout", Blind)
    rows, _ = one_step("module", GASSampler(6, partition="random"))
    assert (rows == 0).float().mean() > 0.3


def test_own_rows_keep_the_models_mask():
    """A model that uses its dropped rows again (a residual connection) sees the mask that its convolution saw."""
    graph, seen = make_graph(num_features=6), []
    model = gs.autoscale(DropsOut("module")).train()
    original = model.last.forward.adapter.forward
    model.last.forward.adapter.forward = lambda layer, x: (seen.append(x), original(layer, x))[1]
    loader = DataLoader(graph, torch.arange(60), GASSampler(6, partition="random"), batch_size=3)
    for batch in loader:
        model(batch, batch.x)
        torch.testing.assert_close(seen[-1][: len(model.given)], model.given)
        assert len(seen[-1]) > len(model.given)


def test_the_dropout_of_a_convolutions_own_comes_after_the_exchange():
    graph = make_graph(num_features=6)
    model = nn.ModuleList([dgl.nn.SAGEConv(6, 6, "mean"), dgl.nn.SAGEConv(6, 4, "mean", feat_drop=0.9)])
    model.forward = None

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = model

        def forward(self, blocks, x):
            return self.convs[1](blocks[1], self.convs[0](blocks[0], x) + 9.0)

    scaled = gs.autoscale(Model()).train()
    loader = DataLoader(graph, torch.arange(60), GASSampler(6, partition="random"), batch_size=3)
    for batch in loader:
        scaled(batch, batch.x)
    assert (loader.history.pull(0, torch.arange(60)).wait() == 0).sum() == 0
