"""Which of several runners on one folder runs a cell."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType


class Claims:
    """The cells of a folder that this process has taken for itself; those of a process that ends are free again.

    A claim is a lock on one byte of one file. Such locks are those that network file systems have, they vanish with the
    process, and nothing is left to be tidied up. Where a file system has no locks, every claim is granted.

    Parameters
    ----------
    folder : Path
        Where the file ``.claims`` stands or will stand.

    Attributes
    ----------
    kept : bool
        Whether the file system keeps locks.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Claims(Path(folder)) as claims:
    ...     claims.take("cora-gcn-gas-seed0")
    True
    """

    def __init__(self, folder: Path) -> None:
        self.kept = True
        self._file = os.open(folder / ".claims", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def take(self, name: str) -> bool:
        """Take a cell by its name; False where another process has it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            self.kept = False
        return True

    def release(self, name: str) -> None:
        """Let others have it."""
        if self.kept:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(name))


def _place(name: str) -> int:
    """The byte that stands for a name; the file itself stays empty."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "little")
