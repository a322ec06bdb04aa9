"""Steps of training as CUDA graphs: one launch in the place of hundreds, for batches that come again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gnnscale.batch import MiniBatch, logits_of
from gnnscale.samplers.base import Sample

# How often a batch goes through an ordinary step before it is captured, as torch's notes on CUDA graphs advise.
WARM_UP = 3


class Step:
    """One step of training.

    Parameters
    ----------
    model : nn.Module
    optimizer : torch.optim.Optimizer
    clip_norm : float or None
        Largest norm of the gradient.
    amp : {"none", "bf16"}
        As for :func:`gnnscale.train`.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, clip_norm: float | None, amp: str) -> None:
        self.model, self.optimizer, self.clip_norm, self.amp = model, optimizer, clip_norm, amp

    def on_its_stream(self) -> AbstractContextManager[Any]:
        """What an epoch's steps have to be inside of."""
        return nullcontext()

    def __call__(self, batch: MiniBatch) -> tuple[Tensor, int]:
        """The loss, detached, and the edges that were added up."""
        with torch.autocast(batch.y.device.type, torch.bfloat16, enabled=self.amp == "bf16"):
            logits = logits_of(self.model, batch, batch.x)
        loss = batch.loss(logits.float() if self.amp == "bf16" else logits)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        return loss.detach(), batch.num_edges


class GraphedStep(Step):
    """The same step, captured as a ``torch.cuda.CUDAGraph`` when a batch has come a few times, and then replayed.

    A graph is the very work of one batch on the same memory: nothing of it may depend on the host. So batches have to
    come again (:func:`check_graphs`), and the model's forward may neither look at a number on the GPU nor draw random
    numbers on the CPU (both are found out when it is captured, and refused). torch's dropout on the GPU draws anew in
    each replay. All graphs share their memory: each makes whatever it reads.

    Everything runs on one stream of its own, ordinary steps too, because a parameter's gradient is added up on the
    stream where its node of autograd was made.

    Parameters
    ----------
    device : torch.device
        A GPU.
    model, optimizer, clip_norm, amp
        As for :class:`Step`. The optimiser's state is on the GPU, as fused Adam's is.
    """

    def __init__(
        self,
        device: torch.device,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None,
        amp: str,
    ) -> None:
        super().__init__(model, optimizer, clip_norm, amp)
        self.stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._times: WeakKeyDictionary[Sample, int] = WeakKeyDictionary()
        self._graphs: dict[Sample, _Graph] = {}

    @contextmanager
    def on_its_stream(self) -> Iterator[None]:
        around = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(around)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            around.wait_stream(self.stream)

    def __call__(self, batch: MiniBatch) -> tuple[Tensor, int]:
        graph = self._graphs.get(batch.sample)
        if graph is None:
            times = self._times[batch.sample] = self._times.get(batch.sample, 0) + 1
            if times <= WARM_UP:
                return super().__call__(batch)
            graph = self._graphs[batch.sample] = self._captured(batch)
        graph.graph.replay()
        # The next replay, of whichever graph, may write there.
        return graph.loss.clone(), graph.num_edges

    def _captured(self, batch: MiniBatch) -> _Graph:
        for group in self.optimizer.param_groups:
            group["capturable"] = True
        self.optimizer.zero_grad()
        graph, random = torch.cuda.CUDAGraph(), torch.get_rng_state()
        try:
            # Prefetch threads go on meanwhile.
            with torch.cuda.graph(graph, self._pool, self.stream, capture_error_mode="thread_local"):
                loss, num_edges = super().__call__(batch)
        except RuntimeError as error:
            message = str(error).splitlines()[0] if str(error) else "no message"
            raise RuntimeError(
                f"the step of {type(self.model).__name__} cannot be a CUDA graph ({message}); it may look at no number "
                "that is on the GPU: train with cuda_graph=False"
            ) from error
        finally:
            for group in self.optimizer.param_groups:
                group["capturable"] = False
        if not torch.equal(random, torch.get_rng_state()):
            raise ValueError(
                f"{type(self.model).__name__} draws random numbers on the CPU, which a CUDA graph would repeat in each "
                "step; use torch's dropout on the GPU, or train with cuda_graph=False"
            )
        return _Graph(graph, loss, num_edges, batch)


class _Graph:
    """A captured step, where its loss will be, and the batch whose memory it reads."""

    def __init__(self, graph: Any, loss: Tensor, num_edges: int, batch: MiniBatch) -> None:
        self.graph, self.loss, self.num_edges, self.batch = graph, loss, num_edges, batch


def check_graphs(sampler: Any, device: torch.device, batch_size: int, shuffle: bool) -> None:
    """Refuse steps that are not the same each time.

    Raises
    ------
    ValueError
    """
    if device.type != "cuda":
        raise ValueError(f"cuda_graph=True is for a GPU; pass device='cuda' (got '{device}'), or leave it out")
    comes_again = getattr(sampler, "comes_again", None)
    if comes_again is None or not comes_again(batch_size, shuffle) or sampler.keeps_history:
        what = "keeps histories" if getattr(sampler, "keeps_history", False) else "draws each batch anew"
        raise ValueError(
            f"cuda_graph=True needs batches that are the same in each epoch, and {sampler!r} {what}; use FullSampler, "
            "or ClusterGCNSampler with one part or all parts a batch, or leave cuda_graph out"
        )
