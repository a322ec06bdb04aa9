import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.history import transfers as module
from gnnscale.history.encoding import decode, encode
from gnnscale.history.memory import LocalMemory, Table
from gnnscale.history.streams import Lane
from gnnscale.history.transfers import TorchTransfers

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8]
NUM_ROWS, WIDTH = 8, 3

# A push has rows, a pull has none; ids may be repeated and in any order.
operations = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, NUM_ROWS - 1), max_size=12), st.integers(0, 100)), max_size=25
)


@pytest.fixture(params=["host", "device"])
def place(request, monkeypatch):
    """Both ways through the code: a table that a thread works on, and one that a stream would.

    For the second, no tensor counts as one on the CPU, so that it passes for a GPU whose streams are always done.
    """
    if request.param == "device":
        monkeypatch.setattr(module, "_CPU", torch.device("meta"))


class Late:
    """A mark that is reached when the work before it is done."""

    def __init__(self, future):
        self._future = future

    def synchronize(self):
        self._future.result()

    def query(self):
        return self._future.done()


class LateLane(Lane):
    """A stream whose copies really happen later, as a GPU's do; float32 alone, since decoding would not wait."""

    def __init__(self):
        self._stream = ThreadPoolExecutor(1)

    def move(self, values, device):
        moved = torch.full_like(values, -7)
        if values.dtype == torch.int64:  # ids and scales are taken at once
            return values

        def copy():
            time.sleep(0.002)
            moved.copy_(values)

        self._stream.submit(copy)
        return moved

    def mark(self):
        return Late(self._stream.submit(lambda: None))

    def release(self, values, mark):
        mark.synchronize()
        return values


def check_against_model(transfers, table, steps, *, wait_at_the_end):
    """Whether pulls give what a plain table would hold at their place in the order."""
    model = torch.zeros(NUM_ROWS, WIDTH)
    written = torch.zeros(NUM_ROWS, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    waiting, ages = [], []
    for step, (is_push, nodes, number) in enumerate(steps):
        ids = torch.tensor(nodes, dtype=torch.int64)
        if is_push:
            rows = number * torch.randn(len(nodes), WIDTH, generator=generator)
            kept = decode(*encode(rows, table.dtype))
            transfers.push(table, ids, rows, step)
            for node, row in zip(nodes, kept, strict=True):
                model[node], written[node] = row, step
            rows.fill_(-1)
            ids.zero_()  # both belong to the caller again
        else:
            waiting.append((transfers.pull(table, ids, step), model[ids]))
            ages += (step - written[ids]).tolist()
            ids.zero_()
            if not wait_at_the_end:
                assert torch.equal(waiting[-1][0].wait(), waiting[-1][1])
    for handle, rows in waiting:
        assert torch.equal(handle.wait(), rows)
        assert handle.done()
    return ages


@settings(max_examples=40, deadline=None)
@given(operations, st.sampled_from(DTYPES), st.booleans(), st.sampled_from(["host", "device"]))
def test_operations_take_effect_in_order(steps, dtype, wait_at_the_end, where):
    with pytest.MonkeyPatch.context() as patch:
        if where == "device":
            patch.setattr(module, "_CPU", torch.device("meta"))  # as for `place`
        transfers, table = TorchTransfers("cpu"), LocalMemory(NUM_ROWS, dtype).add(WIDTH)
        ages = check_against_model(transfers, table, steps, wait_at_the_end=wait_at_the_end)
        rows, total, oldest, histogram, pulled, pushed = transfers.statistics()
        size = WIDTH * table.rows.element_size() + (4 if dtype == torch.int8 else 0)
        assert (rows, total, oldest) == (len(ages), sum(ages), max(ages, default=0))
        buckets = [age.bit_length() for age in ages]
        assert histogram == [buckets.count(bucket) for bucket in range(32)]
        assert pulled == size * len(ages)
        assert pushed == size * sum(len(nodes) for is_push, nodes, _ in steps if is_push)
        assert transfers.statistics() == (0, 0, 0, [0] * 32, 0, 0)
        transfers.close()


SEQUENCE = [(number % 3 != 2, [number % NUM_ROWS, 0, 3], number) for number in range(60)]


def test_what_is_on_its_way_is_waited_for(monkeypatch):
    monkeypatch.setattr(module, "lane_of", lambda device: LateLane())
    table = LocalMemory(NUM_ROWS, torch.float32).add(WIDTH)
    check_against_model(TorchTransfers("cpu"), table, SEQUENCE, wait_at_the_end=True)


@pytest.mark.parametrize("mistake", ["no mark", "no release", "pulls overtake", "no copy", "first of repeated"])
def test_a_wrong_twin_is_found(mistake, monkeypatch):
    """The check that the others rely on fails, whichever promise is broken."""
    monkeypatch.setattr(module, "lane_of", lambda device: LateLane())
    table, transfers = LocalMemory(NUM_ROWS, torch.float32).add(WIDTH), TorchTransfers("cpu")
    steps = SEQUENCE
    if mistake == "no mark":
        monkeypatch.setattr(Late, "synchronize", lambda self: None)
        monkeypatch.setattr(LateLane, "release", lambda self, values, mark: (mark._future.result(), values)[1])
    elif mistake == "no release":
        monkeypatch.setattr(LateLane, "release", lambda self, values, mark: values)
    elif mistake == "pulls overtake":
        other = ThreadPoolExecutor(1)
        plain = transfers._issue

        def issue(place, job):
            return other.submit(job) if job.__name__ == "read" else plain(place, job)

        monkeypatch.setattr(transfers, "_issue", issue)
    elif mistake == "no copy":
        monkeypatch.setattr(module, "encode", lambda rows, dtype: (rows, None))
    else:
        # index_copy_ itself does as it likes: here the first of several.
        monkeypatch.setattr(module, "_last_of_each", lambda ids: torch.tensor([ids.tolist().index(i) for i in ids]))
        steps = [(True, [1, 1, 2], 5), (False, [1, 2], 0)]
    with pytest.raises(AssertionError):
        check_against_model(transfers, table, steps, wait_at_the_end=True)


@pytest.mark.usefixtures("place")
def test_the_last_of_repeated_rows_stays():
    table, transfers = LocalMemory(50, torch.float32).add(1), TorchTransfers("cpu")
    ids = torch.randint(50, (20_000,))
    rows = torch.arange(20_000.0)[:, None]
    expected = torch.zeros(50)
    for node, value in zip(ids.tolist(), rows[:, 0].tolist(), strict=True):
        expected[node] = value
    transfers.push(table, ids, rows, 0)
    assert torch.equal(transfers.pull(table, torch.arange(50), 0).wait()[:, 0], expected)


@pytest.mark.usefixtures("place")
def test_threads_of_one_store():
    """Each thread finds in its rows what it wrote last, and the scales of int8 with them."""
    table, transfers = LocalMemory(40, torch.int8).add(4), TorchTransfers("cpu")

    def work(thread):
        ids = torch.arange(10) + 10 * thread
        for number in range(1, 60):
            rows = torch.full((10, 4), float(number * (thread + 1)))
            transfers.push(table, ids, rows, number)
            if not torch.equal(transfers.pull(table, ids, number).wait(), decode(*encode(rows, torch.int8))):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


@pytest.mark.parametrize("bad", [-1, 5, 2**40])
def test_an_id_that_is_no_row_is_refused_when_it_is_issued(bad):
    table, transfers = LocalMemory(5, torch.float32).add(2), TorchTransfers("cpu")
    ids = torch.tensor([0, 4, bad, bad])
    sentence = rf"ids\[2\] is {bad}; the table has 5 rows"
    with pytest.raises(IndexError, match=sentence):
        transfers.push(table, ids, torch.ones(4, 2), 0)
    with pytest.raises(IndexError, match=sentence):
        transfers.pull(table, ids, 0)
    assert not transfers.pull(table, torch.arange(5), 0).wait().any()


def test_rows_of_another_shape_are_refused():
    table, transfers = LocalMemory(5, torch.float32).add(2), TorchTransfers("cpu")
    with pytest.raises(ValueError, match=r"rows have shape \(2, 3\); \(2, 2\) is needed"):
        transfers.push(table, torch.tensor([0, 1]), torch.ones(2, 3), 0)


def test_any_float_and_layout_may_be_pushed_and_no_gradient_comes_back():
    table, transfers = LocalMemory(3, torch.float16).add(2), TorchTransfers("cpu")
    rows = torch.arange(12.0, dtype=torch.float64, requires_grad=True).view(2, 6)[:, ::3]
    transfers.push(table, torch.tensor([2, 0], dtype=torch.int32), rows, 0)
    pulled = transfers.pull(table, torch.arange(3), 0).wait()
    assert pulled.tolist() == [[6.0, 9.0], [0.0, 0.0], [0.0, 3.0]]
    assert pulled.dtype == torch.float32
    assert not pulled.requires_grad


@pytest.mark.usefixtures("place")
def test_ages_are_never_negative_and_large_ones_have_a_place():
    table, transfers = LocalMemory(2, torch.float32).add(1), TorchTransfers("cpu")
    transfers.push(table, torch.tensor([1]), torch.ones(1, 1), 9)
    transfers.pull(table, torch.tensor([1]), 3).wait()
    transfers.pull(table, torch.tensor([0]), 2**31 - 1).wait()
    rows, total, oldest, histogram, _, _ = transfers.statistics()
    assert (rows, total, oldest) == (2, 2**31 - 1, 2**31 - 1)
    assert histogram[0] == histogram[31] == 1


def test_a_table_without_steps_counts_rows_alone():
    table = Table(rows=torch.ones(3, 2))
    transfers = TorchTransfers("cpu")
    transfers.pull(table, torch.tensor([1, 2]), 5).wait()
    assert transfers.statistics() == (2, 0, 0, [0] * 32, 16, 0)


def test_flush_tells_of_a_push_that_failed():
    # Rows that share their memory cannot be written.
    rows = torch.zeros(1, 2).expand(5, 2)
    table = Table(rows=rows)
    transfers = TorchTransfers("cpu")
    transfers.push(table, torch.tensor([0]), torch.ones(1, 2), 0)
    with pytest.raises(RuntimeError, match="single memory location"):
        transfers.flush()
    transfers.flush()


def test_closing_finishes_what_was_issued(monkeypatch):
    monkeypatch.setattr(module, "lane_of", lambda device: LateLane())
    table, transfers = LocalMemory(5, torch.float32).add(2), TorchTransfers("cpu")
    for number in range(5):
        transfers.push(table, torch.tensor([number]), torch.ones(1, 2), 0)
    transfers.close()
    assert table.rows.all()
    assert not any(thread.is_alive() for thread in transfers._worker._threads)


@pytest.mark.skipif(module.native is None, reason="there is no native code")
@pytest.mark.parametrize("dtype", DTYPES)
def test_shared_rows_go_through_native_code(dtype):
    table = LocalMemory(NUM_ROWS, dtype).add(WIDTH)
    table.versions = torch.zeros(NUM_ROWS, dtype=torch.int32)
    table.journal = torch.zeros(64 * (64 + 64 + 64), dtype=torch.uint8)
    transfers = TorchTransfers("cpu")
    ages = check_against_model(transfers, table, SEQUENCE, wait_at_the_end=True)
    assert (table.versions % 2 == 0).all()
    assert table.versions.any()
    assert transfers.statistics()[:3] == (len(ages), sum(ages), max(ages))
    transfers.close()


def test_shared_rows_without_native_code_are_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(module, "native", None)
    versions, journal = torch.zeros(5, dtype=torch.int32), torch.zeros(64, dtype=torch.uint8)
    table = Table(rows=torch.zeros(5, 2), versions=versions, journal=journal)
    with pytest.raises(RuntimeError, match="Rows that processes share need the native operations"):
        TorchTransfers("cpu").pull(table, torch.tensor([0]), 0)


def test_a_forked_process_is_told_and_does_not_hang():
    table, transfers = LocalMemory(5, torch.float32).add(2), TorchTransfers("cpu")
    transfers.pull(table, torch.tensor([0]), 0).wait()  # the worker is there
    child = os.fork()
    if child == 0:
        code = 1
        try:
            transfers.pull(table, torch.tensor([0]), 0)
        except RuntimeError as error:
            code = 0 if "worker belongs to process" in str(error) else 2
        transfers.close()
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["device", "pinned", "host"])
def test_on_a_gpu(where, dtype):
    memory = LocalMemory(NUM_ROWS, dtype, device="cuda" if where == "device" else "cpu", pin=where == "pinned")
    table, transfers = memory.add(WIDTH), TorchTransfers("cuda")
    model, generator = torch.zeros(NUM_ROWS, WIDTH), torch.Generator().manual_seed(0)
    weights, waiting = torch.randn(2000, 2000, device="cuda"), []
    for step, (is_push, nodes, number) in enumerate(SEQUENCE * 5):
        ids = torch.tensor(nodes)
        busy = weights @ weights  # the default stream has something to do
        if is_push:
            rows = number * torch.randn(len(nodes), WIDTH, generator=generator)
            kept = decode(*encode(rows, dtype))
            on_gpu = rows.cuda() + 0 * busy[0, 0]
            transfers.push(table, ids, on_gpu, step)
            on_gpu.fill_(-1)
            for node, row in zip(nodes, kept, strict=True):
                model[node] = row
        else:
            waiting.append((transfers.pull(table, ids, step), model[ids]))
    for handle, rows in waiting:
        torch.testing.assert_close(handle.wait().cpu(), rows, rtol=1e-6, atol=1e-6)
    assert transfers.statistics()[0] == 3 * len(waiting)
