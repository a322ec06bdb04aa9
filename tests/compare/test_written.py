"""Specifications written out and read back, and files that somebody's cat walked over."""

import string
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnnscale.compare.settings import BUDGET, MODEL, TRAINING
from gnnscale.compare.specification import SpecificationError, read_specification
from gnnscale.compare.written import specification_toml

ROOT = Path(__file__).parents[2]
quickly = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

#: Valid values of settings that suit one another whatever else is drawn.
VALUES = {
    "epochs": st.integers(10, 500), "max_seconds": st.floats(0.5, 100), "patience": st.integers(1, 9),
    "target": st.floats(0.01, 1), "batch_size": st.integers(1, 50), "lr": st.floats(1e-6, 10),
    "weight_decay": st.floats(0, 1), "rest_weight_decay": st.floats(0, 1), "clip_norm": st.floats(0.1, 10),
    "amp": st.sampled_from(["none", "bf16"]), "graph_placement": st.just("host"),
    "cuda_graph": st.just(False),
    "inductive": st.booleans(), "num_workers": st.integers(0, 4), "device": st.just("cpu"),
    "history_dtype": st.sampled_from(["float16", "int8"]), "history_placement": st.sampled_from(["host", "file"]),
    "history_ahead": st.booleans(), "hidden": st.integers(1, 64).map(lambda n: 8 * n), "layers": st.just(2),
    "dropout": st.floats(0, 0.9), "norm": st.sampled_from(["none", "batch"]), "threads": st.integers(1, 8),
    "memory_gb": st.floats(0.1, 100), "cell_seconds": st.floats(200, 1000),
}  # fmt: skip


def some(names):
    return st.fixed_dictionaries({}, optional={name: VALUES[name] for name in names})


TABLES = {"train": some(name for name in TRAINING if name != "epochs"), "model": some(set(MODEL) - {"layers"})}
SAMPLERS = st.lists(
    st.sampled_from(["full", "neighbor", "neighbor(fanouts=[5, 5])", "gas", "gas(num_parts=7, lr=0.5)", "cluster"]),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip
SEEDS = st.integers(1, 4) | st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True)
DATASETS = st.lists(st.sampled_from(["cora", "synthetic(num_nodes=500)", "tolokers"]), min_size=1, unique=True)


@st.composite
def contents(draw):
    """A valid specification's content, with cases and settings of one sampler."""
    content = {"datasets": draw(DATASETS), "samplers": draw(SAMPLERS), "models": ["gcn"]}
    content |= draw(st.fixed_dictionaries({}, optional={
        "seeds": SEEDS, "epochs": VALUES["epochs"], **TABLES, "budget": some(BUDGET), "out": st.just("runs/a b"),
        "sampler": st.fixed_dictionaries({"gas": some(["lr", "batch_size", "history_dtype"])}),
        "dataset": st.fixed_dictionaries({"synthetic": st.fixed_dictionaries({"num_edges": st.integers(1, 99)})}),
    }))  # fmt: skip
    names = [name.partition("(")[0] for name in content["samplers"]]
    case = st.fixed_dictionaries({
        "for": st.fixed_dictionaries({"sampler": st.sampled_from(names)}, optional={"model": st.just(["gcn"])}),
        "train": some(["lr", "epochs", "target"]).filter(bool),
    }, optional={"seeds": SEEDS, "model": some(["hidden"])})  # fmt: skip
    if cases := draw(st.lists(case, max_size=2)):
        content["case"] = cases
    return content


FLAGS = st.fixed_dictionaries({}, optional={
    "samplers": SAMPLERS.map(",".join), "datasets": DATASETS.map(",".join), "seeds": st.sampled_from(["2", "5,"]),
    **{name: VALUES[name] for name in (*TRAINING, *MODEL, *BUDGET) if name not in ("epochs", "layers")},
})  # fmt: skip


@quickly
@given(contents(), FLAGS)
def test_a_specification_written_out_reads_back_equal(tmp_path, content, flags):
    path, again = tmp_path / "trial.toml", tmp_path / "again.toml"
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
    whole = read_specification(path, flags)
    written = specification_toml(whole)
    again.write_text(written, encoding="utf-8")
    read = read_specification(again, {})
    assert read == whole
    assert specification_toml(read) == written


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").rglob("*.toml")), ids=lambda path: path.stem)
def test_the_ready_specifications_are_valid_and_read_back_equal(tmp_path, path):
    whole = read_specification(path, {})
    (tmp_path / "again.toml").write_text(specification_toml(whole), encoding="utf-8")
    assert read_specification(tmp_path / "again.toml", {}) == whole
    added = specification_toml(whole, [{"for": {"model": whole.models[0].label}, "train": {"epochs": 77}}])
    (tmp_path / "again.toml").write_text(added, encoding="utf-8")
    of_model = [each for each in read_specification(tmp_path / "again.toml", {}).combinations
                if each.model.label == whole.models[0].label]  # fmt: skip
    assert {each.training["epochs"] for each in of_model if "epochs" not in each.sampler.brackets} <= {77}


def problems_of(path):
    """What is wrong with a file, in sentences; another error than the one for that is an error of the test."""
    try:
        read_specification(path, {})
    except SpecificationError as error:
        return error.problems
    return []


EXAMPLE = (ROOT / "experiments" / "accuracy" / "cora.toml").read_text(encoding="utf-8")
EXAMPLE += """
[[case]]
for = { sampler = "gas", model = ["gcn"] }
train = { lr = 0.02 }
seeds = [1, 2]
"""
NOISE = st.text(string.printable + 'é"[]{}=', max_size=4)


@quickly
@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 12), NOISE), min_size=1, max_size=3))
def test_a_damaged_file_is_read_or_refused_in_sentences(tmp_path, changes):
    text = EXAMPLE
    for start, length, inserted in changes:
        text = text[:start] + inserted + text[start + length :]
    path = tmp_path / "trial.toml"
    path.write_text(text, encoding="utf-8")
    assert all(problem.startswith(str(path)) and "\n" not in problem for problem in problems_of(path))


LEAVES = st.booleans() | st.integers() | st.floats() | st.sampled_from(["cora", "gas", "gcn", "x(", ""])
KEYS = st.sampled_from(
    ["datasets", "sampler", "samplers", "gas", "model", "gcn", "train", "lr", "case", "for", "seeds", "budget", "out",
     "dataset", "epochs", "tune", "data_dir"]
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)


@quickly
@given(st.dictionaries(KEYS, ANYTHING, max_size=6))
def test_values_of_any_type_are_read_or_refused(tmp_path, content):
    path = tmp_path / "trial.toml"
    path.write_text(tomli_w.dumps({"datasets": ["cora"], "samplers": ["full"], **content}), encoding="utf-8")
    assert all("\n" not in problem for problem in problems_of(path))
