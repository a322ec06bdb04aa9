"""What cannot work, said before anything runs: settings against each other, models and samplers against both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from gnnscale.batch import logits_of
from gnnscale.compare.build import build_model_of, build_sampler
from gnnscale.compare.endings import describe
from gnnscale.compare.plan import Choice, Combination
from gnnscale.compare.source import Places
from gnnscale.graphed import check_graphs
from gnnscale.loader import DataLoader
from gnnscale.plugins import find_sampler
from gnnscale.samplers import SAMPLERS, unknown_arguments
from gnnscale.testing.graphs import NUM_NODES, plain, train_ids
from gnnscale.training import default_batch_size, parameter_groups

_FEATURES, _CLASSES = 4, 3
_MANY_NODES = 2**62


def impossible(combinations: Iterable[Combination], budget: dict[str, Any], places: Places) -> Iterator[str]:
    """A sentence, with its place, for each thing that cannot work whatever the data are.

    Samplers in files and of packages are left out: their code runs in the processes of cells alone.

    Parameters
    ----------
    combinations : iterable of Combination
        Of valid settings each by itself.
    budget : dict
        The settings of :data:`~gnnscale.compare.settings.BUDGET`.
    places : Places
        Where the budget was given.
    """
    for combination in combinations:
        yield from _never_stops(combination, budget, places)
        yield from _no_device(combination)
        if combination.sampler.name in SAMPLERS:
            problems = list(cannot_be_built(combination, _FEATURES, _CLASSES, _MANY_NODES))
            yield from problems or _refused(combination)


def _never_stops(combination: Combination, budget: dict[str, Any], places: Places) -> Iterator[str]:
    """Rules that can never end a run, since another does before."""
    training = combination.training
    patience, epochs = training["patience"], training["epochs"]
    if patience is not None and patience >= epochs:
        yield (f"{combination.places['patience']}patience is {patience} and epochs {epochs}, so that patience can "
               "never end a run; make it smaller, raise epochs, or leave it out.")  # fmt: skip
    seconds, all_seconds = training["max_seconds"], budget["cell_seconds"]
    if seconds is not None and all_seconds is not None and seconds >= all_seconds:
        yield (f"{combination.places['max_seconds']}max_seconds is {seconds} and cell_seconds {all_seconds} "
               f"({places.of('budget', 'cell_seconds').rstrip(': ')}), so that a run times out before it ends; "
               "raise cell_seconds, or leave one out.")  # fmt: skip


def _no_device(combination: Combination) -> Iterator[str]:
    device = combination.training["device"]
    if not device.startswith("cuda"):
        return
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not there:
        has = f"torch {torch.__version__} finds no CUDA GPU here; use device 'cpu', or install a CUDA build of torch."
    elif int(device.partition(":")[2] or 0) >= there:
        has = f"this machine has {there} GPU{'s' * (there > 1)}, from 'cuda:0' on."
    else:
        return
    yield f"{combination.places['device']}device is {device!r}, but {has}"


def cannot_be_built(combination: Combination, in_size: int, out_size: int, num_nodes: int) -> Iterator[str]:
    """A sentence, with its place, for each of a model and a sampler that cannot be built, or not with these settings.

    Parameters
    ----------
    combination : Combination
    in_size, out_size : int
        Features and classes of the data.
    num_nodes : int
        Nodes of the graph that training sees.
    """
    model, sampler, training = combination.model, combination.sampler, combination.training
    if reason := _model_problem(_Named(model), in_size, out_size, training["rest_weight_decay"]):
        text = f"model {model.label}: {reason}"
        yield combination.place_of(model, text) + text
    try:
        for name in sorted(combination.own):
            if name.startswith("history_") and not getattr(find_sampler(sampler.name), "keeps_history", False):
                text = f"sampler {sampler.label}: {name} means nothing to it: it keeps no histories; leave it out."
                yield combination.place_of(sampler, text) + text
        unknown = dict(unknown_arguments(sampler.name, sampler.arguments))
        for text in unknown.values():
            yield combination.place_of(sampler, text) + text
        known = {name: value for name, value in sampler.arguments.items() if name not in unknown}
        built = build_sampler(replace(sampler, arguments=known), model, num_nodes)
        if (placement := training["graph_placement"]) != "host":
            draws = getattr(built, "draws_on_gpu", False)
            if not draws or training["device"] == "cpu":
                needs = "it needs device 'cuda'" if draws else "the CPU draws it; leave that out for it"
                text = f"sampler {sampler.label}: graph_placement is {placement!r}, but {needs}."
                yield combination.place_of(sampler, text) + text
        place, keeps = training["history_placement"], getattr(built, "keeps_history", False)
        lacks = {"device": training["device"] == "cpu", "pinned": not torch.cuda.is_available()}
        if keeps and lacks.get(place):
            needs = "device 'cuda'" if place == "device" else "a GPU, and torch finds none"
            text = f"sampler {sampler.label}: history_placement is {place!r}, but it needs {needs}."
            yield combination.place_of(sampler, text) + text
        if training["cuda_graph"]:
            batch_size = training["batch_size"] or default_batch_size(built) or num_nodes
            check_graphs(built, torch.device(training["device"]), batch_size, shuffle=True)
    except (ValueError, TypeError) as error:
        text = describe(error)
        text = text if sampler.short_name in text else f"sampler {sampler.label}: {text}"
        yield combination.place_of(sampler, text) + text


def _refused(combination: Combination) -> Iterator[str]:
    """What the layers of a sampler's batches refuse of a model, such as a control variate under attention."""
    model, sampler = combination.model, combination.sampler
    if getattr(SAMPLERS[sampler.name], "needs_norm", False) and (refusal := _refusal(_Named(model, sampler))):
        yield f"{sampler.place}model {model.label} does not go with sampler {sampler.label}: {refusal}"


class _Named:
    """Choices that are the same as others of the same names and arguments, which are then looked at once."""

    def __init__(self, *choices: Choice) -> None:
        self.choices = choices
        self.text = repr([(choice.name, sorted(choice.arguments.items())) for choice in choices])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@lru_cache(maxsize=1024)
def _model_problem(named: _Named, in_size: int, out_size: int, rest_weight_decay: float) -> str:
    """Why a model of these sizes cannot be built or trained; empty where it can."""
    try:
        with torch.device("meta"):  # no memory, and no random numbers
            built = build_model_of(named.choices[0], in_size, out_size)
        parameter_groups(built, 0.0, rest_weight_decay)
    except (ValueError, TypeError) as error:
        return describe(error)
    return ""


@lru_cache(maxsize=1024)
def _refusal(named: _Named) -> str:
    """What a model says to a batch of the sampler on a graph of a few nodes; empty where it goes well."""
    model, sampler = named.choices
    with torch.random.fork_rng(devices=[]):
        try:
            loader = DataLoader(plain(), train_ids(), build_sampler(sampler, model, NUM_NODES), batch_size=4)
            built, batch = build_model_of(model, _FEATURES, _CLASSES), next(iter(loader))
        except Exception:  # of arguments that are meant for a larger graph
            return ""
        try:
            logits_of(built, batch, batch.x)
        except (ValueError, TypeError) as error:
            return describe(error)
    return ""
