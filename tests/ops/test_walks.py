"""Random walks against the transition matrix, and wrong ones that fail the same checks."""

from dataclasses import replace

import pytest
import torch

from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.ops import walks as walks_module
from gnnscale.ops._backend import native
from gnnscale.ops.walks import random_walks, walk_ends
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import make_graph

WALKS = 4000


def transitions(graph):
    """P_vu: the probability of a step from v to its in-neighbour u; rows of nodes without in-edges are zero."""
    return dense_normalised(graph, "mean")


def distribution(nodes, num_nodes):
    """Shape (S, N): how often each node is in each row of `nodes`; -1 is nothing."""
    counts = torch.zeros(nodes.shape[0], num_nodes + 1, dtype=torch.float64)
    counts.scatter_add_(1, nodes % (num_nodes + 1), torch.ones_like(nodes, dtype=torch.float64))
    return counts[:, :-1] / nodes.shape[1]


def largest_z(shares, probability, draws=WALKS):
    error = (probability * (1 - probability) / draws).clamp(min=1e-7).sqrt()
    return float(((shares - probability).abs() / error).max())


def starts_of(graph, walks=WALKS):
    return torch.arange(graph.num_nodes()).repeat_interleave(walks)


def steps(graph, length, csc=None, **arguments):
    """Shape (N, WALKS, length + 1): walks from every node."""
    walks = random_walks(csc or CSC.of(graph), starts_of(graph), length, key=3, **arguments)
    return walks.view(graph.num_nodes(), WALKS, length + 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_step_follows_the_transition_matrix(weighted):
    graph = make_graph(20, 90, weighted=weighted)
    walks, power = steps(graph, 3), torch.eye(20, dtype=torch.float64)
    for t in range(4):
        # Walks that ended are missing from the shares, as they are from the powers of P.
        assert largest_z(distribution(walks[:, :, t], 20), power) < 5
        power = power @ transitions(graph)


def test_walks_along_out_edges_or_without_weights_fail_the_same_check():
    graph = make_graph(20, 90, weighted=True)
    out_edges = CSC.of(dgl.reverse(graph, copy_edata=True))
    assert largest_z(distribution(steps(graph, 1, out_edges)[:, :, 1], 20), transitions(graph)) > 10
    unweighted = CSC.of(dgl.graph(graph.edges(), num_nodes=20))
    assert largest_z(distribution(steps(graph, 1, unweighted)[:, :, 1], 20), transitions(graph)) > 10


def test_steps_of_a_walk_are_independent():
    graph = make_graph(20, 90)
    walks, P = steps(graph, 2), transitions(graph)
    pairs = torch.where(walks[:, :, 2] < 0, -1, walks[:, :, 1] * 20 + walks[:, :, 2])
    together = distribution(pairs, 400).view(20, 20, 20)
    assert largest_z(together, P[:, :, None] * P[None]) < 5.5  # of 8000 triples


def test_walks_stop_after_a_step_with_the_probability_asked_for():
    ring = dgl.graph((torch.arange(5), (torch.arange(5) + 1) % 5))
    lengths = (random_walks(CSC.of(ring), torch.zeros(20_000).long(), 4, key=0, stop=0.3) >= 0).sum(1) - 1
    expected = torch.tensor([0, 0.3, 0.7 * 0.3, 0.7**2 * 0.3, 0.7**3]).double()
    assert largest_z(torch.bincount(lengths, minlength=5) / 20_000, expected, 20_000) < 5
    assert (random_walks(CSC.of(ring), torch.zeros(9).long(), 3, key=0, stop=1.0)[:, 2:] == -1).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_walk_goes_along_edges_and_ends_where_there_are_none(weighted):
    graph = make_graph(weighted=weighted)
    in_degree = graph.in_degrees()
    walks = random_walks(CSC.of(graph), torch.arange(60).repeat(20), 6, key=1)
    before, after = walks[:, :-1].flatten(), walks[:, 1:].flatten()
    assert bool(graph.has_edges_between(after[after >= 0], before[after >= 0]).all())
    assert torch.equal(after < 0, (before < 0) | (in_degree[before] == 0))


def personalised_pagerank(graph, stop):
    P = transitions(graph)
    P[range(len(P)), range(len(P))] += (P.sum(1) == 0).double()  # stay where no step leads away
    return stop * torch.linalg.inv(torch.eye(len(P)).double() - (1 - stop) * P)


@pytest.mark.parametrize("weighted", [False, True])
def test_ends_are_distributed_by_personalised_pagerank(weighted):
    graph = make_graph(20, 90, weighted=weighted)
    ends = walk_ends(CSC.of(graph), starts_of(graph), key=5, stop=0.2).view(20, WALKS)
    exact = personalised_pagerank(graph, 0.2)
    assert largest_z(distribution(ends, 20), exact) < 5
    # A walk that always takes its first step is another distribution, and so is one of ten steps at most.
    late = random_walks(CSC.of(graph), starts_of(graph), 10, key=5, stop=0.2).view(20, WALKS, 11)
    last = late.gather(2, ((late >= 0).sum(2, keepdim=True) - 1)).squeeze(2)
    assert largest_z(distribution(last, 20), exact) > 10


@pytest.mark.parametrize("weighted", [False, True])
def test_a_walk_depends_on_the_key_and_its_number_alone(weighted):
    graph = make_graph(odd=False, weighted=weighted)
    csc, starts = CSC.of(graph), torch.arange(60).repeat(5)
    walks, ends = random_walks(csc, starts, 5, key=7), walk_ends(csc, starts, key=7, stop=0.3)
    assert torch.equal(random_walks(csc, starts[:17], 3, key=7), walks[:17, :4])
    assert torch.equal(walk_ends(csc, starts[:17], key=7, stop=0.3), ends[:17])
    changed = starts.roll(1)
    changed[40:50] = starts[40:50]
    assert torch.equal(random_walks(csc, changed, 5, key=7)[40:50], walks[40:50])
    assert not torch.equal(random_walks(csc, starts, 5, key=8), walks)


def test_edges_that_weigh_nothing_are_not_taken():
    graph = dgl.graph(([1, 2, 3, 1, 0], [0, 0, 0, 2, 3]), num_nodes=4)
    graph.edata["weight"] = torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0])
    walks = random_walks(CSC.of(graph), torch.zeros(500).long(), 2, key=0)
    assert walks.unique(dim=0).tolist() == [[0, 2, -1]]  # all in-edges of 2 weigh nothing


def test_walks_follow_weights_that_were_changed_in_place():
    graph = dgl.graph(([1, 2], [0, 0]), num_nodes=3)
    graph.edata["weight"] = torch.tensor([1.0, 0.0])
    assert random_walks(CSC.of(graph), torch.zeros(9).long(), 1, key=0)[:, 1].tolist() == [1] * 9
    graph.edata["weight"] -= torch.tensor([1.0, -1.0])
    assert random_walks(CSC.of(graph), torch.zeros(9).long(), 1, key=0)[:, 1].tolist() == [2] * 9


def test_a_light_row_behind_a_heavy_one_is_walked_within_it():
    """Sums over all edges are too coarse here to tell the row's edges apart, and lead nowhere else all the same."""
    graph = dgl.graph(([1, 0, 2, 0], [0, 1, 1, 2]), num_nodes=3)
    graph.edata["weight"] = torch.tensor([1e15, 0.2, 0.2, 1e15])
    after = random_walks(CSC.of(graph), torch.ones(200).long(), 1, key=0)[:, 1]
    assert set(after.tolist()) <= {0, 2}


def test_no_walks_and_no_steps():
    csc = CSC.of(make_graph())
    assert random_walks(csc, torch.empty(0).long(), 3, key=0).shape == (0, 4)
    assert random_walks(csc, torch.tensor([4, 9]), 0, key=0).tolist() == [[4], [9]]
    assert walk_ends(csc, torch.empty(0).long(), key=0, stop=0.1).shape == (0,)
    edgeless = CSC.of(dgl.graph(([], []), num_nodes=2))
    assert random_walks(edgeless, torch.tensor([1]), 2, key=0).tolist() == [[1, -1, -1]]
    assert walk_ends(edgeless, torch.tensor([1]), key=0, stop=0.1).tolist() == [1]


def test_wrong_arguments_get_a_sentence():
    graph = make_graph(weighted=True)
    csc, starts = CSC.of(graph), torch.tensor([0, 1])
    for error, sentence, changes in [
        (ValueError, "starts holds 60; node ids of this graph are 0 to 59", {"starts": torch.tensor([60])}),
        (ValueError, "starts holds -1", {"starts": torch.tensor([3, -1])}),
        (TypeError, "starts must be int64; got float32", {"starts": torch.ones(2)}),
        (ValueError, "length is -2", {"length": -2}),
        (ValueError, r"stop is 1.5; a probability lies in \[0, 1\]", {"stop": 1.5}),
    ]:
        with pytest.raises(error, match=sentence):
            random_walks(**({"csc": csc, "starts": starts, "length": 2, "key": 0} | changes))
    with pytest.raises(ValueError, match="stop is 0; it has to be more than 0"):
        walk_ends(csc, starts, key=0, stop=0)


@pytest.mark.skipif(native is None, reason="there is no native part to compare")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
def test_native_walks_are_those_of_the_reference(weighted, index_dtype, monkeypatch):
    """Bit for bit, whatever the number of threads; enough walks for several groups and threads."""
    graph = make_graph(weighted=weighted)
    if weighted:
        graph.edata["weight"][::7] = 0
    csc = replace(CSC.of(graph), indices=CSC.of(graph).indices.to(index_dtype))
    starts = torch.randint(60, (10_000,), generator=torch.Generator().manual_seed(1))

    def walks(num_threads):
        return (
            random_walks(csc, starts, 6, key=2**63 + 5, num_threads=num_threads),
            random_walks(csc, starts, 4, key=7, stop=0.3, num_threads=num_threads),
            walk_ends(csc, starts, key=9, stop=0.2, num_threads=num_threads),
        )

    one, three = walks(1), walks(3)
    monkeypatch.setattr(walks_module, "native", None)
    for a, b, c in zip(one, three, walks(1), strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, c)
