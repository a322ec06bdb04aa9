"""``[[case]]``: which settings hold for whom, and what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.compare.cases import Case, settle
from gnnscale.compare.cell import check_dataset
from gnnscale.compare.plan import Choice, Facts, make_cells
from gnnscale.compare.specification import SpecificationError, read_specification

TOP = """
datasets = ["cora", "citeseer"]
models = ["gcn", "gat"]
samplers = ["full", "gas", "gas(num_parts=7)", "neighbor"]
seeds = 2
epochs = 9
[train]
lr = 0.1
[model]
hidden = 8
[sampler.gas]
batch_size = 3
lr = 0.3
"""


def read(tmp_path, cases, top=TOP, **flags):
    path = tmp_path / "trial.toml"
    path.write_text(top + cases)
    return read_specification(path, flags)


def combination(specification, dataset, model, sampler):
    (found,) = (
        combination
        for combination in specification.combinations
        if (combination.dataset.label, combination.model.label, combination.sampler.label) == (dataset, model, sampler)
    )
    return found


def test_a_case_holds_for_whom_it_names_and_for_nobody_else(tmp_path):
    plain = read(tmp_path, "")
    case = """
        [[case]]
        for = { dataset = "cora", model = ["gat"] }
        seeds = [4]
        train = { epochs = 3, weight_decay = 0.2 }
        model = { heads = 2 }
    """
    specification = read(tmp_path, case)
    for before, after in zip(plain.combinations, specification.combinations, strict=True):
        if (after.dataset.label, after.model.label) == ("cora", "gat"):
            assert (after.seeds, after.training["epochs"], after.training["weight_decay"]) == ([4], 3, 0.2)
            assert after.model.arguments == before.model.arguments | {"heads": 2}
            assert after.sampler == before.sampler
        else:
            assert after == before


def test_a_name_is_for_all_its_entries_and_a_label_for_one(tmp_path):
    by_name = read(tmp_path, '[[case]]\nfor = { sampler = "gas" }\nsampler = { refresh = false }')
    assert ["refresh" in found.sampler.arguments for found in by_name.combinations_of(by_name.datasets[0])] == [
        False, True, True, False,
    ] * 2  # fmt: skip
    by_label = read(tmp_path, '[[case]]\nfor = { sampler = "gas(num_parts=7)" }\nsampler = { refresh = false }')
    assert combination(by_label, "cora", "gcn", "gas(num_parts=7)").sampler.arguments == {
        "refresh": False,
        "num_parts": 7,
    }
    assert combination(by_label, "cora", "gcn", "gas").sampler.arguments == {}


def test_what_overrides_what(tmp_path):
    """Tables, then cases in order, then flags, then brackets."""
    cases = """
        [[case]]
        for = { sampler = "gas" }
        seeds = 5
        train = { lr = 0.5, epochs = 4 }
        model = { hidden = 16, layers = 3 }
        sampler = { num_parts = 40, batch_size = 10 }
        [[case]]
        for = { dataset = "cora", sampler = "gas" }
        train = { lr = 0.6 }
        sampler = { num_parts = 50 }
    """
    specification = read(tmp_path, cases)
    cora, citeseer = (combination(specification, name, "gcn", "gas") for name in ("cora", "citeseer"))
    assert (cora.training["lr"], citeseer.training["lr"]) == (0.6, 0.5)  # not [sampler.gas] lr
    assert (cora.training["batch_size"], cora.training["epochs"], cora.seeds) == (10, 4, [0, 1, 2, 3, 4])
    assert (cora.sampler.arguments, citeseer.sampler.arguments) == ({"num_parts": 50}, {"num_parts": 40})
    assert combination(specification, "cora", "gcn", "gas(num_parts=7)").sampler.arguments == {"num_parts": 7}
    assert combination(specification, "cora", "gcn", "full").training["lr"] == 0.1

    flags = {"lr": 0.01, "hidden": 4, "seeds": "1", "batch_size": 2, "models": "gcn(layers=5)", "samplers": "gas"}
    overridden = combination(read(tmp_path, cases, **flags), "cora", "gcn", "gas")
    assert (overridden.training["lr"], overridden.training["batch_size"], overridden.seeds) == (0.01, 2, [0])
    assert (overridden.model.arguments["hidden"], overridden.model.arguments["layers"]) == (4, 5)
    assert overridden.sampler.arguments == {"num_parts": 50}


def test_cells_have_the_settled_settings_and_each_combination_its_seeds(tmp_path):
    specification = read(tmp_path, '[[case]]\nfor = { model = "gat" }\nseeds = [0, 7]\ntrain = { lr = 0.5 }')
    facts = Facts(10, 20, 3, "accuracy", "x")
    cells = make_cells(specification, {"cora": facts, "citeseer": facts})
    assert len(cells) == 2 * 4 * (2 + 2)
    assert [cell.seed for cell in cells] == ([0] * 8 + [1] * 4 + [7] * 4) * 2
    assert {(cell.model.label, cell.seed) for cell in cells} == {("gcn", 0), ("gcn", 1), ("gat", 0), ("gat", 7)}
    assert {cell.training["lr"] for cell in cells if cell.model.label == "gat" and cell.sampler.label == "gas"} == {0.5}
    # A case says what holds; a cell is known by that, and not by where it was written.
    same = read(tmp_path, "", samplers="full", seeds="1", models="gat", lr=0.5)
    again = make_cells(same, {"cora": facts, "citeseer": facts})
    assert {cell.file_name for cell in again} < {cell.file_name for cell in cells}


def test_everything_wrong_with_cases_is_told_at_once(tmp_path):
    cases = """
        [[case]]
        for = { dataset = "cora" }
        seeds = 0
        trian = {}
        train = { lr = -1, learning_rate = 1 }
        model = { heads = 2 }
        sampler = { num_layers = 3, batch_size = 0.5 }
        [[case]]
        for = { dataset = "coar", model = "gcnn", sampler = [], modle = "gcn" }
        train = 3
        [[case]]
        model = { layers = 0 }
        [[case]]
        for = { model = "gat" }
        train = {}
    """
    with pytest.raises(SpecificationError) as caught:
        read(tmp_path, cases)
    found = caught.value.problems
    for part in (
        "17: seeds is 0",
        "18: unknown key 'trian' in a case: did you mean 'train'?",
        "19: lr is -1; it must be a number above 0",
        "19: unknown key 'learning_rate' in train",
        "20: model gcn has no setting 'heads'",
        "21: a sampler has no setting 'num_layers'",
        "21: batch_size is 0.5",
        "23: it is for dataset 'coar', which is not in the comparison: did you mean 'cora'?",
        "23: it is for model 'gcnn', which is not in the comparison: did you mean 'gcn'?",
        "23: sampler in for is []",
        "23: unknown key 'modle' in for: did you mean 'model'?",
        "24: train is 3; it must be a table",
        "25: this case lacks for",
        "26: layers is 0",
        "27: this case says nothing",
    ):
        assert sum(problem.startswith(f"{tmp_path}/trial.toml:{part}") for problem in found) == 1, (part, found)
    assert len(found) == 15
    assert all("\n" not in problem for problem in found)


@pytest.mark.parametrize("text", ["[case]\nfor = { model = 'gcn' }", "case = 3"])
def test_a_case_that_is_no_list_of_tables_is_refused(tmp_path, text):
    with pytest.raises(SpecificationError, match=r"case is .*; head each case by \[\[case\]\]"):
        read(tmp_path, text if text.startswith("[") else "", top=TOP if text.startswith("[") else text + TOP)


def test_a_flag_may_leave_out_what_a_case_is_for_but_an_unknown_name_is_one(tmp_path):
    case = '[[case]]\nfor = { dataset = "cora", sampler = "neighbor" }\ntrain = { lr = 0.5 }'
    assert len(read(tmp_path, case, datasets="citeseer", samplers="gas,full").combinations) == 4
    with pytest.raises(SpecificationError, match="it is for dataset 'pubmed', which is not in the comparison"):
        read(tmp_path, case.replace("cora", "pubmed"), datasets="citeseer")
    without = TOP.replace('datasets = ["cora", "citeseer"]', "")
    assert len(read(tmp_path, case, top=without, datasets="citeseer", samplers="full").combinations) == 2


def test_models_and_samplers_are_built_with_the_settings_of_cases(tmp_path):
    """What only a constructor can refuse is refused before training, with the line that says it."""
    case = """
        [[case]]
        for = { sampler = "full" }
        sampler = { num_parts = 4 }
        [[case]]
        for = { model = "gat" }
        model = { heads = 3 }
        [[case]]
        for = { sampler = "neighbor" }
        sampler = { history_dtype = "int8" }
    """
    with pytest.raises(SpecificationError) as caught:
        read(tmp_path, case)
    problems = [problem.removeprefix(f"{tmp_path}/trial.toml:") for problem in caught.value.problems]
    assert len(problems) == 3
    assert any(re.match("17: .*'full' has no argument 'num_parts'", problem) for problem in problems)
    assert any(re.match("20: model gat: .*heads", problem) for problem in problems)
    assert any(re.match("23: .*history_dtype means nothing to it", problem) for problem in problems)


def test_what_the_data_refuse_is_told_with_its_line(tmp_path):
    case = '[[case]]\nfor = { sampler = "gas" }\nsampler = { num_parts = 400 }'
    top = TOP.replace('["cora", "citeseer"]', '["synthetic(num_nodes=300, num_edges=2000)"]')
    specification = read(tmp_path, case, top=top)
    sent = []
    dataset = specification.datasets[0]
    check_dataset(sent.append, dataset, None, specification.combinations_of(dataset))
    problems = {content for kind, content in sent if kind == "problem"}
    (problem,) = problems
    assert problem.startswith(f"{tmp_path}/trial.toml:16: sampler 'gas': num_parts=400 is more than the graph's 300")
    sent.clear()
    wrong = read(tmp_path, "\n[dataset.synthetic]\nnum_nodes = 2.5", top=top.replace("num_nodes=300, ", ""))
    check_dataset(sent.append, wrong.datasets[0], None, [])
    (content,) = (content for _, content in sent)
    assert content.startswith(f"{tmp_path}/trial.toml:16: ")
    assert "num_nodes" in content


CHOICES = {kind: [Choice(name, {}, name) for name in names] for kind, names in
           {"dataset": "ab", "model": "cd", "sampler": "ef"}.items()}  # fmt: skip
VALUES = st.dictionaries(st.sampled_from(["lr", "epochs"]), st.integers(1, 9))
CASES = st.builds(
    Case,
    names=st.fixed_dictionaries(
        {}, optional={kind: st.lists(st.sampled_from([c.name for c in choices]), min_size=1)
                      for kind, choices in CHOICES.items()}),
    train=VALUES, model=st.just({}), sampler=VALUES, seeds=st.none() | st.just([3]),
)  # fmt: skip


@given(cases=st.lists(CASES, max_size=4), given=VALUES)
def test_settling_is_the_last_word_of_whoever_speaks(cases, given):
    """The value that stands is that of the last case that gives one, else of the table."""
    for dataset in CHOICES["dataset"]:
        for sampler in CHOICES["sampler"]:
            choices = {"dataset": dataset, "model": CHOICES["model"][0], "sampler": sampler}
            settled = settle(choices, {"lr": 0, "epochs": 0, **given}, [0], cases)
            for key in ("lr", "epochs"):
                words = [given.get(key, 0)]
                for case in cases:
                    if all(choices[kind].name in names for kind, names in case.names.items()):
                        words += [table[key] for table in (case.train, case.sampler) if key in table]
                assert settled.training[key] == words[-1]
            assert settled.sampler.arguments == {}
