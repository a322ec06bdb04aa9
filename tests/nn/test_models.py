import pytest
import torch

from gnnscale import nn
from gnnscale._dgl import dgl
from gnnscale.data import load
from gnnscale.evaluation import evaluate, infer
from gnnscale.loader import DataLoader
from gnnscale.samplers import SAMPLERS, FullSampler, NeighborSampler, make_sampler
from gnnscale.testing.graphs import dense_normalised
from gnnscale.training import train
from tests.conftest import make_graph


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


@pytest.mark.parametrize("model_class", nn.MODELS.values())
@pytest.mark.parametrize("norm", [None, "layer"])
def test_all_neighbours_give_the_logits_and_gradients_of_the_full_batch(odd_graph, model_class, norm):
    check_all_neighbours(odd_graph, model_class(5, 8, 3, num_layers=3, dropout=0.0, norm=norm))


def check_all_neighbours(odd_graph, model):
    seeds = torch.tensor([0, 5, 59, 30])
    (batch,) = DataLoader(odd_graph, seeds, NeighborSampler([-1, -1, -1]), batch_size=4)
    logits = model(batch, batch.x)
    batch.loss(logits).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    (full,) = DataLoader(odd_graph, seeds, FullSampler())
    expected = model(full, full.x)
    full.loss(expected).backward()
    torch.testing.assert_close(logits, expected[seeds], rtol=1e-4, atol=1e-5)
    for mine, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-5 * parameter.grad.abs().max().clamp(min=1))


@pytest.fixture(scope="module")
def data():
    return load("synthetic", num_nodes=300, num_edges=2000, num_classes=4)


@pytest.mark.parametrize("model_name", nn.MODELS)
@pytest.mark.parametrize("sampler_name", ["full", "neighbor", "cluster", "gas"])
def test_every_model_trains_under_every_sampler_and_twice_the_same(data, sampler_name, model_name):
    def run():
        torch.manual_seed(3)
        # GIN sums many neighbours; without a norm its first losses are large, and anything is less.
        model = nn.MODELS[model_name](data.num_features, 16, data.num_classes, num_layers=2, dropout=0.2, norm="layer")
        parts = {"num_parts": 6} if sampler_name in ("cluster", "gas") else {}
        sampler = make_sampler(sampler_name, num_layers=2, num_nodes=data.num_nodes, **parts)
        size = {"full": None, "neighbor": 64}.get(sampler_name, 3)
        # GCNII adds its first rows to every layer's, APPNP its predictions; both move slowly at first.
        lr = 0.05 if model_name in ("appnp", "gcnii") else 0.02
        points = train(model, data, sampler, epochs=8, batch_size=size, lr=lr, weight_decay=0.0).points
        return [(point.loss, point.val, point.test) for point in points], evaluate(model, data)["train"]

    points, accuracy = run()
    assert points[-1][0] < 0.8 * points[0][0]
    assert accuracy > 2 / data.num_classes  # what a batch learned is what exact inference computes
    assert run() == (points, accuracy)


@pytest.mark.parametrize("model_class", [nn.GIN, nn.GAT])
@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_sums_and_attention_run_under_all_samplers_or_are_refused(data, sampler_name, model_class):
    model = model_class(data.num_features, 16, data.num_classes, norm="layer")
    sampler = make_sampler(sampler_name, num_layers=2, num_nodes=data.num_nodes)

    def losses():
        return [point.loss for point in train(model, data, sampler, epochs=2, batch_size=20).points]

    if model_class is nn.GAT and sampler_name in ("vrgcn", "asgcn"):
        with pytest.raises(ValueError, match=r"GATConv .* no .*norm"):
            losses()
    else:
        assert torch.tensor(losses()).isfinite().all()


@pytest.mark.parametrize("model_class", [nn.GIN, nn.GAT])
@pytest.mark.parametrize("weighted", [False, True])
def test_inference_in_chunks_is_inference_at_once(model_class, weighted):
    graph = make_graph(weighted=weighted)
    model = model_class(5, 8, 3, num_layers=3)
    at_once = infer(model, graph)
    torch.testing.assert_close(infer(model, graph, chunk_edges=50), at_once, rtol=1e-4, atol=1e-4)
    batch = whole(graph)
    torch.testing.assert_close(model.eval()(batch, batch.x), at_once)


def test_gat_has_elu_between_layers_and_one_head_in_the_last():
    graph = make_graph()
    model = nn.GAT(5, 8, 3, heads=4, dropout=0.6).eval()
    assert [conv.heads for conv in model.convs] == [4, 1]
    assert [conv.dropout.p for conv in model.convs] == [0.6, 0.6]
    batch = whole(graph)
    first, last = batch.layers(2)
    hidden = torch.nn.functional.elu(model.convs[0](first, batch.x))
    assert hidden.min() < 0
    torch.testing.assert_close(model(batch, batch.x), model.convs[1](last, hidden))


def test_gat_decays_all_its_parameters():
    (group,) = nn.GAT(5, 8, 3, norm="batch").parameter_groups(0.1)
    assert group["weight_decay"] == 0.1
    assert len(group["params"]) == len(list(nn.GAT(5, 8, 3, norm="batch").parameters()))


@pytest.mark.parametrize(
    ("model", "spared"),
    [
        (nn.GCN(5, 8, 3, norm="batch"), "convs.1."),
        (nn.SAGE(5, 8, 3, jumping="cat"), "head."),
        (nn.APPNP(5, 8, 3), "second."),
        (nn.GCNII(5, 8, 3, num_layers=3), ("first.", "last.")),
    ],
)
def test_the_rest_decays_with_a_weight_of_its_own(model, spared):
    decayed, rest = model.parameter_groups(0.1, 0.2)
    assert [group["weight_decay"] for group in (decayed, rest)] == [0.1, 0.2]
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in rest["params"]} == {n for n in names.values() if n.startswith(spared)}
    assert len(decayed["params"]) + len(rest["params"]) == len(names)


@pytest.mark.parametrize("heads", [0, True, 1.5])
def test_heads_that_are_no_count_are_one_sentence(heads):
    with pytest.raises(ValueError, match=f"heads={heads!r} has to be a positive integer"):
        nn.GAT(5, 8, 3, heads=heads)


def test_a_hidden_size_that_heads_cannot_share_is_one_sentence():
    with pytest.raises(ValueError, match="heads=8 has to divide the 20 columns of a layer"):
        nn.GAT(5, 20, 3)


def test_weight_decay_spares_the_last_convolution():
    model = nn.GCN(5, 8, 3, num_layers=3, norm="batch")
    decayed, spared = model.parameter_groups(0.1)
    assert [group["weight_decay"] for group in (decayed, spared)] == [0.1, 0.0]
    assert {id(p) for p in spared["params"]} == {id(p) for p in model.convs[-1].parameters()}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


def test_layers_that_do_not_fit_the_model_are_one_sentence(odd_graph):
    (batch,) = DataLoader(odd_graph, torch.tensor([1]), NeighborSampler([5, 5]), batch_size=4)
    with pytest.raises(
        ValueError,
        match=r"the sampler drew 2 layers and the model has 3; give the sampler one number a layer, 3 in all",
    ):
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
