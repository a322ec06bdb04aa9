"""One memory for all processes of ``torch.distributed`` that run on one machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from gnnscale.history.mapped import MappedMemory

# What may go wrong, so that every process raises the same.
_ERRORS = (ValueError, FileNotFoundError, PermissionError, MemoryError, OSError, TypeError, RuntimeError)
_WORDS = 64  # of eight bytes, for a sentence


def share(create: Callable[[], MappedMemory], what: str = "") -> MappedMemory:
    """Make memory in one process of each machine, and attach the others to it.

    Without ``torch.distributed``, or with one process, it is ``create()``. Else all processes of the default group have
    to call it, and those on one machine get the same memory. What goes wrong in one is raised in all.

    Parameters
    ----------
    create : callable
        Makes or opens the memory; called in the lowest rank of each machine.
    what : str
        What is asked for; it has to be the same in all processes.

    Raises
    ------
    ValueError
        If the processes ask for different things.
    Exception
        What ``create`` raised, or the attaching, in any process.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history.mapped import MappedMemory
    >>> share(lambda: MappedMemory.create(3, torch.int8)).num_rows
    3
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return create()
    rank = dist.get_rank()
    askers = _gather([_number(_machine()), _number(what)])
    if len({asked for _, asked in askers}) > 1:
        raise ValueError(
            f"the processes ask for different stores: rank {rank} for {what}; pass the same arguments in all of them"
        )
    leader = next(other for other, (machine, _) in enumerate(askers) if machine == askers[rank][0])

    memory, error = _tried(create) if rank == leader else (None, None)
    try:
        places = _gather([os.getpid(), -1 if memory is None else memory.fileno(), *_words(error)])
        _raise_first(error, [place[2:] for place in places])
        if memory is None:
            process, descriptor = places[leader][:2]
            memory, error = _tried(lambda: MappedMemory.attach(f"/proc/{process}/fd/{descriptor}"))
        # Nobody goes on before all are attached: with the leader, its descriptor would be gone.
        _raise_first(error, _gather(_words(error)))
    except BaseException:
        if memory is not None:
            memory.close()
        raise
    assert memory is not None
    return memory


def _machine() -> str:
    """What is the same for processes that see each other's descriptors, and for no others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")


def _number(text: str) -> int:
    """A hash that every process computes alike."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def _gather(numbers: list[int]) -> list[list[int]]:
    """The numbers of each rank, in tensors: an object would be pickled."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    mine = torch.tensor(numbers, dtype=torch.int64, device=device)
    everybodys = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everybodys, mine)
    return [one.tolist() for one in everybodys]


def _tried(action: Callable[[], MappedMemory]) -> tuple[MappedMemory | None, Exception | None]:
    try:
        return action(), None
    except Exception as error:
        return None, error


def _words(error: Exception | None) -> list[int]:
    """Which error, and its sentence, in numbers; zeros for none."""
    if error is None:
        return [0] * (1 + _WORDS)
    kind = next((i for i, kind in enumerate(_ERRORS, start=1) if isinstance(error, kind)), len(_ERRORS))
    text = str(error).encode()[: 8 * _WORDS].ljust(8 * _WORDS, b"\0")
    return [kind, *(int.from_bytes(text[i : i + 8], "little", signed=True) for i in range(0, 8 * _WORDS, 8))]


def _raise_first(error: Exception | None, outcomes: list[list[int]]) -> None:
    """The error of this process, or else the first of another."""
    if error is not None:
        raise error
    for rank, (kind, *words) in enumerate(outcomes):
        if kind:
            text = b"".join(word.to_bytes(8, "little", signed=True) for word in words).rstrip(b"\0")
            raise _ERRORS[kind - 1](f"rank {rank}: {text.decode(errors='replace')}")
