"""Sums, extremes and attention: against the CPU in double precision, with gradients, on skewed degrees."""

import pytest
import torch
from torch import Tensor

from gnnscale.ops import attend, attend_edges, attention, extremes, spmm, transpose_csr

WIDTHS = [1, 3, 4, 7, 16, 33, 64, 128, 200, 256]


def skewed(num_cols: int = 700, ids: torch.dtype = torch.int32) -> tuple[Tensor, Tensor]:
    """A matrix with rows around the length at which they are split, far longer ones, and empty ones."""
    lengths = torch.tensor([0, 3, 512, 513, 0, 1, 5000, 1, 0, 1023, 0, 40, 2, 1500, 0])
    indptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    # Columns are skewed too, so that rows of the transpose are split as well.
    indices = (num_cols * torch.rand(int(indptr[-1])) ** 4).long()
    return indptr.to(ids), indices.to(ids)


def leaf(values: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return values.to(device, dtype, copy=True).requires_grad_()


def close(found: Tensor, wanted: Tensor, tolerance: float = 2e-5) -> None:
    size = 1 + float(wanted.detach().abs().max())  # of what was added up
    torch.testing.assert_close(found.detach().cpu().double(), wanted.detach(), rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("weighted", [True, False])
def test_weighted_sums_and_their_gradients(device: torch.device, width: int, weighted: bool) -> None:
    indptr, indices = skewed()
    x, weight, diagonal = torch.randn(700, width), torch.randn(len(indices)), torch.randn(10)
    upstream = torch.randn(len(indptr) - 1, width)
    results = []
    for place, dtype in ((device, torch.float32), (torch.device("cpu"), torch.float64)):
        leaves = [leaf(values, place, dtype) for values in ((x, weight, diagonal) if weighted else (x, diagonal))]
        out = spmm(indptr.to(place), indices.to(place), leaves[1] if weighted else None, leaves[0], diagonal=leaves[-1])
        results.append((out, *torch.autograd.grad(out, leaves, upstream.to(place, dtype))))
    for found, wanted in zip(*results, strict=True):
        close(found, wanted)


@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
@pytest.mark.parametrize("out_dtype", [torch.bfloat16, torch.float32])
def test_bfloat16_is_added_up_in_float32(device: torch.device, ids: torch.dtype, out_dtype: torch.dtype) -> None:
    indptr, indices = skewed(ids=ids)
    x, weight = torch.randn(700, 40).bfloat16(), torch.rand(len(indices))
    upstream = torch.randn(len(indptr) - 1, 40).to(out_dtype)
    rows, factors = leaf(x, device, torch.bfloat16), leaf(weight, device, torch.float32)
    out = spmm(indptr.to(device), indices.to(device), factors, rows, dtype=out_dtype)
    of_rows, of_factors = torch.autograd.grad(out, [rows, factors], upstream.to(device))
    assert (out.dtype, of_rows.dtype, of_factors.dtype) == (out_dtype, torch.bfloat16, torch.float32)

    wide, wide_factors = leaf(x, torch.device("cpu"), torch.float64), leaf(weight, torch.device("cpu"), torch.float64)
    wanted = spmm(indptr, indices, wide_factors, wide)
    wanted_rows, wanted_factors = torch.autograd.grad(wanted, [wide, wide_factors], upstream.double())
    rounding = 2**-8 if out_dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(out.cpu().double(), wanted.detach(), rtol=rounding, atol=1e-4)
    torch.testing.assert_close(of_rows.cpu().double(), wanted_rows, rtol=2**-8, atol=1e-3)
    close(of_factors, wanted_factors)


def test_rows_that_are_not_aligned_are_read_one_number_at_a_time(device: torch.device) -> None:
    indptr, indices = skewed()
    x = torch.randn(700 * 8 + 1)
    found = spmm(indptr.to(device), indices.to(device), None, x.to(device)[1:].view(700, 8))
    close(found, spmm(indptr, indices, None, x[1:].view(700, 8).double()))


def test_matrices_without_edges_rows_or_columns(device: torch.device) -> None:
    none = torch.empty(0, dtype=torch.int64, device=device)
    zeros = torch.zeros(4, dtype=torch.int64, device=device)
    x = torch.ones(5, 3, device=device, requires_grad=True)
    out = spmm(zeros, none, None, x)
    assert out.tolist() == 3 * [3 * [0.0]]
    assert torch.autograd.grad(out.sum(), x)[0].tolist() == 5 * [3 * [0.0]]
    assert spmm(zeros[:1], none, None, x).shape == (0, 3)
    assert spmm(zeros, none, None, torch.ones(5, 0, device=device)).shape == (3, 0)
    assert extremes(zeros, none, x).tolist() == 3 * [3 * [0.0]]


def test_transposition_is_the_cpus(device: torch.device) -> None:
    indptr, indices = skewed()
    for found, wanted in zip(
        transpose_csr(indptr.to(device), indices.to(device), 701),
        transpose_csr(indptr.clone(), indices, 701),
        strict=True,
    ):
        assert torch.equal(found.cpu(), wanted)
        assert found.dtype == wanted.dtype


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("largest", [True, False])
def test_extremes_and_their_gradients(device: torch.device, width: int, largest: bool) -> None:
    indptr, indices = skewed()
    x = torch.randint(-3, 4, (700, width)).float()  # so that there are ties
    upstream = torch.randn(len(indptr) - 1, width)
    results = []
    for place, dtype in ((device, torch.float32), (torch.device("cpu"), torch.float64)):
        rows = leaf(x, place, dtype)
        out = extremes(indptr.to(place), indices.to(place), rows, largest=largest)
        results.append((out, *torch.autograd.grad(out, rows, upstream.to(place, dtype))))
    assert torch.equal(results[0][0].cpu().double(), results[1][0])
    close(results[0][1], results[1][1])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("largest", [True, False])
def test_extremes_of_bfloat16_rows(device: torch.device, width: int, largest: bool) -> None:
    indptr, indices = skewed()
    x = torch.randint(-3, 4, (700, width)) / 7.0  # so that there are ties, more than bfloat16 can count
    upstream = torch.randn(len(indptr) - 1, width).bfloat16()
    rows = leaf(x, device, torch.bfloat16)
    out = extremes(indptr.to(device), indices.to(device), rows, largest=largest)
    (found,) = torch.autograd.grad(out, rows, upstream.to(device))
    assert out.dtype == found.dtype == torch.bfloat16

    wide = leaf(x.bfloat16(), torch.device("cpu"), torch.float64)
    wanted = extremes(indptr, indices, wide, largest=largest)
    assert torch.equal(out.cpu().double(), wanted)
    (wanted,) = torch.autograd.grad(wanted, wide, upstream.double())
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_extreme_that_leads_to_nan_is_nan(device: torch.device, dtype: torch.dtype) -> None:
    indptr, indices = skewed()
    x = torch.randn(700, 4).to(dtype)
    x[int(indices[-1]), 1] = torch.nan  # of the last row with edges, a long one
    found = extremes(indptr.to(device), indices.to(device), x.to(device)).cpu()
    assert torch.equal(found.isnan(), extremes(indptr, indices, x.double()).isnan())
    assert found.isnan().any()


@pytest.mark.parametrize(("heads", "columns"), [(1, 7), (8, 8), (3, 5), (4, 32), (1, 300), (6, 40), (2, 129), (40, 4)])
@pytest.mark.parametrize("own_row", [True, False])
@pytest.mark.parametrize("dropped", [True, False])
def test_attention_and_its_gradients(
    device: torch.device, heads: int, columns: int, own_row: bool, dropped: bool
) -> None:
    indptr, indices = skewed(100)
    num_dst, num_edges = len(indptr) - 1, len(indices)
    x = torch.randn(100, heads * columns)
    source, target = 3 * torch.randn(100, heads), 3 * torch.randn(num_dst, heads)
    log_multiplicity, mask = None, None
    if dropped:
        log_multiplicity = torch.randint(0, 4, (num_edges,)).float().log()  # -inf among them
        log_multiplicity[indptr[-2] - 40 : indptr[-2]] = -torch.inf
        mask = torch.randint(0, 3, (num_edges + own_row * num_dst, heads)).float()
    upstream = torch.randn(num_dst, heads * columns)
    results = []
    for place, dtype in ((device, torch.float32), (torch.device("cpu"), torch.float64)):
        leaves = [leaf(values, place, dtype) for values in (x, source, target)]
        out = attend(
            indptr.to(place),
            indices.to(place),
            *leaves,
            own_row=own_row,
            log_multiplicity=None if log_multiplicity is None else log_multiplicity.to(place, dtype),
            mask=None if mask is None else mask.to(place, dtype),
        )
        results.append((out, *torch.autograd.grad(out, leaves, upstream.to(place, dtype))))
    for found, wanted in zip(*results, strict=True):
        close(found, wanted, 1e-4)


@pytest.mark.parametrize(("heads", "columns"), [(1, 7), (8, 8), (3, 20), (1, 300)])
def test_attention_to_given_scores_and_its_gradients(device: torch.device, heads: int, columns: int) -> None:
    indptr, indices = skewed(100, torch.int64)
    x, scores = torch.randn(100, heads * columns), 50 * torch.randn(len(indices), heads)
    scores[3:515] = -torch.inf  # all of a row's
    upstream = torch.randn(len(indptr) - 1, heads * columns)
    results = []
    for place, dtype in ((device, torch.float32), (torch.device("cpu"), torch.float64)):
        leaves = [leaf(values, place, dtype) for values in (x, scores)]
        out = attend_edges(indptr.to(place), indices.to(place), *leaves)
        results.append((out, *torch.autograd.grad(out, leaves, upstream.to(place, dtype))))
    for found, wanted in zip(*results, strict=True):
        close(found, wanted, 1e-4)


# Columns of which eight, four, or one are read at once; heads in one tile, in several, and of several tiles each.
SHAPES_OF_BFLOAT16 = [(1, 7), (8, 8), (3, 5), (4, 32), (1, 300), (6, 40), (2, 129), (40, 4), (1, 520), (2, 304)]


@pytest.mark.parametrize(("heads", "columns"), SHAPES_OF_BFLOAT16)
@pytest.mark.parametrize("by_edge", [True, False])
@pytest.mark.parametrize("dropped", [True, False])
def test_attention_to_bfloat16_rows(
    device: torch.device, heads: int, columns: int, by_edge: bool, dropped: bool
) -> None:
    """Each direction is that of the same numbers in double precision, rounded once."""
    indptr, indices = skewed(100)
    num_dst, num_edges = len(indptr) - 1, len(indices)
    x = torch.randn(100, heads * columns).bfloat16()
    source = target = scores = log_multiplicity = mask = None
    if by_edge:
        scores = 5 * torch.randn(num_edges, heads)
        scores[3:515] = -torch.inf  # all of a row's
    else:
        source, target = 3 * torch.randn(100, heads), 3 * torch.randn(num_dst, heads)
    if dropped:
        log_multiplicity = torch.randint(0, 4, (num_edges,)).float().log()
        log_multiplicity[indptr[-2] - 40 : indptr[-2]] = -torch.inf
        mask = torch.randint(0, 3, (num_edges + (not by_edge) * num_dst, heads)).float()
    rest = None, None, None, 0.2, not by_edge
    upstream = torch.randn(num_dst, heads * columns).bfloat16()
    given = [x, source, target, scores, log_multiplicity, mask]

    on_device = [value if value is None else value.to(device) for value in given]
    structure = indptr.to(device), indices.to(device)
    found = attention._attend(*structure, *on_device, *rest, True)
    of_found = attention._gradients(*structure, *on_device, *rest, *found, upstream.to(device))
    assert [part.dtype for part in found] == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    assert [part.dtype for part in of_found] == [torch.bfloat16, *3 * [torch.float32]]

    wide = [value if value is None else value.double() for value in given]
    wanted = attention._attend(indptr, indices, *wide, *rest, True)
    kept = [part.cpu().double() for part in found]  # the gradients know the rounded result
    of_wanted = attention._gradients(indptr, indices, *wide, *rest, *kept, upstream.double())
    for some, others in zip(found + of_found, wanted + of_wanted, strict=True):
        size = 1 + float(others.abs().max()) if others.numel() else 1.0
        rounding, rest_of_it = (2**-8, 1e-5) if some.dtype == torch.bfloat16 else (0, 1e-4)
        torch.testing.assert_close(some.cpu().double(), others, rtol=rounding, atol=rest_of_it * size)

    leaves = [leaf(value, device, value.dtype) for value in given[:4] if value is not None]
    if by_edge:
        out = attend_edges(*structure, *leaves, log_multiplicity=on_device[4], mask=on_device[5])
    else:
        out = attend(*structure, *leaves, own_row=True, log_multiplicity=on_device[4], mask=on_device[5])
    assert torch.equal(out, found[0])
    again = torch.autograd.grad(out, leaves, upstream.to(device))
    assert all(map(torch.equal, again, [part for part in of_found if part.numel()]))


def test_bfloat16_rows_that_are_not_aligned(device: torch.device) -> None:
    indptr, indices = skewed(100)
    structure = indptr.to(device), indices.to(device)
    x, scores = torch.randn(100 * 16 + 1).bfloat16(), torch.randn(len(indices), 2)
    rows, wide = x.to(device)[1:].view(100, 16), x[1:].view(100, 16).double()
    found, wanted = (
        attend_edges(*structure, rows, scores.to(device)),
        attend_edges(indptr, indices, wide, scores.double()),
    )
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=2**-8, atol=1e-5)
    assert torch.equal(extremes(*structure, rows).cpu().double(), extremes(indptr, indices, wide))


def test_the_same_again_to_the_last_bit(device: torch.device) -> None:
    indptr, indices = (part.to(device) for part in skewed())
    x, weight = torch.randn(700, 100, device=device), torch.randn(len(indices), device=device)
    assert torch.equal(spmm(indptr, indices, weight, x), spmm(indptr, indices, weight, x))
