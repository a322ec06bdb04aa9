"""GCNII and APPNP, and the residual connections and jumping knowledge of the stacks, against their formulas."""

import math
from dataclasses import replace

import pytest
import torch

from gnnscale import nn
from gnnscale.data import load
from gnnscale.evaluation import infer
from gnnscale.history import HistoryStore
from gnnscale.loader import DataLoader
from gnnscale.samplers import FullSampler, GASSampler, make_sampler
from gnnscale.testing.graphs import dense_normalised
from gnnscale.training import train
from tests.conftest import make_graph
from tests.nn.test_models import check_all_neighbours


def whole(graph):
    (batch,) = DataLoader(graph, torch.arange(graph.num_nodes()), FullSampler())
    return batch


@pytest.mark.parametrize("shared_weights", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_gcnii_is_the_formula_of_the_paper(odd_graph, shared_weights, residual):
    model = nn.GCNII(
        5, 8, 3, num_layers=3, alpha=0.2, theta=0.7, shared_weights=shared_weights, residual=residual
    ).double()
    model.eval()
    dense = dense_normalised(odd_graph, "sym")
    first = h = torch.relu(model.first(odd_graph.ndata["feat"].double()))
    for number, conv in enumerate(model.convs, 1):
        beta = math.log(0.7 / number + 1)
        identity = torch.eye(8).double()
        near, first_weight = (1 - beta) * identity + beta * conv.weight, conv.weight
        if not shared_weights:
            first_weight = conv.first_weight
        out = 0.8 * dense @ h @ near + 0.2 * first @ ((1 - beta) * identity + beta * first_weight)
        h = torch.relu(out + h if residual else out)
    batch = whole(odd_graph)
    torch.testing.assert_close(model(batch, batch.x.double()), model.last(h), rtol=1e-6, atol=1e-6)


def test_appnp_is_personalised_pagerank_in_the_limit(odd_graph):
    """After many steps the logits are α (I - (1 - α) Â)⁻¹ of the predictions (Gasteiger et al., eq. 3)."""
    model = nn.APPNP(5, 8, 3, num_layers=200, alpha=0.2).double().eval()
    dense, x = dense_normalised(odd_graph, "sym"), odd_graph.ndata["feat"].double()
    predictions = model.second(torch.relu(model.first(x)))
    expected = 0.2 * torch.linalg.solve(torch.eye(60).double() - 0.8 * dense, predictions)
    batch = whole(odd_graph)
    torch.testing.assert_close(model(batch, batch.x.double()), expected, rtol=1e-5, atol=1e-5)


def jumping_by_hand(model, graph, residual):
    dense, h = dense_normalised(graph, "sym"), graph.ndata["feat"].double()
    hidden = []
    for conv, norm in zip(model.convs, model.norms, strict=True):
        out = norm(dense @ h @ conv.weight + conv.bias)
        h = torch.relu(out + h if residual and out.shape == h.shape else out)
        hidden.append(h)
    return hidden


@pytest.mark.parametrize("residual", [True, False])
def test_jumping_knowledge_sees_every_layer(odd_graph, residual):
    settings = {"num_layers": 3, "norm": "layer", "residual": residual}
    batch = whole(odd_graph)
    side_by_side = nn.GCN(5, 8, 3, jumping="cat", **settings).double().eval()
    expected = side_by_side.head(torch.cat(jumping_by_hand(side_by_side, odd_graph, residual), 1))
    torch.testing.assert_close(side_by_side(batch, batch.x.double()), expected, rtol=1e-6, atol=1e-6)
    largest = nn.GCN(5, 8, 3, jumping="max", **settings).double().eval()
    expected = largest.head(torch.stack(jumping_by_hand(largest, odd_graph, residual)).amax(0))
    torch.testing.assert_close(largest(batch, batch.x.double()), expected, rtol=1e-6, atol=1e-6)


VARIANTS = {
    "gcn-residual": lambda: nn.GCN(5, 8, 3, num_layers=3, dropout=0.0, residual=True, norm="layer"),
    "sage-cat": lambda: nn.SAGE(5, 8, 3, num_layers=3, dropout=0.0, jumping="cat"),
    "gat-residual-max": lambda: nn.GAT(5, 8, 3, num_layers=3, dropout=0.0, heads=2, residual=True, jumping="max"),
    "gin-residual-cat": lambda: nn.GIN(5, 8, 3, num_layers=3, dropout=0.0, residual=True, jumping="cat", norm="layer"),
    "pna-residual": lambda: nn.PNA(5, 8, 3, num_layers=3, dropout=0.0, residual=True),
    "appnp": lambda: nn.APPNP(5, 8, 3, num_layers=3, dropout=0.0),
    "gcnii": lambda: nn.GCNII(5, 8, 3, num_layers=3, dropout=0.0),
    "gcnii-residual": lambda: nn.GCNII(5, 8, 3, num_layers=3, dropout=0.0, residual=True, shared_weights=False),
}


@pytest.fixture(params=VARIANTS)
def model(request):
    return VARIANTS[request.param]()


def test_all_neighbours_give_the_logits_and_gradients_of_the_full_batch(odd_graph, model):
    check_all_neighbours(odd_graph, model)


def test_gas_with_fresh_histories_gives_the_full_logits_and_inference_in_chunks_does(odd_graph, model):
    history = HistoryStore(odd_graph.num_nodes())
    exact = infer(model, odd_graph, history=history)
    torch.testing.assert_close(infer(model, odd_graph, chunk_edges=50), exact, rtol=1e-4, atol=1e-5)
    model.eval()
    loader = DataLoader(odd_graph, torch.arange(60), GASSampler(num_parts=6), batch_size=1, history=history)
    for batch in loader:
        torch.testing.assert_close(model(batch, batch.x), exact[batch.output_nodes], rtol=1e-4, atol=1e-5)


def test_residual_connections_and_first_rows_are_right_under_plain_control_variates(odd_graph):
    """With all neighbours drawn what the history holds cancels: vrgcn has to give the exact rows."""
    seeds = torch.arange(60)
    for make in ("gcn-residual", "gcnii-residual", "appnp", "sage-cat"):
        model = VARIANTS[make]()
        exact = infer(model, odd_graph)
        for cvd in (True, False):
            sampler = make_sampler("vrgcn", num_layers=3, num_nodes=60, fanouts=[-1, -1, -1], cvd=cvd)
            (batch,) = DataLoader(odd_graph, seeds, sampler, batch_size=60)
            torch.testing.assert_close(model(batch, batch.x), exact[batch.output_nodes], rtol=1e-4, atol=1e-4)


def pna_by_hand(conv, graph, x):
    """Corso et al. 2020, node by node, with DGL's graph."""
    out = []
    mean_log = graph.in_degrees().double().log1p().mean()
    for node in range(graph.num_nodes()):
        neighbors = graph.in_edges(node)[0]
        row = conv.own(x[node])
        if len(neighbors):
            messages = conv.message(x[neighbors]) + conv.own_message(x[node])
            # The deviation of the batch of neighbours, with PNA's small number under the root.
            deviation = (messages.var(0, unbiased=False) + 1e-5).sqrt()
            values = torch.cat([messages.mean(0), messages.amax(0), messages.amin(0), deviation])
            scale = math.log(len(neighbors) + 1) / mean_log
            row = row + conv.neighbors(torch.cat([values, scale * values, values / scale]))
        out.append(row)
    return torch.stack(out)


def test_pna_is_the_formula_of_the_paper(odd_graph):
    conv, batch = nn.PNAConv(5, 4).double(), whole(odd_graph)
    (layer,) = batch.layers(1)
    x = batch.x.double()
    torch.testing.assert_close(conv(layer, x), pna_by_hand(conv, odd_graph, x), rtol=1e-4, atol=1e-4)
    assert conv.state_dict()["delta"].item() == pytest.approx(odd_graph.in_degrees().float().log1p().mean().item())


def test_a_pna_keeps_the_delta_of_its_training_graph(odd_graph):
    model = nn.PNA(5, 8, 3)
    infer(model, odd_graph)
    delta = model.convs[0].delta.item()
    infer(model, make_graph(num_edges=100))
    assert model.convs[0].delta.item() == delta
    assert nn.PNA(5, 8, 3, delta=1.5).convs[1].delta.item() == 1.5


@pytest.mark.parametrize("name", ["appnp", "gcnii", "pna"])
def test_several_labels_a_node(name):
    """Multi-label: binary cross-entropy, and micro-F1 as the metric."""
    data = replace(load("synthetic", num_nodes=300, num_edges=2000, num_classes=4), metric="micro_f1")
    data.graph.ndata["label"] = torch.nn.functional.one_hot(data.graph.ndata["label"], 4).float()
    torch.manual_seed(0)
    model = nn.MODELS[name](data.num_features, 16, 4, num_layers=2, dropout=0.1)
    points = train(model, data, FullSampler(), epochs=30, lr=0.05).points
    assert points[-1].loss < 0.8 * points[0].loss
    assert points[-1].val > points[0].val


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nn.GCNII(5, 8, 3, theta=0), "theta=0 has to be a number above 0"),
        (lambda: nn.GCNII(5, 8, 3, alpha=1.5), r"alpha=1.5 has to be a number from 0 to 1"),
        (lambda: nn.GCNII(5, 8, 3, dropout=1), "dropout=1 has to be at least 0 and less than 1"),
        (lambda: nn.APPNP(5, 8, 3, alpha=-0.1), r"alpha=-0.1 has to be a number from 0 to 1"),
        (lambda: nn.APPNP(5, 0, 3), "hidden_size=0 has to be a positive integer"),
        (lambda: nn.GCN(5, 8, 3, jumping="lstm"), "jumping='lstm' is not known; use None, 'cat' or 'max'"),
        (lambda: nn.GCN(5, 8, 3, residual=1), "residual=1 has to be True or False"),
        (lambda: nn.PNA(5, 8, 3, delta=0), "delta=0 has to be a number above 0"),
        (lambda: nn.APPNP(5, 8, 3, norm="x"), "norm='x' is not known; use None, 'batch' or 'layer'"),
    ],
)
def test_bad_arguments_are_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
