"""The local Lipschitz penalty: its value, its gradient, and what it does to GNNAutoScale's error."""

import math

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale.nn import local_lipschitz
from tests.conftest import make_graph


def test_the_value_is_the_mean_length_of_the_movement():
    x, linear = torch.randn(7, 5), nn.Linear(5, 3)
    torch.manual_seed(4)
    value = local_lipschitz(linear, x, linear(x), noise=0.3)
    torch.manual_seed(4)
    noise = 0.3 * torch.randn(7, 5)
    expected = (noise.double() @ linear.weight.double().t()).square().sum(1).sqrt().mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.manual_seed(5)
    assert local_lipschitz(linear, x, linear(x), noise=0.3).item() != pytest.approx(value.item(), rel=1e-3)


def test_a_constant_map_costs_nothing_and_has_a_finite_gradient():
    x, weight = torch.randn(7, 5, requires_grad=True), torch.zeros(5, 3, requires_grad=True)
    value = local_lipschitz(lambda rows: rows @ weight + 1, x, x @ weight + 1)
    value.backward()
    assert value.item() == 0
    assert weight.grad.isfinite().all()
    assert x.grad.isfinite().all()


def test_the_gradient_makes_a_map_flatter():
    x, linear = torch.randn(100, 5), nn.Linear(5, 3)

    def value():
        torch.manual_seed(1)
        return local_lipschitz(linear, x, linear(x))

    first = value()
    first.backward()
    with torch.no_grad():
        linear.weight -= 0.1 * linear.weight.grad
    assert value() < 0.99 * first


def batches(graph, parts=4):
    sampler = gs.samplers.GASSampler(parts, partition="random")
    return gs.DataLoader(graph, torch.arange(graph.num_nodes()), sampler, batch_size=1)


def test_a_gin_adds_it_for_the_layers_that_read_histories_in_training_alone():
    graph, added = make_graph(odd=False), []
    plain, penalised = gs.nn.GIN(5, 8, 3, num_layers=4), gs.nn.GIN(5, 8, 3, num_layers=4, lipschitz=0.6)
    penalised.load_state_dict(plain.state_dict())
    assert [conv.lipschitz for conv in penalised.convs] == pytest.approx([0, 0.2, 0.2, 0.2])
    for model, count in ((plain, 0), (penalised, 3)):
        model.dropout.p = 0.0
        batch = next(iter(batches(graph)))
        batch.add_penalty = added.append
        torch.manual_seed(0)
        model(batch, batch.x)
        assert len(added) == count
        added.clear()
        model.eval()(batch, batch.x)
        assert not added
        model.train()

    # The logits are the same, and the loss is larger by what was added.
    def step(model):
        torch.manual_seed(0)
        batch = next(iter(batches(graph)))
        logits = model(batch, batch.x)
        return logits, batch.loss(logits)

    logits, loss = step(plain)
    same, larger = step(penalised)
    torch.testing.assert_close(same, logits, rtol=1e-4, atol=1e-5)
    assert larger > loss
    larger.backward()
    assert all(p.grad.isfinite().all() for p in penalised.parameters())


def test_the_penalty_is_on_the_sum_before_the_network():
    """Not on the sum of narrower rows, with which the convolution computes when there is no penalty."""
    graph = make_graph(odd=False)
    conv = gs.nn.GINConv(5, 3, hidden_size=4, lipschitz=1.0)
    (batch,) = gs.DataLoader(graph, torch.arange(60), gs.samplers.FullSampler())
    (layer,) = batch.layers(1)
    torch.manual_seed(2)
    out = conv(layer, batch.x)
    total = (1 + conv.eps) * batch.x + layer.aggregate(batch.x, "sum")
    torch.manual_seed(2)
    expected = (conv.mlp(total + 0.1 * torch.randn(60, 5)) - conv.mlp(total)).norm(dim=1).mean()
    (found,) = batch._penalties
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(conv.eval()(layer, batch.x), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lipschitz", [-1.0, math.nan, math.inf, True, "1"])
def test_a_weight_that_is_none_is_one_sentence(lipschitz):
    with pytest.raises(ValueError, match=r"lipschitz=.* has to be a number of at least 0"):
        gs.nn.GIN(5, 8, 3, lipschitz=lipschitz)


@pytest.mark.parametrize("seed", range(3))
def test_training_with_it_lowers_the_constant_and_the_error_of_stale_histories(seed):
    data = gs.load("synthetic", num_nodes=400, num_edges=2400, num_classes=4)

    def run(lipschitz):
        torch.manual_seed(seed)
        model = gs.nn.GIN(data.num_features, 16, data.num_classes, num_layers=3, dropout=0.0, lipschitz=lipschitz)
        history = gs.HistoryStore(data.num_nodes)
        sampler = gs.samplers.GASSampler(8, partition="random", refresh=False)
        gs.train(
            model, data, sampler, epochs=10, batch_size=1, lr=0.003, clip_norm=1.0, seed=seed, history=history
        )  # fmt: skip
        constants = [constants.neighbors for constants in gs.nn.lipschitz_constants(model)[1:]]
        return math.prod(constants), gs.approximation_error(model, data, history)[-1].error_mean

    (constant, error), (lower_constant, lower_error) = run(0.0), run(5.0)
    assert lower_constant < 0.8 * constant
    assert lower_error < 0.9 * error
