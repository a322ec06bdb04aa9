"""Run the benchmarks, each in a process of its own, and write the table and the figures: ``make bench``.

    python experiments/speed/run.py                     # all, 20 minutes on two cores
    python experiments/speed/run.py --quick             # on graphs of a twentieth of the size, a few minutes
    python experiments/speed/run.py --only gather --only neighbor

Lines of benchmarks that are not run are taken over from the results that are there.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

FOLDER = Path(__file__).parent
# An interpreter that has the peers need not have gnnscale.
sys.path.insert(1, str(FOLDER.parents[1]))

import figure  # noqa: E402
import pandas as pd  # noqa: E402
import results  # noqa: E402
from measure import OURS, Line  # noqa: E402
from peers import machine  # noqa: E402

# File, and the threads it is measured with where that is not the user's to say.
BENCHMARKS = ("neighbor", "samplers", "aggregation", "gather", "gas", "reddit", "scale", "accuracy")
QUICK = 0.05


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="one of the benchmarks; may be repeated")
    parser.add_argument("--quick", action="store_true", help=f"graphs of {QUICK:.0%}% of the size, into runs/speed")
    parser.add_argument("--scale", type=float, help="factor of the sizes")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--data-dir", help="folder with the files of Cora and CiteSeer; else they are downloaded")
    parser.add_argument("--out", type=Path, help="folder for results.csv and the figures")
    args = parser.parse_args(arguments)
    scale = args.scale or (QUICK if args.quick else 1.0)
    folder = args.out or (FOLDER if scale == 1.0 else Path("runs/speed"))
    folder.mkdir(parents=True, exist_ok=True)
    chosen = args.only or BENCHMARKS
    found, failed = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for number, name in enumerate(chosen, 1):
            print(f"[{number}/{len(chosen)}] {name}", flush=True)
            start = time.perf_counter()
            path = Path(scratch, f"{name}.csv")
            code, reason = run(name, path, scale, args.threads, args.data_dir)
            print(f"    {time.perf_counter() - start:.0f} s", flush=True)
            found += [{**row, "benchmark": name} for row in rows(path)]
            if code:
                failed.append(name)
                line = Line(name, "", OURS, float("nan"), repeats=0, note=f"failed: {reason}")
                found.append({**{field.name: getattr(line, field.name) for field in fields(Line)}, "benchmark": name})
    write(folder, found, list(chosen))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def run(name: str, out: Path, scale: float, threads: int, data_dir: str | None) -> tuple[int, str]:
    """One benchmark in a process of its own, shown as it goes; its exit code, and the last line of what went wrong."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--scale", str(scale), "--threads", str(threads)]
    command += ["--out", str(out)] + (["--data-dir", data_dir] if data_dir else [])
    # DGL's threads are OpenMP's, as torch's are; gnnscale may be a checkout that is not installed.
    path = os.pathsep.join([str(FOLDER.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    said = done.stderr.strip().splitlines()
    return done.returncode, said[-1] if said else f"exit code {done.returncode}"


def rows(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {**row, "value": float(row["value"]), "repeats": int(row["repeats"]), "threads": int(row["threads"])}
            for row in csv.DictReader(file)
        ]


def write(folder: Path, found: list[dict[str, object]], chosen: list[str]) -> None:
    """The results, the figures and, where they are the published ones, the page."""
    path = folder / "results.csv"
    lines = pd.DataFrame(found)
    if path.exists():
        _, before = results.read(path)
        lines = pd.concat([before[~before.benchmark.isin(chosen)], lines], ignore_index=True)
    order = {name: number for number, name in enumerate(BENCHMARKS)}
    lines = lines.sort_values("benchmark", key=lambda names: names.map(order), kind="stable")
    results.write(path, machine(), lines)
    described, lines = results.read(path)  # as the file has it, so that the page agrees with the file
    text = results.table(described, lines)
    figure.draw_bars(lines, folder / "speed.png")
    figure.draw_scale(lines, folder / "scale.png")
    if folder == FOLDER:
        results.update_page(results.PAGE, text)
    else:
        (folder / "table.md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
