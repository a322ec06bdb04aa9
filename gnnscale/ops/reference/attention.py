"""Attention in torch."""

import torch
from torch import Tensor
from torch.nn import functional

from gnnscale.ops.reference.sparse import check_csr

# Rows of edges gathered at a time: enough to be fast, few enough to stay in the processor's cache.
_CHUNK = 1 << 14


def attend(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    scores: Tensor | None,
    log_multiplicity: Tensor | None,
    mask: Tensor | None,
    negative_slope: float,
    own_row: bool,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``native/include/attention.h``; gives out, log_sum, share and positive, the last two empty if not wanted."""
    check_csr(indptr, indices, len(x))
    rows, cols = _ends(indptr, indices, own_row)
    weight, above = _scores(rows, cols, source, target, scores, log_multiplicity, negative_slope)
    num_rows, heads = len(indptr) - 1, weight.shape[1]
    largest = weight.new_full((num_rows, heads), float("-inf"))
    largest.scatter_reduce_(0, rows[:, None].expand_as(weight), weight, "amax")
    largest.masked_fill_(largest == float("-inf"), 0)
    weight = (weight - largest[rows]).exp()
    total = torch.zeros_like(largest).index_add_(0, rows, weight)
    total[total == 0] = 1
    weight = weight / total[rows]
    share, positive = weight.new_empty(0, heads), x.new_empty(0, x.shape[1])
    dropped = weight if mask is None else weight * mask
    if training and scores is None:
        share = torch.zeros_like(largest).index_add_(0, rows, above * weight)
        positive = _weighted(rows, cols, above * dropped, x, num_rows)
    return _weighted(rows, cols, dropped, x, num_rows), largest + total.log(), share, positive


def attend_backward(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    scores: Tensor | None,
    log_multiplicity: Tensor | None,
    mask: Tensor | None,
    negative_slope: float,
    own_row: bool,
    out: Tensor,
    log_sum: Tensor,
    share: Tensor,
    positive: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``native/include/attention.h``; gives the gradients in x, source, target and scores, empty if not there."""
    rows, cols = _ends(indptr, indices, own_row)
    weight, above = _scores(rows, cols, source, target, scores, log_multiplicity, negative_slope)
    weight = (weight - log_sum[rows]).exp()
    heads = weight.shape[1]
    by_head = (len(grad), heads, grad.shape[1] // heads)
    along = (grad * out).view(by_head).sum(2)
    in_weight = torch.empty_like(weight)
    for chunk in _chunks(rows):
        products = grad.index_select(0, rows[chunk]) * x.index_select(0, cols[chunk])
        in_weight[chunk] = products.view(len(products), *by_head[1:]).sum(2)
    if mask is not None:
        in_weight *= mask
    in_score = weight * (in_weight - along[rows])
    of_x = _weighted(cols, rows, weight if mask is None else weight * mask, grad, len(x))
    none = x.new_empty(0, heads)
    if source is None:
        return of_x, none, none, in_score
    of_source = torch.zeros_like(source)
    of_source.index_add_(0, cols, torch.where(above > 0, in_score, negative_slope * in_score))
    of_target = (1 - negative_slope) * ((grad * positive).view(by_head).sum(2) - share * along)
    return of_x, of_source, of_target, none


def _ends(indptr: Tensor, indices: Tensor, own_row: bool) -> tuple[Tensor, Tensor]:
    """Give the row and the column of every edge, int64, own rows last."""
    num_rows = len(indptr) - 1
    own = torch.arange(num_rows, device=indptr.device)
    rows, cols = own.repeat_interleave(indptr.diff()), indices.long()
    return (torch.cat([rows, own]), torch.cat([cols, own])) if own_row else (rows, cols)


def _scores(
    rows: Tensor,
    cols: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    scores: Tensor | None,
    log_multiplicity: Tensor | None,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    """Give the scores of all edges, multiplicity included, and where they are above LeakyReLU's kink."""
    if source is not None and target is not None:
        raw = source[cols] + target[rows]
        result, above = functional.leaky_relu(raw, negative_slope), (raw > 0).to(raw.dtype)
    else:
        assert scores is not None
        result, above = scores.clone(), torch.empty_like(scores)
    if log_multiplicity is not None:
        result[: len(log_multiplicity)] += log_multiplicity[:, None]
    return result, above


def _weighted(rows: Tensor, cols: Tensor, weight: Tensor, x: Tensor, num_rows: int) -> Tensor:
    """Add up the rows of `x` at `cols` by `rows`, head by head weighted."""
    out = x.new_zeros(num_rows, x.shape[1])
    for chunk in _chunks(rows):
        messages = x.index_select(0, cols[chunk]).view(len(cols[chunk]), weight.shape[1], x.shape[1] // weight.shape[1])
        out.index_add_(0, rows[chunk], (messages * weight[chunk, :, None]).flatten(1))
    return out


def _chunks(values: Tensor) -> list[slice]:
    return [slice(begin, begin + _CHUNK) for begin in range(0, len(values), _CHUNK)]
