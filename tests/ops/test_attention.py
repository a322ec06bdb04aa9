"""Attention as an operation: native against the reference, numerical gradients, torch's checks of operators."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnscale.ops import attend, attend_edges, reference, transpose_csr
from gnnscale.ops._library import OPERATORS
from tests.ops.graphs import csc_of, edge_lists, random_csc


@pytest.fixture(params=["native", "torch"])
def either_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr("gnnscale.ops.attention.native", None)


def softmax_by_hand(scores: Tensor, log_multiplicity: Tensor | None, mask: Tensor | None, indptr: Tensor) -> Tensor:
    """Give the weights of the edges, row by row."""
    total = scores if log_multiplicity is None else scores + log_multiplicity[:, None]
    parts = [
        total[first:stop].softmax(0) for first, stop in zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)
    ]
    weight = torch.cat(parts) if parts else total
    return weight if mask is None else weight * mask


def weighted_by_hand(indptr: Tensor, indices: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    rows = torch.arange(len(indptr) - 1).repeat_interleave(indptr.diff())
    messages = x[indices.long()].view(len(indices), weight.shape[1], x.shape[1] // weight.shape[1]) * weight[:, :, None]
    return x.new_zeros(len(indptr) - 1, x.shape[1]).index_add(0, rows, messages.flatten(1))


@settings(deadline=None, max_examples=50)
@given(
    graph=edge_lists(),
    heads=st.sampled_from([1, 2, 3, 4, 8]),
    columns=st.sampled_from([1, 3, 8, 16, 20, 32, 64]),
    wide=st.booleans(),
    given_scores=st.booleans(),
    own_row=st.booleans(),
    several=st.booleans(),
    dropped=st.booleans(),
    narrow=st.booleans(),
)
def test_native_is_the_reference_with_gradients(
    graph: tuple,
    heads: int,
    columns: int,
    wide: bool,
    given_scores: bool,
    own_row: bool,
    several: bool,
    dropped: bool,
    narrow: bool,
) -> None:
    src, dst, num_nodes = graph
    indptr, indices = csc_of(src, dst, num_nodes)
    if narrow:
        indptr, indices = indptr.int(), indices.int()
    dtype, num_edges = torch.float64 if wide else torch.float32, len(indices)
    own_row = own_row and not given_scores
    x = torch.randn(num_nodes, heads * columns, dtype=dtype, requires_grad=True)
    log_multiplicity = torch.randint(4, (num_edges,)).to(dtype).log() if several else None  # 0 as well
    mask = 2 * torch.randint(2, (num_edges + own_row * num_nodes, heads)).to(dtype) if dropped else None
    settings_ = {"log_multiplicity": log_multiplicity, "mask": mask}
    if given_scores:
        leaves = [x, torch.randn(num_edges, heads, dtype=dtype, requires_grad=True)]
        results = [lambda t: attend_edges(indptr, indices, *leaves, **settings_, transposed=t)]
    else:
        leaves = [x, *torch.randn(2, num_nodes, heads, dtype=dtype).unbind()]
        for leaf in leaves:
            leaf.requires_grad_()
        results = [lambda t: attend(indptr, indices, *leaves, own_row=own_row, **settings_, transposed=t)]
    upstream = torch.randn(num_nodes, heads * columns, dtype=dtype)
    transposed = transpose_csr(indptr, indices, num_nodes)
    out = results[0](transposed)
    grads = torch.autograd.grad(out, leaves, upstream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gnnscale.ops.attention.native", None)
        wanted = results[0](None)
        wanted_grads = torch.autograd.grad(wanted, leaves, upstream)
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grads, wanted_grads, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(results[0](None), out, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("either_backend")
@pytest.mark.parametrize("dropped", [False, True])
def test_it_is_the_softmax_with_its_gradients(dropped: bool) -> None:
    indptr, indices = random_csc(40, 500)
    x = torch.randn(40, 6, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(500, 2, dtype=torch.float64, requires_grad=True)
    source, target = (torch.randn(40, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    several = torch.rand(500, dtype=torch.float64).log()
    mask = torch.rand(500, 2, dtype=torch.float64) if dropped else None
    rows = torch.arange(40).repeat_interleave(indptr.diff())
    by_ends = torch.nn.functional.leaky_relu(source[indices] + target[rows], 0.1)
    upstream = torch.randn(40, 6, dtype=torch.float64)
    for got, scored, leaves in (
        (attend_edges(indptr, indices, x, scores, log_multiplicity=several, mask=mask), scores, (x, scores)),
        (
            attend(indptr, indices, x, source, target, negative_slope=0.1, log_multiplicity=several, mask=mask),
            by_ends,
            (x, source, target),
        ),
    ):
        weight = softmax_by_hand(scored, several, mask, indptr)
        wanted = weighted_by_hand(indptr, indices, weight, x)
        torch.testing.assert_close(got, wanted)
        torch.testing.assert_close(
            torch.autograd.grad(got, leaves, upstream), torch.autograd.grad(wanted, leaves, upstream)
        )


@pytest.mark.usefixtures("either_backend")
def test_gradcheck() -> None:
    indptr, indices = random_csc(8, 30)
    mask = torch.rand(38, 2, dtype=torch.float64)
    x = torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    source, target = (torch.randn(8, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scores = torch.randn(30, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *values: attend(indptr, indices, *values, own_row=True, mask=mask), (x, source, target)
    )
    assert torch.autograd.gradcheck(lambda *values: attend_edges(indptr, indices, *values), (x, scores))


@pytest.mark.skipif(not OPERATORS, reason="needs torch 2.4")
@pytest.mark.parametrize("given_scores", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operator_passes_torchs_checks(given_scores: bool, dtype: torch.dtype) -> None:
    indptr, indices = random_csc(8, 30)
    x = torch.randn(8, 6).to(dtype).requires_grad_()
    source, target = (torch.randn(8, 2, requires_grad=True) for _ in range(2))
    scores = torch.randn(30, 2, requires_grad=True)
    values = (x, None, None, scores) if given_scores else (x, source, target, None)
    rest = (None, None, *transpose_csr(indptr, indices, 8), 0.2, not given_scores, True)
    torch.library.opcheck(
        torch.ops.gnnscale.attend.default,
        (indptr, indices, *values, *rest),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    by_operator = torch.ops.gnnscale.attend(indptr, indices, *values, *rest)[0]
    plain = attend_edges(indptr, indices, x, scores) if given_scores else None
    plain = attend(indptr, indices, x, source, target, own_row=True) if plain is None else plain
    leaves = [value for value in values if value is not None]
    assert torch.equal(by_operator, plain)
    upstream = torch.randn(8, 6).to(dtype)
    for one, other in zip(
        torch.autograd.grad(by_operator, leaves, upstream), torch.autograd.grad(plain, leaves, upstream), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("either_backend")
def test_bfloat16_rows_are_computed_in_float32_and_rounded() -> None:
    indptr, indices = random_csc(20, 200)
    x = torch.randn(20, 6).bfloat16().requires_grad_()
    source, target = (torch.randn(20, 2, requires_grad=True) for _ in range(2))
    upstream = torch.randn(20, 6).bfloat16()
    wide = x.detach().float().requires_grad_()
    out = attend(indptr, indices, x, source, target, own_row=True)
    wanted = attend(indptr, indices, wide, source, target, own_row=True)
    assert torch.equal(out, wanted.bfloat16())
    of_x, *others = torch.autograd.grad(out, (x, source, target), upstream)
    of_wide, *wanted = torch.autograd.grad(wanted, (wide, source, target), upstream.float())
    assert torch.equal(of_x, of_wide.bfloat16())
    for some, other in zip(others, wanted, strict=True):  # which know the rounded result
        torch.testing.assert_close(some, other, rtol=0, atol=0.02 * float(other.abs().max()))


def test_the_result_does_not_depend_on_threads() -> None:
    indptr, indices = random_csc(3000, 150_000)
    leaves = [torch.randn(3000, 64), *torch.randn(2, 3000, 8).unbind()]
    for leaf in leaves:
        leaf.requires_grad_()
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        out = attend(indptr, indices, *leaves)
        results.append([out, *torch.autograd.grad(out, leaves, torch.ones_like(out) + out.detach())])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, another) for one, another in zip(results[0], other, strict=True))


def test_its_exponential_is_right_to_the_last_places() -> None:
    """Two edges a row, of scores 0 and -t: the second one's weight is 1 / (1 + exp(t))."""
    apart = torch.linspace(0, 86, 20_001)
    scores = torch.stack([torch.zeros_like(apart), -apart], 1).view(-1, 1)
    indptr = torch.arange(0, 2 * len(apart) + 1, 2)
    indices = torch.tensor([0, 1]).repeat(len(apart))
    x = torch.tensor([[0.0], [1.0]])
    weight = attend_edges(indptr, indices, x, scores).double().squeeze()
    assert float((weight * (1 + apart.double().exp()) - 1).abs().max()) < 6e-7
    beyond = attend_edges(torch.tensor([0, 2]), indices[:2], x, torch.tensor([[0.0], [-math.inf]]))
    assert float(beyond) == 0
    broken = attend_edges(torch.tensor([0, 2]), indices[:2], x, torch.tensor([[0.0], [math.nan]]))
    assert broken.isnan().all()


@pytest.mark.usefixtures("either_backend")
def test_wrong_arguments_get_a_sentence() -> None:
    indptr, indices = torch.tensor([0, 2, 3]), torch.tensor([1, 0, 1])
    x, scores, ends = torch.randn(2, 4), torch.randn(3, 2), torch.randn(2, 2)
    with pytest.raises(TypeError, match="x must be float32, float64 or bfloat16; got float16"):
        attend_edges(indptr, indices, x.half(), scores)
    with pytest.raises(ValueError, match="x must have two dimensions"):
        attend_edges(indptr, indices, x[0], scores)
    with pytest.raises(TypeError, match=r"scores is torch\.float64 and x is torch\.float32"):
        attend_edges(indptr, indices, x, scores.double())
    with pytest.raises(ValueError, match=r"scores has shape \(2, 2\); here it has to be \(3, 2\)"):
        attend_edges(indptr, indices, x, scores[:2])
    with pytest.raises(ValueError, match=r"target has shape \(1, 2\); here it has to be \(2, 2\)"):
        attend(indptr, indices, x, ends, ends[:1])
    with pytest.raises(ValueError, match=r"mask has shape \(3, 2\); here it has to be \(5, 2\)"):
        attend(indptr, indices, x, ends, ends, own_row=True, mask=scores)
    with pytest.raises(ValueError, match="x has 3 columns, which 2 heads cannot share"):
        attend(indptr, indices, x[:, 1:], ends, ends)
    with pytest.raises(ValueError, match="own_row needs a column for each row; there are 2 rows and 1 columns"):
        attend(indptr, indices * 0, x[:1], ends[:1], ends, own_row=True)
    for shift, sentence in ((1, "indices holds 2; the matrix has 2 columns"), (-1, "indices holds -1")):
        with pytest.raises(ValueError, match=sentence):
            attend(indptr, indices + shift, x, ends, ends)
    with pytest.raises(ValueError, match="indptr is no CSR pointer array"):
        attend(torch.tensor([0, 4, 3]), indices, x, ends, ends)
    with pytest.raises(ValueError, match="transposed belongs to another structure"):
        attend(indptr, indices, x, ends, ends, transposed=transpose_csr(indptr, indices, 5))


def test_a_wrong_order_of_the_transpose_does_not_crash() -> None:
    indptr, indices = random_csc(20, 60)
    x, scores = torch.randn(20, 4, requires_grad=True), torch.randn(60, 1)
    indptr_t, indices_t, order = transpose_csr(indptr, indices, 20)
    out = attend_edges(indptr, indices, x, scores, transposed=(indptr_t, indices_t, order + 1))
    with pytest.raises(ValueError, match="permutation holds 60; there are 60 edges"):
        out.sum().backward()


def test_the_reference_says_what_the_gradient_needs() -> None:
    indptr, indices = random_csc(10, 40)
    x, ends = torch.randn(10, 4), torch.randn(10, 2)
    arguments = (indptr, indices, x, ends, ends, None, None, None, 0.2, False)
    assert [len(part) for part in reference.attend(*arguments, False)] == [10, 10, 0, 0]
    assert [len(part) for part in reference.attend(*arguments, True)] == [10, 10, 10, 10]
