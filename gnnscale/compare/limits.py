"""What a process may use, and what it and those that it started do use, read from Linux's ``/proc``.

A limit that the kernel enforces would be better, but there is none that fits: RLIMIT_AS and RLIMIT_DATA count memory
that is reserved and never touched, of which torch and OpenMP reserve much, and neither counts shared memory or other
processes; a memory cgroup needs rights that users seldom have. So the memory is looked at, twenty times a second.
"""

from __future__ import annotations

import math
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

from gnnscale.compare.endings import Ending

#: Seconds between two looks at a process's memory. One takes some 50 us.
LOOK_EVERY = 0.05


@dataclass(frozen=True)
class Limits:
    """What a process may use; None means as much as there is.

    Attributes
    ----------
    memory_gb : float or None
        Memory of the process and those that it starts, in 10^9 bytes: private memory, shared memory and what of them
        was swapped out. Pages of files (libraries, a history in a file) are not counted, because the kernel can drop
        them.
    cell_seconds : float or None
        Wall-clock time.
    """

    memory_gb: float | None = None
    cell_seconds: float | None = None


NO_LIMITS = Limits()


class Watch:
    """Looks at a process that has just started, and says when it has gone too far."""

    def __init__(self, pid: int, limits: Limits) -> None:
        self.pid, self.limits = pid, limits
        self.start = time.monotonic()
        self.peak_memory_mb = math.nan
        self._children: list[int] = []
        self._children_wanted_at = self._look_at = self.start

    def seconds_to_next_look(self) -> float | None:
        """How long whoever waits may sleep; None where nothing is to be watched."""
        now, until = time.monotonic(), []
        if self.limits.memory_gb is not None:
            until.append(self._look_at)
        if self.limits.cell_seconds is not None:
            until.append(self.start + self.limits.cell_seconds)
        return max(min(until) - now, 0.0) if until else None

    def verdict(self) -> Ending | None:
        """The ending that the process has deserved, or None while it keeps to its limits."""
        now = time.monotonic()
        seconds, gb = self.limits.cell_seconds, self.limits.memory_gb
        if seconds is not None and now - self.start > seconds:
            return Ending("timeout", f"timed out: more than the {seconds:g} s of cell_seconds")
        if gb is not None and now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            used = self._used_bytes() / 1e9
            if used > gb:
                return Ending("out_of_memory", f"out of memory: {used:.2f} GB, more than the {gb:g} GB of memory_gb")
        return None

    def note_peak(self) -> None:
        """Remember the largest resident memory that the process has had so far."""
        if peak := _fields(f"/proc/{self.pid}/status").get("VmHWM"):
            self.peak_memory_mb = peak / 1e6

    def _used_bytes(self) -> int:
        now = time.monotonic()
        if now >= self._children_wanted_at:
            self._children = descendants(self.pid)
            # A look at all processes of a large machine takes long; a hundredth of the time is enough for it.
            self._children_wanted_at = now + max(1.0, 100 * (time.monotonic() - now))
        pids = [self.pid, *self._children]
        # Memory that processes share is in each one's sum; only where that sum is too large is a closer look worth its
        # time.
        used = sum(_sum(f"/proc/{pid}/status", ("RssAnon", "RssShmem", "VmSwap")) for pid in pids)
        if len(pids) > 1 and used > 1e9 * (self.limits.memory_gb or math.inf):
            used = sum(_sum(f"/proc/{pid}/smaps_rollup", ("Pss_Anon", "Pss_Shmem", "SwapPss")) for pid in pids)
        return used


def can_watch() -> bool:
    """Whether this system tells how much memory a process uses."""
    return "RssAnon" in _fields("/proc/self/status")


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdecimal():
            with suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                # The command's name, in brackets, may hold anything.
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found, unseen = [], [pid]
    while unseen:
        below = children.get(unseen.pop(), [])
        found += below
        unseen += below
    return found


def kill_all(pid: int) -> None:
    """Kill a process and all that it started."""
    for each in [pid, *descendants(pid)]:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


def kernel_kills() -> int:
    """How many processes the kernel has killed for want of memory so far; 0 where it does not tell."""
    with suppress(OSError, ValueError), open("/proc/vmstat", "rb") as file:
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0


def be_the_first_to_go() -> None:
    """Let the kernel kill this process rather than any other when the machine has no more memory."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _fields(path: str) -> dict[str, int]:
    """The fields of a file of ``/proc`` that are in kB, in bytes; none where the process is gone."""
    found = {}
    with suppress(OSError), open(path, "rb") as file:
        for line in file.read().splitlines():
            if line.endswith(b" kB"):
                name, value, _ = line.split()
                found[name[:-1].decode()] = 1024 * int(value)
    return found


def _sum(path: str, names: tuple[str, ...]) -> int:
    fields = _fields(path)
    return sum(fields.get(name, 0) for name in names)
