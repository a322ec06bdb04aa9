"""Memory that processes share, with real processes, of which some are killed."""

import multiprocessing
import os
import pickle
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from gnnscale.history import mapped as module
from gnnscale.history.header import HEADER
from gnnscale.history.mapped import MappedMemory, save
from gnnscale.history.memory import DTYPES, LocalMemory, native_view
from gnnscale.ops import backend
from gnnscale.ops._backend import native

needs_native = pytest.mark.skipif(backend() != "native", reason="writing needs the native operations")
fork = multiprocessing.get_context("fork")

ARRAYS = ("rows", "scales", "written", "versions", "journal")


@pytest.fixture(autouse=True)
def _nothing_is_left_in_dev_shm():
    before = set(os.listdir("/dev/shm"))
    yield
    assert set(os.listdir("/dev/shm")) <= before


@pytest.fixture(params=["shared", "file"])
def path(request, tmp_path):
    return tmp_path / "rows" if request.param == "file" else None


def arrays(table):
    return {name: array for name in ARRAYS if (array := getattr(table, name)) is not None}


def filled(memory):
    """Writes a number of its own into each array of each table."""
    for number, table in enumerate(memory.tables):
        for place, array in enumerate(arrays(table).values()):
            array.fill_(10 * (number + 1) + 2 * place)
    return memory


def is_filled(tables):
    return all(
        bool((array == 10 * (number + 1) + 2 * place).all())
        for number, table in enumerate(tables)
        for place, array in enumerate(arrays(table).values())
    )


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize("kind", ["history", "features"])
def test_arrays_are_zeros_on_pages_of_their_own(dtype, kind, path):
    memory = MappedMemory.create(1001, dtype, path=path, kind=kind)
    for width in (1, 33, 64):
        table = memory.add(width)
        assert (table.num_rows, table.width, table.dtype) == (1001, width, dtype)
        expected = ["rows"] + ["scales"] * (dtype == torch.int8)
        expected += ["written", "versions", "journal"] * (kind == "history")
        assert list(arrays(table)) == expected
        for array in arrays(table).values():
            assert array.data_ptr() % 4096 == 0
            assert not array.any()
    assert is_filled(filled(memory).tables)  # so none lies on another


@pytest.mark.parametrize("num_rows", [0, 1, 70_000])
@pytest.mark.parametrize("kind", ["history", "features"])
def test_any_number_of_rows(num_rows, kind, path):
    memory = MappedMemory.create(num_rows, torch.float16, path=path, kind=kind)
    assert memory.add(3).rows.shape == (num_rows, 3)
    assert memory.add(4).rows.shape == (num_rows, 4)
    assert is_filled(filled(memory).tables)


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize("kind", ["history", "features"])
def test_a_file_has_its_rows_when_it_is_opened_again(dtype, kind, tmp_path):
    path = tmp_path / "rows"
    memory = MappedMemory.create(300, dtype, path=path, kind=kind)
    memory.add(4), memory.add(9)
    memory.step = 12
    for table in filled(memory).tables:
        for name in ("versions", "journal"):
            if name in arrays(table):
                arrays(table)[name].zero_()
    memory.sync()
    memory.close()
    again = MappedMemory.open(path, kind=kind)
    assert (again.num_rows, again.dtype, again.kind, again.path) == (300, dtype, kind, path)
    assert again.step == 12
    assert [table.width for table in again.tables] == [4, 9]
    for number, table in enumerate(again.tables):
        assert (table.rows == 10 * (number + 1)).all()
        if kind == "history":
            assert (table.written == 10 * (number + 1) + (4 if dtype == torch.int8 else 2)).all()


def test_a_closed_memory_lets_go_of_the_file_and_not_of_tables_that_are_held(tmp_path):
    memory = MappedMemory.create(3, torch.float32, path=tmp_path / "rows")
    rows = memory.add(2).rows
    memory.close()
    memory.close()
    rows.fill_(4.0)
    assert MappedMemory.open(tmp_path / "rows").tables[0].rows.sum() == 24
    assert memory.tables == []
    for use in (memory.fileno, memory.sync, lambda: memory.add(2), lambda: memory.grown(5)):
        with pytest.raises(ValueError, match="the memory has been closed"):
            use()


def test_no_descriptor_is_left(path):
    def count():
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(3):
        memory = MappedMemory.create(3, torch.float32, path=path)
        memory.add(2)
        memory = memory.grown(5)
        MappedMemory.attach(memory.fileno())
        if path is not None:
            memory.close()
            for _ in range(2):
                MappedMemory.open(path)
            path.write_bytes(bytes(5000))
            with pytest.raises(ValueError, match="is not a file of"):
                MappedMemory.open(path)
            path.unlink()
        del memory
    assert count() == before


# What is refused.


def write_file(path, *, widths=(3, 5), num_rows=100, kind="history"):
    memory = MappedMemory.create(num_rows, torch.int8, path=path, kind=kind)
    for width in widths:
        memory.add(width)
    memory.close()
    return path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty: who made it was killed before anything was in it; delete it"),
        (b"g", "is not a file of a HistoryStore or FeatureStore, or cut off after 1 bytes"),
        (b"node,label\n" * 1000, "is not a file of a HistoryStore or FeatureStore"),
        (bytes(10_000), "is not a file of a HistoryStore or FeatureStore"),
    ],
)
def test_files_of_something_else_are_refused(content, sentence, tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(content)
    for kind in ("history", "features"):
        with pytest.raises(ValueError) as caught:
            MappedMemory.open(path, kind=kind)
        assert str(caught.value) == f"path={str(path)!r} {sentence}"
    assert path.read_bytes() == content


def test_a_file_that_is_cut_off_is_refused_wherever_that_is(tmp_path):
    path = write_file(tmp_path / "rows")
    content = path.read_bytes()
    lengths = {
        0,
        1,
        7,
        8,
        31,
        32,
        HEADER - 1,
        HEADER,
        HEADER + 1,
        len(content) // 2,
        len(content) - 4096,
        len(content) - 1,
    }
    memory = MappedMemory.open(path)
    for table in memory.tables:  # the ends of all arrays
        start = table.rows.data_ptr() - memory.tables[0].rows.data_ptr() + HEADER
        lengths |= {start + array.data_ptr() - table.rows.data_ptr() for array in arrays(table).values()}
    memory.close()
    for length in lengths:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut off|is empty") as caught:
            MappedMemory.open(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(content)
    MappedMemory.open(path)


def test_a_file_without_tables_is_one(tmp_path):
    path = write_file(tmp_path / "rows", widths=())
    assert path.stat().st_size == HEADER
    assert MappedMemory.open(path).tables == []


def test_a_damaged_header_is_refused(tmp_path):
    path = write_file(tmp_path / "rows")
    content = bytearray(path.read_bytes())
    content[24] ^= 1  # the number of rows
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows' has a damaged header, and cannot be used$"):
        MappedMemory.open(path)


@pytest.mark.parametrize(
    ("act", "error", "sentence"),
    [
        (lambda path: MappedMemory.open(path, kind="features"), ValueError, "rows' holds histories, and not features"),
        (lambda path: MappedMemory.open(path.with_name("no")), FileNotFoundError, "no' does not exist"),
        (lambda path: MappedMemory.open(path.parent), ValueError, "is a folder; name the file"),
        (lambda path: MappedMemory.create(3, torch.int8, path=path), ValueError, "rows' exists; open it with HistoryS"),
        (lambda path: MappedMemory.create(3, torch.int8, path=path / "a"), NotADirectoryError, "a"),
        (
            lambda path: MappedMemory.create(3, torch.int8, path=path.parent / "no" / "rows"),
            FileNotFoundError,
            "rows' is in a folder that does not exist; make that",
        ),
        (
            lambda path: MappedMemory.open(path, read_only=True).add(4),
            ValueError,
            "rows' is open for reading, and cannot get another table",
        ),
        (
            lambda path: pickle.dumps(MappedMemory.open(path)),
            TypeError,
            "and not be pickled; to keep its rows, save them",
        ),
    ],
)
def test_bad_input_is_one_sentence(act, error, sentence, tmp_path):
    path = write_file(tmp_path / "rows")
    before = path.read_bytes()
    with pytest.raises(error, match=re.escape(sentence)) as caught:
        act(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_features_are_not_histories(tmp_path):
    path = write_file(tmp_path / "rows", kind="features")
    with pytest.raises(ValueError, match="holds features, and not histories"):
        MappedMemory.open(path)


# Several processes.


def in_child(act):
    """Runs a function in a forked process; gives what it returns, or the sentence of what it raises."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            result = repr(act())
        except Exception as error:
            result = str(error)
        os.write(writing, result.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as file:
        return file.read()


def wait_for(happened):
    for _ in range(10_000):
        if happened():
            return
        time.sleep(0.001)
    raise AssertionError("it did not happen")


def kill(child):
    os.kill(child.pid, signal.SIGKILL)
    child.join()


def test_a_file_is_used_by_one_job(tmp_path):
    path = write_file(tmp_path / "rows")
    memory = MappedMemory.open(path)
    sentence = f"path={str(path)!r} is in use by a running process; end it, or close its store"
    with pytest.raises(ValueError) as caught:
        MappedMemory.open(path)
    assert str(caught.value) == sentence
    assert in_child(lambda: MappedMemory.open(path)) == sentence
    memory.close()
    assert in_child(lambda: MappedMemory.open(path).num_rows) == "100"


def test_a_file_can_be_opened_after_its_process_was_killed(tmp_path):
    path, ready = tmp_path / "rows", fork.Event()

    def use():
        _memory = MappedMemory.create(3, torch.int8, path=path)
        ready.set()
        signal.pause()

    child = fork.Process(target=use)
    child.start()
    ready.wait()
    with pytest.raises(ValueError, match="in use"):
        MappedMemory.open(path)
    kill(child)
    assert MappedMemory.open(path).num_rows == 3


def test_a_file_stays_in_use_while_an_attached_process_lives(tmp_path):
    path, ready, end = tmp_path / "rows", fork.Event(), fork.Event()
    memory = MappedMemory.create(3, torch.int8, path=path)
    place = f"/proc/{os.getpid()}/fd/{memory.fileno()}"

    def use():
        memory.close()
        attached = MappedMemory.attach(place)
        assert attached.path == path
        ready.set()
        end.wait()

    child = fork.Process(target=use)
    child.start()
    ready.wait()
    memory.close()
    with pytest.raises(ValueError, match="in use"):
        MappedMemory.open(path)
    end.set()
    child.join()
    assert child.exitcode == 0
    MappedMemory.open(path)


def test_attached_processes_see_each_other(path):
    memory = MappedMemory.create(4, torch.float32, path=path)
    memory.add(2).rows[1] = 3.0
    memory.step = 8

    place = f"/proc/{os.getpid()}/fd/{memory.fileno()}"

    def answer():
        other = MappedMemory.attach(place)
        other.tables[0].rows[2] = other.tables[0].rows[1] + 1
        other.add(5).rows[0] = 6.0
        other.step = 30
        return other.path, other.num_rows, other.dtype

    assert in_child(answer) == repr((path, 4, torch.float32))
    assert memory.tables[0].rows.tolist() == [[0, 0], [3, 3], [4, 4], [0, 0]]
    assert memory.tables[1].rows[0].tolist() == [6] * 5
    assert memory.step == 8  # each process counts for itself
    memory.step = 10
    assert MappedMemory.attach(memory.fileno()).step == 30
    assert MappedMemory.attach(memory.fileno(), step=2).step == 2


def test_a_forked_child_goes_on_with_the_same_memory(path):
    memory = MappedMemory.create(3, torch.float32, path=path)
    rows = memory.add(1).rows
    rows[0] = 1.0

    def use():
        rows[1] = rows[0] + 1
        memory.add(2).rows.fill_(7)
        return len(memory.tables)

    assert in_child(use) == "2"
    assert rows.flatten().tolist() == [1, 2, 0]
    assert memory.tables[1].rows.sum() == 42


def use_spawned(memory, place):
    memory.tables[0].rows[1] = memory.step
    memory.step += 1
    memory.add(3).rows.fill_(5)
    place.put((memory.path, memory.num_rows))
    signal.pause()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_started_process_can_be_handed_memory(method, path):
    context = multiprocessing.get_context(method)
    memory = MappedMemory.create(3, torch.float32, path=path)
    memory.add(1)
    memory.step = 50
    memory.step = 6
    place = context.Queue()
    child = context.Process(target=use_spawned, args=(memory, place))
    child.start()
    assert place.get(timeout=120) == (path, 3)
    assert memory.tables[0].rows.flatten().tolist() == [0, 6, 0]
    assert memory.tables[1].rows.sum() == 45
    with pytest.raises(ValueError, match="other processes use this store and would not see it grow"):
        memory.grown(10)
    kill(child)
    assert memory.grown(10).num_rows == 10


def test_processes_that_make_the_same_table_make_one(path):
    memory = MappedMemory.create(50, torch.float32, path=path)
    start = fork.Event()

    def use(number):
        start.wait()
        for layer in range(20):
            table = memory.add(3 + layer, layer)
            assert table.width == 3 + layer
            table.rows[number] = 1

    children = [fork.Process(target=use, args=(number,)) for number in range(4)]
    for child in children:
        child.start()
    start.set()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert [table.width for table in memory.tables] == list(range(3, 23))
    assert all(table.rows[:4].sum() == 4 * table.width for table in memory.tables)


def test_threads_see_each_table_once():
    memory = MappedMemory.create(50, torch.float32)
    other = MappedMemory.attach(memory.fileno())
    seen = []

    def look():
        while len(tables := list(other.tables)) < 40:
            widths = [table.width for table in tables]
            if widths != list(range(1, 1 + len(widths))):
                seen.append(widths)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for width in range(1, 41):
        memory.add(width)
    for thread in threads:
        thread.join()
    assert seen == []


# Kills.


def add_tables(path):
    memory = MappedMemory.create(1000, torch.int8, path=path)
    for width in range(1, 65):
        filled_one = memory.add(width)
        filled_one.rows.fill_(width)
    signal.pause()


def test_who_is_killed_while_adding_leaves_whole_tables(tmp_path):
    seen = set()
    for number in range(30):
        path = tmp_path / str(number)
        child = fork.Process(target=add_tables, args=(path,))
        child.start()
        wait_for(path.exists)
        time.sleep(0.02 * number / 30)
        kill(child)
        if path.stat().st_size == 0 or path.read_bytes()[:8] == bytes(8):  # before there was a header
            with pytest.raises(ValueError, match=r"is empty|is not a file of"):
                MappedMemory.open(path)
            continue
        memory = MappedMemory.open(path)
        tables = list(memory.tables)
        seen.add(len(tables))
        assert [table.width for table in tables] == list(range(1, len(tables) + 1))
        assert all(table.rows.unique().tolist() == [table.width] for table in tables[:-1])
        if len(tables) < 64:
            more = memory.add(10)
            assert not any(array.any() for array in arrays(more).values())
            assert path.stat().st_size == memory._header.entries()[-1][0] + memory._size(10)
    assert len(seen) > 3


def test_room_that_a_killed_process_took_is_used(path):
    memory = MappedMemory.create(100, torch.float32, path=path)
    memory.add(3)
    size = os.fstat(memory.fileno()).st_size
    os.ftruncate(memory.fileno(), size + 100_000)
    os.pwrite(memory.fileno(), b"\xff" * 1000, size)  # it never did, but could have
    assert not memory.add(3).rows.any()
    assert os.fstat(memory.fileno()).st_size == 2 * size - HEADER


def push_for_ever(path, started):
    """Rows of the step's number, as fast as possible."""
    memory = MappedMemory.open(path)
    table = memory.tables[0]
    transfers, view = native.Transfers(1), native_view(table)
    ids = torch.arange(table.num_rows)
    for step in range(10**9):
        transfers.push(view, ids, torch.full((table.num_rows, table.width), float(step % 100)), step % 100)
        transfers.flush()
        if step == 3:
            started.set()


def is_whole(table):
    values = table.rows if table.scales is None else (table.rows * table.scales[:, None]).round()
    return bool((values == table.written[:, None]).all())


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_who_is_killed_while_writing_leaves_whole_rows(dtype, tmp_path, monkeypatch):
    path, locked, torn = tmp_path / "rows", 0, 0
    memory = MappedMemory.create(3, dtype, path=path)
    memory.add(200_000)
    memory.close()
    for number in range(60):
        started = fork.Event()
        child = fork.Process(target=push_for_ever, args=(path, started))
        child.start()
        started.wait()
        time.sleep(0.003 * torch.rand(()).item())
        kill(child)
        # A wrong twin that completes nothing: it has to meet what this test is about.
        with monkeypatch.context() as patch:
            patch.setattr(module, "_complete", lambda table, alone: None)
            twin = MappedMemory.open(path, read_only=True).tables[0]
            locked += bool((twin.versions % 2).any())
            torn += not is_whole(twin)
        before = path.read_bytes()
        assert is_whole(MappedMemory.open(path, read_only=True).tables[0])
        assert path.read_bytes() == before
        assert is_whole(MappedMemory.open(path).tables[0])
        assert not (MappedMemory.open(path, read_only=True).tables[0].versions % 2).any()
        # A row is locked for a small part of the time that it takes to make it int8: that one need not be met.
        if number >= 8 and ((locked and torn) or dtype == torch.int8):
            break
    else:
        raise AssertionError("no kill came in the middle of a row")


@needs_native
def test_locks_that_a_stopped_machine_left_are_undone(tmp_path):
    path = tmp_path / "rows"
    memory = MappedMemory.create(4, torch.float32, path=path)
    table = memory.add(2)
    table.versions.copy_(torch.tensor([5 << 7 | 3 << 1 | 1, -1, 1, 6 << 7], dtype=torch.int32))
    memory.close()
    table = MappedMemory.open(path).tables[0]
    assert table.versions.tolist() == [6 << 7, 0, 1 << 7, 6 << 7]
    transfers, view = native.Transfers(1), native_view(table)
    transfers.push(view, torch.arange(4), torch.ones(4, 2), 1)
    assert transfers.pull(view, torch.arange(4), 1).wait().sum() == 8


@needs_native
def test_a_file_in_use_can_be_read(tmp_path):
    path, started = tmp_path / "rows", fork.Event()
    memory = MappedMemory.create(500, torch.float32, path=path)
    memory.add(100)
    memory.close()
    child = fork.Process(target=push_for_ever, args=(path, started))
    child.start()
    try:
        started.wait()
        seen = set()
        for _ in range(50):
            some = MappedMemory.open(path, read_only=True).tables[0].copied()
            assert is_whole(some)
            seen |= set(some.written.tolist())
        assert len(seen) > 1
    finally:
        kill(child)


def test_reading_changes_nothing(tmp_path):
    path = write_file(tmp_path / "rows")
    before = path.read_bytes()
    memory = MappedMemory.open(path, read_only=True)
    memory.tables[0].rows.fill_(7)
    memory.step = 9
    del memory
    assert path.read_bytes() == before
    path.chmod(0o400)
    MappedMemory.open(path, read_only=True)


def test_features_cannot_be_written_to(tmp_path):
    path = write_file(tmp_path / "rows", kind="features")
    memories = [MappedMemory.open(path, kind="features") for _ in range(2)]  # any number
    assert memories[0].tables[0].rows.sum() == 0
    assert "wr" not in flags_of(memories[0].tables[0].rows)
    assert "wr" in flags_of(MappedMemory.create(3, torch.int8).add(2).rows)


# Growth and copies.


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_grown_memory_has_its_rows_and_its_file(dtype, path):
    memory = MappedMemory.create(300, dtype, path=path)
    memory.add(4), memory.add(7)
    filled(memory)
    memory.step = 90
    memory.step = 15
    old = [table.copied() for table in _quiet(memory)]
    grown = memory.grown(500)
    assert (grown.num_rows, grown.step, grown.dtype, grown.path) == (500, 15, dtype, path)
    for before, table in zip(old, grown.tables, strict=True):
        assert torch.equal(table.rows[:300], before.rows)
        assert torch.equal(table.written[:300], before.written)
        assert (table.written[300:] == 15).all()
        assert not table.rows[300:].any()
        if dtype == torch.int8:
            assert torch.equal(table.scales[:300], before.scales)
        assert not table.versions.any()
    if path is not None:
        assert os.listdir(path.parent) == [path.name]
        with pytest.raises(ValueError, match="in use"):
            MappedMemory.open(path)
        grown.close()
        again = MappedMemory.open(path)
        assert (again.num_rows, again.step) == (500, 90)  # the largest step of all


def _quiet(memory):
    for table in memory.tables:
        table.versions.zero_()
        table.journal.zero_()
    return memory.tables


def test_memory_that_a_forked_child_uses_does_not_grow(path):
    memory = MappedMemory.create(3, torch.float32, path=path)
    end, ready = fork.Event(), fork.Event()

    def use():
        ready.set()
        end.wait()

    child = fork.Process(target=use)
    child.start()
    ready.wait()
    with pytest.raises(ValueError, match="other processes use this store and would not see it grow"):
        memory.grown(5)
    assert memory.add(2).rows.shape == (3, 2)
    end.set()
    child.join()
    assert memory.grown(5).tables[0].rows.shape == (5, 2)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_memory_does_not_grow_as_soon_as_a_process_is_started(method):
    """The process has not come to anything yet."""
    memory = MappedMemory.create(3, torch.float32)
    child = multiprocessing.get_context(method).Process(target=use_a_little, args=(memory,))
    child.start()
    with pytest.raises(ValueError, match="other processes use this store and would not see it grow"):
        memory.grown(5)
    child.join()
    assert child.exitcode == 0
    assert memory.tables[0].rows.sum() == 12
    assert memory.grown(5).tables[0].rows.sum() == 12


def use_a_little(memory):
    time.sleep(0.2)
    memory.add(4).rows.fill_(1)


def test_many_threads_may_fork():
    memory = MappedMemory.create(3, torch.float32)

    def start():
        for _ in range(10):
            if not (child := os.fork()):
                os._exit(0)
            os.waitpid(child, 0)

    before = len(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(os.listdir("/proc/self/fd")) == before
    assert memory.grown(5).num_rows == 5


def test_growth_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "rows"
    memory = MappedMemory.create(3, torch.float32, path=path)
    memory.add(2).rows.fill_(1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match=r"no room for 4\.1 kB more in path="):
            memory.grown(5)
        with pytest.raises(OSError, match=r"no room for 24\.6 kB more in path="):
            memory.add(3)
    assert os.listdir(tmp_path) == ["rows"]
    assert memory.tables[0].rows.sum() == 6
    assert memory.add(3).rows.shape == (3, 3)
    with pytest.raises(ValueError, match="in use"):
        MappedMemory.open(path)
    assert memory.grown(5).num_rows == 5


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize("where", ["local", "shared"])
def test_what_is_saved_is_what_was_there(dtype, where, tmp_path):
    num_rows = 70_000  # more than are copied together
    memory = LocalMemory(num_rows, dtype) if where == "local" else MappedMemory.create(num_rows, dtype)
    for width in (3, 1):
        table = memory.add(width)
        table.rows.copy_(torch.randint(-100, 100, table.rows.shape))
        table.written.copy_(torch.arange(num_rows))
        if table.scales is not None:
            table.scales.uniform_()
    memory.step = 31
    for _ in range(2):  # also in place of an older one
        save(memory, tmp_path / "saved")
    assert os.listdir(tmp_path) == ["saved"]
    opened = MappedMemory.open(tmp_path / "saved")
    assert (opened.num_rows, opened.dtype, opened.step) == (num_rows, dtype, 31)
    for mine, table in zip(memory.tables, opened.tables, strict=True):
        for name in ("rows", "scales", "written"):
            if getattr(mine, name) is not None:
                assert torch.equal(getattr(mine, name), getattr(table, name))


def test_a_store_is_not_saved_into_its_own_file(tmp_path):
    memory = MappedMemory.create(3, torch.float32, path=tmp_path / "rows")
    memory.add(2).rows.fill_(5)
    with pytest.raises(ValueError, match="rows' is in use by a running process"):
        save(memory, tmp_path / "rows")
    memory.close()
    assert MappedMemory.open(tmp_path / "rows").tables[0].rows.sum() == 30


def save_for_ever(path, step):
    memory = LocalMemory(20_000, torch.float32)
    table = memory.add(16)
    memory.step = step
    while True:
        memory.step += 1
        table.rows.fill_(memory.step)
        save(memory, path)


def test_saving_is_safe_from_kills(tmp_path):
    path = tmp_path / "saved"
    save(LocalMemory(20_000, torch.float32), path)
    steps = set()
    for number in range(10):
        child = fork.Process(target=save_for_ever, args=(path, 1000 * number))
        child.start()
        child.join(0.05 + 0.01 * number)
        kill(child)
        memory = MappedMemory.open(path)
        steps.add(memory.step)
        assert all((table.rows == memory.step).all() for table in memory.tables)
        memory.close()
    assert len(steps) > 1
    save(LocalMemory(5, torch.int8), path)
    assert os.listdir(tmp_path) == ["saved"]


# What the system is told.


def flags_of(tensor):
    """What the kernel knows about the memory of a tensor."""
    text = Path("/proc/self/smaps").read_text()
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text):
        start, end = (int(number, 16) for number in re.match("([0-9a-f]+)-([0-9a-f]+) ", block).groups())
        if start <= tensor.data_ptr() < end:
            return re.search("VmFlags: (.*)", block)[1].split()
    raise AssertionError("no such memory")


def test_a_file_much_larger_than_memory_is_read_here_and_there(tmp_path, monkeypatch):
    memory = MappedMemory.create(1000, torch.float32, path=tmp_path / "rows")
    assert "rr" not in flags_of(memory.add(64).rows)
    monkeypatch.setattr(module, "available", lambda placement: 300_000)
    assert "rr" in flags_of(memory.add(64).rows)


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no large pages")
def test_memory_comes_in_large_pages():
    assert "hg" in flags_of(LocalMemory(100_000, torch.float32).add(64).rows)
    assert "hg" in flags_of(MappedMemory.create(100_000, torch.float32).add(64).rows)
