"""The search: equal budgets, the same trials again after a stop, and a better setting than the first."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from compare_targets import FACTS

from gnnscale.compare.plan import Cell, Choice, Combination
from gnnscale.compare.search import Search, Values
from gnnscale.compare.specification import Specification
from gnnscale.compare.tune import Study, tune, with_values
from gnnscale.compare.tune_report import trials_frame

LR = {"lr": Values(low=1e-4, high=1.0, log=True)}


def specification(samplers: list[str]) -> Specification:
    toy, gcn = Choice("toy", {}, "toy"), Choice("gcn", {"layers": 2, "dropout": 0.5}, "gcn")
    training = {"epochs": 3, "lr": 0.5}
    choices = [Choice(name, {}, name) for name in samplers]
    combinations = [Combination(toy, gcn, choice, training, [0]) for choice in choices]
    return replace(
        Specification([toy], [gcn], choices, [0], training, {}, Path("runs"), None), combinations=combinations
    )


class Runner:
    """Stands for training: the nearer the learning rate is to 0.01, the better; it counts what it ran."""

    def __init__(self, fails: Any = lambda cell: False) -> None:
        self.cells: list[Cell] = []
        self.fails = fails

    def __call__(self, cells: list[Cell]) -> pd.DataFrame:
        self.cells += cells
        rows = []
        for cell in cells:
            val = 1 - abs(math.log10(cell.training["lr"]) + 2) / 4 - 0.01 * cell.seed
            status = "failed: too odd" if self.fails(cell) else "ok"
            for epoch in (1, 2):
                rows.append({
                    "dataset": cell.dataset.label, "model": cell.model.label, "sampler": cell.sampler.label,
                    "seed": cell.seed, "epoch": epoch, "train_seconds": float(epoch), "val": val if epoch == 2 else 0.0,
                    "status": status,
                })  # fmt: skip
        return pd.DataFrame(rows)


def test_each_sampler_has_the_same_number_of_trials_and_the_best_is_better_than_the_first():
    runner = Runner()
    studies = tune(specification(["full", "gas"]), Search(trials=15, train=LR), {"toy": FACTS}, runner)
    assert [len(study.trials) for study in studies] == [15, 15]
    for study in studies:
        # The first trial is the specification's own setting.
        assert study.trials[0].values == {("train", "lr"): 0.5}
        assert study.best.val > study.trials[0].val
        assert abs(math.log10(study.best.values["train", "lr"]) + 2) < 0.4
    # The same random numbers for all: what differs is the sampler.
    first, second = ([trial.values for trial in study.trials[:10]] for study in studies)
    assert first == second
    assert len(trials_frame(studies)) == 30


def test_begun_again_it_asks_for_the_same_cells():
    first, second = Runner(), Runner()
    for runner in (first, second):
        tune(specification(["full", "gas"]), Search(trials=12, train=LR), {"toy": FACTS}, runner)
    assert [cell.file_name for cell in first.cells] == [cell.file_name for cell in second.cells]


def test_a_limit_of_seconds_is_equal_for_all_too():
    search = Search(trials=50, seconds=7.0, train=LR)
    studies = tune(specification(["full", "gas"]), search, {"toy": FACTS}, Runner())
    # Two seconds a trial: the fourth begins at 6.
    assert [len(study.trials) for study in studies] == [4, 4]


def test_where_there_are_fewer_choices_than_trials_each_is_tried_once():
    search = Search(trials=20, train={"lr": Values(choices=(0.5, 0.1, 0.01))}, model={"dropout": Values((0.0, 0.5))})
    runner = Runner()
    (study,) = tune(specification(["full"]), search, {"toy": FACTS}, runner)
    tried = [(trial.values["train", "lr"], trial.values["model", "dropout"]) for trial in study.trials]
    assert tried[0] == (0.5, 0.5)
    assert sorted(tried) == [(lr, dropout) for lr in (0.01, 0.1, 0.5) for dropout in (0.0, 0.5)]
    assert study.best.values["train", "lr"] == 0.01


def test_a_trial_is_the_mean_over_its_seeds_and_fails_with_any_of_them():
    search = Search(trials=2, seeds=(0, 1), train={"lr": Values(choices=(0.5, 0.01))})
    (study,) = tune(specification(["full"]), search, {"toy": FACTS}, Runner(lambda cell: cell.training["lr"] == 0.5))
    failed, best = study.trials
    assert math.isnan(failed.val)
    assert failed.status == "seed 0: failed: too odd"
    assert best.val == pytest.approx(1 - 0.005)
    assert best.seconds == 4.0
    assert study.best is best


def test_all_trials_failed():
    search = Search(trials=3, train=LR)
    (study,) = tune(specification(["full"]), search, {"toy": FACTS}, Runner(lambda cell: True))
    assert study.best is None


def test_values_go_to_their_places():
    (combination,) = specification(["gas"]).combinations
    changed = with_values(combination, {("train", "lr"): 0.1, ("model", "heads"): 4, ("sampler", "num_parts"): 7})
    assert changed.training == {"epochs": 3, "lr": 0.1}
    assert changed.model.arguments == {"layers": 2, "dropout": 0.5, "heads": 4}
    assert changed.sampler.arguments == {"num_parts": 7}
    assert combination.sampler.arguments == {}
    assert str(Study(changed)) == "toy gcn gas"
