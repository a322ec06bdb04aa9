"""Puts the template, its style, its scripts and the data of a comparison into one file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from gnnscale.compare.page.content import content
from gnnscale.compare.results import write_whole

_PARTS = Path(__file__).parent


def write_page(
    results: pd.DataFrame, folder: str | Path, *, target: float | None = None, count_preparation: bool = False
) -> Path:
    """Write ``report.html`` into the folder of a comparison.

    The figures, logs and the specification that lie in the folder are taken into the page; it needs no network.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.
    folder : str or Path
        Folder of the comparison. Figures are to be drawn before.
    target : float, optional
        Validation metric, a fraction, that time to target is measured at; by default the runs' own setting.
    count_preparation : bool
        Whether curves begin, and time to target is counted, with the one-off preparation. The page can
        switch the curves.

    Returns
    -------
    Path
        The file, which appears whole or not at all.
    """
    from plotly.offline import get_plotlyjs

    folder = Path(folder)
    data = content(results, folder, target=target, count_preparation=count_preparation)
    page = fill(data, get_plotlyjs())
    path = folder / "report.html"
    write_whole(path, partial(_write, page))
    return path


def _write(page: str, path: Path) -> None:
    path.write_bytes(page.encode())


def fill(data: dict[str, Any], plotly: str) -> str:
    """Make the page: no text of the data can end the element that it stands in, and no script but these two runs.

    The policy in the page's head lists the two scripts by their hashes and allows no connection at all.
    """
    scripts = {"plotly": plotly, "script": _part("js")}
    parts = {
        "title": html.escape(data["title"]),
        "policy": " ".join(f"'sha256-{_hash(text)}'" for text in scripts.values()),
        "style": _part("css"),
        "content": _json(data),
        **scripts,
    }
    # In one pass, so that a text which looks like a mark is left as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _part("html"))


def _part(ending: str) -> str:
    return (_PARTS / f"report.{ending}").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(data: dict[str, Any]) -> str:
    """JSON in which nothing can be taken for a tag or a comment, whatever the strings hold."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
