"""Locks on bytes of a file that end with the process that holds them, however it ends.

They belong to an open file, not to a process (Linux's "open file description locks"), so that two parts of one process
exclude each other as well, and closing another descriptor of the file does not release them.
"""

from __future__ import annotations

import fcntl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

EXCLUSIVE, SHARED = fcntl.F_WRLCK, fcntl.F_RDLCK


def lock(descriptor: int, byte: int, how: int, *, wait: bool = True) -> bool:
    """Lock a byte, or change how it is locked; False if others stand against it and one does not ``wait``.

    Parameters
    ----------
    how : {EXCLUSIVE, SHARED}
        For one holder alone, or any number.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _described(byte, how))
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int, byte: int) -> None:
    """End a lock."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _described(byte, fcntl.F_UNLCK))


@contextmanager
def locked(descriptor: int, byte: int) -> Iterator[None]:
    """Hold a byte alone."""
    lock(descriptor, byte, EXCLUSIVE)
    try:
        yield
    finally:
        with suppress(OSError):
            unlock(descriptor, byte)


def _described(byte: int, how: int) -> bytes:
    """A ``struct flock``: type, whence, start, length, process."""
    return struct.pack("@hhqqi0q", how, 0, byte, 1, 0)
