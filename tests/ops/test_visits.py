"""Counting what walks visited: native against reference, by hand, and how ties are broken."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale import ops
from gnnscale.ops import reference
from gnnscale.ops._backend import native
from gnnscale.ops.walks import top_visits


@pytest.mark.skipif(native is None, reason=ops.backend_reason())
@settings(deadline=None)
@given(
    visited=st.integers(0, 9).flatmap(lambda w: st.lists(st.lists(st.integers(-1, 6), min_size=w, max_size=w))),
    limit=st.integers(-1, 5),
    key=st.integers(0, 2**64 - 1),
    with_own=st.booleans(),
)  # fmt: skip
def test_native_equals_reference(visited: list, limit: int, key: int, with_own: bool) -> None:
    rows = torch.tensor(visited, dtype=torch.int64).view(len(visited), len(visited[0]) if visited else 3)
    own = torch.arange(len(rows)) % 5 if with_own else None
    for ours, wanted in zip(
        native.top_visits(rows, own, limit, key, 2), reference.top_visits(rows, own, limit, key), strict=True
    ):
        assert torch.equal(ours, wanted)


def test_many_rows_are_the_same_on_any_number_of_threads() -> None:
    visited = torch.randint(-1, 9, (3000, 20), generator=torch.Generator().manual_seed(0))
    one, three = (top_visits(visited, 3, key=5, num_threads=threads) for threads in (1, 3))
    for a, b, c in zip(one, three, reference.top_visits(visited, None, 3, 5), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_the_nodes_kept_are_those_visited_most() -> None:
    visited = torch.randint(-1, 9, (200, 20), generator=torch.Generator().manual_seed(0))
    indptr, nodes, counts = top_visits(visited, 3, key=1, own=torch.full((200,), 4))
    for row in range(200):
        seen = Counter(node for node in visited[row].tolist() if node not in (-1, 4))
        mine = slice(int(indptr[row]), int(indptr[row + 1]))
        assert counts[mine].tolist() == [seen[node] for node in nodes[mine].tolist()]
        assert sorted(counts[mine].tolist()) == sorted(seen.values())[-3:]
        assert nodes[mine].tolist() == sorted(nodes[mine].tolist())


def test_ties_are_broken_at_random_and_by_the_key_alone() -> None:
    visited = torch.tensor([0, 1, 2, 2, 3, 4]).repeat(300, 1)
    indptr, nodes, counts = top_visits(visited, 3, key=11)
    assert torch.equal(indptr, torch.arange(301) * 3)
    assert counts.view(300, 3).sum(1).tolist() == [4] * 300
    frequency = torch.bincount(nodes, minlength=5) / 300
    assert frequency[2] == 1
    assert (frequency[[0, 1, 3, 4]] - 0.5).abs().max() < 5 * (0.25 / 300) ** 0.5
    assert torch.equal(nodes, top_visits(visited, 3, key=11)[1])
    assert not torch.equal(nodes, top_visits(visited, 3, key=12)[1])


def test_visits_are_counted_row_by_row() -> None:
    visited = torch.tensor([[4, -1, 4, 2], [-1, -1, -1, -1], [0, 4, 0, 0]])
    counted = [[0, 2, 2, 4], [2, 4, 0, 4], [1, 2, 3, 1]]
    assert [part.tolist() for part in top_visits(visited, -1, key=0)] == counted
    assert [part.numel() for part in top_visits(visited[1:2].contiguous(), -1, key=0)] == [2, 0, 0]


def test_wrong_arguments_get_a_sentence() -> None:
    for visited, changes, sentence in [
        (torch.zeros(3).long(), {}, "visited must have two dimensions"),
        (torch.zeros(3, 2).long(), {"own": torch.zeros(2).long()}, "own holds 2 nodes and visited 3 rows"),
        (torch.zeros(3, 2).long(), {"limit": -2}, "limit is -2; give a number of nodes, or -1"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            top_visits(visited, **({"limit": 1, "key": 0} | changes))
    with pytest.raises(TypeError, match="visited must be int64; got float32"):
        top_visits(torch.zeros(3, 2), 1, key=0)
