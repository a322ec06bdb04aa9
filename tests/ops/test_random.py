"""The counter-based random numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gnnscale.ops.random import as_signed, bounded, fold, key_of

words = st.integers(0, 2**64 - 1)


def test_fold_is_splitmix64() -> None:
    # The first outputs of the authors' splitmix64.c for the seed 1234567.
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [fold(1234567, i) & (2**64 - 1) for i in range(4)] == wanted


@settings(deadline=None)
@given(state=words, counter=words)
def test_tensors_and_integers_agree(state: int, counter: int) -> None:
    tensor = fold(torch.tensor(as_signed(state)), torch.tensor(as_signed(counter)))
    assert int(tensor) == as_signed(fold(state, counter))


@settings(deadline=None)
@given(word=words, n=st.integers(1, 2**40))
def test_bounded_stays_below_its_bound(word: int, n: int) -> None:
    value = int(bounded(torch.tensor(as_signed(word)), torch.tensor(n)))
    assert 0 <= value < n
    assert abs(value - word * n / 2**64) <= 1


def test_every_bit_is_fair_and_follows_every_counter_bit() -> None:
    counters = torch.arange(20_000)
    bits = (fold(torch.tensor(5), counters)[:, None] >> torch.arange(64)) & 1
    z = (bits.double().mean(0) - 0.5) * 2 * 20_000**0.5
    assert z.abs().max() < 5
    for flipped in (0, 13, 40, 62):
        other = (fold(torch.tensor(5), counters ^ (1 << flipped))[:, None] >> torch.arange(64)) & 1
        z = ((bits ^ other).double().mean(0) - 0.5) * 2 * 20_000**0.5
        assert z.abs().max() < 5


@settings(deadline=None)
@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=4))
def test_keys_seed_a_generator(counters: list[int]) -> None:
    key = key_of(*counters)
    assert 0 <= key < 2**63
    assert key == key_of(*counters)
    torch.Generator().manual_seed(key)


def test_keys_of_neighbouring_counters_differ_and_are_uniform() -> None:
    keys = [key_of(seed, epoch, batch) for seed in range(20) for epoch in range(20) for batch in range(20)]
    assert len(set(keys)) == 8000
    counts = torch.bincount(torch.tensor([key >> 59 for key in keys]), minlength=16)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_keys_need_integers() -> None:
    with pytest.raises(TypeError, match="at least one integer"):
        key_of()
    with pytest.raises(TypeError):
        key_of(1.5)  # type: ignore[arg-type]
