import pytest
import torch

from gnnscale import nn
from gnnscale._dgl import dgl
from gnnscale.loader import DataLoader
from gnnscale.samplers import FullSampler, NeighborSampler
from tests.conftest import dense_normalised, make_graph


def whole(graph):
    (batch,) = DataLoader(graph, torch.arange(graph.num_nodes()), FullSampler())
    return batch


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hidden", [3, 8])
def test_gcn_is_the_formula_of_the_paper(weighted, hidden):
    graph = make_graph(weighted=weighted)
    model = nn.GCN(5, hidden, 4).double().eval()
    h, dense = graph.ndata["feat"].double(), dense_normalised(graph, "sym")
    for index, conv in enumerate(model.convs):
        h = dense @ h @ conv.weight + conv.bias
        h = torch.relu(h) if index == 0 else h
    batch = whole(graph)
    torch.testing.assert_close(model(batch, batch.x.double()), h, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("out_size", [2, 9])
def test_convolutions_equal_dgls_on_the_whole_graph(out_size):
    """On a symmetric graph without self-loops, where DGL's GraphConv on the graph with loops is the GCN."""
    graph = dgl.to_bidirected(dgl.remove_self_loop(make_graph(odd=False)))
    graph.ndata["feat"] = torch.randn(60, 5)
    graph.ndata["label"] = torch.zeros(60, dtype=torch.int64)
    batch = whole(graph)
    (layer,) = batch.layers(1)

    gcn, theirs = nn.GCNConv(5, out_size), dgl.nn.GraphConv(5, out_size)
    theirs.weight.data, theirs.bias.data = gcn.weight.data, gcn.bias.data
    torch.testing.assert_close(gcn(layer, batch.x), theirs(dgl.add_self_loop(graph), batch.x), rtol=1e-4, atol=1e-5)

    sage, theirs = nn.SAGEConv(5, out_size), dgl.nn.SAGEConv(5, out_size, "mean")
    theirs.fc_self.weight.data, theirs.fc_self.bias.data = sage.own.weight.data, sage.own.bias.data
    theirs.fc_neigh.weight.data = sage.neighbors.weight.data
    torch.testing.assert_close(sage(layer, batch.x), theirs(graph, batch.x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_class", [nn.GCN, nn.SAGE])
@pytest.mark.parametrize("norm", [None, "layer"])
def test_all_neighbours_give_the_logits_and_gradients_of_the_full_batch(odd_graph, model_class, norm):
    seeds = torch.tensor([0, 5, 59, 30])
    model = model_class(5, 8, 3, num_layers=3, dropout=0.0, norm=norm)
    (batch,) = DataLoader(odd_graph, seeds, NeighborSampler([-1, -1, -1]), batch_size=4)
    logits = model(batch, batch.x)
    batch.loss(logits).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    (full,) = DataLoader(odd_graph, seeds, FullSampler())
    expected = model(full, full.x)
    full.loss(expected).backward()
    torch.testing.assert_close(logits, expected[seeds], rtol=1e-5, atol=1e-5)
    for mine, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-5)


def test_weight_decay_spares_the_last_convolution():
    model = nn.GCN(5, 8, 3, num_layers=3, norm="batch")
    decayed, spared = model.parameter_groups(0.1)
    assert [group["weight_decay"] for group in (decayed, spared)] == [0.1, 0.0]
    assert {id(p) for p in spared["params"]} == {id(p) for p in model.convs[-1].parameters()}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


def test_layers_that_do_not_fit_the_model_are_one_sentence(odd_graph):
    (batch,) = DataLoader(odd_graph, torch.tensor([1]), NeighborSampler([5, 5]), batch_size=4)
    with pytest.raises(ValueError, match=r"the sampler drew 2 layers and the model has 3; .*\[10, 10, 10\]"):
        nn.GCN(5, 8, 3, num_layers=3)(batch, batch.x)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_layers": 0}, "num_layers=0 has to be a positive integer"),
        ({"dropout": 1.0}, "dropout=1.0 has to be at least 0 and less than 1"),
        ({"norm": "instance"}, "norm='instance' is not known; use None, 'batch' or 'layer'"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        nn.GCN(5, 8, 3, **arguments)
