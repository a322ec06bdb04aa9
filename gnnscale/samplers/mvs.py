"""Minimal-variance sampling: the seeds are drawn by the size of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnnscale._dgl import dgl
from gnnscale.checks import check_count
from gnnscale.csc import CSC
from gnnscale.ops.random import fold, key_of, uniform
from gnnscale.samplers.base import Sample
from gnnscale.samplers.neighbor import NeighborSampler

if TYPE_CHECKING:
    from gnnscale.batch import MiniBatch

# The part of each node's share that does not depend on its gradient; it bounds the weights in the loss.
UNIFORM_SHARE = 0.1


class MVSSampler(NeighborSampler):
    """Seeds in proportion to the size of their gradients, with exact neighbourhoods (MVS-GNN, Cong et al. 2020).

    The paper is "Minimal Variance Sampling with Provable Guarantees for Fast Training of Graph Neural Networks" (KDD
    2020). An epoch goes in rounds. A large batch S of ``ratio`` × ``batch_size`` training nodes, drawn uniformly, is an
    ordinary step, and its logits tell g_i, how large each node's gradient is. Then come ``ratio`` batches of
    ``batch_size`` nodes of S. Node i is among them with probability p_i = min(1, s_i / μ), where μ makes the p_i add
    up to the batch size, and its loss has the weight 1 / (p_i |S|): the loss is unbiased for the mean over S. Half of
    the training nodes are in large batches, drawn anew each epoch whatever ``shuffle`` says, so that an epoch has
    about as many seeds as there are training nodes.

    What differs from the paper:

    - s_i is 0.9 g_i / Σ g + 0.1 / |S|, not g_i: no weight is more than 10 / ``batch_size``, ten times that of a mean.
    - g_i is the norm of the loss's gradient in the node's logits, ‖softmax - onehot‖ or ‖sigmoid - y‖ / C, which is
      at hand in every step and bounds that in the parameters up to a factor (Katharopoulos and Fleuret, "Not All
      Samples Are Created Equal", ICML 2018). The authors' code computes the norms in the parameters of each layer.
      Batches drawn from S renew the g_i of their nodes.
    - The draw is systematic, in random order: the p_i are those of the paper's independent coins, and the number of
      nodes is always ``batch_size``, so that no batch is empty.
    - MVS-GCN+, with sampled neighbours corrected by histories, is not included; ``fanouts`` samples without.

    Parameters
    ----------
    fanouts : sequence of int, optional
        In-edges drawn a node, one number a layer, the input layer first; all in each of ``num_layers`` by default.
    num_layers : int, default 2
        Number of layers where ``fanouts`` is left out.
    ratio : int, default 4
        Nodes in a large batch for each seed of a small one, and small batches after each large one.

    Raises
    ------
    ValueError
        If ``fanouts`` is empty or holds anything but -1 and positive integers, or ``num_layers`` or ``ratio`` is no
        positive integer.

    Examples
    --------
    >>> import gnnscale as gs
    >>> from gnnscale.samplers.mvs import MVSSampler
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> loader = gs.DataLoader(data.graph, data.train_ids[:80], MVSSampler(), batch_size=10)
    >>> [len(batch.output_nodes) for batch in loader]
    [40, 10, 10, 10, 10]
    """

    default_per_layer = -1
    draws_ahead = False

    def __init__(self, fanouts: Sequence[int] | None = None, *, num_layers: int = 2, ratio: int = 4) -> None:
        num_layers = check_count("num_layers", num_layers)
        super().__init__([-1] * num_layers if fanouts is None else fanouts)
        self.ratio = check_count("ratio", ratio)

    def __repr__(self) -> str:
        return f"MVSSampler(fanouts={self.fanouts}, ratio={self.ratio})"

    def prepare(self, graph: dgl.DGLGraph, indices: Tensor, batch_size: int) -> None:
        # Anew for each loader: a run does not depend on those before it.
        self._norms = torch.ones(graph.num_nodes(), dtype=torch.float64)

    def batches(
        self, indices: Tensor, batch_size: int, shuffle: bool, drop_last: bool, generator: torch.Generator
    ) -> list[Tensor]:
        """A vector for a large batch; a matrix with one row, the same nodes, for each batch drawn from it."""
        half = indices[torch.randperm(indices.numel(), generator=generator)][: ceil(indices.numel() / 2)]
        size = self.ratio * batch_size
        if drop_last:
            half = half[: half.numel() // size * size]
        # Rounds of about the same size: a last one of a few nodes would be as many steps as any other.
        rounds = half.tensor_split(ceil(half.numel() / size)) if half.numel() else ()
        return [seeds for large in rounds for seeds in (large, *[large[None]] * self.ratio)]

    def draw(self, csc: CSC, seeds: Tensor, key: int) -> Sample:
        if seeds.dim() == 1:
            return super().draw(csc, seeds, key)
        nodes = seeds[0]
        chance = inclusion_probabilities(self._norms[nodes], ceil(nodes.numel() / self.ratio))
        chosen = draw_systematically(chance, fold(torch.tensor(key_of(key, -1)), torch.arange(nodes.numel() + 1)))
        sample = super().draw(csc, nodes[chosen], key)
        sample.loss_weight = (chance[chosen] * nodes.numel()).reciprocal().float()
        return sample

    def feedback(self, batch: MiniBatch, logits: Tensor) -> None:
        self._norms[batch.output_nodes] = gradient_norms(logits, batch.y).cpu()


def gradient_norms(logits: Tensor, labels: Tensor) -> Tensor:
    """The norm of each node's loss's gradient in its logits, shape (n,), float64.

    Cross-entropy for ``labels`` of shape (n,), the mean over classes of the binary one for those of shape (n, C).
    """
    logits = logits.double()
    if labels.dim() == 1:
        residual = logits.softmax(1) - torch.nn.functional.one_hot(labels, logits.shape[1])
    else:
        residual = (logits.sigmoid() - labels) / logits.shape[1]
    # Where training has diverged, drawing still works until somebody looks at the loss.
    return residual.norm(dim=1).nan_to_num(nan=1.0)


def inclusion_probabilities(norms: Tensor, size: int) -> Tensor:
    """min(1, s / μ), with μ such that they add up to ``size``, at most n; shape (n,).

    s, from ``norms`` of shape (n,) float64, is mixed with a uniform share, so that none is below
    ``UNIFORM_SHARE * size / n``.
    """
    n = norms.numel()
    share = UNIFORM_SHARE / n + (1 - UNIFORM_SHARE) * (norms / norms.sum()).nan_to_num(nan=1 / n)
    # With the m largest certain, μ is what is left of the shares over what is left of the size; the first m fits for
    # which no other share is above it.
    descending = share.sort(descending=True).values
    rest = descending.flip(0).cumsum(0).flip(0)[:size]
    left = torch.arange(size, 0, -1)
    m = int((descending[:size] * left <= rest).int().argmax())
    return (share * left[m] / rest[m]).clamp(max=1)


def draw_systematically(chance: Tensor, words: Tensor) -> Tensor:
    """Positions drawn with these probabilities, as many as they add up to (Madow 1949, in random order).

    ``chance``, shape (n,) float64, adds up to an integer; ``words``, shape (n + 1,) int64, are the random words.
    """
    order = words[1:].argsort()
    marks = chance[order].cumsum(0)
    marks[-1] = marks[-1].round()
    marks = torch.cat([marks.new_zeros(1), marks]) - uniform(words[:1])
    return order[marks.floor().diff() > 0]
