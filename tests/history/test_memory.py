import multiprocessing
import os
import signal
import time

import pytest
import torch

from gnnscale.history.encoding import encode
from gnnscale.history.mapped import MappedMemory
from gnnscale.history.memory import DTYPES, LocalMemory, Table, as_dtype, native_view, parts_of
from gnnscale.ops import backend
from gnnscale.ops._backend import native

needs_native = pytest.mark.skipif(backend() != "native", reason="shared memory needs the native operations")


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_have_names(name):
    assert as_dtype(name) is as_dtype(getattr(torch, name)) is getattr(torch, name)


@pytest.mark.parametrize("dtype", ["float64", "", torch.int32, None, 4])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="has to be one of float32, float16, bfloat16, int8") as caught:
        as_dtype(dtype)
    assert f"dtype={dtype!r}" in str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize(("num_rows", "width"), [(0, 3), (1, 1), (7, 33), (200_000, 12)])
def test_a_table_is_zeros_in_aligned_memory(dtype, num_rows, width):
    table = LocalMemory(num_rows, dtype).add(width)
    assert (table.num_rows, table.width, table.dtype) == (num_rows, width, dtype)
    assert table.rows.is_contiguous()
    assert table.rows.data_ptr() % 64 == 0
    assert (table.scales is not None) == (dtype == torch.int8)
    assert table.written is not None
    assert table.versions is table.journal is None
    assert table.nbytes == num_rows * (width * dtype.itemsize + 4 + 4 * (dtype == torch.int8))
    for array in (table.rows, table.scales, table.written):
        assert array is None or not array.any()


def test_a_table_that_is_there_is_not_made_again():
    memory = LocalMemory(3, torch.float32)
    first = memory.add(2, 0)
    assert memory.add(5, 0) is first
    assert memory.add(4, 1) is memory.tables[1]
    memory.close()
    assert memory.tables == []
    assert first.rows.sum() == 0  # who holds a table keeps it


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_grown_memory_keeps_rows_and_begins_new_ones_now(dtype):
    memory = LocalMemory(3, dtype)
    table = memory.add(4)
    table.rows.copy_(torch.arange(12).view(3, 4))
    table.written.copy_(torch.tensor([1, 2, 3]))
    if table.scales is not None:
        table.scales.fill_(0.5)
    memory.step = 9
    grown = memory.grown(5)
    assert (grown.num_rows, grown.step, grown.dtype) == (5, 9, dtype)
    new = grown.tables[0]
    assert torch.equal(new.rows[:3], table.rows)
    assert not new.rows[3:].any()
    assert new.written.tolist() == [1, 2, 3, 9, 9]
    if table.scales is not None:
        assert new.scales.tolist() == [0.5, 0.5, 0.5, 0, 0]
    table.rows.fill_(100)
    assert new.rows.max() < 100


def test_features_are_rows_alone():
    assert list(parts_of(4, 2, torch.float16, kind="features", shared=True)) == ["rows"]
    assert list(parts_of(4, 2, torch.int8, kind="features", shared=True)) == ["rows", "scales"]


def test_a_copy_is_of_the_rows_asked_for():
    table = Table(torch.arange(20.0).view(10, 2), written=torch.arange(10, dtype=torch.int32))
    some = table.copied(3, 6)
    assert some.rows.tolist() == [[6, 7], [8, 9], [10, 11]]
    assert some.written.tolist() == [3, 4, 5]
    assert table.copied(8, 12).rows.shape == (2, 2)
    assert torch.equal(table.copied().rows, table.rows)
    some.rows.fill_(-1)
    assert table.rows.min() == 0


def keep_writing(memory):
    """Rows of one number, which is also their step."""
    table = memory.tables[0]
    transfers, view = native.Transfers(1), native_view(table)
    ids = torch.arange(table.num_rows)
    step = 0
    while True:
        step += 1
        transfers.push(view, ids, torch.full((table.num_rows, table.width), float(step % 100)), step % 100)
        transfers.flush()


def is_whole(some):
    values = some.rows if some.scales is None else (some.rows * some.scales[:, None]).round()
    return bool((values == some.written[:, None]).all())


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_a_copy_taken_while_another_process_writes_has_whole_rows(dtype):
    memory = MappedMemory.create(2000, dtype)
    table = memory.add(64)
    child = multiprocessing.get_context("fork").Process(target=keep_writing, args=(memory,))
    child.start()
    torn = 0
    try:
        for _ in range(2000):
            some = table.copied()
            assert is_whole(some)
            # The same without looking at versions does see torn rows, so that this test could fail.
            torn += not is_whole(Table(table.rows.clone(), table.scales, table.written.clone()))
            if torn and some.written.any():
                break
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert torn
    assert is_whole(table.copied())


@needs_native
def test_a_copy_ends_what_a_killed_process_was_writing():
    """A row is locked by a process that is no more: it has to become whole, and the copy must not wait for ever."""
    for delay in torch.rand(10).tolist():
        memory = MappedMemory.create(3, torch.float32)
        table = memory.add(100_000)
        child = multiprocessing.get_context("fork").Process(target=keep_writing, args=(memory,))
        child.start()
        while not table.written.any():
            time.sleep(0.001)
        time.sleep(0.02 * delay)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert is_whole(table.copied())
        assert not (table.versions % 2).any()


def test_int8_rows_mean_the_same_in_a_copy():
    rows = torch.randn(6, 5)
    stored, scales = encode(rows, torch.int8)
    some = Table(stored, scales).copied(2)
    assert torch.equal(some.rows, stored[2:])
    assert torch.equal(some.scales, scales[2:])
