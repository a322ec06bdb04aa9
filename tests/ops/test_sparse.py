"""Aggregation and transposition: against dense products, DGL, and numerical gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.ops import reference, spmm, transpose_csr
from tests.ops.graphs import csc_of, edge_lists, random_csc


@pytest.fixture(params=["native", "torch"])
def either_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr("gnnscale.ops.sparse.native", None)


def dense(indptr: Tensor, indices: Tensor, weight: Tensor, num_cols: int) -> Tensor:
    rows = torch.arange(len(indptr) - 1).repeat_interleave(indptr.diff().long())
    matrix = torch.zeros(len(indptr) - 1, num_cols, dtype=weight.dtype)
    return matrix.index_put((rows, indices.long()), weight, accumulate=True)


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """CSR structures, seldom square: (indptr, indices, number of columns), of any two integer dtypes."""
    src, dst, num_nodes = draw(edge_lists())
    indptr, indices = csc_of(src, dst, num_nodes + draw(st.integers(0, 3)))
    dtypes = st.sampled_from([torch.int32, torch.int64])
    return indptr.to(draw(dtypes)), indices.to(draw(dtypes)), num_nodes + draw(st.integers(0, 3))


@settings(deadline=None)
@given(
    matrix=matrices(),
    width=st.integers(0, 200),
    weighted=st.booleans(),
    wide=st.booleans(),
    share=st.sampled_from([None, 0.0, 0.5, 1.0]),
)
def test_spmm_equals_the_dense_product_with_gradients(
    matrix: tuple, width: int, weighted: bool, wide: bool, share: float | None
) -> None:
    indptr, indices, num_cols = matrix
    dtype = torch.float64 if wide else torch.float32
    x = torch.randn(num_cols, width, dtype=dtype, requires_grad=True)
    weight = torch.randn(len(indices), dtype=dtype, requires_grad=True) if weighted else None
    ones = torch.ones(len(indices), dtype=dtype)
    upstream = torch.randn(len(indptr) - 1, width, dtype=dtype)

    wanted = dense(indptr, indices, ones if weight is None else weight, num_cols) @ x
    diagonal = None
    if share is not None:
        diagonal = torch.randn(int(share * min(len(indptr) - 1, num_cols)), dtype=dtype)
        own = diagonal[:, None] * x[: len(diagonal)]
        wanted = wanted + torch.cat([own, own.new_zeros(len(wanted) - len(own), width)])
    leaves = [x] if weight is None else [x, weight]
    wanted_grads = torch.autograd.grad(wanted, leaves, upstream)
    for transposed in (None, transpose_csr(indptr, indices, num_cols)):
        out = spmm(indptr, indices, weight, x, diagonal=diagonal, transposed=transposed)
        torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.autograd.grad(out, leaves, upstream), wanted_grads, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        reference.spmm(indptr, indices, None if weight is None else weight.detach(), x.detach(), diagonal),
        wanted.detach(),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.usefixtures("either_backend")
def test_gradcheck() -> None:
    indptr, indices = random_csc(8, 30)
    weight = torch.randn(30, dtype=torch.float64, requires_grad=True)
    x = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, h: spmm(indptr, indices, w, h), (weight, x))
    assert torch.autograd.gradcheck(lambda h: spmm(indptr, indices, None, h), (x,))


@pytest.mark.usefixtures("either_backend")
def test_equals_dgl_forward_and_gradients() -> None:
    indptr, indices = random_csc(400, 6000)
    rows = torch.arange(400).repeat_interleave(indptr.diff())
    graph = dgl.graph((indices, rows), num_nodes=400)
    weight = torch.rand(6000, requires_grad=True)
    x = torch.randn(400, 47, requires_grad=True)
    ours, theirs = spmm(indptr, indices, weight, x), dgl.ops.u_mul_e_sum(graph, x, weight[:, None])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    upstream = torch.randn_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (weight, x), upstream),
        torch.autograd.grad(theirs, (weight, x), upstream),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.usefixtures("either_backend")
def test_the_diagonal_has_a_gradient() -> None:
    indptr, indices = random_csc(8, 30)
    diagonal = torch.randn(5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(30, dtype=torch.float64, requires_grad=True)
    x = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d, w, h: spmm(indptr, indices, w, h, diagonal=d), (diagonal, weight, x))
    assert torch.autograd.gradcheck(lambda d: spmm(indptr, indices, None, x.detach(), diagonal=d), (diagonal,))
    assert torch.autograd.gradcheck(lambda w: spmm(indptr, indices, w, x.detach()), (weight,))


@pytest.mark.usefixtures("either_backend")
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_bfloat16_rows_are_added_up_in_float32(dtype: torch.dtype | None) -> None:
    indptr, indices = random_csc(50, 20_000)
    weight = torch.rand(20_000, requires_grad=True)
    x = torch.randn(50, 70).bfloat16().requires_grad_()
    exact = x.detach().float().requires_grad_()
    out, wanted = spmm(indptr, indices, weight, x, dtype=dtype), spmm(indptr, indices, weight, exact)
    assert out.dtype == (dtype or torch.bfloat16)
    # Sums of 400 rows: in bfloat16 they would be wrong by far more than the rounding of the result.
    rounding = {"rtol": 2**-8, "atol": 1e-3} if dtype is None else {"rtol": 1e-4, "atol": 1e-3}
    torch.testing.assert_close(out.float(), wanted, **rounding)
    upstream = torch.randn(50, 70).bfloat16()
    of_weight, of_x = torch.autograd.grad(out, (weight, x), upstream.to(out.dtype))
    wanted_of_weight, wanted_of_x = torch.autograd.grad(wanted, (weight, exact), upstream.float())
    assert (of_weight.dtype, of_x.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(of_weight, wanted_of_weight, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(of_x.float(), wanted_of_x, rtol=2**-8, atol=1e-3)


def test_columns_done_in_turns_give_the_same() -> None:
    # So many rows that 48 of their columns fit the cache; and read often enough for that to matter.
    indptr, indices = random_csc(120_000, 720_000)
    weight, x = torch.randn(720_000, requires_grad=True), torch.randn(120_000, 50, requires_grad=True)
    diagonal, upstream = torch.randn(1000), torch.randn(120_000, 50)
    out = spmm(indptr, indices, weight, x, diagonal=diagonal)
    of_weight, of_x = torch.autograd.grad(out, (weight, x), upstream)
    (alone,) = torch.autograd.grad(spmm(indptr, indices, weight, x.detach()), weight, upstream)
    with torch.no_grad():
        indptr_t, indices_t, order = transpose_csr(indptr, indices, 120_000)
        near = {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(out, reference.spmm(indptr, indices, weight, x, diagonal), **near)
        torch.testing.assert_close(of_x, reference.spmm(indptr_t, indices_t, weight[order], upstream, diagonal), **near)
        for dots in (of_weight, alone):
            torch.testing.assert_close(dots, reference.sddmm(indptr, indices, upstream, x), **near)


def test_the_result_does_not_depend_on_threads() -> None:
    indptr, indices = random_csc(3000, 150_000)
    weight, x = torch.rand(150_000), torch.randn(3000, 100)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        results.append(spmm(indptr, indices, weight, x))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    torch.testing.assert_close(results[0], reference.spmm(indptr, indices, weight, x), rtol=1e-4, atol=1e-3)


def test_a_layout_that_is_not_contiguous_is_read_right() -> None:
    indptr, indices = random_csc(20, 60)
    x, weight = torch.randn(5, 20).T, torch.randn(120)[::2]
    torch.testing.assert_close(
        spmm(indptr, indices, weight, x), dense(indptr, indices, weight, 20) @ x, rtol=1e-4, atol=1e-4
    )
    wanting = torch.randn(20, 5, requires_grad=True)
    spmm(indptr, indices, None, wanting).sum().backward()  # an upstream gradient of stride 0
    assert wanting.grad is not None
    torch.testing.assert_close(wanting.grad[:, 0], torch.bincount(indices, minlength=20).float())


def test_weights_want_no_gradient_unless_asked() -> None:
    indptr, indices = random_csc(20, 60)
    weight, x = torch.rand(60), torch.randn(20, 4, requires_grad=True)
    spmm(indptr, indices, weight, x).sum().backward()
    assert weight.grad is None
    assert x.grad is not None
    assert not spmm(indptr, indices, weight, x.detach()).requires_grad


@settings(deadline=None)
@given(matrix=matrices())
def test_transpose_is_stable_and_right(matrix: tuple) -> None:
    indptr, indices, num_cols = matrix
    indptr_t, indices_t, permutation = transpose_csr(indptr, indices, num_cols)
    assert (indptr_t.dtype, indices_t.dtype, permutation.dtype) == (indptr.dtype, indices.dtype, torch.int64)
    wanted = reference.transpose_csr(indptr.long(), indices, num_cols)
    for ours, theirs in zip((indptr_t, indices_t, permutation), wanted, strict=True):
        assert ours.tolist() == theirs.tolist()
    weight = torch.randn(len(indices))
    torch.testing.assert_close(
        dense(indptr_t, indices_t, weight[permutation], len(indptr) - 1),
        dense(indptr, indices, weight, num_cols).T,
    )


@pytest.mark.usefixtures("either_backend")
def test_wrong_arguments_get_a_sentence() -> None:
    indptr, indices = torch.tensor([0, 2, 3]), torch.tensor([1, 0, 1])
    x, weight = torch.randn(2, 4), torch.rand(3)
    with pytest.raises(TypeError, match="x must be float32, float64 or bfloat16; got float16"):
        spmm(indptr, indices, None, x.half())
    with pytest.raises(ValueError, match="x must have two dimensions"):
        spmm(indptr, indices, None, x[0])
    with pytest.raises(TypeError, match=r"weight is torch\.float64 and x is torch\.float32"):
        spmm(indptr, indices, weight.double(), x)
    with pytest.raises(ValueError, match=r"weight has shape \(2,\); one number for each of the 3 edges"):
        spmm(indptr, indices, weight[:2], x)
    with pytest.raises(TypeError, match="indices must be int32 or int64; got float32"):
        spmm(indptr, weight, weight, x)
    with pytest.raises(ValueError, match="indices holds 2; the matrix has 2 columns"):
        spmm(indptr, indices + 1, weight, x)
    with pytest.raises(ValueError, match="indices holds -1"):
        spmm(indptr, indices - 1, weight, x)
    for wrong in (torch.rand(3), torch.rand(2).double(), torch.rand(2, 1)):
        with pytest.raises(ValueError, match=r"diagonal is .* with at most 2 entries"):
            spmm(indptr, indices, weight, x, diagonal=wrong)
    for wrong in ([1, 2, 3], [0, 2, 2], [0, 4, 3]):
        with pytest.raises(ValueError, match="indptr is no CSR pointer array"):
            spmm(torch.tensor(wrong), indices, weight, x)
    with pytest.raises(ValueError, match="transposed belongs to another structure"):
        spmm(indptr, indices, weight, x, transposed=transpose_csr(indptr, indices, 5))
    with pytest.raises(ValueError, match="indices holds 1; the matrix has 1 columns"):
        transpose_csr(indptr, indices, 1)
    with pytest.raises(ValueError, match="num_cols is -1"):
        transpose_csr(indptr, indices, -1)
    with pytest.raises(ValueError, match="indptr is empty"):
        transpose_csr(indptr[:0], indices, 2)
