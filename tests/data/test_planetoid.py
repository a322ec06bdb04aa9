"""Citation graphs are those of DGL's own class, from any layout, and nothing is written beside the files."""

import pickle
import shutil
from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from dgl.data import CiteseerGraphDataset, CoraGraphDataset

from gnnscale.data import load

DGL = {"cora": CoraGraphDataset, "citeseer": CiteseerGraphDataset}


def edge_set(graph):
    return set(zip(*(end.tolist() for end in graph.edges()), strict=True))


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # in DGL's unpickling
@pytest.mark.parametrize("name", DGL)
def test_the_graph_is_that_of_dgl(shared, tmp_path, name):
    raw = DGL[name].__new__(DGL[name])  # the folder name that DGL wants depends on the address alone
    stem = "cora_v2" if name == "cora" else name
    raw._url, raw._raw_dir, raw._name = f"https://data.dgl.ai/dataset/{stem}.zip", str(tmp_path), stem
    shutil.copytree(shared / stem, raw.raw_path)
    theirs = DGL[name](raw_dir=str(tmp_path), verbose=False)[0]

    ours = load(name, shared)
    assert edge_set(ours.graph) == edge_set(theirs)
    assert ours.num_edges == theirs.num_edges()
    assert torch.equal(ours.graph.ndata["label"], theirs.ndata["label"])
    torch.testing.assert_close(ours.graph.ndata["feat"], theirs.ndata["feat"], rtol=1e-6, atol=0)
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(ours, f"{part}_ids"), theirs.ndata[f"{part}_mask"].nonzero().flatten())


def test_the_real_sizes(shared):
    cora, citeseer = load("cora", shared), load("citeseer", shared)
    assert (cora.num_nodes, cora.num_edges, cora.num_features, cora.num_classes) == (2708, 10556, 1433, 7)
    assert (citeseer.num_nodes, citeseer.num_edges, citeseer.num_features) == (3327, 9228, 3703)
    assert (citeseer.graph.ndata["feat"].sum(1) == 0).sum() == 15  # the isolated test nodes
    assert [len(part) for part in (cora.train_ids, cora.val_ids, cora.test_ids)] == [140, 500, 1000]


def write_planetoid(folder, stem="pubmed", num_nodes=620, num_train=6, isolated=0):
    """A random graph in Planetoid's files; the last ten nodes test, in shuffled order."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    features = sp.random(num_nodes, 12, 0.4, format="csr", dtype=np.float32, random_state=0)
    labels = np.eye(3, dtype=np.int32)[random.integers(3, size=num_nodes)]
    tests = random.permutation(np.arange(num_nodes - 10, num_nodes))[isolated:]
    neighbours = defaultdict(list)
    for source, target in random.integers(num_nodes, size=(2000, 2)).tolist():
        neighbours[source].append(target)
    listed = num_nodes - 10
    parts = {
        "x": features[:num_train], "y": labels[:num_train], "tx": features[tests], "ty": labels[tests],
        "allx": features[:listed], "ally": labels[:listed], "graph": neighbours,
    }  # fmt: skip
    for part, value in parts.items():
        (folder / f"ind.{stem}.{part}").write_bytes(pickle.dumps(value, 2))
    (folder / f"ind.{stem}.test.index").write_text("\n".join(map(str, tests)))
    return features.toarray(), labels.argmax(1), neighbours


@pytest.mark.parametrize("layout", ["", "pubmed", "pubmed_1a2b3c4d"])
def test_layouts_of_the_folder(tmp_path, offline, layout):
    features, labels, neighbours = write_planetoid(tmp_path / layout)
    before = sorted(tmp_path.rglob("*"))
    data = load("pubmed", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert not offline
    expected = {(u, v) for u, others in neighbours.items() for v in others}
    assert edge_set(data.graph) == expected | {(v, u) for u, v in expected}
    assert data.graph.ndata["label"].tolist() == labels.tolist()
    sums = features.sum(1, keepdims=True)
    np.testing.assert_allclose(data.graph.ndata["feat"], features / np.where(sums == 0, 1, sums), rtol=1e-5)
    assert torch.equal(data.val_ids, torch.arange(6, 506))
    assert torch.equal(data.test_ids, torch.arange(610, 620))


@pytest.mark.parametrize(("folder", "stem"), [("cora", "cora"), ("cora_v2", "cora_v2"), ("", "cora")])
def test_both_names_of_cora(tmp_path, folder, stem):
    write_planetoid(tmp_path / folder, stem)
    assert load("cora", tmp_path).num_nodes == 620


def test_a_missing_file_is_named_and_nothing_is_downloaded(tmp_path, offline):
    write_planetoid(tmp_path)
    (tmp_path / "ind.pubmed.tx").unlink()
    with pytest.raises(FileNotFoundError, match=r"Dataset pubmed: .* lacks ind.pubmed.tx; put"):
        load("pubmed", tmp_path)
    assert not offline


@pytest.mark.parametrize("part", ["x", "allx", "ally", "graph", "test.index"])
def test_a_truncated_file_is_one_sentence(tmp_path, part):
    write_planetoid(tmp_path)
    path = tmp_path / f"ind.pubmed.{part}"
    path.write_bytes(path.read_bytes()[: 40 if part != "test.index" else 3] + b"\x00")
    with pytest.raises(ValueError, match=r"ind\."):
        load("pubmed", tmp_path)


def test_files_that_do_not_fit_together(tmp_path):
    write_planetoid(tmp_path)
    (tmp_path / "ind.pubmed.ty").write_bytes(pickle.dumps(np.zeros((4, 3)), 2))
    with pytest.raises(ValueError, match="do not fit together"):
        load("pubmed", tmp_path)


def test_there_is_one_split(tmp_path):
    write_planetoid(tmp_path)
    with pytest.raises(ValueError, match="split is 1, but pubmed has only split 0"):
        load("pubmed", tmp_path, split=1)


def test_offline_and_without_files_the_sentence_says_what_to_do(tmp_path, offline, capfd):
    with pytest.raises(FileNotFoundError) as caught:
        load("pubmed", tmp_path)
    sentence = str(caught.value)
    for needed in ("pubmed", "cannot be downloaded", "ind.pubmed.test.index", str(tmp_path), offline[0]):
        assert needed in sentence
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("top", ["", "pubmed/"])
def test_a_download_lands_in_the_cache_and_is_used_again(tmp_path, cache, monkeypatch, capfd, top):
    write_planetoid(tmp_path / "source" / top)
    archive = shutil.make_archive(str(tmp_path / "pubmed"), "zip", tmp_path / "source")
    calls = []

    def download(url, path, **_):
        calls.append(url)
        print("noise")
        shutil.copy(archive, path)

    monkeypatch.setattr("dgl.data.utils.download", download)
    data_dir = tmp_path / "empty"
    data_dir.mkdir()
    assert load("pubmed", data_dir).num_nodes == 620
    assert load("pubmed").num_nodes == 620
    assert calls == ["https://data.dgl.ai/dataset/pubmed.zip"]
    assert not list(data_dir.iterdir())
    assert [path.name for path in cache.iterdir()] == ["pubmed"]
    assert capfd.readouterr() == ("", "")


def test_a_broken_download_leaves_nothing_behind(cache, monkeypatch):
    def download(url, path, **_):
        with open(path, "wb") as file:
            file.write(b"not a zip")

    monkeypatch.setattr("dgl.data.utils.download", download)
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded \(File is not a zip file\)"):
        load("pubmed")
    assert not list(cache.iterdir())
