"""What went through a store: rows, bytes, how old the rows were, and how long somebody waited for them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """What went through a :class:`HistoryStore` since it was last asked.

    Attributes
    ----------
    rows_pulled : int
        Rows read.
    bytes_pulled, bytes_pushed : int
        Bytes of table rows read and written, as stored: a row of 64 columns has 256 in float32 and 68 in int8.
    wait_seconds : float
        Time that callers spent in ``Pull.wait``.
    staleness : float
        Steps since the rows that were read had been written: the mean over rows; NaN where none were read.
    staleness_max : float
        The largest; NaN where none were read.
    staleness_histogram : tuple of int
        Rows by staleness: 0, then 1, 2 to 3, 4 to 7, and so on, each range twice as long as the one before, up to
        the last that is not empty.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history import HistoryStore
    >>> store = HistoryStore(4, [2])
    >>> store.step = 3
    >>> store.push(0, torch.tensor([0]), torch.ones(1, 2))
    >>> rows = store.pull(0, torch.tensor([0, 1])).wait()
    >>> traffic = store.take_traffic()
    >>> traffic.rows_pulled, traffic.staleness, traffic.staleness_histogram
    (2, 1.5, (1, 0, 1))
    """

    rows_pulled: int = 0
    bytes_pulled: int = 0
    bytes_pushed: int = 0
    wait_seconds: float = 0.0
    staleness: float = math.nan
    staleness_max: float = math.nan
    staleness_histogram: tuple[int, ...] = ()
