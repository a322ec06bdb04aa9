"""Row gathering: any dtype, into a buffer, and its refusals."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.ops import backend, gather_rows, reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.int64, torch.bool]
SHAPES = [(), (1,), (3,), (16,), (257,), (2, 5), (0,)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_indexing(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    source = (torch.randn(50, *shape) * 50).to(dtype)
    for index in (
        torch.randint(50, (33,)),
        torch.randint(50, (33,), dtype=torch.int32),
        torch.empty(0).long(),
    ):
        got = gather_rows(source, index)
        assert got.dtype == dtype
        assert torch.equal(got, source[index.long()])
        by_torch = torch.empty_like(got)
        reference.gather_rows(source, index, by_torch)
        assert torch.equal(got, by_torch)


@settings(deadline=None)
@given(rows=st.integers(1, 40), width=st.integers(1, 300), index=st.data())
def test_a_larger_buffer_keeps_its_other_rows(rows: int, width: int, index: st.DataObject) -> None:
    source = torch.randn(rows, width)
    ids = torch.tensor(index.draw(st.lists(st.integers(0, rows - 1), max_size=30)), dtype=torch.int64)
    out = torch.full((31, width), -1.0)
    got = gather_rows(source, ids, out)
    assert got.data_ptr() == out[: len(ids)].data_ptr()
    assert torch.equal(got, source[ids])
    assert bool((out[len(ids) :] == -1).all())


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_give_the_same(threads: int) -> None:
    source, index = torch.randn(1000, 300), torch.randint(1000, (40_000,))
    assert torch.equal(gather_rows(source, index, num_threads=threads), source[index])


def test_an_empty_source() -> None:
    assert gather_rows(torch.empty(0, 4), torch.empty(0, dtype=torch.int64)).shape == (0, 4)
    with pytest.raises(IndexError, match=r"index\[0\] is 0; source has 0 rows"):
        gather_rows(torch.empty(0, 4), torch.tensor([0]))


def large_and_wanted(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A result large enough to lie in memory used again, and what it has to be."""
    generator = torch.Generator().manual_seed(seed)
    source, index = torch.randn(500, 256, generator=generator), torch.randint(500, (2000,), generator=generator)
    return gather_rows(source, index), source[index]


def test_memory_is_used_again_when_nobody_has_it_any_more() -> None:
    held = [large_and_wanted(seed) for seed in range(3)]
    view, wanted = held[0][0][5:9], held[0][1][5:9]
    places = {rows.data_ptr() for rows, _ in held}
    assert len(places) == 3
    assert all(torch.equal(*pair) for pair in held)
    del held  # but the view keeps the memory of the first
    later = [large_and_wanted(seed) for seed in range(3, 8)]
    assert all(torch.equal(*pair) for pair in later)
    assert torch.equal(view, wanted)
    if backend() == "native":
        assert places & {rows.data_ptr() for rows, _ in later}
        assert view.data_ptr() - 5 * 256 * 4 not in {rows.data_ptr() for rows, _ in later}


def test_threads_gather_at_the_same_time() -> None:
    def work(first: int) -> bool:
        return all(torch.equal(*large_and_wanted(seed)) for seed in range(first, first + 20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(0, 80, 20)))


def sums_of_child() -> list[float]:
    return [float(large_and_wanted(seed)[0].sum()) for seed in range(3)]


def test_a_forked_child_gathers_too() -> None:
    held = [large_and_wanted(seed)[0] for seed in range(3)]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(sums_of_child) == [float(rows.sum()) for rows in held]


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_wrong_arguments_get_a_sentence(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "torch":
        monkeypatch.setattr("gnnscale.ops.gather.native", None)
    source, index = torch.randn(10, 4), torch.tensor([1, 2])
    with pytest.raises(IndexError, match=r"index\[1\] is 10; source has 10 rows"):
        gather_rows(source, torch.tensor([0, 10]))
    with pytest.raises(IndexError, match=r"index\[0\] is -1"):
        gather_rows(source, torch.tensor([-1]))
    with pytest.raises(TypeError, match="index must be int32 or int64; got float32"):
        gather_rows(source, torch.ones(2))
    with pytest.raises(ValueError, match="source is not contiguous"):
        gather_rows(source.T, index)
    with pytest.raises(TypeError, match="out must be float32; got float64"):
        gather_rows(source, index, torch.empty(2, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"out has shape \(1, 4\); \(2, 4\) is needed"):
        gather_rows(source, index, torch.empty(1, 4))
    with pytest.raises(ValueError, match=r"out has shape \(2, 3\)"):
        gather_rows(source, index, torch.empty(2, 3))
    with pytest.raises(ValueError, match="out shares memory with source"):
        gather_rows(source, index, source[:2])
    with pytest.raises(ValueError, match=r"pass source.detach\(\)"):
        gather_rows(source.clone().requires_grad_(), index)
    with pytest.raises(ValueError, match="source has no dimension"):
        gather_rows(torch.tensor(1.0), index)
