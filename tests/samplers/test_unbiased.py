"""Estimates of samplers against brute force: unbiased ones pass, deliberately wrong ones fail the same check."""

import pytest
import torch

from gnnscale._dgl import dgl
from gnnscale.adjacency import NORMS, Adjacency
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.loader import DataLoader
from gnnscale.samplers import NeighborSampler, Sample
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph

DRAWS = 1000


def largest_z(sampler, graph, norm, seeds):
    """The largest standardised deviation of the mean of one layer's estimate from the exact sum."""
    csc, features = CSC.of(graph), graph.ndata["feat"].double()
    exact = (dense_normalised(graph, norm) @ features)[seeds]
    total, squares = torch.zeros_like(exact), torch.zeros_like(exact)
    for key in range(DRAWS):
        sample = sampler.draw(csc, seeds, key)
        layer = first_layer(sample)
        estimate = layer.aggregate(features[sample.nodes].float(), norm).double() - exact
        total += estimate
        squares += estimate.square()
    mean = total / DRAWS
    error = ((squares / DRAWS - mean.square()).clamp(min=0) / DRAWS).sqrt()
    return (mean.abs() / (error + 1e-6)).max().item()


class NoImportance(NeighborSampler):
    """Drops the importance: sums over whatever was drawn."""

    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        return Sample(sample.nodes, [Adjacency(a.hop, a.num_src, csc, sample.nodes) for a in sample.adjacencies])


class SampleDegrees(NoImportance):
    """Normalises by the degrees of the sample, as unmodified modules on blocks do."""

    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        (adjacency,) = sample.adjacencies
        degree = torch.zeros(adjacency.num_src)
        degree[: adjacency.num_dst] = adjacency.hop.indptr.diff().float()
        return Sample(sample.nodes, [Adjacency(adjacency.hop, adjacency.num_src, csc, sample.nodes, degree=degree)])


class FirstNeighbors(NeighborSampler):
    """Takes the first k neighbours and not k random ones."""

    def draw(self, csc, seeds, key):
        return super().draw(csc, seeds, key=0)


@pytest.mark.parametrize(
    ("norm", "weighted", "replace"),
    [*((norm, weighted, False) for norm in NORMS for weighted in (False, True)), ("sym", True, True)],
)
def test_neighbor_sampling_is_unbiased(norm, weighted, replace):
    graph = make_graph(weighted=weighted)
    seeds = torch.arange(graph.num_nodes()).flip(0)
    assert largest_z(NeighborSampler([3], replace=replace), graph, norm, seeds) < 5


@pytest.mark.parametrize(
    ("broken", "norm"),
    [(NoImportance, "sym"), (NoImportance, "sum"), (SampleDegrees, "sym"), (FirstNeighbors, "mean")],
)
def test_wrong_estimators_fail_the_same_check(broken, norm):
    graph = make_graph()
    assert largest_z(broken([3]), graph, norm, torch.arange(graph.num_nodes())) > 10


def test_two_layers_are_unbiased_for_a_linear_model():
    graph = make_graph(num_nodes=20, num_edges=120)
    csc, features, seeds = CSC.of(graph), graph.ndata["feat"], torch.arange(20)
    dense = dense_normalised(graph, "sym")
    exact = dense @ dense @ features.double()
    sampler, estimates = NeighborSampler([2, 2]), []
    for key in range(DRAWS):
        sample = sampler.draw(csc, seeds, key)
        x = features[sample.nodes]
        for index, adjacency in enumerate(sample.adjacencies):
            x = Layer(index, adjacency, None).aggregate(x, "sym")
        estimates.append(x.double())
    stacked = torch.stack(estimates)
    z = (stacked.mean(0) - exact).abs() / (stacked.std(0) / DRAWS**0.5 + 1e-6)
    assert z.max() < 5


def test_all_neighbors_are_exact(odd_graph):
    csc = CSC.of(odd_graph)
    sample = NeighborSampler([-1]).draw(csc, torch.tensor([7, 3, 59, 0]), key=1)
    out = first_layer(sample).aggregate(odd_graph.ndata["feat"][sample.nodes], "sym")
    exact = (dense_normalised(odd_graph, "sym") @ odd_graph.ndata["feat"].double())[[7, 3, 59, 0]]
    torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-5)


def test_edge_direction_matters():
    """An edge u → v carries u's row to v."""
    graph = dgl.graph(([0], [1]), num_nodes=2)
    csc = CSC.of(graph)
    sample = NeighborSampler([1]).draw(csc, torch.tensor([0, 1]), key=0)
    x = torch.tensor([[1.0], [10.0]])
    assert first_layer(sample).aggregate(x, "sum").tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(
    "sampler",
    [dgl.dataloading.NeighborSampler([3]), dgl.dataloading.LaborSampler([3])],
    ids=lambda sampler: type(sampler).__name__,
)
def test_samplers_of_dgl_are_read_as_the_uniform_samples_that_they_draw(sampler):
    """Columns of the graph under the names of a sampler's columns change nothing."""
    graph = make_graph(odd=False)
    exact = dense_normalised(graph, "mean") @ graph.ndata["feat"].double()
    graph.ndata["degree"] = torch.full((60,), 7.0)
    graph.edata["importance"] = torch.full((graph.num_edges(),), 7.0)
    estimates = []
    for seed in range(400):
        (batch,) = DataLoader(graph, torch.arange(60), sampler, batch_size=60, seed=seed)
        estimates.append(batch.layers(1)[0].aggregate(batch.x, "mean").double())
    stacked = torch.stack(estimates)
    # LABOR draws a random number of edges, sometimes none, so its ratio estimate is a little too small.
    assert (stacked.mean(0) - exact).norm() < 0.1 * exact.norm()
    if isinstance(sampler, dgl.dataloading.NeighborSampler):
        z = (stacked.mean(0) - exact).abs() / (stacked.std(0) / 400**0.5 + 1e-6)
        assert z.max() < 5


def test_labor_draws_the_same_for_the_same_seed():
    graph, sampler = make_graph(), dgl.dataloading.LaborSampler([3])

    def nodes(seed):
        return [
            sorted(batch.input_nodes.tolist())
            for batch in DataLoader(graph, torch.arange(60), sampler, batch_size=8, seed=seed)
        ]

    assert nodes(1) == nodes(1) != nodes(2)


def test_edges_that_weigh_nothing_give_zeros():
    graph = dgl.graph(([1, 2], [0, 0]), num_nodes=3)
    graph.edata["weight"] = torch.zeros(2)
    sample = NeighborSampler([-1]).draw(CSC.of(graph), torch.tensor([0]), key=0)
    out = first_layer(sample).aggregate(torch.ones(3, 1), "mean")
    assert out.tolist() == [[0.0]]
