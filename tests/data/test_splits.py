"""Splits and edge directions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.data.edges import both_directions, missing_reverses
from gnnscale.data.splits import fraction_split, per_class_split


def pygas_masks(labels, num_splits):
    """Fey et al.'s own lines, on the global generator."""
    torch.manual_seed(12345)
    train = torch.zeros(len(labels), num_splits, dtype=torch.bool)
    val = torch.zeros(len(labels), num_splits, dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        members = (labels == label).nonzero().view(-1)
        order = torch.stack([torch.randperm(members.size(0)) for _ in range(num_splits)], dim=1)
        members = members[order]
        train.scatter_(0, members[:20], True)
        val.scatter_(0, members[20:50], True)
    return train, val


@pytest.mark.parametrize("split", [0, 7, 19])
def test_per_class_splits_are_those_of_pygas(split):
    labels = torch.from_numpy(np.random.default_rng(0).integers(4, size=600))
    train, val = pygas_masks(labels, 20)
    ours = per_class_split(labels, split, 20)
    assert torch.equal(ours[0], train[:, split].nonzero().flatten())
    assert torch.equal(ours[1], val[:, split].nonzero().flatten())
    assert torch.equal(torch.cat(ours).sort().values, torch.arange(600))


def test_per_class_splits_leave_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    per_class_split(torch.arange(200) % 2, 0, 5)
    assert torch.equal(torch.get_rng_state(), before)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 9))
def test_fractions_cover_every_node_once(labels, split):
    parts = fraction_split(np.array(labels), split, seed=0)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(labels)))
    for label in set(labels):
        if labels.count(label) >= 3:
            for part in parts:
                assert label in [labels[node] for node in part]


edges = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40)


@given(edges)
def test_both_directions_is_the_symmetric_set(pairs):
    source, target = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    found = list(zip(*(end.tolist() for end in both_directions(source, target, 10)), strict=True))
    assert found == sorted({*pairs, *((v, u) for u, v in pairs)})


@given(edges)
def test_missing_reverses(pairs):
    source, target = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    expected = [i for i, (u, v) in enumerate(pairs) if (v, u) not in pairs]
    assert missing_reverses(source, target, 10).tolist() == expected
