"""LMC against the whole graph: an epoch's gradients add up to the full one, which GAS's do not."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.evaluation import infer
from gnnscale.history import HistoryStore
from gnnscale.loader import DataLoader
from gnnscale.samplers import FullSampler, GASSampler
from gnnscale.samplers.edges import in_edges, induced
from gnnscale.samplers.gas import halo_adjacencies
from gnnscale.samplers.lmc import LMCLayer, LMCSample, LMCSampler
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import make_graph

TRAIN = torch.arange(0, 60, 2)


def sparse_graph(**arguments):
    """One whose clusters and halo are not all of it."""
    return make_graph(num_edges=120, **arguments)


class Encoded(nn.Module):
    """A GNN on a trained map of the features."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(5, 6)
        self.gnn = gs.nn.GCN(6, 8, 3, num_layers=2, dropout=0.0)
        self.convs = self.gnn.convs

    def forward(self, batch, x):
        return self.gnn(batch, torch.relu(self.encoder(x)))


MODELS = {
    "gcn": lambda: gs.nn.GCN(5, 8, 3, dropout=0.0),
    "sage": lambda: gs.nn.SAGE(5, 8, 3, num_layers=3, dropout=0.0, norm="layer"),
    "deep gcn": lambda: gs.nn.GCN(5, 8, 3, num_layers=4, dropout=0.0),
    "encoded": Encoded,
}


def full_gradient(model, graph):
    """The gradient of the sum of the training nodes' losses, by parameter and by each convolution's output."""
    outputs = []
    hooks = [conv.register_forward_hook(lambda _, __, out: outputs.append(out)) for conv in model.convs]
    (full,) = DataLoader(graph, torch.arange(60), FullSampler())
    logits = model(full, full.x)
    for hook in hooks:
        hook.remove()
    loss = cross_entropy(logits[TRAIN], full.y[TRAIN], reduction="sum")
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, [*parameters, *outputs])
    return gradients[: len(parameters)], gradients[len(parameters) :]


def lmc_loader(graph, sampler=None, history=None):
    sampler = sampler or LMCSampler(num_parts=6, partition="random", beta=0.0)
    return DataLoader(graph, TRAIN, sampler, batch_size=1, history=history)


def exact_loader(model, graph, sampler, rows_of_gradients):
    """A loader with exact histories of rows, and of gradients where given."""
    loader = lmc_loader(graph, sampler, HistoryStore(60))
    infer(model, graph, history=loader.history)
    for table, rows in enumerate(rows_of_gradients):
        loader.gradients.push(table, torch.arange(60), rows)
    return loader


def epoch_gradient(model, loader):
    """The gradients of an epoch's batches, each times its number of training nodes."""
    total = [torch.zeros_like(p) for p in model.parameters()]
    for batch in loader:
        model.zero_grad()
        batch.loss(model(batch, batch.x)).backward()
        count = len(batch.output_nodes) if batch.targets is None else len(batch.targets)
        for whole, parameter in zip(total, model.parameters(), strict=True):
            whole += count * parameter.grad
    return total


def difference(mine, exact):
    mine, exact = (torch.cat([part.flatten() for part in parts]) for parts in (mine, exact))
    return ((mine - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weighted", [False, True])
def test_with_exact_histories_the_gradients_of_an_epoch_add_up_to_the_full_one(name, weighted):
    graph, model = sparse_graph(weighted=weighted), MODELS[name]()
    exact, of_outputs = full_gradient(model, graph)
    loader = exact_loader(model, graph, None, of_outputs)
    assert max(len(batch.input_nodes) for batch in loader) < 50
    assert difference(epoch_gradient(model, loader), exact) < 1e-5
    # What the batches wrote is what was there.
    for table in range(0 if name == "encoded" else 1, len(of_outputs)):
        kept = loader.gradients.pull(table, torch.arange(60)).wait()
        torch.testing.assert_close(kept, of_outputs[table], rtol=1e-3, atol=1e-5)


def test_the_gradients_of_gas_do_not():
    graph, model = sparse_graph(), MODELS["deep gcn"]()
    exact, _ = full_gradient(model, graph)
    history = HistoryStore(60)
    infer(model, graph, history=history)
    gas = DataLoader(graph, TRAIN, GASSampler(num_parts=6, partition="random"), batch_size=1, history=history)
    assert difference(epoch_gradient(model, gas), exact) > 0.1


class KeepsNoGradients(LMCLayer):
    def complete_gradient(self, halo):
        return halo


class TrainsOnTheHalo(LMCLayer):
    def propagate(self, conv, x):
        own, halo = conv(self._own_layer(), x), conv(*self._halo_layer(x))
        own, halo = self._compensated(own, halo, x.requires_grad)
        return own if self._is_last else torch.cat([own, halo])


class ForgetsTheUnits(LMCLayer):
    _num_targets = 1


@pytest.mark.parametrize("layer_class", [KeepsNoGradients, TrainsOnTheHalo, ForgetsTheUnits])
def test_wrong_twins_fail_the_same_check(layer_class, monkeypatch):
    monkeypatch.setattr(LMCSample, "layer_class", layer_class)
    graph, model = sparse_graph(), MODELS["deep gcn"]()
    exact, of_outputs = full_gradient(model, graph)
    assert difference(epoch_gradient(model, exact_loader(model, graph, None, of_outputs)), exact) > 0.1


class WithoutOutNeighbors(LMCSampler):
    def draw(self, csc, seeds, key):
        members = self.members(seeds)
        nodes, _ = in_edges(csc, members)
        adjacencies, halo = halo_adjacencies(csc, nodes, induced(csc, nodes), members.numel())
        return LMCSample(nodes, adjacencies, repeats=True, halo=halo, beta=torch.zeros(halo.num_dst, 1))


def test_gradients_arrive_from_out_neighbors():
    graph, model = sparse_graph(), MODELS["gcn"]()
    exact, of_outputs = full_gradient(model, graph)
    sampler = WithoutOutNeighbors(num_parts=6, partition="random", beta=0.0)
    assert difference(epoch_gradient(model, exact_loader(model, graph, sampler, of_outputs)), exact) > 0.1
    assert difference(epoch_gradient(model, exact_loader(model, graph, None, of_outputs)), exact) < 1e-5


def test_gradient_histories_build_up_from_the_output_inwards():
    """From zero, each pass over the graph makes the gradients of one more layer right."""
    graph, model = sparse_graph(), MODELS["deep gcn"]()
    exact, _ = full_gradient(model, graph)
    loader = exact_loader(model, graph, None, [])
    differences = [difference(epoch_gradient(model, loader), exact) for _ in range(4)]
    assert differences[0] > 0.1
    assert differences[3] < 1e-5


@pytest.mark.parametrize("weighted", [False, True])
def test_without_beta_the_values_are_those_of_gas(weighted):
    graph, model = sparse_graph(weighted=weighted), MODELS["deep gcn"]().eval()
    history, tables = HistoryStore(60), torch.randn(3, 60, 8)
    for sampler in (GASSampler(num_parts=6, partition="random"), LMCSampler(6, partition="random", beta=0.0)):
        for table, rows in enumerate(tables):
            history.push(table, torch.arange(60), rows)
        batch = next(iter(lmc_loader(graph, sampler, history)))
        logits = model(batch, batch.x)
        kept = torch.stack([history.pull(table, torch.arange(60)).wait() for table in range(3)])
        if isinstance(sampler, GASSampler):
            expected, expected_kept = logits, kept
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept, expected_kept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("score", ["linear", "const", "concave", "convex"])
def test_values_and_gradients_are_compensated_by_the_formula(score):
    """The gradient is that of a surrogate loss with dense matrices, whose added terms have the histories' gradient."""
    graph, beta = sparse_graph(), 0.7
    model = gs.nn.GCN(5, 6, 3, num_layers=3, dropout=0.0)
    loader = lmc_loader(graph, LMCSampler(6, partition="random", beta=beta, score=score))
    histories, kept = torch.randn(2, 60, 6), [torch.zeros(60, 1), torch.randn(60, 6), torch.randn(60, 3)]
    for table, rows in enumerate(histories):
        loader.history.push(table, torch.arange(60), rows)
    for table, rows in enumerate(kept):
        loader.gradients.push(table, torch.arange(60), rows)
    batch = next(iter(loader))
    nodes, num_own = batch.input_nodes, len(batch.output_nodes)
    logits = model(batch, batch.x)
    batch.loss(logits).backward()
    mine = [p.grad.clone() for p in model.parameters()]

    counts = torch.zeros(60, 60).index_put_(graph.edges()[::-1], torch.ones(graph.num_edges()), accumulate=True)
    at_hand, in_all = counts[nodes][:, nodes].sum(1), counts[nodes].sum(1)
    share = torch.where(in_all > 0, at_hand / in_all, 1.0)[num_own:, None]
    scored = {"linear": share, "const": share**0, "concave": share * (2 - share), "convex": share**2}[score]
    assert 0 <= share.min() < 0.5 < share.max() <= 1
    matrix = dense_normalised(graph, "sym").float()[nodes][:, nodes]

    model.zero_grad()
    x, added = graph.ndata["feat"][nodes], 0.0
    targets = torch.isin(batch.output_nodes, TRAIN).nonzero().squeeze(1)
    for index, conv in enumerate(model.convs):
        own = matrix[:num_own] @ x @ conv.weight + conv.bias
        halo = matrix[num_own:] @ x @ conv.weight.detach() + conv.bias.detach()
        if index:
            part = 1.0 if index == 2 else 1 - beta * scored
            added = added + (halo * part * kept[index][nodes[num_own:]]).sum() / len(targets)
        if index < 2:
            halo = (1 - beta * scored) * histories[index][nodes[num_own:]] + beta * scored * torch.relu(halo)
            x = torch.cat([torch.relu(own), halo])
    torch.testing.assert_close(logits, own, rtol=1e-4, atol=1e-5)
    (cross_entropy(own[targets], batch.y[targets]) + added).backward()
    for gradient, parameter in zip(mine, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_batch_without_a_halo_leaves_the_tables_as_all_batches_want_them():
    """A graph in two pieces: some parts have no neighbours outside, and may come first."""
    ring = torch.arange(50)
    source = torch.cat([torch.arange(10), 10 + ring])
    destination = torch.cat([(torch.arange(10) + 1) % 10, 10 + (ring + 1) % 50])
    graph = dgl.to_bidirected(dgl.graph((source, destination)))
    graph.ndata["feat"], graph.ndata["label"] = torch.randn(60, 5), torch.randint(3, (60,))
    for seed in range(3):
        model = gs.nn.GCN(5, 8, 3, num_layers=3)
        loader = DataLoader(graph, torch.arange(60), LMCSampler(6), batch_size=1, shuffle=True, seed=seed)
        halos = set()
        for batch in loader:
            halos.add(len(batch.input_nodes) > len(batch.output_nodes))
            batch.loss(model(batch, batch.x)).backward()
        assert halos == {True, False}
        assert loader.gradients.widths == [1, 8, 3]


def test_one_batch_of_everything_is_the_full_batch(odd_graph):
    """Nothing is left for a halo."""
    model = MODELS["deep gcn"]()
    exact, _ = full_gradient(model, odd_graph)
    (batch,) = DataLoader(odd_graph, TRAIN, LMCSampler(5), batch_size=5)
    batch.loss(model(batch, batch.x)).backward()
    assert difference([len(TRAIN) * p.grad for p in model.parameters()], exact) < 1e-5


@pytest.mark.parametrize("model_class", [gs.nn.GCN, gs.nn.SAGE, gs.nn.GIN, gs.nn.GAT])
def test_training_does_not_depend_on_prefetch_threads(model_class):
    data = gs.load("synthetic", num_nodes=300, num_edges=3000)
    losses = []
    for num_workers in (0, 2):
        torch.manual_seed(1)
        model = model_class(data.num_features, 8, data.num_classes, norm="batch")
        result = gs.train(model, data, LMCSampler(6), epochs=3, batch_size=2, num_workers=num_workers)
        assert result.points[-1].history_seconds > 0
        losses.append([point.loss for point in result.points])
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


def test_a_copy_draws_the_same(odd_graph):
    sampler = LMCSampler(5)
    sampler.prepare(odd_graph, TRAIN, 2)
    csc, parts = CSC.of(odd_graph), torch.tensor([3, 1])
    sample, copy = (s.draw(csc, parts, 0) for s in (sampler, pickle.loads(pickle.dumps(sampler))))
    assert torch.equal(sample.nodes, copy.nodes)
    assert torch.equal(sample.beta, copy.beta)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 1.5}, r"beta=1.5 has to be a number from 0 to 1"),
        ({"beta": True}, "beta=True"),
        ({"score": "sin"}, "score='sin' is not known; use one of 'const', 'linear'"),
        ({"refresh": 1}, "refresh=1"),
        ({"num_parts": 0}, "num_parts=0"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        LMCSampler(**arguments)
