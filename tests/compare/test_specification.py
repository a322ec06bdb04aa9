from pathlib import Path

import pytest
from compare_targets import make_cell

from gnnscale.compare.plan import Choice, Facts, make_cells
from gnnscale.compare.settings import MODEL, TRAINING
from gnnscale.compare.specification import SpecificationError, read_specification

DEMO = Path(__file__).parents[2] / "experiments" / "demo.toml"


def read(tmp_path, text, **flags):
    path = tmp_path / "trial.toml"
    path.write_text(text)
    return read_specification(path, flags)


def problems(tmp_path, text, **flags):
    with pytest.raises(SpecificationError) as caught:
        read(tmp_path, text, **flags)
    return caught.value.problems


def test_defaults_fill_what_is_not_given(tmp_path):
    spec = read(tmp_path, 'datasets = ["cora"]\nsamplers = ["gas"]')
    assert spec.training == {name: setting.default for name, setting in TRAINING.items()}
    assert spec.models == [Choice("gcn", {name: setting.default for name, setting in MODEL.items()}, "gcn")]
    assert (spec.seeds, spec.out, spec.data_dir) == ([0], Path("runs/trial"), None)


def test_tables_reach_the_cells(tmp_path):
    spec = read(
        tmp_path,
        """
        datasets = ["synthetic"]
        models = ["gcn", "sage"]
        samplers = ["full", "gas"]
        seeds = [4, 7]
        epochs = 5
        [train]
        lr = 0.1
        [dataset.synthetic]
        num_nodes = 100
        [model]
        hidden = 8
        [model.sage]
        hidden = 16
        [sampler.gas]
        num_parts = 4
        batch_size = 2
        lr = 0.2
        [sampler.cluster]
        num_parts = 9
        """,
    )
    cells = make_cells(spec, {"synthetic": Facts(100, 200, 5, "accuracy", "x")})
    assert len(cells) == 2 * 2 * 2
    assert {cell.split for cell in cells} == {4, 2}
    gas = next(cell for cell in cells if (cell.sampler.name, cell.model.name) == ("gas", "sage"))
    assert gas.sampler.arguments == {"num_parts": 4}
    assert (gas.training["batch_size"], gas.training["lr"], gas.training["epochs"]) == (2, 0.2, 5)
    assert gas.model.arguments["hidden"] == 16
    full = next(cell for cell in cells if (cell.sampler.name, cell.model.name) == ("full", "gcn"))
    assert (full.training["batch_size"], full.training["lr"]) == (None, 0.1)
    assert full.model.arguments["hidden"] == 8
    assert full.dataset.arguments == {"num_nodes": 100}


def test_flags_override_the_file_and_brackets_override_both(tmp_path):
    text = """
        datasets = ["cora"]
        samplers = ["full"]
        epochs = 5
        [train]
        lr = 0.1
        [model.gcn]
        hidden = 8
        [sampler.gas]
        num_parts = 4
        lr = 0.3
        """
    spec = read(tmp_path, text, samplers="gas,neighbor(lr=0.5)", lr=0.2, hidden=32, epochs=7, out=Path("o"))
    cells = make_cells(spec, {"cora": Facts(10, 20, 1, "accuracy", "x")})
    assert [cell.training["lr"] for cell in cells] == [0.2, 0.5]
    assert [cell.training["epochs"] for cell in cells] == [7, 7]
    assert cells[0].sampler.arguments == {"num_parts": 4}
    assert (cells[0].model.arguments["hidden"], spec.out) == (32, Path("o"))


def test_a_sampler_that_appears_twice_is_told_apart_by_its_arguments():
    spec = read_specification(
        None, {"datasets": "cora", "samplers": "neighbor(fanouts=[5,5]),neighbor,gas(num_parts=4)"}
    )
    assert [sampler.label for sampler in spec.samplers] == ["neighbor(fanouts=[5, 5])", "neighbor", "gas"]
    with pytest.raises(SpecificationError, match="sampler gas is given 2 times"):
        read_specification(None, {"datasets": "cora", "samplers": "gas,gas"})


EVERYTHING_WRONG = """
dataset = 3                                                   # 2
sampler = {gsa = {num_parts = 3}}
samplers = [
  "neighbour", "gas(40)",                                     # 5
  "full",
]
models = ["gcnn"]                                             # 8
seeds = 0
epochs = 1.5
epoch = 3                                                     # 11
out = 7
[train]
lr = -1                                                       # 14
learning_rate = 1
device = "tpu"
threads = 2                                                   # 17
[budget]
thread = 2
memory_gb = 0                                                 # 20
[model]
dropout = 1.0
hiden = 3                                                     # 23
"""


def test_everything_wrong_is_told_at_once_with_its_place(tmp_path):
    found = problems(tmp_path, EVERYTHING_WRONG, datasets="coar")
    file = f"{tmp_path}/trial.toml:"
    for part in (
        "11: unknown key 'epoch': did you mean 'epochs'?",
        "--dataset: unknown dataset 'coar': did you mean 'cora'?",
        "8: unknown model 'gcnn': did you mean 'gcn'?",
        "5: unknown sampler 'neighbour': did you mean 'neighbor'?",
        "3: unknown sampler 'gsa' in [sampler.gsa]: did you mean 'gas'?",
        "5: sampler 'gas(40)' has an argument without a name",
        "2: dataset is 3; it must be a table",
        "9: seeds is 0",
        "10: epochs is 1.5; it must be a whole number from 1 up",
        "14: lr is -1; it must be a number above 0",
        "15: unknown key 'learning_rate' in [train]",
        "16: device is 'tpu'",
        "22: dropout is 1.0",
        "23: unknown model 'hiden' in [model.hiden]",
        "12: out is 7",
        "17: threads stands in [budget] now",
        "19: unknown key 'thread' in [budget]: did you mean 'threads'?",
        "20: memory_gb is 0; it must be a number above 0",
    ):
        assert sum(problem.removeprefix(file).startswith(part) for problem in found) == 1, (part, found)
    assert all("\n" not in problem for problem in found)
    assert len(found) == len(set(found)) == 18


MORE_WRONG = """
datasets = ["cora", 3, "synthetic(num_node=9)"]
models = ["gat"]                                              # 3
samplers = ["vrgcn", "gas(num_part=3)", "neighbour", "neighbor(lr=-1)"]
epochs = 20
data_dir = "nowhere"                                          # 6
[train]
patience = 30
lrr = 0.1                                                     # 9
device = "cuda:99"
[budget]
memory_gb = 0                                                 # 12
[model]
hidden = "64"
[sampler.gas]                                                 # 15
num_parts = "many"
refrehs = true
[dataset.synthetic]                                           # 18
num_edge = 50
[[case]]
for = { modell = "gat" }                                      # 21
sampler = { refresh = false }
[[case]]
for = { model = "gat" }                                       # 24
train = { weight_decay = -1 }
model = { headz = 2 }
"""


def test_slips_of_one_kind_do_not_hide_those_of_another(tmp_path):
    """What is wrong by itself is left out, and the rest is judged by what it would come to."""
    found = problems(tmp_path, MORE_WRONG)
    file = f"{tmp_path}/trial.toml:"
    expected = (
        "2: datasets has 3; each must be a name in quotes",
        "2: synthetic takes no option 'num_node'; did you mean num_nodes?",
        "4: sampler 'gas' has no argument 'num_part', did you mean 'num_parts'?",
        "4: unknown sampler 'neighbour'",
        "4: neighbor: lr is -1",
        "4: model gat does not go with sampler vrgcn",
        "6: data_dir nowhere is not a folder",
        "8: patience is 30 and epochs 20",
        "9: unknown key 'lrr' in [train]",
        "10: device is 'cuda:99'",
        "12: memory_gb is 0",
        "14: hidden is '64'",
        "16: sampler gas: num_parts='many' has to be",
        "17: sampler 'gas' has no argument 'refrehs', did you mean 'refresh'?",
        "19: synthetic takes no option 'num_edge'; did you mean num_edges?",
        "21: unknown key 'modell' in for",
        "25: weight_decay is -1",
        "26: model gat has no setting 'headz'",
    )
    for part in expected:
        assert sum(problem.removeprefix(file).startswith(part) for problem in found) == 1, (part, found)
    assert len(found) == len(expected), found
    lines = [int(problem.removeprefix(file).partition(":")[0]) for problem in found]
    assert lines == sorted(lines)


def test_a_rule_is_not_blamed_for_a_number_of_epochs_that_is_no_number(tmp_path):
    (found,) = problems(tmp_path, 'datasets = ["cora"]\nepochs = "many"\n[train]\npatience = 500')
    assert "epochs is 'many'" in found


@pytest.mark.parametrize("seeds", ["0", "x", "", "1.5", "3,3", "-1"])
def test_seeds_that_are_none_are_refused(seeds):
    with pytest.raises(SpecificationError, match="seeds is"):
        read_specification(None, {"datasets": "cora", "seeds": seeds})


@pytest.mark.parametrize(("text", "seeds"), [("3", [0, 1, 2]), ("5,2", [5, 2]), ("7,", [7])])
def test_seeds_are_a_number_or_a_list(text, seeds):
    assert read_specification(None, {"datasets": "cora", "seeds": text}).seeds == seeds


def test_a_missing_or_broken_file_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no specification '.*no\.toml'"):
        read_specification(tmp_path / "no.toml", {})
    (found,) = problems(tmp_path, "epochs = 3")
    assert found.startswith(f"{tmp_path}/trial.toml: no dataset is given")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("\ndatasets = [1 2]\n", "2: this is not valid TOML: Unclosed array"),
        ("a = 1\n\na = 2\n", "3: this is not valid TOML: a is given twice"),
        ("[train]\nlr = 1\n[train]\n", "3: this is not valid TOML: the table train is headed twice"),
        ("[train]\nlr", "2: this is not valid TOML"),
        ("a = 1\nb = '\xe4\xe4", "2: this is not valid TOML"),
        ("a = 1\n" + "x" * 3 + " = " + "[" * 5000, ": its arrays or tables are nested too deeply"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(tmp_path, text, place):
    (found,) = problems(tmp_path, text)
    assert found.removeprefix(f"{tmp_path}/trial.toml").removeprefix(":" if place[0] != ":" else "").startswith(place)


def test_a_file_in_another_encoding_is_told_with_its_line(tmp_path):
    path = tmp_path / "trial.toml"
    path.write_bytes(b'datasets = ["cora"]\n# \xe4\n')
    with pytest.raises(SpecificationError, match=r"trial.toml:2: .* save the file as UTF-8"):
        read_specification(path, {})
    path.write_bytes(b'\xef\xbb\xbfdatasets = ["cora"]\r\nsamplers = ["full"]\r\nepochs = 3\r\n')
    assert read_specification(path, {}).training["epochs"] == 3


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"patience": 100}, "--patience: patience is 100 and epochs 100, so that patience can never end a run"),
        ({"max_seconds": 5.0, "cell_seconds": 5.0}, r"--max-seconds: max_seconds is 5.0 and cell_seconds 5.0 \(--cell"),
        ({"target": 82.0}, "--target: target is 82.0; it must be a number above 0, and 1 at most"),
        ({"device": "cuda:99"}, "--device: device is 'cuda:99', but"),
        ({"models": "gat", "samplers": "vrgcn"}, "--samplers: model gat does not go with sampler vrgcn: GATConv"),
        ({"models": "pna", "samplers": "asgcn"}, "--samplers: model pna does not go with sampler asgcn: PNAConv"),
        ({"samplers": "neighbor(history_dtype='int8')"}, "--samplers: sampler neighbor: history_dtype means nothing"),
        ({"samplers": "ripple(graph_placement='device')"}, "graph_placement is 'device', but the CPU draws it; leave"),
        ({"samplers": "gas(history_placement='device')"}, "history_placement is 'device', but it needs device 'cuda'"),
        (
            {"samplers": "gas(history_placement='pinned')"},
            "history_placement is 'pinned', but it needs a GPU, and torch",
        ),
        ({"samplers": "neighbor(graph_placement='pinned')"}, "graph_placement is 'pinned', but it needs device 'cuda'"),
        ({"samplers": "full(cuda_graph=True)"}, "--samplers: sampler full: cuda_graph=True is for a GPU; pass device"),
        ({"models": "gat", "hidden": 9}, "--model: model gat: heads=8 has to divide the 9 columns"),
        ({"models": "gat", "rest_weight_decay": 0.1}, "--rest-weight-decay: model gat: rest_weight_decay=0.1"),
        ({"samplers": "neighbor(fanouts=[5])"}, "--samplers: sampler 'neighbor': .*draws 1 layers"),
    ],
)
def test_combinations_that_cannot_work_are_refused_with_the_flag(flags, sentence):
    with pytest.raises(SpecificationError, match=sentence) as caught:
        read_specification(None, {"datasets": "cora", "samplers": "full", **flags})
    assert len(caught.value.problems) == 1


def test_an_unknown_model_setting_is_refused(tmp_path):
    (found,) = problems(tmp_path, 'datasets = ["cora"]\n[model.gcn]\nhiden = 3')
    assert "model gcn has no setting 'hiden': did you mean 'hidden'?" in found


def test_a_file_of_the_users_own_is_a_dataset(tmp_path):
    graph = tmp_path / "my graph (1).npz"
    graph.write_bytes(b"")
    spec = read_specification(None, {"datasets": f"{graph},cora"})
    assert [(dataset.name, dataset.label) for dataset in spec.datasets] == [
        (str(graph), "my graph (1)"),
        ("cora", "cora"),
    ]


def test_the_name_of_a_cells_file_changes_with_every_setting_and_with_nothing_else():
    cell = make_cell()
    others = [
        make_cell(seed=1),
        make_cell("gas"),
        make_cell(sampler=Choice("full", {"a": 1}, "full")),
        make_cell(model=Choice("gcn", {"layers": 3}, "gcn")),
        make_cell(training={**cell.training, "lr": 0.02}),
        make_cell(facts=Facts(10, 20, 2, "accuracy", "d2")),
        make_cell(budget={**cell.budget, "threads": 2}),
    ]
    assert len({other.file_name for other in [cell, *others]}) == 8
    assert cell.file_name.startswith("toy-gcn-full-seed0-")
    moved = make_cell(sampler=Choice("full", {}, "full(renamed)"), data_dir=Path("elsewhere"))
    assert moved.file_name == cell.file_name
    # What a cell came to within one bound, it would come to within another.
    bounded = make_cell(budget={**cell.budget, "memory_gb": 2.0, "cell_seconds": 60.0})
    assert bounded.file_name == cell.file_name
    assert bounded.settings["budget"]["memory_gb"] == 2.0


def test_the_demo_is_a_valid_specification():
    spec = read_specification(DEMO, {})
    assert [sampler.label for sampler in spec.samplers] == ["full", "neighbor", "cluster", "gas"]
    assert (len(spec.seeds), spec.out) == (3, Path("runs/demo"))


def test_models_that_look_far_have_the_layers_of_their_papers():
    flags = {"datasets": "synthetic", "models": "gcn,appnp,gcnii", "samplers": "full"}
    layers = [model.arguments["layers"] for model in read_specification(None, flags).models]
    assert layers == [2, 10, 64]
    same = read_specification(None, {**flags, "layers": 3})
    assert {model.arguments["layers"] for model in same.models} == {3}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecificationError, match=r"--out: out is '.*file/sub', and '.*file' is a file"):
        read_specification(None, {"datasets": "cora", "out": tmp_path / "file" / "sub"})
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(SpecificationError, match=r"--out: .* you may not write to '.*'; name another"):
        read_specification(None, {"datasets": "cora", "samplers": "full", "out": tmp_path / "a" / "b"})


def test_tune_is_left_as_it_stands(tmp_path):
    spec = read(tmp_path, 'datasets = ["cora"]\nsamplers = ["full"]\n[tune]\ntrials = 3\ntrain.lr = [0.1, "x"]')
    assert spec.tune == {"trials": 3, "train": {"lr": [0.1, "x"]}}
    assert spec.places.of("tune", "train", "lr", 1) == f"{tmp_path}/trial.toml:5: "
