"""Operations as torch operators: what torch checks of operators, and a compiled function with its gradient."""

import pytest
import torch

from gnnscale.ops import backend, extremes, spmm, transpose_csr
from gnnscale.ops._library import OPERATORS
from tests.ops.graphs import random_csc

pytestmark = pytest.mark.skipif(not OPERATORS, reason="operators need torch 2.4")


@pytest.fixture
def matrix():
    indptr, indices = random_csc(12, 40)
    return indptr, indices, transpose_csr(indptr, indices, 12)


@pytest.mark.parametrize("transposed", [False, True])
def test_spmm_is_an_operator(matrix, transposed):
    indptr, indices, transpose = matrix
    weight = torch.randn(40, dtype=torch.float64, requires_grad=True)
    diagonal = torch.randn(12, dtype=torch.float64, requires_grad=True)
    x = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    rest = transpose if transposed else (None, None, None)
    operator = torch.ops.gnnscale.spmm.default
    values = (weight, diagonal) if transposed else (None, None)
    torch.library.opcheck(operator, (indptr, indices, *values, x, *rest, None))
    inputs = (indptr, indices, weight, diagonal, x, *rest, None)
    assert torch.autograd.gradcheck(operator, inputs)


def test_spmm_of_bfloat16_is_an_operator(matrix):
    indptr, indices, transpose = matrix
    weight, x = torch.randn(40, requires_grad=True), torch.randn(12, 5).bfloat16().requires_grad_()
    for dtype in (None, torch.float32):
        torch.library.opcheck(torch.ops.gnnscale.spmm.default, (indptr, indices, weight, None, x, *transpose, dtype))


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_extremes_is_an_operator(matrix, largest, dtype):
    indptr, indices, transpose = matrix
    x = torch.randn(12, 5).to(dtype).requires_grad_()
    torch.library.opcheck(torch.ops.gnnscale.extremes.default, (indptr, indices, x, largest, *transpose))


def test_a_compiled_function_gives_the_same(matrix):
    indptr, indices, transpose = matrix
    weight, x = torch.randn(40, requires_grad=True), torch.randn(12, 5, requires_grad=True)

    def work(weight, x):
        total = spmm(indptr, indices, weight, torch.relu(x), transposed=transpose)
        return total.tanh() + extremes(indptr, indices, x)

    compiled = torch.compile(work, backend="aot_eager", fullgraph=True)
    expected, out = work(weight, x), compiled(weight, x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        torch.autograd.grad(out.square().sum(), (weight, x)),
        torch.autograd.grad(expected.square().sum(), (weight, x)),
    )


@pytest.mark.skipif(backend() == "torch", reason="torch's own operations check their indices")
def test_an_operator_called_by_hand_is_checked_too(matrix):
    indptr, indices, (indptr_t, indices_t, order) = matrix
    x, weight, grad = torch.randn(12, 5), torch.randn(40), torch.randn(12, 5)
    call = torch.ops.gnnscale.spmm_backward
    with pytest.raises(ValueError, match="transposed holds edges that the matrix does not have"):
        call(indptr, indices, weight, None, x, indptr_t, indices_t, order + 40, grad, True, True)
    with pytest.raises(ValueError, match="the wrong dtype"):
        call(indptr, indices, weight, None, x, indptr_t, indices_t, order.int(), grad, True, True)
    with pytest.raises(ValueError, match="another length than indices"):
        call(indptr, indices, weight[:3], None, x, indptr_t, indices_t, order, grad, True, True)
    with pytest.raises(ValueError, match=r"indices holds \d+; the matrix has 5 columns"):
        call(indptr, indices, weight, None, x, indptr_t, indices_t, order, grad[:5], True, True)
    with pytest.raises(ValueError, match="do not fit the matrix"):
        call(indptr, indices, weight, None, x, indptr_t, indices_t, order, grad[:, :2], True, True)
