"""The benchmarks run, at sizes where they take no time, and the page's table is that of the results."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "experiments" / "speed"
TINY = 0.0005


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """Imports one of the benchmarks' modules; what they keep goes elsewhere."""
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(str(FOLDER))
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - known:  # their names are short, and others may use them
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


@pytest.mark.parametrize("name", ["neighbor", "samplers", "aggregation", "gather"])
def test_every_way_is_measured(bench, name):
    measure = bench("measure")
    lines = list(bench(name).lines(measure.Settings(scale=TINY, threads=1)))
    cases = {(line.work, line.case) for line in lines}
    for case in cases:
        ours = [line for line in lines if (line.work, line.case, line.who) == (*case, "gnnscale")]
        assert len(ours) == 1
        assert ours[0].value > 0
    assert all(line.value > 0 or line.note == "not installed" for line in lines)


def test_dgls_ladies_and_fastgcn_estimate_the_same_as_ours(bench):
    """What gnnscale is compared with has to do the work: the row sums of its blocks are those of Â, in the mean."""
    samplers, graphs = bench("samplers"), bench("graphs")
    graph = graphs.dgl_graph(*graphs.power_law(200, 4000))
    theirs = samplers.DGLLayerwise(graph, [40])
    seeds = torch.arange(30)
    _, destinations, ids = graph.in_edges(seeds, form="all")
    exact = torch.zeros(200).index_add_(0, destinations, theirs.weight[ids])[:30]
    torch.manual_seed(0)
    total = torch.zeros(30)
    for _ in range(400):
        (block,) = theirs.fastgcn(seeds)
        _, rows = block.edges(order="eid")
        total.index_add_(0, rows, block.edata["weight"])
    assert torch.allclose(total / 400, exact, rtol=0.25)
    (block,) = theirs.ladies(seeds)
    _, rows = block.edges(order="eid")
    sums = torch.zeros(30).index_add_(0, rows, block.edata["weight"])
    assert torch.allclose(sums[sums > 0], torch.ones(()))  # as LADIES' authors normalise


def test_a_missing_peer_is_a_line(bench):
    measure = bench("measure")
    first, second = measure.compare("work", "case", {"gnnscale": lambda n: n, "other": None}, 2, threads=1)
    assert first.value > 0
    assert math.isnan(second.value)
    assert second.note == "not installed"


def test_a_failing_benchmark_is_a_line(bench, monkeypatch, tmp_path, capfd):
    run, results = bench("run"), bench("results")
    (tmp_path / "gather.py").write_text("raise SystemExit('no room')")
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    assert run.main(["--only", "gather", "--quick", "--out", str(tmp_path / "out")]) == 1
    _, lines = results.read(tmp_path / "out" / "results.csv")
    assert lines.note.tolist() == ["failed: no room"]


def test_ratios_targets_and_table(bench, tmp_path):
    run, results = bench("run"), bench("results")
    rows = [
        {"work": "row gather", "case": "rows", "who": who, "value": value, "unit": "s", "repeats": 3, "threads": 2,
         "note": note, "benchmark": "gather"}
        for who, value, note in (
            ("gnnscale", 0.002, ""),
            ("index_select, fresh output", 0.005, "2 GB/s"),
            ("index_select, out=", 0.002, ""),
            ("copy of as many bytes", math.nan, "not installed"),
        )
    ]  # fmt: skip
    run.write(tmp_path, rows, ["gather"])
    _, lines = results.read(tmp_path / "results.csv")
    assert [results.is_met(row) for row in lines.itertuples()] == [None, False, True, None]
    table = (tmp_path / "table.md").read_text()
    expected = "| row gather | rows | 2 ms | index_select, fresh output | 5 ms, 2 GB/s | **2.50** | 3 | missed |"
    assert expected in table.splitlines()
    assert (tmp_path / "speed.png").exists()
    # Results of other benchmarks stay, those of the same one are replaced.
    run.write(tmp_path, [{**rows[0], "work": "R-MAT", "benchmark": "scale"}], ["scale"])
    run.write(tmp_path, rows[:1], ["gather"])
    _, lines = results.read(tmp_path / "results.csv")
    assert lines.benchmark.tolist() == ["gather", "scale"]


def test_the_page_has_the_table_of_the_results(bench):
    results = bench("results")
    described, lines = results.read(FOLDER / "results.csv")
    assert results.table_of(results.PAGE) == results.table(described, lines)
