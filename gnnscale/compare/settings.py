"""The settings that every comparison has, with their defaults: the one place where they stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One setting: its default, what it means, and which values it takes."""

    default: Any
    meaning: str
    allowed: str
    accepts: Callable[[Any], bool]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and isfinite(value)


def _count(default: int | None, meaning: str, least: int = 1) -> Setting:
    return Setting(default, meaning, f"a whole number from {least} up", lambda value: _is_int(value) and value >= least)


#: How a model is trained. ``epochs`` stands at the top of a specification, the others under ``[train]``.
TRAINING: dict[str, Setting] = {
    "epochs": _count(100, "times that training goes over all the seeds"),
    "batch_size": _count(
        None, "seeds of a batch, nodes or clusters as the sampler has it (default: the sampler's own)"
    ),
    "lr": Setting(0.01, "learning rate of Adam", "a number above 0", lambda v: _is_number(v) and v > 0),
    "weight_decay": Setting(
        5e-4, "weight decay of Adam", "a number from 0 up", lambda v: _is_number(v) and v >= 0
    ),
    "rest_weight_decay": Setting(
        0.0, "weight decay of the parameters that a model's own rule leaves out of weight_decay", "a number from 0 up",
        lambda v: _is_number(v) and v >= 0,
    ),
    "clip_norm": Setting(
        None, "bound on the gradient's norm (default: none)", "a number above 0",
        lambda v: _is_number(v) and v > 0,
    ),
    "inductive": Setting(
        False, "whether training sees the training nodes and the edges between them alone; evaluation sees all",
        "true or false", lambda v: isinstance(v, bool),
    ),
    "num_workers": _count(0, "threads that sample ahead while the model computes", least=0),
    "threads": _count(None, "threads of torch in a cell (default: all cores)"),
    "device": Setting(
        "cpu", "where the model computes", "'cpu', 'cuda' or 'cuda:0'",
        lambda v: isinstance(v, str) and re.fullmatch(r"cpu|cuda(:\d+)?", v) is not None,
    ),
    "history_dtype": Setting(
        "float32", "how samplers with histories store their rows", "'float32', 'float16', 'bfloat16' or 'int8'",
        lambda v: v in ("float32", "float16", "bfloat16", "int8"),
    ),
    "history_placement": Setting(
        "host", "where they keep them", "'host', 'shared', 'file', 'pinned' or 'device'",
        lambda v: v in ("host", "shared", "file", "pinned", "device"),
    ),
    "history_ahead": Setting(
        True, "whether they ask for the next batch's rows during the backward pass; it changes the time alone",
        "true or false", lambda v: isinstance(v, bool),
    ),
}  # fmt: skip

#: The training settings that one sampler may have for itself, beside the arguments of its constructor.
PER_SAMPLER = (
    "epochs", "batch_size", "lr", "weight_decay", "rest_weight_decay", "clip_norm",
    "history_dtype", "history_placement", "history_ahead",
)  # fmt: skip

#: The shape of a model, under ``[model]`` for all models or ``[model.gcn]`` for one.
MODEL: dict[str, Setting] = {
    "hidden": _count(64, "columns of each hidden layer"),
    "layers": _count(2, "layers (by default 10 for appnp, 64 for gcnii)"),
    "dropout": Setting(
        0.5, "share of a layer's inputs that training drops", "a number from 0 up to but not including 1",
        lambda v: _is_number(v) and 0 <= v < 1,
    ),
    "norm": Setting(
        "none", "normalisation between layers", "'none', 'batch' or 'layer'",
        lambda v: v in ("none", "batch", "layer"),
    ),
}  # fmt: skip


def problem_with(name: str, value: Any, settings: dict[str, Setting], where: str = "") -> str | None:
    """Say in one sentence what is wrong with a value, or None where nothing is.

    Examples
    --------
    >>> problem_with("lr", -1, TRAINING)
    'lr is -1; it must be a number above 0.'
    """
    setting = settings[name]
    if setting.accepts(value):
        return None
    return f"{where}{name} is {value!r}; it must be {setting.allowed}."
