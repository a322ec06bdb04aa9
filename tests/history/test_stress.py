"""Stores under everything at once, from several threads and processes, against a sequential model.

The model is a list of writes a row. Of one process, a pull gives the last write before it; of several, those that no
other stands between for certain.
"""

import dataclasses
import math
import multiprocessing
import tempfile
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from gnnscale.history import HistoryStore
from gnnscale.history.encoding import decode
from gnnscale.history.memory import Table, native_view
from gnnscale.ops import backend

from . import telling_rows
from .telling_rows import Reader

needs_native = pytest.mark.skipif(backend() != "native", reason="shared and file need the native operations")
PLACEMENTS = ["host", "shared", "file"] if backend() == "native" else ["host"]
DTYPES = ["float32", "float16", "bfloat16", "int8"]

NUM_ROWS = 12
WIDTHS = [8, 8192]  # of the second table, ten rows are enough for the queue; less is done at once if nothing waits
PARENT, CHILD = 1, 2

forking = multiprocessing.get_context("fork")


class Hands:
    """Carries out commands on one process's end of a store; all that goes in and out are numbers."""

    def __init__(self, store, writer):
        self.store, self.writer, self.pulls = store, writer, {}

    def push(self, layer, ids, numbers):
        rows, ids = telling_rows.make(self.writer, numbers, ids, WIDTHS[layer]), torch.tensor(ids)
        self.store.push(layer, ids, rows)
        rows.fill_(-1), ids.fill_(-1)  # the caller may do with them what it likes

    def pull(self, key, layer, ids):
        self.pulls[key] = self.store.pull(layer, torch.tensor(ids)), ids

    def wait(self, key):
        pull, ids = self.pulls.pop(key)
        return recognised(pull.wait(), ids)

    def reset(self):
        self.store.reset()

    def flush(self):
        self.store.flush()

    def set_step(self, step):
        self.store.step = step

    def staleness(self, layer, ids):
        return self.store.staleness(layer, torch.tensor(ids)).tolist()

    def contents(self):
        """Of each table, the writer, number and step of each row."""
        return contents_of(self.store.state_dict())


def contents_of(state):
    tables = []
    for table in state["tables"]:
        rows = decode(table["rows"], table.get("scales"))
        seen = recognised(rows, range(len(rows)))
        tables.append([(*one, step) for one, step in zip(seen, table["written"].tolist(), strict=True)])
    return tables


def recognised(rows, ids):
    writers, numbers = telling_rows.read(rows, ids)
    return list(zip(writers.tolist(), numbers.tolist(), strict=True))


class Child:
    """A forked process with hands of its own, which take commands through a pipe."""

    def __init__(self, store):
        self._pipe, other = forking.Pipe()
        self.process = forking.Process(target=self._serve, args=(store, other), daemon=True)
        self.process.start()
        other.close()

    @staticmethod
    def _serve(store, pipe):
        hands = Hands(store, CHILD)
        while True:
            name, arguments = pipe.recv()
            try:
                pipe.send((True, getattr(hands, name)(*arguments)))
            except Exception as error:
                pipe.send((False, f"in the child: {error}"))

    def call(self, name, *arguments):
        self._pipe.send((name, arguments))
        assert self._pipe.poll(60), f"{name} hangs in the child"
        good, result = self._pipe.recv()
        assert good, result
        return result

    def kill(self):
        self.process.kill()
        self.process.join()
        self._pipe.close()


@dataclasses.dataclass
class Write:
    """A row's write. It took effect after ``issued``, and before ``landed`` if that is known, or never if uncertain."""

    process: int
    number: int
    step: int
    operation: int
    issued: int
    landed: float = math.inf
    certain: bool = True

    @property
    def told(self):
        return (self.process if self.number else 0, self.number)


@dataclasses.dataclass
class Read:
    process: int
    issued: int
    ended: int = 0


class Model:
    """What a store may hold, by operations' places in the order of issue."""

    def __init__(self):
        self.now = 0
        self.rows = defaultdict(list)  # by layer and row
        self.under_way = defaultdict(list)

    def tick(self):
        self.now += 1
        return self.now

    def write(self, process, layer, ids, numbers, step):
        operation = self.tick()
        for row, number in zip(ids, numbers, strict=True):
            write = Write(process, number, step, operation, self.tick())
            self.rows[layer, row].append(write)
            self.under_way[process].append(write)

    def set(self, layer, row, process, number, step):
        """What nobody else is writing."""
        now = self.tick()
        self.rows[layer, row].append(Write(process, number, step, now, now, landed=now))

    def landed(self, process, before=math.inf):
        """The operations of a process before that one have been done."""
        now, writes = self.tick(), self.under_way[process]
        while writes and writes[0].operation < before:
            write = writes.pop(0)
            write.landed = min(write.landed, now)

    def died(self, process):
        """What a process had not finished has been done, or never will be."""
        for write in self.under_way.pop(process, []):
            if write.landed == math.inf:
                write.landed, write.certain = self.now, False
        self.tick()

    def read(self, process):
        return Read(process, self.tick())

    def end(self, read):
        # One after the other: what this process issued before has been done too.
        self.landed(read.process, before=read.issued)
        read.ended = self.tick()

    def possible(self, layer, row, read):
        writes = [
            write
            for write in self.rows[layer, row]
            if write.issued < (read.issued if write.process == read.process else read.ended)
        ]
        over = [write for write in writes if write.certain and self._is_before(write, read)]
        return [write for write in writes if not any(self._is_before(write, other) for other in over)]

    def seen(self, layer, row, read, told, step=None):
        """Check what a read gave of a row, and learn from it."""
        possible = self.possible(layer, row, read)
        fitting = [write for write in possible if write.told == told and step in (None, write.step)]
        assert fitting, f"row {row} of layer {layer} holds {told} of step {step}, and {possible} are possible"
        if len(fitting) == 1 and fitting[0].process in self.under_way:
            self.landed(fitting[0].process, before=fitting[0].operation)
            fitting[0].landed = min(fitting[0].landed, self.now)
        fitting[0].certain |= len(fitting) == 1

    @staticmethod
    def _is_before(a, b):
        return a.landed < b.issued or (a.process == b.process and a.issued < b.issued)


# Who does something: the test itself, a thread, or another process. The next is told to begin when the one before has
# issued its operation, and not when it is done.
agents = st.sampled_from(["caller", "thread", "child"])
layers = st.integers(0, 1)
some_rows = st.lists(st.integers(0, 99), min_size=1, max_size=20)
chances = st.integers(0, 99)


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of operations on one store.

    Parameters
    ----------
    make : callable
        ``HistoryStore``, or something wrong in its place.
    at_fork : callable
        What a child makes of the store; the same, if it is right.
    """

    def __init__(self, make=HistoryStore, *, placements=PLACEMENTS, at_fork=lambda store: store):
        super().__init__()
        self.make, self.placements, self.at_fork = make, placements, at_fork
        self.store = self.child = None

    @initialize(choice=chances, dtype=st.sampled_from(DTYPES), threads=st.sampled_from([1, 2]))
    def begin(self, choice, dtype, threads):
        self.folder = tempfile.TemporaryDirectory()
        placement = self.placements[choice % len(self.placements)]
        path = {"path": Path(self.folder.name) / "history"} if placement == "file" else {}
        self.store = self.make(NUM_ROWS, dtype=dtype, placement=placement, num_threads=threads, **path)
        self.hands = Hands(self.store, PARENT)
        self.thread = ThreadPoolExecutor(1)
        self.model, self.steps, self.largest_step = Model(), {PARENT: 0, CHILD: 0}, 0
        self.num_rows, self.num_tables, self.number = NUM_ROWS, 0, 0
        self.reads = {}  # pulls under way, by key
        self.kept = None  # a state of before

    def call(self, agent, name, *arguments):
        if agent == "child" and self.child:
            return self.child.call(name, *arguments)
        if agent == "thread":
            return self.thread.submit(getattr(self.hands, name), *arguments).result()
        return getattr(self.hands, name)(*arguments)

    def process_of(self, agent):
        return CHILD if agent == "child" and self.child else PARENT

    def rows_of(self, rows):
        return [row % self.num_rows for row in rows]

    @rule(agent=agents, layer=layers, rows=some_rows)
    def push(self, agent, layer, rows):
        layer = min(layer, self.num_tables)
        if layer == self.num_tables:
            self.num_tables += 1
            for row in range(self.num_rows):
                self.model.set(layer, row, 0, 0, 0)
        ids = self.rows_of(rows)  # some are repeated
        numbers = list(range(self.number + 1, self.number + 1 + len(ids)))
        self.number += len(ids)
        self.call(agent, "push", layer, ids, numbers)
        process = self.process_of(agent)
        self.model.write(process, layer, ids, numbers, self.steps[process])

    @precondition(lambda self: self.num_tables)
    @rule(agent=agents, layer=layers, rows=some_rows)
    def pull(self, agent, layer, rows):
        layer, ids = layer % self.num_tables, self.rows_of(rows)
        key = self.model.now
        # Counted before the call: of another process's writes, it may see all that come later.
        self.reads[key] = self.model.read(self.process_of(agent)), layer, ids
        self.call(agent, "pull", key, layer, ids)

    @precondition(lambda self: self.reads)
    @rule(agent=agents, choice=chances)
    def wait(self, agent, choice):
        self.end_pull(list(self.reads)[choice % len(self.reads)], agent)

    def end_pull(self, key, agent="caller"):
        read, layer, ids = self.reads.pop(key)
        if read.process == CHILD or self.process_of(agent) == CHILD:
            agent = "child" if read.process == CHILD else "caller"
        rows = self.call(agent, "wait", key)
        self.model.end(read)
        for row, told in zip(ids, rows, strict=True):
            self.model.seen(layer, row, read, told)

    @rule(agent=agents)
    def flush(self, agent):
        self.call(agent, "flush")
        self.model.landed(self.process_of(agent))

    @rule(agent=agents, more=st.integers(1, 5))
    def step(self, agent, more):
        process = self.process_of(agent)
        self.steps[process] += more
        self.largest_step = max(self.largest_step, self.steps[process])
        self.call(agent, "set_step", self.steps[process])

    def read_now(self, agent):
        """A read that begins and ends now, after all that its process has issued."""
        process = self.process_of(agent)
        self.model.landed(process)
        read = self.model.read(process)
        self.model.end(read)
        return read

    @precondition(lambda self: self.num_tables)
    @rule(agent=agents, layer=layers, rows=some_rows)
    def staleness(self, agent, layer, rows):
        layer, ids = layer % self.num_tables, self.rows_of(rows)
        ages = self.call(agent, "staleness", layer, ids)
        read, now = self.read_now(agent), self.steps[self.process_of(agent)]
        for row, age in zip(ids, ages, strict=True):
            assert age in [max(now - write.step, 0) for write in self.model.possible(layer, row, read)]

    def check_contents(self, agent, contents):
        read = self.read_now(agent)
        assert [len(table) for table in contents] == [self.num_rows] * self.num_tables
        for layer, table in enumerate(contents):
            for row, (writer, number, step) in enumerate(table):
                self.model.seen(layer, row, read, (writer, number), step)

    @rule(agent=agents)
    def contents(self, agent):
        self.check_contents(agent, self.call(agent, "contents"))

    @rule()
    def state(self):
        self.kept = self.store.state_dict()
        self.check_contents("caller", contents_of(self.kept))
        assert self.kept["step"] == self.steps[PARENT]
        other = HistoryStore(self.num_rows, dtype=self.store.dtype)
        other.load_state_dict(self.kept)
        assert Hands(other, 0).contents() == contents_of(self.kept)

    @precondition(lambda self: self.kept and self.kept["num_rows"] == self.num_rows and not self.child)
    @rule()
    def go_back(self):
        self.store.load_state_dict(self.kept)
        self.model.landed(PARENT)
        self.steps[PARENT] = self.kept["step"]
        for layer, table in enumerate(contents_of(self.kept)):
            for row, (writer, number, step) in enumerate(table):
                self.model.set(layer, row, writer, number, step)
        for layer in range(len(self.kept["tables"]), self.num_tables):  # made since
            self.model.write(PARENT, layer, range(self.num_rows), [0] * self.num_rows, self.kept["step"])

    @rule(agent=agents)
    def reset(self, agent):
        process = self.process_of(agent)
        self.call(agent, "reset")
        for layer in range(self.num_tables):
            self.model.write(process, layer, range(self.num_rows), [0] * self.num_rows, self.steps[process])

    @precondition(lambda self: backend() == "native")
    @rule()
    def save(self):
        path = Path(self.folder.name) / "saved"
        self.store.save(path)
        loaded = HistoryStore.load(path)
        self.check_contents("caller", Hands(loaded, 0).contents())
        assert loaded.step == self.steps[PARENT]

    @precondition(lambda self: self.num_rows < 2 * NUM_ROWS)
    @rule(more=st.integers(0, 3))
    def grow(self, more):
        if self.child:
            with pytest.raises(ValueError, match="other processes use this store"):
                self.store.grow(self.num_rows + more)
            self.model.landed(PARENT)
            return
        self.store.grow(self.num_rows + more)
        self.model.landed(PARENT)
        for row in range(self.num_rows, self.num_rows + more):
            for layer in range(self.num_tables):
                self.model.set(layer, row, 0, 0, self.steps[PARENT])
        self.num_rows += more

    @precondition(lambda self: not self.child and self.store and self.store.placement != "host")
    @rule()
    def fork(self):
        self.child = Child(self.at_fork(self.store))
        self.steps[CHILD] = self.steps[PARENT]

    @precondition(lambda self: self.child)
    @rule()
    def end_child(self):
        for key in [key for key, (read, _, _) in self.reads.items() if read.process == CHILD]:
            self.end_pull(key)
        self.flush("child")
        self.child.kill()
        self.model.died(CHILD)
        self.child = None

    @precondition(lambda self: self.child)
    @rule()
    def kill_child(self):
        self.child.kill()
        self.model.died(CHILD)
        self.child = None
        self.reads = {key: read for key, read in self.reads.items() if read[0].process != CHILD}

    @precondition(lambda self: not self.child and self.store and self.store.placement == "file")
    @rule()
    def open_again(self):
        for key in list(self.reads):
            self.end_pull(key)
        path = self.store.path
        self.store.close()
        self.model.landed(PARENT)
        self.store = HistoryStore.open(path)
        self.hands.store = self.store
        assert self.store.step == self.largest_step
        self.steps[PARENT] = self.largest_step

    def teardown(self):
        if self.store is None:
            return
        try:
            for key in list(self.reads):
                self.end_pull(key)
            self.flush("child")
            self.flush("caller")
            self.check_contents("caller", self.hands.contents())
        finally:
            if self.child:
                self.child.kill()
            self.thread.shutdown()
            self.store.close()
            self.folder.cleanup()


BRIEF = settings(
    deadline=None, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def test_any_sequence_of_operations_is_that_of_a_sequential_model():
    run_state_machine_as_test(StoreMachine, settings=settings(BRIEF, max_examples=100))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_long_sequence_of_operations_is_that_of_a_sequential_model():
    run_state_machine_as_test(StoreMachine, settings=settings(BRIEF, max_examples=300, stateful_step_count=100))


class PullsPassTheQueue(HistoryStore):
    """A pull does not wait for the pushes that are under way."""

    def _late(self):
        return self.__dict__.setdefault("late", [])

    def push(self, layer, ids, rows):
        self.ensure(layer, rows.shape[1])
        self._late().append((layer, ids.clone(), rows.clone(), self.step))

    def flush(self):
        now, late = self.step, self._late()
        while late:
            layer, ids, rows, self.step = self.next(late)
            super().push(layer, ids, rows)
        self.step = now
        super().flush()

    def staleness(self, layer, ids):
        self.flush()
        return super().staleness(layer, ids)

    @staticmethod
    def next(late):
        return late.pop(0)


class PushesLandInAnyOrder(PullsPassTheQueue):
    """Of two pushes of a row, the first stays."""

    def pull(self, layer, ids):
        self.flush()
        return super().pull(layer, ids)

    @staticmethod
    def next(late):
        return late.pop()


class PullsWhenWaitedFor(HistoryStore):
    """A pull sees pushes that were issued after it."""

    def pull(self, layer, ids):
        return Later(lambda: super(PullsWhenWaitedFor, self).pull(layer, ids).wait())


class Later:
    def __init__(self, wait):
        self.wait = wait


class DropsAPush(HistoryStore):
    """One push in seven is lost."""

    pushes = 0

    def push(self, layer, ids, rows):
        self.ensure(layer, rows.shape[1])
        self.pushes += 1
        if self.pushes % 7:
            super().push(layer, ids, rows)


class KeepsTheFirstOfRepeatedIds(HistoryStore):
    """Of an id that is repeated, the first row stays."""

    def push(self, layer, ids, rows):
        super().push(layer, ids.flip(0), rows.flip(0))


class WritesNoSteps(HistoryStore):
    """Rows do not know when they were written."""

    def push(self, layer, ids, rows):
        now, self.step = self.step, 0
        super().push(layer, ids, rows)
        self.step = now


class StartsOver(HistoryStore):
    """A larger store has lost the rows of the smaller one."""

    def grow(self, num_rows):
        super().grow(num_rows)
        now, self.step = self.step, 0
        self.reset()
        self.step = now


ONCE = settings(
    BRIEF, max_examples=500, derandomize=True, database=None, report_multiple_bugs=False, phases=[Phase.generate]
)


@pytest.mark.parametrize(
    "wrong",
    [
        PullsPassTheQueue,
        PushesLandInAnyOrder,
        PullsWhenWaitedFor,
        DropsAPush,
        KeepsTheFirstOfRepeatedIds,
        WritesNoSteps,
        StartsOver,
    ],
)
def test_a_wrong_store_is_found_out(wrong):
    with pytest.raises(AssertionError):
        run_state_machine_as_test(lambda: StoreMachine(wrong, placements=["host"]), settings=ONCE)


@needs_native
def test_processes_that_do_not_see_each_other_are_found_out():
    def its_own(store):
        copy = HistoryStore(store.num_rows, dtype=store.dtype, placement="shared")
        copy.load_state_dict(store.state_dict())
        return copy

    with pytest.raises(AssertionError):
        run_state_machine_as_test(lambda: StoreMachine(placements=["shared"], at_fork=its_own), settings=ONCE)


# Without order: as fast as they can.

BUSY_ROWS, BUSY_WIDTHS = 40, [8, 4096]


@dataclasses.dataclass
class Outcome:
    """What one thread did: counts, the last number it pushed of each row, and what went wrong."""

    operations: int = 0
    rows: int = 0
    mine: list[list[int]] = dataclasses.field(default_factory=list)
    error: str = ""


def work(store, me, num_writers, operations):
    """Push and pull at random, several pulls at a time, and check every row that comes."""
    random, outcome = np.random.default_rng(me), Outcome()
    readers = [Reader(num_writers, BUSY_ROWS, me) for _ in BUSY_WIDTHS]
    events, number = deque(), 0

    def look_at_the_oldest():
        reader, ids, numbers, pull = events.popleft()
        if pull is None:
            reader.pushed(ids, numbers)
        else:
            reader.pulled(ids, pull.wait())

    try:
        for count in range(operations):
            layer = int(random.random() < 0.05)
            reader, size = readers[layer], int(random.integers(1, BUSY_ROWS if layer else 9))
            if random.random() < 0.5:
                ids, numbers = random.integers(0, BUSY_ROWS, size), np.arange(number + 1, number + 1 + size)
                number += size
                store.push(layer, torch.from_numpy(ids), telling_rows.make(me, numbers, ids, BUSY_WIDTHS[layer]))
                events.append((reader, ids, numbers, None))
            else:
                ids = random.permutation(BUSY_ROWS)[:size]
                events.append((reader, ids, None, store.pull(layer, torch.from_numpy(ids))))
            outcome.operations, outcome.rows = count + 1, outcome.rows + size
            if count % 3000 == 0:
                contents_of(store.state_dict())
            while len(events) > random.integers(0, 6):
                look_at_the_oldest()
        while events:
            look_at_the_oldest()
        store.flush()
    except Exception as error:
        outcome.error = f"{type(error).__name__}: {error}"
    outcome.mine = [reader.mine.tolist() for reader in readers]
    return outcome


def work_in_threads(store, writers, num_writers, operations):
    with ThreadPoolExecutor(len(writers)) as pool:
        jobs = [pool.submit(work, store, me, num_writers, operations) for me in writers]
        return [job.result() for job in jobs]


def serve(store, pipe, *arguments):
    torch.set_num_threads(1)
    pipe.send([dataclasses.astuple(outcome) for outcome in work_in_threads(store, *arguments)])


def run_busy(store, operations, *, start="fork"):
    """The outcomes of three threads here and three in a process that is started so; without it, of those here."""
    for layer, width in enumerate(BUSY_WIDTHS):
        store.ensure(layer, width)
    if not start:
        return work_in_threads(store, (1, 2, 3), 3, operations)
    context = multiprocessing.get_context(start)
    here, there = context.Pipe()
    child = context.Process(target=serve, args=(store, there, (4, 5, 6), 6, operations), daemon=True)
    child.start()
    there.close()
    try:
        outcomes = work_in_threads(store, (1, 2, 3), 6, operations)
        assert here.poll(200), "the child hangs"
        return outcomes + [Outcome(*values) for values in here.recv()]
    finally:
        child.kill()
        child.join()


def check_busy(store, operations, *, start="fork"):
    """Run and check; the number of operations and of rows in them."""
    outcomes = run_busy(store, operations, start=start)
    assert not [outcome.error for outcome in outcomes if outcome.error]
    for layer in range(len(BUSY_WIDTHS)):
        told = recognised(store.pull(layer, torch.arange(BUSY_ROWS)).wait(), range(BUSY_ROWS))
        for row, (writer, number) in enumerate(told):
            lasts = [outcome.mine[layer][row] for outcome in outcomes]
            # Everything has landed: the row is the last that somebody pushed.
            assert (number == lasts[writer - 1] > 0) if writer else not any(lasts), f"row {row}: a push is lost"
    return sum(outcome.operations for outcome in outcomes), sum(outcome.rows for outcome in outcomes)


def busy_store(placement, folder, dtype="float32", make=HistoryStore):
    path = {"path": folder / "history"} if placement == "file" else {}
    return make(BUSY_ROWS, dtype=dtype, placement=placement, num_threads=2, **path)


@pytest.mark.parametrize(
    ("placement", "dtype", "start", "operations"),
    [
        ("host", "float16", None, 3_000),
        pytest.param("shared", "float32", "fork", 17_000, marks=needs_native),
        pytest.param("file", "int8", "spawn", 2_000, marks=needs_native),
    ],
)
def test_threads_and_processes_at_once_lose_and_tear_nothing(placement, dtype, start, operations, tmp_path):
    """Each of three threads, of one process or two, issues so many pushes and pulls: 102,000 of the shared store."""
    store = busy_store(placement, tmp_path, dtype)
    issued, rows = check_busy(store, operations, start=start)
    assert issued == operations * (3 if placement == "host" else 6)
    assert rows > 4 * issued
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@needs_native
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("placement", ["shared", "file"])
def test_threads_and_processes_at_once_for_long(placement, dtype, tmp_path):
    store = busy_store(placement, tmp_path, dtype)
    check_busy(store, 50_000)
    store.close()


class WithoutVersions(HistoryStore):
    """Shared memory whose rows are written and read as if nobody else did."""

    def _view(self, layer):
        table = self._table(layer)
        return native_view(Table(table.rows, table.scales, table.written))


@needs_native
def test_rows_without_versions_are_seen_torn(tmp_path):
    for _ in range(10):
        outcomes = run_busy(busy_store("shared", tmp_path, make=WithoutVersions), 2000)
        if any("torn" in outcome.error for outcome in outcomes):
            return
    pytest.fail("no row was torn")


@needs_native
def test_a_lost_push_is_seen_by_who_runs_freely(tmp_path):
    store = busy_store("shared", tmp_path, make=DropsAPush)
    assert any("lost" in outcome.error for outcome in run_busy(store, 1000))
