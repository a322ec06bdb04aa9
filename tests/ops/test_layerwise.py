"""Column sums and weighted draws: native against reference, and against probability."""

from itertools import permutations
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale import ops
from gnnscale.ops import reference
from gnnscale.ops._backend import native
from gnnscale.ops.layerwise import column_sums, draw_in_succession, draw_with_replacement, fill_rows, guide_of
from gnnscale.ops.random import key_of
from tests.ops.graphs import csc_of, edge_lists, random_csc

needs_native = pytest.mark.skipif(native is None, reason=ops.backend_reason())


@needs_native
@settings(deadline=None)
@given(graph=edge_lists(), data=st.data(), dtype=st.sampled_from([torch.int32, torch.int64]), kind=st.integers(0, 7))
def test_native_sums_are_those_of_the_reference(
    graph: tuple, data: st.DataObject, dtype: torch.dtype, kind: int
) -> None:
    src, dst, num_nodes = graph
    indptr, indices = csc_of(src, dst, num_nodes)
    rows, columns = (torch.rand(num_nodes).double() if kind & bit else None for bit in (1, 2))
    weight = torch.rand(len(indices)) if kind & 4 else None
    destinations = torch.tensor(data.draw(st.lists(st.integers(0, num_nodes - 1), max_size=20)), dtype=torch.int64)
    arguments = (indptr, indices.to(dtype), destinations, rows, columns, weight)
    for ours, wanted in zip(native.column_sums(*arguments, 1), reference.column_sums(*arguments), strict=True):
        assert torch.equal(ours, wanted)


@needs_native
def test_native_sums_of_many_edges_are_those_of_the_reference() -> None:
    """Enough for several blocks, and threads."""
    indptr, indices = random_csc(2000, 100_000)
    for weight in (None, torch.rand(100_000)):
        arguments = (
            indptr,
            indices,
            torch.randperm(2000),
            torch.rand(2000).double(),
            torch.rand(2000).double(),
            weight,
        )
        wanted = reference.column_sums(*arguments)
        for threads in (1, 2, 5):
            for ours, theirs in zip(native.column_sums(*arguments, threads), wanted, strict=True):
                assert torch.equal(ours, theirs)


def test_sums_are_those_of_the_matrix() -> None:
    indptr, indices = random_csc(50, 400)
    rows, columns, weight = torch.rand(50).double(), torch.rand(50).double(), torch.rand(400)
    destinations = torch.tensor([4, 0, 30])
    of_edges = torch.arange(50).repeat_interleave(indptr.diff())
    dense = torch.zeros(50, 50).double().index_put_((of_edges, indices), weight.double().square(), accumulate=True)
    wanted = (rows[destinations, None] * dense[destinations]).sum(0) * columns
    sources, sums = column_sums(indptr, indices, destinations, rows=rows, columns=columns, weight=weight)
    torch.testing.assert_close(sums, wanted[sources])
    assert sources.sort().values.tolist() == wanted.nonzero()[:, 0].tolist()


CHANCES = st.lists(st.sampled_from([0.0, 1e-300, 1e-9, 0.1, 1.0, 3.0, 1e12]), max_size=40)


@needs_native
@settings(deadline=None)
@given(chances=CHANCES, size=st.integers(0, 45), key=st.integers(0, 2**64 - 1))
def test_native_draws_are_those_of_the_reference(chances: list, size: int, key: int) -> None:
    chance = torch.tensor(chances, dtype=torch.float64)
    drawn = native.draw_in_succession(chance, size, key)
    assert torch.equal(drawn, reference.draw_in_succession(chance, size, key))
    assert len(drawn) == min(size, int((chance > 0).sum())) == len(drawn.unique())
    assert (chance[drawn] > 0).all()
    ours, wanted = (module.draw_with_replacement(chance.cumsum(0), size, key) for module in (native, reference))
    assert torch.equal(ours[0], wanted[0])
    assert torch.equal(ours[1], wanted[1])
    assert (chance[ours[0]] > 0).all()
    assert int(ours[1].sum()) == (size if chance.sum() > 0 else 0)


@needs_native
@settings(deadline=None)
@given(chances=CHANCES, repeats=st.integers(1, 30), size=st.integers(0, 45), data=st.data())
def test_a_guide_changes_no_draw(chances: list, repeats: int, size: int, data: st.DataObject) -> None:
    """Neither the right one nor any other."""
    cumulative = torch.tensor(chances * repeats, dtype=torch.float64).cumsum(0)
    key = data.draw(st.integers(0, 2**64 - 1))
    numbers = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, len(cumulative) + 2)
    wild = torch.tensor(data.draw(st.lists(numbers, max_size=9)), dtype=torch.int64)
    wanted = reference.draw_with_replacement(cumulative, size, key)
    for guide in (None, guide_of(cumulative), wild):
        for ours, theirs in zip(draw_with_replacement(cumulative, size, key=key, guide=guide), wanted, strict=True):
            assert torch.equal(ours, theirs)


def test_a_guide_leads_to_a_few_sums() -> None:
    """A draw reads what is between two of its entries."""
    cumulative = torch.rand(10_000, dtype=torch.float64).cumsum(0)
    guide = guide_of(cumulative)
    assert guide[0] == 0
    assert guide[-1] == len(cumulative)
    assert guide.diff().min() >= 0
    assert guide.diff().max() < 40
    points = torch.arange(len(guide)).double() / (len(guide) - 1) * cumulative[-1]
    assert (cumulative[guide[1:-1]] > points[1:-1]).all()
    assert (cumulative[guide[1:] - 1] <= points[1:]).all()


@needs_native
@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 5), max_size=9), wide=st.booleans(), weighted=st.booleans())
def test_native_rows_are_filled_as_in_the_reference(counts: list, wide: bool, weighted: bool) -> None:
    indptr = torch.tensor([0, *counts]).cumsum(0).to(torch.int64 if wide else torch.int32)
    values, totals = torch.rand(sum(counts)).double(), torch.rand(len(counts))
    values[::4] = 0.0
    weight = torch.rand(sum(counts)) if weighted else None
    filled = native.fill_rows(indptr, values, weight, totals)
    assert torch.equal(filled, reference.fill_rows(indptr, values, weight, totals))
    rows = torch.arange(len(counts)).repeat_interleave(indptr.diff())
    sums = torch.zeros(len(counts)).double().index_add_(0, rows, filled if weight is None else filled * weight)
    is_full = torch.zeros(len(counts)).double().index_add_(0, rows, values) > 0
    torch.testing.assert_close(sums, torch.where(is_full, totals, 0.0).double())


def largest_z(draw, chance: torch.Tensor, draws: int = 3000) -> float:
    """The largest standardised deviation of the frequency of ordered pairs from that of successive draws."""
    counts: dict = {}
    for number in range(draws):
        order = tuple(draw(chance, 2, key=key_of(number)).tolist())
        counts[order] = counts.get(order, 0) + 1
    total, largest = chance.sum().item(), 0.0
    for first, second in permutations(chance.nonzero()[:, 0].tolist(), 2):
        probability = (chance[first] / total * chance[second] / (total - chance[first])).item()
        error = sqrt(draws * probability * (1 - probability))
        largest = max(largest, abs(counts.get((first, second), 0) - draws * probability) / error)
    return largest


def without_order(chance: torch.Tensor, size: int, *, key: int) -> torch.Tensor:
    return draw_in_succession(chance, size, key=key).sort().values


def squared(chance: torch.Tensor, size: int, *, key: int) -> torch.Tensor:
    return draw_in_succession(chance.square(), size, key=key)


def test_draws_in_succession_have_their_distribution() -> None:
    """One chance is so large that the second draw often has to come from a later round."""
    for chance in ([1.0, 0.0, 2.0, 4.0], [1.0, 5000.0, 1.0, 2.0]):
        assert largest_z(draw_in_succession, torch.tensor(chance).double()) < 5
    for wrong in (without_order, squared):
        assert largest_z(wrong, torch.tensor([1.0, 0.0, 2.0, 4.0]).double()) > 10


@pytest.fixture(params=["native", "torch"])
def either_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr("gnnscale.ops.layerwise.native", None)
    elif native is None:
        pytest.skip(ops.backend_reason())


@pytest.mark.usefixtures("either_backend")
def test_wrong_arguments_get_a_sentence() -> None:
    indptr, indices = random_csc(10, 40)
    nodes, chance = torch.tensor([1, 2]), torch.tensor([1.0, -1.0]).double()
    for call, sentence in [
        (lambda: column_sums(indptr, indices, torch.tensor([11])), r"destinations\[0\] is 11; node ids of this graph"),
        (lambda: column_sums(indptr, indices, nodes, rows=chance), "rows holds 2 values; it needs 10"),
        (lambda: column_sums(indptr, indices, nodes, weight=torch.ones(3)), "weight holds 3 values; it needs 40"),
        (lambda: column_sums(indptr, torch.full((40,), -1), nodes), r"indices\[\d+\] is -1; node ids of this graph"),
        (lambda: draw_in_succession(chance, 1, key=0), r"chance\[1\] is -1.000000; chances are finite and at least 0"),
        (lambda: draw_in_succession(chance.log(), 1, key=0), r"chance\[1\] is -?nan; chances are finite"),
        (lambda: draw_in_succession(chance.abs(), -1, key=0), "size is -1; give a number of positions, at least 0"),
        (lambda: draw_with_replacement(chance.abs(), -1, key=0), "size is -1; give a number of positions"),
        (lambda: fill_rows(torch.tensor([0, 3]), chance, torch.ones(1)), "indptr is no pointer array: it has to rise"),
        (lambda: fill_rows(torch.tensor([0, 3, 2]), chance, torch.ones(2)), "indptr is no pointer array: it has to"),
        (lambda: fill_rows(torch.tensor([0, 2**60, 2]), chance, torch.ones(2)), "indptr is no pointer array: it has"),
        (lambda: fill_rows(torch.tensor([-5, 2]), chance, torch.ones(1)), "indptr is no pointer array: it has to rise"),
        (lambda: fill_rows(torch.tensor([0]), chance, torch.ones(1)), "indptr holds 1 pointers; 1 totals need 2"),
        (
            lambda: fill_rows(torch.tensor([0, 2]), chance, torch.ones(1), weight=torch.ones(3)),
            "weight holds 3 values; it needs 2",
        ),
    ]:
        with pytest.raises(ValueError, match=sentence):
            call()
    with pytest.raises(TypeError, match="chance must be float64; got float32"):
        draw_in_succession(torch.ones(2), 1, key=0)
    with pytest.raises(TypeError, match="guide must be int64; got float32"):
        draw_with_replacement(chance.abs(), 1, key=0, guide=torch.ones(2))
