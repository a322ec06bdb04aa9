"""Where tables may live, what they take there, and whether that is free."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gnnscale.history.header import HEADER
from gnnscale.history.memory import DTYPES, LINE, PAGE, free_on, parts_of, size_of

PLACEMENTS = ("host", "shared", "file", "pinned", "device")

_MAPPED = ("shared", "file")
_PLACES = {
    "host": "memory",
    "shared": "shared memory",
    "file": "disk",
    "pinned": "pinned memory",
    "device": "GPU memory",
}


def check_placement(placement: str, path: str | Path | None = None, device: torch.device | None = None) -> None:
    """Refuse a placement that does not exist, that there is no hardware for, or whose ``path`` is missing or too much.

    Raises
    ------
    ValueError
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"placement={placement!r} is unknown; choose one of auto, {', '.join(PLACEMENTS)}")
    if placement == "file" and path is None:
        raise ValueError("placement='file' needs to know where; pass path=")
    if placement != "file" and path is not None:
        raise ValueError(f"path={str(path)!r} is for placement='file'; got placement={placement!r}")
    if placement in ("pinned", "device") and not torch.cuda.is_available():
        raise ValueError(f"placement={placement!r} needs a GPU, and torch finds none; choose host or file")
    if placement == "device" and (device is None or device.type != "cuda"):
        raise ValueError(f"placement='device' is memory of a GPU; pass device='cuda' with it (got device={device})")


def footprint(
    num_rows: int, widths: Sequence[int], dtype: torch.dtype, placement: str, *, kind: str = "history"
) -> int:
    """Bytes that tables of these widths take, with everything that is kept of their rows.

    Examples
    --------
    >>> import torch
    >>> footprint(1000, [8, 4], torch.float32, "host")
    56064
    """
    mapped = placement in _MAPPED
    tables = [parts_of(num_rows, width, dtype, kind=kind, shared=mapped) for width in widths]
    if mapped:
        return HEADER + sum(size_of(table, PAGE) for table in tables)
    return sum(size_of(table, LINE) for table in tables)


def available(placement: str, path: str | Path | None = None, device: torch.device | None = None) -> int | None:
    """Bytes that are free where tables of this placement live; None if there is no such place, or nobody tells.

    Host memory is what the system could give without swapping, or what this process's control groups allow if that
    is less. For a file without a ``path`` it is the disk of the current folder.
    """
    if placement == "device" or (placement == "pinned" and not torch.cuda.is_available()):
        if not torch.cuda.is_available():
            return None
        return free_on(device if device is not None and device.type == "cuda" else None)
    if placement == "file":
        folder = Path.cwd() if path is None else Path(path).absolute().parent
        return shutil.disk_usage(folder).free if folder.is_dir() else None
    known = [free for free in (_free_memory(), *_free_in_groups()) if free is not None]
    return min(known, default=None)


@dataclass(frozen=True)
class Estimate:
    """What tables would take, before anything is allocated.

    Attributes
    ----------
    bytes : int
        With the placement asked for.
    placement : str
        That placement.
    needed : dict of str to int
        The bytes with each placement.
    available : dict of str to (int or None)
        The bytes that are free for each placement; None where there is no such place.

    Examples
    --------
    >>> from gnnscale.history.placement import Estimate
    >>> needed = {"host": 48_000_000, "file": 50_000_000}
    >>> print(Estimate(48_000_000, "host", needed, {"host": 2_000_000, "file": 80_000_000_000}))
    48 MB with placement='host', of which 2 MB are free; fits: file (50 MB of 80 GB)
    """

    bytes: int
    placement: str
    needed: dict[str, int]
    available: dict[str, int | None]

    @property
    def fits(self) -> dict[str, bool]:
        """For each placement, whether there is room for it now."""
        return {name: (free := self.available[name]) is not None and self.needed[name] <= free for name in self.needed}

    def __str__(self) -> str:
        free = self.available[self.placement]
        known = "which there is none here" if free is None else f"which {readable(free)} are free"
        fitting = [
            f"{name} ({readable(self.needed[name])} of {readable(self.available[name] or 0)})"
            for name, fits in self.fits.items()
            if fits
        ]
        return (
            f"{readable(self.bytes)} with placement={self.placement!r}, of {known}; "
            f"fits: {', '.join(fitting) or 'nowhere'}"
        )


def estimate(
    num_rows: int,
    widths: Sequence[int],
    dtype: torch.dtype,
    placement: str = "host",
    *,
    path: str | Path | None = None,
    device: torch.device | None = None,
    kind: str = "history",
) -> Estimate:
    """What tables of these widths would take, and where they would fit.

    Raises
    ------
    ValueError
        If there is no such placement.
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"placement={placement!r} is unknown; choose one of auto, {', '.join(PLACEMENTS)}")
    needed = {name: footprint(num_rows, widths, dtype, name, kind=kind) for name in PLACEMENTS}
    free = {name: available(name, path, device) for name in PLACEMENTS}
    return Estimate(needed[placement], placement, needed, free)


def check_fits(
    num_rows: int,
    widths: Sequence[int],
    dtype: torch.dtype,
    placement: str,
    *,
    path: str | Path | None = None,
    device: torch.device | None = None,
    kind: str = "history",
) -> None:
    """Refuse tables for which there is no room.

    Raises
    ------
    MemoryError
        With the bytes, how many are free, and the placements and dtypes that would fit.
    """
    wanted = footprint(num_rows, widths, dtype, placement, kind=kind)
    free = available(placement, path, device)
    if free is None or wanted <= free:
        return
    asked = estimate(num_rows, widths, dtype, placement, path=path, device=device, kind=kind)
    placements = [repr(name) for name, fits in asked.fits.items() if fits]
    smaller = [
        repr(name)
        for name, other in DTYPES.items()
        if other.itemsize < dtype.itemsize and footprint(num_rows, widths, other, placement, kind=kind) <= free
    ]
    ways = [
        f"{name}={' or '.join(values)}" for name, values in (("placement", placements), ("dtype", smaller)) if values
    ]
    raise MemoryError(
        f"tables of {num_rows} rows with {' + '.join(map(str, widths))} columns need {readable(wanted)} of "
        f"{_PLACES[placement]} with placement={placement!r}, and {readable(free)} are free; "
        + (f"it would fit with {', or '.join(ways)}" if ways else "nothing else here has room for them, either")
    )


def readable(size: int) -> str:
    """Bytes for the eye, in powers of 1000.

    Examples
    --------
    >>> readable(999), readable(2_476_800_000)
    ('999 B', '2.48 GB')
    """
    number, units = float(size), ["B", "kB", "MB", "GB", "TB", "PB"]
    while number >= 999.5 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}" if number < 999.5 else f"{number:.0f} {units[0]}"


def _free_memory() -> int | None:
    """What the system could give without swapping."""
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _free_in_groups() -> Iterator[int]:
    """What each control group around this process still allows, of both versions of control groups."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield from _free_in(Path("/sys/fs/cgroup"), group, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _free_in(
                Path("/sys/fs/cgroup/memory"),
                group,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )


def _free_in(root: Path, group: str, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    # In a container, the group's name may be one that only the host can see: its files are then in the root.
    folder = root / group.lstrip("/")
    for place in (folder, *folder.parents):
        allowed, used = _number(place / limit), _number(place / usage)
        if allowed is not None and used is not None:
            # What is used counts pages of files, which are given up when memory is wanted.
            cached = [
                int(line.split()[1]) for line in _lines(place / "memory.stat") if line.startswith(f"{reclaimable} ")
            ]
            yield max(allowed - used + sum(cached), 0)
        if place == root:
            return


def _number(path: Path) -> int | None:
    """The number in a file; None if there is no file, or the word "max"."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
