"""What runs in the processes of the tests: cells that learn, raise, diverge, print and die."""

import os
import signal
import sys
import time
from pathlib import Path

import pandas as pd

from gnnscale.compare.plan import Cell, Choice, Facts

FACTS = Facts(num_nodes=10, num_edges=20, num_splits=2, metric="accuracy", digest="d1")
TRAINING = {"epochs": 3, "batch_size": None, "lr": 0.01}


def make_cell(sampler="full", seed=0, **changes):
    values = {
        "dataset": Choice("toy", {}, "toy"),
        "model": Choice("gcn", {"layers": 2}, "gcn"),
        "sampler": sampler if isinstance(sampler, Choice) else Choice(sampler, {}, sampler),
        "seed": seed,
        "training": TRAINING,
        "data_dir": None,
        "facts": FACTS,
        "budget": {"threads": None, "memory_gb": None, "cell_seconds": None},
    }
    return Cell(**{**values, **changes})


def point(seed, epoch):
    value = (seed + 1) * epoch / 20
    return {
        "epoch": epoch, "train_seconds": 1.0 * epoch, "sample_seconds": 0.1, "gather_seconds": 0.1,
        "transfer_seconds": 0.0, "history_seconds": 0.0, "compute_seconds": 0.8, "wait_seconds": 0.0,
        "loss": 1 / epoch, "val": value, "test": value / 2,
    }  # fmt: skip


def learn(send, cell):
    send(("stage", "preparing"))
    for epoch in (1, 2, 3):
        send(("point", point(cell.seed, epoch), 100.0 + epoch))
    send(("end", 0.5, 110.0, "epochs"))


def learn_or_fail(send, cell):
    """As the sampler's name says."""
    if cell.sampler.name == "raises":
        send(("point", point(cell.seed, 1), 101.0))
        raise ValueError("fan-outs are\nodd today.")
    if cell.sampler.name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if cell.sampler.name == "aborts":
        os.abort()
    if cell.sampler.name == "exits":
        os._exit(3)
    learn(send, cell)


def learn_slowly(send, cell):
    time.sleep(0.2)
    learn(send, cell)


def print_everywhere(send):
    print("from Python")
    os.write(1, b"from C++\n")
    print("an error", file=sys.stderr)


def send_pid_and_wait(send):
    send(os.getpid())
    time.sleep(60)


def send_numbers(send, numbers):
    for number in numbers:
        send(number)


class Recorder:
    """A display that only remembers."""

    def __init__(self):
        self.found, self.ran, self.points = None, [], 0

    def begin(self, cells, found):
        self.found = found

    def cell(self, cell):
        self.ran.append((cell.sampler.label, cell.seed))

    def stage(self, text):
        pass

    def point(self, point):
        self.points += 1

    def end(self, cell, rows):
        assert isinstance(rows, pd.DataFrame)


def compare_slowly(out):
    """The runner of the test that kills it."""
    from gnnscale.compare.runner import run_cells, write_outcome

    cells = [make_cell(sampler, seed) for seed in range(3) for sampler in ("full", "gas")]
    write_outcome(run_cells(cells, Path(out), Recorder(), target=learn_slowly), Path(out))


if __name__ == "__main__":
    compare_slowly(sys.argv[1])
