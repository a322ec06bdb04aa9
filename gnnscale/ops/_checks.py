"""Checks shared by the operations: one clear sentence for each kind of wrong argument."""

import operator

import torch
from torch import Tensor


def check_tensor(name: str, value: Tensor, *dtypes: torch.dtype, reached: torch.device | None = None) -> None:
    """Refuse what is not a contiguous tensor on the CPU, or of none of `dtypes` where some are given.

    With `reached`, a GPU, refuse what its kernels do not reach: it has to be there, or in pinned memory.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch tensor; got {type(value).__name__}.")
    if dtypes and value.dtype not in dtypes:
        allowed = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        got = str(value.dtype).removeprefix("torch.")
        raise TypeError(f"{name} must be {allowed}; got {got}. Convert it once with {name}.to(...).")
    if value.layout != torch.strided:
        got = str(value.layout).removeprefix("torch.")
        raise TypeError(f"{name} must be a dense tensor; its layout is {got}. Pass {name}.to_dense().")
    if reached is not None:
        # Of nothing there is no memory that could be pinned.
        pinned = value.device.type == "cpu" and (value.is_pinned() or not value.numel())
        if value.device != reached and not pinned:
            raise ValueError(f"{name} is on {value.device} and seeds on {reached}; move it there, or pin its memory.")
    elif value.device.type != "cpu":
        raise ValueError(f"{name} is on {value.device}; this operation runs on the CPU, so pass {name}.cpu().")
    if value.is_neg() or value.is_conj():  # the sign is put off, and not in the memory
        raise ValueError(f"{name} is a view of another sign; pass {name}.resolve_conj().resolve_neg().")
    if not value.is_contiguous():
        raise ValueError(f"{name} is not contiguous; pass {name}.contiguous().")


def check_vector(name: str, value: Tensor, *dtypes: torch.dtype, reached: torch.device | None = None) -> None:
    """Refuse what `check_tensor` refuses, and any other number of dimensions than one."""
    check_tensor(name, value, *dtypes, reached=reached)
    if value.dim() != 1:
        raise ValueError(f"{name} must have one dimension; its shape is {tuple(value.shape)}.")


def check_csc(indptr: Tensor, indices: Tensor, reached: torch.device | None = None) -> None:
    """Refuse what cannot be a graph's CSC arrays; whether they are is checked where they are read."""
    check_vector("indptr", indptr, torch.int64, reached=reached)
    check_vector("indices", indices, torch.int32, torch.int64, reached=reached)
    if len(indptr) == 0:
        raise ValueError("indptr is empty; a graph of N nodes has N + 1 pointers.")


def integer(name: str, value: int) -> int:
    """Give `value` as an integer, or refuse it."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {type(value).__name__}.") from None


def random_key(key: int) -> int:
    """Give `key` as an integer of 64 bits, or refuse it."""
    key = integer("key", key)
    if not 0 <= key < 2**64:
        raise ValueError(f"key is {key}; it must lie in [0, 2**64), as key_of gives it.")
    return key


def thread_count(num_threads: int) -> int:
    """Give `num_threads` as an integer of at least one, or refuse it; nothing is done by more than 1024."""
    count = integer("num_threads", num_threads)
    if count < 1:
        raise ValueError(f"num_threads is {count}; give at least 1.")
    return min(count, 1024)
