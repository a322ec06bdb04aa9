"""Operations as torch operators, ``torch.ops.gnnscale.*``: what `torch.compile` calls and does not look into.

A plain call does not go through them, which would take it longer than a small product. Registration needs torch 2.4;
before, there are no operators, and `torch.compile` breaks its graph at our operations.
"""

from collections.abc import Callable
from typing import Any

import torch

OPERATORS = hasattr(torch.library, "register_autograd")

_library = torch.library.Library("gnnscale", "DEF")


def define(name: str, schema: str, work: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Register an operator: what does the work, on all devices, and what gives tensors like its results."""
    if OPERATORS:
        _library.define(name + schema, tags=(torch.Tag.needs_fixed_stride_order,))
        _library.impl(name, work, "CompositeExplicitAutograd")
        torch.library.register_fake(f"gnnscale::{name}", fake, lib=_library)


def differentiate(name: str, remember: Callable[..., None], backward: Callable[[], Callable[..., Any]]) -> None:
    """Register an operator's gradient; `backward` gives the function, once there are operators."""
    if OPERATORS:
        torch.library.register_autograd(f"gnnscale::{name}", backward(), setup_context=remember, lib=_library)
