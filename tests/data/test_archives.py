"""Raw files of DGL's archives: the same graphs as DGL's own classes, where those run."""

import json

import dgl.data
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnscale.data import load

N = 300
random = np.random.default_rng(0)
ADJACENCY = sp.random(N, N, 0.02, format="coo", random_state=0)
ADJACENCY.data[:] = 1
FEATURES = random.random((N, 8)).round(3)
LABELS = random.integers(3, size=N)
ROLE = random.permutation(N)


def write_reddit(folder):
    sp.save_npz(folder / "reddit_graph.npz", ADJACENCY)
    np.savez(folder / "reddit_data.npz", feature=FEATURES, label=LABELS, node_types=ROLE % 3 + 1)


def write_graphsaint(folder, labels=LABELS):
    sp.save_npz(folder / "adj_full.npz", ADJACENCY.tocsr())
    np.save(folder / "feats.npy", FEATURES)
    (folder / "class_map.json").write_text(json.dumps({str(i): y for i, y in enumerate(labels.tolist())}))
    parts = {"tr": ROLE[:100].tolist(), "va": ROLE[100:150].tolist(), "te": ROLE[150:].tolist()}
    (folder / "role.json").write_text(json.dumps(parts))


def write_yelp(folder):
    write_graphsaint(folder, random.integers(2, size=(N, 4)))


def write_wikics(folder):
    masks = [np.equal(ROLE % 4, part).tolist() for part in range(4)]
    rows = ADJACENCY.tolil().rows.tolist()
    data = {
        "features": FEATURES.tolist(),
        "labels": LABELS.tolist(),
        "links": rows,
        "train_masks": [masks[0], masks[1]],
        "val_masks": [masks[1], masks[2]],
        "stopping_masks": [masks[2], masks[0]],
        "test_mask": masks[3],
    }
    (folder / "data.json").write_text(json.dumps(data))


def write_shchur(folder, name="amazon_co_buy_photo"):
    adjacency, attributes = ADJACENCY.tocsr(), sp.csr_matrix(np.floor(4 * FEATURES))
    arrays = {}
    for key, matrix in (("adj", adjacency), ("attr", attributes)):
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"{key}_{part}"] = getattr(matrix, part)
    # Some of these files hold Python objects beside the numbers; they must not be touched.
    np.savez(folder / f"{name}.npz", labels=LABELS, class_names=np.array([{}], dtype=object), **arrays)


def rows(graph, ids=None):
    """Rows of features and labels in an order that does not depend on the order of the nodes."""
    label = graph.ndata["label"].float().reshape(graph.num_nodes(), -1)
    table = torch.cat([graph.ndata["feat"].float(), label], dim=1).numpy()
    table = table if ids is None else table[ids.numpy()]
    return table[np.lexsort(table.T)]


def edge_rows(graph):
    source, target = graph.edges()
    table = torch.cat([graph.ndata["feat"][source], graph.ndata["feat"][target]], dim=1).numpy()
    return table[np.lexsort(table.T)]


@pytest.mark.parametrize(
    ("name", "write", "theirs"),
    [
        ("reddit", write_reddit, dgl.data.RedditDataset),
        ("flickr", write_graphsaint, dgl.data.FlickrDataset),
        ("yelp", write_yelp, dgl.data.YelpDataset),
        ("wikics", write_wikics, dgl.data.WikiCSDataset),
    ],
)
def test_the_graph_is_that_of_dgl(tmp_path, monkeypatch, name, write, theirs):
    monkeypatch.setattr(theirs, "raw_path", str(tmp_path))  # DGL would look for a name with a hash
    write(tmp_path)
    ours, graph = load(name, tmp_path), theirs(raw_dir=str(tmp_path))[0]
    # DGL renumbers the nodes of some graphs, so they are told apart by their features.
    np.testing.assert_array_equal(rows(ours.graph), rows(graph))
    np.testing.assert_array_equal(edge_rows(ours.graph), edge_rows(graph))
    masks = ("train_mask", "stopping_mask" if name == "wikics" else "val_mask", "test_mask")
    for part, mask in zip(("train", "val", "test"), masks, strict=True):
        mask = graph.ndata[mask]
        chosen = (mask if mask.dim() == 1 else mask[:, 0]).nonzero().flatten()
        np.testing.assert_array_equal(rows(ours.graph, getattr(ours, f"{part}_ids")), rows(graph, chosen))
    assert ours.multilabel == (name == "yelp")
    assert ours.metric == ("micro_f1" if name == "yelp" else "accuracy")


def test_wikics_has_its_own_splits(tmp_path):
    write_wikics(tmp_path)
    data = load("wikics", tmp_path, split=1)
    assert data.num_splits == 2
    assert data.train_ids.tolist() == np.flatnonzero(ROLE % 4 == 1).tolist()
    assert data.val_ids.tolist() == np.flatnonzero(ROLE % 4 == 0).tolist()


def test_amazon_and_coauthor_as_in_gnnautoscale(tmp_path):
    (tmp_path / "amazon-photo").mkdir()
    write_shchur(tmp_path / "amazon-photo")
    data = load("amazon-photo", tmp_path, split=3)
    both = ((ADJACENCY + ADJACENCY.T) > 0).toarray()
    np.fill_diagonal(both, False)
    adjacency = np.zeros_like(both)
    source, target = data.graph.edges()
    adjacency[source, target] = True
    assert data.num_edges == both.sum()
    np.testing.assert_array_equal(adjacency, both)
    np.testing.assert_array_equal(data.graph.ndata["feat"], FEATURES >= 0.25)
    assert data.num_splits == 20
    assert torch.bincount(data.graph.ndata["label"][data.train_ids]).tolist() == [20, 20, 20]
    assert torch.bincount(data.graph.ndata["label"][data.val_ids]).tolist() == [30, 30, 30]
    other = load("amazon-photo", tmp_path, split=4)
    assert not torch.equal(data.train_ids, other.train_ids)


@pytest.mark.parametrize("directed", [True, False])
def test_ppi_is_one_disjoint_union(tmp_path, directed):
    sizes = {"train": 5, "valid": 3, "test": 2}
    for mode, size in sizes.items():
        links = [{"source": i, "target": i + 1} for i in range(size - 1)]
        if directed:
            links += [{"source": link["target"], "target": link["source"]} for link in links]
        graph = {"directed": directed, "nodes": [{"id": i} for i in range(size)], "links": links}
        (tmp_path / f"{mode}_graph.json").write_text(json.dumps(graph))
        np.save(tmp_path / f"{mode}_feats.npy", np.full((size, 2), size))
        np.save(tmp_path / f"{mode}_labels.npy", np.eye(5, 4)[:size])
    data = load("ppi", tmp_path)
    assert (data.num_nodes, data.num_edges, data.num_classes) == (10, 2 * (4 + 2 + 1), 4)
    assert [part.tolist() for part in (data.train_ids, data.val_ids, data.test_ids)] == [
        [0, 1, 2, 3, 4], [5, 6, 7], [8, 9],
    ]  # fmt: skip
    source, target = data.graph.edges()
    assert ((source - target).abs() == 1).all()
    assert torch.equal(data.graph.ndata["feat"][source], data.graph.ndata["feat"][target])
    assert data.graph.ndata["label"].dtype == torch.float32
    assert (data.multilabel, data.metric) == (True, "micro_f1")


@pytest.mark.parametrize(
    ("name", "write", "damaged"),
    [
        ("reddit", write_reddit, "reddit_graph.npz"),
        ("reddit", write_reddit, "reddit_data.npz"),
        ("flickr", write_graphsaint, "feats.npy"),
        ("flickr", write_graphsaint, "role.json"),
        ("wikics", write_wikics, "data.json"),
        ("amazon-photo", write_shchur, "amazon_co_buy_photo.npz"),
    ],
)
def test_a_truncated_file_is_one_sentence(tmp_path, name, write, damaged):
    write(tmp_path)
    path = tmp_path / damaged
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=f"{damaged} is not .* or is damaged") as caught:
        load(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_split_that_names_no_node_of_the_graph(tmp_path):
    write_graphsaint(tmp_path)
    (tmp_path / "role.json").write_text(json.dumps({"tr": [N], "va": [0], "te": [1]}))
    with pytest.raises(ValueError, match=f"Dataset flickr: training set has ids outside 0 to {N - 1}"):
        load("flickr", tmp_path)
