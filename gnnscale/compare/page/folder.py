"""What the page takes from the folder of a comparison: figures, the logs of failed cells, the specification."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd

from gnnscale.compare.plan import cell_hash
from gnnscale.compare.summary import RUN

#: Bytes of figures that are taken into the page; those over it are named, and lie beside the page.
FIGURE_BYTES = 4_000_000

#: How much of a log is shown.
LOG_LINES, LOG_CHARACTERS = 15, 3_000

_KINDS = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}


def figures(folder: Path, limit: int = FIGURE_BYTES) -> list[dict[str, Any]]:
    """List the figures of a folder, each with its files as data URIs as far as they fit, pictures first."""
    found: dict[str, dict[str, str | None]] = {}
    for kind, media in _KINDS.items():
        for path in sorted(folder.glob(f"*.{kind}")):
            size = path.stat().st_size
            uri = None
            if size <= limit:
                limit -= size
                uri = f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode()}"
            found.setdefault(path.stem, {})[kind] = uri
    return [{"name": name, "files": files} for name, files in sorted(found.items())]


def failures(results: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """List the runs that failed, those that failed alike once with all their seeds, and the end of a log."""
    runs = results.drop_duplicates(RUN)
    if "outcome" not in runs:
        runs = runs.assign(outcome=None)
    failed = runs[runs["status"] != "ok"].fillna({"outcome": "failed"})
    return [
        dict(zip(["dataset", "model", "sampler", "outcome", "reason"], map(str, names), strict=True))
        | {"seeds": alike["seed"].astype(int).tolist(), "log": _first_log(alike["settings"], folder)}
        for names, alike in failed.assign(status=failed["status"].str.removeprefix("failed: ")).groupby(
            ["dataset", "model", "sampler", "outcome", "status"], sort=False
        )
    ]


def _first_log(settings: pd.Series, folder: Path) -> str:
    return next((log for text in settings if (log := log_tail(text, folder))), "")


def log_tail(settings: str, folder: Path) -> str:
    """The last lines of the log of the cell with these settings, or nothing where there is no log."""
    for path in (folder / "cells").glob(f"*-{cell_hash(json.loads(settings))}.log"):
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        return "\n".join(lines[-LOG_LINES:])[-LOG_CHARACTERS:]
    return ""


def specification(folder: Path) -> str:
    """The text of specification.toml, or nothing where there is none."""
    path = folder / "specification.toml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
