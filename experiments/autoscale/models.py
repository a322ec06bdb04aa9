"""Two models as DGL's examples write them: no line here knows of gnnscale."""

import dgl.nn as dglnn
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812


class SAGE(nn.Module):
    """GraphSAGE, after DGL's example for node classification with neighbour sampling."""

    def __init__(self, in_size, hid_size, out_size):
        super().__init__()
        self.layers = nn.ModuleList()
        self.layers.append(dglnn.SAGEConv(in_size, hid_size, "mean"))
        self.layers.append(dglnn.SAGEConv(hid_size, out_size, "mean"))
        self.dropout = nn.Dropout(0.5)

    def forward(self, blocks, x):
        """Class scores of the last block's destinations."""
        h = self.dropout(x)
        for number, (layer, block) in enumerate(zip(self.layers, blocks)):  # noqa: B905
            h = layer(block, h)
            if number != len(self.layers) - 1:
                h = F.relu(h)
                h = self.dropout(h)
        return h


class GAT(nn.Module):
    """Graph attention, after DGL's example, whose graph has self-loops."""

    def __init__(self, in_size, hid_size, out_size, heads=8):
        super().__init__()
        self.layers = nn.ModuleList()
        self.layers.append(dglnn.GATConv(in_size, hid_size, heads, feat_drop=0.6, attn_drop=0.6, activation=F.elu))
        self.layers.append(dglnn.GATConv(hid_size * heads, out_size, 1, feat_drop=0.6, attn_drop=0.6))

    def forward(self, blocks, x):
        """Class scores of the last block's destinations."""
        h = self.layers[0](blocks[0], x).flatten(1)
        return self.layers[1](blocks[1], h).mean(1)
