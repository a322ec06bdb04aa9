"""Inductive training: whatever the sampler, it sees the training subgraph alone; evaluation sees the whole graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.data.dataset import assemble
from gnnscale.samplers import make_sampler

NUM_NODES = 400


def make_data(multilabel=False):
    """Labels are what the neighbours' features say; a third of the nodes train."""
    generator = torch.Generator().manual_seed(1)
    source, target = torch.randint(NUM_NODES, (2, 3000), generator=generator).unbind()
    graph = dgl.to_simple(dgl.graph((source, target), num_nodes=NUM_NODES))
    graph = dgl.to_bidirected(graph)
    features = torch.randn(NUM_NODES, 8, generator=generator)
    source, target = graph.edges()
    heard = features.index_add(0, target, features[source] / 4)
    labels = (heard[:, :4] > 0) if multilabel else heard[:, :3].argmax(1)
    part = torch.arange(NUM_NODES) % 3
    split = tuple(torch.nonzero(part == number).flatten() for number in range(3))
    return assemble(
        "toy",
        edges=(source.numpy(), target.numpy()),
        features=features.numpy(),
        labels=labels.numpy().astype(np.int64),
        split=split,
        weight=torch.rand(graph.num_edges(), generator=generator).numpy(),
    )


def with_other_nodes_spoilt(data):
    """Nodes outside of the training set have no features any more, other labels, and fewer edges among others."""
    graph, trains = data.graph, torch.zeros(data.num_nodes, dtype=torch.bool)
    trains[data.train_ids] = True
    source, target = graph.edges()
    outside = torch.nonzero(~(trains[source] & trains[target])).flatten()
    spoilt = dgl.remove_edges(graph, outside[::2])
    others = torch.nonzero(~trains).flatten()
    spoilt = dgl.add_edges(spoilt, others, data.train_ids[torch.arange(others.numel()) % data.train_ids.numel()])
    spoilt.ndata["feat"] = graph.ndata["feat"].clone()
    spoilt.ndata["feat"][others] = torch.nan
    spoilt.ndata["label"] = graph.ndata["label"].clone()
    spoilt.ndata["label"][others] = 0
    return replace(data, graph=spoilt)


CHOICES = {
    "full": {}, "neighbor": {"fanouts": [3, 3]}, "labor": {"fanouts": [3, 3]}, "fastgcn": {"sizes": [60, 60]},
    "ladies": {"sizes": [60, 60]}, "asgcn": {"sizes": [60, 60]}, "saint-node": {}, "saint-edge": {},
    "saint-walk": {}, "shadow": {}, "cluster": {"num_parts": 8}, "vrgcn": {"fanouts": [2, 2]}, "mvs": {},
    "gas": {"num_parts": 8}, "gas without refresh": {"num_parts": 8, "refresh": False}, "lmc": {"num_parts": 8},
    "graphfm": {"num_parts": 8},
}  # fmt: skip
WITH_HISTORY = ["gas", "gas without refresh", "lmc", "graphfm", "vrgcn"]


def train(data, name="gas", *, epochs=2, **arguments):
    choice = CHOICES[name]
    sampler = make_sampler(name.partition(" ")[0], num_layers=2, num_nodes=data.train_ids.numel(), **choice)
    torch.manual_seed(0)
    model = gs.nn.SAGE(data.num_features, 8, data.num_classes, dropout=0.2)
    if name == "asgcn":  # it learns where to draw, for symmetrically normalised sums
        model = gs.nn.GCN(data.num_features, 8, data.num_classes, dropout=0.2)
    settings = {"batch_size": 2 if "num_parts" in choice else None, "inductive": True} | arguments
    return model, gs.train(model, data, sampler, epochs=epochs, **settings)


@pytest.mark.parametrize("name", CHOICES)
def test_training_sees_nothing_but_the_training_nodes(name):
    data = make_data()
    spoilt = with_other_nodes_spoilt(data)
    model, result = train(data, name)
    model_of_spoilt, result_of_spoilt = train(spoilt, name)
    for weight, other in zip(model.parameters(), model_of_spoilt.parameters(), strict=True):
        assert torch.equal(weight, other)
    assert [point.loss for point in result.points] == [point.loss for point in result_of_spoilt.points]
    # The curve is that of the whole graph all the same.
    assert [point.test for point in result.points] != [point.test for point in result_of_spoilt.points]
    assert result.points[-1].test == gs.evaluate(model, data)["test"]


def test_without_inductive_the_other_nodes_do_count():
    """The twin that must fail: the same spoilt nodes reach the weights."""
    spoilt = with_other_nodes_spoilt(make_data())
    with pytest.raises(FloatingPointError, match="the loss became nan"):
        train(spoilt, "gas", inductive=False)


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_histories_are_of_the_training_nodes(name, monkeypatch):
    """Filled and refreshed on the training subgraph; the evaluation of the whole graph touches none."""
    data = make_data()
    seen = []
    original = gs.evaluation.Evaluator.infer

    def infer(self, model, *, history=None):
        seen.append((self.graph.num_nodes(), history is not None))
        return original(self, model, history=history)

    monkeypatch.setattr(gs.evaluation.Evaluator, "infer", infer)
    num_train = data.train_ids.numel()
    store = gs.HistoryStore(num_train)
    model, _ = train(data, name, history=store)
    part, whole = (num_train, True), (data.num_nodes, False)
    refreshes = name in ("gas", "graphfm")
    assert seen == [part, *([part, whole] if refreshes else [whole]) * 2]
    if refreshes:
        fresh = gs.HistoryStore(num_train)
        gs.infer(model, data.training_subgraph().graph, history=fresh)
        ids = torch.arange(num_train)
        assert torch.allclose(store.pull(0, ids).wait(), fresh.pull(0, ids).wait(), atol=1e-6)


def test_a_store_for_the_whole_graph_is_refused():
    data = make_data()
    with pytest.raises(ValueError, match=rf"{data.num_nodes}.*{data.train_ids.numel()}"):
        train(data, history=gs.HistoryStore(data.num_nodes))


def test_features_in_a_store_are_refused():
    data = make_data()
    store = gs.FeatureStore(data.graph.ndata["feat"])
    with pytest.raises(ValueError, match="features= holds rows of the whole graph"):
        train(data, "full", features=store)


@pytest.mark.parametrize("name", ["neighbor", *WITH_HISTORY])
def test_a_run_that_was_stopped_goes_on_with_the_same_curve(name, tmp_path):
    data = make_data()
    train(data, name, checkpoint=tmp_path / "run.pt")
    model, resumed = train(data, name, epochs=4, checkpoint=tmp_path / "run.pt")
    model_at_once, at_once = train(data, name, epochs=4)
    assert [(p.epoch, p.loss, p.val, p.test) for p in resumed.points] == [
        (p.epoch, p.loss, p.val, p.test) for p in at_once.points
    ]
    for weight, other in zip(model.parameters(), model_at_once.parameters(), strict=True):
        assert torch.equal(weight, other)
    with pytest.raises(ValueError, match="is of a run with inductive=True, and this one has inductive=False"):
        train(data, name, epochs=4, inductive=False, checkpoint=tmp_path / "run.pt")


@pytest.mark.parametrize("name", ["full", "neighbor", "saint-walk", "cluster", "gas", "vrgcn"])
def test_several_labels_a_node_are_learnt(name):
    """Binary cross-entropy and micro-F1, end to end."""
    data = make_data(multilabel=True)
    assert data.metric == "micro_f1"
    _, result = train(data, name, epochs=40, lr=0.03, weight_decay=0.0)
    everything = data.graph.ndata["label"][data.test_ids].mean().item()
    of_all_labels = 2 * everything / (1 + everything)  # the score of answering every label always
    assert result.best.test > of_all_labels + 0.05


def test_the_training_subgraph_is_the_part_between_training_nodes():
    """Against the definition, edge by edge."""
    data = make_data()
    part = data.training_subgraph()
    ids, edges = part.graph.ndata[dgl.NID], part.graph.edata[dgl.EID]
    assert torch.equal(ids, data.train_ids)
    assert torch.equal(part.train_ids, torch.arange(ids.numel()))
    assert (part.val_ids.numel(), part.test_ids.numel()) == (0, 0)
    for name in ("feat", "label"):
        assert torch.equal(part.graph.ndata[name], data.graph.ndata[name][ids])
    assert torch.equal(part.graph.edata["weight"], data.graph.edata["weight"][edges])
    trains = set(data.train_ids.tolist())
    expected = [(u, v) for u, v in zip(*(end.tolist() for end in data.graph.edges()), strict=True) if {u, v} <= trains]
    source, target = part.graph.edges()
    assert sorted(zip(ids[source].tolist(), ids[target].tolist(), strict=True)) == sorted(expected)
    assert (part.metric, part.num_classes, part.num_features) == (data.metric, data.num_classes, data.num_features)


def test_a_dataset_without_training_nodes_is_refused():
    data = replace(make_data(), train_ids=torch.empty(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="dataset toy has no training nodes"):
        data.training_subgraph()


def test_features_are_standardized_by_the_training_nodes():
    """Against the formula in NumPy; the other nodes have no say."""
    data = make_data()
    data.graph.ndata["feat"][data.train_ids, 3] = 7.0  # a column that is constant there
    features = data.graph.ndata["feat"].numpy().copy()
    rows = data.train_ids.numpy()
    result = data.standardized()
    expected = (features - features[rows].mean(0)) / np.where(features[rows].std(0) > 0, features[rows].std(0), 1)
    np.testing.assert_allclose(result.graph.ndata["feat"].numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(data.graph.ndata["feat"].numpy(), features)  # the original is as it was
    loaded = gs.load("synthetic", num_nodes=300, num_edges=2000, standardize=True)
    assert loaded.graph.ndata["feat"][loaded.train_ids].std(0, correction=0).sub(1).abs().max() < 1e-4
    with pytest.raises(TypeError, match="standardize is 1; it is True or False"):
        gs.load("synthetic", standardize=1)
