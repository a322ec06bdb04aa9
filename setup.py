"""Builds the native operations with CMake; without a compiler the package installs all the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent

NOT_BUILT = """\
gnnscale: the native operations were not built ({reason}).
gnnscale works without them, in torch alone, with neighbour sampling and aggregation several times slower.
For full speed, install a C++17 compiler (Debian, Ubuntu: apt install g++) and install gnnscale again.
"""
NO_CUDA = """\
gnnscale: the kernels for GPUs were not built ({reason}).
gnnscale works without them: on a GPU, torch does their work, slower.
"""


def cuda_compiler() -> str | None:
    """Where nvcc is: what CUDACXX names, else on the PATH, else where the toolkit's installer puts it."""
    named = os.environ.get("CUDACXX")
    candidates = [named] if named else ["nvcc", "/usr/local/cuda/bin/nvcc"]
    return next((path for name in candidates if (path := shutil.which(name))), None)


class CMakeBuild(build_ext):
    """Hands the extensions to CMake, and turns any failure into a note."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        # A module of an earlier build must not pass for this one, should this one fail; an editable install has it in
        # the sources.
        for earlier in (target, ROOT / "gnnscale" / target.name):
            earlier.unlink(missing_ok=True)
        if ext.name == "gnnscale._cuda":
            if (compiler := cuda_compiler()) is None:
                print(NO_CUDA.format(reason="there is no CUDA compiler, nvcc"), file=sys.stderr)
            else:
                self.build_with_cmake(target, "native/cuda", NO_CUDA, f"-DCMAKE_CUDA_COMPILER={compiler}")
        else:
            self.build_with_cmake(target, "native", NOT_BUILT)

    def build_with_cmake(self, target: Path, sources: str, note: str, *more: str) -> None:
        build = Path(self.build_temp).resolve() / ("cmake" if sources == "native" else "cmake-cuda")
        configure = [
            "cmake",
            "-S", str(ROOT / sources),
            "-B", str(build),
            "-G", "Ninja",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={build}",
            *more,
        ]  # fmt: skip
        jobs = str(self.parallel or os.cpu_count() or 1)
        try:
            # Afresh each time: CMake's cache would hold on to the paths of an earlier build environment.
            subprocess.run([*configure, "--fresh"], check=True)
            subprocess.run(["cmake", "--build", str(build), "--parallel", jobs], check=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(build / target.name), str(target))
        except (OSError, subprocess.CalledProcessError) as error:
            print(note.format(reason=error), file=sys.stderr)


setup(
    ext_modules=[Extension(f"gnnscale.{name}", sources=[], optional=True) for name in ("_native", "_cuda")],
    cmdclass={"build_ext": CMakeBuild},
)
