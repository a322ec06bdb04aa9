"""Copies beside the computation: a CUDA stream with the pinned memory it needs, and what stands for it on the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor


class Mark(Protocol):
    """A point in a stream's work, as ``torch.cuda.Event`` has it."""

    def synchronize(self) -> None: ...
    def query(self) -> bool: ...


class Lane:
    """Work on the CPU: done when the call returns, so there is nothing to wait for."""

    def after_caller(self) -> AbstractContextManager[Any]:
        """What is issued inside comes after what the caller's stream has been given so far."""
        return nullcontext()

    def aside(self) -> AbstractContextManager[Any]:
        """What is issued inside does not wait for the caller's stream."""
        return nullcontext()

    def move(self, values: Tensor, device: torch.device) -> Tensor:
        """A tensor on ``device``, once the lane gets there; to be called inside of one of the two."""
        return values.to(device)

    def buffer(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Uninitialised host memory that :meth:`move` can copy from without the host's waiting."""
        return torch.empty(shape, dtype=dtype)

    def send(self, buffer: Tensor, device: torch.device) -> Tensor:
        """A copy on ``device`` of what :meth:`buffer` gave; the host does not wait for it."""
        return buffer.to(device, non_blocking=True)

    def mark(self) -> Mark:
        """The present end of the lane's work."""
        return _Done()

    def release(self, values: Tensor, mark: Mark) -> Tensor:
        """A tensor that the lane made up to ``mark``, for use by the caller's stream."""
        return values


class CudaLane(Lane):
    """A CUDA stream of its own. Neither the host nor the caller's stream ever waits where it need not."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def after_caller(self) -> AbstractContextManager[Any]:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        return torch.cuda.stream(self._stream)

    def aside(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream)

    def move(self, values: Tensor, device: torch.device) -> Tensor:
        if values.device.type == "cuda":
            # The caller may drop it before the stream has read it.
            values.record_stream(self._stream)
        if values.device == device:
            return values
        if values.device.type == "cpu":
            # Without pinning, the copy would keep the host until the stream has come to it.
            return values.pin_memory().to(device, non_blocking=True)
        return self.buffer(*values.shape, dtype=values.dtype).copy_(values, non_blocking=True)

    def buffer(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def mark(self) -> Mark:
        return self._stream.record_event()

    def release(self, values: Tensor, mark: Any) -> Tensor:
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(mark)
        values.record_stream(stream)
        return values


class _Done:
    def synchronize(self) -> None:
        return None

    def query(self) -> bool:
        return True


def lane_of(device: torch.device) -> Lane:
    """A lane for copies to and from a device."""
    return CudaLane(device) if device.type == "cuda" else Lane()
