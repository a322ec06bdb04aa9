"""Attention over edges: softmax of scores and weighted sum in one operation, all heads at once."""

from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnnscale.ops import gpu, reference
from gnnscale.ops._backend import cuda_kernels, native
from gnnscale.ops._library import OPERATORS, define, differentiate
from gnnscale.ops.sparse import (
    Transposed,
    check_devices,
    check_structure,
    check_tensors,
    check_transposed,
    new_rows,
    plain,
    sum_dtype,
    three,
    transpose_csr,
)


def attend(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    source: Tensor,
    target: Tensor,
    *,
    negative_slope: float = 0.2,
    own_row: bool = False,
    log_multiplicity: Tensor | None = None,
    mask: Tensor | None = None,
    transposed: Transposed | None = None,
) -> Tensor:
    """Weigh the rows at a row's edges by the softmax of LeakyReLU(source[u] + target[v]), head by head.

    Graph attention (Veličković et al. 2018, eq. 3 and 4): ``out[v] = Σ_e mask[e] a_e x[u_e]`` over the edges e of row
    v, from columns u_e, where a_e is the softmax of LeakyReLU(source[u_e] + target[v]) + log_multiplicity[e]. The
    largest score of a row is taken off first, so no exponential overflows.

    Differentiable once in `x`, `source` and `target`. Neither direction makes anything of the size of the edges. On
    the CPU it uses up to ``torch.get_num_threads()`` threads; the result does not depend on their number.
    ``torch.ops.gnnscale.attend`` is the same as an operator, which `torch.compile` does not look into.

    Parameters
    ----------
    indptr : Tensor
        (num_dst + 1,) int32 or int64.
    indices : Tensor
        (num_edges,) int32 or int64, each in [0, num_src).
    x : Tensor
        (num_src, H·D) float32, float64 or bfloat16: D columns a head, head after head. All else is computed in float32
        where it is bfloat16, and its result rounded.
    source : Tensor
        (num_src, H), of the dtype of `x` (float32 for bfloat16 rows), as are all the others.
    target : Tensor
        (num_dst, H).
    negative_slope : float, default 0.2
        Of the LeakyReLU.
    own_row : bool, default False
        Whether each row has one more edge, from the column of its own number; num_dst is at most num_src then.
    log_multiplicity : Tensor, optional
        (num_edges,): the logarithm of the number of edges that each one stands for, -inf for
        none; 0 where absent. No gradient flows into it.
    mask : Tensor, optional
        (num_edges, H), or (num_edges + num_dst, H) with `own_row`, whose edges come last: what the weights are
        multiplied by after the softmax (dropout). No gradient flows into it.
    transposed : tuple of Tensor, optional
        What `transpose_csr` gives for this structure. Without it the gradient makes it anew, so pass it for a
        structure used more than once; see `spmm`.

    Returns
    -------
    Tensor
        (num_dst, H·D), of the dtype of `x`; zero where a row has no edge.

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape or a device does not fit, or the arrays are no CSR matrix with num_src columns.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import attend
    >>> x, score = torch.tensor([[1.0], [2.0], [4.0]]), torch.zeros(3, 1)
    >>> attend(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]), x, score, score[:2]).tolist()
    [[2.5], [2.0]]
    """
    return _attention(
        indptr, indices, x, source, target, None, log_multiplicity, mask, *three(transposed), negative_slope, own_row
    )


def attend_edges(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    scores: Tensor,
    *,
    log_multiplicity: Tensor | None = None,
    mask: Tensor | None = None,
    transposed: Transposed | None = None,
) -> Tensor:
    """Weigh the rows at a row's edges by the softmax of given scores, head by head.

    As `attend`, with scores of one's own (GATv2, dot products). Differentiable once in `x` and `scores`.

    Parameters
    ----------
    indptr, indices, x, log_multiplicity, mask, transposed
        As of `attend`.
    scores : Tensor
        (num_edges, H), of the dtype of `x` (float32 for bfloat16 rows).

    Returns
    -------
    Tensor
        (num_dst, H·D), of the dtype of `x`; zero where a row has no edge.

    Raises
    ------
    TypeError
        If a dtype does not fit.
    ValueError
        If a shape or a device does not fit, or the arrays are no CSR matrix with num_src columns.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import attend_edges
    >>> x, scores = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[0.0], [3.0], [5.0]]).log()
    >>> attend_edges(torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1]), x, scores).tolist()
    [[4.0], [2.0]]
    """
    return _attention(indptr, indices, x, None, None, scores, log_multiplicity, mask, *three(transposed), 0.0, False)


def _attention(*inputs: Any) -> Tensor:
    training = torch.is_grad_enabled() and any(isinstance(v, Tensor) and v.requires_grad for v in inputs[2:6])
    if OPERATORS and torch.compiler.is_compiling():
        return torch.ops.gnnscale.attend(*inputs, training)[0]
    _check(*inputs)
    constant = (None if value is None else value.detach() for value in inputs[6:8])
    return _Attention.apply(*inputs[:6], *constant, *inputs[8:], training)


def _check(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    scores: Tensor | None,
    log_multiplicity: Tensor | None,
    mask: Tensor | None,
    indptr_t: Tensor | None,
    indices_t: Tensor | None,
    permutation: Tensor | None,
    negative_slope: float,
    own_row: bool,
    training: bool = False,
) -> None:
    if not isinstance(negative_slope, Real):
        raise TypeError(f"negative_slope must be a number; got {type(negative_slope).__name__}.")
    if not isinstance(own_row, bool):
        raise TypeError(f"own_row must be True or False; got {type(own_row).__name__}.")
    check_structure(indptr, indices)
    check_tensors(x=x, source=source, target=target, scores=scores, log_multiplicity=log_multiplicity, mask=mask)
    if x.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise TypeError(f"x must be float32, float64 or bfloat16; got {str(x.dtype).removeprefix('torch.')}.")
    if x.dim() != 2:
        raise ValueError(f"x must have two dimensions, (num_src, H * D); its shape is {tuple(x.shape)}.")
    if own_row and scores is not None:
        raise ValueError("own_row needs source and target; with scores, every edge stands in the structure.")
    num_edges, num_dst, num_src = len(indices), len(indptr) - 1, len(x)
    if own_row and num_dst > num_src:
        raise ValueError(f"own_row needs a column for each row; there are {num_dst} rows and {num_src} columns.")
    first = scores if source is None else source
    if first is None or (source is None) != (target is None) or (source is None) == (scores is None):
        raise TypeError("scores are missing or given twice; give source and target, or scores of the edges.")
    heads = first.shape[-1] if first.dim() == 2 else 0
    wanted: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("source", source, (num_src, heads)),
        ("target", target, (num_dst, heads)),
        ("scores", scores, (num_edges, heads)),
        ("log_multiplicity", log_multiplicity, (num_edges,)),
        ("mask", mask, (num_edges + own_row * num_dst, heads)),
    ]
    for name, value, shape in wanted:
        if value is None:
            continue
        if value.dtype != sum_dtype(x):
            raise TypeError(f"{name} is {value.dtype} and x is {x.dtype}; {name} has to be {sum_dtype(x)}.")
        if value.shape != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; here it has to be {shape}.")
    if not heads or x.shape[1] % heads:
        raise ValueError(f"x has {x.shape[1]} columns, which {heads} heads cannot share equally.")
    check_devices(indptr, indices=indices, x=x, **{name: value for name, value, _ in wanted})
    check_transposed(indptr_t, indices_t, permutation, num_src, num_edges)


def _attend(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    scores: Tensor | None,
    log_multiplicity: Tensor | None,
    mask: Tensor | None,
    indptr_t: Tensor | None,
    indices_t: Tensor | None,
    permutation: Tensor | None,
    negative_slope: float,
    own_row: bool,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Forward: the result, and what the gradient needs of it; the transpose is for the gradient alone."""
    values: Any = [_plain(value) for value in (x, source, target, scores, log_multiplicity, mask)]
    if (cuda := _kernels(x)) is not None:
        inputs: Any = (indptr, indices, *values, _heads(source, scores), negative_slope, own_row, training)
        return gpu.attend(cuda, *inputs)
    if x.dtype == torch.bfloat16:  # which nothing below reads
        rest: Any = (*values[1:], indptr_t, indices_t, permutation, negative_slope, own_row, training)
        out, log_sum, share, positive = _attend(indptr, indices, x.float(), *rest)
        return out.to(x.dtype), log_sum, share, positive.to(x.dtype)
    if native is None or x.device.type != "cpu":
        arguments: Any = (indptr.long(), indices, *values, negative_slope, own_row, training)
        return reference.attend(*arguments)
    num_dst, heads = len(indptr) - 1, _heads(source, scores)
    keeps = training and source is not None
    out, log_sum = new_rows(num_dst, x.shape[1], x.dtype), x.new_empty(num_dst, heads)
    share = x.new_empty(num_dst if keeps else 0, heads)
    positive = new_rows(num_dst if keeps else 0, x.shape[1], x.dtype)
    kept = (share, positive) if keeps else (None, None)
    threads = torch.get_num_threads()
    native.attend(
        indptr.contiguous(), indices.contiguous(), *values, heads, negative_slope, own_row, out, log_sum, *kept, threads
    )
    return out, log_sum, share, positive


def _gradients(
    indptr: Tensor,
    indices: Tensor,
    x: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    scores: Tensor | None,
    log_multiplicity: Tensor | None,
    mask: Tensor | None,
    indptr_t: Tensor | None,
    indices_t: Tensor | None,
    permutation: Tensor | None,
    negative_slope: float,
    own_row: bool,
    out: Tensor,
    log_sum: Tensor,
    share: Tensor,
    positive: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give the gradients in x, source, target and scores; what is not there has one without elements."""
    values: Any = [_plain(value) for value in (x, source, target, scores, log_multiplicity, mask)]
    of_out, grad = (out, log_sum, share, positive), plain(grad)
    if (cuda := _kernels(x)) is not None:
        if indptr_t is None or indices_t is None or permutation is None:
            indptr_t, indices_t, permutation = transpose_csr(indptr, indices, len(x))
        transposed = indptr_t, indices_t, permutation
        inputs: Any = (*values, _heads(source, scores), negative_slope, own_row, *of_out, grad)
        return gpu.attend_backward(cuda, transposed, *inputs)
    if x.dtype == torch.bfloat16:  # which nothing below reads
        rest: Any = (*values[1:], indptr_t, indices_t, permutation, negative_slope, own_row)
        rest = (*rest, out.float(), log_sum, share, positive.float(), grad.float())
        of_x, of_source, of_target, of_scores = _gradients(indptr, indices, x.float(), *rest)
        return of_x.to(x.dtype), of_source, of_target, of_scores
    if native is None or x.device.type != "cpu":
        arguments: Any = (indptr.long(), indices, *values, negative_slope, own_row, *of_out, grad)
        return reference.attend_backward(*arguments)
    if indptr_t is None or indices_t is None or permutation is None:
        indptr_t, indices_t, permutation = transpose_csr(indptr, indices, len(x))
    heads, by_edge = _heads(source, scores), source is None
    gradients = [new_rows(len(x), x.shape[1], x.dtype)]
    for count, there in ((len(x), not by_edge), (len(indptr) - 1, not by_edge), (len(indices), by_edge)):
        gradients.append(x.new_empty(count if there else 0, heads))
    native.attend_backward(
        indptr.contiguous(),
        indices.contiguous(),
        *values,
        heads,
        negative_slope,
        own_row,
        indptr_t.contiguous(),
        indices_t.contiguous(),
        permutation.contiguous(),
        out,
        log_sum,
        None if by_edge else share,
        None if by_edge else positive,
        grad,
        gradients[0],
        *((None, None, gradients[3]) if by_edge else (gradients[1], gradients[2], None)),
        torch.get_num_threads(),
    )
    return gradients[0], gradients[1], gradients[2], gradients[3]


def _kernels(x: Tensor) -> Any:
    """Give the module that does it on a GPU; None where torch does, or the CPU."""
    return cuda_kernels(x.device) if x.dtype != torch.float64 and x.shape[1] else None


def _heads(source: Tensor | None, scores: Tensor | None) -> int:
    first = scores if source is None else source
    assert first is not None
    return first.shape[1]


def _plain(value: Tensor | None) -> Tensor | None:
    return None if value is None else plain(value)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.negative_slope, ctx.own_row, _ = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward_of(gradients: Any) -> Any:
    def backward(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, out, log_sum, share, positive = ctx.saved_tensors
        found = gradients(*tensors, ctx.negative_slope, ctx.own_row, out, log_sum, share, positive, grad)
        found = [each if wanted else None for each, wanted in zip(found, ctx.needs_input_grad[2:6], strict=True)]
        return None, None, *found, *(None,) * 8

    return backward


class _Attention(torch.autograd.Function):
    """One pass over the transpose gives the gradients in the rows and the scores."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        results = _attend(*inputs)
        if inputs[-1]:
            _remember(ctx, inputs, results)
        return results[0]

    backward = staticmethod(once_differentiable(_backward_of(_gradients)))  # type: ignore[assignment]


def _checked(*inputs: Any) -> tuple[Tensor, ...]:
    _check(*inputs)
    return _attend(*inputs)


def _checked_gradients(*inputs: Any) -> tuple[Tensor, ...]:
    """What the operator does, which is callable by hand."""
    _check(*inputs[:13])
    indptr, x, source, scores = inputs[0], inputs[2], inputs[3], inputs[5]
    out = (len(indptr) - 1, x.shape[1])
    log_sum, none = (out[0], _heads(source, scores)), source is None
    wanted = {
        "out": (out, x.dtype),
        "log_sum": (log_sum, sum_dtype(x)),
        "share": ((0, log_sum[1]) if none else log_sum, sum_dtype(x)),
        "positive": ((0, out[1]) if none else out, x.dtype),
        "grad": (out, x.dtype),
    }
    for (name, (shape, dtype)), value in zip(wanted.items(), inputs[13:], strict=True):
        if value.shape != shape or value.dtype != dtype or value.device != x.device:
            raise ValueError(
                f"{name} is {value.dtype} of the shape {tuple(value.shape)} on {value.device}; {dtype} of {shape} on "
                f"{x.device} is needed."
            )
    return _gradients(*inputs)


def _like(*inputs: Any) -> tuple[Tensor, ...]:
    indptr, x, source, scores, training = inputs[0], inputs[2], inputs[3], inputs[5], inputs[-1]
    num_dst, heads = len(indptr) - 1, (scores if source is None else source).shape[1]
    kept = num_dst if training and source is not None else 0
    rows, sums = x.dtype, sum_dtype(x)
    shapes = (num_dst, x.shape[1]), (num_dst, heads), (kept, heads), (kept, x.shape[1])
    return tuple(x.new_empty(*each, dtype=dtype) for each, dtype in zip(shapes, (rows, sums, sums, rows), strict=True))


def _gradients_like(*inputs: Any) -> tuple[Tensor, ...]:
    indptr, indices, x, source, _, scores = inputs[:6]
    heads, given = (scores if source is None else source).shape[1], source is not None
    counts = (len(x) * given, (len(indptr) - 1) * given, len(indices) * (not given))
    return x.new_empty(x.shape), *(x.new_empty(count, heads, dtype=sum_dtype(x)) for count in counts)


_INPUTS = (
    "Tensor indptr, Tensor indices, Tensor x, Tensor? source, Tensor? target, Tensor? scores, "
    "Tensor? log_multiplicity, Tensor? mask, Tensor? indptr_t, Tensor? indices_t, Tensor? permutation, "
    "float negative_slope, bool own_row"
)
_FOUR = "(Tensor, Tensor, Tensor, Tensor)"

define("attend", f"({_INPUTS}, bool training) -> {_FOUR}", _checked, _like)
define(
    "attend_backward",
    f"({_INPUTS}, Tensor out, Tensor log_sum, Tensor share, Tensor positive, Tensor grad) -> {_FOUR}",
    _checked_gradients,
    _gradients_like,
)
differentiate("attend", _remember, lambda: _backward_of(torch.ops.gnnscale.attend_backward))
