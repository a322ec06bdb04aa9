"""The largest and smallest of neighbours' rows: against brute force and the reference, with ties and odd numbers."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.ops import extremes, reference, transpose_csr
from tests.ops.graphs import csc_of, edge_lists, random_csc


def brute_force(indptr, indices, x, largest):
    rows = []
    for first, stop in zip(indptr.tolist(), indptr.tolist()[1:], strict=False):
        found = x[indices[first:stop]]
        rows.append((found.amax(0) if largest else found.amin(0)) if len(found) else x.new_zeros(x.shape[1]))
    return torch.stack(rows) if rows else x[:0]


@settings(deadline=None)
@given(edges=edge_lists(), width=st.integers(0, 150), largest=st.booleans(), wide=st.booleans())
def test_equals_brute_force_with_gradients(edges, width, largest, wide):
    src, dst, num_nodes = edges
    indptr, indices = csc_of(src, dst, num_nodes)
    # Few values, so that there are ties.
    x = torch.randint(-3, 3, (num_nodes, width)).to(torch.float64 if wide else torch.float32).requires_grad_()
    expected, out = brute_force(indptr, indices, x, largest), extremes(indptr, indices, x, largest=largest)
    assert torch.equal(out, expected)
    plain, ties = reference.extremes(indptr, indices, x.detach(), largest)
    assert torch.equal(plain, out)
    if out.requires_grad and expected.requires_grad:
        upstream = torch.randn_like(out)
        (wanted,) = torch.autograd.grad(expected, x, upstream)
        for transposed in (None, transpose_csr(indptr, indices, num_nodes)):
            mine = extremes(indptr, indices, x, largest=largest, transposed=transposed)
            torch.testing.assert_close(torch.autograd.grad(mine, x, upstream)[0], wanted)
        indptr_t, indices_t, _ = transpose_csr(indptr, indices, num_nodes)
        plain = reference.extremes_backward(indptr_t, indices_t, x.detach(), plain, upstream / ties)
        torch.testing.assert_close(plain, wanted)


def test_infinities_and_nan():
    x = torch.tensor([[-torch.inf, 1.0], [-torch.inf, torch.nan], [2.0, 3.0]])
    indptr, indices = torch.tensor([0, 2, 3, 5, 5]), torch.tensor([0, 1, 2, 1, 2])
    out = extremes(indptr, indices, x)
    torch.testing.assert_close(
        out, torch.tensor([[-torch.inf, torch.nan], [2.0, 3.0], [2.0, torch.nan], [0.0, 0.0]]), equal_nan=True
    )
    assert torch.equal(out.isnan(), reference.extremes(indptr, indices, x, True)[0].isnan())


def test_numerical_gradients_and_threads():
    indptr, indices = random_csc(10, 30)
    x = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: extremes(indptr, indices, h, largest=False), (x,))
    indptr, indices = random_csc(3000, 150_000)
    x, before = torch.randn(3000, 100, requires_grad=True), torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        out = extremes(indptr, indices, x)
        results.append((out, torch.autograd.grad(out.square().sum(), x)[0]))
    torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize("module", ["native", "torch"])
def test_bfloat16_rows_have_their_gradient_shared_by_counts_that_it_cannot_hold(module, monkeypatch):
    if module == "torch":
        monkeypatch.setattr(sys.modules[extremes.__module__], "native", None)
    x = torch.ones(1000, 1, dtype=torch.bfloat16, requires_grad=True)
    out = extremes(torch.tensor([0, 301, 1000]), torch.arange(1000), x)
    assert out.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(out.sum(), x)
    wanted = torch.cat([torch.full((301, 1), 1 / 301), torch.full((699, 1), 1 / 699)])
    assert torch.equal(gradient, wanted.bfloat16())


def test_wrong_arguments_get_a_sentence():
    indptr, indices, x = torch.tensor([0, 2, 3]), torch.tensor([1, 0, 1]), torch.randn(2, 4)
    with pytest.raises(TypeError, match="x must be float32, float64 or bfloat16; got float16"):
        extremes(indptr, indices, x.half())
    with pytest.raises(ValueError, match="x must have two dimensions"):
        extremes(indptr, indices, x[0])
    with pytest.raises(ValueError, match="indices holds 2; the matrix has 2 columns"):
        extremes(indptr, indices + 1, x)
    with pytest.raises(ValueError, match="indptr is no CSR pointer array"):
        extremes(torch.tensor([0, 4, 3]), indices, x)


def test_a_gradient_of_other_shapes_is_refused():
    indptr, indices, x = torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]), torch.rand(3, 4, requires_grad=True)
    with pytest.raises(ValueError, match="another structure"):
        extremes(indptr, indices, x, transposed=transpose_csr(indptr, indices, 9))
    if hasattr(torch.ops.gnnscale, "extremes_backward"):
        wrong = torch.rand(1, 4)
        with pytest.raises(ValueError, match=r"extreme is .* is needed"):
            torch.ops.gnnscale.extremes_backward(indptr, indices, x.detach(), wrong, wrong, None, None, None)
