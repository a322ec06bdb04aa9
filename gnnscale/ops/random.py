"""Counter-based random numbers: every draw is a pure function of its counters.

The same functions as in ``native/include/random.h``. They take Python integers and int64 tensors alike: both
hold 64-bit words in two's complement, and torch's products wrap around as C++'s do.
"""

import operator
from typing import TypeVar

import torch

Words = TypeVar("Words", int, torch.Tensor)

# SplitMix64's constants, written as signed 64-bit numbers because torch's integers are.
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def as_signed(word: int) -> int:
    """Give the signed 64-bit number with the lowest 64 bits of `word`."""
    return ((word + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


def _shifted(word: Words, bits: int) -> Words:
    """Shift right with zeros moving in, where ``>>`` would repeat the sign."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def fold(state: Words, counter: Words) -> Words:
    """Fold one more counter into a hash: SplitMix64's output function (Steele, Lea and Flood, OOPSLA 2014).

    Of the result of Python integers only the lowest 64 bits count.
    """
    z = state + (counter + 1) * _STEP
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def bounded(word: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """Map uniform 64-bit words to integers in [0, n); through a double, so that C++ gives the same."""
    return (uniform(word) * n.double()).long()


def uniform(words: torch.Tensor) -> torch.Tensor:
    """Map uniform 64-bit words to float64 numbers in [0, 1): multiples of 2^-52."""
    return _shifted(words, 12).double() * 2.0**-52


def key_of(*counters: int) -> int:
    """Mix counters, such as (seed, epoch, batch), into the key of a random stream.

    Parameters
    ----------
    *counters : int
        At least one; their order matters, and negative ones are allowed.

    Returns
    -------
    int
        In [0, 2**63), so that it also seeds a `torch.Generator`.

    Raises
    ------
    TypeError
        If there is no counter, or one is no integer.

    Examples
    --------
    >>> from gnnscale.ops.random import key_of
    >>> key_of(0, 1, 2) == key_of(0, 1, 2) != key_of(0, 2, 1)
    True
    """
    if not counters:
        raise TypeError("key_of takes at least one integer, such as a seed; got none.")
    state = 0
    for counter in counters:
        state = as_signed(fold(state, operator.index(counter)))
    return state & ((1 << 63) - 1)
