"""``gnnscale tune`` from the file to the trials."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from gnnscale.compare.jobs import share_cores
from gnnscale.compare.plan import Facts
from gnnscale.compare.runner import check, run_cells
from gnnscale.compare.search import Search, read_search
from gnnscale.compare.source import SpecificationError
from gnnscale.compare.specification import Specification, read_with_problems
from gnnscale.compare.tune import Study, tune, with_values
from gnnscale.compare.tune_report import TuneDisplay


@dataclass(frozen=True)
class Request:
    """A search that can begin: what is compared and searched, where the trials go, and what the datasets say."""

    specification: Specification
    search: Search
    folder: Path
    facts: Mapping[str, Facts]


def read_request(path: Path, flags: Mapping[str, Any], budget: Mapping[str, Any], jobs: int) -> Request:
    """Read a file with a table ``[tune]``, and refuse what cannot work.

    Parameters
    ----------
    path : Path
        A specification.
    flags : mapping of str to object
        As for :func:`~gnnscale.compare.specification.read_specification`; ``out`` is for the trials.
    budget : mapping of str to object
        ``trials`` and ``seconds``, where they were given.
    jobs : int
        Cells that run at once.

    Returns
    -------
    Request

    Raises
    ------
    ImportError
        optuna is missing.
    SpecificationError
        Everything that is wrong, together.
    """
    if find_spec("optuna") is None:
        raise ImportError("gnnscale tune needs the package optuna; install it with: pip install 'gnnscale[tune]'")
    out = flags.get("out")
    specification, problems = read_with_problems(path, {name: flags[name] for name in flags if name != "out"})
    search, more = read_search(specification.tune, specification.combinations, budget, specification.places)
    if problems or more:
        raise SpecificationError(sorted([*problems, *more], key=specification.places.line_of))
    folder = out or specification.out.with_name(f"{specification.out.name}-tune")
    specification = replace(specification, budget=share_cores(specification.budget, jobs))
    return Request(specification, search, folder, check(_with_every_end(specification, search, folder)))


def _with_every_end(specification: Specification, search: Search, folder: Path) -> Specification:
    """The same with further combinations that have the first and the last of the values searched, to be checked too."""
    combinations = []
    for combination in specification.combinations:
        space = search.of(combination)
        places = {**combination.places, **search.places_of(combination, specification.places)}
        combinations.append(combination)
        for end in (0, -1):
            tried = with_values(combination, {key: values.ends[end] for key, values in space.items()})
            combinations.append(replace(tried, places=places))
    return replace(specification, combinations=combinations, out=folder)


def run(request: Request, jobs: int, console: Console, live: bool) -> list[Study]:
    """Run the trials that are missing, telling of each as it ends."""
    total = request.search.trials * len(request.specification.combinations)
    display: AbstractContextManager[TuneDisplay] = TuneDisplay(console, total, live)
    with display as shown:
        runner = partial(run_cells, out=request.folder, display=shown, jobs=jobs)
        return tune(request.specification, request.search, request.facts, runner, shown.on_round)
