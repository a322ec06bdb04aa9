"""AS-GCN: unbiased whatever its weights are, and the variance that they are trained to lower."""

import pickle

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.adjacency import NORMS
from gnnscale.batch import MiniBatch
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.samplers.asgcn import ASGCNSampler, draw_variance
from gnnscale.samplers.layerwise import squared_columns, squared_scales
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph
from tests.samplers.test_layerwise import largest_z


def prepared(sizes, graph, scale=1.0, **arguments):
    """A sampler with weights that make its probabilities differ a lot."""
    sampler = ASGCNSampler(sizes, **arguments)
    sampler.prepare(graph, torch.arange(graph.num_nodes()), 1)
    with torch.no_grad():
        sampler.weight.mul_(scale)
    return sampler


def exact_variance(sampler, graph, seeds, x):
    """Of one draw's estimate of the destinations' mean: Σ_u c_u² / q_u - (Σ_u c_u)², the mean over columns."""
    csc = CSC.of(graph)
    candidates, squares = squared_columns(csc, seeds, squared_scales(csc, "sym"))
    q = sampler.probabilities(squares.sqrt(), candidates, seeds)
    dense = dense_normalised(graph, "sym").fill_diagonal_(0.0)  # the own row is not drawn
    c = dense[seeds].mean(0)[candidates].unsqueeze(1) * x[candidates].double()
    return (c.square() / q.unsqueeze(1)).sum(0).mean() - c.sum(0).square().mean()


class WithoutAttention(ASGCNSampler):
    """Divides by the probability without the factor that was drawn with."""

    def draw_layer(self, csc, destinations, size, key):
        layer = super().draw_layer(csc, destinations, size, key)
        kept = self.weight.data
        self.weight.data = torch.zeros_like(kept)
        candidates, squares = squared_columns(csc, destinations, squared_scales(csc, self.norm))
        plain = self.probabilities(squares.sqrt(), candidates, destinations)
        self.weight.data = kept
        of = torch.zeros(csc.num_nodes, dtype=torch.float64).index_put_((candidates,), plain.detach())
        drawn, place = layer.hop.indices.unique(return_inverse=True)
        layer.importance = (layer.share / of[layer.nodes[drawn.long()]])[place]
        return layer


class NoImportance(ASGCNSampler):
    def draw_layer(self, csc, destinations, size, key):
        layer = super().draw_layer(csc, destinations, size, key)
        layer.importance = torch.ones_like(layer.importance)
        return layer


@pytest.mark.parametrize(("weighted", "norm"), [(False, "sym"), (True, "sym"), (True, "mean")])
def test_the_estimate_is_unbiased_under_every_norm(weighted, norm):
    graph = make_graph(weighted=weighted)
    sampler = prepared([60], graph, scale=2.0, norm=norm)
    assert largest_z(sampler, graph, torch.arange(60).flip(0), draws=400) < 5


@pytest.mark.parametrize("wrong", [WithoutAttention, NoImportance])
def test_wrong_estimators_fail_the_same_check(wrong):
    graph = make_graph()
    sampler = wrong([20])
    sampler.prepare(graph, torch.arange(60), 1)
    with torch.no_grad():
        sampler.weight.mul_(3.0)
    assert largest_z(sampler, graph, torch.arange(30), draws=300) > 10


@pytest.mark.parametrize("seeds", [[4, 0, 1, 33], [12]])
def test_the_probabilities_follow_the_definition(seeds):
    """With column 0 of the weights for sources and column 1 for destinations, throughout."""
    graph = dgl.to_simple(make_graph(odd=False), copy_ndata=True)
    sampler = prepared([5], graph, scale=2.0)
    csc, seeds = CSC.of(graph), torch.tensor(seeds)
    candidates, squares = squared_columns(csc, seeds, squared_scales(csc, "sym"))
    q = sampler.probabilities(squares.sqrt(), candidates, seeds)
    dense, features = dense_normalised(graph, "sym").fill_diagonal_(0.0), graph.ndata["feat"]
    of_source, of_destination = features @ sampler.weight[:, 0], features @ sampler.weight[:, 1]
    expected = torch.zeros(60, dtype=torch.float64)
    for u in range(60):
        shared = sum(of_destination[v].item() for v in seeds) / len(seeds)
        attention = max(shared + of_source[u].item(), 0) + 1
        expected[u] = dense[seeds, u].square().sum().sqrt() * attention * (max(of_source[u].item(), 0) + 1)
    torch.testing.assert_close(q, (expected / expected.sum())[candidates], rtol=1e-5, atol=1e-7)


def test_the_penalty_is_the_variance_over_the_draws(odd_graph):
    seeds = torch.arange(12)
    sampler = prepared([15], odd_graph)
    sample = sampler.draw(CSC.of(odd_graph), seeds, 3)
    (adjacency,), x = sample.adjacencies, odd_graph.ndata["feat"][sample.nodes]
    penalty = draw_variance(adjacency, x, "sym", sample.share.float(), sample.probability.float())
    # Draw by draw: every edge of a node drawn c times says c / (n q), and one draw of it 1 / q.
    edges, _ = adjacency.normalised("sym")
    draws = []
    for u in adjacency.hop.indices.unique():
        of_u = adjacency.hop.indices == u
        count = round(15 * sample.share[len(set(adjacency.hop.indices[adjacency.hop.indices < u].tolist()))].item())
        draws += [edges[of_u].sum() / 12 * 15 / count * x[u]] * count
    draws = torch.stack(draws)
    assert len(draws) == 15
    torch.testing.assert_close(penalty, draws.var(0, unbiased=False).mean())
    mean_estimate = first_layer(sample).aggregate(x, "sym") - adjacency.normalised("sym")[1][:, None] * x[:12]
    torch.testing.assert_close(draws.mean(0), mean_estimate.mean(0))


def test_the_penaltys_gradient_is_that_of_the_true_variance():
    """Differentiating 1 / q at the nodes drawn, as if q had no part in drawing them, fails the same check."""
    graph, seeds, draws = make_graph(), torch.arange(30), 600
    csc, x = CSC.of(graph), graph.ndata["feat"].double()
    sampler = prepared([30], graph)
    (exact,) = torch.autograd.grad(exact_variance(sampler, graph, seeds, x), sampler.weight)
    right, wrong = [], []
    for key in range(draws):
        sample = sampler.draw(csc, seeds, key)
        (adjacency,), rows, q = sample.adjacencies, x[sample.nodes], sample.probability
        penalty = draw_variance(adjacency, rows, "sym", sample.share, q)
        right += torch.autograd.grad(penalty, sampler.weight, retain_graph=True)
        drawn, place = adjacency.hop.indices.unique(return_inverse=True)
        columns = torch.zeros(drawn.numel(), dtype=torch.float64)
        columns.index_add_(0, place, adjacency.normalised("sym")[0].double() / 30)
        terms = (columns / sample.share * q.detach() / q).unsqueeze(1) * rows[drawn.long()]
        share = sample.share.unsqueeze(1)
        naive = (share * (terms - (share * terms).sum(0)).square()).sum(0).mean()
        torch.testing.assert_close(naive, penalty)  # the same number, with another gradient
        wrong += torch.autograd.grad(naive, sampler.weight)

    def z(gradients):
        stacked = torch.stack(gradients)
        return ((stacked.mean(0) - exact).abs() / (stacked.std(0) / draws**0.5)).max()

    assert z(right) < 5 < 7 < z(wrong)


def test_training_the_weights_lowers_the_variance():
    graph, seeds = make_graph(num_nodes=100, num_edges=900), torch.arange(40)
    # Rows that matter far more for some nodes than for others, as the first feature tells.
    graph.ndata["feat"][:, 0] = (torch.rand(100) < 0.2) * 4.0
    csc, x = CSC.of(graph), graph.ndata["feat"]
    x = x * (1 + x[:, :1])
    sampler = prepared([30], graph)

    def measured():
        """The variance of the mean's estimate over draws of their own."""
        estimates = []
        for key in range(5000, 5200):
            sample = sampler.draw(csc, seeds, key)
            estimates.append(first_layer(sample).aggregate(x[sample.nodes], "sym").mean(0))
        return torch.stack(estimates).var(0).mean().item()

    before, exactly_before = measured(), exact_variance(sampler, graph, seeds, x).item()
    optimizer = torch.optim.Adam(sampler.parameters(), lr=0.05)
    for key in range(60):
        sample = sampler.draw(csc, seeds, key)
        batch = MiniBatch(graph, sample, x=x[sample.nodes], y=graph.ndata["label"][sample.output_nodes])
        (layer,) = batch.layers(1)
        loss = batch.loss(layer.aggregate(batch.x, "sym")[:, :3].detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert exact_variance(sampler, graph, seeds, x).item() < 0.8 * exactly_before
    assert measured() < 0.85 * before


def test_the_loss_trains_the_weights_and_the_last_layer_alone_is_penalised(odd_graph):
    sampler = ASGCNSampler([20, 10])
    loader = gs.DataLoader(odd_graph, torch.arange(30), sampler, batch_size=15, num_workers=2)
    model = gs.nn.GCN(5, 8, 3, dropout=0.0)
    (weight,) = loader.parameters()
    optimizer = torch.optim.SGD([*model.parameters(), weight], lr=0.1)
    for batch in loader:  # each draw builds a graph of its own, after the step before changed the weights
        assert not any(adjacency.importance.requires_grad for adjacency in batch.sample.adjacencies)
        loss = batch.loss(model(batch, batch.x))
        (penalty,) = batch._penalties
        assert penalty.item() > 0
        optimizer.zero_grad()
        loss.backward()
        assert weight.grad.abs().sum() > 0
        optimizer.step()
    first, last = batch.layers(2)
    hidden = first.aggregate(batch.x, "sym")
    assert len(batch._penalties) == 1
    last.aggregate(hidden, "sym")
    assert len(batch._penalties) == 2
    with torch.no_grad():
        last.aggregate(hidden, "sym")
    assert len(batch._penalties) == 2


def test_without_variance_the_loss_is_the_models_alone(odd_graph):
    sampler = ASGCNSampler([20, 10], variance=0)
    batch = next(iter(gs.DataLoader(odd_graph, torch.arange(30), sampler, batch_size=15)))
    model = gs.nn.GCN(5, 8, 3, dropout=0.0)
    logits = model(batch, batch.x)
    torch.testing.assert_close(batch.loss(logits), nn.functional.cross_entropy(logits, batch.y))
    batch.loss(logits).backward()
    assert sampler.weight.grad is None


@pytest.mark.parametrize("model", [gs.nn.GCN, gs.nn.SAGE], ids=lambda model: model.__name__)
def test_training_learns_and_moves_the_weights(model):
    data = gs.load("synthetic", num_nodes=500, num_edges=4000, num_classes=4)
    sampler = ASGCNSampler([200, 100])
    sampler.prepare(data.graph, data.train_ids, 50)
    start = sampler.weight.detach().clone()
    torch.manual_seed(3)
    model = model(data.num_features, 16, data.num_classes, dropout=0.0)
    result = gs.train(model, data, sampler, epochs=20, batch_size=50, lr=0.02)
    assert result.points[-1].test > 0.35
    assert result.points[-1].loss < 0.9 * result.points[0].loss
    assert (sampler.weight - start).abs().max() > 0.01


def test_a_convolution_without_a_fixed_norm_is_refused(odd_graph):
    class Attention(nn.Module):
        def forward(self, layer: Layer, x):
            return layer.own(x)

    batch = next(iter(gs.DataLoader(odd_graph, torch.arange(30), ASGCNSampler([10]), batch_size=15)))
    (layer,) = batch.layers(1)
    with pytest.raises(ValueError, match=r"Attention has no fixed norm .* use LADIESSampler or NeighborSampler"):
        layer.propagate(Attention(), batch.x)


def test_features_are_needed(odd_graph):
    bare = dgl.graph(([0], [1]))
    with pytest.raises(ValueError, match="the graph has none; store a matrix"):
        ASGCNSampler([5]).prepare(bare, torch.tensor([1]), 1)
    bare.ndata["feat"] = torch.ones(2)
    with pytest.raises(ValueError, match=r"the graph has those of the shape \(2,\); store a matrix"):
        ASGCNSampler([5]).prepare(bare, torch.tensor([1]), 1)
    with pytest.raises(ValueError, match="has not seen the graph's features; call prepare"):
        ASGCNSampler([5]).draw(CSC.of(odd_graph), torch.tensor([1]), 0)


def test_copies_draw_the_same_and_keep_what_was_learnt(odd_graph):
    csc, seeds = CSC.of(odd_graph), torch.arange(20)
    fresh = pickle.loads(pickle.dumps(ASGCNSampler([9, 6])))
    fresh.prepare(odd_graph, seeds, 20)
    sampler = prepared([9, 6], odd_graph)
    assert torch.equal(fresh.weight, sampler.weight)  # the seed's
    assert not torch.equal(prepared([9, 6], odd_graph, seed=1).weight, sampler.weight)
    with torch.no_grad():
        sampler.weight.add_(1.0)
    copy = pickle.loads(pickle.dumps(sampler))
    assert isinstance(copy.weight, nn.Parameter)
    copy.prepare(odd_graph, seeds, 20)
    torch.manual_seed(1)
    one, other = sampler.draw(csc, seeds, 7), copy.draw(csc, seeds, 7)
    assert one.nodes.tolist() == other.nodes.tolist()
    assert [a.importance.tolist() for a in one.adjacencies] == [a.importance.tolist() for a in other.adjacencies]
    assert fresh.draw(csc, seeds, 7).nodes.tolist() != one.nodes.tolist()


@pytest.mark.parametrize("seeds", [[59], [0], [0, 58, 59]])
def test_odd_batches(seeds, odd_graph):
    """Nodes without edges, alone or with others: nothing to draw, and no NaN in the weights."""
    sampler = ASGCNSampler([4, 4])
    batch = next(iter(gs.DataLoader(odd_graph, torch.tensor(seeds), sampler, batch_size=3)))
    loss = batch.loss(gs.nn.GCN(5, 8, 3)(batch, batch.x))
    loss.backward()
    assert loss.isfinite()
    assert sampler.weight.grad is None or sampler.weight.grad.isfinite().all()
    assert (sampler.weight.grad is None) == (seeds == [59])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [0]}, "sizes=\\[0\\] has to be a list"),
        ({"sizes": [5], "variance": -1}, "variance=-1 has to be a number of at least 0"),
        ({"sizes": [5], "variance": float("nan")}, "variance=nan has to be a number of at least 0"),
        ({"sizes": [5], "norm": "max"}, "norm='max' is not known"),
        ({"sizes": [5], "seed": 1.5}, "seed=1.5 has to be an integer"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ASGCNSampler(**arguments)


def test_how_it_is_shown():
    assert repr(ASGCNSampler([5, 6])) == "ASGCNSampler(sizes=[5, 6])"
    assert repr(ASGCNSampler([5], variance=0.1, norm=NORMS[1])) == "ASGCNSampler(sizes=[5], variance=0.1, norm='mean')"
