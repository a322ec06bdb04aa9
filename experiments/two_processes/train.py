"""GAS or VR-GCN by data-parallel training, all processes of a machine with one shared history.

    torchrun --nproc-per-node 2 experiments/two_processes/train.py --dataset cora
    python experiments/two_processes/train.py --dataset cora       # the same with one process

Each process trains on its share of an epoch's batches; torch's DistributedDataParallel averages the gradients. Numbers
of batches may differ by one: ``model.join()`` lets a process that has none left keep up with the others.
"""

import argparse
import contextlib
import gc
import json
import os
import statistics
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import gnnscale as gs
from gnnscale.samplers import make_sampler

BATCH_SIZES = {"gas": 8, "vrgcn": 20}  # of 40 parts and, on Cora, 140 nodes: an odd number of batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--data-dir")
    parser.add_argument("--sampler", choices=list(BATCH_SIZES), default="gas")
    parser.add_argument("--batch-size", type=int, help="parts (gas) or nodes (vrgcn) of a batch")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=1, help="how many runs, of seeds 0, 1, ...")
    parser.add_argument("--placement", default="shared", help="with host, each process has a history of its own")
    args = parser.parse_args()

    torch.set_num_threads(1)
    if "RANK" in os.environ:  # torchrun sets it
        dist.init_process_group("gloo")
    data = gs.load(args.dataset, args.data_dir)
    runs = [run(data, args, seed) for seed in range(args.seeds)]
    if rank() == 0:
        tests = [100 * result["test"] for result in runs]
        spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
        print(
            f"{args.dataset}, {args.sampler}, {world()} processes: test {statistics.mean(tests):.2f} ± {spread:.2f} %"
        )
    if dist.is_initialized():
        # The trained models are in cycles and hold on to the process group, whose threads would then live into the
        # interpreter's end, and abort there if they still have tensors to let go of.
        gc.collect()
        dist.destroy_process_group()


def run(data: gs.data.Dataset, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Train with one seed; rank 0 prints the result as a line of JSON."""
    torch.manual_seed(seed)
    model = gs.nn.GCN(data.num_features, 16, data.num_classes, num_layers=2, dropout=0.5)
    history = gs.HistoryStore(data.num_nodes, placement=args.placement)
    loader = gs.DataLoader(
        data.graph,
        data.train_ids,
        make_sampler(args.sampler, num_layers=2, num_nodes=data.num_nodes),
        batch_size=args.batch_size or BATCH_SIZES[args.sampler],
        shuffle=True,
        seed=seed,
        use_ddp=dist.is_initialized(),
        history=history,
    )
    trained = DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    torch.manual_seed(1000 * seed + rank())  # dropout differs between the processes

    best, seconds, steps, agreement = {"val": -1.0}, [], 0, 1.0
    for epoch in range(args.epochs):
        start = time.perf_counter()
        model.train()
        with trained.join() if dist.is_initialized() else contextlib.nullcontext():
            for batch in loader:
                loss = batch.loss(trained(batch, batch.x))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps += epoch == 0
        history.flush()
        barrier()  # what was pushed before it is seen after it
        seconds.append(time.perf_counter() - start)
        if epoch == 0:
            agreement = agreement_with_rank_0(history)
        # The weights are the same everywhere; one look at them is enough.
        if rank() == 0:
            best = max(best, gs.evaluate(model, data), key=lambda scores: scores["val"])
        barrier()
    history.close()
    result = {
        "processes": world(),
        "seed": seed,
        "test": best.get("test", 0.0),  # at the best validation epoch
        "epoch_ms": 1000 * statistics.median(seconds),
        "batches": [int(number) for number in gathered(steps)],
        "agreement": min(gathered(agreement)),
    }
    if rank() == 0:
        print(json.dumps(result), flush=True)
    return result


def agreement_with_rank_0(history: gs.HistoryStore) -> float:
    """Of the rows that rank 0 or this process sees written, the share that both see alike."""
    rows = history.pull(0, torch.arange(history.num_rows)).wait()
    others = rows.clone()
    if dist.is_initialized():
        dist.broadcast(others, 0)
    written = ((rows != 0) | (others != 0)).any(1)
    return (rows == others).all(1)[written].float().mean().item()


def gathered(number: float) -> list[float]:
    """The number of each process."""
    numbers = [torch.zeros(1) for _ in range(world())]
    if not dist.is_initialized():
        return [number]
    dist.all_gather(numbers, torch.tensor([float(number)]))
    return [one.item() for one in numbers]


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


if __name__ == "__main__":
    main()
