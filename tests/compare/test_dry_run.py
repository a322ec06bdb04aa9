"""What ``--dry-run`` tells, and that it leaves everything as it is."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from compare_targets import Recorder, learn, learn_or_fail, make_cell
from typer.testing import CliRunner

from gnnscale.cli import app
from gnnscale.compare import estimate
from gnnscale.compare.dry_run import Planned, plan, plan_summary, plan_table, seconds_of
from gnnscale.compare.estimate import Estimate, measure, of_finished
from gnnscale.compare.plan import Choice, Facts, make_cells
from gnnscale.compare.results import read_results
from gnnscale.compare.runner import run_cells
from gnnscale.compare.specification import read_specification

ROOT = Path(__file__).parents[2]
SMALL = "synthetic(num_nodes=400, num_edges=3000, num_classes=3, communities_per_class=2)"


def small_cell(**flags):
    specification = read_specification(None, {"datasets": SMALL, "hidden": 8, "threads": 1, **flags})
    return make_cells(specification, {"synthetic": Facts(400, 3000, 1, "accuracy", "x")})[0]


def estimates(cell, seconds):
    sent = []
    measure(sent.append, cell, seconds)
    return sent


def test_cells_are_finished_failed_or_to_run(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(estimate, "measured", lambda cell, log: asked.append(cell) or Estimate(10.0, 50.0, "a guess"))
    done = [make_cell("full", seed) for seed in (0, 1)] + [make_cell("raises")]
    run_cells(done, tmp_path, Recorder(), target=learn_or_fail)
    damaged = make_cell("gas", seed=5)
    (tmp_path / "cells" / f"{damaged.file_name}.parquet").write_bytes(b"PAR1")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    cells = [*done, make_cell("full", 2), make_cell("raises", 1), damaged]
    full, raises, gas = planned = plan(cells, tmp_path)
    assert ([cell.seed for cell in full.finished], [cell.seed for cell in full.to_run]) == ([0, 1], [2])
    assert ([cell.seed for cell in raises.failed], [cell.seed for cell in raises.to_run]) == ([0], [1])
    assert gas.to_run == [damaged]
    # Finished runs tell more than a piece of one; a failed run tells nothing.
    assert full.estimate.source == "2 finished runs"
    assert [cell.sampler.name for cell in asked] == ["raises", "gas"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    text = plan_summary(planned, 1)
    assert text.startswith("6 cells: 2 finished, 1 failed (--retry-failed runs them again), 3 to run in about ")
    assert plan_table(planned).row_count == 3
    assert [cell.seed for cell in plan(cells, tmp_path, retry_failed=True)[1].to_run] == [0, 1]


def test_finished_runs_tell_the_time_and_memory(tmp_path):
    runs = [rows for _, rows in run_cells([make_cell(seed=seed) for seed in (0, 1)], tmp_path, Recorder(), target=learn)
            .groupby("seed")]  # fmt: skip
    found = of_finished(runs)
    assert found.seconds == pytest.approx(3.5)  # 0.5 of preparation, 3 epochs of 1 s
    assert found.source == "2 finished runs"
    assert of_finished([]) is None


@pytest.mark.parametrize(("jobs", "seconds"), [(1, 24.0), (2, 14.0), (8, 10.0)])
def test_jobs_share_the_time(jobs, seconds):
    cells = [make_cell(seed=seed) for seed in range(2)]
    planned = [
        Planned(to_run=cells, estimate=Estimate(10.0, 100.0, "x")),
        Planned(to_run=cells[:1], estimate=Estimate(4.0, 300.0, "x")),
        Planned(finished=cells),
        Planned(to_run=cells[:1], estimate=Estimate(float("nan"), float("nan"), "?")),
    ]
    assert seconds_of(planned, jobs) == seconds
    text = plan_summary(planned, jobs)
    assert "at least, without those that are not known" in text
    assert f"up to {min(jobs, 4) * 300:,} MB" in text


def test_a_piece_tells_of_the_whole():
    """Twice the epochs take twice the time, up to what comes once; a run that is short enough is measured whole."""
    (whole,) = estimates(small_cell(samplers="full", epochs=3), 5.0)
    assert whole.source == "measured, 3 epochs"
    assert whole.memory_mb > 10
    (piece,) = estimates(small_cell(samplers="full", epochs=100_000), 0.1)
    assert int(re.search(r"measured, (\d+) epochs", piece.source).group(1)) < 1000
    assert piece.seconds > 10 * whole.seconds


def test_part_of_an_epoch_tells_of_the_whole(monkeypatch):
    monkeypatch.setattr(estimate, "_TIMES_AS_LONG", 1)
    first, last = estimates(small_cell(samplers="neighbor(batch_size=1)", epochs=500), 1e-6)
    assert first.seconds != first.seconds
    assert re.fullmatch(r"measured, 3 of an epoch's \d+ steps", last.source)
    assert last.seconds > 0


def test_rules_bound_the_estimate():
    cell = small_cell(samplers="gas(num_parts=8, batch_size=2)", epochs=100_000, max_seconds=0.5, patience=9)
    (bounded,) = estimates(cell, 0.05)
    assert bounded.seconds < 30
    assert bounded.source.endswith("at most, it may end sooner")
    (limited,) = estimates(replace(cell, training={**cell.training, "max_seconds": None},
                                   budget={**cell.budget, "cell_seconds": 3.0}), 0.05)  # fmt: skip
    assert (limited.seconds, limited.source.endswith("cell_seconds will end it")) == (3.0, True)


def test_a_piece_that_fails_says_so(tmp_path):
    """And a sampler that never comes back does not stop the others."""
    cell = small_cell(samplers="full")
    broken = replace(cell, sampler=Choice("full", {"no": "such"}, "full"))
    assert "has no argument 'no'" in estimate.measured(broken, tmp_path / "log").source


def test_the_command_tells_and_writes_nothing(tmp_path):
    out = tmp_path / "out"
    words = ["compare", "--dataset", SMALL, "--samplers", "full,gas(num_parts=8, batch_size=2)", "--epochs", "3",
             "--hidden", "8", "--seeds", "2", "--out", str(out)]  # fmt: skip
    run = CliRunner().invoke(app, [*words, "--dry-run"])
    assert run.exit_code == 0, run.output
    assert not out.exists()
    assert re.search(r"synthetic +gcn +full +0-1 .* measured, 3 epochs", run.stdout)
    assert re.search(r"^4 cells: 0 finished, 4 to run in about \d+ s; up to [\d,]+ MB of memory", run.stdout, re.M)
    refused = CliRunner().invoke(app, [*words, "--dry-run", "--patience", "3"])
    assert (refused.exit_code, out.exists()) == (2, False)
    assert "--patience: patience is 3 and epochs 3" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["full", "neighbor", "cluster", "gas"])
def test_the_estimate_of_the_demo_is_within_a_factor_of_two(sampler, tmp_path):
    flags = {"samplers": sampler, "seeds": "1", "out": tmp_path}
    specification = read_specification(ROOT / "experiments" / "demo.toml", flags)
    from gnnscale.compare.runner import check

    cells = make_cells(specification, check(specification))
    (planned,) = plan(cells, tmp_path)
    began = time.perf_counter()
    run_cells(cells, tmp_path, Recorder())
    seconds = time.perf_counter() - began  # with loading, as the estimate
    (run,) = read_results(tmp_path)[-1:].to_dict("records")
    assert 0.5 < planned.estimate.seconds / seconds < 2, (planned.estimate, seconds)
    assert 0.8 < planned.estimate.memory_mb / run["peak_memory_mb"] < 1.25
