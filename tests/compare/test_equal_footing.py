"""What docs/equal-footing.md promises, as far as no other test keeps it."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from compare_targets import FACTS

from gnnscale import training
from gnnscale.compare import cell as cell_module
from gnnscale.compare.cell import run_cell
from gnnscale.compare.endings import OUTCOMES
from gnnscale.compare.plan import make_cells
from gnnscale.compare.specification import read_specification
from gnnscale.nn import MODELS
from gnnscale.samplers import SAMPLERS
from gnnscale.training import TrainingResult

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "equal-footing.md"
GRAPH = "synthetic(num_nodes=300, num_edges=2000, num_classes=3, communities_per_class=2)"


def calls_of_train(monkeypatch, **flags):
    """Run the cells of a comparison up to the call of ``gs.train``, and give what each one called it with."""
    calls = []

    def train(model, data, sampler, *, on_point, on_stage, history, **settings):
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        calls.append({"weights": weights, "data": data, "settings": settings, "threads": torch.get_num_threads()})
        return TrainingResult()

    monkeypatch.setattr(cell_module, "train", train)
    specification = read_specification(None, {"datasets": GRAPH, **flags})
    cells = make_cells(specification, {specification.datasets[0].label: FACTS})
    threads = torch.get_num_threads()
    try:
        for cell in cells:
            run_cell(lambda message: None, cell)
    finally:
        torch.set_num_threads(threads)
    return list(zip(cells, calls, strict=True))


@pytest.mark.parametrize("model", list(MODELS))
def test_all_samplers_begin_with_the_same_weights_split_and_settings(model, monkeypatch):
    served = [name for name in SAMPLERS if model not in ("gat", "pna") or name not in ("vrgcn", "asgcn")]
    flags = {"samplers": ",".join(served), "models": model, "seeds": "0,3", "threads": 1, "lr": 0.02, "layers": 2}
    calls = calls_of_train(monkeypatch, **flags)
    assert len(calls) == 2 * len(served)
    first = {}
    for cell, call in calls:
        reference = first.setdefault(cell.seed, call)
        assert call["weights"].keys() == reference["weights"].keys()
        # A buffer that the first batch will fill is NaN until then.
        for name, value in call["weights"].items():
            torch.testing.assert_close(value, reference["weights"][name], rtol=0, atol=0, equal_nan=True)
        for ids in ("train_ids", "val_ids", "test_ids"):
            assert torch.equal(getattr(call["data"], ids), getattr(reference["data"], ids))
        assert call["settings"] == reference["settings"]
        assert call["threads"] == 1
    # Another seed is another start.
    assert any(not torch.equal(value, first[3]["weights"][name]) for name, value in first[0]["weights"].items())


def test_a_cell_gets_every_setting_that_training_takes(monkeypatch):
    """None is left at a default of the training loop that the results would not tell."""
    ((_, call),) = calls_of_train(monkeypatch, samplers="full")
    own = {"model", "data", "sampler", "features", "checkpoint", "history", "on_point", "on_stage"}
    assert set(call["settings"]) == set(inspect.signature(training.train).parameters) - own


def test_the_page_names_tests_that_are_there():
    named = re.findall(r"`(tests/\S+\.py)(?:::(\w+))?`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 10
    for path, test in named:
        assert f"def {test}" in (ROOT / path).read_text(encoding="utf-8"), (path, test)


def test_the_page_tells_every_outcome_in_the_programs_words():
    text = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    for outcome, meaning in OUTCOMES.items():
        assert f"| `{outcome}` | {meaning} |" in text
