"""VR-GCN against brute force: unbiased for any history, exact for a fresh one, and the first layer always exact."""

import pickle

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale.adjacency import Adjacency
from gnnscale.batch import MiniBatch
from gnnscale.csc import CSC
from gnnscale.evaluation import infer
from gnnscale.history import HistoryStore
from gnnscale.loader import DataLoader
from gnnscale.nn.convs import GCNConv, SAGEConv
from gnnscale.samplers import FullSampler, NeighborSampler
from gnnscale.samplers.vrgcn import ControlledLayer, VRGCNSampler
from tests.conftest import make_graph

DRAWS = 250
SEEDS = torch.tensor([0, 1, 2, 3, 7, 12, 30, 59])  # crowded nodes first, an isolated one last


class GINSum(nn.Module):
    """What a GIN feeds its MLP."""

    norm = "sum"

    def forward(self, layer, x):
        return 1.5 * layer.own(x) + layer.aggregate(x, self.norm)


def convs():
    return [GCNConv(5, 3), GCNConv(5, 7), SAGEConv(5, 3), SAGEConv(5, 7), GINSum()]


def exact_outputs(graph, conv, rows, seeds=SEEDS):
    (batch,) = DataLoader(graph, torch.arange(60), FullSampler())
    (layer,) = batch.layers(1)
    return conv(layer, rows)[seeds]


def hidden_layer(graph, sampler, key, rows, history, layer_class=None):
    """The second layer of a batch, its rows exchanged with a history of its own."""
    store = HistoryStore(60)
    store.push(0, torch.arange(60), history)
    batch = MiniBatch(graph, sampler.draw(CSC.of(graph), SEEDS, key), history=store)
    if layer_class is not None:
        batch.sample.layer_class = layer_class
    layer = batch.layers(2)[1]
    fresh = rows[batch.input_nodes[: layer.num_src]]
    return layer, layer.exchange(torch.cat([fresh, fresh]) if sampler.cvd else fresh)


@torch.no_grad()
def estimates(graph, modules, rows, history, sampler, layer_class=None, draws=DRAWS):
    """For each module, the outputs of many draws, shape (draws, seeds, F)."""
    outputs = [[] for _ in modules]
    for key in range(draws):
        layer, x = hidden_layer(graph, sampler, key, rows, history, layer_class)
        for out, module in zip(outputs, modules, strict=True):
            out.append(layer.propagate(module, x))
    return [torch.stack(out).double() for out in outputs]


def largest_z(drawn, exact):
    return ((drawn.mean(0) - exact).abs() / (drawn.std(0) / len(drawn) ** 0.5 + 1e-5)).max().item()


@pytest.mark.parametrize("weighted", [False, True])
def test_unbiased_whatever_the_history_holds(weighted):
    graph, modules = make_graph(weighted=weighted), convs()
    rows, history = torch.randn(60, 5), torch.randn(60, 5)
    for conv, drawn in zip(
        modules, estimates(graph, modules, rows, history, VRGCNSampler([1, 2], cvd=False)), strict=True
    ):
        assert drawn.std(0).max() > 0.1
        assert largest_z(drawn, exact_outputs(graph, conv, rows)) < 5


class PushesFirst(ControlledLayer):
    def exchange(self, x):
        self._batch.history.push(self.index - 1, self._batch.input_nodes[: self.num_src], x)
        return super().exchange(x)


class ForgetsTheHistory(ControlledLayer):
    """Leaves out Â h̄."""

    def _correction(self, norm, mean):
        return -self._adjacency.aggregate(self._histories[0], norm)


class NoImportance(VRGCNSampler):
    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        sample.adjacencies = [Adjacency(a.hop, a.num_src, csc, sample.nodes) for a in sample.adjacencies]
        return sample


@pytest.mark.parametrize(
    ("sampler_class", "layer_class"),
    [(VRGCNSampler, PushesFirst), (VRGCNSampler, ForgetsTheHistory), (NoImportance, None)],
)
def test_wrong_twins_fail_the_same_check(sampler_class, layer_class):
    graph, conv, rows, history = make_graph(), GINSum(), torch.randn(60, 5), torch.randn(60, 5)
    (drawn,) = estimates(graph, [conv], rows, history, sampler_class([1, 2], cvd=False), layer_class)
    assert largest_z(drawn, exact_outputs(graph, conv, rows)) > 10


@pytest.mark.parametrize("cvd", [False, True])
def test_with_a_fresh_history_every_draw_is_exact(odd_graph, cvd):
    rows, modules = torch.randn(60, 5), convs()
    for conv, drawn in zip(
        modules, estimates(odd_graph, modules, rows, rows, VRGCNSampler([1, 1], cvd=cvd), draws=5), strict=True
    ):
        exact = exact_outputs(odd_graph, conv, rows).double()
        torch.testing.assert_close(drawn, exact.expand_as(drawn), rtol=1e-4, atol=1e-4)


def test_the_error_shrinks_with_the_age_of_the_history(odd_graph):
    rows, noise = torch.randn(60, 5), torch.randn(60, 5)
    stds = []
    for age in (0.1, 1.0):
        (drawn,) = estimates(odd_graph, [GINSum()], rows, rows + age * noise, VRGCNSampler([1, 1], cvd=False), draws=50)
        stds.append(drawn.std(0).mean().item())
    assert stds[0] == pytest.approx(0.1 * stds[1], rel=1e-3)


def test_without_dropout_cvd_is_cv(odd_graph):
    rows, history = torch.randn(60, 5), torch.randn(60, 5)
    for key in range(3):
        for conv in convs():
            plain, doubled = (
                layer.propagate(conv, x)
                for layer, x in (
                    hidden_layer(odd_graph, VRGCNSampler([1, 2], cvd=cvd), key, rows, history) for cvd in (False, True)
                )
            )
            torch.testing.assert_close(doubled, plain, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def linear_model_draws(graph, modules, sampler, history, draws=DRAWS):
    """Outputs of a linear model of two layers with dropout, over draws and masks."""
    outputs = []
    for key in range(draws):
        store = HistoryStore(60)
        store.push(0, torch.arange(60), history)
        sample = sampler.draw(CSC.of(graph), SEEDS, key)
        batch = MiniBatch(graph, sample, x=graph.ndata["feat"][sample.nodes], history=store)
        x = batch.x
        for layer, conv in zip(batch.layers(2), modules, strict=True):
            x = layer.propagate(conv, nn.functional.dropout(layer.exchange(x), 0.5))
        outputs.append(x)
    return torch.stack(outputs).double()


def test_dropout_under_cvd():
    """Right in the mean over draws and masks, for any history, and less noisy than CV with a fresh one."""
    graph = make_graph()
    modules = [GCNConv(5, 4), SAGEConv(4, 3)]
    hidden = exact_outputs(graph, modules[0], graph.ndata["feat"], torch.arange(60)).detach()
    exact = exact_outputs(graph, modules[1], hidden).detach()
    sampler = VRGCNSampler([1, 1])
    sampler.prepare(graph, SEEDS, 8)
    assert largest_z(linear_model_draws(graph, modules, sampler, torch.randn(60, 4)), exact) < 5
    stds = {}
    for cvd in (True, False):
        sampler = VRGCNSampler([1, 1], cvd=cvd)
        sampler.prepare(graph, SEEDS, 8)
        drawn = linear_model_draws(graph, modules, sampler, hidden, draws=150)
        assert largest_z(drawn, exact) < 5
        stds[cvd] = drawn.std(0).mean().item()
    assert stds[True] < 0.7 * stds[False]


@pytest.mark.parametrize("cvd", [False, True])
def test_the_first_layer_is_exact_whatever_is_drawn(odd_graph, cvd):
    loader = DataLoader(odd_graph, torch.arange(60), VRGCNSampler([1, 1], cvd=cvd), batch_size=20)
    for conv in convs():
        for batch in loader:
            layer = batch.layers(2)[0]
            nodes = batch.input_nodes[: layer.num_dst]
            out = layer.propagate(conv, layer.exchange(batch.x))
            exact = exact_outputs(odd_graph, conv, odd_graph.ndata["feat"], nodes)
            torch.testing.assert_close(out, torch.cat([exact] * (1 + cvd)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cvd", [False, True])
def test_rows_that_are_not_the_features_are_sampled_plainly(odd_graph, cvd):
    (batch,) = DataLoader(odd_graph, torch.arange(60), VRGCNSampler([2], cvd=cvd), batch_size=60)
    (plain,) = DataLoader(odd_graph, torch.arange(60), NeighborSampler([2]), batch_size=60)
    (layer,), (plain_layer,) = batch.layers(1), plain.layers(1)
    x = 2 * batch.x
    torch.testing.assert_close(
        layer.propagate(GINSum(), layer.exchange(x)), plain_layer.propagate(GINSum(), 2 * plain.x), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("cvd", [False, True])
@pytest.mark.parametrize("model_class", [gs.nn.GCN, gs.nn.SAGE, gs.nn.GIN])
def test_with_fresh_histories_logits_and_gradient_are_those_of_the_full_batch(model_class, cvd):
    """The gradient in the last layer's weights: those before get it through the sampled neighbours alone."""
    graph = make_graph(weighted=True)
    model = model_class(5, 8, 3, num_layers=3, dropout=0.0, norm="layer")
    history = HistoryStore(60)
    exact = infer(model, graph, history=history)
    sampler = VRGCNSampler([1, 2, 1], cvd=cvd)
    batch = next(iter(DataLoader(graph, torch.arange(60), sampler, batch_size=20, history=history)))
    logits = model(batch, batch.x)
    torch.testing.assert_close(logits, exact[:20], rtol=1e-4, atol=1e-4)
    batch.loss(logits).backward()
    sampled = [p.grad.clone() for p in model.convs[-1].parameters()]

    model.zero_grad()
    (full,) = DataLoader(graph, torch.arange(60), FullSampler())
    nn.functional.cross_entropy(model(full, full.x)[:20], full.y[:20]).backward()
    for mine, parameter in zip(sampled, model.convs[-1].parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-3, atol=1e-5)


def test_the_gradient_of_earlier_layers_is_unbiased_under_plain_cv_alone(odd_graph):
    model = gs.nn.GCN(5, 4, 3, dropout=0.0)
    (full,) = DataLoader(odd_graph, torch.arange(60), FullSampler())
    full.loss(model(full, full.x)).backward()
    exact = model.convs[0].weight.grad.clone()
    z = {}
    for cvd in (False, True):
        loader = DataLoader(odd_graph, torch.arange(60), VRGCNSampler([1, 1], cvd=cvd), batch_size=60)
        infer(model, odd_graph, history=loader.history)
        drawn = []
        for _ in range(100):
            (batch,) = loader
            model.zero_grad()
            batch.loss(model(batch, batch.x)).backward()
            drawn.append(model.convs[0].weight.grad.clone())
        z[cvd] = largest_z(torch.stack(drawn).double(), exact)
    assert z[False] < 5
    assert z[True] > 10


def test_cvd_stores_rows_without_dropout(odd_graph):
    """With a fresh history, a step of training with dropout leaves it as it is."""
    model = gs.nn.GCN(5, 8, 3, num_layers=3, dropout=0.5)
    history = HistoryStore(60)
    infer(model, odd_graph, history=history)
    before = [history.pull(table, torch.arange(60)).wait() for table in range(2)]
    for batch in DataLoader(odd_graph, torch.arange(60), VRGCNSampler([1, 1, 1]), batch_size=20, history=history):
        batch.loss(model(batch, batch.x)).backward()
    for table in range(2):
        after = history.pull(table, torch.arange(60)).wait()
        torch.testing.assert_close(after, before[table], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_class", [gs.nn.GCN, gs.nn.SAGE])
def test_training_does_not_depend_on_prefetch_threads(model_class):
    data = gs.load("synthetic", num_nodes=300, num_edges=3000)
    losses = []
    for num_workers in (0, 2):
        torch.manual_seed(1)
        model = model_class(data.num_features, 8, data.num_classes, norm="batch")
        result = gs.train(model, data, VRGCNSampler([1, 1]), epochs=3, batch_size=20, num_workers=num_workers)
        losses.append([point.loss for point in result.points])
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("cvd", [False, True])
def test_a_history_that_nobody_filled_is_zeros(odd_graph, cvd):
    """What is left is neighbour sampling."""
    modules = [GCNConv(5, 4), GCNConv(4, 3)]
    (batch,) = DataLoader(odd_graph, torch.arange(60), VRGCNSampler([-1, 2], cvd=cvd), batch_size=60)
    (plain,) = DataLoader(odd_graph, torch.arange(60), NeighborSampler([-1, 2]), batch_size=60)
    x, plain_x = batch.x, plain.x
    for layer, plain_layer, conv in zip(batch.layers(2), plain.layers(2), modules, strict=True):
        x, plain_x = layer.propagate(conv, layer.exchange(x)), plain_layer.propagate(conv, plain_x)
    torch.testing.assert_close(x, plain_x, rtol=1e-4, atol=1e-4)


def test_attention_is_refused():
    data = gs.load("synthetic", num_nodes=300, num_edges=3000)
    model = gs.nn.GAT(data.num_features, 8, data.num_classes, heads=2)
    with pytest.raises(ValueError, match=r"GATConv declares no norm.*use gas, neighbor or cluster"):
        gs.train(model, data, VRGCNSampler([1, 1]), epochs=1)


class SaysOneThing(nn.Module):
    norm = "sym"

    def forward(self, layer, x):
        return layer.aggregate(x, "mean")


class DropsRows(nn.Module):
    norm = "mean"

    def forward(self, layer, x):
        return layer.aggregate(x[: layer.num_src], "mean")


@pytest.mark.parametrize(
    ("conv", "message"),
    [(SaysOneThing(), "declares norm='sym' and aggregates with 'mean'"), (DropsRows(), "not the rows")],
)
def test_convolutions_that_do_not_keep_their_word_are_told(odd_graph, conv, message):
    batch = next(iter(DataLoader(odd_graph, torch.arange(60), VRGCNSampler([1]), batch_size=20)))
    (layer,) = batch.layers(1)
    with pytest.raises(ValueError, match=message):
        layer.propagate(conv, layer.exchange(batch.x))


def test_a_residual_connection_has_both_streams(odd_graph):
    batch = next(iter(DataLoader(odd_graph, torch.arange(60), VRGCNSampler([1, 1]), batch_size=20)))
    first, second = batch.layers(2)
    given = nn.functional.dropout(first.exchange(batch.x), 0.5)
    out = first.propagate(GCNConv(5, 5), given)
    own = first.own(given)
    torch.testing.assert_close(own, torch.cat([given[: first.num_dst], batch.x[: first.num_dst]]))
    second.exchange(out + own)
    assert second.own(out[: second.num_src]).shape == (second.num_dst, 5)  # the last layer gives one stream


def test_a_model_with_rows_of_its_own_needs_plain_cv(odd_graph):
    batch = next(iter(DataLoader(odd_graph, torch.arange(60), VRGCNSampler([1, 1]), batch_size=20)))
    first, second = batch.layers(2)
    rows = first.propagate(GCNConv(5, 5), first.exchange(batch.x))
    with pytest.raises(ValueError, match="cvd=False"):
        second.exchange(rows[: first.num_dst] + batch.x[: first.num_dst])
    with pytest.raises(ValueError, match=r"call layer.exchange\(x\) first"):
        second.propagate(GCNConv(5, 5), rows[: first.num_dst])


def test_sums_of_features_follow_the_graph(odd_graph):
    sampler = pickle.loads(pickle.dumps(VRGCNSampler([1])))
    for graph in (odd_graph, make_graph(seed=1)):
        (batch,) = DataLoader(graph, torch.arange(60), sampler, batch_size=60)
        (layer,) = batch.layers(1)
        out = layer.propagate(GINSum(), layer.exchange(batch.x))
        exact = exact_outputs(graph, GINSum(), graph.ndata["feat"], torch.arange(60))
        torch.testing.assert_close(out, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"fanouts": []}, r"fanouts=\[\]"), ({"fanouts": [0]}, "positive"), ({"fanouts": [1], "cvd": 1}, "cvd=1 has")],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        VRGCNSampler(**arguments)
