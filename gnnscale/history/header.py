"""The first page of memory that processes share: what it is, the step, and where its tables begin.

Everything in it is checked. What never changes has a sum; so has each entry of the directory of tables; the step and
the number of tables have one in the same word of eight bytes, so that both change at once. A table is entered before
it is counted: who is killed while making one, leaves what was there before.
"""

from __future__ import annotations

import struct
from zlib import crc32

import torch

from gnnscale.history.memory import DTYPES

HEADER = 4096  # bytes
MAX_TABLES = 64
KINDS = ("history", "features")

_MAGIC, _VERSION, _ORDER = b"gnnscale", 1, 0x01020304
# Magic, byte order, version, kind, dtype, rows. All in the machine's byte order, as the rows themselves.
_FIXED = struct.Struct("=8sIIHHQ")
_ENTRY = struct.Struct("=QI")  # where a table begins, its columns
_SUM = struct.Struct("=I")
_STEP, _COUNT = 8, 9  # words
_DIRECTORY = 128
_ENTRY_BYTES = _ENTRY.size + _SUM.size


class Header:
    """The header in a mapped page.

    Parameters
    ----------
    page : memoryview
        4096 bytes.
    name : str
        What sentences about it begin with.

    Attributes
    ----------
    num_rows : int
    dtype : torch.dtype
    kind : {"history", "features"}

    Raises
    ------
    ValueError
        If it is none, one of another machine or version, or damaged.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.history.header import Header
    >>> header = Header(memoryview(Header.made(10, torch.int8, "history")), "this page")
    >>> header.enter(begin=4096, width=3)
    >>> header.num_rows, header.dtype, header.entries()
    (10, torch.int8, [(4096, 3)])
    """

    def __init__(self, page: memoryview, name: str) -> None:
        self._page, self._words, self._name = page, page.cast("Q"), name
        magic, order, version, kind, dtype, self.num_rows = _FIXED.unpack_from(page)
        if magic != _MAGIC:
            raise ValueError(f"{name} is not a file of a HistoryStore or FeatureStore")
        if order == int.from_bytes(_ORDER.to_bytes(4, "little"), "big"):
            raise ValueError(f"{name} was written on a machine of the other byte order, and cannot be read on this one")
        if not _is_summed(page[: _FIXED.size + _SUM.size]) or order != _ORDER:
            raise self._damaged()
        if version != _VERSION:
            raise ValueError(f"{name} has format {version}, and this gnnscale reads format {_VERSION}; update gnnscale")
        self.kind, self.dtype = KINDS[kind], list(DTYPES.values())[dtype]
        # These raise as well.
        _ = self.step, self.entries()

    @staticmethod
    def made(num_rows: int, dtype: torch.dtype, kind: str) -> bytearray:
        """A page that says this, without tables."""
        page = bytearray(HEADER)
        fixed = _FIXED.pack(_MAGIC, _ORDER, _VERSION, KINDS.index(kind), list(DTYPES.values()).index(dtype), num_rows)
        page[: len(fixed) + _SUM.size] = _summed(fixed)
        for word in (_STEP, _COUNT):
            struct.pack_into("=Q", page, 8 * word, _sealed(0))
        return page

    @property
    def step(self) -> int:
        """The step, below 2³²."""
        return self._unsealed(_STEP)

    @step.setter
    def step(self, step: int) -> None:
        self._words[_STEP] = _sealed(step)

    @property
    def state(self) -> int:
        """A number that changes when a table is entered, and is cheap to look at."""
        return self._words[_COUNT]

    def entries(self) -> list[tuple[int, int]]:
        """Where each table begins, and its width."""
        count = self._unsealed(_COUNT)
        if count > MAX_TABLES:
            raise self._damaged()
        parts = [self._page[_place(number) : _place(number + 1)] for number in range(count)]
        if not all(map(_is_summed, parts)):
            raise self._damaged()
        return [_ENTRY.unpack_from(part) for part in parts]

    def enter(self, begin: int, width: int) -> None:
        """Enter another table; whoever calls is the only one."""
        number = self._unsealed(_COUNT)
        if number == MAX_TABLES:
            raise ValueError(f"there are {MAX_TABLES} tables, which is the limit; use another store for more")
        self._page[_place(number) : _place(number + 1)] = _summed(_ENTRY.pack(begin, width))
        self._words[_COUNT] = _sealed(number + 1)

    def _unsealed(self, word: int) -> int:
        sealed = self._words[word]
        number = sealed & 0xFFFFFFFF
        if sealed != _sealed(number):
            raise self._damaged()
        return number

    def _damaged(self) -> ValueError:
        return ValueError(f"{self._name} has a damaged header, and cannot be used")


def _place(number: int) -> int:
    return _DIRECTORY + number * _ENTRY_BYTES


def _sealed(number: int) -> int:
    """A number below 2³² and its sum, in one word."""
    return number | crc32(number.to_bytes(4, "little")) << 32


def _summed(content: bytes) -> bytes:
    return content + _SUM.pack(crc32(content))


def _is_summed(content: memoryview) -> bool:
    return bytes(content) == _summed(bytes(content[: -_SUM.size]))
