"""What a batch sends to a device, in one piece: a single pinned buffer, a single copy, beside the computation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from gnnscale.history.streams import Lane, Mark
from gnnscale.ops import gather_rows

_LINE = 128  # bytes that each array begins with a multiple of, as memory of a GPU does


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows ``values[index]``, gathered into the parcel itself."""

    values: Tensor
    index: Tensor
    num_threads: int = 1


Part = TypeVar("Part", Tensor, Rows, Tensor | Rows)


class Parcel:
    """Tensors on the CPU that cross together.

    Parameters
    ----------
    lane : Lane
        The stream that copies.
    device : torch.device

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history.streams import lane_of
    >>> from gnnscale.parcel import Parcel
    >>> device = torch.device("cpu")
    >>> parcel, values = Parcel(lane_of(device), device), torch.tensor([1, 2])
    >>> _ = parcel.put(values)
    >>> parcel.pack()
    >>> parcel.send()
    >>> parcel.arrive()
    >>> parcel.get(values).tolist()
    [1, 2]
    """

    def __init__(self, lane: Lane, device: torch.device) -> None:
        self._lane, self._device = lane, device
        self._parts: dict[int, tuple[Tensor | Rows, int]] = {}  # and where in the buffer they begin
        self._there: list[Tensor] = []
        self._size = 0
        self._buffer: Tensor | None = None
        self._mark: Mark | None = None

    def put(self, part: Part) -> Part:
        """Note a part, and give it back; a tensor that the lane made on the device stays where it is."""
        if isinstance(part, Tensor) and part.device.type != "cpu":
            self._there.append(part)
        elif id(part) not in self._parts:
            self._parts[id(part)] = part, self._size
            self._size += -(-_size_of(part) // _LINE) * _LINE
        return part

    def pack(self) -> None:
        """Gather and copy all parts into the buffer."""
        self._buffer = self._lane.buffer(self._size, dtype=torch.uint8)
        for part, _ in self._parts.values():
            place = self._view(part)
            if isinstance(part, Rows):
                gather_rows(part.values, part.index, place, num_threads=part.num_threads)
            else:
                place.copy_(part)

    def send(self) -> None:
        """Begin the copy, which waits for nothing that the caller computes."""
        assert self._buffer is not None
        with self._lane.aside():
            self._buffer = self._lane.send(self._buffer, self._device)
            self._mark = self._lane.mark()

    def get(self, part: Tensor | Rows) -> Tensor:
        """What became of a part, on the device; its numbers are there once :meth:`arrive` was called."""
        if isinstance(part, Tensor) and part.device.type != "cpu":
            return part
        return self._view(part)

    def arrive(self) -> None:
        """Have the current stream wait for the copy."""
        assert self._buffer is not None
        assert self._mark is not None
        for values in (self._buffer, *self._there):
            self._lane.release(values, self._mark)

    def _view(self, part: Tensor | Rows) -> Tensor:
        assert self._buffer is not None
        start = self._parts[id(part)][1]
        like = part.values if isinstance(part, Rows) else part
        return self._buffer[start : start + _size_of(part)].view(like.dtype).view(_shape_of(part))


def _shape_of(part: Tensor | Rows) -> torch.Size:
    return torch.Size([len(part.index), *part.values.shape[1:]]) if isinstance(part, Rows) else part.shape


def _size_of(part: Tensor | Rows) -> int:
    like = part.values if isinstance(part, Rows) else part
    return _shape_of(part).numel() * like.element_size()
