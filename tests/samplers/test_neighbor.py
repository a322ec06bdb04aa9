"""Drawing neighbours in proportion to weights, against probabilities and sums that are known."""

import pickle

import pytest
import torch

from gnnscale._dgl import dgl
from gnnscale.adjacency import NORMS, Adjacency
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.samplers import NeighborSampler, Sample
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph

WEIGHTS = torch.tensor([0.0, 0.1, 0.5, 1.0, 4.0])


def uneven(graph):
    """Weights that differ by two orders of magnitude, some of them 0."""
    uniform = torch.rand(graph.num_edges(), generator=torch.Generator().manual_seed(1))
    graph.edata["weight"] = 3 * (0.1 + uniform).square()
    graph.edata["weight"][::7] = 0.0
    return graph


def largest_z(sampler, graph, norm, copies=1000):
    """The largest standardised deviation of the mean of one layer's estimate from the exact sum.

    The draws are one draw from as many copies of the graph, which have nothing in common.
    """
    together = dgl.batch([graph] * copies)
    sample = sampler.draw(CSC.of(together), torch.arange(together.num_nodes()), key=0)
    features = graph.ndata["feat"].double()
    out = first_layer(sample).aggregate(together.ndata["feat"].double()[sample.nodes], norm)
    error = out.view(copies, *features.shape) - dense_normalised(graph, norm) @ features
    return (error.mean(0).abs() / (error.std(0) / copies**0.5 + 1e-6)).max().item()


def copies(num_copies, weights=WEIGHTS):
    """Many destinations with the same weighted in-edges: one draw is as many independent ones."""
    sources = torch.arange(len(weights)).repeat(num_copies)
    destinations = len(weights) + torch.arange(num_copies).repeat_interleave(len(weights))
    graph = dgl.graph((sources, destinations), num_nodes=len(weights) + num_copies)
    graph.edata["weight"] = weights.repeat(num_copies)
    return graph, len(weights) + torch.arange(num_copies)


def estimates(sampler, num_copies=20_000):
    """What each draw takes the number of each edge for, shape (num_copies, edges); its mean has to be 1."""
    graph, seeds = copies(num_copies)
    (adjacency,) = sampler.draw(CSC.of(graph), seeds, key=3).adjacencies
    edges = CSC.of(graph).edge_ids[adjacency.hop.positions]
    return torch.zeros(graph.num_edges()).index_add_(0, edges, adjacency.importance).view(num_copies, -1)


@pytest.mark.parametrize(
    ("norm", "replace", "fanout"),
    [*((norm, replace, 3) for norm in NORMS for replace in (False, True)), ("mean", False, 1), ("sym", False, 6)],
)
def test_drawing_by_weight_is_unbiased(norm, replace, fanout):
    graph = uneven(make_graph())
    sampler = NeighborSampler([fanout], replace=replace, by_weight=True)
    assert largest_z(sampler, graph, norm) < 5


class UniformImportance(NeighborSampler):
    """Draws by weight and pretends that the draw was uniform."""

    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        (adjacency,) = sample.adjacencies
        drawn = adjacency.hop.indptr.diff()
        importance = torch.repeat_interleave(csc.indptr.diff()[seeds] / drawn, drawn)
        return Sample(
            sample.nodes, [Adjacency(adjacency.hop, adjacency.num_src, csc, sample.nodes, importance=importance)]
        )


@pytest.mark.parametrize("replace", [False, True])
def test_the_importance_of_a_uniform_draw_fails_the_same_check(replace):
    graph = uneven(make_graph())
    broken = UniformImportance([3], replace=replace, by_weight=True)
    assert largest_z(broken, graph, "mean") > 10


@pytest.mark.parametrize(("replace", "fanout"), [(True, 1), (False, 1), (True, 3)])
def test_each_draw_takes_an_edge_in_proportion_to_its_weight(replace, fanout):
    graph, seeds = copies(20_000)
    sampler = NeighborSampler([fanout], replace=replace, by_weight=True)
    (adjacency,) = sampler.draw(CSC.of(graph), seeds, key=5).adjacencies
    assert torch.equal(adjacency.hop.indptr.diff().unique(), torch.tensor([fanout], dtype=torch.int32))
    edges = CSC.of(graph).edge_ids[adjacency.hop.positions] % len(WEIGHTS)
    share = WEIGHTS / WEIGHTS.sum()
    draws = len(edges)
    drawn = edges.bincount(minlength=len(WEIGHTS)) / draws
    assert drawn[0] == 0
    assert ((drawn - share).abs() / (share * (1 - share) / draws).sqrt())[1:].max() < 5
    torch.testing.assert_close(adjacency.importance, (1 / (fanout * share))[edges])


@pytest.mark.parametrize(("replace", "fanout"), [(False, 2), (False, 3), (True, 2)])
def test_every_edge_counts_for_one_on_average(replace, fanout):
    counted = estimates(NeighborSampler([fanout], replace=replace, by_weight=True))
    z = (counted.mean(0) - 1).abs() / (counted.std(0) / len(counted) ** 0.5 + 1e-6)
    assert z[1:].max() < 5
    assert bool((counted[:, 0] == 0).all())


def test_priority_sampling_keeps_the_largest_and_shares_a_threshold():
    """Of k edges, those lighter than the threshold stand for it and the heavier ones for themselves."""
    counted = estimates(NeighborSampler([2], by_weight=True))
    assert torch.equal((counted > 0).sum(1).unique(), torch.tensor([2]))
    stands_for = counted * WEIGHTS
    threshold = torch.where((counted > 1) & (counted > 0), stands_for, 0.0).max(1, keepdim=True).values
    expected = torch.maximum(WEIGHTS.expand_as(stands_for), threshold)
    kept = counted > 0
    torch.testing.assert_close(stands_for[kept], expected[kept])


@pytest.mark.parametrize("replace", [False, True])
def test_the_sum_of_the_weights_varies_less_than_in_a_uniform_draw(replace):
    spread = {
        by_weight: (estimates(NeighborSampler([2], replace=replace, by_weight=by_weight)) * WEIGHTS).sum(1).var()
        for by_weight in (True, False)
    }
    assert spread[True] < 0.2 * spread[False]


def test_a_node_with_no_more_edges_than_the_fanout_keeps_those_that_weigh_something():
    graph = uneven(make_graph())
    csc, seeds = CSC.of(graph), torch.arange(60)
    (adjacency,) = NeighborSampler([200], by_weight=True).draw(csc, seeds, key=0).adjacencies
    assert bool((adjacency.importance == 1).all())
    assert torch.equal(adjacency.hop.positions, csc.weight.nonzero().squeeze(1))


@pytest.mark.parametrize("replace", [False, True])
def test_without_weights_edges_are_alike(odd_graph, replace):
    csc, seeds = CSC.of(odd_graph), torch.arange(60)
    mine = NeighborSampler([3, 2], replace=replace, by_weight=True).draw(csc, seeds, key=9)
    uniform = NeighborSampler([3, 2], replace=replace).draw(csc, seeds, key=9)
    assert torch.equal(mine.nodes, uniform.nodes)
    for a, b in zip(mine.adjacencies, uniform.adjacencies, strict=True):
        assert torch.equal(a.hop.positions, b.hop.positions)
        assert torch.equal(a.importance, b.importance)


@pytest.mark.parametrize("replace", [False, True])
def test_a_light_node_beside_a_heavy_one_draws_as_if_it_were_alone(replace):
    light = torch.tensor([1.0, 3.0, 4.0]) * 1e-30
    graph = dgl.graph(([0, 1, 2, 0, 1], [3, 3, 3, 4, 4]), num_nodes=5)
    graph.edata["weight"] = torch.cat([light, torch.full((2,), 1e30)])
    sampler, heaviest, draws = NeighborSampler([1], replace=replace, by_weight=True), 0, 400
    for key in range(draws):
        sample = sampler.draw(CSC.of(graph), torch.tensor([4, 3]), key)
        hop = sample.adjacencies[0].hop
        assert hop.indptr.tolist() == [0, 1, 2]
        heaviest += int(sample.nodes[hop.indices[1]] == 2)
    assert abs(heaviest / draws - 0.5) < 5 * 0.5 / draws**0.5


@pytest.mark.parametrize("replace", [False, True])
def test_layers_of_different_fanouts_are_unbiased_together(replace):
    graph = uneven(make_graph(num_nodes=20, num_edges=120))
    together, dense = dgl.batch([graph] * 1000), dense_normalised(graph, "mean")
    sampler = NeighborSampler([3, -1, 3], replace=replace, by_weight=True)
    sample = sampler.draw(CSC.of(together), torch.arange(20_000), key=0)
    x = together.ndata["feat"].double()[sample.nodes]
    for index, adjacency in enumerate(sample.adjacencies):
        x = Layer(index, adjacency, None).aggregate(x, "mean")
    error = x.view(1000, 20, -1) - dense @ dense @ dense @ graph.ndata["feat"].double()
    assert (error.mean(0).abs() / (error.std(0) / 1000**0.5 + 1e-6)).max() < 5


@pytest.mark.parametrize("replace", [False, True])
def test_nodes_without_anything_to_draw_get_zeros(replace):
    graph = dgl.graph(([1, 2, 1], [0, 0, 2]), num_nodes=4)
    graph.edata["weight"] = torch.tensor([0.0, 0.0, 2.0])
    sampler = NeighborSampler([2], replace=replace, by_weight=True)
    for seeds in ([3], [0], [0, 3, 2]):
        sample = sampler.draw(CSC.of(graph), torch.tensor(seeds), key=0)
        out = first_layer(sample).aggregate(torch.ones(len(sample.nodes), 1), "sum")
        assert out.squeeze(1).tolist() == [{0: 0.0, 3: 0.0, 2: 2.0}[seed] for seed in seeds]


def test_a_draw_depends_on_its_key_and_not_on_the_threads():
    csc, seeds = CSC.of(uneven(make_graph())), torch.arange(60)
    one, many = NeighborSampler([3, 3], by_weight=True), NeighborSampler([3, 3], by_weight=True)
    many.num_threads = 3
    for key in range(3):
        a, b = one.draw(csc, seeds, key), pickle.loads(pickle.dumps(many)).draw(csc, seeds, key)
        for mine, other in zip(a.adjacencies, b.adjacencies, strict=True):
            assert torch.equal(mine.hop.positions, other.hop.positions)
    first, second = (one.draw(csc, seeds, key).adjacencies[0].hop.positions for key in (0, 1))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("name", ["replace", "by_weight"])
def test_bad_arguments_are_one_sentence(name):
    with pytest.raises(ValueError, match=f"{name}=1 has to be True or False"):
        NeighborSampler([3], **{name: 1})


def test_repr_names_what_differs_from_the_default():
    assert repr(NeighborSampler([3, 2])) == "NeighborSampler(fanouts=[3, 2])"
    assert repr(NeighborSampler([3], by_weight=True)) == "NeighborSampler(fanouts=[3], by_weight=True)"
