"""The processes of torch.distributed on one machine share memory: each test starts several."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from gnnscale.history import sharing as module
from gnnscale.history.mapped import MappedMemory
from gnnscale.history.sharing import share

fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _nothing_is_left_in_dev_shm():
    before = set(os.listdir("/dev/shm"))
    yield
    assert set(os.listdir("/dev/shm")) <= before


@pytest.fixture
def ranks(tmp_path):
    """Runs ``act(rank)`` in each of some processes; gives what they return, or the errors that they raise."""

    def run(size, act):
        results = fork.SimpleQueue()

        def process(rank):
            dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=rank, world_size=size)
            try:
                result = act(rank)
            except Exception as error:
                result = type(error), str(error)
            results.put((rank, result))
            dist.barrier()
            dist.destroy_process_group()

        children = [fork.Process(target=process, args=(rank,)) for rank in range(size)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        (tmp_path / "store").unlink(missing_ok=True)
        return [result for _, result in sorted(results.get() for _ in children)]

    return run


def create():
    return MappedMemory.create(5, torch.float32)


def test_one_process_makes_its_own():
    assert share(create).num_rows == 5


@pytest.mark.parametrize("placement", ["shared", "file"])
def test_all_processes_get_the_memory_that_one_makes(ranks, placement, tmp_path):
    path = tmp_path / "rows" if placement == "file" else None

    def act(rank):
        made = []

        def make():
            made.append(rank)
            memory = MappedMemory.create(5, torch.float32, path=path)
            memory.step = 4
            return memory

        memory = share(make, "5 rows")
        table = memory.add(2, 0)
        table.rows[rank] = rank + 1.0
        dist.barrier()
        return made, len(memory.tables), table.rows[:, 0].tolist(), memory.step, memory.path

    assert ranks(3, act) == [(made, 1, [1, 2, 3, 0, 0], 4, path) for made in ([0], [], [])]
    if path is not None:
        assert MappedMemory.open(path).tables[0].rows[:3, 1].tolist() == [1, 2, 3]


def test_each_machine_has_its_own(ranks, monkeypatch):
    def act(rank):
        monkeypatch.setattr(module, "_machine", lambda: "a" if rank in (1, 3) else "b")
        table = share(create).add(1, 0)
        table.rows[rank] = 1
        dist.barrier()
        return table.rows.flatten().tolist()

    a, b = [0, 1, 0, 1, 0], [1, 0, 1, 0, 0]
    assert ranks(4, act) == [b, a, b, a]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("path='x' exists; open it"),
        FileNotFoundError("path='x' does not exist"),
        MemoryError("too much"),
        KeyError("something"),
        ValueError("ä" * 400),
    ],
)
def test_what_goes_wrong_in_making_it_goes_wrong_everywhere(ranks, error):
    def act(rank):
        def fail():
            raise error

        share(fail)

    kind = RuntimeError if isinstance(error, KeyError) else type(error)
    results = ranks(3, act)
    assert results[0] == (type(error), str(error))
    for other, sentence in results[1:]:
        assert other is kind
        assert sentence.startswith(f"rank 0: {str(error)[:200]}")


def test_what_goes_wrong_on_one_machine_goes_wrong_on_all(ranks, tmp_path, monkeypatch):
    """As if two machines made the same file on a disk that they share: the second finds it."""
    path = tmp_path / "rows"

    def act(rank):
        monkeypatch.setattr(module, "_machine", lambda: str(rank))
        share(lambda: MappedMemory.create(5, torch.float32, path=path))

    (kind, sentence), (other, told) = sorted(ranks(2, act), key=lambda result: result[1].startswith("rank"))
    assert kind is other is ValueError
    assert sentence.endswith("rows' exists; open it with HistoryStore.open, or delete it to begin anew")
    assert told in (f"rank 0: {sentence}", f"rank 1: {sentence}")
    assert MappedMemory.open(path).num_rows == 5  # the one that was made is not kept in use


def test_what_goes_wrong_in_attaching_goes_wrong_everywhere(ranks, monkeypatch):
    def act(rank):
        def refuse(place):
            raise PermissionError(13, "Permission denied", str(place))

        if rank == 2:
            monkeypatch.setattr(MappedMemory, "attach", refuse)
        share(create)

    results = ranks(3, act)
    assert {kind for kind, _ in results} == {PermissionError}
    assert all(sentence.startswith("rank 2: [Errno 13] Permission denied: '/proc/") for _, sentence in results[:2])


def test_processes_that_ask_for_different_things_are_told(ranks):
    results = ranks(2, lambda rank: share(create, f"{rank + 5} rows"))
    for rank, result in enumerate(results):
        sentence = f"the processes ask for different stores: rank {rank} for {rank + 5} rows; pass the same arguments"
        assert result == (ValueError, f"{sentence} in all of them")


def test_the_others_go_on_when_one_is_killed(tmp_path):
    """Also when that is the one that made the memory. The file stays theirs."""
    path = tmp_path / "rows"
    ready, end = fork.Barrier(3), fork.Event()
    seen = fork.SimpleQueue()

    def process(rank):
        dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=rank, world_size=2)
        memory = share(lambda: MappedMemory.create(5, torch.float32, path=path))
        table = memory.add(2, 0)
        table.rows[rank] = 3.0
        ready.wait()
        if rank == 0:
            signal.pause()
        end.wait()
        memory.add(3, 1).rows[1] = table.rows.sum()
        seen.put(memory.tables[1].rows.sum().item())

    children = [fork.Process(target=process, args=(rank,)) for rank in range(2)]
    for child in children:
        child.start()
    ready.wait()
    os.kill(children[0].pid, signal.SIGKILL)
    children[0].join()
    with pytest.raises(ValueError, match="in use by a running process"):
        MappedMemory.open(path)
    end.set()
    children[1].join(60)
    assert seen.get() == 36
    assert [table.width for table in MappedMemory.open(path).tables] == [2, 3]


SCRIPT = """
import torch, torch.distributed as dist
from gnnscale.history.mapped import MappedMemory
from gnnscale.history.sharing import share
dist.init_process_group("gloo")
rank = dist.get_rank()
table = share(lambda: MappedMemory.create(2, torch.float32)).add(1, 0)
table.rows[rank] = rank + 1.0
dist.barrier()
assert table.rows.flatten().tolist() == [1, 2]
dist.barrier()
dist.destroy_process_group()
"""


def test_processes_that_were_started_by_themselves_share(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
