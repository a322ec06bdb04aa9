"""LABOR against its equations written out in loops, and against what sharing random numbers promises."""

import pickle

import pytest
import torch

from gnnscale._dgl import dgl
from gnnscale.adjacency import NORMS, Adjacency
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.ops.reference.rules import Rows, labor_chances
from gnnscale.samplers import NeighborSampler, Sample
from gnnscale.samplers.edges import in_edges
from gnnscale.samplers.labor import LaborSampler
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph

ITERATIONS = [0, 1, -1]


def largest_z(sampler, graph, norm, copies=600):
    """The largest standardised deviation of the mean of one layer's estimate from the exact sum.

    The draws are one draw from as many copies of the graph, which have nothing in common.
    """
    together = dgl.batch([graph] * copies)
    sample = sampler.draw(CSC.of(together), torch.arange(together.num_nodes()), key=0)
    features = graph.ndata["feat"].double()
    out = first_layer(sample).aggregate(together.ndata["feat"].double()[sample.nodes], norm)
    error = out.view(copies, *features.shape) - dense_normalised(graph, norm) @ features
    return (error.mean(0).abs() / (error.std(0) / copies**0.5 + 1e-6)).max().item()


def layer_of(graph, seeds):
    nodes, hop = in_edges(CSC.of(graph), seeds)
    rows = torch.repeat_interleave(hop.indptr.diff())
    return nodes, hop, rows


@pytest.mark.parametrize("iterations", ITERATIONS)
@pytest.mark.parametrize(("norm", "weighted"), [(norm, weighted) for norm in NORMS for weighted in (False, True)])
def test_one_layer_is_unbiased(norm, weighted, iterations):
    graph = make_graph(weighted=weighted)
    sampler = LaborSampler([3], importance_sampling=iterations)
    assert largest_z(sampler, graph, norm) < 5


class NoImportance(LaborSampler):
    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        return Sample(sample.nodes, [Adjacency(a.hop, a.num_src, csc, sample.nodes) for a in sample.adjacencies])


class DegreeImportance(LaborSampler):
    """LABOR-i with the importance of LABOR-0."""

    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        (adjacency,) = sample.adjacencies
        degree = csc.indptr.diff()[seeds]
        importance = torch.repeat_interleave((degree / self.fanouts[0]).clamp(min=1), adjacency.hop.indptr.diff())
        return Sample(
            sample.nodes, [Adjacency(adjacency.hop, adjacency.num_src, csc, sample.nodes, importance=importance)]
        )


@pytest.mark.parametrize(("broken", "iterations"), [(NoImportance, 0), (NoImportance, -1), (DegreeImportance, -1)])
def test_wrong_importance_fails_the_same_check(broken, iterations):
    graph = make_graph()
    sampler = broken([3], importance_sampling=iterations)
    assert largest_z(sampler, graph, "sum") > 10


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_two_layers_are_unbiased_for_a_linear_model(iterations):
    graph = make_graph(num_nodes=20, num_edges=160)
    together, dense = dgl.batch([graph] * 1000), dense_normalised(graph, "sym")
    sample = LaborSampler([3, 3], importance_sampling=iterations).draw(CSC.of(together), torch.arange(20_000), key=0)
    x = together.ndata["feat"].double()[sample.nodes]
    for index, adjacency in enumerate(sample.adjacencies):
        x = Layer(index, adjacency, None).aggregate(x, "sym")
    error = x.view(1000, 20, -1) - dense @ dense @ graph.ndata["feat"].double()
    assert (error.mean(0).abs() / (error.std(0) / 1000**0.5 + 1e-6)).max() < 5


def inclusion_probabilities(hop, fanout, iterations):
    """p of each edge; tests/ops/test_sampling.py shows that the native code has the same."""
    degrees = hop.indptr.diff().long()
    rows = Rows(torch.arange(degrees.numel()), hop.indptr[:-1].long(), degrees)
    return labor_chances(rows, hop.indices.long(), fanout, iterations)


def probabilities_in_loops(rows, sources, fanout, iterations):
    """p of each edge, from the paper's equations, by bisection."""
    edges = list(zip(rows.tolist(), sources.tolist(), strict=True))
    degree = {v: sum(w == v for w, _ in edges) for v, _ in edges}
    pi = dict.fromkeys((u for _, u in edges), 1.0)
    scale = {v: min(1.0, fanout / d) for v, d in degree.items()}
    for _ in range(iterations):
        pi = {u: value * max(scale[v] for v, w in edges if w == u) for u, value in pi.items()}
        for v, d in degree.items():
            low, high = 0.0, max(1 / pi[u] for w, u in edges if w == v)
            for _ in range(100):
                middle = (low + high) / 2
                total = sum(1 / min(1.0, middle * pi[u]) for w, u in edges if w == v) if middle else float("inf")
                # Where all are kept, rounding decides; any c up to `high` keeps all.
                low, high = (middle, high) if total > d * d / min(fanout, d) else (low, middle)
            scale[v] = max(1 / pi[u] for w, u in edges if w == v) if d <= fanout else high
    return torch.tensor([min(1.0, scale[v] * pi[u]) for v, u in edges], dtype=torch.float64)


@pytest.mark.parametrize("fanout", [1, 3, 7])
@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_probabilities_are_those_of_the_equations(iterations, fanout):
    graph = make_graph(num_nodes=30, num_edges=150)
    _, hop, rows = layer_of(graph, torch.arange(15))
    chance = inclusion_probabilities(hop, fanout, iterations)
    torch.testing.assert_close(chance, probabilities_in_loops(rows, hop.indices, fanout, iterations))


@pytest.mark.parametrize("iterations", [0, 1, 5, -1])
def test_each_destination_has_the_variance_of_its_fanout(iterations):
    graph = make_graph(num_nodes=200, num_edges=6000)
    _, hop, rows = layer_of(graph, torch.arange(100))
    degree = hop.indptr.diff().double()
    for fanout in (1, 4, 20):
        chance = inclusion_probabilities(hop, fanout, iterations)
        total = torch.zeros(100, dtype=torch.float64).index_add_(0, rows, 1 / chance)
        drawing = degree > 0
        torch.testing.assert_close(total[drawing], (degree.square() / degree.clamp(max=fanout))[drawing])
        assert bool((chance[(degree <= fanout)[rows]] > 1 - 1e-12).all())


def test_labor_0_draws_as_many_edges_as_the_fanout_on_average():
    graph = make_graph(num_nodes=200, num_edges=6000)
    csc, seeds = CSC.of(graph), torch.arange(200)
    sampler, draws = LaborSampler([5]), 250
    counts = torch.stack([sampler.draw(csc, seeds, key).adjacencies[0].hop.indptr.diff() for key in range(draws)])
    expected = csc.indptr.diff().clamp(max=5)
    z = (counts.double().mean(0) - expected).abs() / (counts.double().std(0) / draws**0.5 + 1e-9)
    assert z.max() < 5
    assert counts.double().std(0).max() > 1  # unlike node-wise sampling, whose number is fixed


def test_sharing_random_numbers_takes_fewer_nodes():
    """The more iterations, the fewer sources; and all take fewer than draws of each node by itself."""
    graph = make_graph(num_nodes=400, num_edges=12_000, odd=False)
    csc, seeds = CSC.of(graph), torch.arange(100)

    def num_nodes(sampler):
        return sum(sampler.draw(csc, seeds, key).nodes.numel() for key in range(10)) / 10

    labor = [num_nodes(LaborSampler([3], importance_sampling=i)) for i in (0, 1, -1)]
    assert labor[2] < labor[1] < labor[0] < 0.9 * num_nodes(NeighborSampler([3]))


def test_the_expected_number_of_sources_falls_with_every_iteration():
    nodes, hop, _ = layer_of(make_graph(num_nodes=200, num_edges=6000), torch.arange(60))

    def expected(iterations):
        chance = inclusion_probabilities(hop, 4, iterations)
        largest = torch.zeros(nodes.numel(), dtype=torch.float64)
        return largest.scatter_reduce_(0, hop.indices.long(), chance, "amax").sum().item()

    numbers = [expected(i) for i in range(6)]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > 1.02 * numbers[1]
    assert expected(-1) <= numbers[5] * (1 + 1e-9)
    assert expected(-1) > (1 - 1e-3) * expected(100)


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_a_source_that_one_destination_keeps_is_kept_by_all_with_a_larger_probability(iterations):
    """All edges of a source, parallel ones included, look at one random number."""
    graph = make_graph()
    seeds = torch.arange(60)
    _, hop, _ = layer_of(graph, seeds)
    chance = inclusion_probabilities(hop, 3, iterations)
    csc, shared = CSC.of(graph), 0
    for key in range(50):
        (adjacency,) = LaborSampler([3], importance_sampling=iterations).draw(csc, seeds, key).adjacencies
        kept = torch.isin(hop.positions, adjacency.hop.positions)
        infinity = torch.full((60,), float("inf"), dtype=torch.float64)
        least_kept = infinity.scatter_reduce(0, hop.indices[kept].long(), chance[kept], "amin")
        assert bool(kept[chance >= least_kept[hop.indices.long()]].all())
        shared += int(kept.sum()) - int(hop.indices[kept].unique().numel())
    assert shared > 0


def complete(num_nodes):
    ids = torch.arange(num_nodes)
    graph = dgl.graph((ids.repeat(num_nodes), ids.repeat_interleave(num_nodes)), num_nodes=num_nodes)
    return dgl.remove_self_loop(graph)


def test_dependent_layers_take_the_same_sources():
    csc, seeds = CSC.of(complete(40)), torch.arange(4)

    def sources(sampler, key):
        return [set(a.hop.indices.tolist()) for a in sampler.draw(csc, seeds, key).adjacencies]

    for key in range(20):
        below, above = sources(LaborSampler([6, 6], layer_dependency=True), key)
        assert below == above
    assert any(below != above for below, above in (sources(LaborSampler([6, 6]), key) for key in range(5)))


def test_dependent_layers_are_unbiased_one_by_one():
    graph = make_graph()
    assert largest_z(LaborSampler([3], layer_dependency=True), graph, "mean") < 5


def test_all_neighbors_are_exact(odd_graph):
    exact = dense_normalised(odd_graph, "sym") @ odd_graph.ndata["feat"].double()
    for fanout in (-1, 200):
        for iterations in ITERATIONS:
            sampler = LaborSampler([fanout], importance_sampling=iterations)
            sample = sampler.draw(CSC.of(odd_graph), torch.tensor([7, 3, 59, 0]), key=1)
            out = first_layer(sample).aggregate(odd_graph.ndata["feat"][sample.nodes], "sym")
            torch.testing.assert_close(out.double(), exact[[7, 3, 59, 0]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_nodes_without_neighbours_get_zeros(odd_graph, iterations):
    sampler = LaborSampler([2, 2], importance_sampling=iterations)
    for seeds in ([59], [59, 57]):
        sample = sampler.draw(CSC.of(odd_graph), torch.tensor(seeds), key=0)
        assert sample.nodes.tolist() == seeds
        assert bool((first_layer(sample).aggregate(odd_graph.ndata["feat"][seeds], "mean") == 0).all())


def test_a_draw_depends_on_its_key_and_not_on_the_threads(odd_graph):
    csc, seeds = CSC.of(odd_graph), torch.arange(60)
    one, many = LaborSampler([3, 3], importance_sampling=1), LaborSampler([3, 3], importance_sampling=1)
    many.num_threads = 3
    drawn = [one.draw(csc, seeds, key).adjacencies[0].hop.positions for key in (0, 1)]
    again = [pickle.loads(pickle.dumps(many)).draw(csc, seeds, key).adjacencies[0].hop.positions for key in (0, 1)]
    assert torch.equal(drawn[0], again[0])
    assert torch.equal(drawn[1], again[1])
    assert drawn[0].tolist() != drawn[1].tolist()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"fanouts": [0]}, r"fanouts=\[0\] has to be a list with one number of neighbours a layer"),
        ({"fanouts": [2], "importance_sampling": -2}, "importance_sampling=-2 has to be a number of iterations"),
        ({"fanouts": [2], "importance_sampling": 1.0}, "importance_sampling=1.0 has to be a number of iterations"),
        ({"fanouts": [2], "layer_dependency": 1}, "layer_dependency=1 has to be True or False"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        LaborSampler(**arguments)


def test_repr_names_what_differs_from_the_default():
    assert repr(LaborSampler([3, 2])) == "LaborSampler(fanouts=[3, 2])"
    shown = "LaborSampler(fanouts=[3], importance_sampling=-1, layer_dependency=True)"
    assert repr(LaborSampler([3], importance_sampling=-1, layer_dependency=True)) == shown
