"""The settings that every comparison has, with their defaults: the one place where they stand.

The tables of a specification, the flags of ``gnnscale compare`` and the documentation are all read from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One setting: the type of its flag, its default, what it means, and which values it takes."""

    type: type
    default: Any
    meaning: str
    allowed: str
    accepts: Callable[[Any], bool]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and isfinite(value)


def _count(default: int | None, meaning: str, least: int = 1) -> Setting:
    allowed = f"a whole number from {least} up"
    return Setting(int, default, meaning, allowed, lambda value: _is_int(value) and value >= least)


def _number(default: float | None, meaning: str, allowed: str, accepts: Callable[[float], bool]) -> Setting:
    return Setting(float, default, meaning, allowed, lambda value: _is_number(value) and accepts(value))


def _above_zero(default: float | None, meaning: str) -> Setting:
    return _number(default, meaning, "a number above 0", lambda value: value > 0)


def _from_zero(default: float | None, meaning: str) -> Setting:
    return _number(default, meaning, "a number from 0 up", lambda value: value >= 0)


def _flag(default: bool, meaning: str) -> Setting:
    return Setting(bool, default, meaning, "true or false", lambda value: isinstance(value, bool))


def _one_of(default: str, meaning: str, *names: str) -> Setting:
    allowed = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    return Setting(str, default, meaning, allowed, lambda value: value in names)


#: How a model is trained. ``epochs`` stands at the top of a specification, the others under ``[train]``.
TRAINING: dict[str, Setting] = {
    "epochs": _count(100, "times that training goes over all the seeds, the most that there are"),
    "max_seconds": _above_zero(None, "training seconds after which a run ends (default: no bound)"),
    "patience": _count(None, "epochs without a better validation metric after which a run ends (default: no bound)"),
    "target": _number(
        None, "validation metric, a fraction, at which a run ends (default: none)", "a number above 0, and 1 at most",
        lambda value: 0 < value <= 1,
    ),
    "batch_size": _count(
        None, "seeds of a batch, nodes or clusters as the sampler has it (default: the sampler's own)"
    ),
    "lr": _above_zero(0.01, "learning rate of Adam"),
    "weight_decay": _from_zero(5e-4, "weight decay of Adam"),
    "rest_weight_decay": _from_zero(
        0.0, "weight decay of the parameters that a model's own rule leaves out of weight_decay"
    ),
    "clip_norm": _above_zero(None, "bound on the gradient's norm (default: none)"),
    "inductive": _flag(
        False, "whether training sees the training nodes and the edges between them alone; evaluation sees all"
    ),
    "num_workers": _count(0, "threads that sample ahead while the model computes", least=0),
    "device": Setting(
        str, "cpu", "where the model computes", "'cpu', 'cuda' or 'cuda:0'",
        lambda value: isinstance(value, str) and re.fullmatch(r"cpu|cuda(:\d+)?", value) is not None,
    ),
    "amp": _one_of(
        "none", "mixed precision: whether linear maps and rows are bfloat16 in training", "none", "bf16"
    ),
    "graph_placement": _one_of(
        "host", "where the graph is that batches are drawn from: from the others a GPU draws", "host", "device",
        "pinned",
    ),
    "cuda_graph": _flag(
        False,
        "whether a GPU replays the steps of `full`, and of `cluster` with one or all parts a batch, as CUDA graphs",
    ),
    "history_dtype": _one_of(
        "float32", "how samplers with histories store their rows", "float32", "float16", "bfloat16", "int8"
    ),
    "history_placement": _one_of(
        "auto", "where they keep them; `auto` is the GPU's memory as far as it has room, else the host's",
        "auto", "host", "shared", "file", "pinned", "device"
    ),
    "history_ahead": _flag(
        True, "whether they ask for the next batch's rows during the backward pass; it changes the time alone"
    ),
}  # fmt: skip

#: The training settings that one sampler may have for itself, beside the arguments of its constructor. A target is not
#: among them: samplers are compared by the time to the same one.
PER_SAMPLER = (
    "epochs", "max_seconds", "patience", "batch_size", "lr", "weight_decay", "rest_weight_decay", "clip_norm",
    "amp", "graph_placement", "cuda_graph", "history_dtype", "history_placement", "history_ahead",
)  # fmt: skip

#: The shape of a model, under ``[model]`` for all models or ``[model.gcn]`` for one.
MODEL: dict[str, Setting] = {
    "hidden": _count(64, "columns of each hidden layer"),
    "layers": _count(2, "layers (by default 10 for appnp, 64 for gcnii)"),
    "dropout": _number(
        0.5, "share of a layer's inputs that training drops", "a number from 0 up to but not including 1",
        lambda value: 0 <= value < 1,
    ),
    "norm": _one_of("none", "normalisation between layers", "none", "batch", "layer"),
}  # fmt: skip

#: What a cell may use, under ``[budget]``, the same for all cells.
BUDGET: dict[str, Setting] = {
    "threads": _count(None, "threads of torch in a cell (default: the machine's cores, shared among --jobs)"),
    "memory_gb": _above_zero(None, "memory of a cell's process, 10^9 bytes, beyond which it ends (default: no bound)"),
    "cell_seconds": _above_zero(
        None, "wall-clock seconds of a whole cell after which it ends: loading, preparation, evaluation (default: none)"
    ),
}  # fmt: skip

#: What decides a cell's result; under another bound of memory or time, a cell that finished is the same.
BUDGET_OF_RESULT = ("threads",)


def problem_with(name: str, value: Any, settings: Mapping[str, Setting], where: str = "") -> str | None:
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
