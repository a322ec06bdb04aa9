"""Which implementation runs, and that the package installs without a compiler."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gnnscale.ops import _backend

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_native_can_be_switched_off() -> None:
    code = "from gnnscale import ops; print(ops.backend(), ops.backend_reason())"
    assert run(code, GNNSCALE_NATIVE="0").startswith("torch The native operations are switched off")


def test_operations_work_without_native() -> None:
    code = """
import torch
from gnnscale import ops
indptr, indices = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2])
print(ops.sample_neighbors(indptr, indices, torch.tensor([0]), [10, 10], key=0)[0].tolist())
print(ops.gather_rows(indices, torch.tensor([1])).tolist())
print(ops.spmm(indptr, indices, None, torch.eye(3)).argmax(1).tolist())
"""
    assert run(code, GNNSCALE_NATIVE="0").split("\n")[:3] == ["[0, 1, 2]", "[2]", "[1, 2, 0]"]


@pytest.mark.parametrize(
    ("there", "module", "reason"),
    [
        (False, None, "torch finds no GPU; on a machine with one"),
        (True, None, "The CUDA kernels were not built for this Python; put the CUDA toolkit's nvcc on the PATH"),
        (True, SimpleNamespace(obstacle=lambda: "there is no GPU"), "The CUDA kernels cannot run: there is no GPU"),
        (True, SimpleNamespace(obstacle=lambda: ""), ""),
    ],
)
def test_cuda_kernels_are_in_use_or_it_is_said_why_not(
    monkeypatch: pytest.MonkeyPatch, there: bool, module: Any, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setitem(sys.modules, "gnnscale._cuda", module)  # None: not to be found
    monkeypatch.delenv("GNNSCALE_NATIVE", raising=False)
    found, why = _backend._load_cuda.__wrapped__()
    assert (found is module) if reason == "" else (found is None)
    assert why.startswith(reason)
    assert (why == "") == (reason == "")


@pytest.mark.slow
def test_installs_without_a_compiler(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in ("native", "gnnscale"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-v", "--no-deps", "--target", str(target), str(source)],
        env=os.environ | {"CC": "/nonexistent", "CXX": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the native operations were not built" in done.stdout + done.stderr
    code = "from gnnscale import ops; print(ops.backend(), ops.backend_reason())"
    # -S: without the packages' start-up files, one of which may point to an editable install of this project.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=target,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(target), sysconfig.get_path("purelib")])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("torch The native operations were not built")
