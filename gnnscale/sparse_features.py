"""Features that are mostly zero, such as words of documents: their product takes the time of what is not zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from gnnscale import ops
from gnnscale._dgl import dgl
from gnnscale.ops import SparseMatrix, gather_rows, multiply_rows
from gnnscale.ops.dropout import mask_of

# Above this share of numbers that are not zero, a dense product is as fast.
_LARGEST_DENSITY = 0.1
_SAMPLE_ROWS = 1024
_KEEP_ALL = 65536

# torch 2.4 took the device's name into the function's arguments.
_autocasts = (
    partial(torch.is_autocast_enabled, "cpu") if hasattr(torch, "get_autocast_dtype") else torch.is_autocast_cpu_enabled
)

_known: WeakKeyDictionary[dgl.DGLGraph, tuple[Any, SparseFeatures | None]] = WeakKeyDictionary()


class SparseFeatures:
    """A graph's features beside what is not zero in them.

    Attributes
    ----------
    dense : Tensor
        Shape (N, F), float32, contiguous.
    matrix : SparseMatrix
        The same.
    """

    def __init__(self, dense: Tensor) -> None:
        self.dense, self.matrix, self._version = dense, SparseMatrix.of(dense), dense._version

    @classmethod
    def of(cls, graph: dgl.DGLGraph) -> SparseFeatures | None:
        """Those of a graph on the CPU, made once a graph; None where they are not mostly zero, or there are none."""
        dense = graph.ndata.get("feat")
        if dense is None:
            return None
        state = dense.data_ptr(), dense._version, dense.shape, dense.dtype
        if graph not in _known or _known[graph][0] != state:
            _known[graph] = state, cls(dense.contiguous()) if _is_mostly_zero(dense) else None
        return _known[graph][1]

    def rows(self, nodes: Tensor | None = None) -> Tensor:
        """Rows ``nodes``, shape (n,), int64; all where None: a matrix (n, F) to everybody who looks at it."""
        if self._version != self.dense._version:  # changed in place
            self.matrix, self._version = SparseMatrix.of(self.dense), self.dense._version
        return SparseRows(self, nodes)


def _is_mostly_zero(dense: Tensor) -> bool:
    if dense.dim() != 2 or dense.dtype != torch.float32 or dense.device.type != "cpu" or dense.requires_grad:
        return False
    some = dense[:: max(1, len(dense) // _SAMPLE_ROWS)]
    return 0 < some.count_nonzero().item() <= _LARGEST_DENSITY * some.numel()


class SparseRows(Tensor):
    """Some rows of :class:`SparseFeatures`: a tensor that is not there in dense form until something wants it so.

    Matrix products, ``gnnscale.ops.dropout`` and the first n rows (``x[:n]``) do not. Whatever else is done with it,
    in torch or outside, is done with the dense form, a plain tensor, which it then is once and for all: so
    changes in place and gradients are what they are for any tensor. Only ``x[:n]`` is no view while neither has a dense
    form: a change of the one in place is none of the other.
    """

    _features: SparseFeatures
    _nodes: Tensor | None
    _keep: int
    _key: int
    _dense: Tensor | None

    @staticmethod
    def __new__(cls, features: SparseFeatures, nodes: Tensor | None, keep: int = _KEEP_ALL, key: int = 0) -> SparseRows:
        num_rows, num_cols = features.dense.shape
        shape = num_rows if nodes is None else len(nodes), num_cols
        made = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)
        made._features, made._nodes, made._keep, made._key, made._dense = features, nodes, keep, key, None
        return made

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else None
        if isinstance(x, SparseRows) and x._dense is None:
            if func in _ABOUT:
                with torch._C.DisableTorchFunctionSubclass():
                    return func(*args, **kwargs)
            if func in _OPERATIONS and (out := _OPERATIONS[func](*args, **kwargs)) is not NotImplemented:
                return out
        return func(*_dense_in(args), **_dense_in(kwargs))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # For what reaches torch past its Python functions.
        return func(*_dense_in(args), **_dense_in(kwargs or {}))

    def _made_dense(self) -> Tensor:
        if self._dense is None:
            rows = self._features.dense
            if self._nodes is not None:
                rows = gather_rows(rows, self._nodes, num_threads=torch.get_num_threads())
            self._dense = rows if self._keep == _KEEP_ALL else ops.dropout(rows, 1 - self._keep / 65536, key=self._key)
        return self._dense


def _dense_in(value: Any) -> Any:
    """An argument with the dense form in the place of each :class:`SparseRows`."""
    if isinstance(value, SparseRows):
        return value._made_dense()
    if type(value) in (tuple, list):
        return type(value)(_dense_in(each) for each in value)
    if type(value) is dict:
        return {name: _dense_in(each) for name, each in value.items()}
    return value


# Operations on SparseRows that have no dense form yet. NotImplemented: they have to have one.


def _matmul(input: SparseRows, other: Any = None, **more: Any) -> Any:
    if more or not isinstance(other, Tensor) or isinstance(other, SparseRows) or _autocasts():
        return NotImplemented
    if other.layout != torch.strided:
        return NotImplemented
    if (other.dim(), other.dtype, other.device.type) != (2, torch.float32, "cpu") or len(other) != input.shape[1]:
        return NotImplemented
    return multiply_rows(input._features.matrix, input._nodes, other, keep=input._keep, key=input._key)


def _linear(input: SparseRows, weight: Tensor, bias: Tensor | None = None) -> Any:
    if bias is not None and (bias.shape, bias.dtype) != (weight.shape[:1], weight.dtype):
        return NotImplemented
    out = _matmul(input, weight.t())
    return out if bias is None or out is NotImplemented else out + bias


def _dropout(x: SparseRows, p: float, *, key: int | None = None) -> Any:
    keep, key = mask_of(p, key)
    if keep == _KEEP_ALL:
        return x
    if x._keep < _KEEP_ALL:
        return NotImplemented
    return SparseRows(x._features, x._nodes, keep, key)


def _getitem(x: SparseRows, index: Any) -> Any:
    if not isinstance(index, slice) or index.start or index.step not in (None, 1):
        return NotImplemented
    # The first rows of a matrix have the numbers that they had in it, so that dropout's mask is the same.
    nodes = torch.arange(len(x)) if x._nodes is None else x._nodes
    return SparseRows(x._features, nodes[: index.stop], x._keep, x._key)


_OPERATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.matmul: _matmul,
    torch.mm: _matmul,
    Tensor.matmul: _matmul,
    Tensor.mm: _matmul,
    Tensor.__matmul__: _matmul,
    functional.linear: _linear,
    ops.dropout: _dropout,
    Tensor.__getitem__: _getitem,
}

# What a tensor says of itself without being looked into.
_ABOUT: set[Callable[..., Any]] = {
    *(
        getattr(Tensor, name).__get__
        for name in ("shape", "dtype", "device", "layout", "ndim", "requires_grad", "is_leaf", "_version", "is_sparse")
    ),
    Tensor.dim,
    Tensor.size,
    Tensor.numel,
    Tensor.__len__,
    Tensor.is_floating_point,
    Tensor.is_inference,
    torch.is_floating_point,
}
