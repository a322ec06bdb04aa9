"""Builds the native operations with CMake; without a C++ compiler the package installs all the same."""

import os
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


class CMakeBuild(build_ext):
    """Hands the one extension to CMake, and turns any failure into a note."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / "cmake"
        configure = [
            "cmake",
            "-S", str(ROOT / "native"),
            "-B", str(build),
            "-G", "Ninja",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={build}",
        ]  # fmt: skip
        # A module of an earlier build must not pass for this one, should this one fail; an editable install has it in
        # the sources.
        for earlier in (target, ROOT / "gnnscale" / target.name):
            earlier.unlink(missing_ok=True)
        jobs = str(self.parallel or os.cpu_count() or 1)
        try:
            # Afresh each time: CMake's cache would hold on to the paths of an earlier build environment.
            subprocess.run([*configure, "--fresh"], check=True)
            subprocess.run(["cmake", "--build", str(build), "--parallel", jobs], check=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(build / target.name), str(target))
        except (OSError, subprocess.CalledProcessError) as error:
            print(NOT_BUILT.format(reason=error), file=sys.stderr)


setup(
    ext_modules=[Extension("gnnscale._native", sources=[], optional=True)],
    cmdclass={"build_ext": CMakeBuild},
)
