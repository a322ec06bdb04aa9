"""What happens inside the process of a cell: load, build, train, and send each point of the curve."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gnnscale.compare.build import build_model, build_sampler, nodes_seen
from gnnscale.compare.endings import describe
from gnnscale.compare.impossible import cannot_be_built
from gnnscale.compare.plan import Cell, Choice, Combination, Facts
from gnnscale.compare.process import Send
from gnnscale.data import Dataset, dataset_names, load
from gnnscale.history import HistoryStore
from gnnscale.training import Point, TrainingResult, train


def run_cell(send: Send, cell: Cell) -> None:
    """Train one model with one sampler.

    Sends ``("threads", number)`` and ``("stage", text)`` as the work proceeds, ``("point", values, columns)`` after
    each epoch, and ``("end", columns)``; the columns are those of results that the run has as a whole.

    Raises
    ------
    FloatingPointError
        The loss is no longer a finite number.
    """
    device = cell.training["device"]

    def on_point(point: Point) -> None:
        send(("point", asdict(point), peaks(device)))

    def on_built(model: torch.nn.Module, sampler: Any, data: Dataset) -> None:
        send(("threads", torch.get_num_threads()))

    result = train_cell(cell, lambda text: send(("stage", text)), on_point, on_built)
    ended = {"prepare_seconds": result.prepare_seconds, "stopped": result.stopped}
    send(("end", ended | peaks(device)))


def train_cell(
    cell: Cell,
    on_stage: Callable[[str], None],
    on_point: Callable[[Point], None],
    on_built: Callable[[torch.nn.Module, Any, Dataset], None],
) -> TrainingResult:
    """Load, build and train what a cell says, in this process.

    Parameters
    ----------
    cell : Cell
    on_stage, on_point
        Called with each stage that begins, and with each point of the curve.
    on_built
        Called with the model, the sampler and the data before training begins.
    """
    training = cell.training
    if cell.budget.get("threads") is not None:
        torch.set_num_threads(cell.budget["threads"])
    on_stage("loading")
    data = load(cell.dataset.name, cell.data_dir, split=cell.split, **cell.dataset.arguments)
    # The same seed before every model: all samplers start from the same weights.
    torch.manual_seed(cell.seed)
    model = build_model(cell.model, data)
    num_nodes = nodes_seen(training, data)
    sampler = build_sampler(cell.sampler, cell.model, num_nodes)
    on_built(model, sampler, data)
    on_stage("preparing")
    settings = dict(training)
    with _history(settings, sampler, num_nodes) as history:
        return train(
            model, data, sampler, seed=cell.seed, on_point=on_point, on_stage=on_stage, history=history, **settings
        )


@contextmanager
def _history(settings: dict[str, Any], sampler: Any, num_nodes: int) -> Iterator[HistoryStore | None]:
    """The store that the settings ask for, which are taken out of them; None where the sampler keeps none."""
    dtype, placement = settings.pop("history_dtype"), settings.pop("history_placement")
    if not getattr(sampler, "keeps_history", False):
        yield None
        return
    with TemporaryDirectory(prefix="gnnscale-history-") as folder:
        path = Path(folder) / "history" if placement == "file" else None
        yield HistoryStore(num_nodes, dtype=dtype, placement=placement, path=path, device=settings["device"])


def check_dataset(send: Send, dataset: Choice, data_dir: Path | None, combinations: list[Combination]) -> None:
    """Load a dataset and build every model and sampler for it, before any time goes into training.

    Sends ``("problem", sentence)`` for each thing that cannot work, and ``("facts", Facts)``.
    """
    try:
        data = load(dataset.name, data_dir, **dataset.arguments)
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        text = describe(error)
        named = (place for name, place in dataset.places.items() if name in text)
        send(("problem", next(named, dataset.place) + text))
        return
    for combination in combinations:
        for problem in cannot_be_built(
            combination, data.num_features, data.num_classes, nodes_seen(combination.training, data)
        ):
            send(("problem", problem))
    digest = content_digest(data)
    if dataset.name not in dataset_names():
        # A file of the user's may change in any of its splits.
        splits = (load(dataset.name, data_dir, split=k, **dataset.arguments) for k in range(1, data.num_splits))
        digest = hashlib.blake2b("".join([digest, *map(content_digest, splits)]).encode(), digest_size=16).hexdigest()
    facts = Facts(data.num_nodes, data.num_edges, data.num_splits, data.metric, digest)
    send(("facts", facts))


def content_digest(data: Dataset) -> str:
    """Hash what a dataset holds: edges, edge weights, features, labels and one split."""
    digest = hashlib.blake2b(digest_size=16)
    graph = data.graph
    tensors = [*graph.edges(), graph.ndata["feat"], graph.ndata["label"],
               data.train_ids, data.val_ids, data.test_ids]  # fmt: skip
    if "weight" in graph.edata:
        tensors.append(graph.edata["weight"])
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(memoryview(tensor.contiguous().numpy()).cast("B") if tensor.numel() else b"")
    return digest.hexdigest()


def peaks(device: str) -> dict[str, float]:
    """The columns of results that tell this process's memory so far."""
    on_device = torch.cuda.max_memory_allocated(device) / 1e6 if device.startswith("cuda") else math.nan
    return {"peak_memory_mb": peak_memory_mb(), "peak_device_memory_mb": on_device}


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB of 10^6 bytes; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:
        return math.nan
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
