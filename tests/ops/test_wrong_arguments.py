"""What every operation on edges does with arguments that no rows of numbers are: the same natively and in torch."""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gnnscale import ops
from gnnscale.ops._backend import native

INDPTR, INDICES = torch.tensor([0, 2, 3, 3]), torch.tensor([2, 1, 0])
SCORES = torch.rand(3, 1)

OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "spmm": lambda x, **more: ops.spmm(INDPTR, INDICES, None, x, **more),
    "extremes": lambda x, **more: ops.extremes(INDPTR, INDICES, x, **more),
    "attend": lambda x, **more: ops.attend(INDPTR, INDICES, x, SCORES, SCORES, **more),
    "attend_edges": lambda x, **more: ops.attend_edges(INDPTR, INDICES, x, SCORES, **more),
}
MODULES = ("attention", "extremes", "sparse", "dropout", "sparse_rows", "gather")


@pytest.fixture(params=["native", "torch"], autouse=True)
def either_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        for module in MODULES:
            monkeypatch.setattr(sys.modules[f"gnnscale.ops.{module}"], "native", None)
    elif native is None:
        pytest.skip(ops.backend_reason())


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_sign_that_torch_has_put_off_counts(name: str) -> None:
    x = torch.complex(torch.rand(3, 2), torch.rand(3, 2)).conj().imag
    assert x.is_neg()
    copy = x.clone().resolve_neg().requires_grad_()
    operation = OPERATIONS[name]
    torch.testing.assert_close(operation(x), operation(copy))
    torch.testing.assert_close(operation(torch._neg_view(-x.resolve_neg())), operation(copy))
    wanted = torch.autograd.grad(operation(copy), copy, x)
    torch.testing.assert_close(torch.autograd.grad(operation(copy), copy, x.clone().resolve_neg()), wanted)


def test_a_sign_that_torch_has_put_off_counts_elsewhere() -> None:
    x = torch.complex(torch.rand(3, 2), torch.rand(3, 2)).conj().imag
    assert torch.equal(ops.dropout(x, 0.5, key=1), ops.dropout(x.resolve_neg(), 0.5, key=1))
    matrix = ops.SparseMatrix.of(torch.eye(3))
    assert torch.equal(ops.multiply_rows(matrix, None, x), x)
    with pytest.raises(ValueError, match="source is a view of another sign"):
        ops.gather_rows(torch._neg_view(torch.rand(3)), torch.tensor([0]))


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_no_tensor_or_no_transpose_gets_a_sentence(name: str) -> None:
    operation, x = OPERATIONS[name], torch.rand(3, 2, requires_grad=True)
    for wrong in ([1.0], None):
        with pytest.raises(TypeError, match="x must be a torch tensor"):
            operation(wrong)
    with pytest.raises(TypeError, match="x must be a dense tensor; its layout is sparse_coo"):
        operation(x.detach().to_sparse())
    indptr_t, indices_t, order = ops.transpose_csr(INDPTR, INDICES, 3)
    for few in ((indptr_t, indices_t), (indptr_t, None, order), 3):
        with pytest.raises(TypeError, match="transposed must be the three tensors"):
            operation(x, transposed=few)
    with pytest.raises(TypeError, match=r"transposed holds .*int32; transpose_csr gives"):
        operation(x, transposed=(indptr_t, indices_t, order.int()))
    for wrong in (order[:2], order[None]):
        with pytest.raises(ValueError, match="transposed belongs to another structure"):
            operation(x, transposed=(indptr_t, indices_t, wrong))
    (wanted,) = torch.autograd.grad(operation(x).sum(), x)
    apart = torch.stack([order, order], 1)[:, 0]
    (grad,) = torch.autograd.grad(operation(x, transposed=(indptr_t, indices_t, apart)).sum(), x)
    torch.testing.assert_close(grad, wanted)


def test_attention_without_scores_of_one_side_is_refused() -> None:
    x = torch.rand(3, 2)
    for source, target in ((SCORES, None), (None, SCORES), (None, None)):
        with pytest.raises(TypeError, match="scores are missing"):
            ops.attend(INDPTR, INDICES, x, source, target)
    if hasattr(torch.ops.gnnscale, "attend_backward"):
        nothing = (None, None, None, None, None)
        with pytest.raises(TypeError, match="scores are missing"):
            torch.ops.gnnscale.attend_backward(INDPTR, INDICES, x, SCORES, None, None, *nothing, 0.2, False, *[x] * 5)
        wants = x.clone().requires_grad_()
        out, *_ = torch.ops.gnnscale.attend(INDPTR, INDICES, wants, SCORES, SCORES, *nothing, None, 0.2, False, False)
        with pytest.raises(ValueError, match=r"share is .* is needed"):
            out.sum().backward()
        with pytest.raises(ValueError, match=r"log_sum is .* is needed"):
            torch.ops.gnnscale.attend_backward(INDPTR, INDICES, x, None, None, SCORES, *nothing, 0.2, False, *[x] * 5)


def test_no_gradient_is_begun_for_what_has_none() -> None:
    x, mask = torch.rand(3, 2), torch.ones(3, 1, requires_grad=True)
    assert not ops.attend(INDPTR, INDICES, x, SCORES, SCORES, mask=mask).requires_grad
    with pytest.raises(ValueError, match="out wants a gradient"):
        ops.gather_rows(x, torch.tensor([0]), torch.rand(1, 2, requires_grad=True))
    index = torch.tensor([2, 1, 0])
    with pytest.raises(ValueError, match="out shares memory with index"):
        ops.gather_rows(torch.tensor([5, 6, 7]), index, index)
    matrix = ops.SparseMatrix(INDPTR, INDICES.int(), torch.rand(3, requires_grad=True), 3)
    with pytest.raises(ValueError, match=r"matrix\.values wants a gradient"):
        ops.multiply_rows(matrix, None, x)


def test_attention_over_rows_without_columns() -> None:
    x = torch.rand(3, 0, requires_grad=True)
    out = ops.attend(INDPTR, INDICES, x, SCORES, SCORES)
    out.sum().backward()
    assert out.shape == x.grad.shape == (3, 0)


def test_other_arguments_of_the_wrong_type() -> None:
    x, matrix = torch.rand(3, 2), ops.SparseMatrix.of(torch.eye(3))
    for sentence, call in (
        ("indptr must be a torch tensor", lambda: ops.spmm([0], INDICES, None, x)),
        ("weight must be a torch tensor", lambda: ops.spmm(INDPTR, INDICES, [1.0], x)),
        ("indices must be a torch tensor", lambda: ops.transpose_csr(INDPTR, None, 3)),
        ("largest must be True or False; got str", lambda: ops.extremes(INDPTR, INDICES, x, largest="x")),
        ("negative_slope must be a number", lambda: ops.attend(INDPTR, INDICES, x, SCORES, SCORES, negative_slope="a")),
        ("matrix must be a SparseMatrix; got Tensor", lambda: ops.multiply_rows(x, None, x)),
        ("dense must be a torch tensor", lambda: ops.multiply_rows(matrix, None, None)),
        ("num_cols must be an integer", lambda: ops.SparseMatrix(INDPTR, INDICES.int(), torch.rand(3), 2.0)),
    ):
        with pytest.raises(TypeError, match=sentence):
            call()
    for wrong in (torch.rand(3), torch.rand(3, 3, 3)):
        with pytest.raises(ValueError, match="dense must have two dimensions"):
            ops.SparseMatrix.of(wrong)
