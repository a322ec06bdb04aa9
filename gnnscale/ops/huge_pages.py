"""Rows on huge pages, which are found faster when they are read at random."""

from torch import Tensor

from gnnscale.ops._backend import native
from gnnscale.ops._checks import check_tensor
from gnnscale.ops.gather import as_bytes


def use_huge_pages(rows: Tensor) -> bool:
    """Have the system move a tensor's memory to huge pages, in place.

    Gathering rows of 1 KB from a gigabyte then takes about three quarters of the time: the processor's page table
    cache covers 2 MB with an entry in the place of 4 KB. Moving costs as much as gathering each row some 15 times, so
    it pays for features that are read in many epochs. Values and addresses stay.

    Parameters
    ----------
    rows : Tensor
        (N, ...), contiguous, on the CPU.

    Returns
    -------
    bool
        Whether the memory lies on huge pages now, but for what is left of a page at both ends. False where the system
        cannot (Linux before 6.1, or no free memory in such pieces), for less than a page, and without native code.

    Raises
    ------
    TypeError
        If `rows` is no tensor.
    ValueError
        If it is not contiguous, not dense, not on the CPU, or has no dimension.

    Examples
    --------
    >>> import torch
    >>> from gnnscale.ops import use_huge_pages
    >>> use_huge_pages(torch.zeros(10, 4))  # less than a page of 2 MB
    False
    """
    check_tensor("rows", rows)
    if rows.dim() == 0:
        raise ValueError("rows has no dimension; pass a tensor with at least one.")
    return native is not None and native.make_huge(as_bytes(rows.detach()))
