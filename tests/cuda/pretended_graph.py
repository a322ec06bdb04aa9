"""CUDA graphs on the GPU that is not there: what is issued while one is captured is noted, and done when replayed.

As on a GPU, nothing of it is done at capture: memory that was there before is put back, and what was made meanwhile
holds no numbers until the first replay. What the host knew, it knows for ever: a replay has the same Python numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from tests.cuda import pretended


class Graph:
    def __init__(self, keep_graph: bool = False) -> None:
        self.jobs: list[Callable[[], None]] = []
        self.read: set[pretended.Memory] = set()
        self.written: set[pretended.Memory] = set()

    def replay(self) -> None:
        stream = pretended.current_stream()
        with pretended.lock, torch._C._DisableTorchDispatch(), torch.no_grad():
            time = stream.step()
            for memory in self.read | self.written:
                memory.touch(stream, time, memory in self.written, "a graph")
            for job in self.jobs:
                job()


class Capture:
    """``torch.cuda.graph``."""

    def __init__(self, graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> None:
        self.graph, self.stream = graph, stream or pretended.Stream()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # memory that is written, and what was there
        self._made: dict[int, Tensor] = {}

    def __enter__(self) -> None:
        pretended.synchronize()
        self.stream.__enter__()
        pretended.capturing = self

    def __exit__(self, *error: object) -> None:
        pretended.capturing = None
        self.stream.__exit__()
        for memory, numbers in self._before.values():
            memory.copy_(numbers)
        for memory in self._made.values():
            memory.fill_(255)

    def writes(self, x: Tensor) -> None:
        """Keep what is in memory that is about to be written."""
        place = x.untyped_storage().data_ptr()
        if place not in self._made and place not in self._before:
            memory = bytes_of(x)
            self._before[place] = memory, memory.clone()

    def made(self, x: Tensor) -> None:
        place = x.untyped_storage().data_ptr()
        if place and place not in self._before:
            self._made[place] = bytes_of(x)

    def operation(self, func: Any, args: Any, kwargs: Any, out: Any, random: bool) -> None:
        args, kwargs = tree_map(baked, (args, kwargs))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self.made(x)

        def again() -> None:
            if random:
                with pretended.random:
                    found = func(*args, **kwargs)
            else:
                found = func(*args, **kwargs)
            for x, new in zip(tree_leaves(out), tree_leaves(found), strict=True):
                if isinstance(x, Tensor) and x.data_ptr() != new.data_ptr():
                    x.copy_(new)

        self.graph.jobs.append(again)

    def launch(self, kernel: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The kernel's arguments, with what remembers the memory that it makes."""
        args = tuple(Remembered(x) if callable(x) and not isinstance(x, Tensor) else x for x in args)
        self.graph.jobs.append(lambda: kernel(*args))
        return args


class Remembered:
    """What makes memory: the same for each size, each time."""

    def __init__(self, make: Callable[[int], Tensor]) -> None:
        self._make, self._made = make, {}

    def __call__(self, size: int) -> Tensor:
        if size not in self._made:
            self._made[size] = self._make(size)
        return self._made[size]


def bytes_of(x: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage())


def baked(x: Any) -> Any:
    """A number of the host's is what it was."""
    return x.clone() if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in pretended.memories else x
