import pytest
import torch

from gnnscale import ops
from gnnscale.ops import SparseMatrix, multiply_rows, reference
from gnnscale.ops.dropout import mask_of


def mostly_zero(num_rows: int, num_cols: int, share: float = 0.05, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(num_rows, num_cols, generator=generator) + 0.5
    return dense * (torch.rand(num_rows, num_cols, generator=generator) < share)


def test_the_matrix_holds_what_is_not_zero():
    dense = mostly_zero(50, 300)
    dense[7] = 0
    matrix = SparseMatrix.of(dense)
    back = torch.zeros_like(dense)
    rows = torch.repeat_interleave(torch.arange(50), matrix.indptr.diff())
    back[rows, matrix.indices.long()] = matrix.values
    assert torch.equal(back, dense)


@pytest.mark.parametrize("width", [1, 7, 16, 40])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("share", [0.02, 1.0])
def test_it_is_the_product_of_the_rows_after_dropout(width, p, share):
    dense = mostly_zero(60, 700, share)
    rows = torch.tensor([5, 59, 0, 5, 17])
    weight = torch.randn(700, width, requires_grad=True)
    keep, key = mask_of(p, 3) if p else (65536, 0)
    out = multiply_rows(SparseMatrix.of(dense), rows, weight, keep=keep, key=key)
    wanted = ops.dropout(dense[rows], p, key=3) @ weight
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)
    grad = torch.randn_like(out)
    (got,) = torch.autograd.grad(out, weight, grad)
    torch.testing.assert_close(got, *torch.autograd.grad(wanted, weight, grad), rtol=1e-4, atol=1e-4)
    # A mask of another key is another product.
    if p:
        assert not torch.allclose(multiply_rows(SparseMatrix.of(dense), rows, weight, keep=keep, key=4), wanted)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [None, torch.tensor([3, 1, 3])])
def test_native_and_reference_agree(transposed, rows, monkeypatch):
    matrix = SparseMatrix.of(mostly_zero(20, 300))
    num_rows = 20 if rows is None else 3
    dense = torch.randn(num_rows if transposed else 300, 5)
    arguments = matrix.indptr, matrix.indices, matrix.values, rows, 300, 20000, 2**63 + 5, transposed, dense
    wanted = torch.empty(300 if transposed else num_rows, 5)
    reference.multiply_rows(*arguments, wanted)
    got = ops.sparse_rows._multiply(matrix, rows, 20000, 2**63 + 5, dense, transposed=transposed)
    torch.testing.assert_close(got, wanted)


def test_the_result_does_not_depend_on_the_number_of_threads():
    matrix = SparseMatrix.of(mostly_zero(4000, 800))
    weight, grad = torch.randn(800, 64), torch.randn(4000, 64)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(
                [
                    ops.sparse_rows._multiply(matrix, None, 30000, 1, dense, transposed=transposed)
                    for dense, transposed in ((weight, False), (grad, True))
                ]
            )
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_wrong_arguments_are_one_sentence():
    matrix = SparseMatrix.of(mostly_zero(4, 30))
    with pytest.raises(ValueError, match=r"dense has the shape \(29, 2\)"):
        multiply_rows(matrix, None, torch.zeros(29, 2))
    with pytest.raises(TypeError, match="float64"):
        multiply_rows(matrix, None, torch.zeros(30, 2).double())
    with pytest.raises(IndexError, match=r"rows\[1\] is 4; the matrix has 4 rows"):
        multiply_rows(matrix, torch.tensor([0, 4]), torch.zeros(30, 2))
    with pytest.raises(ValueError, match="keep is 0"):
        multiply_rows(matrix, None, torch.zeros(30, 2), keep=0)
    with pytest.raises(IndexError, match="the matrix has 30 columns"):
        wrong = SparseMatrix(torch.tensor([0, 1]), torch.tensor([30], dtype=torch.int32), torch.ones(1), 30)
        multiply_rows(wrong, None, torch.zeros(30, 2))
    with pytest.raises(ValueError, match="indptr has to rise"):
        wrong = SparseMatrix(torch.tensor([0, 5]), torch.tensor([3], dtype=torch.int32), torch.ones(1), 30)
        multiply_rows(wrong, None, torch.zeros(30, 2))
    with pytest.raises(ValueError, match="no CSR matrix"):
        SparseMatrix(torch.tensor([0, 1]), torch.tensor([3], dtype=torch.int32), torch.ones(2), 30)
