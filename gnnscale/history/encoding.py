"""How rows are stored: float32 rows to the dtype of a table and back."""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST = 127  # of int8, on both sides of zero


def encode(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Rows as a table of ``dtype`` stores them, in memory of their own.

    Parameters
    ----------
    rows : Tensor
        Shape (n, width), floating point, of any device.
    dtype : {torch.float32, torch.float16, torch.bfloat16, torch.int8}
        What to store. float16 and bfloat16 round to nearest even; what float16 cannot hold becomes infinite. An int8
        row is ``round(row / scale)`` with ``scale = max|row| / 127``.

    Returns
    -------
    (Tensor, Tensor or None)
        The rows, shape (n, width), and for int8 the scales, shape (n,), float32. The scale of a row that is not
        finite is NaN: it has no int8 form, and must not read back as numbers.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history.encoding import decode, encode
    >>> stored, scales = encode(torch.tensor([[0.5, -1.0]]), torch.int8)
    >>> stored.tolist(), decode(stored, scales)[0, 1].item()
    ([[64, -127]], -1.0)
    """
    rows = rows.to(torch.float32)
    if dtype != torch.int8:
        return rows.to(dtype, copy=True, memory_format=torch.contiguous_format), None
    # Divided as the CPU does: on a GPU, torch multiplies by the reciprocal of a number that the host has.
    scales = rows.abs().amax(dim=1) / rows.new_full((), _LARGEST)
    scales = torch.where(scales.isfinite(), scales, torch.nan)
    quotients = torch.where(scales[:, None] > 0, rows / scales[:, None], 0.0)
    # A scale below the normal numbers is so coarse that a quotient may lie beyond 127.
    return quotients.round().clamp(-_LARGEST, _LARGEST).to(torch.int8), scales


def decode(stored: Tensor, scales: Tensor | None = None) -> Tensor:
    """Stored rows as float32; ``stored`` itself where it is that already.

    Parameters
    ----------
    stored : Tensor
        Shape (n, width), of a table's dtype.
    scales : Tensor, optional
        Shape (n,), float32, for int8.

    Returns
    -------
    Tensor
        Shape (n, width), float32, on the device of ``stored``.
    """
    rows = stored.to(torch.float32)
    return rows if scales is None else rows.mul_(scales[:, None])
