import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.history.encoding import decode, encode
from gnnscale.history.memory import Table, native_view
from gnnscale.ops._backend import native


def matrices(numbers):
    """Up to six rows of up to twenty such numbers."""
    rows = st.integers(1, 20).flatmap(
        lambda width: st.lists(st.lists(numbers, min_size=width, max_size=width), max_size=6)
    )
    return rows.filter(len).map(torch.tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_those_of_torch(dtype):
    rows = torch.tensor([[1.0, -2.5e-8, 1e9], [float("nan"), float("-inf"), 1.00390625]])
    stored, scales = encode(rows, dtype)
    assert scales is None
    assert torch.equal(stored.view(torch.uint8), rows.to(dtype).view(torch.uint8))
    torch.testing.assert_close(decode(stored), rows.to(dtype).float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("given_dtype", [torch.float16, torch.float32, torch.float64])
def test_what_is_stored_has_memory_of_its_own(dtype, given_dtype):
    rows = torch.ones(4, 6, dtype=given_dtype)[:, ::2]
    stored, _ = encode(rows, dtype)
    rows.zero_()
    assert stored.is_contiguous()
    assert stored.dtype == dtype
    assert (stored != 0).all()


@given(matrices(st.floats(-(2.0**127), 2.0**127, width=32)))  # 127 steps of a larger row may be infinite
def test_an_int8_row_is_wrong_by_at_most_half_a_step(rows):
    stored, scales = encode(rows, torch.int8)
    assert stored.abs().max() <= 127
    error = (decode(stored, scales).double() - rows.double()).abs()
    # Half a step, and what float32 itself rounds away; below the normal numbers a step is a unit in the last place.
    allowed = 0.5 * scales.double() * (1 + 1e-4) + 2.0**-149 * 127
    assert (error <= allowed[:, None]).all()
    assert (scales.double() * 127 <= rows.double().abs().amax(1) * (1 + 1e-6) + 127 * 2.0**-150).all()


def test_int8_rounds_ties_to_even():
    stored, scales = encode(torch.tensor([[127.0, 0.5, 1.5, -2.5, -126.5]]), torch.int8)
    assert scales.tolist() == [1.0]
    assert stored.tolist() == [[127, 0, 2, -2, -126]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_int8_row_that_is_not_finite_does_not_become_finite(value):
    stored, scales = encode(torch.tensor([[1.0, value, 2.0], [1.0, 2.0, 3.0]]), torch.int8)
    rows = decode(stored, scales)
    assert rows[0].isnan().all()
    assert rows[1].isfinite().all()


def test_rows_of_zeros_and_of_the_smallest_numbers():
    tiny = 2.0**-149
    rows = torch.tensor([[0.0, -0.0], [tiny, 0.0], [190 * tiny, -127 * tiny]])
    stored, scales = encode(rows, torch.int8)
    # The second row's scale is less than the smallest number; the last one's is that number, and 190 is cut off.
    assert scales.tolist() == [0.0, 0.0, tiny]
    assert stored.tolist() == [[0, 0], [0, 0], [127, -127]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_no_rows(dtype):
    stored, scales = encode(torch.empty(0, 3), dtype)
    assert decode(stored, scales).shape == (0, 3)


@pytest.mark.skipif(native is None, reason="there is no native code")
@settings(deadline=None)
@given(matrices(st.floats(width=32)), st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int8]))
def test_native_code_stores_the_same_bytes(rows, dtype):
    stored, scales = encode(rows, dtype)
    table = Table(
        rows=torch.zeros(rows.shape, dtype=dtype),
        scales=torch.zeros(len(rows)) if dtype == torch.int8 else None,
    )
    transfers, view, ids = native.Transfers(1), native_view(table), torch.arange(len(rows))
    transfers.push(view, ids, rows, 0)
    pulled = transfers.pull(view, ids, 0).wait()
    torch.testing.assert_close(pulled, decode(stored, scales), rtol=0, atol=0, equal_nan=True)
    if scales is not None:
        torch.testing.assert_close(table.scales, scales, rtol=0, atol=0, equal_nan=True)
    # NaN has many forms; all numbers are the same bit for bit, the sign of zero too.
    same = (table.rows.view(torch.uint8) == stored.view(torch.uint8)).view(*rows.shape, -1).all(-1)
    assert (same | rows.isnan()).all()
