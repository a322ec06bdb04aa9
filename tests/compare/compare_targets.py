"""What runs in the processes of the tests: cells that learn, raise, diverge, print and die."""

import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import torch

from gnnscale.compare.display import Display
from gnnscale.compare.plan import Cell, Choice, Facts
from gnnscale.compare.results import write_results

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
        send(("stage", "training"))
        send(("point", point(cell.seed, epoch), {"peak_memory_mb": 100.0 + epoch}))
    send(("end", {"prepare_seconds": 0.5, "peak_memory_mb": 110.0, "stopped": "epochs"}))


def learn_or_fail(send, cell):
    """As the sampler's name says."""
    kind = cell.sampler.name
    if kind == "raises":
        send(("point", point(cell.seed, 1), {"peak_memory_mb": 101.0}))
        send(("stage", "evaluating"))
        raise ValueError("fan-outs are\nodd today.")
    if kind == "diverges":
        raise FloatingPointError("the loss became nan in epoch 1; try a smaller lr or clip_norm=1.0")
    if kind == "asks for too much":
        torch.empty(2**60)
    if kind == "fills memory":
        send(("stage", "preparing"))
        fill(3 * 10**9)
    if kind == "fills shared memory":
        file = os.memfd_create("much")
        os.ftruncate(file, 3 * 10**9)
        fill_bytes(memoryview(mmap.mmap(file, 3 * 10**9)))
    if kind == "lets a child fill memory":
        child = multiprocessing.get_context("fork").Process(target=fill, args=(3 * 10**9,))
        child.start()
        child.join()
    if kind == "hangs":
        # PyDLL keeps the interpreter's lock: no thread of this process can do anything any more.
        ctypes.PyDLL(None).sleep(600)
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "faults":
        ctypes.string_at(0)
    if kind == "aborts":
        os.abort()
    if kind == "exits":
        os._exit(3)
    learn(send, cell)


def fill(size):
    fill_bytes(memoryview(bytearray(size)))


def fill_bytes(memory):
    """Touch memory at a rate that leaves a watcher time, some 2 GB/s."""
    for start in range(0, len(memory), 2**20):
        memory[start : start + 2**20] = b"x" * 2**20
        time.sleep(0.0005)


def meet_three_others(send, cell):
    (cell.data_dir / str(cell.seed)).touch()
    while len(list(cell.data_dir.iterdir())) < 4:
        time.sleep(0.01)
    learn(send, cell)


def print_everywhere(send):
    print("from Python")
    os.write(1, b"from C++\n")
    print("an error", file=sys.stderr)


def send_pid_and_wait(send):
    send(os.getpid())
    time.sleep(60)


def start_a_child_and_wait(send):
    """Two processes that wait, the second of which holds the pipe open as well."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    send((os.getpid(), child.pid))
    time.sleep(60)


def hang_with_the_lock(send):
    send(os.getpid())
    ctypes.PyDLL(None).sleep(600)


def done_but_never_ends(send):
    send("done")
    threading.Thread(target=time.sleep, args=(600,)).start()


def import_while_running(send, cell):
    """A real cell, and what it imported meanwhile."""
    from gnnscale.compare.cell import run_cell

    before = set(sys.modules)
    threads = [comm.read_text().strip() for comm in Path(f"/proc/{os.getppid()}/task").glob("*/comm")]
    run_cell(lambda message: None, cell)
    send((threads, set(sys.modules) - before))


def use_memory(send, megabytes):
    from gnnscale.compare.cell import peak_memory_mb

    before = peak_memory_mb()
    block = bytearray(megabytes * 10**6)
    block[::4096] = b"x" * len(block[::4096])
    send((before, peak_memory_mb()))


def send_numbers(send, numbers):
    for number in numbers:
        send(number)


class Recorder(Display):
    """A display that only remembers."""

    def __init__(self):
        self.found, self.ran, self.points, self.said = None, [], 0, []

    def begin(self, cells, found, jobs):
        self.found = sum(rows is not None for rows in found)

    def cell(self, cell):
        self.ran.append((cell.sampler.label, cell.seed))

    def point(self, cell, point):
        self.points += 1

    def end(self, cell, rows):
        assert isinstance(rows, pd.DataFrame)

    def say(self, line):
        self.said.append(line)


def cells_to_share(met):
    return [make_cell(sampler, seed, data_dir=Path(met)) for seed in range(3) for sampler in ("full", "gas")]


def learn_when_two_are_there(send, cell):
    """No cell ends before each of two runners has begun one."""
    while len(list(cell.data_dir.iterdir())) < 2:
        time.sleep(0.01)
    learn(send, cell)


class Meeting(Recorder):
    """Leaves a file when a cell begins in this process."""

    def cell(self, cell):
        super().cell(cell)
        (cell.data_dir / str(os.getpid())).touch()


def compare_slowly(out, ran):
    """The other runner of the test in which two share a folder; ``ran`` is where it says which cells it ran."""
    from gnnscale.compare.runner import run_cells

    recorder = Meeting()
    results = run_cells(cells_to_share(Path(out) / "met"), Path(out), recorder, target=learn_when_two_are_there)
    Path(ran).write_text(" ".join(f"{sampler}-{seed}" for sampler, seed in recorder.ran))
    write_results(results, Path(ran).with_suffix(".parquet"))


if __name__ == "__main__":
    compare_slowly(*sys.argv[1:])
