"""How samplers look in every figure and on the page: a colour, a line and a marker each, always the same."""

from __future__ import annotations

from typing import Any

METRIC_NAMES = {"accuracy": "accuracy", "roc_auc": "ROC AUC", "micro_f1": "micro-F1"}

# A family of samplers has a hue of Okabe and Ito's palette, whose hues colour-blind readers tell apart, and its members
# have shades of it. In grey, and within a family, line and marker tell: no two samplers have both in common.
_COLOURS = {
    "full": "#000000",
    "neighbor": "#0072B2", "cluster": "#D55E00", "gas": "#CC79A7",
    "labor": "#56B4E9", "mvs": "#1B3F73",
    "fastgcn": "#8C5A00", "ladies": "#E69F00", "asgcn": "#C9B400",
    "pinsage": "#7FB800", "ppr": "#4D7A00", "saint-node": "#45C49A", "saint-edge": "#005C43", "saint-walk": "#009E73",
    "shadow": "#86BFA9", "shadow-ppr": "#1D9AA8", "ripple": "#6B6B2A",
    "vrgcn": "#7B52AB", "lmc": "#882255", "graphfm": "#E8579F",
}  # fmt: skip
_HUES = ("#D55E00", "#009E73", "#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#666666", "#882255")
_MARKERS = "os^DvPX*<>phdH8"
_LINES: list[Any] = ["-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (10, 3)), (0, (3, 1, 1, 1)),
                     (0, (1, 3))]  # fmt: skip

#: Styles for samplers of one's own, and for a sampler with several settings.
_MORE = 64


def _style(place: int, colour: str) -> dict[str, Any]:
    # 8 lines and 15 markers: a pair comes again after 120.
    return {"color": colour, "linestyle": _LINES[place % len(_LINES)], "marker": _MARKERS[place % len(_MARKERS)]}


_OWN = {name: _style(place, colour) for place, (name, colour) in enumerate(_COLOURS.items())}
_FREE = [_style(len(_OWN) + i, _HUES[(i + i // len(_HUES)) % len(_HUES)]) for i in range(_MORE)]


def styles(samplers: list[str]) -> dict[str, dict[str, Any]]:
    """Give each sampler its style; those of one's own, and further settings of one sampler, take what is left.

    Parameters
    ----------
    samplers : list of str
        Names as in results, in any order.

    Returns
    -------
    dict of str to dict
        By name: ``color`` as ``#RRGGBB``, ``linestyle`` and ``marker`` in matplotlib's words.

    Examples
    --------
    >>> styles(["gas", "full"])["full"]
    {'color': '#000000', 'linestyle': '-', 'marker': 'o'}
    """
    chosen = {name: _OWN[name] for name in samplers if name in _OWN}
    others = sorted(set(samplers) - set(chosen))
    for name in others:
        own = _OWN.get(name.partition("(")[0])
        if own is not None and own not in chosen.values():
            chosen[name] = own
    for name in others:
        if name not in chosen:
            used = {style["color"] for style in chosen.values()}
            left = [style for style in _FREE if style not in chosen.values()] or _FREE
            chosen[name] = next((style for style in left if style["color"] not in used), left[0])
    return {name: chosen[name] for name in samplers}


def dashes(style: dict[str, Any]) -> list[float]:
    """The lengths of a style's dashes and gaps in widths of the line; none for a solid line.

    Examples
    --------
    >>> dashes({"linestyle": "-"}), dashes({"linestyle": (0, (1, 1))})
    ([], [1.0, 1.0])
    """
    named = {"-": (), "--": (3.7, 1.6), "-.": (6.4, 1.6, 1.0, 1.6)}
    line = style["linestyle"]
    return [float(length) for length in (named[line] if isinstance(line, str) else line[1])]
