"""The user's own graph: read as it is, or refused with one sentence that says where and what."""

import dgl
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnnscale.data import load

N = 12


def arrays(num_splits=2):
    part = (np.arange(N)[None] // 2 + np.arange(num_splits)[:, None]) % 3
    return {
        "node_features": np.arange(3.0 * N).reshape(N, 3),
        "node_labels": np.arange(N) % 2,
        "edges": np.array([[0, 1], [1, 0], [2, 3], [2, 3], [4, 4]]),
        "train_masks": part == 0,
        "val_masks": part == 1,
        "test_masks": part == 2,
    }


def save(path, **changes):
    np.savez(path, **{key: value for key, value in (arrays() | changes).items() if value is not None})
    return path


def edge_list(data):
    return list(zip(*(end.tolist() for end in data.graph.edges(order="eid")), strict=True))


def test_an_npz_is_read_as_it_is(tmp_path):
    data = load(save(tmp_path / "mine.npz", edge_weights=np.arange(5)), split=1)
    assert (data.name, data.num_classes, data.metric, data.num_splits) == ("mine", 2, "accuracy", 2)
    assert edge_list(data) == [(0, 1), (1, 0), (2, 3), (2, 3), (4, 4)]
    assert data.graph.edata["weight"].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(data.graph.ndata["feat"], torch.arange(3.0 * N).reshape(N, 3))
    assert data.graph.ndata["feat"].is_contiguous()
    assert data.graph.ndata["label"].tolist() == [0, 1] * 6
    assert data.train_ids.tolist() == np.flatnonzero(arrays()["train_masks"][1]).tolist()
    assert data.graph.idtype == torch.int64


def test_undirected_adds_what_is_missing_and_keeps_the_rest(tmp_path):
    data = load(save(tmp_path / "g.npz", edge_weights=np.arange(5)), undirected=True)
    assert edge_list(data) == [(0, 1), (1, 0), (2, 3), (2, 3), (4, 4), (3, 2), (3, 2)]
    assert data.graph.edata["weight"].tolist() == [0, 1, 2, 3, 4, 2, 3]


def test_masks_of_one_dimension_hold_for_every_split(tmp_path):
    masks = arrays()
    test = np.arange(N) >= 10
    train, val = masks["train_masks"] & ~test, masks["val_masks"] & ~test
    data = load(save(tmp_path / "g.npz", train_masks=train, val_masks=val, test_masks=test), split=1)
    assert data.num_splits == 2
    assert data.test_ids.tolist() == [10, 11]
    one = {key: value[0] for key, value in arrays().items() if key.endswith("masks")}
    assert load(save(tmp_path / "one.npz", **one)).num_splits == 1


def test_several_labels_a_node(tmp_path):
    data = load(save(tmp_path / "g.npz", node_labels=np.ones((N, 3), dtype=int)))
    assert (data.multilabel, data.metric, data.num_classes) == (True, "micro_f1", 3)
    assert data.graph.ndata["label"].dtype == torch.float32


def test_no_edges_and_a_column_of_labels(tmp_path):
    changes = {"edges": np.empty((0, 2)), "node_labels": arrays()["node_labels"][:, None].astype(float)}
    data = load(save(tmp_path / "g.npz", **changes), undirected=True)
    assert (data.num_nodes, data.num_edges, data.multilabel) == (N, 0, False)


def test_roc_auc_for_two_classes_only(tmp_path):
    path = save(tmp_path / "g.npz")
    assert load(path, metric="roc_auc").metric == "roc_auc"
    with pytest.raises(ValueError, match="metric is 'auc'; choose one of accuracy, roc_auc, micro_f1"):
        load(path, metric="auc")
    with pytest.raises(ValueError, match="one class a node; use accuracy"):
        load(path, metric="micro_f1")
    three = save(tmp_path / "three.npz", node_labels=[0, 1, 2] + [0] * 9, train_masks=np.arange(N) < 3,
                 val_masks=np.arange(N) == 3, test_masks=np.arange(N) > 3)  # fmt: skip
    with pytest.raises(ValueError, match="has 3 classes; use accuracy"):
        load(three, metric="roc_auc")


def changed(key, index, value, dtype=None):
    array = arrays()[key].astype(dtype) if dtype else arrays()[key]
    array[index] = value
    return {key: array}


overlap = arrays()["val_masks"]
overlap[1, arrays()["train_masks"][1]] = True


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"edges": None, "node_labels": None}, r"lacks node_labels, edges; it has node_features, test_masks"),
        ({"node_features": np.zeros(N)}, r"node_features has shape \(12,\)"),
        ({"node_features": np.zeros((0, 3))}, r"node_features has shape \(0, 3\)"),
        ({"node_features": np.zeros((N, 0))}, r"node_features has shape \(12, 0\)"),
        ({"node_features": np.full((N, 2), "a")}, r"node_features holds <U1; give numbers"),
        (changed("node_features", (5, 1), np.nan), r"node_features holds 1 NaN .* first in row 5;"),
        (changed("node_features", ([3, 7], 0), np.inf), r"node_features holds 2 NaN or infinite .* row 3;"),
        (changed("node_features", (5, 1), 1e300), r"node_features holds 1 NaN or infinite .*row 5"),
        ({"node_labels": np.zeros(N + 1, dtype=int)}, r"node_labels has shape \(13,\), but node_f.* has 12"),
        ({"node_labels": np.array(3)}, r"node_labels has shape \(\)"),
        ({"node_labels": np.array(["a"] * N)}, r"node_labels holds <U1; give class numbers"),
        (changed("node_labels", 4, 0.5, float), r"node_labels holds 0.5 at node 4"),
        (changed("node_labels", 4, np.nan, float), r"node_labels holds nan at node 4"),
        (changed("node_labels", 4, -1), r"node_labels holds -1 at node 4; .* leave them out of the masks"),
        (changed("node_labels", 4, 10**12), r"node_labels holds 1000000000000 at node 4"),
        ({"node_labels": np.zeros(N, dtype=int)}, r"node_labels names one class only"),
        ({"node_labels": np.full((N, 2), 2)}, r"node_labels has two dimensions and a value .* row 0"),
        (changed("node_labels", 4, 3), r"has classes with no training .*: 2 \(0 nodes\), 3 \(1 nodes\)"),
        ({"edges": arrays()["edges"].T}, r"edges has shape \(2, 5\); .*; transpose it"),
        ({"edges": np.zeros(4, dtype=int)}, r"edges has shape \(4,\)"),
        (changed("edges", (3, 1), N), r"edges holds \(2, 12\) in row 3; node ids are 0 to 11"),
        (changed("edges", (2, 0), -1), r"edges holds \(-1, 3\) in row 2"),
        (changed("edges", (0, 0), 0.5, float), r"edges holds float64; give node ids as integers"),
        ({"edge_weights": np.ones(4)}, r"edge_weights has shape \(4,\) .* give 5 numbers"),
        ({"edge_weights": -np.ones(5)}, r"edge_weights holds -1.0 at edge 0"),
        ({"edge_weights": [1, 1, np.nan, 1, 1]}, r"edge_weights holds nan at edge 2"),
        ({"train_masks": np.ones((2, 5), dtype=bool)}, r"train_masks has shape \(2, 5\); give \(12,\) or"),
        ({"train_masks": np.arange(N)}, r"train_masks holds values other than true .* not node ids"),
        ({"train_masks": np.zeros((2, N))}, r"train_masks names no node in split 0"),
        ({"test_masks": np.zeros(N, dtype=bool)}, r"test_masks names no node in split 0"),
        ({"val_masks": overlap}, r"train_masks and val_masks overlap: split 1 has 4 nodes in both"),
        (
            {"test_masks": np.zeros((3, N), dtype=bool)},
            r"the numbers of splits differ \(2 in train_masks, 2 in val_masks, 3 in test_masks\)",
        ),
        ({"node_features": np.array([[{}]] * N, dtype=object)}, r"g.npz is not an .npz file of plain arrays"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, changes, sentence):
    path = save(tmp_path / "g.npz", **changes)
    with pytest.raises(ValueError, match=sentence) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unseen_classes_can_be_allowed(tmp_path):
    path = save(tmp_path / "g.npz", **changed("node_labels", 4, 3))
    assert load(path, allow_unseen_classes=True).num_classes == 4


def test_a_split_that_is_not_there(tmp_path):
    path = save(tmp_path / "g.npz")
    for split in (2, -1):
        with pytest.raises(ValueError, match=rf"split is {split}, but .*g.npz has splits 0 to 1"):
            load(path, split=split)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", None])
def test_a_file_that_is_no_npz(tmp_path, content):
    path = tmp_path / "g.npz"
    if content is None:
        np.save(tmp_path / "g.npy", np.ones(3))
        path = tmp_path / "g.npy"
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is not an .npz file of plain arrays, or is damaged"):
        load(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.floats(0, 0.99))
def test_a_truncated_npz(tmp_path, kept):
    whole = save(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "g.npz").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"g.npz is not an .npz file of plain arrays, or is damaged"):
        load(tmp_path / "g.npz")


def dgl_graph(**changes):
    given = arrays() | changes
    source, target = torch.from_numpy(given["edges"]).t()
    graph = dgl.graph((source, target), num_nodes=N, idtype=torch.int32)
    graph.ndata["feat"] = torch.from_numpy(given["node_features"])
    graph.ndata["label"] = torch.from_numpy(given["node_labels"])
    for part in ("train", "val", "test"):
        graph.ndata[f"{part}_mask"] = torch.from_numpy(given[f"{part}_masks"]).t().contiguous()
    return graph


def test_a_graph_saved_by_dgl_is_the_same_as_the_npz(tmp_path):
    graph = dgl_graph()
    graph.edata["weight"] = torch.arange(5.0, dtype=torch.float64)
    dgl.save_graphs(str(tmp_path / "mine.bin"), graph)
    ours = load(tmp_path / "mine.bin", split=1, undirected=True)
    same = load(save(tmp_path / "mine.npz", edge_weights=np.arange(5)), split=1, undirected=True)
    assert edge_list(ours) == edge_list(same)
    for key in ("feat", "label"):
        assert torch.equal(ours.graph.ndata[key], same.graph.ndata[key])
    assert torch.equal(ours.graph.edata["weight"], same.graph.edata["weight"])
    assert torch.equal(ours.train_ids, same.train_ids)
    assert (ours.name, ours.num_splits, ours.graph.idtype) == ("mine", 2, torch.int64)


def test_masks_of_one_split_saved_by_dgl(tmp_path):
    graph = dgl_graph(**{key: value[0] for key, value in arrays().items() if key.endswith("masks")})
    dgl.save_graphs(str(tmp_path / "g.bin"), graph)
    assert load(tmp_path / "g.bin").num_splits == 1


@pytest.mark.parametrize("case", ["missing", "two", "types", "nan"])
def test_an_unsuitable_graph_saved_by_dgl(tmp_path, case):
    graphs, sentence = [dgl_graph()], ""
    if case == "missing":
        del graphs[0].ndata["val_mask"]
        sentence = "lacks val_mask in ndata; it has feat, label, test_mask, train_mask, and needs"
    elif case == "two":
        graphs, sentence = graphs * 2, "holds 2 graphs; save one homogeneous graph"
    elif case == "types":
        graphs = [dgl.heterograph({("a", "r", "b"): ([0], [0]), ("b", "s", "a"): ([0], [0])})]
        sentence = "holds several types of nodes or edges"
    else:
        graphs[0].ndata["feat"][3, 0] = torch.nan
        sentence = r'ndata\["feat"\] holds 1 NaN or infinite values'
    dgl.save_graphs(str(tmp_path / "g.bin"), graphs)
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path / "g.bin")


@pytest.mark.parametrize("kept", [8, 20, 100, 0.3, 0.6, 0.9])
def test_a_truncated_graph_saved_by_dgl(tmp_path, kept):
    path = tmp_path / "g.bin"
    dgl.save_graphs(str(path), dgl_graph())
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"g.bin is not a graph saved by dgl.save_graphs, or is damaged") as caught:
        load(path)
    assert "\n" not in str(caught.value)
