"""What the benchmarks gave: the file, the targets, and the table in ``docs/performance.md``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from measure import OURS

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- table: written by experiments/speed/run.py -->", "<!-- end of the table -->"


@dataclass(frozen=True)
class Target:
    """What is aimed at: so many times as fast as ``who``, or at most so much (``limit``) where ``who`` is gnnscale.

    ``case`` is the beginning of the case's name, and ``end`` what it ends with.
    """

    work: str
    who: str
    times: float = math.nan
    limit: float = math.nan
    case: str = ""
    end: str = ""


TARGETS = (
    Target("neighbour sampling", "DGL", times=4),
    Target("samplers", "DGL calls", times=4),
    Target("samplers", "DGL", times=4, case="GraphSAINT"),
    Target("samplers", "DGL", times=4, case="Cluster-GCN"),
    Target("samplers", "DGL", times=4, case="100,000 walks"),
    Target("weighted aggregation", "DGL u_mul_e_sum", times=8, case="forward and backward", end="backward"),
    Target("weighted aggregation", "DGL copy_u_sum (no weights)", times=1.5, case="forward and backward"),
    Target("row gather", "index_select, fresh output", times=3),
    Target("row gather", "index_select, out=", times=1),
    Target("row gather", "copy of as many bytes", times=0.5),
    Target("GAS epoch, large", "PyGAS", times=3),
    Target("GAS epoch, small", "PyGAS", times=4, end="Cora"),
    Target("GAS epoch, small", "PyGAS", times=4, end="CiteSeer"),
    Target("epoch on a graph of Reddit's size", "DGL", times=2, case="GraphSAGE"),
    Target("epoch on a graph of Reddit's size", OURS, limit=10, case="share of sampling"),
    Target("R-MAT", OURS, limit=8, case="5,000,000", end="% of the nodes, memory"),
)


def target_of(work: str, case: str, who: str) -> Target | None:
    for target in TARGETS:
        if (target.work, target.who) == (work, who) and case.startswith(target.case) and case.endswith(target.end):
            return target
    return None


def write(path: Path, machine: str, lines: pd.DataFrame) -> None:
    """The results as a CSV file whose first line describes the machine."""
    text = StringIO()
    with_ratios(lines).to_csv(text, index=False, float_format="%.5g")
    path.write_text(f"# {machine}\n{text.getvalue()}")


def read(path: Path) -> tuple[str, pd.DataFrame]:
    """The machine, and the results."""
    first, _, rest = path.read_text().partition("\n")
    return first.removeprefix("# "), pd.read_csv(
        StringIO(rest), keep_default_na=False, na_values={"value": [""], "ratio": [""]}
    )


def with_ratios(lines: pd.DataFrame) -> pd.DataFrame:
    """How many times as long each one takes as gnnscale does, where both are seconds."""
    ours = lines[(lines.who == OURS) & (lines.unit == "s")].set_index(["work", "case"]).value.to_dict()
    ratio = [
        row.value / ours.get((row.work, row.case), math.nan) if row.unit == "s" and row.who != OURS else math.nan
        for row in lines.itertuples()
    ]
    return lines.assign(ratio=ratio)


def is_met(row: Any) -> bool | None:
    """Whether a result reaches its target; None where it has none, or is missing."""
    target = target_of(row.work, row.case, row.who)
    if target is None or math.isnan(row.value):
        return None
    if not math.isnan(target.limit):
        return row.value <= target.limit
    return None if math.isnan(row.ratio) else row.ratio >= target.times


def table(machine: str, lines: pd.DataFrame) -> str:
    """The results in Markdown: a line for each way that gnnscale was measured beside."""
    head = ["work", "case", "gnnscale", "beside", "its median", "gnnscale is so many times as fast", "target", ""]
    text = [f"*{machine}*", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    work_before = None
    for (work, case), group in lines.groupby(["work", "case"], sort=False):
        ours, others = group[group.who == OURS], group[group.who != OURS]
        mine = median_of(ours.iloc[0]) if len(ours) else ""
        named = [work if work != work_before else "", case, mine]
        beside = [
            [row.who, median_of(row), times(row), *target_and_met(row)]
            for row in others.itertuples()
            if not row.who.startswith(OURS) or row.unit == "s"
        ]
        own = target_and_met(ours.iloc[0]) if len(ours) else ("", "")
        if any(own) or not beside:
            beside.insert(0, ["", "", "", *own])
        for cells in beside:
            text.append(f"| {' | '.join([*named, *cells])} |")
            named = ["", "", ""]
        work_before = work
    return "\n".join(text) + "\n"


def median_of(row: Any) -> str:
    """The median and the note."""
    if math.isnan(row.value):
        return row.note
    return f"{quantity(row.value, row.unit)}{f', {row.note}' if row.note else ''}"


def times(row: Any) -> str:
    """How many times as fast gnnscale is; nothing beside another way of gnnscale's."""
    if math.isnan(row.ratio) or row.who.startswith(OURS):
        return ""
    return f"**{row.ratio:.{2 if row.ratio < 10 else 1 if row.ratio < 99 else 0}f}**"


def target_and_met(row: Any) -> tuple[str, str]:
    target = target_of(row.work, row.case, row.who)
    if target is None:
        return "", ""
    wanted = f"{target.times:g}" if math.isnan(target.limit) else f"at most {target.limit:g} {row.unit}"
    return wanted, {None: "", True: "met", False: "missed"}[is_met(row)]


def quantity(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:.3g} {unit}"
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def update_page(page: Path, text: str) -> None:
    """Put the table between its marks."""
    whole = page.read_text()
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def table_of(page: Path) -> str:
    """The table as it stands on the page."""
    return page.read_text().partition(BEGIN)[2].partition(END)[0].removeprefix("\n")
