"""Constant-time inference: exact with fresh histories, and the formula with stale ones."""

import copy

import pytest
import torch

import gnnscale as gs
from gnnscale import from_history
from gnnscale._dgl import dgl
from gnnscale.from_history import infer_from_history
from gnnscale.history import FeatureStore, HistoryStore
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import make_graph

SOME = torch.tensor([41, 3, 59, 17, 4])


@pytest.mark.parametrize("name", gs.nn.MODELS)
@pytest.mark.parametrize("num_layers", [1, 2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_with_fresh_histories_the_outputs_are_exact(name, num_layers, weighted):
    graph = make_graph(weighted=weighted)
    model = gs.nn.MODELS[name](5, 8, 3, num_layers=num_layers)
    history = HistoryStore(60)
    exact = gs.infer(model, graph, history=history)
    for nodes in (SOME, None):
        found = infer_from_history(model, graph, history, nodes)
        torch.testing.assert_close(found, exact if nodes is None else exact[nodes], rtol=1e-5, atol=1e-5)
    assert model.training


def stale_history(widths=(8, 8), num_rows=60):
    history = HistoryStore(num_rows)
    rows = [torch.randn(num_rows, width) for width in widths]
    for table, values in enumerate(rows):
        history.push(table, torch.arange(num_rows), values)
    return history, [values.double() for values in rows]


def convolved(conv, own, total, is_last):
    """A GCN's or SAGE's convolution of rows and their normalised sums, in float64."""
    if isinstance(conv, gs.nn.GCNConv):
        out = total @ conv.weight.double() + conv.bias.double()
    else:
        out = own @ conv.own.weight.double().t() + conv.own.bias.double() + total @ conv.neighbors.weight.double().t()
    return out if is_last else torch.relu(out)


def by_hand(model, graph, kept, together):
    """Outputs from the history's rows ``kept``; nodes in the mask ``together`` see one another's rows."""
    dense, h = dense_normalised(graph, model.convs[0].norm), graph.ndata["feat"].double()
    seen = torch.eye(graph.num_nodes(), dtype=torch.bool) | (together[:, None] & together[None, :])
    for index, conv in enumerate(model.convs):
        total = dense @ h if not index else (dense * seen) @ h + (dense * ~seen) @ kept[index - 1]
        h = convolved(conv, h, total, index == len(model.convs) - 1)
    return h


@pytest.mark.parametrize("name", ["gcn", "sage"])
@pytest.mark.parametrize("weighted", [False, True])
def test_with_stale_histories_the_outputs_are_the_formula(name, weighted):
    graph, model = make_graph(weighted=weighted), gs.nn.MODELS[name](5, 8, 3, num_layers=3)
    history, rows = stale_history()
    nobody = torch.zeros(60, dtype=torch.bool)
    alone = infer_from_history(model, graph, history)
    torch.testing.assert_close(alone.double(), by_hand(model, graph, rows, nobody), rtol=1e-4, atol=1e-5)
    asked = nobody.clone()
    asked[SOME] = True
    found = infer_from_history(model, graph, history, SOME)
    torch.testing.assert_close(found.double(), by_hand(model, graph, rows, asked)[SOME], rtol=1e-4, atol=1e-5)
    one_by_one = torch.cat([infer_from_history(model, graph, history, SOME[i : i + 1]) for i in range(len(SOME))])
    torch.testing.assert_close(one_by_one, alone[SOME], rtol=1e-5, atol=1e-5)


def test_all_nodes_at_once_would_not_read_the_history(odd_graph, monkeypatch):
    """The wrong twin: without setting in-neighbours apart, one batch of all nodes is exact inference."""
    model = gs.nn.GCN(5, 8, 3, num_layers=3)
    history, rows = stale_history()
    monkeypatch.setattr(from_history, "_apart", lambda members, nodes, hop: (nodes, hop))
    twin = infer_from_history(model, odd_graph, history)
    torch.testing.assert_close(twin, gs.infer(model, odd_graph), rtol=1e-5, atol=1e-5)
    expected = by_hand(model, odd_graph, rows, torch.zeros(60, dtype=torch.bool))
    assert (twin.double() - expected).abs().max() > 0.1


@pytest.mark.parametrize("chunk_edges", [1, 37, 150])
def test_chunks_do_not_change_what_each_node_gets(odd_graph, chunk_edges):
    model = gs.nn.SAGE(5, 8, 3, num_layers=3)
    history, _ = stale_history()
    whole = infer_from_history(model, odd_graph, history)
    found = infer_from_history(model, odd_graph, history, chunk_edges=chunk_edges)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)


def test_the_outputs_are_in_the_order_of_the_nodes_however_often_one_is_named(odd_graph):
    model = gs.nn.GCN(5, 8, 3)
    history, _ = stale_history([8])
    found = infer_from_history(model, odd_graph, history, torch.tensor([7, 3, 7]))
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1:], infer_from_history(model, odd_graph, history, torch.tensor([3, 7])))


def test_the_rows_that_are_read_are_those_of_one_hop_whatever_the_depth(odd_graph):
    counts = []

    class Counting(gs.nn.GCN):
        def forward(self, batch, x):
            counts.append((len(x), sum(layer.num_src for layer in batch.layers(len(self.convs)))))
            return super().forward(batch, x)

    sources, _ = odd_graph.in_edges(torch.tensor([3]))
    one_hop = len(set(sources.tolist()) | {3})
    for num_layers in (2, 6):
        history, _ = stale_history([8] * (num_layers - 1))
        infer_from_history(Counting(5, 8, 3, num_layers=num_layers), odd_graph, history, torch.tensor([3]))
        assert counts.pop() == (one_hop, num_layers * one_hop)


def equal_states(one, other):
    return one["step"] == other["step"] and all(
        torch.equal(mine[name], yours[name])
        for mine, yours in zip(one["tables"], other["tables"], strict=True)
        for name in mine
    )


def test_the_history_stays_as_it_is_unless_it_is_to_be_refreshed(odd_graph):
    model = gs.nn.GCN(5, 8, 3, num_layers=3)
    history, _ = stale_history()
    history.step = 5
    before = copy.deepcopy(history.state_dict())
    for nodes in (SOME, None):
        infer_from_history(model, odd_graph, history, nodes, chunk_edges=50)
        assert equal_states(history.state_dict(), before)
    first = infer_from_history(model, odd_graph, history, SOME, refresh=True)
    others = torch.ones(60, dtype=torch.bool)
    others[SOME] = False
    for table, now in enumerate(history.state_dict()["tables"]):
        assert torch.equal(now["rows"][others], before["tables"][table]["rows"][others])
        assert (now["rows"][SOME] != before["tables"][table]["rows"][SOME]).any()
        assert history.staleness(table, SOME).tolist() == [0] * len(SOME)
    # What was written is what was computed: asked for one by one, they read it from the history.
    for node, expected in zip(SOME, first, strict=True):
        torch.testing.assert_close(infer_from_history(model, odd_graph, history, node[None])[0], expected)


def test_it_draws_no_random_numbers_and_keeps_no_gradient(odd_graph):
    model = gs.nn.GCN(5, 8, 3, dropout=0.9)
    history, _ = stale_history([8])
    state = torch.get_rng_state()
    assert not infer_from_history(model, odd_graph, history).requires_grad
    assert torch.equal(torch.get_rng_state(), state)


def test_features_may_be_in_a_store(odd_graph):
    model = gs.nn.GCN(5, 8, 3)
    history, _ = stale_history([8])
    expected = infer_from_history(model, odd_graph, history, SOME)
    store = FeatureStore(odd_graph.ndata.pop("feat"))
    torch.testing.assert_close(infer_from_history(model, odd_graph, history, SOME, features=store), expected)


@pytest.mark.parametrize("name", ["gcn", "sage"])
def test_new_nodes_of_a_real_graph_after_training(shared_data, name):
    """Nodes of Cora that training has not seen come back, with their edges: exact outputs, and those from histories."""
    cora = gs.load("cora", data_dir=shared_data)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(cora.num_nodes, generator=generator)
    known, new = order[:-20].sort().values, torch.arange(cora.num_nodes - 20, cora.num_nodes)
    # The same graph with the 20 last, and the one before they came.
    grown = dgl.reorder_graph(
        cora.graph, node_permute_algo="custom", permute_config={"nodes_perm": torch.cat([known, order[-20:]])}
    )
    old = dgl.remove_nodes(grown, new)
    model = gs.nn.MODELS[name](cora.num_features, 16, cora.num_classes, num_layers=3, dropout=0.2)
    history = gs.HistoryStore(old.num_nodes())
    loader = gs.DataLoader(
        old, torch.arange(500), gs.samplers.GASSampler(8, partition="random"), batch_size=2, history=history
    )
    optimizer = torch.optim.Adam(model.parameters())
    for batch in loader:
        optimizer.zero_grad()
        batch.loss(model(batch, batch.x)).backward()
        optimizer.step()
    assert history.num_rows == cora.num_nodes - 20
    with pytest.raises(ValueError, match=rf"call history.grow\({cora.num_nodes}\) for new nodes"):
        infer_from_history(model, grown, history, new)
    history.grow(grown.num_nodes())

    everyone = torch.ones(grown.num_nodes(), dtype=torch.bool)
    together = everyone.clone()
    together[: -len(new)] = False
    kept = [history.pull(table, torch.arange(grown.num_nodes())).wait().double() for table in range(2)]
    torch.testing.assert_close(
        gs.infer(model, grown).double(), by_hand(model, grown, kept, everyone), rtol=1e-4, atol=1e-4
    )
    found = infer_from_history(model, grown, history, new)
    torch.testing.assert_close(found.double(), by_hand(model, grown, kept, together)[new], rtol=1e-4, atol=1e-4)


def test_bad_input_is_one_sentence(odd_graph):
    model, history = gs.nn.GCN(5, 8, 3), HistoryStore(60, [8])

    def refused(error, sentence, *arguments, **settings):
        with pytest.raises(error, match=sentence):
            infer_from_history(model, *arguments, **settings)

    refused(TypeError, "data is of type int; pass a gnnscale.Dataset or a DGLGraph", 3, history)
    refused(TypeError, "history is of type dict; pass the gnnscale.HistoryStore", odd_graph, {})
    refused(ValueError, "history has 70 rows and the graph 60 nodes$", odd_graph, HistoryStore(70, [8]))
    refused(ValueError, r"history has 0 tables and layer 1 of the model reads its own", odd_graph, HistoryStore(60))
    refused(ValueError, "rows have 8 columns and the history of layer 0 has 4", odd_graph, HistoryStore(60, [4]))
    refused(ValueError, "nodes runs from -1 to 2; the graph's nodes are 0 to 59", odd_graph, history, [2, -1])
    refused(ValueError, r"nodes has the dtype torch.bool and shape \(60,\)", odd_graph, history, torch.ones(60) > 0)
    refused(ValueError, r"nodes has the dtype torch.float32 and shape \(0,\)", odd_graph, history, [])
    refused(TypeError, "nodes is of type str; pass a vector of node ids", odd_graph, history, "all")
    refused(ValueError, "refresh=True needs nodes; gnnscale.infer", odd_graph, history, refresh=True)
    refused(ValueError, "chunk_edges=0 has to be positive", odd_graph, history, chunk_edges=0)
    odd_graph.ndata.pop("feat")
    refused(ValueError, "the graph has no node features", odd_graph, history)
    assert history.widths == [8]
