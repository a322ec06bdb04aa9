"""Rows by index in torch."""

import torch
from torch import Tensor


def gather_rows(source: Tensor, index: Tensor, out: Tensor) -> None:
    """See ``native/include/gather.h``."""
    wrong = ((index < 0) | (index >= len(source))).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise IndexError(f"index[{at}] is {int(index[at])}; source has {len(source)} rows.")
    torch.index_select(source, 0, index, out=out)
