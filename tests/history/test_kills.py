"""Processes that are killed in the middle of a push: rows stay whole, and nobody waits for the dead."""

import multiprocessing
import time

import numpy as np
import pytest
import torch

from gnnscale.history import HistoryStore
from gnnscale.ops import backend

from . import telling_rows
from .telling_rows import Reader

pytestmark = pytest.mark.skipif(backend() != "native", reason="shared and file need the native operations")

# So wide that most of a writer's time goes into the copying of rows, where a kill hits it.
NUM_ROWS, WIDTH, PUSHES, KILLS = 8, 16_384, 100, 25
IDS = np.arange(NUM_ROWS)

forking = multiprocessing.get_context("fork")


def push_until_killed(make_store, writer, pipe):
    torch.set_num_threads(1)
    # Four rows are written by the thread that pushes them, more by the store's own.
    store, random, size = make_store(), np.random.default_rng(writer), 8 if writer % 3 == 0 else 4
    # Made before, so that the time goes into pushes.
    numbers = np.arange(1, 1 + PUSHES * size).reshape(PUSHES, size)
    ids = np.stack([random.permutation(NUM_ROWS)[:size] for _ in range(PUSHES)])
    rows = [telling_rows.make(writer, *one, WIDTH) for one in zip(numbers, ids, strict=True)]
    pipe.send("ready")
    for some, ones in zip(ids, rows, strict=True):
        store.push(0, torch.from_numpy(some), ones)
    time.sleep(600)


def start(make_store, writer):
    here, there = forking.Pipe()
    child = forking.Process(target=push_until_killed, args=(make_store, writer, there), daemon=True)
    child.start()
    there.close()
    assert here.poll(60)
    return child


def kill(child):
    child.kill()
    child.join(60)


def pull_all(store, reader):
    """Read and check all rows; it must not take for ever."""
    pull, end = store.pull(0, torch.from_numpy(IDS)), time.monotonic() + 30  # of a size that is done by a thread
    while not pull.done:
        assert time.monotonic() < end, "a pull hangs after a kill"
        time.sleep(0.001)
    reader.pulled(IDS, pull.wait())


def make_store(placement, folder, dtype):
    path = {"path": folder / "history"} if placement == "file" else {}
    return HistoryStore(NUM_ROWS, [WIDTH], dtype=dtype, placement=placement, num_threads=2, **path)


def half_written(store):
    """Rows whose write has begun and not ended."""
    return int((store._table(0).versions % 2 != 0).sum())


def kills(make_store, writers, seed):
    """Start one writer after another, and kill it at a random moment."""
    random = np.random.default_rng(seed)
    for writer in writers:
        child = start(make_store, writer)
        time.sleep(random.uniform(0, 0.01))
        kill(child)
        yield


@pytest.mark.parametrize(("placement", "dtype"), [("shared", "float32"), ("file", "int8")])
def test_rows_are_whole_and_nobody_hangs_after_a_kill(placement, dtype, tmp_path):
    """Two children push, and time after time the older one is killed; the parent pulls and pushes all the time."""
    store, me = make_store(placement, tmp_path, dtype), KILLS + 2
    random, reader = np.random.default_rng(0), Reader(me, NUM_ROWS, me)
    older = start(lambda: store, 1)
    for writer in range(2, KILLS + 2):
        younger, end = start(lambda: store, writer), time.monotonic() + random.uniform(0, 0.01)
        while time.monotonic() < end:
            pull_all(store, reader)
        kill(older)
        pull_all(store, reader)
        # Writing goes on as well, through rows that the dead had locked.
        numbers = np.arange(NUM_ROWS * writer, NUM_ROWS * (writer + 1))
        store.push(0, torch.from_numpy(IDS), telling_rows.make(me, numbers, IDS, WIDTH))
        reader.pushed(IDS, numbers)
        pull_all(store, reader)
        older = younger
    kill(older)
    pull_all(store, reader)
    assert not half_written(store)
    store.close()


def is_torn(store):
    try:
        pull_all(store, Reader(4 * KILLS, NUM_ROWS))
    except AssertionError as error:
        return "torn" in str(error)
    return False


def test_kills_hit_rows_in_the_middle(tmp_path):
    """What the tests beside are worth: without the journal, killed writers leave torn rows."""
    store = make_store("shared", tmp_path, "float32")
    for _ in kills(lambda: store, range(1, 4 * KILLS + 1), seed=1):
        if half_written(store):
            store._table(0).journal.zero_()
            if is_torn(store):
                return
    pytest.fail("no killed writer has left a torn row")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_file_is_opened_after_each_kill(dtype, tmp_path):
    store = make_store("file", tmp_path, dtype)
    path, reader = store.path, Reader(KILLS, NUM_ROWS)
    store.close()
    for _ in kills(lambda: HistoryStore.open(path, num_threads=2), range(1, KILLS + 1), seed=2):
        store = HistoryStore.open(path)
        assert not half_written(store)
        pull_all(store, reader)
        store.close()
