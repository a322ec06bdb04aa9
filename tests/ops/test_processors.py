"""Processors without AVX-512, and without AVX2, emulated by qemu (Debian: apt-get install qemu-user)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gnnscale.ops import backend, backend_reason

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="there is no qemu-x86_64")
@pytest.mark.skipif(backend() != "native", reason=backend_reason())
@pytest.mark.parametrize("processor", ["Haswell", "Nehalem"])
def test_every_vector_width_computes_the_same(processor: str) -> None:
    command = ["qemu-x86_64", "-cpu", processor, sys.executable, "-m", "tests.ops.every_width"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all alike"
