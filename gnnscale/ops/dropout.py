"""Dropout without a stored mask: on wide features it runs at the speed of memory."""

import operator
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import handle_torch_function, has_torch_function_unary

from gnnscale.ops import reference
from gnnscale.ops._backend import native


def dropout(x: Tensor, p: float, *, key: int | None = None) -> Tensor:
    """Zero each element with probability `p` and divide the others by the probability of being kept.

    As in Srivastava et al. (JMLR 2014), scaled in training. The mask is a pure function of `key` and the
    element's number in row-major order, whatever the backend, the device or the number of threads, so the gradient
    makes it anew rather than keep it. Differentiable once. On the CPU float32 is native and uses up to
    ``torch.get_num_threads()`` threads; other dtypes and devices take the slower reference.

    Parameters
    ----------
    x : Tensor
        Of any shape, of a floating dtype.
    p : float
        In [0, 1). The probability of being kept, 1 - p, is rounded to a multiple of 1 / 65536, at least one; the
        scale is that of the rounded one, so the expectation of the result is `x`.
    key : int, optional
        In [0, 2**64); see `gnnscale.ops.random.key_of`. Without it, one is drawn from torch's default CPU
        generator, which `torch.manual_seed` seeds.

    Returns
    -------
    Tensor
        A new tensor of the shape and dtype of `x`; `x` itself where `p` is 0, for which no key is drawn.

    Raises
    ------
    TypeError
        If `x` is no tensor of a floating dtype, `p` is no number, or `key` is no integer.
    ValueError
        If `p` or `key` is out of range.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import dropout
    >>> dropout(torch.ones(8), 0.75, key=1).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 4.0, 4.0, 0.0]
    """
    if has_torch_function_unary(x):  # as torch's own functions: who watches dropout sees this one too
        return handle_torch_function(dropout, (x,), x, p, key=key)
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch tensor; got {type(x).__name__}.")
    if not x.is_floating_point():
        raise TypeError(f"x must be of a floating dtype; got {str(x.dtype).removeprefix('torch.')}.")
    if _probability(p) == 0:
        return x
    return _Dropout.apply(x, *mask_of(p, key))


def mask_of(p: float, key: int | None = None) -> tuple[int, int]:
    """What a mask is made from: of 65536 elements, how many stay; and the key, drawn where it is None.

    Raises
    ------
    TypeError, ValueError
        As `dropout`.
    """
    keep = max(1, round((1 - _probability(p)) * 65536))
    if key is None:
        return keep, int(torch.randint(2**62, (), device="cpu"))
    key = operator.index(key)
    if not 0 <= key < 2**64:
        raise ValueError(f"key is {key}; it must lie in [0, 2**64), as key_of gives it.")
    return keep, key


def _probability(p: float) -> float:
    if not isinstance(p, Real):
        raise TypeError(f"p must be a number; got {type(p).__name__}.")
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}; it must be at least 0 and less than 1.")
    return p


class _Dropout(torch.autograd.Function):
    """The gradient goes through the same mask with the same scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: int, key: int) -> Tensor:
        ctx.keep, ctx.key = keep, key
        return _masked(x, keep, key)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _masked(grad, ctx.keep, ctx.key), None, None


def _masked(x: Tensor, keep: int, key: int) -> Tensor:
    x = x.detach().contiguous().resolve_neg()
    out = torch.empty_like(x)
    if native is None or x.device.type != "cpu" or x.dtype != torch.float32:
        reference.dropout(x.view(-1), keep, key, out.view(-1))
    else:
        native.dropout(x.view(-1), keep, key, out.view(-1), torch.get_num_threads())
    return out
