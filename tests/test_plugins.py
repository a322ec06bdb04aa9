"""Samplers in files of the user's and in other packages: found, compared, and refused in one sentence."""

import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gnnscale.cli import app
from gnnscale.compare.plan import Facts, make_cells
from gnnscale.compare.results import read_results
from gnnscale.compare.specification import SpecificationError, read_specification
from gnnscale.loader import DataLoader
from gnnscale.plugins import find_sampler, source_digest
from gnnscale.samplers import GASSampler, make_sampler
from tests.conftest import make_graph

ROOT = Path(__file__).parents[1]
SMALL = "synthetic(num_nodes=200, num_edges=1500, num_classes=3, communities_per_class=2)"

MINE = """
    import dgl

    class Mine:
        '''Takes k in-edges a node.'''

        def __init__(self, k, num_layers=1, **rest):
            self.k, self.num_layers, self.rest = k, num_layers, rest

        def sample_blocks(self, g, seeds):
            return dgl.dataloading.NeighborSampler([self.k] * self.num_layers).sample_blocks(g, seeds)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text=MINE):
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that installs a package which offers samplers."""

    def install(entries, text=MINE):
        site = tmp_path / "site"
        info = site / "their_package-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[gnnscale.samplers]\n" + entries)
        write(site / "their_package.py", text)
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, "their_package", raising=False)
        return site

    return install


def gnnscale(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_class_in_a_file_is_a_sampler(folder):
    write(folder / "mine.py")
    sampler = make_sampler("mine.py:Mine", num_layers=2, num_nodes=60, k=3, anything=7)
    assert (sampler.k, sampler.num_layers, sampler.rest) == (3, 2, {"anything": 7})
    batch = next(iter(DataLoader(make_graph(), torch.arange(60), sampler, batch_size=10)))
    assert len(batch.layers(2)) == 2


def test_it_can_be_pickled_and_is_loaded_once(folder):
    write(folder / "mine.py")
    cls = find_sampler("mine.py:Mine")
    assert find_sampler(f"{folder}/mine.py:Mine") is cls
    assert type(pickle.loads(pickle.dumps(cls(3)))) is cls


def test_an_edited_file_is_read_again(folder):
    write(folder / "mine.py")
    before = find_sampler("mine.py:Mine")
    write(folder / "mine.py", MINE.replace("k in-edges", "n in-edges"))
    assert "n in-edges" in find_sampler("mine.py:Mine").__doc__
    assert "k in-edges" in before.__doc__


def test_it_may_import_what_lies_beside_it(folder):
    (folder / "beside_mine.py").write_text("NAME = 'sample_blocks'")
    write(folder / "mine.py", "from beside_mine import NAME\nMine = type('Mine', (), {NAME: lambda self, g, s: None})")
    assert find_sampler("mine.py:Mine").__name__ == "Mine"
    assert str(folder) not in sys.path


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("no.py:Mine", MINE, "sampler 'no.py:Mine': there is no file 'no.py'"),
        ("mine.py", MINE, "sampler 'mine.py' names no class; write it like mine.py:MySampler"),
        ("mine.py:Mien", MINE, "mine.py has no class 'Mien'; did you mean 'Mine'? it has Mine"),
        ("mine.py:Mine", "x = 1", "mine.py has no class 'Mine'; nor any other with sample_blocks"),
        ("mine.py:Mine", "class Mine:\n    pass", "mine.py:Mine has no method sample_blocks(g, seeds)"),
        ("mine.py:Mine", "import os\n\nos.no_such", "mine.py, line 3: AttributeError: module 'os' has no"),
        ("mine.py:Mine", "import os\nclass Mine\n", "mine.py, line 2: SyntaxError: expected ':'"),
        ("mine.py:Mine", "def f():\n    raise SystemExit(3)\nf()", "mine.py, line 2: SystemExit: 3"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(folder, name, text, sentence):
    write(folder / "mine.py", text)
    with pytest.raises(ValueError) as caught:
        find_sampler(name)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("constructor", "arguments", "sentence"),
    [
        ("def __init__(self, k, n=1): pass", {}, "'mine.py:Mine' has to be given k; write mine.py:Mine(k=...)"),
        ("def __init__(self, k, n=1): pass", {"m": 1}, "'mine.py:Mine' has no argument 'm'; it takes k, n"),
        ("def __init__(self): {}['k']", {}, "'mine.py:Mine' cannot be made: KeyError: 'k'"),
        ("num_layers = 3", {}, "draws 3 layers and the model has 2"),
    ],
)
def test_arguments_that_do_not_fit_are_one_sentence(folder, constructor, arguments, sentence):
    write(folder / "mine.py", f"class Mine:\n    {constructor}\n    def sample_blocks(self, g, seeds): pass")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make_sampler("mine.py:Mine", num_layers=2, num_nodes=60, **arguments)


def test_a_package_offers_a_sampler(package):
    package("theirs = their_package:Mine\n")
    assert make_sampler("theirs", num_layers=2, num_nodes=60, k=3).num_layers == 2
    shown = gnnscale("list")
    assert "theirs      Of their-package: their_package:Mine" in shown.stdout


@pytest.mark.parametrize(
    ("entries", "name", "sentence"),
    [
        (
            "theirs = no_such_package:Mine\n",
            "theirs",
            "of the package their-package cannot be imported: ModuleN",
        ),
        ("theirs = their_package:no\n", "theirs", "of the package their-package cannot be imported: AttributeError"),
        ("theirs = their_package:dgl\n", "theirs", "is their_package:dgl, which is no class; name a class"),
        ("gas = their_package:Mine\n", "gas", "is gnnscale's own, and the package their-package offers another"),
    ],
)
def test_what_is_wrong_with_a_packages_sampler_is_one_sentence(package, entries, name, sentence):
    package(entries)
    with pytest.raises(ValueError, match=sentence):
        find_sampler(name)


def test_gnnscales_own_names_are_found_as_ever():
    assert find_sampler("gas") is GASSampler
    with pytest.raises(ValueError, match=r"sampler 'labour' is not known; use one of full, neighbor, .*MySampler"):
        find_sampler("labour")


def cell_of(text, **flags):
    specification = read_specification(None, {"datasets": "cora", "samplers": text, **flags})
    return make_cells(specification, {"cora": Facts(10, 20, 1, "accuracy", "x")})[0]


def test_a_cell_knows_the_file_by_its_content(folder):
    write(folder / "mine.py")
    first = cell_of("mine.py:Mine(k=3)")
    assert first.file_name.startswith("cora-gcn-mine-seed0-")
    assert first.sampler.name == f"{folder}/mine.py:Mine"
    (folder / "moved here").mkdir()
    (folder / "mine.py").rename(folder / "moved here" / "mine (2).py")
    moved = cell_of("moved here/mine (2).py:Mine(k=3)")
    assert (moved.file_name, moved.settings) == (first.file_name, first.settings)
    write(folder / "moved here" / "mine (2).py", MINE + "# edited\n")
    assert cell_of("moved here/mine (2).py:Mine(k=3)").file_name != first.file_name


def test_a_packages_sampler_counts_by_its_content_too(package):
    site = package("theirs = their_package:Mine\n")
    first = cell_of("theirs(k=3)")
    write(site / "their_package.py", MINE + "# edited\n")
    assert cell_of("theirs(k=3)").file_name != first.file_name


def test_it_is_called_by_its_class_and_by_more_where_that_is_not_enough(folder):
    for name in ("a.py", "b.py"):
        write(folder / name)

    def labels(text):
        choices = read_specification(None, {"datasets": "cora", "samplers": text}).samplers
        return [choice.label for choice in choices]

    assert labels("neighbor,a.py:Mine(k=1)") == ["neighbor", "Mine"]
    assert labels("a.py:Mine(k=1),a.py:Mine(k=2)") == ["Mine(k=1)", "Mine(k=2)"]
    assert labels("a.py:Mine(k=1),b.py:Mine(k=1)") == ["a.py:Mine(k=1)", "b.py:Mine(k=1)"]
    with pytest.raises(SpecificationError, match="given 2 times"):
        labels("a.py:Mine(k=1),a.py:Mine(k=1)")


def test_a_specification_names_it_in_a_table(folder):
    write(folder / "mine.py")
    text = """
        datasets = ["cora"]
        samplers = ["mine.py:Mine", "mine.py:Mine(k=5)"]
        [sampler."mine.py:Mine"]
        k = 2
        lr = 0.5
    """
    specification = read_specification(write(folder / "trial.toml", text), {})
    assert [choice.arguments for choice in specification.samplers] == [{"k": 2, "lr": 0.5}, {"k": 5, "lr": 0.5}]
    with pytest.raises(SpecificationError, match=r"there is no file 'no\.py'"):
        read_specification(folder / "trial.toml", {"samplers": "no.py:Mine"})


def test_it_is_compared_with_the_others(folder):
    write(folder / "mine.py")
    run = gnnscale(
        "compare", "--dataset", SMALL, "--samplers", "full,mine.py:Mine(k=3)", "--epochs", 2, "--hidden", 4,
        "--out", folder / "out",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    results = read_results(folder / "out" / "results.parquet")
    assert set(results["sampler"]) == {"full", "Mine"}
    assert set(results["status"]) == {"ok"}


def test_what_is_wrong_with_it_is_said_before_anything_runs(folder):
    write(folder / "mine.py", "import os\nos.no_such\n" + textwrap.dedent(MINE))
    run = gnnscale("compare", "--dataset", SMALL, "--samplers", "full,mine.py:Mine,no.py:A", "--out", folder / "out")
    assert run.exit_code == 2
    assert "there is no file 'no.py'" in run.stderr
    run = gnnscale("compare", "--dataset", SMALL, "--samplers", "full,mine.py:Mine", "--out", folder / "out")
    assert (run.exit_code, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1
    assert "mine.py, line 2: AttributeError" in run.stderr


def test_the_command_check_says_what_it_found(folder):
    write(folder / "mine.py")
    run = gnnscale("check", "mine.py:Mine(k=3)", "--draws", 200)
    assert run.exit_code == 0, run.stdout
    assert "  blocks             ok\n" in run.stdout
    assert run.stdout.endswith("13 of 13 checks passed\n")
    write(folder / "mine.py", MINE.replace("return dgl", "return None\n            return dgl"))
    run = gnnscale("check", "mine.py:Mine(k=3)", "--draws", 200)
    assert run.exit_code == 1
    assert "  blocks             FAILED: Mine.sample_blocks returned NoneType; it has to return" in run.stdout
    assert "  pickle             FAILED: as blocks\n" in run.stdout
    assert "0 of 13 checks passed" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["labour"], "sampler 'labour' is not known"),
        (["gas(num_part=3)"], "has no argument 'num_part'"),
        (["gas(3)"], "argument without a name"),
        (["gas", "--draws", "3"], "draws=3 has to be a whole number of at least 200"),
    ],
)
def test_the_command_check_refuses_bad_input(arguments, sentence):
    run = gnnscale("check", *arguments)
    assert (run.exit_code, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1
    assert sentence in run.stderr


def test_no_code_of_others_runs_where_it_is_not_asked_for(package):
    package("theirs = their_package:Mine\n", text="raise SystemExit('imported')")
    site = next(path for path in sys.path if (Path(path) / "their_package.py").exists())
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    run = subprocess.run(
        [sys.executable, "-m", "gnnscale", "list"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "theirs" in run.stdout


def test_a_change_in_what_a_samplers_file_imports_from_its_folder_is_another_sampler(folder):
    write(folder / "mine.py", "import os\nimport helper\nfrom parts import draw\nfrom parts.deep import more\n")
    files = ["helper.py", "parts/__init__.py", "parts/draw.py", "parts/deep.py", "parts/inner.py"]
    (folder / "parts").mkdir()
    for name in files:
        write(folder / name, "from .inner import x\n" if name == "parts/draw.py" else "y = 1\n")
    write(folder / "unrelated.py", "z = 1\n")
    digests = [source_digest("mine.py:Mine")]
    for name in files:
        with open(folder / name, "a") as file:
            file.write("# changed\n")
        digests.append(source_digest("mine.py:Mine"))
    assert len(set(digests)) == 1 + len(files)
    write(folder / "unrelated.py", "z = 2\n")
    (folder / "other").mkdir()
    assert source_digest("mine.py:Mine") == digests[-1]
    write(folder / "broken.py", "import helper\nthis is no Python\n")
    assert source_digest("broken.py:Mine") != digests[-1]  # the cell that runs it says what is wrong


def test_a_change_in_a_packages_other_modules_is_another_sampler(package, tmp_path):
    package("theirs = their_package:Mine\n")
    before = source_digest("theirs")
    write(tmp_path / "site" / "their_package.py", "import dgl\n" + textwrap.dedent(MINE))
    assert source_digest("theirs") != before
