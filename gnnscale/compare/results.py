"""The rows that a comparison leaves, one a curve point: in a file for each cell, and all together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gnnscale.compare.plan import Cell


@dataclass(frozen=True)
class Column:
    """One column of results.parquet: its type, its meaning and its unit ("" where it has none)."""

    type: pa.DataType
    meaning: str
    unit: str = ""


_SECONDS = "seconds, cumulative since training began, evaluation excluded"

#: The columns of results.parquet, in order; the same text is in the file's own metadata.
COLUMNS: dict[str, Column] = {
    "dataset": Column(pa.string(), "name of the dataset"),
    "model": Column(pa.string(), "name of the model"),
    "sampler": Column(pa.string(), "name of the sampler, with arguments where the name alone is not unique"),
    "seed": Column(pa.int64(), "seed of the weights, the batches and dropout"),
    "epoch": Column(pa.int64(), "epochs done; 0 in the only row of a run that failed before its first point"),
    "train_seconds": Column(pa.float64(), "wall-clock time of training", _SECONDS),
    "sample_seconds": Column(
        pa.float64(), "time spent drawing batches; with workers it overlaps with training", _SECONDS
    ),
    "gather_seconds": Column(
        pa.float64(), "time spent collecting features and labels; with workers it overlaps", _SECONDS
    ),
    "transfer_seconds": Column(
        pa.float64(), "time spent moving batches to the device; with workers it overlaps", _SECONDS
    ),
    "history_seconds": Column(
        pa.float64(), "time that training spent on histories, and on evaluations that refresh them", _SECONDS
    ),
    "compute_seconds": Column(
        pa.float64(), "time spent in the model, the loss and the optimiser, without history", _SECONDS
    ),
    "loss": Column(pa.float64(), "training loss, mean over the epoch's batches"),
    "val": Column(pa.float64(), "metric on the validation nodes, exact", "fraction"),
    "test": Column(pa.float64(), "metric on the test nodes, exact", "fraction"),
    "status": Column(pa.string(), "of the whole run: ok, or in a sentence why it failed"),
    "wait_seconds": Column(pa.float64(), "time in which training waited for a batch", _SECONDS),
    "prepare_seconds": Column(
        pa.float64(), "one-off preparation: graph arrays, partitions, first fill of histories", "seconds"
    ),
    "peak_memory_mb": Column(
        pa.float64(), "peak resident memory of the run's process, libraries and graph included", "10^6 bytes"
    ),
    "metric": Column(pa.string(), "what val and test are: accuracy, roc_auc or micro_f1"),
    "num_nodes": Column(pa.int64(), "nodes of the graph"),
    "num_edges": Column(pa.int64(), "directed edges of the graph"),
    "split": Column(pa.int64(), "number of the split of training, validation and test nodes"),
    "settings": Column(pa.string(), "all settings of the run, defaults included", "JSON"),
    "staleness": Column(
        pa.float64(), "since the history rows that were read had been written, mean over the epoch", "optimiser steps"
    ),
    "staleness_max": Column(pa.float64(), "the largest of these in the epoch", "optimiser steps"),
    "staleness_histogram": Column(
        pa.list_(pa.int64()), "history rows read in the epoch by staleness: 0, 1, 2 to 3, 4 to 7, and so on", "rows"
    ),
    "history_wait_seconds": Column(
        pa.float64(), "the part of history_seconds in which training waited for rows", _SECONDS
    ),
    "history_bytes_pulled": Column(pa.int64(), "history rows read in training steps, as stored, cumulative", "bytes"),
    "history_bytes_pushed": Column(
        pa.int64(), "history rows written in training steps, as stored, cumulative", "bytes"
    ),
    "steps": Column(pa.int64(), "optimiser steps, cumulative"),
    "edges": Column(pa.int64(), "edges that the layers of training added up, cumulative: the work"),
    "evaluation_seconds": Column(
        pa.float64(), "exact evaluation after each epoch, which is not in train_seconds", "seconds, cumulative"
    ),
    "peak_device_memory_mb": Column(
        pa.float64(), "largest memory allocated on the GPU; empty on the CPU", "10^6 bytes"
    ),
    "outcome": Column(pa.string(), "of the whole run: ok, out_of_memory, diverged, timeout, crashed or raised"),
    "stopped": Column(pa.string(), "what ended a run whose outcome is ok: epochs, seconds, patience or target"),
    "started": Column(pa.timestamp("us", tz="UTC"), "when the run began"),
    "machine": Column(
        pa.string(), "versions, commit, CPU, cores, memory, GPU, system, backend and command of the run", "JSON"
    ),
}

#: The columns that files of earlier versions lack; they are empty when such a file is read.
NEWER = ("steps", "edges", "evaluation_seconds", "peak_device_memory_mb", "outcome", "stopped", "started", "machine")

SCHEMA = pa.schema(
    [
        pa.field(name, column.type, metadata={"meaning": column.meaning, "unit": column.unit})
        for name, column in COLUMNS.items()
    ]
)


def cell_frame(cell: Cell, points: list[dict[str, Any]], **run: Any) -> pd.DataFrame:
    """Make the rows of one finished cell: its points, or one row of epoch 0 where it has none.

    Parameters
    ----------
    cell : Cell
    points : list of dict
        The columns of each point of the curve.
    **run
        The columns that the whole run has: ``status``, ``outcome``, ``started`` and so on; those left out are empty.
    """
    frame = pd.DataFrame(points or [{"epoch": 0}]).assign(
        dataset=cell.dataset.label,
        model=cell.model.label,
        sampler=cell.sampler.label,
        seed=cell.seed,
        metric=cell.facts.metric,
        num_nodes=cell.facts.num_nodes,
        num_edges=cell.facts.num_edges,
        split=cell.split,
        settings=json.dumps(cell.settings, sort_keys=True, default=repr),
        **run,
    )
    # Neither lists nor times can be made of the floats that stand for missing ones.
    frame = frame.reindex(columns=list(COLUMNS)).astype({"staleness_histogram": object})
    return frame.assign(started=pd.to_datetime(frame["started"], utc=True))


def write_results(frame: pd.DataFrame, path: Path) -> None:
    """Write rows as parquet with the meaning and unit of each column; it appears whole or not at all."""
    table = pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)
    write_whole(path, lambda temporary: pq.write_table(table, temporary))


def read_results(path: str | Path) -> pd.DataFrame:
    """Read the results of a comparison.

    Parameters
    ----------
    path : str or Path
        The folder of a comparison, its results.parquet, or the file of one cell. In a folder whose comparison has
        not come to its end, the cells that are finished so far are read.

    Returns
    -------
    pandas.DataFrame
        One row a curve point, with the columns of :data:`COLUMNS`; empty values for those of :data:`NEWER` in a file
        of an earlier version.

    Raises
    ------
    FileNotFoundError
        There is no such file, or the folder has no results.
    ValueError
        The file is damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_dir():
        return _read_file(path)
    whole = path / "results.parquet"
    # Files that are being written begin with a dot.
    cells = [file for file in sorted((path / "cells").glob("*.parquet")) if not file.name.startswith(".")]
    if not cells or (whole.exists() and whole.stat().st_mtime >= max(file.stat().st_mtime for file in cells)):
        return _read_file(whole)
    from gnnscale.compare.merge import merge  # which reads results

    return merge([concatenate(map(_read_file, cells))])


def _read_file(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"there are no results at {str(path)!r}; `gnnscale compare` writes them.")
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition(". ")[0]
        raise ValueError(
            f"{path} cannot be read as parquet ({reason}); give a folder that `gnnscale compare` left, or, if this "
            "is a damaged file of one, delete it and compare again."
        ) from None
    missing = [name for name in COLUMNS if name not in table.schema.names]
    if foreign := [name for name in missing if name not in NEWER]:
        raise ValueError(f"{path} lacks the columns {', '.join(foreign)}; delete it and compare again.")
    for name in missing:
        table = table.append_column(name, pa.nulls(len(table), COLUMNS[name].type))
    try:
        table = table.select(list(COLUMNS)).cast(SCHEMA)
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} has a column of another type ({reason}); delete it and compare again.") from None
    rows = table.to_pandas()
    for name in ("dataset", "model", "sampler", "seed", "epoch", "status", "settings"):
        if rows[name].isna().any():
            raise ValueError(f"{path} has empty values in the column {name}; delete it and compare again.")
    for name in ("settings", "machine"):
        for text in rows[name].dropna().unique():
            try:
                json.loads(text)
            except ValueError:
                raise ValueError(f"{path} has no JSON in the column {name}; delete it and compare again.") from None
    return rows


def read_cell(cell: Cell, folder: Path) -> pd.DataFrame | None:
    """Read a cell that was finished earlier, under the names it has now; None where it was not."""
    path = folder / f"{cell.file_name}.parquet"
    if not path.exists():
        return None
    return read_results(path).assign(dataset=cell.dataset.label, model=cell.model.label, sampler=cell.sampler.label)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in its place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unlike those of other processes, which may be on another machine with the same folder.
    temporary = path.with_name(f".{path.stem}-{uuid4().hex[:12]}{path.suffix}")
    try:
        write(temporary)
        # Otherwise a loss of power may leave an empty file under the final name.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def concatenate(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Put the rows of cells together, in order."""
    return pa.concat_tables(
        [pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False) for frame in frames]
    ).to_pandas()
