"""The store as its users see it, against the simplest model: a table and operations in the order of the calls."""

import io
import math
import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.history import HistoryStore
from gnnscale.ops import backend

DTYPES = ["float32", "float16", "bfloat16", "int8"]
PLACEMENTS = ["host", "shared", "file"]

needs_native = pytest.mark.skipif(backend() != "native", reason="shared and file need the native operations")


@pytest.fixture(params=["host", pytest.param("shared", marks=needs_native), pytest.param("file", marks=needs_native)])
def placement(request, tmp_path):
    """Arguments of a store for each placement on the CPU."""
    path = {"path": tmp_path / "history"} if request.param == "file" else {}
    return {"placement": request.param, **path}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1]), st.lists(st.integers(0, 9), max_size=12), st.booleans()), max_size=20)
)
def test_a_pull_sees_the_pushes_before_it(operations):
    store, widths = HistoryStore(10, [3, 2]), [3, 2]
    model = [torch.zeros(10, width) for width in widths]
    pulls = []
    for step, (layer, nodes, is_push) in enumerate(operations, start=1):
        ids = torch.tensor(nodes, dtype=torch.int64)
        if is_push:
            rows = torch.arange(len(nodes) * widths[layer]).view(-1, widths[layer]) + 100.0 * step
            store.push(layer, ids, rows)
            for node, row in zip(nodes, rows, strict=True):  # of repeated ids, the last
                model[layer][node] = row
            rows.zero_(), ids.zero_()  # the caller may do what it likes with them
        else:
            pulls.append((store.pull(layer, ids), model[layer][ids].clone()))
            ids.zero_()
    for pull, expected in reversed(pulls):
        assert torch.equal(pull.wait(), expected)
        assert pull.done


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_operations_keep_their_order_on_every_placement(placement, dtype):
    store = HistoryStore(20_000, [64], dtype=dtype, **placement)
    ids = torch.arange(20_000)
    pulls = []
    for step in range(1, 6):
        store.push(0, ids, torch.full((20_000, 64), float(step)))
        store.push(0, ids[::2], torch.full((10_000, 64), step + 0.5))
        pulls.append((step, store.pull(0, ids)))
    for step, pull in pulls:
        rows = pull.wait()
        assert rows.dtype == torch.float32
        assert torch.allclose(rows[::2], torch.tensor(step + 0.5), rtol=1e-2)
        assert torch.allclose(rows[1::2], torch.tensor(float(step)), rtol=1e-2)


def test_tables_are_made_with_the_width_of_the_first_rows(placement):
    store = HistoryStore(4, **placement)
    store.push(0, torch.tensor([1]), torch.ones(1, 3))
    store.push(1, torch.tensor([2]), torch.ones(1, 5))
    assert store.widths == [3, 5]
    store.step = 7
    store.reset()
    for layer in (0, 1):
        assert store.pull(layer, torch.arange(4)).wait().sum() == 0
        assert store.staleness(layer, torch.arange(4)).tolist() == [0] * 4


def test_pushed_rows_are_copied_and_pulled_rows_carry_no_gradient():
    store, rows = HistoryStore(4, [2]), torch.ones(1, 2, requires_grad=True)
    store.push(0, torch.tensor([0]), rows)
    with torch.no_grad():
        rows.zero_()
    pulled = store.pull(0, torch.tensor([0])).wait()
    assert pulled.tolist() == [[1.0, 1.0]]
    assert not pulled.requires_grad
    pulled += 1  # the caller's own
    assert store.pull(0, torch.tensor([0])).wait().tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("action", "error", "sentence"),
    [
        (lambda: HistoryStore(-1), ValueError, "num_rows=-1 has to be an integer of at least 0"),
        (lambda: HistoryStore(2.0), ValueError, "num_rows=2.0 has to be an integer"),
        (lambda: HistoryStore(3, [0]), ValueError, "widths=0 has to be an integer of at least 1"),
        (lambda: HistoryStore(3, dtype="float64"), ValueError, "float64.*float32, float16, bfloat16.*int8"),
        (lambda: HistoryStore(3, placement="disk"), ValueError, "placement='disk'.*host"),
        (lambda: HistoryStore(3, placement="file"), ValueError, "path"),
        (lambda: HistoryStore(3, path="x"), ValueError, "path"),
        (lambda: HistoryStore(10**12, [256]), MemoryError, "GB|TB"),
        (lambda: HistoryStore(3, [2]).pull(1, torch.tensor([0])), ValueError, "layer=1 has no history; there are 1 t"),
        (lambda: HistoryStore(3).push(1, torch.tensor([0]), torch.ones(1, 2)), ValueError, "layer=1 has no history"),
        (lambda: HistoryStore(3, [2]).push(0, torch.tensor([0]), torch.ones(2, 2)), ValueError, "do not fit 1 ids"),
        (
            lambda: HistoryStore(3, [2]).push(0, torch.tensor([0]), torch.ones(1, 4)),
            ValueError,
            "have 4 columns and the",
        ),
        (lambda: HistoryStore(3, [2]).push(0, torch.tensor([3]), torch.ones(1, 2)), IndexError, "3.*3 rows"),
        (lambda: HistoryStore(3, [2]).pull(0, torch.tensor([0, -1])), IndexError, "-1.*3 rows"),
        (lambda: HistoryStore(3, 4), ValueError, "widths=4 has to be a list"),
        (lambda: HistoryStore(3, device="gpu"), ValueError, "device='gpu' is not known; use 'cpu' or 'cuda'"),
        (lambda: HistoryStore(3, num_threads=0), ValueError, "num_threads=0 has to be an integer of at least 1"),
        (lambda: HistoryStore.estimate(-1, [4]), ValueError, "num_rows=-1 has to be an integer of at least 0"),
        (lambda: HistoryStore(3).ensure(0, 0), ValueError, "width=0 has to be an integer of at least 1"),
        (lambda: HistoryStore(3, [2]).pull(0, [1]), TypeError, "ids are of type list; pass a tensor"),
        (lambda: HistoryStore(3, [2]).pull(0, torch.tensor([1.7])), TypeError, "ids have the dtype torch.float32"),
        (lambda: HistoryStore(3, [2]).pull(0, torch.ones(3, dtype=torch.bool)), TypeError, "of a mask, mask.nonzero"),
        (lambda: HistoryStore(3, [2]).staleness(0, torch.tensor([-1])), IndexError, "-1.*3 rows"),
        (lambda: HistoryStore(3, [2]).push(0, torch.tensor([1]), torch.ones(1, 2).int()), TypeError, "rows are of"),
        (lambda: setattr(HistoryStore(3), "step", -3), ValueError, "step=-3 has to be an integer of at least 0"),
        (lambda: HistoryStore(3).load_state_dict({}), ValueError, "the state is not one that"),
        (lambda: HistoryStore(3).grow(2), ValueError, "num_rows=2 has to be an integer of at least 3"),
        (lambda: HistoryStore(3).load_state_dict(HistoryStore(4).state_dict()), ValueError, "4 rows of float32 and"),
    ],
)
def test_bad_input_is_one_sentence(action, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_traffic_counts_rows_bytes_and_ages():
    store = HistoryStore(6, [4], dtype="float16")
    store.step = 4
    store.push(0, torch.tensor([1]), torch.ones(1, 4))
    store.step = 9
    assert store.staleness(0, torch.arange(3)).tolist() == [9, 5, 9]
    assert math.isnan(store.take_traffic().staleness)
    store.pull(0, torch.tensor([1, 2])).wait()
    store.pull(0, torch.tensor([1]), step=11).wait()
    traffic = store.take_traffic()
    assert (traffic.rows_pulled, traffic.bytes_pulled, traffic.bytes_pushed) == (3, 3 * 8, 0)
    assert traffic.staleness == (5 + 9 + 7) / 3
    assert traffic.staleness_max == 9
    assert traffic.staleness_histogram == (0, 0, 0, 2, 1)  # 4 to 7: two rows; 8 to 15: one
    assert traffic.wait_seconds > 0
    assert store.take_traffic().rows_pulled == 0


def test_a_pull_knows_whether_it_is_still_what_one_would_get():
    store = HistoryStore(4, [2, 2])
    pull = store.pull(0, torch.tensor([0]))
    store.push(1, torch.tensor([0]), torch.ones(1, 2))
    assert pull.is_current
    store.push(0, torch.tensor([0]), torch.ones(1, 2))
    assert not pull.is_current
    assert pull.wait().tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_survives_torch_save_without_pickle(placement, dtype):
    torch.manual_seed(0)
    store = HistoryStore(50, dtype=dtype, **placement)
    for layer, width in enumerate((3, 8)):
        store.step = layer + 2
        store.push(layer, torch.arange(40), torch.randn(40, width))
    file = io.BytesIO()
    torch.save(store.state_dict(), file)
    file.seek(0)
    other = HistoryStore(50, dtype=dtype)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert same(store, other)
    store.push(0, torch.arange(50), torch.zeros(50, 3))
    assert not same(store, other)  # nothing is shared


def same(a, b):
    """Whether two stores hold the same rows of the same age."""
    ids = torch.arange(a.num_rows)
    return a.widths == b.widths and all(
        torch.equal(a.pull(layer, ids).wait(), b.pull(layer, ids).wait())
        and torch.equal(a.staleness(layer, ids), b.staleness(layer, ids))
        for layer in range(len(a.widths))
    )


@needs_native
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_saved_store_can_be_loaded_and_opened(placement, dtype, tmp_path):
    torch.manual_seed(0)
    store = HistoryStore(50, [3], dtype=dtype, **placement)
    store.step = 5
    store.push(0, torch.arange(0, 50, 2), torch.randn(25, 3))
    store.save(tmp_path / "saved")
    assert same(store, HistoryStore.load(tmp_path / "saved"))
    exact = HistoryStore.load(tmp_path / "saved", dtype="float32")
    assert torch.equal(exact.pull(0, torch.arange(50)).wait(), store.pull(0, torch.arange(50)).wait())
    opened = HistoryStore.open(tmp_path / "saved")
    assert opened.placement == "file"
    assert opened.step == 5
    assert same(store, opened)


@needs_native
def test_a_file_is_opened_again_with_its_rows(tmp_path):
    path = tmp_path / "history"
    with_rows = HistoryStore(30, dtype="int8", placement="file", path=path)
    with_rows.step = 3
    with_rows.push(0, torch.arange(30), torch.arange(60.0).view(30, 2))
    state = with_rows.state_dict()
    with_rows.close()
    again = HistoryStore.open(path)
    assert (again.num_rows, again.widths, again.dtype, again.step) == (30, [2], torch.int8, 3)
    for name, part in again.state_dict()["tables"][0].items():
        assert torch.equal(part, state["tables"][0][name])
    with pytest.raises(ValueError, match="exists"):
        HistoryStore(30, placement="file", path=path)
    with pytest.raises(FileNotFoundError):
        HistoryStore.open(tmp_path / "nothing")


def test_growing_keeps_rows_and_appends_zeros(placement):
    store = HistoryStore(3, [2], dtype="int8", **placement)
    store.push(0, torch.arange(3), torch.ones(3, 2))
    store.step = 4
    store.grow(5)
    assert store.num_rows == 5
    assert store.pull(0, torch.arange(5)).wait().tolist() == [[1, 1]] * 3 + [[0, 0]] * 2
    store.push(0, torch.tensor([4]), torch.full((1, 2), 2.0))
    assert store.pull(0, torch.tensor([4])).wait().tolist() == [[2, 2]]


def test_a_state_taken_while_another_thread_pushes_is_that_of_one_moment():
    """Every push writes one number to both tables; a state with two numbers in it would be of no moment."""
    store = HistoryStore(5000, [16, 16])
    ids, stop = torch.arange(5000), threading.Event()

    def push():
        number = 0
        while not stop.is_set():
            number += 1
            with store._here():  # both tables in one go, as the states see it
                for layer in (0, 1):
                    store.push(layer, ids, torch.full((5000, 16), float(number)))

    thread = threading.Thread(target=push)
    thread.start()
    try:
        for _ in range(20):
            state = store.state_dict()
            assert len(torch.cat([table["rows"] for table in state["tables"]]).unique()) == 1
    finally:
        stop.set()
        thread.join()


def test_estimates_are_what_a_store_takes(placement):
    estimate = HistoryStore.estimate(1000, [16, 7], dtype="int8", **placement)
    store = HistoryStore(1000, [16, 7], dtype="int8", **placement)
    assert store.nbytes <= estimate.bytes <= store.nbytes + 40960  # and a header, and whole pages


def test_a_store_in_memory_does_not_go_to_a_forked_child():
    store = HistoryStore(3, [2])
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            store.pull(0, torch.tensor([0])).wait()
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert b"use placement='shared'" in os.read(reading, 1000)
    os.close(reading)


@needs_native
def test_a_shared_store_is_one_with_that_of_a_forked_child():
    store = HistoryStore(3, placement="shared")
    store.push(0, torch.tensor([0]), torch.ones(1, 2))
    store.flush()
    if not (child := os.fork()):
        store.push(0, torch.tensor([1]), store.pull(0, torch.tensor([0])).wait() + 1)
        store.push(1, torch.tensor([2]), torch.full((1, 3), 3.0))  # a table that the parent has not seen
        store.flush()
        os._exit(0)
    os.waitpid(child, 0)
    assert store.pull(0, torch.arange(3)).wait().tolist() == [[1, 1], [2, 2], [0, 0]]
    assert store.pull(1, torch.tensor([2])).wait().tolist() == [[3, 3, 3]]


def test_a_closed_store_does_nothing_any_more(placement, tmp_path):
    store = HistoryStore(3, [2], **placement)
    store.push(0, torch.tensor([1]), torch.ones(1, 2))
    pull = store.pull(0, torch.tensor([1]))
    store.close()
    store.close()
    assert pull.wait().tolist() == [[1, 1]]
    for action in (
        lambda: store.push(0, torch.tensor([1]), torch.ones(1, 2)),
        lambda: store.pull(0, torch.tensor([1])),
        lambda: store.save(tmp_path / "saved"),
        store.state_dict,
        store.reset,
        store.flush,
        lambda: store.grow(5),
    ):
        with pytest.raises(ValueError, match="this HistoryStore is closed; make or open another"):
            action()
    assert not (tmp_path / "saved").exists()


def test_tables_made_after_a_state_are_cleared_by_it():
    store = HistoryStore(3, [2])
    store.step = 4
    state = store.state_dict()
    store.step = 6
    store.push(1, torch.arange(3), torch.ones(3, 5))
    store.load_state_dict(state)
    assert store.pull(1, torch.arange(3)).wait().sum() == 0
    assert store.staleness(1, torch.arange(3)).tolist() == [0, 0, 0]


def test_a_store_without_rows_has_a_state():
    store = HistoryStore(0, [4], dtype="int8")
    store.load_state_dict(store.state_dict())
    store.reset()
    assert store.pull(0, torch.tensor([], dtype=torch.int64)).wait().shape == (0, 4)


def test_integers_may_be_of_numpy():
    store = HistoryStore(np.int64(3), [np.int32(2)])
    store.step = np.int64(4)
    store.grow(np.int64(5))
    assert (store.num_rows, store.widths, store.step) == (5, [2], 4)
