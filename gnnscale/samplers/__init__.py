"""Samplers: how a mini-batch is formed."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from gnnscale.checks import is_whole
from gnnscale.samplers.asgcn import ASGCNSampler
from gnnscale.samplers.base import Sample, Sampler
from gnnscale.samplers.cluster import ClusterGCNSampler
from gnnscale.samplers.full import FullSampler
from gnnscale.samplers.gas import GASSampler
from gnnscale.samplers.graphfm import GraphFMSampler
from gnnscale.samplers.labor import LaborSampler
from gnnscale.samplers.layerwise import FastGCNSampler, LADIESSampler
from gnnscale.samplers.lmc import LMCSampler
from gnnscale.samplers.mvs import MVSSampler
from gnnscale.samplers.neighbor import NeighborSampler
from gnnscale.samplers.pinsage import PinSAGESampler, PPRSampler
from gnnscale.samplers.ripple import RippleWalkSampler
from gnnscale.samplers.saint import SAINTSampler
from gnnscale.samplers.shadow import ShaDowPPRSampler, ShaDowSampler
from gnnscale.samplers.vrgcn import VRGCNSampler

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "full": FullSampler,
    "neighbor": NeighborSampler,
    "labor": LaborSampler,
    "mvs": MVSSampler,
    "fastgcn": FastGCNSampler,
    "ladies": LADIESSampler,
    "asgcn": ASGCNSampler,
    "pinsage": PinSAGESampler,
    "ppr": PPRSampler,
    "saint-node": partial(SAINTSampler, "node"),
    "saint-edge": partial(SAINTSampler, "edge"),
    "saint-walk": partial(SAINTSampler, "walk"),
    "shadow": ShaDowSampler,
    "shadow-ppr": ShaDowPPRSampler,
    "ripple": RippleWalkSampler,
    "cluster": ClusterGCNSampler,
    "vrgcn": VRGCNSampler,
    "gas": GASSampler,
    "lmc": LMCSampler,
    "graphfm": GraphFMSampler,
}
"""The samplers by the names that comparisons use."""

__all__ = [
    "SAMPLERS",
    "ASGCNSampler",
    "ClusterGCNSampler",
    "FastGCNSampler",
    "FullSampler",
    "GASSampler",
    "GraphFMSampler",
    "LADIESSampler",
    "LMCSampler",
    "LaborSampler",
    "MVSSampler",
    "NeighborSampler",
    "PPRSampler",
    "PinSAGESampler",
    "RippleWalkSampler",
    "SAINTSampler",
    "Sample",
    "Sampler",
    "ShaDowPPRSampler",
    "ShaDowSampler",
    "VRGCNSampler",
    "make_sampler",
]


def make_sampler(name: str, /, *, num_layers: int, num_nodes: int, **arguments: Any) -> Any:
    """A sampler by name, with defaults that suit the model and the graph.

    Parameters
    ----------
    name : str
        A key of :data:`SAMPLERS`, a class in a file, ``my_sampler.py:MySampler``, or the name under which an
        installed package offers one.
    num_layers : int
        Layers of the model: ``neighbor`` draws 10 neighbours in each unless told otherwise, and a constructor with
        an argument ``num_layers`` gets it.
    num_nodes : int
        Nodes of the graph: the default of 40 parts becomes fewer on a graph with fewer nodes.
    **arguments
        Of the sampler's constructor.

    Raises
    ------
    ValueError
        For an unknown name or argument, one that is missing, or values that do not fit the model or the graph.

    Examples
    --------
    >>> from gnnscale.samplers import make_sampler
    >>> make_sampler("neighbor", num_layers=3, num_nodes=1000)
    NeighborSampler(fanouts=[10, 10, 10])
    """
    from gnnscale.plugins import find_sampler  # which looks names up in this module

    cls = find_sampler(name)
    for _, sentence in unknown_arguments(name, arguments):
        raise ValueError(sentence)
    taken = _parameters(cls)
    known = [parameter for parameter in taken if parameter != "num_layers"]
    per_layer = getattr(cls, "default_per_layer", None)
    if per_layer is not None:
        arguments.setdefault(known[0], [per_layer] * num_layers)
    if "num_layers" in taken:
        arguments.setdefault("num_layers", num_layers)
    num_parts = arguments.get("num_parts", taken["num_parts"].default if "num_parts" in taken else None)
    if is_whole(num_parts) and num_parts > num_nodes:
        if "num_parts" in arguments:
            raise ValueError(
                f"sampler {name!r}: num_parts={num_parts} is more than the graph's {num_nodes} nodes; "
                f"use at most {num_nodes}"
            )
        arguments["num_parts"] = num_nodes
    missing = [p.name for p in taken.values() if p.default is p.empty and p.name not in arguments]
    if missing:
        example = f"{name}({', '.join(f'{argument}=...' for argument in missing)})"
        raise ValueError(f"sampler {name!r} has to be given {' and '.join(missing)}; write {example}")
    try:
        sampler = cls(**arguments)
    except (ValueError, TypeError):
        raise
    except Exception as error:
        raise ValueError(f"sampler {name!r} cannot be made: {type(error).__name__}: {error}") from error
    drawn = getattr(sampler, "num_layers", None)
    if drawn is not None and drawn != num_layers:
        example = f"; give one number a layer, such as {known[0]}={[per_layer] * num_layers}" if per_layer else ""
        raise ValueError(f"sampler {name!r}: {sampler} draws {drawn} layers and the model has {num_layers}{example}")
    return sampler


def unknown_arguments(name: str, arguments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Arguments that a sampler's constructor does not take, each with a sentence.

    Parameters
    ----------
    name : str
        As for :func:`make_sampler`.
    arguments : iterable of str

    Examples
    --------
    >>> list(unknown_arguments("gas", ["num_part", "refresh"]))[0][1]
    "sampler 'gas' has no argument 'num_part', did you mean 'num_parts'? It takes num_parts, partition, refresh"
    """
    from gnnscale.plugins import find_sampler

    cls = find_sampler(name)
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values()):
        return
    taken = _parameters(cls)
    known = [parameter for parameter in taken if parameter != "num_layers"]
    takes = f"t takes {', '.join(known) or 'none'}"
    for argument in arguments:
        if argument not in taken:
            near = difflib.get_close_matches(argument, known, n=1)
            hint = f", did you mean {near[0]!r}? I{takes}" if near else f"; i{takes}"
            yield argument, f"sampler {name!r} has no argument {argument!r}{hint}"


def _parameters(cls: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a constructor can be given by name."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
