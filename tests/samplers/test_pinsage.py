"""Neighbourhoods by random walks, against enumeration of all walks and the PageRank matrix."""

import pickle
from collections import Counter

import pytest
import torch

import gnnscale as gs
from gnnscale import nn
from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.loader import DataLoader
from gnnscale.ops.random import key_of
from gnnscale.ops.walks import random_walks
from gnnscale.samplers.pinsage import PinSAGESampler, PPRSampler, ppr_shares
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph
from tests.ops.test_walks import personalised_pagerank, transitions

SAMPLERS = [PinSAGESampler, PPRSampler]


def dense_weights(sample):
    """W of the input layer, shape (num_dst, N), by global ids."""
    adjacency = sample.adjacencies[0]
    out = torch.zeros(adjacency.num_dst, int(sample.nodes.max()) + 61, dtype=torch.float64)
    columns = sample.nodes[adjacency.hop.indices.long()]
    out.index_put_((adjacency.destinations, columns), adjacency.replaced_weight.double(), accumulate=True)
    return out[:, :60]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("limit", [1, 3, -1])
def test_pinsage_keeps_the_most_visited_and_weighs_them_by_visits(weighted, limit):
    graph = make_graph(weighted=weighted)
    csc, seeds = CSC.of(graph), torch.tensor([5, 0, 59, 31, 2])
    sampler = PinSAGESampler([limit], num_walks=20, walk_length=3, stop=0.3)
    weights = dense_weights(sampler.draw(csc, seeds, key=4))
    walks = random_walks(csc, seeds.repeat_interleave(20), 3, key=key_of(4, 0, 0), stop=0.3).view(5, 20, 4)
    for row, seed in enumerate(seeds.tolist()):
        visits = Counter(walks[row, :, 1:].flatten().tolist())
        del visits[-1], visits[seed]
        kept = {node: visits[node] for node in weights[row].nonzero()[:, 0].tolist()}
        largest = sorted(visits.values(), reverse=True)[: None if limit == -1 else limit]
        assert sorted(kept.values(), reverse=True) == largest
        for node, count in kept.items():
            assert float(weights[row, node]) == pytest.approx(count / sum(largest))


def exact_shares(graph, stop):
    """E[W] of one walk of at most two steps, by enumeration of all of them; without the start itself."""
    P = transitions(graph)
    n = len(P)
    here = torch.eye(n, dtype=torch.float64)
    other = 1 - here
    expected = P * other * stop + P * other * (1 - stop) * (1 - P.sum(1))  # ended after one step
    for s in range(n):
        for u in range(n):
            both = P[s, u] * (1 - stop) * P[u]
            visits = here[u] + here  # row v: the counts of the walk s, u, v
            visits[:, s] = 0
            expected[s] += (both[:, None] * visits / visits.sum(1, keepdim=True).clamp(min=1)).sum(0)
    return expected


def mean_shares(graph, copies=2000):
    """The mean of W over copies of the graph beside each other, and its standard error."""
    csc, n = CSC.of(dgl.batch([graph] * copies)), graph.num_nodes()
    sampler = PinSAGESampler([-1], num_walks=1, walk_length=2, stop=0.4)
    sample = sampler.draw(csc, torch.arange(n * copies), key=0)
    (adjacency,) = sample.adjacencies
    pairs = adjacency.destinations % n * n + sample.nodes[adjacency.hop.indices.long()] % n
    weights = adjacency.replaced_weight.double()
    total, squares = (torch.zeros(n * n).double().index_add_(0, pairs, w).view(n, n) for w in (weights, weights**2))
    mean = total / copies
    return mean, ((squares / copies - mean.square()).clamp(min=1e-4) / copies).sqrt()


def test_the_expected_weights_are_those_of_all_walks_along_in_edges():
    graph = make_graph(20, 60, weighted=True)
    exact = exact_shares(graph, 0.4)
    mean, error = mean_shares(graph)
    assert ((mean - exact).abs() / error).max() < 5
    mean, error = mean_shares(dgl.reverse(graph, copy_edata=True))
    assert ((mean - exact).abs() / error).max() > 10


@pytest.mark.parametrize("weighted", [False, True])
def test_shares_of_ends_are_unbiased_for_personalised_pagerank(weighted):
    graph = make_graph(20, 90, weighted=weighted)
    exact = personalised_pagerank(graph, 0.15)
    rows, nodes, shares = ppr_shares(CSC.of(graph), torch.arange(20), num_walks=4000, stop=0.15, key=1)
    estimate = torch.zeros(20, 20, dtype=torch.float64).index_put_((rows, nodes), shares.double())
    error = (exact * (1 - exact) / 4000).clamp(min=1e-7).sqrt()
    assert ((estimate - exact).abs() / error).max() < 5
    wrong = personalised_pagerank(graph, 0.25)
    assert ((estimate - wrong).abs() / error).max() > 10


def test_ppr_keeps_the_largest_shares_but_for_its_own(odd_graph):
    csc, seeds = CSC.of(odd_graph), torch.tensor([7, 3, 59, 0])
    rows, nodes, shares = ppr_shares(csc, seeds, num_walks=100, stop=0.15, key=key_of(9, 0, 0))
    estimate = torch.zeros(4, 60, dtype=torch.float64).index_put_((rows, nodes), shares.double())
    estimate[range(4), seeds] = 0
    total = estimate.sum(1, keepdim=True).clamp(min=1e-9)
    everything = dense_weights(PPRSampler([-1], num_walks=100).draw(csc, seeds, key=9))
    torch.testing.assert_close(everything, estimate / total, rtol=1e-5, atol=1e-6)
    kept = dense_weights(PPRSampler([4], num_walks=100).draw(csc, seeds, key=9))
    largest = estimate.topk(4).values
    torch.testing.assert_close(
        kept.topk(4).values,
        largest / largest.sum(1, keepdim=True).clamp(min=1e-9),
        check_dtype=False,
        rtol=1e-5,
        atol=1e-6,
    )
    assert not bool((kept > 0)[estimate == 0].any())


@pytest.mark.parametrize("cls", SAMPLERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_each_norm_is_that_of_the_graph_of_weights(cls, weighted):
    graph = make_graph(weighted=weighted)  # with a node that has nothing but a loop:
    graph = dgl.add_edges(graph, [57], [57], {"weight": torch.ones(1)} if weighted else None)
    csc, seeds = CSC.of(graph), torch.tensor([57, 58, 5, 40, 0, 11])
    sample = cls([4]).draw(csc, seeds, key=2)
    layer, nodes = first_layer(sample), sample.nodes
    x = torch.randn(60, 3, dtype=torch.float64)
    W = dense_weights(sample)
    source, destination = graph.edges()
    connected = torch.zeros(60, dtype=torch.float64)
    connected[destination[source != destination]] = 1
    torch.testing.assert_close(W.sum(1), connected[seeds], rtol=1e-5, atol=1e-6)
    scale = (1 + connected).rsqrt()
    loops = torch.eye(60, dtype=torch.float64)[seeds]
    expected = {"mean": W @ x, "sum": W @ x, "sym": scale[seeds, None] * (W + loops) @ (scale[:, None] * x)}
    for norm, exact in expected.items():
        torch.testing.assert_close(layer.aggregate(x[nodes], norm), exact, rtol=1e-5, atol=1e-6)
    # Degrees of the graph that was given are not those of the weights: they fail the same check.
    wrong = (dense_normalised(graph, "sym") @ x)[seeds]
    assert (wrong - expected["sym"]).abs().max() > 0.1


@pytest.mark.parametrize("cls", SAMPLERS)
def test_nodes_of_each_layer_are_a_prefix(cls, odd_graph):
    csc, seeds = CSC.of(odd_graph), torch.tensor([9, 59, 1])
    sample = cls([2, 3, 1]).draw(csc, seeds, key=5)
    inner, middle, outer = sample.adjacencies
    assert (outer.num_dst, outer.num_src) == (3, middle.num_dst)
    assert (middle.num_src, inner.num_src) == (inner.num_dst, sample.nodes.numel())
    assert torch.equal(sample.output_nodes, seeds)
    assert sample.nodes.unique().numel() == sample.nodes.numel()
    for adjacency, limit in zip(sample.adjacencies, [2, 3, 1], strict=True):
        assert int(adjacency.hop.indptr.diff().max()) <= limit
        assert adjacency.hop.indices.dtype == torch.int32
        assert set(adjacency.hop.positions.tolist()) == {-1}


@pytest.mark.parametrize("cls", SAMPLERS)
def test_a_lonely_node_alone_gets_zeros_and_its_own_row(cls, odd_graph):
    layer = first_layer(cls([3]).draw(CSC.of(odd_graph), torch.tensor([59]), key=0))
    x = torch.tensor([[2.0]])
    assert (layer.num_src, layer.aggregate(x, "mean").item(), layer.aggregate(x, "sym").item()) == (1, 0.0, 2.0)


@pytest.mark.parametrize("cls", SAMPLERS)
def test_blocks_carry_the_weights(cls, odd_graph):
    input_nodes, _, blocks = cls([3, 3]).sample_blocks(odd_graph, torch.tensor([4, 59, 8]))
    assert [block.num_dst_nodes() for block in blocks] == [blocks[1].num_src_nodes(), 3]
    assert torch.equal(blocks[0].srcdata[dgl.NID], input_nodes)
    for block in blocks:
        total = torch.zeros(block.num_dst_nodes()).index_add_(0, block.edges()[1], block.edata["replaced_weight"])
        torch.testing.assert_close(total, block.dstdata["degree"])


@pytest.mark.parametrize("cls", SAMPLERS)
def test_batches_depend_on_the_seed_and_not_on_workers(cls, odd_graph):
    def logits(sampler, seed=3, **arguments):
        torch.manual_seed(0)
        model = nn.SAGE(5, 8, 3).eval()
        loader = DataLoader(odd_graph, torch.arange(60), sampler, batch_size=7, seed=seed, shuffle=True, **arguments)
        return torch.cat([model(batch, batch.x) for batch in loader])

    sampler = cls([2, 2])
    alone = logits(sampler)
    assert torch.equal(alone, logits(pickle.loads(pickle.dumps(sampler)), num_workers=2))
    assert not torch.equal(alone, logits(sampler, seed=4))


@pytest.mark.parametrize("cls", SAMPLERS)
@pytest.mark.parametrize("model_class", [nn.GCN, nn.SAGE])
def test_it_trains(cls, model_class):
    data = gs.load("synthetic", num_nodes=200, num_edges=2000, num_classes=3, signal=0.5, train_fraction=0.5)
    torch.manual_seed(0)
    model = model_class(data.num_features, 16, data.num_classes)
    result = gs.train(model, data, cls([5, 5]), epochs=6, batch_size=25)
    assert result.points[-1].loss < 0.9 * result.points[0].loss
    assert result.best.val > 0.75


def test_wrong_arguments_get_a_sentence(odd_graph):
    for cls in SAMPLERS:
        for wrong in ([], "10", 5, [0], [2.0], [True]):
            with pytest.raises(ValueError, match=r"num_neighbors=.* has to be a list with one number of neighbours"):
                cls(wrong)
        with pytest.raises(ValueError, match="num_walks=0 has to be a positive integer"):
            cls([2], num_walks=0)
        with pytest.raises(ValueError, match="seeds holds node 4 more than once"):
            cls([2]).draw(CSC.of(odd_graph), torch.tensor([4, 4]), 0)
    with pytest.raises(ValueError, match=r"walk_length=1\.5 has to be a positive integer"):
        PinSAGESampler([2], walk_length=1.5)
    with pytest.raises(ValueError, match="stop=2 has to be a probability, 0 to 1"):
        PinSAGESampler([2], stop=2)
    with pytest.raises(ValueError, match="stop=1 has to be more than 0 and less than 1"):
        PPRSampler([2], stop=1)
