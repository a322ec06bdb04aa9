import io

import pandas as pd
import pytest
from compare_targets import learn_or_fail, make_cell, point
from rich.console import Console

from gnnscale.compare import display as display_module
from gnnscale.compare.display import LiveDisplay
from gnnscale.compare.jobs import crowding, share_cores
from gnnscale.compare.machine import usable_cores
from gnnscale.compare.runner import run_cells
from gnnscale.compare.time_left import TimeLeft


def rows(status="ok", **columns):
    return pd.DataFrame([{"status": status, "epoch": 1, "prepare_seconds": 1.0, "train_seconds": 9.0, **columns}])


def test_time_left_comes_from_cells_of_the_same_combination():
    left = TimeLeft(jobs=2)
    assert left.seconds([make_cell("gas")], []) is None
    left.ended(make_cell("gas", seed=0), 100.0)
    left.found(make_cell("full", seed=0), rows())
    left.found(make_cell("full", seed=1), rows("failed: no"))  # tells nothing
    assert left.seconds([make_cell("gas"), make_cell("full")], []) == 100  # the longest has to be waited for
    assert left.seconds([make_cell("gas")] * 4, []) == 200
    # A cell that runs says how fast it is; of an unknown one the others are taken as a guess.
    assert left.seconds([], [(make_cell("gas"), 20.0, 0.25)]) == 60
    assert left.seconds([make_cell("vrgcn")], []) == 55
    assert left.seconds([], []) == 0


@pytest.fixture
def live(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with LiveDisplay(console) as display:
        yield display


def shown(live):
    console = Console(file=io.StringIO(), width=200)
    console.print(live.progress.get_renderable())
    return console.file.getvalue()


def test_the_live_display_shows_what_runs_what_failed_and_what_is_left(live, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(display_module.time, "monotonic", lambda: clock[0])
    cells = [make_cell(name) for name in ("full", "gas", "labor", "vrgcn")]
    finished = rows(dataset="toy", model="gcn", sampler="full", seed=0, val=0.5, test=0.5, metric="accuracy",
                    history_wait_seconds=0.0)  # fmt: skip
    live.begin(cells, [None] * 4, jobs=2)
    live.cell(cells[0])
    live.cell(cells[1])
    assert "0/4 2 running" in " ".join(shown(live).split())
    live.stage(cells[1], "loading")
    clock[0] = 10.0
    live.point(cells[0], point(0, 1))
    text = " ".join(shown(live).split())
    assert "epoch 1/3 val 5.0 %, loss 1.000" in text
    assert "toy gcn gas seed 0" in text
    assert "loading" in text
    live.end(cells[1], finished.assign(status="out of memory: 3 GB", outcome="out_of_memory"))
    text = " ".join(shown(live).split())
    assert "1/4 1 running, 1 failed, about" in text
    assert "gas" not in text
    # One that another runner has finished.
    live.end(cells[2], finished.assign(status="killed", outcome="crashed"))
    assert "2/4 1 running, 2 failed" in " ".join(shown(live).split())


def test_the_live_display_follows_a_comparison_to_its_end(live, tmp_path):
    cells = [make_cell("raises"), make_cell("dies")]
    run_cells(cells, tmp_path, live, jobs=2, target=learn_or_fail)
    assert "2/2 2 failed" in " ".join(shown(live).split())
    assert "failed: fan-outs are odd today (epoch 2, evaluating)" in live.console.file.getvalue()


def test_jobs_share_the_cores_or_are_warned_of():
    cores = usable_cores()
    assert share_cores({"threads": None}, 1) == {"threads": None}
    assert share_cores({"threads": None}, cores) == {"threads": 1}
    assert crowding({"threads": None}, 1) is None
    assert crowding({"threads": 1}, cores) is None
    assert f"{2 * cores} cells at once with 1 threads each, on {cores} cores" in crowding({"threads": 1}, 2 * cores)
