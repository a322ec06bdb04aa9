import json
import os
import re
import subprocess
import sys
from pathlib import Path

import compare_targets
import pandas as pd
import pytest
import torch
from compare_targets import (
    Meeting,
    Recorder,
    cells_to_share,
    learn,
    learn_or_fail,
    learn_when_two_are_there,
    make_cell,
    meet_three_others,
)

from gnnscale.compare import results as results_module
from gnnscale.compare.results import read_results
from gnnscale.compare.runner import run_cells

ROOT = Path(__file__).parents[2]


#: What each kind of trouble comes to: the outcome, the reason, and the epochs of its points.
ENDINGS = {
    "raises": ("raised", "failed: fan-outs are odd today (epoch 2, evaluating)", [1]),
    "diverges": ("diverged", "diverged: the loss became nan in epoch 1; try a smaller lr or clip_norm=1.0", [0]),
    "asks for too much": ("out_of_memory", r"out of memory: RuntimeError: .*can't allocate memory.* \(starting\)", [0]),
    "fills memory": (
        "out_of_memory", r"out of memory: [0-9.]+ GB, more than the 0\.6 GB of memory_gb \(preparing\)", [0],
    ),
    "fills shared memory": ("out_of_memory", r"out of memory: [0-9.]+ GB, more than the 0\.6 GB of memory_gb.*", [0]),
    "lets a child fill memory": ("out_of_memory", r"out of memory: [0-9.]+ GB, more than the 0\.6 GB.*", [0]),
    "hangs": ("timeout", r"timed out: more than the 1\.5 s of cell_seconds \(starting\)", [0]),
    "dies": ("crashed", r"killed by signal 9, SIGKILL \(starting\)", [0]),
    "faults": ("crashed", r"killed by signal 11, SIGSEGV \(starting\)", [0]),
    "aborts": ("crashed", r"killed by signal 6, SIGABRT \(starting\)", [0]),
    "exits": ("crashed", r"exited with status 3 before its work was done \(starting\)", [0]),
    "full": ("ok", "ok", [1, 2, 3]),
}  # fmt: skip


def test_however_a_cell_ends_it_is_a_result_and_the_others_go_on(tmp_path):
    seconds = {"hangs": 1.5}
    cells = [make_cell(name, budget={"memory_gb": 0.6, "cell_seconds": seconds.get(name, 60)}) for name in ENDINGS]
    results = run_cells(cells, tmp_path, Recorder(), jobs=4, target=learn_or_fail)
    assert list(results["sampler"].unique()) == list(ENDINGS)
    for name, run in results.groupby("sampler", sort=False):
        outcome, reason, epochs = ENDINGS[name]
        assert (run["outcome"] == outcome).all(), (name, run["status"].iloc[0])
        assert re.fullmatch(reason.replace(" (epoch", r" \(epoch").replace("evaluating)", r"evaluating\)"),
                            run["status"].iloc[0]), (name, run["status"].iloc[0])  # fmt: skip
        # The point that arrived before the failure is kept, and a cell without points has one row.
        assert list(run["epoch"]) == epochs
    # Its memory was counted to the end.
    assert results.set_index("sampler")["peak_memory_mb"]["fills memory"] > 600
    log = tmp_path / "cells" / f"{cells[0].file_name}.log"
    assert "Traceback" in log.read_text()


def test_a_run_tells_when_it_began_and_on_what(tmp_path):
    before = pd.Timestamp.now(tz="UTC")
    results = run_cells([make_cell()], tmp_path, Recorder(), jobs=2, target=learn)
    assert before <= results["started"].iloc[0] <= pd.Timestamp.now(tz="UTC")
    assert set(results["stopped"]) == {"epochs"}
    (text,) = set(results["machine"])
    about = json.loads(text)
    assert about["versions"]["torch"] == torch.__version__
    assert about["jobs"] == 2
    assert about["cores"] >= 1
    assert about["command"]


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
    assert [file.name for file in (tmp_path / "cells").iterdir()] == [".claims"]


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"])
def test_a_damaged_cell_is_set_aside_and_runs_again(content, tmp_path):
    (tmp_path / "cells").mkdir()
    file = tmp_path / "cells" / f"{make_cell().file_name}.parquet"
    file.write_bytes(content)
    recorder = Recorder()
    results = run_cells([make_cell()], tmp_path, recorder, target=learn)
    assert set(results["status"]) == {"ok"}
    assert recorder.ran == [("full", 0)]
    assert any("is damaged" in line for line in recorder.said)
    assert file.with_suffix(".damaged").read_bytes() == content
    assert len(read_results(file)) == 3


def test_what_a_killed_runner_was_writing_is_removed(tmp_path):
    (tmp_path / "cells").mkdir()
    left = tmp_path / "cells" / f".{make_cell().file_name}-123.parquet"
    left.write_bytes(b"PAR1")
    run_cells([make_cell()], tmp_path, Recorder(), target=learn)
    assert not left.exists()


def test_another_budget_gives_those_another_chance_that_it_was_too_small_for(tmp_path):
    def run(**budget):
        recorder = Recorder()
        cells = [make_cell(name, budget=budget) for name in ("fills memory", "hangs", "raises", "full")]
        # What finishes within one budget is the same under another.
        results = run_cells(cells, tmp_path, recorder, jobs=2, target=learn_or_fail)
        return [name for name, _ in recorder.ran], results.groupby("sampler")["outcome"].first().to_dict()

    failures = {"fills memory": "out_of_memory", "hangs": "timeout", "raises": "raised", "full": "ok"}
    assert run(memory_gb=0.5, cell_seconds=3) == (["fills memory", "hangs", "raises", "full"], failures)
    assert run(memory_gb=0.5, cell_seconds=3) == ([], failures)
    assert run(memory_gb=0.6, cell_seconds=3) == (["fills memory"], failures)
    assert run(memory_gb=0.6, cell_seconds=2) == (["hangs"], failures)


def test_jobs_run_at_once(tmp_path):
    """Each cell waits until as many are there as are to run at once."""
    cells = [make_cell(seed=seed, data_dir=tmp_path / "met") for seed in range(4)]
    (tmp_path / "met").mkdir()
    results = run_cells(cells, tmp_path / "out", Recorder(), jobs=4, target=meet_three_others)
    assert set(results["outcome"]) == {"ok"}
    assert list(results["seed"].unique()) == [0, 1, 2, 3]


def test_two_runners_on_one_folder_share_the_work(tmp_path):
    """One in a process of its own, and one here; no cell ends before both have begun one."""
    (tmp_path / "met").mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    other = subprocess.Popen([sys.executable, compare_targets.__file__, tmp_path, tmp_path / "other"], env=environment)
    recorder = Meeting()
    results = run_cells(cells_to_share(tmp_path / "met"), tmp_path, recorder, target=learn_when_two_are_there)
    assert other.wait() == 0
    ran = [f"{sampler}-{seed}" for sampler, seed in recorder.ran]
    others = (tmp_path / "other").read_text().split()
    assert ran
    assert others
    assert sorted(ran + others) == sorted(f"{sampler}-{seed}" for sampler in ("full", "gas") for seed in range(3))
    pd.testing.assert_frame_equal(results, read_results(tmp_path / "other.parquet"))


def test_stopped_the_moment_that_a_cell_is_written_its_rows_are_in_the_results(tmp_path, monkeypatch):
    def stop(rows, path):
        results_module.write_results(rows, path)
        if path.parent.name == "cells":
            raise KeyboardInterrupt

    monkeypatch.setattr("gnnscale.compare.runner.write_results", stop)
    with pytest.raises(KeyboardInterrupt):
        run_cells([make_cell(), make_cell(seed=1)], tmp_path, Recorder(), target=learn)
    assert list(read_results(tmp_path / "results.parquet")["seed"].unique()) == [0]
