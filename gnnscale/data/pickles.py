"""Read arrays out of old pickles without running anything that the file names.

A pickle is a small program that may call any function. The Planetoid files need a handful of names; each
is answered by a stand-in of ours that only collects values, so that neither NumPy's nor SciPy's own code
for unpickling sees the file, and any other name is refused. The stand-ins are independent of where
NumPy and SciPy kept these names when the file was written.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp


def load_pickle(path: Path) -> Any:
    """Read an array, a SciPy CSR matrix or a dictionary of lists.

    Parameters
    ----------
    path : Path
        A pickle written by Python 2 or 3.

    Returns
    -------
    ndarray, scipy.sparse.csr_matrix or dict

    Raises
    ------
    ValueError
        If the file names anything but NumPy arrays of numbers, SciPy CSR matrices, lists and
        ``collections.defaultdict``, or is no pickle, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            value = _Unpickler(file, encoding="latin1").load()
        if isinstance(value, (_Array, _Csr)):
            return value.build()
        if isinstance(value, dict):
            return value
        raise pickle.UnpicklingError(f"it holds {type(value).__name__}")
    # A damaged pickle can fail in any operation, with any of Python's exceptions.
    except Exception as error:
        if isinstance(error, OSError):
            raise
        raise ValueError(
            f"{path} cannot be read: {error or type(error).__name__}; it has to be a pickle of a NumPy "
            "array, a SciPy CSR matrix or a dictionary of lists; download it again."
        ) from error


class _Array:
    """Stands for ``numpy.ndarray``: its state is version, shape, dtype, column-major, bytes."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def build(self) -> np.ndarray:
        _, shape, dtype, column_major, data = self.state
        content = data.encode("latin1") if isinstance(data, str) else bytes(data)
        array = np.frombuffer(content, dtype.build())
        return array.reshape(shape, order="F" if column_major else "C")


class _Dtype:
    """Stands for ``numpy.dtype``: a name such as ``f4`` and, in its state, the byte order."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name
        self.byte_order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = state[1]

    def build(self) -> np.dtype:
        dtype = np.dtype(self.name)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"it holds an array of {dtype}, not of numbers")
        return dtype if self.byte_order == "|" else dtype.newbyteorder(self.byte_order)  # type: ignore[arg-type]


class _Csr:
    """Stands for ``scipy.sparse.csr_matrix``: its state is a dictionary of its arrays."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def build(self) -> sp.csr_matrix:
        parts = tuple(self.state[key].build() for key in ("data", "indices", "indptr"))
        matrix = sp.csr_matrix(parts, shape=self.state["_shape"])
        matrix.check_format(full_check=True)
        return matrix


def _reconstruct(kind: type, *_: Any) -> _Array | _Csr:
    """Answers ``numpy.core.multiarray._reconstruct`` and ``copy_reg._reconstructor``: an empty object."""
    if kind not in (_Array, _Csr):
        raise pickle.UnpicklingError("it makes an object of a kind that is not allowed")
    return kind()


def _encode(text: str, *_: Any) -> bytes:
    """Answers ``_codecs.encode``, by which Python 3 writes bytes in Python 2's protocol."""
    return text.encode("latin1")


_NUMPY_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")
_CSR = ("scipy.sparse.csr", "scipy.sparse._csr")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(module, "_reconstruct"): _reconstruct for module in _NUMPY_CORE},
    **{(module, "csr_matrix"): _Csr for module in _CSR},
    ("collections", "defaultdict"): defaultdict,
    **{(module, "list"): list for module in ("__builtin__", "builtins")},
    **{(module, "object"): object for module in ("__builtin__", "builtins")},
    **{(module, "_reconstructor"): _reconstruct for module in ("copy_reg", "copyreg")},
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to an object outside the file")
