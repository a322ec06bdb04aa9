"""The search: equal budgets, the same trials again after a stop, and a better setting than the first."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from compare_targets import FACTS
from typer.testing import CliRunner

from gnnscale.cli import app
from gnnscale.compare.plan import Cell, Choice, Combination
from gnnscale.compare.search import Search, Values
from gnnscale.compare.specification import Specification, read_specification
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


SPECIFICATION = """
datasets = ["synthetic(num_nodes=300, num_edges=3000, num_classes=3, communities_per_class=2)"]
samplers = ["full", "gas"]
epochs = 3
out = "{out}"

[budget]
threads = 1

[tune]
trials = 3

[tune.train]
lr = {{ low = 0.001, high = 0.1, log = true }}

[tune.sampler.gas]
num_parts = [5, 10]
"""


def gnnscale(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_from_the_file_to_a_comparison_with_what_was_found(tmp_path: Path):
    file = tmp_path / "trial.toml"
    file.write_text(SPECIFICATION.format(out=tmp_path / "out"))
    folder = tmp_path / "out-tune"
    done = gnnscale("tune", str(file))
    assert done.exit_code == 0, done.output
    trials = pd.read_csv(folder / "trials.csv")
    assert trials.groupby("sampler").size().to_dict() == {"full": 3, "gas": 3}
    assert (trials.loc[trials["trial"] == 0, "train.lr"] == 0.01).all()
    assert "test" not in trials

    # Begun again, it finds every trial done; a cell taken away is run again, to the same result.
    files = sorted(folder.glob("cells/*.parquet"))
    files[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in files[1:]}
    assert gnnscale("tune", str(file)).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in files[1:]} == times
    again = pd.read_csv(folder / "trials.csv")
    pd.testing.assert_frame_equal(again.drop(columns="train_seconds"), trials.drop(columns="train_seconds"))

    tuned = read_specification(folder / "tuned.toml", {})
    best = trials[trials["best"]].set_index("sampler")
    for combination in tuned.combinations:
        assert combination.training["lr"] == best.loc[combination.sampler.label, "train.lr"]
    assert tuned.combinations[1].sampler.arguments == {"num_parts": int(best.loc["gas", "sampler.num_parts"])}
    assert tuned.tune == {}


def test_what_is_wrong_is_said_with_its_line(tmp_path: Path):
    file = tmp_path / "trial.toml"
    text = SPECIFICATION.format(out=tmp_path / "out").replace("num_parts", "num_prats")
    text = text.replace("trials = 3", "trials = 0").replace("epochs = 3", "epochs = 0")
    file.write_text(text.replace("high = 0.1", "high = 0"))
    done = gnnscale("tune", str(file))
    assert done.exit_code == 2
    for line, said in (
        ("epochs = 0", "epochs is 0"),
        ("trials = 0", "trials in [tune] is 0"),
        ("lr = ", "lr in [tune.train] goes from 0.001 to 0"),
    ):
        assert f"trial.toml:{1 + text[: text.index(line)].count(chr(10))}: {said}" in done.output
    file.write_text(text.replace("trials = 0", "trials = 3").replace("epochs = 0", "epochs = 3"))
    done = gnnscale("tune", str(file))
    assert done.exit_code == 2
    line = 1 + text[: text.index("num_prats")].count(chr(10))
    assert f"trial.toml:{line}: sampler 'gas' has no argument 'num_prats'" in done.output
