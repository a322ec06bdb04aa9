"""The published tables as specifications, end to end on small raw files of the same layouts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from gnnscale.cli import app
from gnnscale.compare.cell import run_cell
from gnnscale.compare.plan import make_cells
from gnnscale.compare.results import read_results
from gnnscale.compare.runner import check
from gnnscale.compare.specification import read_specification
from tests.data.test_archives import write_graphsaint, write_reddit, write_yelp

FOLDER = Path(__file__).parents[1] / "experiments" / "inductive"
# The number of parts is the one setting that a small graph cannot have.
SMALL = {
    "graphsaint": "full,neighbor,fastgcn,ladies,asgcn,vrgcn,cluster(num_parts=8,batch_size=2),saint-node,saint-edge,"
    "saint-walk,gas(num_parts=8,batch_size=2)",
    "vrgcn": None,
    "clustergcn": "cluster(num_parts=8,batch_size=2)",
    "ogb": "full,neighbor,labor,cluster(num_parts=8,batch_size=2),saint-walk,vrgcn,gas(num_parts=8,batch_size=2)",
    "gas": "gas(num_parts=8,batch_size=2)",
}


def write_ppi(folder, random):
    """Three files of graphs, in which no edge joins two of them."""
    for mode, size in {"train": 200, "valid": 60, "test": 40}.items():
        ends = random.integers(size, size=(4 * size, 2)).tolist()
        links = [{"source": source, "target": target} for source, target in ends]
        graph = {"directed": False, "nodes": [{"id": node} for node in range(size)], "links": links}
        (folder / f"{mode}_graph.json").write_text(json.dumps(graph))
        np.save(folder / f"{mode}_feats.npy", random.random((size, 6)))
        np.save(folder / f"{mode}_labels.npy", random.integers(2, size=(size, 5)))


def write_ogb(folder, rule, random):
    size = 300
    part = random.permutation(size)
    tables = {
        "raw/edge": random.integers(size, size=(4 * size, 2)),
        "raw/node-feat": random.random((size, 6)),
        "raw/node-label": random.integers(4, size=(size, 1)),
        f"split/{rule}/train": part[:150, None],
        f"split/{rule}/valid": part[150:220, None],
        f"split/{rule}/test": part[220:, None],
    }
    for name, table in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(table).to_csv(path, header=False, index=False, compression="gzip")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for name in ("ppi", "flickr", "reddit", "yelp", "ogbn_arxiv", "ogbn_products"):
        (folder / name).mkdir()
    write_ppi(folder / "ppi", random)
    write_graphsaint(folder / "flickr")
    write_reddit(folder / "reddit")
    write_yelp(folder / "yelp")
    write_ogb(folder / "ogbn_arxiv", "time", random)
    write_ogb(folder / "ogbn_products", "sales_ranking", random)
    return folder


def cells_of(name, data_dir, out):
    """All cells of a specification, cut to one epoch and seed; every model and sampler has been built for them."""
    flags = {"epochs": 1, "seeds": "1", "hidden": 8, "threads": 1, "data_dir": data_dir, "out": out}
    if SMALL[name]:
        flags["samplers"] = SMALL[name]
    specification = read_specification(FOLDER / f"{name}.toml", flags)
    return make_cells(specification, check(specification))


def test_the_specifications_are_those_of_the_folder():
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(SMALL)
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"experiments/inductive/{name}.toml" in text for name in SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_cell_of_each_dataset_trains(name, data_dir, tmp_path):
    """Settings, data, model and sampler of the whole table fit together; another sampler of each dataset trains."""
    cells = cells_of(name, data_dir, tmp_path)
    datasets = list(dict.fromkeys(cell.dataset.label for cell in cells))
    assert {cell.facts.metric for cell in cells if cell.dataset.label in ("ppi", "yelp")} <= {"micro_f1"}
    for number, dataset in enumerate(datasets):
        of_dataset = [cell for cell in cells if cell.dataset.label == dataset]
        cell = of_dataset[(3 * number + 1) % len(of_dataset)]
        assert cell.training["inductive"] == (name not in ("ogb", "gas"))
        sent = []
        run_cell(sent.append, cell)
        (point,) = (message[1] for message in sent if message[0] == "point")
        assert np.isfinite(point["loss"])
        assert 0 <= point["test"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_all_cells_train(name, data_dir, tmp_path):
    """As users run them, with results and figures."""
    flags = ["--epochs", 1, "--seeds", 1, "--hidden", 8, "--threads", 1, "--data-dir", data_dir, "--out", tmp_path]
    samplers = ["--samplers", SMALL[name]] if SMALL[name] else []
    run = CliRunner().invoke(app, ["compare", str(FOLDER / f"{name}.toml"), *map(str, [*flags, *samplers])])
    assert run.exit_code == 0, run.output
    results = read_results(tmp_path / "results.parquet")
    assert set(results["status"]) == {"ok"}
    assert len(results) == len(cells_of(name, data_dir, tmp_path))
