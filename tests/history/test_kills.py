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
NUM_ROWS, WIDTH, PUSHES, KILLS = 8, 32_768, 40, 25
IDS = np.arange(NUM_ROWS)

forking = multiprocessing.get_context("fork")


def push_until_killed(make_store, writer, pipe):
    torch.set_num_threads(1)
    store, random = make_store(), np.random.default_rng(writer)
    # Made before, so that the time goes into pushes.
    numbers = np.arange(1, 1 + PUSHES * NUM_ROWS).reshape(PUSHES, NUM_ROWS)
    ids = np.stack([random.permutation(NUM_ROWS) for _ in range(PUSHES)])
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


@pytest.mark.parametrize(("placement", "dtype"), [("shared", "float32"), ("file", "int8")])
def test_rows_are_whole_and_nobody_hangs_after_a_kill(placement, dtype, tmp_path):
    """Of two children that push, one after the other is killed; the parent pulls and pushes all the time."""
    store = make_store(placement, tmp_path, dtype)
    random, reader, hit = np.random.default_rng(0), Reader(KILLS + 2, NUM_ROWS, me=KILLS + 2), 0
    survivor = start(lambda: store, 1)
    for writer in range(2, KILLS + 2):
        child, end = start(lambda: store, writer), time.monotonic() + random.uniform(0, 0.02)
        while time.monotonic() < end:
            pull_all(store, reader)
        kill(survivor)
        survivor = child
        pull_all(store, reader)
        # Writing goes on as well, through rows that the dead had locked.
        numbers = np.arange(NUM_ROWS * writer, NUM_ROWS * (writer + 1))
        store.push(0, torch.from_numpy(IDS), telling_rows.make(reader.me, numbers, IDS, WIDTH))
        reader.pushed(IDS, numbers)
        pull_all(store, reader)
    kill(survivor)
    hit += half_written(store)
    pull_all(store, reader)
    assert not half_written(store)
    store.close()


def kills(make, writers, seed):
    """Kill one writer after another, and give how many rows each left half written."""
    random = np.random.default_rng(seed)
    for writer in writers:
        child = start(make, writer)
        time.sleep(random.uniform(0, 0.02))
        kill(child)
        yield


def test_kills_hit_rows_in_the_middle(tmp_path):
    """What the tests beside are worth: without the journal, killed writers leave torn rows."""
    store, torn, hit = make_store("shared", tmp_path, "float32"), 0, 0
    for _ in kills(lambda: store, range(1, KILLS + 1), seed=1):
        hit += half_written(store)
        store._table(0).journal.zero_()
        try:
            pull_all(store, Reader(KILLS, NUM_ROWS))
        except AssertionError as error:
            assert "torn" in str(error)
            torn += 1
        store.reset()
        store.flush()
    print("HIT", hit, torn)
    assert hit
    assert torn
    store.close()


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
