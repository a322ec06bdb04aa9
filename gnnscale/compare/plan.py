"""What a comparison consists of: choices, their combinations with settled settings, and the cells that run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnscale.compare.settings import BUDGET_OF_RESULT
from gnnscale.plugins import is_file_choice

if TYPE_CHECKING:
    from gnnscale.compare.specification import Specification


@dataclass(frozen=True)
class Choice:
    """A dataset, a model or a sampler by name, with its arguments and the name it has in results.

    The name of a sampler in a file of the user's is the file's absolute path and the class; ``digest`` is a hash of
    the file of a sampler that is not gnnscale's own. ``brackets`` holds those of the arguments that were written
    after the name. ``place`` tells where in a specification it is named, and ``places`` where each argument was given.
    """

    name: str
    arguments: dict[str, Any]
    label: str
    digest: str = ""
    brackets: dict[str, Any] = field(default_factory=dict)
    place: str = field(default="", compare=False)
    places: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def short_name(self) -> str:
        """The name; of a sampler in a file, the class."""
        return self.name.rpartition(":")[2] if is_file_choice(self.name) else self.name


@dataclass(frozen=True)
class Combination:
    """A dataset, a model and a sampler with the settings that hold for the three together.

    ``own`` names those training settings that were given for this sampler by itself; ``places`` tells where each
    setting of any kind was given.
    """

    dataset: Choice
    model: Choice
    sampler: Choice
    training: dict[str, Any]
    seeds: list[int]
    own: frozenset[str] = frozenset()
    places: dict[str, str] = field(default_factory=dict, compare=False)

    def place_of(self, choice: Choice, sentence: str) -> str:
        """Where a sentence about a choice points: to the first setting that it names, else to the choice."""
        settings = "|".join(map(re.escape, self.places))
        named = re.search(rf"\b({settings})\b", sentence) if settings else None
        return self.places[named.group()] if named else choice.place


@dataclass(frozen=True)
class Facts:
    """What a loaded dataset says of itself: ``digest`` is a hash of its content."""

    num_nodes: int
    num_edges: int
    num_splits: int
    metric: str
    digest: str


@dataclass(frozen=True)
class Cell:
    """One (dataset, model, sampler, seed, settings): the unit of running, resuming and failing.

    ``budget`` holds what it may use, as in :data:`~gnnscale.compare.settings.BUDGET`.
    """

    dataset: Choice
    model: Choice
    sampler: Choice
    seed: int
    training: dict[str, Any]
    data_dir: Path | None
    facts: Facts
    budget: dict[str, Any] = field(default_factory=dict)

    @property
    def split(self) -> int:
        """The split that this seed trains on: seeds go round the splits that the dataset has."""
        return self.seed % self.facts.num_splits

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that was asked for. What of it decides the result makes the cell: its name is a hash of that.

        The data counts by its content, and so does a sampler in a file: a folder may move, and a changed file is
        never mistaken for the old one.
        """
        own = {"sampler_digest": self.sampler.digest} if self.sampler.digest else {}
        return {
            "dataset": self.dataset.name,
            "dataset_arguments": self.dataset.arguments,
            "data": self.facts.digest,
            "split": self.split,
            "model": self.model.name,
            "model_arguments": self.model.arguments,
            "sampler": self.sampler.short_name,
            **own,
            "sampler_arguments": self.sampler.arguments,
            "seed": self.seed,
            "training": self.training,
            "budget": self.budget,
        }

    @property
    def file_name(self) -> str:
        """A readable name and :func:`cell_hash`, without an ending."""
        names = f"{Path(self.dataset.name).stem} {self.model.name} {self.sampler.short_name} seed{self.seed}"
        readable = re.sub(r"[^A-Za-z0-9]+", "-", names).strip("-").lower()
        return f"{readable}-{cell_hash(self.settings)}"

    def __str__(self) -> str:
        return f"{self.dataset.label} {self.model.label} {self.sampler.label} seed {self.seed}"


def cell_hash(settings: Mapping[str, Any]) -> str:
    """A hash of those :attr:`Cell.settings` that decide the result.

    Left out is where the data came from, and the budget of memory and time: a cell that finished within one would
    be the same under another.
    """
    budget = settings.get("budget", {})
    deciding = {key: value for key, value in settings.items() if key != "dataset"}
    deciding["budget"] = {key: budget[key] for key in BUDGET_OF_RESULT if key in budget}
    # Younger than some results: without them, a cell is what it was before.
    younger = {"amp": "none", "graph_placement": "host", "cuda_graph": False}.items()
    training = settings.get("training", {})
    deciding["training"] = {key: value for key, value in training.items() if (key, value) not in younger}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=repr).encode()).hexdigest()[:12]


def make_cells(specification: Specification, facts: Mapping[str, Facts]) -> list[Cell]:
    """List the cells of a comparison in the order in which they run.

    Seeds are the outer loop, so that a comparison which is stopped early has every sampler.

    Parameters
    ----------
    specification : Specification
    facts : mapping of str to Facts
        What each dataset says of itself, by its label.

    Returns
    -------
    list of Cell
    """
    cells = []
    for dataset in specification.datasets:
        combinations = specification.combinations_of(dataset)
        for seed in dict.fromkeys(seed for combination in combinations for seed in combination.seeds):
            cells += [
                Cell(
                    dataset,
                    combination.model,
                    combination.sampler,
                    seed,
                    combination.training,
                    specification.data_dir,
                    facts[dataset.label],
                    specification.budget,
                )
                for combination in combinations
                if seed in combination.seeds
            ]
    return cells
