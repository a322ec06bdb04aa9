"""Exact evaluation: equal to the formula, however the graph is cut, for models of any shape."""

import gc
import math

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.evaluation import CHUNK_EDGES, Evaluator
from gnnscale.history import HistoryStore
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import make_graph


def exact_gcn(model, graph):
    h, inputs, dense = graph.ndata["feat"].double(), [], dense_normalised(graph, "sym")
    for index, conv in enumerate(model.convs):
        if index:
            h = torch.relu(h)
            inputs.append(h)
        h = dense @ h @ conv.weight.double() + conv.bias.double()
    return h, inputs


@pytest.mark.parametrize("chunk_edges", [1, 37, 150, CHUNK_EDGES])
def test_chunks_do_not_change_the_result(odd_graph, chunk_edges):
    model = gs.nn.GCN(5, 8, 3, num_layers=3)
    history = HistoryStore(60)
    logits = gs.infer(model, odd_graph, history=history, chunk_edges=chunk_edges)
    expected, inputs = exact_gcn(model, odd_graph)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-4, atol=1e-5)
    for layer, rows in enumerate(inputs):
        written = history.pull(layer, torch.arange(60)).wait()
        torch.testing.assert_close(written.double(), rows, rtol=1e-4, atol=1e-5)
    assert model.training


@pytest.mark.parametrize("chunk_edges", [1, 37, 10_000])
def test_chunks_are_bounded_and_cover_the_graph(chunk_edges):
    graph = make_graph(num_nodes=300, num_edges=3000)
    bounds = Evaluator(graph, chunk_edges=chunk_edges)._bounds
    assert [start for start, _ in bounds] == [0, *[stop for _, stop in bounds[:-1]]]
    assert bounds[-1][1] == 300
    degrees = graph.in_degrees()
    for start, stop in bounds:
        assert stop == start + 1 or stop - start + int(degrees[start:stop].sum()) <= chunk_edges


def test_a_waiting_chunk_holds_no_rows_of_its_halo():
    """Between two chunks' turns, the rows that are kept are those of the nodes, once, however many the chunks."""
    graph, held = make_graph(num_nodes=300, num_edges=9000, odd=False), []

    class Counting(gs.nn.GCN):
        def forward(self, batch, x):
            held.append(x.shape[0])
            return super().forward(batch, x)

    gs.infer(Counting(5, 8, 3), graph, chunk_edges=100)
    assert len(held) > 50
    assert sum(held) == 300


class JumpingKnowledge(nn.Module):
    """Adds the first hidden rows to the last: no method that keeps one table of rows at a time could run it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.convs = nn.ModuleList(gs.nn.GCNConv(8, 8) for _ in range(3))
        self.head = nn.Linear(16, 3)

    def forward(self, batch, x):
        x = first = torch.tanh(self.embed(x))
        for layer, conv in zip(batch.layers(3), self.convs, strict=True):
            x = torch.tanh(layer.propagate(conv, layer.exchange(x)))
        return self.head(torch.cat([x, first[: x.shape[0]]], 1))


def test_a_model_needs_no_method_of_its_own_for_inference(odd_graph):
    model = JumpingKnowledge()
    whole = gs.infer(model, odd_graph)
    torch.testing.assert_close(gs.infer(model, odd_graph, chunk_edges=40), whole, rtol=1e-5, atol=1e-5)


class Unlucky(gs.nn.GCN):
    calls = 0

    def forward(self, batch, x):
        type(self).calls += 1
        if self.calls == 3:
            raise RuntimeError("from inside the model")
        return super().forward(batch, x)


def test_a_failure_inside_the_model_reaches_the_caller(odd_graph):
    model = Unlucky(5, 8, 3)
    with pytest.raises(RuntimeError, match="from inside the model"):
        gs.infer(model, odd_graph, chunk_edges=40)
    gc.collect()  # of the chunks that waited
    assert model.training
    assert torch.is_grad_enabled()
    Unlucky.calls = 10
    assert gs.infer(model, odd_graph, chunk_edges=40).shape == (60, 3)


def test_evaluation_draws_no_random_numbers(odd_graph):
    model = gs.nn.GCN(5, 8, 3, dropout=0.9)
    torch.manual_seed(1)
    expected = torch.rand(3).tolist()
    torch.manual_seed(1)
    gs.infer(model, odd_graph, chunk_edges=40)
    assert torch.rand(3).tolist() == expected


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "micro_f1"])
def test_metrics_are_those_of_sklearns_definitions(metric):
    from gnnscale.metrics import score

    logits, labels = torch.randn(200, 2), torch.randint(2, (200,))
    if metric == "micro_f1":
        labels = torch.randint(2, (200, 2)).float()
        true, positive = labels > 0, logits > 0
        precision = (true & positive).sum() / positive.sum()
        recall = (true & positive).sum() / true.sum()
        expected = (2 * precision * recall / (precision + recall)).item()
    elif metric == "accuracy":
        expected = sum(int(a > b) == c for (b, a), c in zip(logits.tolist(), labels.tolist(), strict=True)) / 200
    else:
        logits = logits.round()  # so that there are ties, which count half
        probability = torch.softmax(logits.double(), 1)[:, 1]
        difference = probability[labels == 1][:, None] - probability[labels == 0][None, :]
        expected = ((difference.sign() + 1) / 2).mean().item()
    assert score(metric, logits, labels) == pytest.approx(expected, abs=1e-6)


def test_a_metric_without_meaning_is_nan_and_an_unknown_one_is_refused():
    from gnnscale.metrics import score

    one_class = torch.zeros(3, dtype=torch.int64)
    assert math.isnan(score("roc_auc", torch.randn(3, 2), one_class))
    assert math.isnan(score("accuracy", torch.randn(0, 2), one_class[:0]))
    with pytest.raises(ValueError, match="metric='f1' is not known; use 'accuracy', 'roc_auc' or 'micro_f1'"):
        score("f1", torch.randn(3, 2), one_class)


def test_a_model_trained_with_an_enhanced_diagonal_is_evaluated_with_it():
    graph = make_graph(odd=False)
    model = gs.nn.GCN(5, 8, 3).eval()
    sampler = gs.samplers.ClusterGCNSampler(1, diag_lambda=1.0)
    (batch,) = gs.DataLoader(graph, torch.arange(60), sampler)
    inside = model(batch, batch.x)
    for chunk_edges in (10**6, 50):
        out = gs.infer(model, graph, diagonal=1.0, chunk_edges=chunk_edges)
        torch.testing.assert_close(out[batch.output_nodes], inside, rtol=1e-5, atol=1e-5)
    assert (gs.infer(model, graph)[batch.output_nodes] - inside).abs().max() > 1e-2


def test_a_dataset_will_do_as_well_as_its_graph():
    data = gs.load("synthetic", num_nodes=300, num_edges=2000)
    model = gs.nn.GCN(data.num_features, 8, data.num_classes)
    assert torch.equal(gs.infer(model, data), gs.infer(model, data.graph))
    with pytest.raises(TypeError, match=r"data is of type list; pass a gnnscale.Dataset or a DGLGraph"):
        gs.infer(model, [])
    with pytest.raises(TypeError, match=r"data is of type DGLGraph; pass a gnnscale.Dataset, which says which nodes"):
        gs.evaluate(model, data.graph)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad, "autocast"])
def test_modes_that_a_chunk_is_in_while_it_waits_are_not_those_of_others(odd_graph, mode):
    """Chunks enter the mode one after the other and leave it in the same order, which is not how modes are nested."""
    if mode == "autocast":
        mode = lambda: torch.autocast("cpu", dtype=torch.bfloat16)  # noqa: E731

    def state():
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")

    seen = {"outside": set(), "inside": set()}

    class InMode(gs.nn.GCN):
        def forward(self, batch, x):
            first, second = batch.layers(2)
            seen["outside"].add(state())
            with mode():
                x = first.exchange(x)
                seen["inside"].add(state())
            x = torch.relu(self.convs[0](first, x))
            seen["outside"].add(state())
            with mode():
                x = second.exchange(x)
                seen["inside"].add(state())
            return self.convs[1](second, x)

    before = state()
    model = InMode(5, 8, 3)
    expected = gs.infer(model, odd_graph)
    torch.testing.assert_close(gs.infer(model, odd_graph, chunk_edges=40), expected, rtol=1e-5, atol=1e-5)
    assert state() == before
    assert seen["outside"] == {(False, False, False)}
    assert len(seen["inside"]) == 1


@pytest.mark.parametrize(
    ("gives", "error", "sentence"),
    [
        (lambda x: (x, x), TypeError, "the model gave a tuple; it has to give one tensor of logits"),
        (lambda x: x[:, None], ValueError, r"of the shape \(60, 1, 5\); .* one column a class \(of attention heads"),
    ],
)
def test_a_model_that_gives_no_logits_is_one_sentence(odd_graph, gives, error, sentence):
    class Odd(torch.nn.Module):
        def forward(self, batch, x):
            for layer in batch.layers(1):
                x = layer.own(layer.exchange(x))
            return gives(x)

    with pytest.raises(error, match=sentence):
        gs.infer(Odd(), odd_graph)


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, blocks, x: self.conv(blocks[0], x),
        lambda self, g, x: self.conv(g, x),
        lambda self, blocks, x: [self.conv(block, x) for block in blocks][-1],
    ],
)
def test_a_model_written_for_dgl_is_told_of_autoscale(odd_graph, forward):
    class ForDGL(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = dgl.nn.SAGEConv(5, 3, "mean")

    ForDGL.forward = forward
    data = gs.load("synthetic", num_nodes=300, num_edges=2000)
    told = r"ForDGL has a SAGEConv of dgl.nn, .* call gs\.autoscale\(model\) first|the number of blocks is not known"
    with pytest.raises((TypeError, ValueError), match=told):
        gs.infer(ForDGL(), odd_graph)
    with pytest.raises(TypeError, match=r"call gs\.autoscale\(model\) first"):
        gs.train(ForDGL(), data, gs.samplers.NeighborSampler([5]), epochs=1)
