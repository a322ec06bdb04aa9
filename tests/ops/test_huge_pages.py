"""Huge pages: values and places stay, and what cannot be moved is refused."""

import pytest
import torch

from gnnscale.ops import backend, gather_rows, use_huge_pages


def test_values_and_addresses_stay() -> None:
    rows = torch.randn(4100, 257)  # more than a page of 2 MB, at no multiple of one
    copied, place = rows.clone(), rows.data_ptr()
    moved = use_huge_pages(rows)
    assert use_huge_pages(rows) or not moved  # what lies there stays
    assert rows.data_ptr() == place
    assert torch.equal(rows, copied)
    rows[7] = 1
    assert bool((gather_rows(rows, torch.tensor([7])) == 1).all())
    if backend() != "native":
        assert not moved


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (5,), (10, 2)], ids=str)
def test_less_than_a_page_stays(shape: tuple[int, ...]) -> None:
    assert use_huge_pages(torch.zeros(shape)) is False


def test_refusals() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        use_huge_pages(torch.zeros(4, 6).t())
    with pytest.raises(ValueError, match="no dimension"):
        use_huge_pages(torch.tensor(1.0))
    with pytest.raises(TypeError, match="tensor"):
        use_huge_pages([1.0])  # type: ignore[arg-type]
