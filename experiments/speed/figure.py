"""The results as bars: how many times as fast gnnscale is, with the target of each; and R-MAT's time by size."""

from __future__ import annotations

import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from measure import OURS
from results import target_of

HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "oo")


def draw_bars(lines: pd.DataFrame, path: Path) -> None:
    """Horizontal bars, one for each work, case and peer, on a logarithmic axis."""
    shown = lines[lines.ratio.notna() & ~lines.who.str.startswith(OURS)][::-1].reset_index(drop=True)
    if shown.empty:
        return
    peers = sorted({family(who) for who in shown.who})
    style = {
        peer: (HATCHES[i % len(HATCHES)], plt.get_cmap("Greys")(0.25 + 0.5 * i / max(1, len(peers) - 1)))
        for i, peer in enumerate(peers)
    }
    fig, ax = plt.subplots(figsize=(7, 1 + 0.19 * len(shown)))
    for position, row in shown.iterrows():
        hatch, colour = style[family(row.who)]
        ax.barh(position, row.ratio, height=0.72, hatch=hatch, color=colour, edgecolor="black", linewidth=0.5)
        ends = row.ratio
        target = target_of(row.work, row.case, row.who)
        if target is not None and not math.isnan(target.times):
            ax.plot([target.times] * 2, [position - 0.42, position + 0.42], color="black", linewidth=2.5)
            # The number stands behind both, so that neither hides it.
            ends = max(ends, target.times * 1.03)
        ax.text(ends * 1.05, position, f"{row.ratio:.1f}", va="center", fontsize=7)
    labels = [f"{row.work}, {row.case}: {row.who}" for row in shown.itertuples()]
    ax.set_yticks(range(len(shown)), labels, fontsize=7)
    ax.set_xscale("log")
    ax.set_xlim(left=min(0.4, shown.ratio.min() * 0.8), right=shown.ratio.max() * 1.8)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.tick_params(axis="x", labelsize=7)
    ax.axvline(1, color="black", linewidth=0.8, linestyle=":")
    ax.set_xlabel("gnnscale is so many times as fast (thick mark: the target)", fontsize=8, loc="right")
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    save(fig, path)


def family(who: str) -> str:
    """Whose code it is."""
    return re.split(r"[ ,]", who)[0]


def draw_scale(lines: pd.DataFrame, path: Path) -> None:
    """Seconds of an R-MAT epoch by the number of nodes, beside a straight line."""
    pattern = r"^([\d,]+) nodes.*: (epoch over \d+ % of the nodes)$"
    found = lines[(lines.work == "R-MAT") & lines.value.notna()]
    found = found.assign(match=[re.match(pattern, case) for case in found.case])
    found = found[found.match.notna()]
    if found.empty:
        return
    fig, ax = plt.subplots(figsize=(6, 4))
    for marker, (name, points) in zip("os^", found.groupby([match[2] for match in found.match]), strict=False):
        nodes = [int(match[1].replace(",", "")) for match in points.match]
        seconds = points.value.tolist()
        ax.plot(nodes, seconds, marker=marker, color="black", label=name)
        ax.plot(nodes, [seconds[-1] * n / nodes[-1] for n in nodes], linestyle=":", color="grey")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("nodes (50 edges each); dotted: in proportion to the largest")
    ax.set_ylabel("seconds an epoch")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    save(fig, path)


def save(fig: plt.Figure, path: Path) -> None:
    for suffix in (".png", ".svg"):
        fig.savefig(path.with_suffix(suffix), dpi=200, metadata={"Date": None} if suffix == ".svg" else None)
    plt.close(fig)
