"""How old the rows were that were read: a sum, the largest, and a histogram, kept where the tables are."""

from __future__ import annotations

import torch
from torch import Tensor

BUCKETS = 32  # age 0, then 1, 2 to 3, 4 to 7, and so on: all that an int32 can be


class Ages:
    """Ages added up on one device, which is not waited for until they are taken.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history.ages import Ages
    >>> ages = Ages(torch.device("cpu"))
    >>> ages.add(torch.tensor([7, 4], dtype=torch.int32), step=7)
    >>> total, oldest, histogram = ages.take()
    >>> total, oldest, histogram[:4]
    (3, 3, [1, 0, 1, 0])
    """

    def __init__(self, device: torch.device) -> None:
        self._total = torch.zeros((), dtype=torch.int64, device=device)
        self._oldest = torch.zeros((), dtype=torch.int64, device=device)
        self._histogram = torch.zeros(BUCKETS, dtype=torch.int64, device=device)

    def add(self, written: Tensor, step: int) -> None:
        """Count rows written at the steps ``written``, shape (n,), and used at ``step``."""
        if not written.numel():
            return
        ages = (step - written.to(torch.int64)).clamp_(min=0)
        self._total += ages.sum()
        torch.maximum(self._oldest, ages.max(), out=self._oldest)
        # The exponent counts an age's binary digits. bincount would do it as well, but waits for a GPU.
        buckets = torch.frexp(ages.double()).exponent.long().clamp_(max=BUCKETS - 1)
        self._histogram.scatter_add_(0, buckets, torch.ones_like(ages))

    def take(self) -> tuple[int, int, list[int]]:
        """The sum of the ages, the largest, and rows by age; all begin again at zero."""
        taken = int(self._total), int(self._oldest), self._histogram.tolist()
        for count in (self._total, self._oldest, self._histogram):
            count.zero_()
        return taken
