"""Made results for the tests of the page: known curves, failed runs, and names that would do harm in HTML."""

import json

import numpy as np
import pandas as pd

#: A name and a reason that end a script, open a tag, and run something, were they not escaped.
EVIL_NAME = "mine.py:Bad(k='</script><img src=x onerror=alert(1)>')"
EVIL_REASON = "failed: ValueError: </script><script>document.title = 'injected'</script><b onclick=x>&lt;{{policy}}"

MACHINE = json.dumps({"cpu": "a CPU", "cores": 2, "versions": {"torch": "2.13.0"}, "command": "gnnscale compare"})


def settings_of(dataset, model, sampler, seed, target=None):
    return json.dumps(
        {
            "dataset": dataset,
            "model": model,
            "model_arguments": {"hidden": 64},
            "sampler": sampler,
            "sampler_arguments": {"num_parts": 40} if sampler == "gas" else {},
            "seed": seed,
            "training": {"epochs": 5, "lr": 0.01, "target": target},
            "budget": {"threads": 1},
        },
        sort_keys=True,
    )


def one_run(dataset, model, sampler, seed, *, epochs=5, speed=1.0, status="ok", outcome="ok", target=None):
    """A run whose test metric is 0.5 + 0.05 epoch + 0.01 seed, at ``speed`` seconds an epoch."""
    epoch = np.arange(1, epochs + 1)
    seconds = speed * epoch
    points = {
        "epoch": epoch, "train_seconds": seconds, "loss": 1 / epoch, "steps": 4 * epoch, "edges": 1000 * epoch,
        "val": 0.5 + 0.05 * epoch, "test": 0.5 + 0.05 * epoch + 0.01 * seed,
        "staleness": np.full(epochs, 3.0 if sampler == "gas" else np.nan),
        "sample_seconds": 0.5 * seconds, "gather_seconds": 0.1 * seconds, "transfer_seconds": 0.0 * seconds,
        "wait_seconds": 0.6 * seconds, "history_seconds": 0.0 * seconds, "compute_seconds": 0.4 * seconds,
        "history_wait_seconds": 0.0 * seconds, "evaluation_seconds": 0.1 * seconds,
    }  # fmt: skip
    return pd.DataFrame(points if epochs else {name: [np.nan] for name in points} | {"epoch": [0]}).assign(
        dataset=dataset,
        model=model,
        sampler=sampler,
        seed=seed,
        status=status,
        outcome=outcome,
        prepare_seconds=10.0,
        peak_memory_mb=500.0,
        peak_device_memory_mb=np.nan,
        metric="accuracy",
        num_nodes=10,
        num_edges=20,
        split=0,
        machine=MACHINE,
        settings=settings_of(dataset, model, sampler, seed, target),
    )


def made_results(datasets=("cora", "citeseer"), samplers=("full", "neighbor", "gas"), seeds=3, **changes):
    """All finish, ``neighbor`` takes twice as long as ``full``, and ``gas`` three times."""
    speeds = {sampler: 1.0 + i for i, sampler in enumerate(samplers)}
    runs = [
        one_run(dataset, "gcn", sampler, seed, speed=speeds[sampler], **changes)
        for dataset in datasets
        for sampler in samplers
        for seed in range(seeds)
    ]
    return pd.concat(runs, ignore_index=True)


def results_with_failures():
    """Beside finished runs: one that diverged after two epochs, and an evil one that never had a point."""
    failed = [
        one_run("cora", "gcn", "gas", 3, epochs=2, status="diverged: the loss is nan at epoch 3", outcome="diverged"),
        one_run("cora", "gcn", EVIL_NAME, 0, epochs=0, status=EVIL_REASON, outcome="raised"),
    ]
    return pd.concat([made_results(target=0.7), *failed], ignore_index=True)
