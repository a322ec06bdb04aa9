"""A build of the CUDA kernels for the host: warps and lanes become loops."""

import fcntl
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
NAME = "_cuda_on_host"


def missing() -> str:
    """What is not there to build them; empty where all is."""
    if importlib.util.find_spec("nanobind") is None:
        return "nanobind"
    if compiler() is None:
        return "a C++ compiler"
    return ", ".join(tool for tool in ("cmake", "ninja") if _which(tool) is None)


def compiler() -> str | None:
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """For one process at a time: several run tests."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built() -> ModuleType:
    """The module, compiled as far as its sources have changed."""
    folder = ROOT / "build" / f"cuda-on-host-{sys.implementation.cache_tag}"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        configure = [
            str(_which("cmake")), "-S", str(ROOT / "native" / "cuda"), "-B", str(folder), "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={_which('ninja')}", f"-DPython_EXECUTABLE={sys.executable}",
            "-DON_HOST=ON", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g",
        ]  # fmt: skip
        for command in (configure, [str(_which("cmake")), "--build", str(folder), "--parallel", "2"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    return importlib.import_module(NAME)


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
