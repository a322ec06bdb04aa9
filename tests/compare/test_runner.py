import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import compare_targets
import pandas as pd
import pytest
from compare_targets import Recorder, learn, learn_or_fail, make_cell

from gnnscale.compare import results as results_module
from gnnscale.compare.results import read_results
from gnnscale.compare.runner import run_cells, write_outcome

ROOT = Path(__file__).parents[2]


def test_a_failing_cell_is_a_result_and_the_others_go_on(tmp_path):
    names = ["raises", "dies", "aborts", "exits", "full"]
    results = run_cells([make_cell(name) for name in names], tmp_path, Recorder(), target=learn_or_fail)
    status = results.groupby("sampler", sort=False)["status"].first().to_dict()
    assert status == {
        "raises": "failed: fan-outs are odd today.",
        "dies": "killed by signal 9, probably out of memory",
        "aborts": f"killed by signal {int(signal.SIGABRT)}",
        "exits": "failed: the process ended with exit code 3 before its work was done",
        "full": "ok",
    }
    # The point that arrived before the failure is kept, and a cell without points has one row.
    assert results.groupby("sampler")["epoch"].agg(list).to_dict() == {
        "raises": [1], "dies": [0], "aborts": [0], "exits": [0], "full": [1, 2, 3],
    }  # fmt: skip
    log = tmp_path / "cells" / f"{make_cell('raises').file_name}.log"
    assert "Traceback" in log.read_text()

    outcome = write_outcome(results, tmp_path)
    assert outcome.failed == 4
    summary = outcome.summary.set_index("sampler")
    assert summary.loc["full", "status"] == "ok"
    assert summary.loc["dies", "status"] == ("1 of 1 runs failed; seed 0: killed by signal 9, probably out of memory")
    assert summary.loc["dies", "seeds"] == 0
    assert pd.isna(summary.loc["dies", "test_mean"])
    assert all(file.exists() for file in outcome.files)


def test_finished_cells_are_found_and_failed_ones_only_run_again_when_asked(tmp_path):
    cells = [make_cell("raises"), make_cell("full")]
    first = run_cells(cells, tmp_path, Recorder(), target=learn_or_fail)
    again = Recorder()
    second = run_cells(cells, tmp_path, again, target=learn_or_fail)
    assert (again.found, again.ran) == (2, [])
    pd.testing.assert_frame_equal(first, second)
    retried = Recorder()
    third = run_cells(cells, tmp_path, retried, retry_failed=True, target=learn)
    assert (retried.found, retried.ran) == (1, [("raises", 0)])
    assert set(third["status"]) == {"ok"}


def test_only_the_cells_asked_for_are_in_the_results(tmp_path):
    run_cells([make_cell("full"), make_cell("gas")], tmp_path, Recorder(), target=learn)
    results = run_cells([make_cell("gas")], tmp_path, Recorder(), target=learn)
    assert set(results["sampler"]) == {"gas"}


def test_a_cells_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    """A write that breaks off halfway leaves neither a result nor a temporary file."""

    def write_half(table, path):
        Path(path).write_bytes(b"PAR1")
        raise OSError("No space left on device")

    monkeypatch.setattr(results_module.pq, "write_table", write_half)
    with pytest.raises(OSError, match="No space left"):
        run_cells([make_cell()], tmp_path, Recorder(), target=learn)
    assert list((tmp_path / "cells").iterdir()) == []


def test_a_damaged_cell_is_named(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / f"{make_cell().file_name}.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"cannot be read as parquet .* delete it"):
        run_cells([make_cell()], tmp_path, Recorder(), target=learn)


def _start(out):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    script = [sys.executable, compare_targets.__file__, str(out)]
    return subprocess.Popen(script, cwd=ROOT, env=environment)


def test_killed_at_any_moment_it_goes_on_to_the_same_table(tmp_path):
    assert _start(tmp_path / "whole").wait() == 0
    for enough in (1, 3):  # kill it twice, the second time further on
        runner = _start(tmp_path / "killed")
        while len(list((tmp_path / "killed").glob("cells/[!.]*.parquet"))) < enough:
            assert runner.poll() is None
            time.sleep(0.01)
        runner.kill()
        assert runner.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.parquet").exists()
    assert _start(tmp_path / "killed").wait() == 0
    whole, killed = (read_results(tmp_path / name / "results.parquet") for name in ("whole", "killed"))
    pd.testing.assert_frame_equal(whole.drop(columns="started"), killed.drop(columns="started"))
    whole, killed = (pd.read_csv(tmp_path / name / "summary.csv") for name in ("whole", "killed"))
    pd.testing.assert_frame_equal(whole, killed)
