"""Files that one job uses at a time, that appear whole, and whose room on the disk is certain."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gnnscale.history.locks import EXCLUSIVE, lock
from gnnscale.history.placement import readable

IN_USE = 0  # the byte that all processes lock which write to a file

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def in_place_of(path: str | Path, *, own: bool = False) -> Iterator[Path]:
    """A path beside this one, for a file that takes its place at the end; with an error, that one is deleted.

    Parameters
    ----------
    path : str or Path
    own : bool, default False
        Whether the caller has the file to itself already.

    Raises
    ------
    ValueError
        If a running process uses the file, or is writing one in its place: the one would go on with a file without a
        name, the other would lose its own.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gnnscale.history.files import in_place_of
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows")
    ...     with in_place_of(path) as partial:
    ...         size = partial.write_text("all of it")
    ...     path.read_text(), partial.exists()
    ('all of it', False)
    """
    path = Path(path).absolute()
    partial = path.with_name(f"{path.name}.partial")
    for other in (partial,) if own else (path, partial):
        if other.is_file():
            os.close(open_alone(other, os.O_RDWR))
    partial.unlink(missing_ok=True)  # of a killed process
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # of a file system that does not know that for folders
            os.fsync(folder)
    finally:
        os.close(folder)


def open_alone(path: Path, flags: int) -> int:
    """A descriptor of a file that nobody else opens for writing, as long as this one holds the lock.

    Raises
    ------
    ValueError
        If somebody has.
    """
    while True:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        try:
            if not lock(descriptor, IN_USE, EXCLUSIVE, wait=False):
                raise ValueError(f"path={str(path)!r} is in use by a running process; end it, or close its store")
            if is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # replaced or deleted meanwhile


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file has that name."""
    return path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path))


def by_descriptor(descriptor: int) -> str:
    """A name by which an open file can be opened again, also if it has no other."""
    return f"/proc/self/fd/{descriptor}"


def allocate(descriptor: int, begin: int, size: int, path: Path | None) -> None:
    """Let a file end with zeros from ``begin`` on. On a disk they are there: a map has no way to say that it is full.

    Raises
    ------
    OSError
        If the disk is full.
    """
    os.ftruncate(descriptor, begin)  # killed processes may have left something
    if path is None:
        os.ftruncate(descriptor, begin + size)
    elif size:
        try:
            os.posix_fallocate(descriptor, begin, size)
        except OSError as error:
            os.ftruncate(descriptor, begin)
            if error.errno not in _FULL:
                raise
            sentence = (
                f"no room for {readable(size)} more in path={str(path)!r}; choose another disk or a smaller dtype"
            )
            raise OSError(error.errno, sentence) from None
