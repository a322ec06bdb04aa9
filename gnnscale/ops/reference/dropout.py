"""Dropout without a stored mask, in torch."""

import torch
from torch import Tensor

from gnnscale.ops.random import as_signed, fold

# Elements at a time: few enough to stay in the processor's cache.
_CHUNK = 1 << 16


def dropout(x: Tensor, keep: int, key: int, out: Tensor) -> None:
    """See ``native/include/dropout.h``; any floating dtype and device."""
    state = torch.full((), as_signed(key), dtype=torch.int64, device=x.device)  # a copy would wait for a GPU
    shifts = 16 * torch.arange(4, device=x.device)[:, None]
    for begin in range(0, len(x), _CHUNK):
        part = slice(begin, min(begin + _CHUNK, len(x)))
        tiles = -(-(part.stop - begin) // 256)
        words = fold(state, torch.arange(begin // 4, begin // 4 + 64 * tiles, device=x.device))
        bits = (words.view(tiles, 1, 64) >> shifts) & 0xFFFF
        dropped = (bits >= keep).view(-1)[: part.stop - begin]
        torch.mul(x[part], 65536 / keep, out=out[part]).masked_fill_(dropped, 0)
