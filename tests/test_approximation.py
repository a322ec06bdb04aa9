"""GNNAutoScale's error: measured as by hand, below its bound, and equal to it where the bound is tight."""

import dataclasses
import math

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.approximation import approximation_error
from gnnscale.history import HistoryStore
from gnnscale.nn.bounds import Lipschitz, conv_constants, lipschitz_constants
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import make_graph

BOUNDED = ["gcn", "sage", "gin", "appnp", "gcnii"]


def filled(graph, widths, scale=1.0):
    history = HistoryStore(graph.num_nodes())
    for table, width in enumerate(widths):
        history.push(table, torch.arange(graph.num_nodes()), scale * torch.randn(graph.num_nodes(), width))
    return history


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_are_those_by_hand(weighted):
    graph, model = make_graph(weighted=weighted), gs.nn.GCN(5, 8, 3, num_layers=3)
    history = filled(graph, [8, 8])
    history.step = 4
    history.push(1, torch.arange(30), torch.randn(30, 8))
    history.step = 9
    dense, exact, computed = dense_normalised(graph, "sym"), graph.ndata["feat"].double(), None
    own = dense.diagonal().diag()
    is_read = (dense - own).any(0)
    errors = approximation_error(model, graph, history)
    assert [error.layer for error in errors] == [1, 2, 3]
    ages = torch.tensor([9.0] * 60), torch.tensor([5.0] * 30 + [9.0] * 30)
    for index, (conv, error) in enumerate(zip(model.convs, errors, strict=True)):
        weight, bias = conv.weight.double(), conv.bias.double()
        if index:
            kept = history.pull(index - 1, torch.arange(60)).wait().double()
            computed = (own @ computed + (dense - own) @ kept) @ weight + bias
        exact = dense @ exact @ weight + bias
        computed = exact if computed is None else computed
        if index < 2:
            exact, computed = torch.relu(exact), torch.relu(computed)
            gap = (history.pull(index, torch.arange(60)).wait() - computed).norm(dim=1)[is_read]
            age = ages[index][is_read]
            expected = (gap.mean(), gap.max(), age.mean(), age.max())
            found = (error.gap_mean, error.gap_max, error.staleness, error.staleness_max)
            assert found == pytest.approx([value.item() for value in expected], rel=1e-4)
            assert math.isnan(error.changed)
        distance = (computed - exact).norm(dim=1)
        assert error.error_mean == pytest.approx(distance.mean().item(), rel=1e-4, abs=1e-6)
        assert error.error_max == pytest.approx(distance.max().item(), rel=1e-4, abs=1e-6)
        assert error.relative == pytest.approx(((computed - exact).norm() / exact.norm()).item(), rel=1e-4, abs=1e-6)
    assert error.changed == pytest.approx(float((computed.argmax(1) != exact.argmax(1)).double().mean()))
    assert math.isnan(error.gap_mean)
    assert math.isnan(error.staleness)
    assert list(pd.DataFrame(errors)["layer"]) == [1, 2, 3]


def assert_bounded(errors):
    for error in errors:
        assert error.error_mean <= error.bound_mean * (1 + 1e-5) + 1e-5
        assert error.error_max <= error.bound_max * (1 + 1e-5) + 1e-5
        assert error.bound_max <= error.theorem * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(BOUNDED),
    num_layers=st.integers(1, 5),
    norm=st.sampled_from([None, "batch", "layer"]),
    residual=st.booleans(),
    weighted=st.booleans(),
    scale=st.sampled_from([0.0, 0.1, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_no_error_exceeds_its_bound(name, num_layers, norm, residual, weighted, scale, seed):
    torch.manual_seed(seed)
    graph = make_graph(weighted=weighted, seed=seed)
    extra = {} if name == "appnp" else {"residual": residual}
    model = gs.nn.MODELS[name](5, 8, 3, num_layers=num_layers, norm=norm, **extra)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_var.uniform_(0.5, 2.0)
    history = filled(graph, [3 if name == "appnp" else 8] * (num_layers - 1), scale)
    assert_bounded(approximation_error(model, graph, history))


def ring(num_nodes=12):
    """Every node has one in-neighbour, itself not counted, so that all of a sum comes from the history."""
    nodes = torch.arange(num_nodes)
    graph = dgl.graph((nodes, nodes.roll(1)))
    graph.ndata["feat"] = torch.ones(num_nodes, 1)
    return graph


@pytest.mark.parametrize("num_layers", [2, 3, 5])
@pytest.mark.parametrize("own", [0.0, 0.7])
def test_where_everything_points_the_same_way_the_bound_is_the_error(num_layers, own):
    """One positive column and histories that are all too large by the same: the errors add up, and none is lost."""
    graph, model = ring(), gs.nn.SAGE(1, 1, 1, num_layers=num_layers)
    for conv in model.convs:
        conv.own.weight.data.fill_(own)
        conv.neighbors.weight.data.fill_(1.3)
        conv.own.bias.data.zero_()
    history = HistoryStore(12)
    gs.infer(model, graph, history=history)
    for table in range(num_layers - 1):
        history.push(table, torch.arange(12), history.pull(table, torch.arange(12)).wait() + 4.0 ** (table + 1))
    errors = approximation_error(model, graph, history)
    for error in errors[1:]:
        assert error.error_max > 1
        assert error.bound_max == pytest.approx(error.error_max, rel=1e-5)
        if not own:  # the theorem lets a node's own row be stale too
            assert error.theorem == pytest.approx(error.error_max, rel=1e-5)
    halved = [
        dataclasses.replace(one, own=one.own / 2, neighbors=one.neighbors / 2) for one in lipschitz_constants(model)
    ]
    with pytest.raises(AssertionError):
        assert_bounded(approximation_error(model, graph, history, constants=halved))
    nearly = [dataclasses.replace(one, neighbors=0.99 * one.neighbors) for one in lipschitz_constants(model)]
    with pytest.raises(AssertionError):
        assert_bounded(approximation_error(model, graph, history, constants=nearly))


@pytest.mark.parametrize("name", ["gcn", "sage"])
@pytest.mark.parametrize("num_parts", [4, 40])
def test_on_cora_the_bound_holds_while_gas_trains(shared_data, name, num_parts):
    """Histories from fresh to an epoch old, one part a batch; the error grows and stays below the bound."""
    cora = gs.load("cora", data_dir=shared_data)
    model = gs.nn.MODELS[name](cora.num_features, 16, cora.num_classes, num_layers=3, dropout=0.0)
    history = HistoryStore(cora.num_nodes)
    gs.infer(model, cora, history=history)
    fresh = approximation_error(model, cora, history)
    assert all(error.error_max < 1e-4 for error in fresh)
    sampler = gs.samplers.GASSampler(num_parts, partition="random")
    loader = gs.DataLoader(cora.graph, cora.train_ids, sampler, batch_size=1, history=history, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    measured = []
    for step, batch in enumerate(loader):
        optimizer.zero_grad()
        batch.loss(model(batch, batch.x)).backward()
        optimizer.step()
        if step % (num_parts // 4) == 0:
            measured.append(approximation_error(model, cora, history))
    for errors in measured:
        assert_bounded(errors)
        assert errors[0].error_max < 1e-4
        assert errors[2].error_max > 1e-3


def test_what_has_no_known_constant_is_nan_and_says_why(odd_graph):
    for name, why in (("gat", "GATConv has no fixed weights"), ("pna", "PNAConv has no fixed weights")):
        model = gs.nn.MODELS[name](5, 8, 3, num_layers=3)
        assert all(why in constants.note for constants in lipschitz_constants(model))
        first, *others = approximation_error(model, odd_graph, filled(odd_graph, [8, 8]))
        assert first.bound_max == 0  # computed from the features
        assert all(math.isnan(error.bound_max) and math.isnan(error.theorem) for error in others)
        assert all(error.error_max > 0 for error in others)
    *_, last = lipschitz_constants(gs.nn.GCN(5, 8, 3, jumping="cat"))
    assert last.note == "jumping knowledge reads the rows of all layers"

    class Steep(gs.nn.GCN):
        @staticmethod
        def activation(x):
            return 5 * torch.relu(x)

    first, last = lipschitz_constants(Steep(5, 8, 3))
    assert first.note == "the activation of Steep is not one that is known"
    assert not last.note

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = gs.nn.GCNConv(5, 3)

        def forward(self, batch, x):
            (layer,) = batch.layers(1)
            return layer.propagate(self.conv, layer.exchange(x))

    (error,) = approximation_error(Own(), odd_graph, HistoryStore(60))
    assert error.error_max == 0
    with pytest.raises(ValueError, match="constants has 1 entries and the model 2 layers; give one for each"):
        constants = [Lipschitz(0.0, 1.0, "sym")]
        approximation_error(gs.nn.GCN(5, 8, 3), odd_graph, filled(odd_graph, [8]), constants=constants)


def test_a_convolution_of_ones_own_can_be_given_its_constants():
    class Doubling(torch.nn.Module):
        norm = "sym"

        def forward(self, layer, x):
            return 2 * layer.aggregate(x, "sym")

    with pytest.raises(ValueError, match=r"no Lipschitz constant of Doubling is known; register one"):
        conv_constants(Doubling())
    conv_constants.register(Doubling, lambda conv: (0.0, 2.0))
    assert conv_constants(Doubling()) == (0.0, 2.0)


def test_a_graph_without_edges_has_no_staleness_to_suffer_from():
    graph = dgl.graph(([], []), num_nodes=5)
    graph.ndata["feat"] = torch.randn(5, 4)
    for name in BOUNDED:
        model = gs.nn.MODELS[name](4, 3, 3, num_layers=3)
        errors = approximation_error(model, graph, filled(graph, [3, 3]))
        assert all(error.error_max < 1e-6 and error.bound_max == 0 for error in errors)
        assert math.isnan(errors[0].gap_mean)
