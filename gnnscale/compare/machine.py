"""What a computation ran on: everything about the machine and the installation that could matter for its numbers."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gnnscale._version import __version__

#: The libraries whose versions are recorded.
LIBRARIES = ("torch", "dgl", "numpy")


def machine() -> dict[str, Any]:
    """Describe this machine and this installation, in values that JSON has.

    Returns
    -------
    dict
        ``versions`` (of python, gnnscale, torch, dgl and numpy; None for one that is not installed), ``commit`` and
        ``changed`` (of gnnscale's own sources, and whether they differ from it; None where they are no git checkout),
        ``cpu``, ``cores`` (that this process may use), ``memory_gb`` (10^9 bytes), ``gpu`` (None without), ``os``,
        ``backend`` (of the operations) and ``command``.

    Examples
    --------
    >>> about = machine()
    >>> about["cores"] >= 1, about["versions"]["python"].count(".")
    (True, 2)
    """
    from gnnscale.ops import backend

    commit, changed = _commit()
    return {
        "versions": {
            "python": platform.python_version(),
            "gnnscale": __version__,
            **{name: installed(name) for name in LIBRARIES},
        },
        "commit": commit,
        "changed": changed,
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_gb": memory_gb(),
        "gpu": gpu(),
        "os": platform.platform(),
        "backend": backend(),
        "command": command(),
    }


def installed(name: str) -> str | None:
    """The version of a package, which is not imported; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float:
    """The machine's memory in 10^9 bytes."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def command() -> str:
    """The command that this process was started with."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def gpu() -> str | None:
    """The GPUs that torch finds; None without."""
    import torch

    if not torch.cuda.is_available():
        return None
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{', '.join(names)} (CUDA {torch.version.cuda})"


def _commit() -> tuple[str | None, bool | None]:
    """The commit of gnnscale's sources, where they are a checkout of their own."""
    sources = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(sources), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # A package inside of a user's repository is not at that repository's commit.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != sources:
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def send_machine(send: Any) -> None:
    """Send :func:`machine`, from a process of its own."""
    send(machine())
