import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import compare_targets
import numpy as np
import pytest

from gnnscale.compare import process
from gnnscale.compare.endings import OK
from gnnscale.compare.limits import Limits, can_watch
from gnnscale.compare.plan import make_cells
from gnnscale.compare.process import Child, run_in_process, wait_for
from gnnscale.compare.runner import check
from gnnscale.compare.specification import read_specification

ROOT = Path(__file__).parents[2]


def is_gone(pid, seconds=10):
    """Whether the process ends; one that nobody has waited for yet has ended."""
    for _ in range(int(seconds / 0.02)):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_messages_arrive_in_order(tmp_path):
    received = []
    ending = run_in_process(compare_targets.send_numbers, ([3, 1, 2],), tmp_path / "log", received.append)
    assert (ending, received) == (OK, [3, 1, 2])
    assert not (tmp_path / "log").exists()


def test_what_is_printed_goes_to_the_log_alone(tmp_path, capfd):
    run_in_process(compare_targets.print_everywhere, (), tmp_path / "log", print)
    assert set((tmp_path / "log").read_text().splitlines()) == {"from Python", "from C++", "an error"}
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_kills_the_process_and_those_that_it_started(tmp_path):
    pids = []

    def stop(message):
        pids.extend(message)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_process(compare_targets.start_a_child_and_wait, (), tmp_path / "log", stop)
    assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)


def test_an_interrupt_while_it_starts_leaves_no_process(tmp_path, monkeypatch):
    pids = []

    def stop(pid, limits):
        pids.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "Watch", stop)
    with pytest.raises(KeyboardInterrupt):
        run_in_process(compare_targets.start_a_child_and_wait, (), tmp_path / "log", print)
    assert is_gone(*pids)


def test_interrupts_work_again_after_a_process_was_started(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run_in_process(compare_targets.send_numbers, ([],), tmp_path / "log", print)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's signals")
def test_ctrl_c_does_not_reach_the_server_while_it_imports():
    script = (
        "from multiprocessing import forkserver; from gnnscale.compare.process import start_server; start_server();"
        "print(open(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read())"
    )
    status = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (blocked,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")]
    assert int(blocked, 16) >> signal.SIGINT - 1 & 1


def test_a_time_limit_ends_what_holds_the_interpreters_lock(tmp_path):
    ending = run_in_process(
        compare_targets.hang_with_the_lock, (), tmp_path / "log", lambda pid: None, Limits(cell_seconds=0.5)
    )
    assert (ending.outcome, ending.status) == ("timeout", "timed out: more than the 0.5 s of cell_seconds")


def test_several_at_once_end_when_they_end(tmp_path):
    received = []
    children = [
        Child(compare_targets.send_numbers, (range(i, i + 3),), tmp_path / f"log{i}", received.append) for i in range(3)
    ]
    endings = {}
    while len(endings) < 3:
        wait_for(child for i, child in enumerate(children) if i not in endings)
        endings |= {i: ending for i, child in enumerate(children) if (ending := child.step())}
    for child in children:
        child.close()
    assert set(endings.values()) == {OK}
    assert sorted(received) == [0, 1, 1, 2, 2, 2, 3, 3, 4]


def test_a_thread_that_never_ends_does_not_hold_up_what_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_TO_EXIT", 0.2)
    received = []
    ending = run_in_process(compare_targets.done_but_never_ends, (), tmp_path / "log", received.append)
    assert (ending, received) == (OK, ["done"])


WAITER = """
import sys
sys.path.insert(0, sys.argv[1])
import compare_targets
from pathlib import Path
from gnnscale.compare.process import run_in_process
if __name__ == "__main__":
    run_in_process(compare_targets.hang_with_the_lock, (), Path(sys.argv[2]), lambda pid: print(pid, flush=True))
"""


def test_a_killed_caller_takes_its_process_with_it(tmp_path):
    """Also one that holds the interpreter's lock, so that none of its threads can look."""
    (tmp_path / "waiter.py").write_text(WAITER)
    command = [sys.executable, str(tmp_path / "waiter.py"), str(Path(__file__).parent), str(tmp_path / "log")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as caller:
        pid = int(caller.stdout.readline())
        assert not is_gone(pid, seconds=0.2)
        caller.kill()
    assert is_gone(pid)


@pytest.mark.skipif(not can_watch(), reason="the system does not tell how much memory a process uses")
def test_the_peak_of_memory_is_the_processes_own(tmp_path):
    """Neither the caller's nor that of an earlier process is in it."""
    peaks = []
    ballast = bytearray(10**9)
    ballast[::4096] = b"x" * len(ballast[::4096])
    for megabytes in (500, 10):
        run_in_process(compare_targets.use_memory, (megabytes,), tmp_path / "log", peaks.append)
    (before, large), (_, small) = peaks
    assert large - before == pytest.approx(500, abs=100)
    assert small < large - 300
    assert small < 900


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_a_cell_finds_everything_imported(metric, tmp_path):
    """What the server has not imported, every cell imports anew: torch's compiler alone takes two seconds."""
    graph = tmp_path / "graph.npz"
    random = np.random.default_rng(0)
    masks = random.integers(3, size=100)
    arrays = {f"{name}_masks": (masks == i)[None] for i, name in enumerate(("train", "val", "test"))}
    classes = 2 if metric == "roc_auc" else 3
    np.savez(graph, node_features=random.standard_normal((100, 4)).astype("float32"), **arrays,
             node_labels=np.arange(100) % classes, edges=random.integers(100, size=(500, 2)))  # fmt: skip
    flags = {
        "datasets": f"{graph}(metric='{metric}')",
        "samplers": "gas(num_parts=4)",
        "epochs": 1,
        "out": tmp_path / "out",
        "threads": 1,
    }
    flags |= {"out": tmp_path / "out", "threads": 1}
    specification = read_specification(None, flags)
    (cell,) = make_cells(specification, check(specification))
    assert cell.facts.metric == metric
    found = []
    ending = run_in_process(compare_targets.import_while_running, (cell,), tmp_path / "log", found.append)
    assert ending == OK, (tmp_path / "log").read_text()
    ((threads, imported),) = found
    assert len(imported) < 30
    # A server with threads of its own would not be safe to fork; that of pyarrow's allocator does survive a fork.
    assert len([name for name in threads if name != "jemalloc_bg_thd"]) == 1
