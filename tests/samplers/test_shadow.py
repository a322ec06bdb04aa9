"""Subgraphs of roots: who is in them, and that nothing flows between them."""

import pickle

import pytest
import torch

import gnnscale as gs
from gnnscale import nn
from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.csc import CSC
from gnnscale.layer import Layer
from gnnscale.loader import DataLoader
from gnnscale.ops.random import key_of
from gnnscale.samplers import Sample
from gnnscale.samplers.cluster import inside_degree
from gnnscale.samplers.edges import induced
from gnnscale.samplers.pinsage import ppr_shares
from gnnscale.samplers.shadow import ShaDowPPRSampler, ShaDowSampler
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import make_graph

ROOTS = torch.tensor([7, 3, 59, 0, 12, 4])
SAMPLERS = [ShaDowSampler(2, 2), ShaDowPPRSampler(8, num_walks=50)]


def members(sampler, csc, roots, key):
    """The nodes of each root's subgraph, the root first."""
    owners, nodes = sampler.scope(csc, roots, key)
    return [nodes[owners == row] for row in range(roots.numel())]


def outputs(sample, x, norm, num_layers):
    """What a linear model computes for the roots."""
    x = x[sample.nodes]
    for index, adjacency in enumerate(sample.spread(num_layers)):
        x = Layer(index, adjacency, None).aggregate(x, norm)
    return x


def exact_outputs(graph, sampler, norm, num_layers, key):
    """The same, one root at a time, from the definition."""
    rows = []
    for nodes in members(sampler, CSC.of(graph), ROOTS, key):
        dense = dense_normalised(dgl.node_subgraph(graph, nodes), norm)
        x = graph.ndata["feat"][nodes].double()
        rows.append((torch.linalg.matrix_power(dense, num_layers) @ x)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("norm", ["sym", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_each_root_gets_what_its_own_subgraph_computes(sampler, norm, weighted):
    graph = make_graph(weighted=weighted)
    x = graph.ndata["feat"].double()
    for num_layers in (1, 2, 3, 5):
        sample = sampler.draw(CSC.of(graph), ROOTS, key=3)
        exact = exact_outputs(graph, sampler, norm, num_layers, key=3)
        torch.testing.assert_close(outputs(sample, x, norm, num_layers), exact, rtol=1e-4, atol=1e-4)


class OneSubgraph(ShaDowSampler):
    """Throws all roots' nodes together, as DGL's ShaDowKHopSampler does: messages flow between roots."""

    def draw(self, csc, seeds, key):
        _, nodes = self.scope(csc, seeds, key)
        nodes = torch.cat([seeds, nodes[~torch.isin(nodes, seeds)].unique()])
        hop = induced(csc, nodes)
        inner = Adjacency(hop, nodes.numel(), csc, nodes, degree=inside_degree(csc, hop))
        return Sample(nodes, [inner], repeats=True)


class WholeDegrees(ShaDowSampler):
    """Normalises by the degrees of the whole graph."""

    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        n = sample.nodes.numel()
        return Sample(sample.nodes, [Adjacency(a.hop, n, csc, sample.nodes) for a in sample.adjacencies], repeats=True)


@pytest.mark.parametrize("broken", [OneSubgraph, WholeDegrees])
def test_wrong_subgraphs_fail_the_same_check(broken, odd_graph):
    sampler = broken(2, 2)
    sample = sampler.draw(CSC.of(odd_graph), ROOTS, key=3)
    wrong = outputs(sample, odd_graph.ndata["feat"].double(), "sym", 2)[: ROOTS.numel()]
    exact = exact_outputs(odd_graph, sampler, "sym", 2, key=3)
    assert (wrong - exact).abs().max() > 0.05


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_with_all_neighbors_the_members_are_those_within_so_many_hops(depth):
    graph = make_graph(80, 130)
    sources, destinations = (end.tolist() for end in graph.edges())
    for root, nodes in zip(ROOTS.tolist(), members(ShaDowSampler(depth, -1), CSC.of(graph), ROOTS, 0), strict=True):
        reach = {root}
        for _ in range(depth):
            reach |= {u for u, v in zip(sources, destinations, strict=True) if v in reach}
        assert nodes[0] == root
        assert sorted(nodes.tolist()) == sorted(reach)


def test_neighbors_are_drawn_uniformly_for_each_root_and_key():
    star = dgl.graph((torch.arange(1, 7), torch.zeros(6).long()), num_nodes=7)
    csc, sampler = CSC.of(star), ShaDowSampler(1, 2)
    chosen = torch.zeros(600, 7)
    for key in range(600):
        _, nodes = sampler.scope(csc, torch.tensor([0]), key)
        chosen[key, nodes] = 1
    assert chosen.sum(1).tolist() == [3.0] * 600  # the root and two neighbours
    assert (chosen[:, 1:].mean(0) - 1 / 3).abs().max() < 5 * (2 / 9 / 600) ** 0.5
    # Two roots that meet at a node draw its neighbours each on its own.
    fork = dgl.graph((torch.tensor([*range(1, 7), 0, 0]), torch.tensor([0] * 6 + [7, 8])), num_nodes=9)
    same = 0
    for key in range(200):
        one, other = members(ShaDowSampler(2, 2), CSC.of(fork), torch.tensor([7, 8]), key)
        same += set(one[1:].tolist()) == set(other[1:].tolist())
    assert 0 < same < 40  # of 200; 1 in 15 by chance


def test_a_subgraph_does_not_depend_on_the_other_roots(odd_graph):
    csc, sampler = CSC.of(odd_graph), ShaDowSampler(2, 3)
    together = members(sampler, csc, ROOTS, key=5)
    for root, nodes in zip(ROOTS, together, strict=True):
        (alone,) = members(sampler, csc, root.view(1), key=5)
        assert torch.equal(alone, nodes)
    assert not all(torch.equal(a, b) for a, b in zip(together, members(sampler, csc, ROOTS, key=6), strict=True))


def test_ppr_takes_the_nodes_with_the_largest_scores(odd_graph):
    csc = CSC.of(odd_graph)
    rows, nodes, shares = ppr_shares(csc, ROOTS, num_walks=100, stop=0.15, key=key_of(2, 0))
    scores = torch.zeros(6, 60).index_put_((rows, nodes), shares)
    scores[range(6), ROOTS] = 0
    for row, kept in enumerate(members(ShaDowPPRSampler(5, num_walks=100), csc, ROOTS, key=2)):
        assert kept[0] == ROOTS[row]
        others = kept[1:]
        assert others.unique().numel() == others.numel() == min(5, int((scores[row] > 0).sum()))
        assert (
            scores[row, others].sort(descending=True).values.tolist()
            == scores[row].topk(others.numel()).values.tolist()
        )


def test_roots_come_first_and_the_last_layer_computes_them_alone(odd_graph):
    for sampler in SAMPLERS:
        sample = sampler.draw(CSC.of(odd_graph), ROOTS, key=1)
        inner, last = sample.adjacencies
        assert torch.equal(sample.output_nodes, ROOTS)
        assert (inner.num_dst, inner.num_src) == (sample.nodes.numel(), sample.nodes.numel())
        assert (last.num_dst, last.num_src) == (6, sample.nodes.numel())
        csc = CSC.of(odd_graph)
        assert torch.equal(csc.indices[inner.hop.positions].long(), sample.nodes[inner.hop.indices.long()])


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_a_lonely_root_alone_is_its_own_subgraph(sampler, odd_graph):
    sample = sampler.draw(CSC.of(odd_graph), torch.tensor([59]), key=0)
    x = torch.full((60, 1), 2.0)
    assert sample.nodes.tolist() == [59]
    assert [outputs(sample, x, norm, 2).item() for norm in ("mean", "sym")] == [0.0, 2.0]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_batches_depend_on_the_seed_and_not_on_workers(sampler, odd_graph):
    def logits(sampler, seed=3, **arguments):
        torch.manual_seed(0)
        model = nn.SAGE(5, 8, 3, num_layers=3).eval()
        loader = DataLoader(odd_graph, torch.arange(60), sampler, batch_size=7, seed=seed, shuffle=True, **arguments)
        return torch.cat([model(batch, batch.x) for batch in loader])

    alone = logits(sampler)
    assert torch.equal(alone, logits(pickle.loads(pickle.dumps(sampler)), num_workers=2))
    assert not torch.equal(alone, logits(sampler, seed=4))


@pytest.mark.parametrize("model_class", [nn.GCN, nn.SAGE])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_it_trains(sampler, model_class):
    data = gs.load("synthetic", num_nodes=200, num_edges=2000, num_classes=3, signal=0.5, train_fraction=0.5)
    torch.manual_seed(0)
    model = model_class(data.num_features, 16, data.num_classes, num_layers=3, dropout=0.2)
    result = gs.train(model, data, sampler, epochs=6, batch_size=25)
    assert result.points[-1].loss < 0.9 * result.points[0].loss
    assert result.best.val > 0.75


def test_blocks_come_out_for_the_depth_that_was_named(odd_graph):
    nodes, roots, blocks = ShaDowSampler(2, 2, num_layers=3).sample_blocks(odd_graph, ROOTS)
    assert torch.equal(roots, ROOTS)
    assert [block.num_dst_nodes() for block in blocks] == [nodes.numel(), nodes.numel(), 6]


def test_wrong_arguments_get_a_sentence():
    for make, sentence in [
        (lambda: ShaDowSampler(0), "depth=0 has to be a positive integer"),
        (lambda: ShaDowSampler(2, 0), "num_neighbors=0 has to be a positive integer, or -1 for all neighbours"),
        (lambda: ShaDowSampler(2, True), "num_neighbors=True has to be"),
        (lambda: ShaDowSampler(num_layers=0), "num_layers=0 has to be a positive integer, or left out"),
        (lambda: ShaDowPPRSampler(-1), "num_neighbors=-1 has to be a positive integer"),
        (lambda: ShaDowPPRSampler(num_walks=1.0), r"num_walks=1\.0 has to be a positive integer"),
        (lambda: ShaDowPPRSampler(stop=0), "stop=0 has to be more than 0 and less than 1"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            make()
