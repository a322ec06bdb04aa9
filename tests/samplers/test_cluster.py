import pytest
import torch

from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.loader import DataLoader
from gnnscale.samplers import ClusterGCNSampler, GASSampler
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_batch_is_the_induced_subgraph_of_its_clusters_normalised_there(weighted):
    graph = make_graph(weighted=weighted)
    sampler = ClusterGCNSampler(num_parts=6, partition="random")
    sampler.prepare(graph, torch.arange(60), 1)
    parts = torch.tensor([4, 1, 2])
    sample = sampler.draw(CSC.of(graph), parts, key=0)
    subgraph = dgl.node_subgraph(graph, sample.nodes)
    for norm in ("sym", "mean", "sum"):
        x = graph.ndata["feat"][sample.nodes]
        out = first_layer(sample).aggregate(x, norm)
        torch.testing.assert_close(out.double(), dense_normalised(subgraph, norm) @ x.double(), rtol=1e-5, atol=1e-5)


def test_edges_between_clusters_of_one_batch_are_kept(odd_graph):
    sampler = ClusterGCNSampler(num_parts=6)
    sampler.prepare(odd_graph, torch.arange(60), 1)
    csc = CSC.of(odd_graph)
    apart = sum(sampler.draw(csc, torch.tensor([part]), 0).adjacencies[0].hop.indices.numel() for part in range(6))
    together = sampler.draw(csc, torch.arange(6), 0).adjacencies[0].hop.indices.numel()
    assert together == odd_graph.num_edges()
    assert apart < together


def test_every_node_is_in_one_batch_of_an_epoch(odd_graph):
    loader = DataLoader(odd_graph, torch.arange(60), ClusterGCNSampler(num_parts=7), batch_size=2, shuffle=True)
    assert torch.cat([batch.output_nodes for batch in loader]).sort().values.tolist() == list(range(60))


@pytest.mark.parametrize("sampler", [ClusterGCNSampler, GASSampler])
def test_a_batch_without_a_training_node_is_left_out(odd_graph, sampler):
    loader = DataLoader(odd_graph, torch.tensor([5]), sampler(num_parts=6, partition="random"), batch_size=1)
    batches = list(loader)
    assert len(batches) == len(loader) == 1
    assert batches[0].output_nodes[batches[0].targets].tolist() == [5]


def test_the_loss_is_that_of_the_training_nodes(odd_graph):
    train = torch.arange(0, 60, 2)
    (batch,) = DataLoader(odd_graph, train, ClusterGCNSampler(num_parts=3), batch_size=3)
    logits = torch.randn(60, 3)
    mine = torch.isin(batch.output_nodes, train)
    expected = torch.nn.functional.cross_entropy(logits[mine], odd_graph.ndata["label"][batch.output_nodes[mine]])
    torch.testing.assert_close(batch.loss(logits), expected)


def test_parts_that_do_not_exist_are_refused(odd_graph):
    with pytest.raises(ValueError, match="are parts, 0 to 5; got values from 9 to 9"):
        ClusterGCNSampler(num_parts=6, num_layers=1).sample_blocks(odd_graph, torch.tensor([9]))


def dense_enhanced(graph, norm, diagonal):
    """Ã + λ diag(Ã) with Ã the normalised A + I, as a dense (N, N) float64 matrix, written from the definition."""
    looped = dense_normalised(graph, "sum").fill_diagonal_(1.0)
    degree = looped.sum(1, keepdim=True)
    looped = {"sum": looped, "mean": looped / degree, "sym": looped / degree.sqrt() / degree.sqrt().T}[norm]
    return looped + diagonal * torch.diag(looped.diagonal())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("diag_lambda", [0, 1, 0.3])
def test_diagonal_enhancement_against_dense_matrices(weighted, diag_lambda):
    """Self-loops, duplicate edges and isolated nodes are in the graph."""
    graph = make_graph(weighted=weighted)
    sampler = ClusterGCNSampler(num_parts=3, partition="random", diag_lambda=diag_lambda)
    sampler.prepare(graph, torch.arange(60), 1)
    sample = sampler.draw(CSC.of(graph), torch.tensor([2, 0]), key=0)
    subgraph = dgl.node_subgraph(graph, sample.nodes)
    x = graph.ndata["feat"][sample.nodes]
    for norm in ("sym", "mean", "sum"):
        out = first_layer(sample).aggregate(x, norm)
        exact = dense_enhanced(subgraph, norm, diag_lambda) @ x.double()
        torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-5)


def test_diagonal_enhancement_changes_every_norm_but_without_lambda_none():
    graph, parts = make_graph(), torch.arange(3)
    outs = {}
    for diag_lambda in (None, 0, 1):
        sampler = ClusterGCNSampler(num_parts=3, partition="random", diag_lambda=diag_lambda)
        sampler.prepare(graph, torch.arange(60), 1)
        layer = first_layer(sampler.draw(CSC.of(graph), parts, key=0))
        outs[diag_lambda] = [layer.aggregate(torch.ones(60, 1), norm) for norm in ("sym", "mean", "sum")]
    for plain, looped, enhanced, norm in zip(*outs.values(), ("sym", "mean", "sum"), strict=True):
        assert torch.equal(plain, looped) == (norm == "sym")
        assert (enhanced > looped).all()


@pytest.mark.parametrize("diag_lambda", [-1, float("nan"), float("inf"), True, "1"])
def test_a_bad_lambda_is_one_sentence(diag_lambda):
    with pytest.raises(ValueError, match=f"^diag_lambda={diag_lambda!r} has to be a number of at least 0, or left out"):
        ClusterGCNSampler(diag_lambda=diag_lambda)


def test_its_name_says_what_is_special():
    assert repr(ClusterGCNSampler(8)) == "ClusterGCNSampler(num_parts=8)"
    assert repr(ClusterGCNSampler(8, partition="random", diag_lambda=1)) == (
        "ClusterGCNSampler(num_parts=8, partition='random', diag_lambda=1)"
    )


@pytest.mark.parametrize("sampler", [ClusterGCNSampler, GASSampler])
@pytest.mark.parametrize(("batch_size", "shuffle"), [(1, True), (6, True), (2, False)])
def test_batches_that_come_again_are_kept_and_the_same(odd_graph, sampler, batch_size, shuffle):
    def epochs(kept_bytes):
        made = sampler(num_parts=6, partition="random")
        made.kept_bytes = kept_bytes
        loader = DataLoader(odd_graph, torch.arange(60), made, batch_size=batch_size, shuffle=shuffle)
        return [[batch.sample for batch in loader] for _ in range(2)]

    first, second = epochs(2**20)
    assert {id(sample.adjacencies[0]) for sample in first} == {id(sample.adjacencies[0]) for sample in second}
    for epoch, anew in zip((first, second), epochs(0), strict=True):
        for sample, fresh in zip(epoch, anew, strict=True):
            assert sample.adjacencies[0] is not fresh.adjacencies[0]
            assert torch.equal(sample.nodes, fresh.nodes)
            for mine, theirs in zip(sample.adjacencies[0].hop, fresh.adjacencies[0].hop, strict=True):
                assert torch.equal(mine, theirs)


def test_what_is_kept_is_bounded_and_forgotten_with_the_batch_size(odd_graph):
    sampler = ClusterGCNSampler(num_parts=6, partition="random")

    def epoch(**arguments):
        loader = DataLoader(odd_graph, torch.arange(60), sampler, **arguments)
        return [batch.sample.adjacencies[0] for batch in loader]

    sampler.kept_bytes = sum(40 * (adjacency.hop.indices.numel() + 10) for adjacency in epoch(batch_size=1)[:2])
    (kept,) = CSC.of(odd_graph).kept.values()
    assert len(kept) == 6
    assert len(epoch(batch_size=2, shuffle=True)) == 3
    assert not CSC.of(odd_graph).kept  # groups are drawn anew
    kept = [a is b for a, b in zip(epoch(batch_size=1), epoch(batch_size=1), strict=True)]
    assert kept[:2] == [True] * 2
    assert not all(kept)
