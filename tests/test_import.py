"""`import gnnscale` is silent, fast and without side effects."""

import subprocess
import sys

import gnnscale as gs

PROGRAM = """
import os, sys, threading
before = dict(os.environ)
import gnnscale
assert not {"torch", "dgl", "pandas", "matplotlib"} & set(sys.modules), "heavy modules are imported"
gnnscale.DataLoader, gnnscale.samplers.GASSampler, gnnscale.nn.GCN
assert dict(os.environ) == before, "the environment was changed"
assert threading.active_count() == 1, "threads were started"
import gnnscale.loader, gnnscale.evaluation, gnnscale.training
assert callable(gnnscale.train) and callable(gnnscale.evaluate) and callable(gnnscale.load)
"""


def test_import_is_silent_and_changes_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_every_public_name_is_there():
    for name in gs.__all__:
        assert getattr(gs, name) is not None
    assert set(gs.__all__) <= set(dir(gs))
