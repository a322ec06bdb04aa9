"""FastGCN and LADIES: estimates against brute force, and the weights of sampling without replacement."""

import pickle
from itertools import permutations
from math import sqrt

import pytest
import torch

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.adjacency import NORMS
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.ops.layerwise import draw_in_succession, draw_with_replacement
from gnnscale.ops.random import key_of
from gnnscale.samplers.layerwise import (
    FastGCNSampler,
    LADIESSampler,
    keep_drawn,
    squared_columns,
    squared_scales,
    succession_weights,
)
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph

DRAWS = 600


def largest_z(sampler, graph, seeds, norms=NORMS, draws=DRAWS):
    """The largest standardised deviation of the mean of one layer's estimate from the exact sum, under any norm."""
    csc, features = CSC.of(graph), graph.ndata["feat"]
    sampler.prepare(graph, seeds, seeds.numel())
    exact = torch.stack([(dense_normalised(graph, norm) @ features.double())[seeds] for norm in norms])
    total, squares = torch.zeros_like(exact), torch.zeros_like(exact)
    for key in range(draws):
        sample = sampler.draw(csc, seeds, key)
        layer, x = first_layer(sample), features[sample.nodes]
        deviation = torch.stack([layer.aggregate(x, norm).double() for norm in norms]) - exact
        total += deviation
        squares += deviation.square()
    mean = total / draws
    error = ((squares / draws - mean.square()).clamp(min=0) / draws).sqrt()
    return (mean.abs() / (error + 1e-6)).max().item()


def unbiased_ladies(sizes, **arguments):
    return LADIESSampler(sizes, debias=True, **arguments)


class WithoutReplacement(FastGCNSampler):
    """The authors' code: without replacement among the nodes that touch the batch, over the global probability."""

    def draw_layer(self, csc, destinations, size, key):
        probability, *_ = self._probabilities(csc)
        candidates, columns = squared_columns(csc, destinations, self._scales(csc))
        chance = torch.where(columns > 0, probability[candidates], 0.0)
        drawn = draw_in_succession(chance, size, key=key)
        return keep_drawn(csc, destinations, candidates[drawn], 1 / (size * chance[drawn]), self.num_threads)


class NotRenormalised(FastGCNSampler):
    """Draws among the nodes that touch the batch, and divides by probabilities that do not add up to 1 there."""

    def draw_layer(self, csc, destinations, size, key):
        probability, *_ = self._probabilities(csc)
        candidates, columns = squared_columns(csc, destinations, self._scales(csc))
        chance = torch.where(columns > 0, probability[candidates], 0.0)
        drawn, counts = draw_with_replacement(chance.cumsum(0), size, key=key)
        return keep_drawn(csc, destinations, candidates[drawn], counts / (size * chance[drawn]), self.num_threads)


class NoImportance(FastGCNSampler):
    def draw_layer(self, csc, destinations, size, key):
        layer = super().draw_layer(csc, destinations, size, key)
        layer.importance = torch.ones_like(layer.importance)
        return layer


class AsIfWithReplacement(LADIESSampler):
    """Draws without replacement and divides by the probability of one draw, the first form of LADIES's estimate."""

    def draw_layer(self, csc, destinations, size, key):
        candidates, chance = squared_columns(csc, destinations, self._scales(csc))
        drawn = draw_in_succession(chance, size, key=key)
        importance = chance.sum() / (drawn.numel() * chance[drawn])
        return keep_drawn(csc, destinations, candidates[drawn], importance, self.num_threads)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("make", [FastGCNSampler, unbiased_ladies])
def test_the_estimate_is_unbiased_under_every_norm(make, weighted):
    graph = make_graph(weighted=weighted)
    assert largest_z(make([20]), graph, torch.arange(60).flip(0)) < 5


@pytest.mark.parametrize("make", [FastGCNSampler, unbiased_ladies])
def test_the_norm_of_the_probabilities_need_not_be_the_models(make):
    """A node whose only edge is a loop has a chance too: under "mean" the loop counts."""
    graph = dgl.graph(([0, 1, 2, 0, 1, 3], [0, 0, 0, 1, 1, 2]), num_nodes=5)
    graph.ndata["feat"] = torch.randn(5, 2)
    graph.edata["weight"] = torch.tensor([1.0, 2.0, 3.0, 1.0, 0.0, 2.0])  # an edge that weighs nothing
    for norm in ("sym", "mean"):
        assert largest_z(make([2], norm=norm), graph, torch.tensor([2, 0, 4, 1]), draws=250) < 5


@pytest.mark.parametrize(
    ("wrong", "first", "stop"),
    [
        (WithoutReplacement, 20, 50),
        (NotRenormalised, 50, 56),  # a batch that touches a small part of the graph
        (NoImportance, 20, 50),
        (AsIfWithReplacement, 20, 50),
        (LADIESSampler, 20, 50),
    ],
)
def test_wrong_estimators_fail_the_same_check(wrong, first, stop):
    """Among them the authors' FastGCN, and LADIES's ratio, which is not declared unbiased."""
    assert largest_z(wrong([20]), make_graph(), torch.arange(first, stop), draws=300) > 10


def test_what_each_estimate_declares():
    assert FastGCNSampler([1]).estimate == LADIESSampler([1], debias=True).estimate == "unbiased"
    assert LADIESSampler([1]).estimate == "ratio"


@pytest.mark.parametrize("make", [FastGCNSampler, unbiased_ladies])
def test_two_layers_are_unbiased_for_a_linear_model(make):
    graph = make_graph(num_nodes=20, num_edges=120)
    csc, features, seeds = CSC.of(graph), graph.ndata["feat"], torch.arange(8)
    dense = dense_normalised(graph, "sym")
    exact = (dense @ dense @ features.double())[seeds]
    sampler, estimates, draws = make([12, 8]), [], 400
    for key in range(draws):
        sample = sampler.draw(csc, seeds, key)
        x = features[sample.nodes]
        for index, adjacency in enumerate(sample.adjacencies):
            x = Layer(index, adjacency, None).aggregate(x[: adjacency.num_src], "sym")
        estimates.append(x.double())
    stacked = torch.stack(estimates)
    z = (stacked.mean(0) - exact).abs() / (stacked.std(0) / draws**0.5 + 1e-6)
    assert z.max() < 5


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_of_ladies_add_up_to_the_degree(weighted):
    graph = make_graph(weighted=weighted)
    csc, seeds = CSC.of(graph), torch.arange(60)
    for key in range(20):
        sample = LADIESSampler([6]).draw(csc, seeds, key)
        layer = first_layer(sample)
        has_edge = (sample.adjacencies[0].hop.indptr.diff() > 0).float()
        ones = torch.ones(sample.nodes.numel(), 1)
        torch.testing.assert_close(layer.aggregate(ones, "mean").squeeze(1), has_edge)
        torch.testing.assert_close(layer.aggregate(ones, "sum").squeeze(1), has_edge * csc.degree)
        assert 0 < has_edge.sum() < 57


def test_ladies_weighs_by_the_inverse_probability_within_a_row():
    """As its authors do, even where all neighbours are drawn; debiased, the sum is then exact."""
    graph = dgl.graph(([1, 2, 1], [0, 0, 3]), num_nodes=4)  # node 1 has two edges into the batch, node 2 one
    csc, x = CSC.of(graph), torch.tensor([[0.0], [1.0], [10.0], [0.0]])
    seeds = torch.tensor([0, 3])
    ratio = LADIESSampler([5], norm="sum").draw(csc, seeds, 0)
    first = first_layer(ratio).aggregate(x[ratio.nodes], "mean")[0].item()
    assert first == pytest.approx((1 / 2 * 1 + 1 * 10) / (1 / 2 + 1))
    exact = LADIESSampler([5], norm="sum", debias=True).draw(csc, seeds, 0)
    assert first_layer(exact).aggregate(x[exact.nodes], "mean")[0].item() == pytest.approx(5.5)


def test_debiased_ladies_is_exact_where_every_neighbour_is_drawn(odd_graph):
    csc, seeds = CSC.of(odd_graph), torch.tensor([7, 3, 59, 0])
    sample = LADIESSampler([60], debias=True).draw(csc, seeds, 1)
    out = first_layer(sample).aggregate(odd_graph.ndata["feat"][sample.nodes], "sym")
    exact = (dense_normalised(odd_graph, "sym") @ odd_graph.ndata["feat"].double())[seeds]
    torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_weights_of_sequential_draws_are_unbiased(count):
    """Over all sequences of draws, each with its probability, in exact arithmetic but for rounding."""
    chance = torch.tensor([0.5, 3.0, 0.0, 1.0, 0.25], dtype=torch.float64)
    expected, total_probability = torch.zeros(5, dtype=torch.float64), 0.0
    for order in permutations([0, 1, 3, 4], count):
        probability, left = 1.0, chance.sum().item()
        for position in order:
            probability *= chance[position].item() / left
            left -= chance[position].item()
        total_probability += probability
        drawn = torch.tensor(order)
        expected[drawn] += probability * succession_weights(chance, drawn)
    assert total_probability == pytest.approx(1)
    torch.testing.assert_close(expected, (chance > 0).double())


def test_the_weights_are_those_of_the_papers_recursion():
    generator = torch.Generator().manual_seed(1)
    chance = torch.rand(9, generator=generator, dtype=torch.float64)
    drawn, n = torch.tensor([4, 0, 7, 2, 8]), 9
    p, weights, before = chance / chance.sum(), [], 0.0
    for j, position in enumerate(drawn.tolist()):
        a = n / ((j + 1) * (n - j))
        weights = [(1 - a) * weight + a for weight in weights] + [a * (1 - before) / p[position].item()]
        before += p[position].item()
    torch.testing.assert_close(succession_weights(chance, drawn), torch.tensor(weights, dtype=torch.float64))


def test_equal_chances_give_equal_weights():
    weights = succession_weights(torch.full((12,), 0.3, dtype=torch.float64), torch.tensor([3, 1, 11, 6]))
    torch.testing.assert_close(weights, torch.full((4,), 3.0, dtype=torch.float64))


def test_draws_in_succession_come_in_order_with_their_chances():
    chance = torch.tensor([1.0, 0.0, 2.0, 4.0], dtype=torch.float64)
    counts, draws = {}, 3000
    for key in range(draws):
        order = tuple(draw_in_succession(chance, 2, key=key_of(key)).tolist())
        counts[order] = counts.get(order, 0) + 1
    for first, second in permutations([0, 2, 3], 2):
        probability = (chance[first] / 7 * chance[second] / (7 - chance[first])).item()
        error = sqrt(draws * probability * (1 - probability))
        assert abs(counts[first, second] - draws * probability) < 5 * error
    assert len(counts) == 6


def test_draws_with_replacement_follow_the_chances():
    chance = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0], dtype=torch.float64)
    positions, counts = draw_with_replacement(chance.cumsum(0), 8000, key=5)
    assert positions.tolist() == [1, 3]
    assert counts.sum() == 8000
    assert abs(counts[0].item() - 2000) < 5 * sqrt(8000 * 0.25 * 0.75)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_columns_are_those_of_the_normalised_adjacency(norm, weighted):
    graph = make_graph(weighted=weighted, odd=False)
    graph = dgl.to_simple(graph, copy_edata=False, copy_ndata=True) if not weighted else graph
    csc, destinations = CSC.of(graph), torch.tensor([5, 0, 1, 30])
    source, destination = csc.indices.long(), torch.repeat_interleave(torch.arange(60), csc.indptr.diff())
    entries = dense_normalised(graph, norm)[destination, source]
    if weighted:  # edges may be parallel: the entry that each has by itself
        alone = csc.weight.double() / dense_normalised(graph, "sum")[destination, source]
        entries = entries * alone
    chosen = torch.isin(destination, destinations)
    expected = torch.zeros(60, dtype=torch.float64).index_add_(0, source[chosen], entries[chosen].square())
    candidates, found = squared_columns(csc, destinations, squared_scales(csc, norm))
    assert candidates.sort().values.tolist() == source[chosen].unique().tolist()
    torch.testing.assert_close(found, expected[candidates], rtol=1e-5, atol=1e-8)


def test_fastgcn_draws_from_the_columns_of_the_whole_graph():
    graph = dgl.to_simple(make_graph(odd=False), copy_ndata=True)
    dense = dense_normalised(graph, "sym").fill_diagonal_(0.0)
    expected = dense.square().sum(0) / dense.square().sum()
    found, *_ = FastGCNSampler([1])._probabilities(CSC.of(graph))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("sampler", [FastGCNSampler([9, 6]), LADIESSampler([9, 6])], ids=repr)
def test_the_edges_are_all_those_from_drawn_nodes(sampler, odd_graph):
    """Every edge from a drawn node to a destination is there, and destinations that were not drawn send nothing."""
    csc, seeds = CSC.of(odd_graph), torch.tensor([40, 3, 12, 58, 0, 1])
    for key in range(20):
        sample = sampler.draw(csc, seeds, key)
        assert sample.nodes.unique().numel() == sample.nodes.numel()
        assert sample.output_nodes.tolist() == seeds.tolist()
        for adjacency, size in zip(sample.adjacencies, sampler.sizes, strict=True):
            hop = adjacency.hop
            drawn = sample.nodes[hop.indices.long().unique()]
            assert drawn.numel() <= size
            destinations = sample.nodes[: adjacency.num_dst]
            found = csc.indices[hop.positions].long()
            torch.testing.assert_close(found, sample.nodes[hop.indices.long()])
            ends = torch.repeat_interleave(torch.arange(60), csc.indptr.diff())
            wanted = (torch.isin(csc.indices.long(), drawn) & torch.isin(ends, destinations)).nonzero().squeeze(1)
            assert hop.positions.sort().values.tolist() == wanted.tolist()
            # What comes after the destinations was drawn.
            assert torch.isin(sample.nodes[adjacency.num_dst : adjacency.num_src], drawn).all()


@pytest.mark.parametrize("make", [FastGCNSampler, LADIESSampler, unbiased_ladies])
def test_odd_batches(make):
    """A graph without edges, an isolated node by itself, and a node whose only neighbour is itself."""
    empty = dgl.graph(([], []), num_nodes=3)
    sample = make([4, 4]).draw(CSC.of(empty), torch.tensor([2]), 0)
    assert sample.nodes.tolist() == [2]
    assert first_layer(sample).aggregate(torch.ones(1, 1), "mean").tolist() == [[0.0]]
    graph = dgl.graph(([0, 1], [0, 0]), num_nodes=3)
    isolated = make([4]).draw(CSC.of(graph), torch.tensor([2]), 0)
    assert first_layer(isolated).aggregate(torch.ones(1, 1), "sym").tolist() == [[1.0]]
    weightless = dgl.graph(([0, 1], [0, 0]), num_nodes=2)
    weightless.edata["weight"] = torch.zeros(2)
    nothing = make([4]).draw(CSC.of(weightless), torch.tensor([0]), 0)
    assert first_layer(nothing).aggregate(torch.ones(nothing.nodes.numel(), 1), "sum").tolist() == [[0.0]]


@pytest.mark.parametrize("make", [FastGCNSampler, LADIESSampler, unbiased_ladies])
def test_a_draw_depends_on_its_key_alone(make, odd_graph):
    csc, seeds = CSC.of(odd_graph), torch.arange(20)

    def drawn(sampler, key):
        torch.manual_seed(key)  # the global generator has no say
        sample = sampler.draw(csc, seeds, 7)
        return sample.nodes.tolist(), [a.importance.tolist() for a in sample.adjacencies]

    sampler = make([9, 6])
    threaded = pickle.loads(pickle.dumps(sampler))
    threaded.prepare(odd_graph, seeds, 20)
    threaded.num_threads = 3
    assert drawn(sampler, 1) == drawn(threaded, 2) == drawn(pickle.loads(pickle.dumps(threaded)), 3)
    assert sampler.draw(csc, seeds, 8).nodes.tolist() != sampler.draw(csc, seeds, 7).nodes.tolist()


@pytest.mark.parametrize(
    "sampler", [FastGCNSampler([400, 200]), LADIESSampler([200, 100]), unbiased_ladies([200, 100])], ids=repr
)
def test_training_learns(sampler):
    data = gs.load("synthetic", num_nodes=500, num_edges=4000, num_classes=4)
    model = gs.nn.GCN(data.num_features, 16, data.num_classes, dropout=0.0)
    result = gs.train(model, data, sampler, epochs=20, batch_size=50, lr=0.02, num_workers=2)
    assert result.points[-1].test > 0.5
    assert result.points[-1].loss < 0.7 * result.points[0].loss


def test_blocks_carry_the_importance(odd_graph):
    seeds = torch.arange(10)
    _, output_nodes, blocks = LADIESSampler([9, 6]).sample_blocks(odd_graph, seeds)
    assert output_nodes.tolist() == seeds.tolist()
    degrees = torch.zeros(10).index_add_(0, blocks[-1].edges()[1].long(), blocks[-1].edata["importance"])
    has_edge = blocks[-1].in_degrees() > 0
    torch.testing.assert_close(degrees[has_edge], odd_graph.in_degrees()[:10][has_edge].float())


@pytest.mark.parametrize("make", [FastGCNSampler, LADIESSampler])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": []}, "sizes=\\[\\] has to be a list"),
        ({"sizes": 512}, "sizes=512 has to be a list"),
        ({"sizes": [512, 0]}, "sizes=\\[512, 0\\] has to be a list"),
        ({"sizes": [5], "norm": "max"}, "norm='max' is not known; use one of 'sym', 'mean', 'sum'"),
    ],
)
def test_wrong_arguments(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_debias_is_a_bool():
    with pytest.raises(ValueError, match="debias=1 has to be True or False"):
        LADIESSampler([5], debias=1)


def test_how_they_are_shown():
    assert repr(FastGCNSampler([5, 6], norm="mean")) == "FastGCNSampler(sizes=[5, 6], norm='mean')"
    assert repr(LADIESSampler([5], debias=True)) == "LADIESSampler(sizes=[5], debias=True)"


def test_rows_whose_drawn_edges_all_weigh_nothing_get_nothing():
    graph = dgl.graph(([0, 0, 1], [2, 3, 3]), num_nodes=4)
    graph.edata["weight"] = torch.tensor([0.0, 1.0, 1.0])
    sample = LADIESSampler([5]).draw(CSC.of(graph), torch.tensor([2, 3]), key=0)
    out = first_layer(sample).aggregate(torch.ones(sample.nodes.numel(), 1), "sum")
    torch.testing.assert_close(out, torch.tensor([[0.0], [2.0]]))
