"""Arguments of samplers and models: what is allowed, and one sentence for what is not.

An integer may be Python's or NumPy's, and is kept as Python's; True and False are none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeGuard

import torch
from torch import Tensor


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is an integer."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_count(name: str, value: int) -> int:
    """``value`` where it is a positive integer."""
    if not is_whole(value) or value < 1:
        raise ValueError(f"{name}={value!r} has to be a positive integer")
    return int(value)


def check_at_least(name: str, value: int, least: int) -> int:
    """``value`` where it is an integer that is not below ``least``."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{name}={value!r} has to be an integer of at least {least}")
    return int(value)


def check_num_layers(num_layers: int | None) -> int | None:
    """``num_layers`` where it is None or a positive integer."""
    if num_layers is None:
        return None
    if not is_whole(num_layers) or num_layers < 1:
        raise ValueError(f"num_layers={num_layers!r} has to be a positive integer, or left out")
    return int(num_layers)


def check_per_layer(
    name: str, values: Sequence[int], what: str, example: int, *, all_of: str | None = None
) -> list[int]:
    """``values`` as a list, where it holds one number of ``what`` a layer.

    Each is a positive integer or, where ``all_of`` says in words what it takes all of, -1.
    """
    valid = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not valid or not all(is_whole(k) and (k >= 1 or (k == -1 and all_of)) for k in values):
        raise ValueError(
            f"{name}={values!r} has to be a list with one number of {what} a layer, such as {[example] * 2}; each is a "
            f"positive integer{f', or -1 for all {all_of}' if all_of else ''}"
        )
    return [int(k) for k in values]


def check_flag(name: str, value: bool) -> bool:
    """``value`` where it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} has to be True or False")
    return value


def check_share(name: str, value: float, allowed: str, *, zero: bool = False, one: bool = False) -> float:
    """``value`` where it is between 0 and 1 (``zero``, ``one``: or equal to these); ``allowed`` says so in words."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        raise ValueError(f"{name}={value!r} has to be {allowed}")
    return value


def check_number(name: str, value: float) -> float:
    """``value`` if it is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r} has to be a number of at least 0")
    return value


def check_ids(name: str, ids: Any, num_nodes: int) -> Tensor:
    """``ids`` as an int64 vector on the CPU, where they are ids of nodes, at least one."""
    try:
        ids = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is of type {type(ids).__name__}; pass a vector of node ids") from error
    if ids.dtype == torch.bool or ids.is_floating_point() or ids.dim() != 1:
        raise ValueError(
            f"{name} has the dtype {ids.dtype} and shape {tuple(ids.shape)}; it has to be a vector of node "
            "ids (of a mask, pass mask.nonzero().squeeze(1))"
        )
    if not ids.numel():
        raise ValueError(f"{name} is empty; pass at least one node id")
    ids = ids.long().cpu().contiguous()
    if not 0 <= int(ids.min()) <= int(ids.max()) < num_nodes:
        raise ValueError(
            f"{name} runs from {int(ids.min())} to {int(ids.max())}; the graph's nodes are 0 to {num_nodes - 1}"
        )
    return ids


def check_device(device: str | torch.device | None) -> torch.device:
    """The device, if this machine has it.

    Raises
    ------
    ValueError
        If the device is not known, or not there.
    """
    try:
        device = torch.device("cpu" if device is None else device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not known; use 'cpu' or 'cuda'") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device='{device}' is none that gnnscale computes on; use 'cpu' or 'cuda'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device='{device}' was asked for and torch sees no GPU; use device='cpu', or install a CUDA build of torch"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device='{device}' is not there: torch sees {torch.cuda.device_count()} GPUs, from cuda:0 on")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())  # as tensors call theirs
    return device
