"""PyGAS's training steps, as its own benchmarks make them, on one of gnnscale's datasets."""

from __future__ import annotations

import peers
import torch
from torch import Tensor, nn

import gnnscale as gs


def is_there() -> bool:
    return peers.find("torch_geometric_autoscale") is not None


class PyGAS:
    """A GCN with PyGAS's loader, model and histories. The parts are those that gnnscale has.

    Parameters
    ----------
    data : Dataset
        Of gnnscale.
    parts : Tensor
        Shape (N,), the part of each node.
    batch_size : int
        Parts a step.
    model : dict
        Arguments of PyGAS's GCN.
    clip_norm : float or None
        Largest norm of the gradient.
    """

    def __init__(
        self, data: gs.Dataset, parts: Tensor, *, batch_size: int, clip_norm: float | None = None, **model: object
    ) -> None:
        from torch_geometric.data import Data
        from torch_geometric.nn.conv.gcn_conv import gcn_norm
        from torch_geometric_autoscale import SubgraphLoader
        from torch_geometric_autoscale.models import GCN
        from torch_sparse import SparseTensor

        source, destination = data.graph.edges()
        size = (data.num_nodes, data.num_nodes)
        whole = gcn_norm(SparseTensor(row=destination, col=source, sparse_sizes=size))
        order = parts.argsort(stable=True)
        is_train = torch.zeros(data.num_nodes, dtype=torch.bool)
        is_train[data.train_ids] = True
        feat, label = data.graph.ndata["feat"], data.graph.ndata["label"]
        # PyGAS keeps the nodes in the order of their parts.
        self.data = Data(x=feat[order], y=label[order], train_mask=is_train[order], adj_t=whole.permute(order))
        pointers = torch.cat([torch.zeros(1, dtype=torch.int64), parts.bincount().cumsum(0)])
        self.loader = SubgraphLoader(self.data, pointers, batch_size=batch_size, shuffle=True, log=False)
        self.clip_norm = clip_norm
        self.model = GCN(data.num_nodes, data.num_features, out_channels=data.num_classes, **model)
        groups = ((self.model.reg_modules, 5e-4), (self.model.nonreg_modules, 0.0))
        self.optimizer = torch.optim.Adam(
            [{"params": modules.parameters(), "weight_decay": decay} for modules, decay in groups], lr=0.01
        )
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Its evaluation: a pass over the whole graph, which rewrites the histories."""
        self.model.eval()
        self.model(self.data.x, self.data.adj_t)

    def epoch(self) -> None:
        """The training steps of an epoch."""
        self.model.train()
        for batch, batch_size, n_id, offset, count in self.loader:
            mask = batch.train_mask[:batch_size]
            if mask.sum() == 0:
                continue
            self.optimizer.zero_grad()
            out = self.model(batch.x, batch.adj_t, batch_size, n_id, offset, count)
            loss = nn.functional.cross_entropy(out[mask], batch.y[:batch_size][mask])
            loss.backward()
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
            self.optimizer.step()
