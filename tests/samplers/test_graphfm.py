"""GraphFM-OB: the halo's histories move by the momentum, without a gradient, and without momentum it is GAS."""

import pickle

import pytest
import torch

import gnnscale as gs
from gnnscale.csc import CSC
from gnnscale.history import HistoryStore
from gnnscale.loader import DataLoader
from gnnscale.samplers import GASSampler
from gnnscale.samplers.graphfm import GraphFMLayer, GraphFMSample, GraphFMSampler
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import make_graph


def train_by_hand(graph, sampler):
    """Logits, gradients and histories of two epochs."""
    torch.manual_seed(0)
    model = gs.nn.GCN(5, 8, 3, num_layers=3, dropout=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(graph, torch.arange(60), sampler, batch_size=1, shuffle=True)
    seen = []
    for _ in range(2):
        for batch in loader:
            logits = model(batch, batch.x)
            optimizer.zero_grad()
            batch.loss(logits).backward()
            optimizer.step()
            seen += [logits.detach(), *(p.grad.clone() for p in model.parameters())]
    return seen + [loader.history.pull(table, torch.arange(60)).wait() for table in range(2)]


@pytest.mark.parametrize("weighted", [False, True])
def test_without_momentum_it_is_gas(weighted):
    # Dropout draws a mask for each row, and GAS has the rows of the halo too: the masks are the same.
    graph = make_graph(num_edges=150, weighted=weighted)
    gas = train_by_hand(graph, GASSampler(6, partition="random"))
    for mine, expected in zip(train_by_hand(graph, GraphFMSampler(6, partition="random", beta=0.0)), gas, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
    with_momentum = train_by_hand(graph, GraphFMSampler(6, partition="random", beta=0.3))
    assert max((a - b).abs().max().item() for a, b in zip(with_momentum, gas, strict=True)) > 1e-2


def one_step(graph, beta):
    """A batch of a GCN with three layers on random histories: its gradients and the histories after it."""
    model = gs.nn.GCN(5, 6, 3, num_layers=3, dropout=0.0)
    history, before = HistoryStore(60), torch.randn(2, 60, 6)
    for table, rows in enumerate(before):
        history.push(table, torch.arange(60), rows)
    sampler = GraphFMSampler(6, partition="random", beta=beta)
    batch = next(iter(DataLoader(graph, torch.arange(60), sampler, batch_size=1, history=history)))
    logits = model(batch, batch.x)
    batch.loss(logits).backward()
    after = torch.stack([history.pull(table, torch.arange(60)).wait() for table in range(2)])
    return model, batch, logits, before, after


def by_hand(graph, model, batch, before, beta, *, edges_in_halo=False, gradient_in_halo=False):
    """The same with dense matrices: logits, and the rows of the batch and its halo before each hidden layer."""
    nodes, num_own = batch.input_nodes, len(batch.output_nodes)
    matrix = dense_normalised(graph, "sym").float()[nodes][:, nodes]
    if not edges_in_halo:
        between = matrix[num_own:, num_own:]
        matrix[num_own:, num_own:] = torch.diag(between.diag())
    x, rows = graph.ndata["feat"][nodes], []
    for index, conv in enumerate(model.convs):
        out = matrix @ x @ conv.weight + conv.bias
        if index < 2:
            fresh = torch.relu(out)
            halo = fresh[num_own:] if gradient_in_halo else fresh[num_own:].detach()
            x = torch.cat([fresh[:num_own], (1 - beta) * before[index][nodes[num_own:]] + beta * halo])
            rows.append(x)
    return out[:num_own], rows


@pytest.mark.parametrize("weighted", [False, True])
def test_histories_of_the_halo_move_by_the_momentum(weighted):
    graph = make_graph(num_edges=150, weighted=weighted)
    model, batch, logits, before, after = one_step(graph, 0.4)
    expected_logits, rows = by_hand(graph, model, batch, before, 0.4)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-5)
    for table in range(2):
        expected = before[table].clone()
        expected[batch.input_nodes] = rows[table].detach()
        torch.testing.assert_close(after[table], expected, rtol=1e-4, atol=1e-5)
    # The same check tells edges between halo nodes from none.
    _, others = by_hand(graph, model, batch, before, 0.4, edges_in_halo=True)
    assert (others[0] - rows[0]).abs().max() > 1e-2


def test_the_gradient_flows_through_rows_of_the_batch_alone():
    graph = make_graph(num_edges=150)
    model, batch, _, before, _ = one_step(graph, 0.4)
    mine = [p.grad.clone() for p in model.parameters()]

    def gradients(**how):
        model.zero_grad()
        logits, _ = by_hand(graph, model, batch, before, 0.4, **how)
        torch.nn.functional.cross_entropy(logits, batch.y).backward()
        return [p.grad.clone() for p in model.parameters()]

    for gradient, expected in zip(mine, gradients(), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
    wrong = gradients(gradient_in_halo=True)
    assert max((a - b).abs().max().item() for a, b in zip(mine, wrong, strict=True)) > 1e-3


class NeverWritesTheHalo(GraphFMLayer):
    def exchange(self, x):
        store, halo = self._batch.history, self._batch.input_nodes[self._sample.num_own :]
        before = store.pull(self.index - 1, halo).wait() if self.index else None
        rows = super().exchange(x)
        if self.index:
            store.push(self.index - 1, halo, before)
        return rows


def test_momentum_brings_stale_histories_nearer(monkeypatch):
    """The model stands still and the histories start at zero: a part's halo rows are better than without momentum."""
    graph = make_graph(num_edges=300, odd=False)
    model = gs.nn.GCN(5, 8, 3, dropout=0.0)
    exact = HistoryStore(60)
    gs.infer(model, graph, history=exact)
    errors = []
    for layer_class in (GraphFMLayer, NeverWritesTheHalo):
        monkeypatch.setattr(GraphFMSample, "layer_class", layer_class)
        loader = DataLoader(graph, torch.arange(60), GraphFMSampler(6, partition="random", beta=0.5), batch_size=2)
        loader.history.push(0, torch.arange(60), torch.zeros(60, 8))
        batch = next(iter(loader))
        model(batch, batch.x)
        kept = loader.history.pull(0, torch.arange(60)).wait()
        errors.append((kept - exact.pull(0, torch.arange(60)).wait()).norm().item())
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("model_class", [gs.nn.GCN, gs.nn.SAGE, gs.nn.GIN, gs.nn.GAT])
def test_training_does_not_depend_on_prefetch_threads(model_class):
    data = gs.load("synthetic", num_nodes=300, num_edges=3000)
    losses = []
    for num_workers in (0, 2):
        torch.manual_seed(1)
        model = model_class(data.num_features, 8, data.num_classes, norm="batch")
        result = gs.train(model, data, GraphFMSampler(6), epochs=6, batch_size=2, num_workers=num_workers)
        losses.append([point.loss for point in result.points])
    assert losses[0] == losses[1]
    assert min(losses[0][1:]) < losses[0][0]


def test_a_copy_draws_the_same(odd_graph):
    sampler = GraphFMSampler(5)
    sampler.prepare(odd_graph, torch.arange(60), 2)
    csc, parts = CSC.of(odd_graph), torch.tensor([3, 1])
    sample, copy = (s.draw(csc, parts, 0) for s in (sampler, pickle.loads(pickle.dumps(sampler))))
    assert torch.equal(sample.nodes, copy.nodes)
    assert torch.equal(sample.halo.hop.indices, copy.halo.hop.indices)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -0.1}, r"beta=-0.1 has to be a number from 0 to 1"),
        ({"beta": "0.1"}, "beta='0.1'"),
        ({"refresh": 1}, "refresh=1"),
        ({"partition": "kmeans"}, "kmeans"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        GraphFMSampler(**arguments)
