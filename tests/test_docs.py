"""What the pages show runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/autoscale.md", "docs/data.md", "docs/features.md", "docs/history.md", "docs/inference.md"],
)
def test_the_python_on_the_page_runs(page, tmp_path, monkeypatch, capsys):
    """Every Python block of the page, in order, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_the_files_that_a_page_links_to_are_there(page):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://") or ((ROOT / page).parent / link).exists(), link


def test_the_walk_through_of_a_sampler_of_ones_own(tmp_path):
    """The page's files are written, its commands run, and what it shows of their output is there."""
    text = (ROOT / "docs" / "plug-in.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL))
    assert set(files) == {"my_sampler.py", "test_my_sampler.py"}
    assert len(files["my_sampler.py"].strip().splitlines()) <= 30
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            program, _, rest = command.partition(" ")
            if program in ("gnnscale", "pytest"):
                command = f"{sys.executable} -m {program} {rest}"
            run = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            output = run.stdout + run.stderr
            for part in re.split(r"\.\.\.|\n", shown):
                assert part.strip() in output, (command, part, output)
            assert run.returncode == ("FAILED" in shown), (command, output)
