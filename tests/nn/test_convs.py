"""GIN and GAT convolutions: against DGL's on the whole graph, and what their settings do."""

import pytest
import torch

from gnnscale import nn
from gnnscale._dgl import dgl
from gnnscale.loader import DataLoader
from gnnscale.samplers import FullSampler
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import make_graph


def whole_layer(graph):
    (batch,) = DataLoader(graph, torch.arange(graph.num_nodes()), FullSampler())
    return batch.layers(1)[0]


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("odd", [False, True])
def test_gat_equals_dgls_on_the_graph_with_self_loops(heads, odd):
    """Rows, and the gradients of all parameters and of the features."""
    graph = make_graph(odd=odd)
    ours, theirs = nn.GATConv(5, 4 * heads, heads=heads), dgl.nn.GATConv(5, 4, heads)
    torch.nn.init.normal_(ours.bias)
    with torch.no_grad():
        theirs.fc.weight.copy_(ours.weight.t())
        theirs.attn_l.copy_(ours.source[None])
        theirs.attn_r.copy_(ours.target[None])
        theirs.bias.copy_(ours.bias)
    x = graph.ndata["feat"].requires_grad_()
    out = ours(whole_layer(graph), x)
    looped = dgl.add_self_loop(dgl.remove_self_loop(graph))
    wanted = theirs(looped, x).flatten(1)
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-5)

    upstream = torch.randn_like(out)
    mine = torch.autograd.grad(out, [x, ours.weight, ours.source, ours.target, ours.bias], upstream)
    others = torch.autograd.grad(wanted, [x, theirs.fc.weight, theirs.attn_l, theirs.attn_r, theirs.bias], upstream)
    for a, b in zip(mine, others, strict=True):
        torch.testing.assert_close(a, b.t() if b.shape == a.t().shape else b.view(a.shape), rtol=1e-3, atol=1e-4)


def test_gat_drops_attention_in_training_only():
    layer, x = whole_layer(make_graph()), torch.randn(60, 5)
    conv = nn.GATConv(5, 4, heads=2, dropout=0.6)
    assert not torch.equal(conv(layer, x), conv(layer, x))
    plain = nn.GATConv(5, 4, heads=2)
    plain.load_state_dict(conv.state_dict())
    torch.testing.assert_close(conv.eval()(layer, x), plain(layer, x))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"heads": 0}, "heads=0 has to be a positive integer"),
        ({"heads": 2.0}, r"heads=2\.0 has to be a positive integer"),
        ({"heads": 3}, "heads=3 has to divide the 8 columns of a layer"),
        ({"dropout": 1.0}, r"p=1\.0 has to be at least 0 and less than 1"),
    ],
)
def test_bad_arguments_of_gat_are_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        nn.GATConv(5, 8, **arguments)


@pytest.mark.parametrize("hidden_size", [3, 9])
@pytest.mark.parametrize("weighted", [False, True])
def test_gin_equals_dgls(hidden_size, weighted):
    """Whether the narrower rows to add up are those before or after the first linear map."""
    graph = make_graph(weighted=weighted)
    ours = nn.GINConv(5, 4, hidden_size=hidden_size)
    torch.nn.init.constant_(ours.eps, 0.3)
    mlp = torch.nn.Sequential(ours.first, torch.nn.ReLU(), ours.second)
    theirs = dgl.nn.GINConv(mlp, "sum", init_eps=0.3, learn_eps=True)
    x = graph.ndata["feat"].requires_grad_()
    out, wanted = ours(whole_layer(graph), x), theirs(graph, x, graph.edata.get("weight"))
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)
    upstream = torch.randn_like(out)
    parameters = [x, *mlp.parameters()]
    mine = torch.autograd.grad(out, [*parameters, ours.eps], upstream)
    others = torch.autograd.grad(wanted, [*parameters, theirs.eps], upstream)
    for a, b in zip(mine, others, strict=True):
        torch.testing.assert_close(a, b.view(a.shape), rtol=1e-3, atol=1e-3)


def test_gin_is_the_formula_of_the_paper():
    graph = make_graph()
    conv = nn.GINConv(5, 4).double()
    torch.nn.init.constant_(conv.eps, -0.5)
    x = graph.ndata["feat"].double()
    total = 0.5 * x + dense_normalised(graph, "sum") @ x
    wanted = torch.relu(total @ conv.first.weight.T + conv.first.bias) @ conv.second.weight.T + conv.second.bias
    torch.testing.assert_close(conv(whole_layer(graph), x), wanted, rtol=1e-6, atol=1e-6)


def test_gin_may_keep_epsilon_at_zero():
    names = {name for name, _ in nn.GINConv(5, 4, train_eps=False).named_parameters()}
    assert {name for name, _ in nn.GINConv(5, 4).named_parameters()} - names == {"eps"}
    assert nn.GINConv(5, 4, train_eps=False).eps == 0
