"""Tell whether the curves of a comparison are the same, number by number, wherever histories were kept.

python experiments/histories/equal.py runs/placements/results.parquet
"""

import re
import sys

import gnnscale as gs

NUMBERS = ["epoch", "loss", "val", "test", "staleness", "staleness_max", "history_bytes_pulled"]


def main(path: str) -> int:
    results = gs.read_results(path)
    # What a sampler is called without the setting.
    results["method"] = results["sampler"].map(lambda name: re.sub(r",? ?history_placement='\w+'", "", name))
    all_same = True
    for names, runs in results.groupby(["dataset", "method", "seed"]):
        curves = [run.sort_values("epoch")[NUMBERS].to_numpy() for _, run in runs.groupby("sampler")]
        same = all((curve == curves[0]).all() for curve in curves)
        all_same &= same
        print(*names, f"{len(curves)} placements, {len(curves[0])} epochs:", "the same" if same else "NOT the same")
    return 0 if all_same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
