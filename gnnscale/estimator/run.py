"""Measures the samplers of a command line on one dataset and model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gnnscale.compare.build import build_model
from gnnscale.compare.endings import describe
from gnnscale.compare.settings import PER_SAMPLER
from gnnscale.compare.specification import Specification, SpecificationError, read_specification
from gnnscale.data import load
from gnnscale.estimator.measure import Measurement, Trajectory, measure
from gnnscale.estimator.report import draw_cost, draw_staleness, to_frame
from gnnscale.samplers import make_sampler


def read_request(flags: Mapping[str, Any], draws: int, staleness: str) -> tuple[Specification, list[int]]:
    """What to measure: a comparison of one dataset and one model, and the ages of histories.

    Raises
    ------
    SpecificationError
        Listing everything that is wrong.
    """
    problems = []
    ages = [part.strip() for part in staleness.split(",")]
    if not all(age.isdecimal() for age in ages):
        problems.append(f"staleness is {staleness!r}; it must be whole numbers from 0 up, such as 0,1,5.")
    elif any(int(age) > int(flags["epochs"]) for age in ages):
        problems.append(
            f"staleness is {staleness!r}, and the model has {flags['epochs']} steps behind it; raise epochs, "
            "or ask for younger histories."
        )
    if draws < 2:
        problems.append(f"draws is {draws}; it must be a whole number from 2 up.")
    try:
        specification = read_specification(None, flags)
    except SpecificationError as error:
        raise SpecificationError([*error.problems, *problems]) from None
    if flags.get("out") is None:
        specification = replace(specification, out=Path("runs") / f"estimator-{specification.datasets[0].label}")
    for kind, choices in (("dataset", specification.datasets), ("model", specification.models)):
        if len(choices) != 1:
            problems.append(f"{len(choices)} {kind}s are given; this command takes one.")
    if problems:
        raise SpecificationError(problems)
    return specification, sorted({int(age) for age in ages})


def run(
    specification: Specification,
    draws: int,
    ages: list[int],
    on_progress: Callable[[str, int, int], None] = lambda sampler, done, total: None,
) -> tuple[pd.DataFrame, list[Path], dict[str, str]]:
    """Measure every sampler, and write ``estimator.csv`` and the figures into the output folder.

    Parameters
    ----------
    specification : Specification
        As :func:`read_request` makes it.
    draws : int
        Batches a sampler.
    ages : list of int
        Ages of histories, in steps.
    on_progress : callable
        Called with the sampler's name and how many batches of how many have been measured.

    Returns
    -------
    tuple
        The measurements, the files written, and why samplers failed, by name.

    Raises
    ------
    SpecificationError
        If a sampler does not fit the model or the graph: before anything is measured. Also if all of them fail.
    """
    training = specification.training
    if specification.budget["threads"] is not None:
        torch.set_num_threads(specification.budget["threads"])
    dataset, model_choice = specification.datasets[0], specification.models[0]
    data = load(dataset.name, specification.data_dir, **dataset.arguments)
    layers = model_choice.arguments["layers"]
    samplers, problems = {}, []
    for choice in specification.samplers:
        own = {name: value for name, value in choice.arguments.items() if name not in PER_SAMPLER}
        try:
            made = make_sampler(choice.name, num_layers=layers, num_nodes=data.num_nodes, **own)
            samplers[choice.label] = (made, choice.arguments.get("batch_size", training["batch_size"]))
        except (ValueError, TypeError) as error:
            problems.append(f"sampler {choice.label}: {error}")
    if problems:
        raise SpecificationError(problems)
    seed = specification.seeds[0]
    torch.manual_seed(seed)
    trajectory = Trajectory(
        build_model(model_choice, data), data, training["epochs"], max(ages),
        lr=training["lr"], weight_decay=training["weight_decay"], device=training["device"],
    )  # fmt: skip
    measured: dict[str, list[Measurement]] = {}
    failed: dict[str, str] = {}
    for label, (sampler, batch_size) in samplers.items():
        total = draws * (len(ages) if getattr(sampler, "keeps_history", False) else 1)
        counter = iter(range(1, total + 1))
        try:
            measured[label] = measure(
                trajectory, sampler, num_layers=layers, batch_size=batch_size, draws=draws, staleness=ages, seed=seed,
                on_draw=lambda: on_progress(label, next(counter), total),  # noqa: B023
            )  # fmt: skip
        except Exception as error:
            # Of whatever kind: a sampler of the user's may raise anything, and the others are to be measured.
            failed[label] = describe(error)
    if not measured:
        raise SpecificationError(f"sampler {label}: {reason}" for label, reason in failed.items())
    frame = to_frame(measured)
    out = specification.out
    out.mkdir(parents=True, exist_ok=True)
    title = (
        f"{dataset.label}, {model_choice.label}: {data.num_nodes:,} nodes, {data.num_edges:,} edges, {draws} batches"
    )
    files = [out / "estimator.csv", out / "error_vs_cost.png"]
    frame.to_csv(files[0], index=False)
    draw_cost(frame, files[1], title)
    if draw_staleness(frame, out / "error_vs_staleness.png", title):
        files.append(out / "error_vs_staleness.png")
    return frame, files, failed
