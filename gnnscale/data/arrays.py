"""Read arrays from files; a file that cannot be read gives one sentence that names it."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a damaged file raises into a ``ValueError`` with the file and the kind it should be."""
    try:
        yield
    except (FileNotFoundError, PermissionError, MemoryError, IsADirectoryError):
        raise
    # zipfile, zlib, json and NumPy each have exceptions of their own for a damaged file.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{path} is not {kind}, or is damaged ({reason}); write or download it again.") from error


def load_npz(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file by name; nothing is unpickled.

    Raises
    ------
    ValueError
        If the file is no ``.npz``, is damaged, holds Python objects, or lacks a required array.
    """
    with reading(path, "an .npz file of plain arrays"):
        # NumPy would take any other file for a pickle and explain how to load it unsafely.
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no whole zip archive")
        with np.load(path, allow_pickle=False) as file:
            present = set(file.files)
            arrays = {key: file[key] for key in (*required, *optional) if key in present}
    if missing := [key for key in required if key not in arrays]:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(present)) or 'nothing'}, and needs "
            f"{', '.join(required)}."
        )
    return arrays


def load_npy(path: Path) -> np.ndarray:
    """Read one array; nothing is unpickled."""
    with reading(path, "an .npy file of plain numbers"), open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def load_sparse(path: Path) -> sp.coo_matrix:
    """Read a matrix saved by ``scipy.sparse.save_npz``."""
    with reading(path, "a sparse matrix saved by scipy.sparse.save_npz"):
        return sp.load_npz(path).tocoo()


def load_json(path: Path, kind: type) -> Any:
    """Read a JSON file whose outermost value is a `kind`, ``dict`` or ``list``."""
    with reading(path, "a JSON file"):
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, kind):
            raise ValueError(f"it holds a {type(value).__name__}, not a {kind.__name__}")
        return value
