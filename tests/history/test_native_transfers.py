"""Native tables and transfers against plain torch."""

import mmap
import os
import random
import signal
import threading
import time
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnnscale.history.encoding import decode, encode
from gnnscale.ops._backend import native

pytestmark = pytest.mark.skipif(native is None, reason="needs the native operations")

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8]
SLOTS = 64


@dataclass
class Arrays:
    """A table's memory, which forked children share."""

    rows: Tensor
    scales: Tensor | None
    written: Tensor
    versions: Tensor | None
    journal: Tensor | None

    @classmethod
    def make(cls, num_rows, width, dtype=torch.float32, shared=False):
        def zeros(shape, dtype):
            size = max(int(torch.Size(shape).numel()), 1) * dtype.itemsize
            memory = torch.frombuffer(mmap.mmap(-1, size), dtype=dtype)
            return memory[: torch.Size(shape).numel()].view(shape)

        slot = 64 + -(-width * dtype.itemsize // 64) * 64 + 64
        return cls(
            zeros((num_rows, width), dtype),
            zeros((num_rows,), torch.float32) if dtype == torch.int8 else None,
            zeros((num_rows,), torch.int32),
            zeros((num_rows,), torch.int32) if shared else None,
            zeros((SLOTS * slot,), torch.uint8) if shared else None,
        )

    def view(self):
        return native.RowTable(
            self.rows.view(torch.uint8), self.rows.shape[1], DTYPES.index(self.rows.dtype),
            self.scales, self.written, self.versions, self.journal,
        )  # fmt: skip


@pytest.fixture
def transfers():
    transfers = native.Transfers(2)
    yield transfers
    transfers.close()


def bits(rows):
    """Rows for an exact comparison, in which NaN equals NaN."""
    return torch.where(rows.isnan(), torch.nan, rows).view(torch.int32)


# Subnormal, halfway between two neighbours of either type, at the edge of float16, and not finite.
AWKWARD = [0.0, -0.0, 1e-45, -1e-40, 6e-8, 5.97e-8, 6.1e-5, 65504.0, 65519.9, 65520.0, 3.4e38, -1e30]
AWKWARD += [1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, float("inf"), -float("inf"), float("nan")]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("width", [1, 3, 16, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_back_as_torch_converts_them(transfers, dtype, width, shared):
    # Enough rows for several threads; few enough to have ids repeated.
    num_rows, count = 700, max(4, min(700_000 // width, 40_000))
    arrays = Arrays.make(num_rows, width, dtype, shared)
    table, ids = arrays.view(), torch.randint(num_rows, (count,))
    rows = torch.randn(count, width) * torch.logspace(-12, 7, count)[torch.randperm(count), None]
    rows.view(-1)[torch.randperm(rows.numel())[: len(AWKWARD)]] = torch.tensor(AWKWARD)[: rows.numel()]
    transfers.push(table, ids, rows, 1)

    last = torch.full((num_rows,), -1)
    for position, row in enumerate(ids.tolist()):
        last[row] = position
    expected = torch.where((last >= 0)[:, None], decode(*encode(rows[last.clamp(min=0)], dtype)), 0.0)
    assert torch.equal(bits(transfers.pull(table, torch.arange(num_rows), 1).wait()), bits(expected))
    assert torch.equal(bits(transfers.pull(table, ids, 1).wait()), bits(expected[ids]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_number_is_read_exactly_and_kept(transfers, dtype):
    numbers = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).view(256, 256)
    arrays = Arrays.make(256, 256, dtype)
    arrays.rows.copy_(numbers)
    table, ids = arrays.view(), torch.arange(256)
    rows = transfers.pull(table, ids, 0).wait()
    assert torch.equal(bits(rows), bits(numbers.float()))
    transfers.push(table, ids, rows, 1)
    transfers.flush()
    finite = ~numbers.isnan()
    assert torch.equal(arrays.rows.view(torch.int16)[finite], numbers.view(torch.int16)[finite])
    assert arrays.rows[~finite].isnan().all()


# Not quite up to float32's limit: 127 times the rounded scale of 3.4028e38 is infinite.
@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=40))
def test_int8_is_off_by_half_a_scale_at_most(values):
    arrays, row = Arrays.make(1, len(values), torch.int8), torch.tensor([values])
    transfers = native.Transfers(1)
    transfers.push(arrays.view(), torch.tensor([0]), row, 0)
    got = transfers.pull(arrays.view(), torch.tensor([0]), 0).wait()
    scale = arrays.scales.double()
    if scale >= torch.finfo(torch.float32).tiny:  # smaller scales have few bits themselves
        # Half a scale, and the roundings of float32.
        assert ((got.double() - row).abs() <= scale * (0.5 + 1e-4)).all()
    assert (got.abs() <= row.abs().amax() * (1 + 1e-6)).all() or scale < torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_an_int8_row_that_is_not_finite_does_not_become_so(transfers, value):
    table = Arrays.make(2, 3, torch.int8).view()
    transfers.push(table, torch.tensor([0, 1]), torch.tensor([[1.0, value, 0.0], [1.0, 2.0, 3.0]]), 0)
    got = transfers.pull(table, torch.tensor([0, 1]), 0).wait()
    assert got[0].isnan().all()
    assert got[1].isfinite().all()


@pytest.mark.parametrize("shared", [False, True])
@given(data=st.data())
def test_operations_take_effect_in_order(shared, data):
    transfers, model, outstanding = native.Transfers(2), torch.zeros(50, 700), []
    table = Arrays.make(50, 700, shared=shared).view()
    # 700 columns: some operations are done at once, and the larger ones in the background.
    sizes = st.integers(0, 300)
    for step in range(data.draw(st.integers(1, 12))):
        ids = torch.randint(50, (data.draw(sizes),), generator=torch.Generator().manual_seed(step))
        if data.draw(st.booleans()):
            rows = torch.full((len(ids), 700), float(step)) + torch.arange(len(ids))[:, None] / 1024
            transfers.push(table, ids, rows, step)
            for row, values in zip(ids.tolist(), rows.clone(), strict=True):
                model[row] = values
            rows.fill_(-1)
        else:
            outstanding.append((transfers.pull(table, ids, step), model[ids]))
            ids.fill_(-1)
    random.Random(0).shuffle(outstanding)
    for pull, expected in outstanding:
        assert torch.equal(pull.wait(), expected)


def test_threads_of_one_process_share_transfers(transfers):
    table, failures = Arrays.make(400, 500).view(), []

    def work(thread):
        ids = torch.arange(thread * 100, thread * 100 + 100).repeat(3)
        for step in range(1, 40):
            transfers.push(table, ids, torch.full((300, 500), float(step)), step)
            if not (transfers.pull(table, ids, step).wait() == step).all():
                failures.append((thread, step))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_statistics_count_rows_ages_and_bytes(transfers):
    arrays = Arrays.make(10, 64, torch.int8)
    table = arrays.view()
    arrays.written.copy_(torch.tensor([7, 6, 5, 4, 0, 0, 8, 7, 7, 7]))
    assert transfers.pull(table, torch.arange(7), 7).wait().shape == (7, 64)
    rows, age_sum, oldest, histogram, pulled, pushed = transfers.statistics()
    # Ages 0, 1, 2, 3, 7, 7, and 0 for the row from the future.
    assert (rows, age_sum, oldest) == (7, 20, 7)
    assert histogram == [2, 1, 2, 2] + [0] * 28
    assert (pulled, pushed) == (7 * 68, 0)
    transfers.push(table, torch.tensor([3, 3]), torch.ones(2, 64), 9)
    transfers.flush()
    assert arrays.written[3] == 9
    assert transfers.statistics() == (0, 0, 0, [0] * 32, 0, 2 * 68)


@pytest.mark.parametrize(("ids", "sentence"), [([0, 10], r"ids\[1\] is 10; the table has 10 rows"),
                                               ([0, 1, -1], r"ids\[2\] is -1; the table has 10 rows")])  # fmt: skip
def test_ids_that_are_no_rows_are_refused_at_issue(transfers, ids, sentence):
    table, ids = Arrays.make(10, 2).view(), torch.tensor(ids)
    with pytest.raises(IndexError, match=sentence):
        transfers.pull(table, ids, 0)
    with pytest.raises(IndexError, match=sentence):
        transfers.push(table, ids, torch.ones(len(ids), 2), 0)
    assert transfers.pull(table, torch.arange(10), 0).wait().sum() == 0


def test_arguments_that_do_not_fit_are_refused(transfers):
    arrays = Arrays.make(4, 3, torch.int8, shared=True)
    rows = arrays.rows.view(torch.uint8)
    with pytest.raises(ValueError, match=r"a row of width=2 has 2"):
        native.RowTable(rows, 2, 3, arrays.scales, None, None, None)
    with pytest.raises(ValueError, match="scales are for int8"):
        native.RowTable(rows, 3, 3, None, None, None, None)
    with pytest.raises(ValueError, match="versions and journal go together"):
        native.RowTable(rows, 3, 3, arrays.scales, None, arrays.versions, None)
    with pytest.raises(ValueError, match="written has 3 elements; need 4"):
        native.RowTable(rows, 3, 3, arrays.scales, arrays.written[:3], None, None)
    with pytest.raises(ValueError, match=r"rows of shape \(2, 3\) do not fit; need \(1, 3\)"):
        transfers.push(arrays.view(), torch.tensor([1]), torch.ones(2, 3), 0)


@pytest.mark.parametrize("shared", [False, True])
def test_no_ids(transfers, shared):
    none = torch.empty(0, dtype=torch.int64)
    for num_rows in (0, 5):
        table = Arrays.make(num_rows, 3, shared=shared).view()
        transfers.push(table, none, torch.empty(0, 3), 1)
        assert transfers.pull(table, none, 1).wait().shape == (0, 3)


def test_memory_of_rows_is_used_again_but_never_while_somebody_has_it(transfers):
    arrays = Arrays.make(1000, 100)
    arrays.rows.copy_(torch.arange(1000.0)[:, None].expand(1000, 100))
    table, kept = arrays.view(), []
    for start in range(0, 900, 10):
        rows = transfers.pull(table, torch.arange(start, start + 100), 0).wait()
        kept.append((start, rows[3:]))  # a view of the tensor keeps its memory
    for start, rows in kept:
        assert torch.equal(rows[:, 0], torch.arange(start + 3.0, start + 100))
    addresses = {rows.data_ptr() for _, rows in kept}
    assert len(addresses) == len(kept)
    address = transfers.pull(table, torch.arange(100), 0).wait().data_ptr()
    assert transfers.pull(table, torch.arange(100), 0).wait().data_ptr() == address
    assert address % 64 == 0


def test_rows_outlive_the_transfers(transfers):
    table = Arrays.make(5, 2).view()
    transfers.push(table, torch.arange(5), torch.ones(5, 2), 1)
    pull = transfers.pull(table, torch.arange(5), 1)
    rows = pull.wait()
    transfers.close()
    transfers.close()
    assert rows.sum() == pull.wait().sum() == 10
    with pytest.raises(RuntimeError, match="closed"):
        transfers.push(table, torch.arange(5), torch.ones(5, 2), 1)


def in_a_child(work):
    """Run it in a forked process; give how that ended, after 20 seconds at most."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_is_told_so_and_does_not_hang():
    transfers = native.Transfers(2)
    arrays = Arrays.make(5000, 256, shared=True)
    table, ids = arrays.view(), torch.arange(5000)
    belongings = [transfers.pull(table, ids, 0)]
    belongings.append(belongings[0].wait())

    def work():
        for action in (transfers.flush, belongings[0].wait, lambda: transfers.pull(table, ids, 0)):
            with pytest.raises(RuntimeError, match="make or open the store in the process that uses it"):
                action()
        transfers.close()
        belongings.clear()
        # Memory that is shared takes transfers of its own.
        own = native.Transfers(2)
        own.push(table, ids, torch.ones(5000, 256), 3)
        own.flush()

    assert in_a_child(work) == 0
    assert transfers.pull(table, ids, 3).wait().sum() == 5000 * 256


@pytest.mark.parametrize("reaped", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_killed_writer_leaves_rows_old_or_new(transfers, dtype, reaped):
    torch.set_num_threads(1)  # torch's own threads do not survive a fork
    num_rows, width = 64, 4096  # few rows and long ones: most of the time, one is being written
    arrays = Arrays.make(num_rows, width, dtype, shared=True)
    table, ids, generator = arrays.view(), torch.arange(num_rows), random.Random(0)
    levels = [torch.full((num_rows, width), float(level)) for level in range(1, 100)]
    repaired, locked = 0, 0
    for _ in range(15):
        child = os.fork()
        if child == 0:
            own = native.Transfers(1)
            while True:
                for level, rows in enumerate(levels, start=1):
                    own.push(table, ids, rows, level)
                    own.flush()
        time.sleep(0.02 + generator.random() * 0.01)
        os.kill(child, signal.SIGKILL)
        if reaped:
            os.waitpid(child, 0)
            locked += int((arrays.versions % 2).sum())
            repaired += table.recover()
            assert not (arrays.versions % 2).any()
        rows = transfers.pull(table, ids, 0).wait()
        assert torch.equal(rows, rows[:, :1].expand_as(rows))
        if not reaped:
            os.waitpid(child, 0)
            table.recover()
        scale = torch.tensor(1.0) if arrays.scales is None else arrays.scales * 127
        if arrays.scales is None:
            assert torch.equal(arrays.rows[:, 0].int(), arrays.written)
        else:
            assert torch.equal(scale.round().int(), arrays.written)
        # Rows are written in order: at most two levels stand beside each other, below the first rows of a writer that
        # was killed in its first level.
        assert len(set(arrays.written.tolist()) - {1}) <= 2
    if reaped:
        assert repaired == locked
