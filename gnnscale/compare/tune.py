"""Searches settings for each sampler of a comparison, with an equal budget for each and the validation metric as judge.

A trial is an ordinary cell, or one for each seed. Finished cells are kept in files and the search is deterministic, so
that a search that was stopped goes on when it is begun again: it asks for the same trials and finds them done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from gnnscale.compare.plan import Cell, Combination, Facts
from gnnscale.compare.search import Search
from gnnscale.compare.specification import Specification


@dataclass(frozen=True)
class Trial:
    """One choice of values, and what training with them came to: the mean over seeds of the best validation metric.

    ``values`` are by table (``train``, ``model`` or ``sampler``) and name. ``val`` is NaN where a seed failed, and
    ``status`` says why.
    """

    number: int
    values: dict[tuple[str, str], Any]
    val: float
    val_std: float
    seconds: float
    status: str


@dataclass
class Study:
    """The trials of one combination."""

    combination: Combination
    trials: list[Trial] = field(default_factory=list)

    @property
    def best(self) -> Trial | None:
        """The first trial with the highest validation metric; None where all failed."""
        finished = [trial for trial in self.trials if not math.isnan(trial.val)]
        return max(finished, key=lambda trial: trial.val, default=None)

    @property
    def seconds(self) -> float:
        """Training seconds of all trials."""
        return sum(trial.seconds for trial in self.trials)

    def __str__(self) -> str:
        return " ".join(choice.label for choice in (self.combination.dataset, self.combination.model,
                                                    self.combination.sampler))  # fmt: skip


def tune(
    specification: Specification,
    search: Search,
    facts: Mapping[str, Facts],
    run: Callable[[list[Cell]], pd.DataFrame],
    on_round: Callable[[list[Study]], None] = lambda studies: None,
) -> list[Study]:
    """Search settings for each combination of dataset, model and sampler.

    The combinations take turns: in a round, each has one trial. The first trial has the specification's own settings,
    as far as they are among the values searched; then come random ones, the same for all samplers, and then those of
    optuna's tree-structured Parzen estimator (Bergstra et al., 2011). Where there are no more choices than trials, all
    are tried.

    Parameters
    ----------
    specification : Specification
        What is compared.
    search : Search
        What is searched, and the budget.
    facts : mapping of str to Facts
        What each dataset says of itself, by its label.
    run : callable
        Given cells, runs those that are not finished, and returns the rows of all.
    on_round : callable
        Given the studies after each round.

    Returns
    -------
    list of Study
        In the order of the combinations.
    """
    studies = [Study(combination) for combination in specification.combinations]
    askers = [_Asker(study, search) for study in studies]
    for number in range(search.trials):
        asked = [
            (study, asker, values)
            for study, asker in zip(studies, askers, strict=True)
            if (search.seconds is None or study.seconds < search.seconds) and (values := asker.ask()) is not None
        ]
        if not asked:
            break
        cells = [
            [
                cell_of(study.combination, values, seed, specification, facts[study.combination.dataset.label])
                for seed in search.seeds
            ]
            for study, _, values in asked
        ]
        results = run([cell for group in cells for cell in group])
        # Rows come back under labels, and these may be equal from trial to trial: but not within a round.
        for (study, asker, values), group in zip(asked, cells, strict=True):
            rows = _rows_of(results, group[0])
            study.trials.append(_judge(number, values, rows))
            asker.tell(study.trials[-1])
        on_round(studies)
    return studies


def with_values(combination: Combination, values: Mapping[tuple[str, str], Any]) -> Combination:
    """The combination with these settings instead of its own."""
    by_table: dict[str, dict[str, Any]] = {"train": {}, "model": {}, "sampler": {}}
    for (table, name), value in values.items():
        by_table[table][name] = value
    return replace(
        combination,
        model=replace(combination.model, arguments={**combination.model.arguments, **by_table["model"]}),
        sampler=replace(combination.sampler, arguments={**combination.sampler.arguments, **by_table["sampler"]}),
        training={**combination.training, **by_table["train"]},
    )


def cell_of(
    combination: Combination,
    values: Mapping[tuple[str, str], Any],
    seed: int,
    specification: Specification,
    facts: Facts,
) -> Cell:
    """The cell of a trial."""
    tried = with_values(combination, values)
    return Cell(
        tried.dataset,
        tried.model,
        tried.sampler,
        seed,
        tried.training,
        specification.data_dir,
        facts,
        specification.budget,
    )


class _Asker:
    """Gives a combination its next values: from a list of all choices where it is short, else by asking optuna."""

    def __init__(self, study: Study, search: Search) -> None:
        self.space = search.of(study.combination)
        present = {key: _present(study.combination, key) for key in self.space}
        count = math.prod(len(values.choices) or math.inf for values in self.space.values())
        self.every: list[dict[tuple[str, str], Any]] | None = None
        if count <= search.trials:
            choices = product(*(values.choices for values in self.space.values()))
            every = [dict(zip(self.space, chosen, strict=True)) for chosen in choices]
            # Its own settings first; the order of the others is kept.
            self.every = sorted(every, key=lambda values: values != present)
            return
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
        self.distributions = {".".join(key): values.distribution() for key, values in self.space.items()}
        encoded = {".".join(key): values.encode(present[key]) for key, values in self.space.items()}
        if first := {name: value for name, value in encoded.items() if value is not None}:
            self.study.enqueue_trial(first)

    def ask(self) -> dict[tuple[str, str], Any] | None:
        """The values of the next trial; None where all choices were tried."""
        if self.every is not None:
            return self.every.pop(0) if self.every else None
        self.asked = self.study.ask(self.distributions)
        return {key: values.decode(self.asked.params[".".join(key)]) for key, values in self.space.items()}

    def tell(self, trial: Trial) -> None:
        """What the trial asked for last came to."""
        if self.every is not None:
            return
        from optuna.trial import TrialState

        if math.isnan(trial.val):
            self.study.tell(self.asked, state=TrialState.FAIL)
        else:
            self.study.tell(self.asked, trial.val)


def _present(combination: Combination, key: tuple[str, str]) -> Any:
    table, name = key
    settings = {
        "train": combination.training,
        "model": combination.model.arguments,
        "sampler": combination.sampler.arguments,
    }
    return settings[table].get(name)


def _rows_of(results: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    names = [cell.dataset.label, cell.model.label, cell.sampler.label]
    return results[(results[["dataset", "model", "sampler"]] == names).all(axis=1)]


def _judge(number: int, values: dict[tuple[str, str], Any], rows: pd.DataFrame) -> Trial:
    runs = rows.groupby("seed")
    last = runs.tail(1)
    failed = last[last["status"] != "ok"]
    best = runs["val"].max()
    return Trial(
        number,
        values,
        val=float(best.mean()) if failed.empty else math.nan,
        val_std=float(np.std(best, ddof=1)) if len(best) > 1 and failed.empty else math.nan,
        seconds=float(last["train_seconds"].fillna(0.0).sum()),
        status="ok" if failed.empty else f"seed {failed['seed'].iloc[0]}: {failed['status'].iloc[0]}",
    )
