"""Ripple walks: how they grow, and what is computed in what they leave."""

import pickle

import pytest
import torch

import gnnscale as gs
from gnnscale import nn
from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.loader import DataLoader
from gnnscale.samplers.ripple import RippleWalkSampler
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph


def replay(graph, walk, expansion, size):
    """Whether a walk could have grown so: each step takes its share of the neighbours that there are."""
    sources, destinations = (end.tolist() for end in graph.edges())
    walk, grown = walk.tolist(), 1
    while grown < size:
        members = set(walk[:grown])
        neighbors = {u for u, v in zip(sources, destinations, strict=True) if v in members} - members
        count = min(max(1, round(expansion * len(neighbors))), size - grown)
        step = walk[grown : grown + count]
        if neighbors and not set(step) <= neighbors:
            return False
        grown += count if neighbors else 1  # from anywhere, where there is no neighbour left
    return len(set(walk)) == len(walk) == size


@pytest.mark.parametrize("expansion", [0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 2, 25, 60])
def test_each_step_takes_a_share_of_the_in_neighbors(expansion, size):
    graph, sampler = make_graph(60, 150), RippleWalkSampler(size, expansion=expansion)
    for key in range(3):
        for start in (0, 5, 31, 59):
            walk = sampler.walk(CSC.of(graph), torch.tensor(start), key)
            assert walk[0] == start
            assert replay(graph, walk, expansion, size)


def test_walks_along_out_edges_or_with_another_share_fail_the_same_check():
    graph, start = make_graph(60, 150), torch.tensor(0)
    reverse = CSC.of(dgl.reverse(graph))
    assert not replay(graph, RippleWalkSampler(25).walk(reverse, start, 0), 0.5, 25)
    walk = RippleWalkSampler(25, expansion=0.01).walk(CSC.of(graph), start, 0)
    assert not replay(graph, walk.flip(0), 0.01, 25)


def test_neighbors_join_with_the_same_probability():
    star = dgl.graph((torch.arange(1, 7), torch.zeros(6).long()), num_nodes=7)
    csc, sampler = CSC.of(star), RippleWalkSampler(3, expansion=1 / 3)
    joined = torch.stack([sampler.walk(csc, torch.tensor(0), key)[1:] for key in range(600)])
    frequency = torch.bincount(joined.flatten(), minlength=7)[1:] / 600
    assert (frequency - 1 / 3).abs().max() < 5 * (2 / 9 / 600) ** 0.5
    # Two steps of one walk are drawn apart: the second is no continuation of the first's order.
    single = torch.stack(
        [RippleWalkSampler(3, expansion=0.01).walk(csc, torch.tensor(0), key)[1:] for key in range(600)]
    )
    pairs = torch.bincount((single[:, 0] - 1) * 6 + single[:, 1] - 1, minlength=36).view(6, 6)
    off = ~torch.eye(6, dtype=torch.bool)
    assert pairs[~off].sum() == 0
    assert (pairs[off] / 600 - 1 / 30).abs().max() < 5 * (1 / 30 / 600) ** 0.5


def test_a_walk_without_neighbors_goes_on_at_random():
    csc = CSC.of(dgl.graph(([], []), num_nodes=40))
    second = torch.stack([RippleWalkSampler(2).walk(csc, torch.tensor(3), key) for key in range(400)])[:, 1]
    counts = torch.bincount(second, minlength=40)
    assert counts[3] == 0
    assert counts.max() < 30  # 10 expected
    assert (counts > 0).sum() > 35


@pytest.mark.parametrize("weighted", [False, True])
def test_the_batch_is_the_induced_subgraph_normalised_there(weighted):
    graph = make_graph(weighted=weighted)
    sample = RippleWalkSampler(15).draw(CSC.of(graph), torch.tensor([4, 30]), key=1)
    assert 15 < sample.nodes.numel() == sample.nodes.unique().numel() <= 30
    subgraph, x = dgl.node_subgraph(graph, sample.nodes), graph.ndata["feat"][sample.nodes]
    for norm in ("sym", "mean", "sum"):
        out = first_layer(sample).aggregate(x, norm).double()
        torch.testing.assert_close(out, dense_normalised(subgraph, norm) @ x.double(), rtol=1e-5, atol=1e-5)
        whole = (dense_normalised(graph, norm) @ graph.ndata["feat"].double())[sample.nodes]
        assert (out - whole).abs().max() > 0.05


def test_a_batch_is_the_union_of_its_walks(odd_graph):
    csc, sampler = CSC.of(odd_graph), RippleWalkSampler(10)
    one, two = (sampler.draw(csc, torch.tensor([start]), key=1).nodes for start in (4, 30))
    both = sampler.draw(csc, torch.tensor([4, 30]), key=1).nodes
    assert torch.isin(one, both).all()  # the first walk is the same
    assert both.numel() <= 20
    assert 30 in two
    assert torch.isin(torch.tensor([4, 30]), both).all()


@pytest.mark.parametrize(
    ("size", "batch_size", "count"), [(25, 1, 3), (10, 2, 3), (60, 1, 1), (1000, 1, 1), (4, 1, 15)]
)
def test_an_epoch_has_as_many_nodes_as_the_graph_and_a_loss_in_each_batch(size, batch_size, count, odd_graph):
    train = torch.tensor([7, 12, 59, 30])
    loader = DataLoader(odd_graph, train, RippleWalkSampler(size), batch_size=batch_size, shuffle=True)
    batches = list(loader)
    assert len(batches) == len(loader) == count
    for batch in batches:
        assert torch.isin(batch.output_nodes[batch.targets], train).all()
        assert batch.targets.numel() == int(torch.isin(batch.output_nodes, train).sum()) >= 1


def test_starts_are_training_nodes_each_once_before_one_is_there_again(odd_graph):
    sampler, train = RippleWalkSampler(5), torch.tensor([7, 12, 59, 30, 2])
    sampler.prepare(odd_graph, train, 1)
    for shuffle in (False, True):
        starts = torch.cat(sampler.batches(train, 1, shuffle, False, torch.Generator().manual_seed(0)))
        assert starts.numel() == 12
        assert sorted(starts[:5].tolist()) == sorted(starts[5:10].tolist()) == sorted(train.tolist())


def test_batches_depend_on_the_seed_and_not_on_workers(odd_graph):
    def nodes(sampler, seed=3, **arguments):
        loader = DataLoader(odd_graph, torch.arange(60), sampler, seed=seed, shuffle=True, **arguments)
        return torch.cat([batch.input_nodes for batch in loader])

    sampler = RippleWalkSampler(12)
    alone = nodes(sampler)
    assert torch.equal(alone, nodes(pickle.loads(pickle.dumps(sampler)), num_workers=2))
    assert not torch.equal(alone, nodes(sampler, seed=4))


@pytest.mark.parametrize("model_class", [nn.GCN, nn.SAGE])
def test_it_trains(model_class):
    data = gs.load("synthetic", num_nodes=200, num_edges=2000, num_classes=3, signal=0.5, train_fraction=0.5)
    torch.manual_seed(0)
    model = model_class(data.num_features, 16, data.num_classes)
    result = gs.train(model, data, RippleWalkSampler(60), epochs=8)
    assert result.points[-1].loss < 0.9 * result.points[0].loss
    assert result.best.val > 0.75


def test_a_one_node_batch(odd_graph):
    sample = RippleWalkSampler(1).draw(CSC.of(odd_graph), torch.tensor([59]), key=0)
    assert sample.nodes.tolist() == [59]
    assert first_layer(sample).aggregate(torch.tensor([[2.0]]), "sym").item() == 2.0


def test_wrong_arguments_get_a_sentence():
    for arguments, sentence in [
        ({"size": 0}, "size=0 has to be a positive integer"),
        ({"expansion": 0}, "expansion=0 has to be more than 0 and at most 1"),
        ({"expansion": 1.5}, r"expansion=1\.5 has to be more than 0 and at most 1"),
        ({"num_layers": 0}, "num_layers=0 has to be a positive integer, or left out"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            RippleWalkSampler(**arguments)
