"""Two trainers with one history: ``experiments/two_processes/train.py`` under torchrun, to the end and to the kill."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gnnscale.ops import backend

from ..conftest import SHARED_DATA

pytestmark = [
    pytest.mark.skipif(backend() != "native", reason="a shared history needs the native operations"),
    pytest.mark.timeout(3000),
]

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "experiments/two_processes/train.py"
HAS_CORA = (SHARED_DATA / "cora_v2").is_dir()
DATA = ["--dataset", "cora", "--data-dir", str(SHARED_DATA)] if HAS_CORA else ["--dataset", "synthetic"]
# 40 parts in batches of 6 are 7, and Cora's 140 training nodes in batches of 16 are 9.
BATCH_SIZES = {"gas": 6, "vrgcn": 16 if HAS_CORA else 800}


@pytest.fixture(autouse=True)
def _shared_memory_is_clean():
    """What has come to /dev/shm and stays is ours; what other programs put there meanwhile goes away again."""
    before = set(os.listdir("/dev/shm"))
    yield
    more, end = set(os.listdir("/dev/shm")) - before, time.monotonic() + 120
    while more:
        assert time.monotonic() < end, f"left behind: {more}"
        time.sleep(0.05)
        more &= set(os.listdir("/dev/shm"))


class Job:
    """A script in so many processes; its ranks are children of the launcher, and none outlives this."""

    def __init__(self, processes, script, *arguments):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), str(script), *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill([*self.ranks(), self.process.pid])
        self.process.stdout.close()

    def ranks(self):
        tasks = Path(f"/proc/{self.process.pid}/task")
        with contextlib.suppress(FileNotFoundError):
            return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
        return []

    def kill(self, pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process.pid in pids:
            self.process.wait(60)

    def wait(self, seconds=1500):
        """The exit status and what was printed."""
        text, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, text


def train(processes, *arguments):
    """The results of each seed."""
    with Job(processes, TRAIN, *DATA, *arguments) as job:
        status, text = job.wait()
    assert status == 0, text
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def see_the_same(results):
    return all(result["agreement"] == 1 for result in results)


@pytest.mark.parametrize("sampler", ["gas", pytest.param("vrgcn", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("epochs", "seeds", "tolerance"), [(60, 1, 0.05), pytest.param(100, 6, 0.02, marks=pytest.mark.slow)]
)
def test_two_trainers_reach_the_accuracy_of_one(sampler, epochs, seeds, tolerance):
    """Numbers of batches are uneven, and each reads the rows that the other pushed."""
    epochs = epochs if HAS_CORA else 15  # after 3, two are still on their way
    arguments = "--sampler", sampler, "--batch-size", BATCH_SIZES[sampler], "--epochs", epochs, "--seeds", seeds
    one, two = train(1, *arguments), train(2, *arguments)
    assert [result["processes"] for result in one + two] == [1] * seeds + [2] * seeds
    for alone, together in zip(one, two, strict=True):
        first, second = together["batches"]
        assert first == second + 1
        assert [first + second] == alone["batches"]
    assert see_the_same(two)
    accuracies = [sum(result["test"] for result in results) / seeds for results in (one, two)]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=tolerance)
    assert accuracies[0] > (0.75 if HAS_CORA else 0.3)


def test_trainers_with_a_history_each_are_found_out():
    assert not see_the_same(train(2, "--epochs", 1, "--placement", "host"))


def has_ended(pid):
    """Whether a process is gone, or nothing is left of it but its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("killed", ["a rank", "all"])
def test_a_kill_ends_the_job_and_leaves_nothing(killed):
    with Job(2, TRAIN, *DATA, "--epochs", 1, "--seeds", 10_000) as job:
        line = job.process.stdout.readline()
        while not line.startswith("{"):  # training is under way
            assert line, "it ended by itself"
            line = job.process.stdout.readline()
        ranks = job.ranks()
        assert len(ranks) == 2
        if killed == "a rank":
            job.kill(ranks[1:])
            status, text = job.wait(120)
            assert status != 0
            assert "SIGKILL" in text or "signal 9" in text.lower()
        else:
            job.kill([*ranks, job.process.pid])
        end = time.monotonic() + 60
        while not all(map(has_ended, ranks)):
            assert time.monotonic() < end, "a rank goes on"
            time.sleep(0.05)


WRONG = """
import torch.distributed as dist
from gnnscale.history import HistoryStore

dist.init_process_group("gloo")
rank = dist.get_rank()
for what, arguments in {
    "other": dict(num_rows=10 + rank, placement="shared"),
    "taken": dict(num_rows=10, placement="file", path=__file__),
    "large": dict(num_rows=10**13, widths=[8], placement="shared"),
    "right": dict(num_rows=10, widths=[8], placement="shared"),
}.items():
    try:
        said = repr(HistoryStore(**arguments))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(f"{what} {rank} {said}\\n", end="", flush=True)
dist.destroy_process_group()  # its threads do not end by themselves
"""


def test_a_store_that_one_process_cannot_make_is_refused_in_all(tmp_path):
    """With a sentence, without anybody waiting for the other; the next store can be made."""
    script = tmp_path / "wrong.py"
    script.write_text(WRONG)
    with Job(2, script) as job:
        status, text = job.wait(120)
    assert status == 0, text
    for rank in range(2):
        for line in (
            f"other {rank} ValueError: the processes ask for different stores: rank {rank} .*{10 + rank}",
            f"taken {rank} ValueError: .*path=.* exists",
            f"large {rank} MemoryError: .*TB",
            f"right {rank} HistoryStore.num_rows=10, widths=.8., placement='shared'",
        ):
            assert re.search(f"^{line}", text, re.MULTILINE), text
