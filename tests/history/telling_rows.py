"""Rows that tell who wrote them, as his which, and where: recognised when they are read, and seen to be whole."""

import numpy as np
import torch

COLUMNS = 8  # a row repeats them
LARGEST = 100**3 - 1


def make(writer, numbers, ids, width):
    """A writer's rows, shape (n, width), of its ``numbers`` from 1; each is the same in every dtype of a store.

    A row has integers up to 127, and 127 is among them, times a power of two: that is int8's scale, and it changes.
    """
    ids, numbers = np.asarray(ids), np.asarray(numbers)
    place, number = (ids % 100, ids // 100), (numbers % 100, numbers // 100 % 100, numbers // 10_000)
    total = (writer + sum(place) + sum(number)) % 101
    rows = np.empty((len(ids), width // COLUMNS, COLUMNS), dtype=np.float32)
    for column, values in enumerate((127, writer, *number, *place, total)):
        rows[:, 0, column] = values
    rows[:, 0] *= (1 << numbers % 4)[:, None]
    rows[:] = rows[:, :1]
    return torch.from_numpy(rows.reshape(len(ids), width))


def read(rows, ids):
    """The writer and the number of each row, as NumPy arrays; zeros of a row of zeros, which nobody has written."""
    values = rows.numpy().reshape(len(rows), -1, COLUMNS)
    first = values[:, 0]
    assert (values == values[:, :1]).all(), "torn: the parts of a row differ"
    scale = first[:, 0] / 127
    written = scale > 0
    columns = np.rint(first / np.where(written, scale, 1)[:, None]).astype(np.int64)
    writers, numbers = columns[:, 1], columns[:, 2] + 100 * columns[:, 3] + 10_000 * columns[:, 4]
    right = (
        (first == columns * scale[:, None]).all(1)
        & (scale == 1 << numbers % 4)
        & (columns[:, 5] + 100 * columns[:, 6] == np.asarray(ids))
        & (columns[:, 7] == columns[:, 1:7].sum(1) % 101)
    )
    assert (right | ~first.any(1)).all(), "torn: a row does not add up"
    return writers, numbers


class Reader:
    """What one reader has seen of a table: rows of a writer never go back, and what has been overwritten stays so.

    Parameters
    ----------
    num_writers, num_rows : int
        Writers are numbered from 1.
    me : int
        The number of the writer that this is as well, if it is one.
    """

    def __init__(self, num_writers, num_rows, me=0):
        self.me = me
        self.mine = np.zeros(num_rows, dtype=np.int64)
        self._seen = np.zeros((num_writers + 1, num_rows), dtype=np.int64)
        self._now = np.zeros((2, num_rows), dtype=np.int64)

    def pushed(self, ids, numbers):
        """After the push of numbers that grow, maybe of repeated ids."""
        np.maximum.at(self.mine, ids, numbers)

    def pulled(self, ids, rows):
        """After the pull of ids that differ."""
        writers, numbers = read(rows, ids)
        own = (writers == self.me) & (self.me > 0)
        assert (numbers == self.mine[ids])[own].all(), "lost: a pull does not see the push before it"
        new = (np.stack([writers, numbers]) != self._now[:, ids]).any(0)
        assert (numbers > self._seen[writers, ids])[new].all(), "out of order: a row that was overwritten is back"
        self._seen[writers, ids] = np.maximum(numbers, self._seen[writers, ids])
        self._now[:, ids] = writers, numbers
