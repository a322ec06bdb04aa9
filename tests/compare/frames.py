"""Results made by hand, whose numbers a test can work out itself."""

import json

import pandas as pd

from gnnscale.compare.results import COLUMNS, concatenate

STAGES = {"sample": 0.3, "gather": 0.1, "transfer": 0.0, "history": 0.1, "compute": 0.5, "wait": 0.4}


def one_run(sampler, seed, tests=(0.4, 0.6, 0.5), *, vals=None, dataset="toy", model="gcn", speed=1.0, status="ok",
            outcome=None, started=None, machine=None, layers=2, training=None, arguments=None, **columns):  # fmt: skip
    """The rows of one run: an epoch takes ``speed`` seconds, and its validation metric is the test metric."""
    settings = {
        "data": dataset, "dataset": dataset, "dataset_arguments": {}, "split": 0, "model": "gcn",
        "model_arguments": {"layers": layers}, "sampler": sampler.partition("(")[0],
        "sampler_arguments": arguments or {}, "seed": seed, "training": {"lr": 0.01, **(training or {})},
        "budget": {"threads": 1},
    }  # fmt: skip
    rows = [
        {
            "epoch": epoch, "train_seconds": speed * epoch, "loss": 1 / epoch, "val": val, "test": test,
            "steps": 4 * epoch,
            "edges": 100 * epoch, "evaluation_seconds": 0.25 * epoch,
            **{f"{stage}_seconds": share * speed * epoch for stage, share in STAGES.items()},
        }
        for epoch, (val, test) in enumerate(zip(vals or tests, tests, strict=True), start=1)
    ]  # fmt: skip
    frame = pd.DataFrame(rows or [{"epoch": 0}]).assign(
        dataset=dataset, model=model, sampler=sampler, seed=seed, status=status, outcome=outcome or status,
        prepare_seconds=0.5, peak_memory_mb=100.0 + seed, metric="accuracy", num_nodes=10, num_edges=20, split=0,
        settings=json.dumps(settings), started=pd.Timestamp(started, tz="UTC") if started else None, machine=machine,
    )  # fmt: skip
    frame = frame.assign(**columns).reindex(columns=list(COLUMNS)).astype({"staleness_histogram": object})
    frame["started"] = pd.to_datetime(frame["started"], utc=True)
    return frame


def results_of(*runs):
    return concatenate(runs)
