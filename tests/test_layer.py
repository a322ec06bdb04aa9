"""What a layer computes beside the three old sums: DGL's normalisations, extremes, and attention over given scores."""

import math

import pytest
import torch
from torch.nn import functional

from gnnscale._dgl import dgl
from gnnscale.adjacency import NORMS
from gnnscale.csc import CSC
from gnnscale.loader import DataLoader
from gnnscale.samplers import FullSampler, NeighborSampler, make_sampler
from gnnscale.samplers.full import whole_graph
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph


def whole(graph):
    (batch,) = DataLoader(graph, torch.arange(graph.num_nodes()), FullSampler())
    (layer,) = batch.layers(1)
    return layer


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_the_full_sum_is_the_product_with_the_normalised_matrix(norm, weighted):
    graph = make_graph(weighted=weighted)
    x = graph.ndata["feat"].double()
    torch.testing.assert_close(whole(graph).aggregate(x, norm), dense_normalised(graph, norm) @ x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("norm", "dgls"), [("both", "both"), ("left", "left"), ("mean", "right"), ("sum", "none")])
def test_norms_are_those_of_dgls_graphconv(odd_graph, norm, dgls):
    conv = dgl.nn.GraphConv(5, 4, norm=dgls, weight=False, bias=False, allow_zero_in_degree=True)
    x = odd_graph.ndata["feat"]
    torch.testing.assert_close(whole(odd_graph).aggregate(x, norm), conv(odd_graph, x), rtol=1e-5, atol=1e-5)


def test_a_norm_on_a_sample_has_the_whole_graphs_degrees(odd_graph):
    """Every edge drawn, one destination at a time: the sampled block's degrees would be others."""
    x = odd_graph.ndata["feat"]
    for norm in ("both", "in", "left"):
        exact = dense_normalised(odd_graph, norm).float() @ x
        for batch in DataLoader(odd_graph, torch.arange(0, 60, 7), NeighborSampler([-1]), batch_size=1):
            (layer,) = batch.layers(1)
            torch.testing.assert_close(layer.aggregate(batch.x, norm), exact[batch.output_nodes], rtol=1e-5, atol=1e-5)


def test_a_cluster_has_its_own_degrees_in_both_directions(odd_graph):
    sampler = make_sampler("cluster", num_layers=1, num_nodes=60, num_parts=4)
    for batch in DataLoader(odd_graph, torch.arange(60), sampler, batch_size=2):
        (layer,) = batch.layers(1)
        inside = dgl.node_subgraph(odd_graph, batch.input_nodes)
        for norm in ("both", "in", "left"):
            expected = dense_normalised(inside, norm).float() @ batch.x
            torch.testing.assert_close(layer.aggregate(batch.x, norm), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_extremes_and_their_gradients_are_those_of_brute_force(odd_graph, reduction):
    x = odd_graph.ndata["feat"].double().requires_grad_()
    out = whole(odd_graph).reduce(x, reduction)
    rows = []
    for node in range(60):
        neighbors = odd_graph.in_edges(node)[0]
        rows.append(getattr(x[neighbors], f"a{reduction}")(0) if len(neighbors) else 0 * x[node])
    expected, weight = torch.stack(rows), torch.randn(60, 5).double()
    torch.testing.assert_close(out, expected)
    for each in (out, expected):
        (gradient,) = torch.autograd.grad((each * weight).sum(), x)
        if each is out:
            mine = gradient
    torch.testing.assert_close(mine, gradient)


def test_attention_over_given_scores_is_dgls_softmax(odd_graph):
    scores, x = torch.randn(odd_graph.num_edges(), 2), torch.randn(60, 6)
    layer = whole(odd_graph)
    source, destination = layer.edges
    order = CSC.of(odd_graph).edge_ids  # the layer's edges are in the order of their destinations
    assert torch.equal(odd_graph.edges()[0][order], source.long())
    assert torch.equal(odd_graph.edges()[1][order], destination)
    shares = dgl.ops.edge_softmax(odd_graph, scores.unsqueeze(2))
    expected = dgl.ops.u_mul_e_sum(odd_graph, x.view(60, 2, 3), shares).flatten(1)
    torch.testing.assert_close(layer.attend_edges(x, scores[order]), expected, rtol=1e-5, atol=1e-5)


def test_a_weight_of_two_counts_as_two_parallel_edges():
    graph = dgl.graph(([0, 1, 1], [2, 2, 2]), num_nodes=3)
    merged = dgl.graph(([0, 1], [2, 2]), num_nodes=3)
    merged.edata["weight"] = torch.tensor([1.0, 2.0])
    x = torch.randn(3, 2)
    parallel, weighted = (first_layer(whole_graph(CSC.of(g))) for g in (graph, merged))
    scores = torch.tensor([[0.3], [1.2]])
    torch.testing.assert_close(parallel.attend_edges(x, scores[[0, 1, 1]]), weighted.attend_edges(x, scores))
    for norm in NORMS:
        torch.testing.assert_close(parallel.aggregate(x, norm), weighted.aggregate(x, norm))


def test_dropout_of_edges_leaves_the_own_row(odd_graph):
    layer, x = whole(odd_graph), odd_graph.ndata["feat"]
    nothing = layer.aggregate(x, "sym", dropout=torch.zeros_like)
    own = dense_normalised(odd_graph, "sym").diagonal().float().unsqueeze(1) * x
    # The odd graph has self-loops, which "sym" replaces; what is left is the own row alone.
    torch.testing.assert_close(nothing, own, rtol=1e-5, atol=1e-5)
    torch.manual_seed(0)
    mean = sum(layer.aggregate(x, "sum", dropout=lambda w: functional.dropout(w, 0.5)) for _ in range(4000)) / 4000
    exact = layer.aggregate(x, "sum")
    assert float((mean - exact).abs().max()) < 0.1 * float(exact.abs().max())


def test_facts_of_the_graph(odd_graph):
    (batch,) = DataLoader(odd_graph, torch.tensor([3, 9]), NeighborSampler([2]), batch_size=2)
    (layer,) = batch.layers(1)
    assert layer.num_nodes == 60
    assert layer.degree.tolist() == odd_graph.in_degrees()[[3, 9]].tolist()
    expected = sum(math.log(d + 1) for d in odd_graph.in_degrees().tolist()) / 60
    assert layer.mean_log_degree == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda layer, x: layer.reduce(x, "mean"), "reduction='mean' is not known; use 'max' or 'min'"),
        (lambda layer, x: layer.attend_edges(x, torch.zeros(7, 1)), r"it has to be \(400, heads\)"),
        (lambda layer, x: layer.attend_edges(x, torch.zeros(400, 2)), "x has 5 columns, which 2 heads cannot share"),
        (lambda layer, x: layer.aggregate(x, "rows"), "norm='rows' is not known; use one of 'sym', 'mean'"),
        (lambda layer, x: layer.reduce(x[:5], "max"), "reads 60 rows"),
    ],
)
def test_what_does_not_fit_is_one_sentence(odd_graph, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(whole(odd_graph), odd_graph.ndata["feat"])
