"""``dgl.nn.GATConv`` and ``dgl.nn.GATv2Conv``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gnnscale.layer import Layer
from gnnscale.nn.adapters.base import Adapter, Exchange, activated, check_same_size


class _Attention(Adapter):
    """Softmax attention over the edges of the graph; a node takes part in its own sum by a self-loop alone.

    DGL's modules give rows of shape (num_dst, heads, columns). Layers work on matrices, so heads stand side by side
    until the end.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv)
        check_same_size(conv, self.conv._in_src_feats, self.conv._in_dst_feats)

    def run(self, layers: Sequence[Layer], exchange: Exchange, x: Tensor, *rows: Tensor) -> Tensor:
        return self._by_head(super().run(layers, exchange, x, *rows))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.conv._num_heads, -1)

    def _finished(self, layer: Layer, x: Tensor, out: Tensor, bias: Tensor | None) -> Tensor:
        conv, out = self.conv, self._by_head(out)
        if conv.res_fc is not None:
            out = out + conv.res_fc(layer.own(x)).view(layer.num_dst, -1, conv._out_feats)
        if bias is not None:
            out = out + bias.view(1, conv._num_heads, -1)
        return activated(conv.activation, out).flatten(1)


class GATConv(_Attention):
    """Graph attention (Veličković et al. 2018); of a sample, the softmax over the edges drawn, by their importance."""

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        conv = self.conv
        to_source = conv.fc if hasattr(conv, "fc") else conv.fc_src
        rows = to_source(x)
        own_rows = layer.own(rows) if hasattr(conv, "fc") else conv.fc_dst(layer.own(x))
        from_source = (self._by_head(rows) * conv.attn_l).sum(2)
        from_target = (self._by_head(own_rows) * conv.attn_r).sum(2)
        source, target = layer.edges
        scores = conv.leaky_relu(from_source.index_select(0, source) + from_target.index_select(0, target))
        out = layer.attend_edges(rows, scores, dropout=conv.attn_drop)
        return self._finished(layer, x, out, conv.bias)


class GATv2Conv(_Attention):
    """Dynamic graph attention (Brody et al. 2022), likewise; the scores need E · heads · columns numbers at once."""

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        conv = self.conv
        rows = conv.fc_src(x)
        own_rows = layer.own(rows) if conv.share_weights else conv.fc_dst(layer.own(x))
        source, target = layer.edges
        pairs = self._by_head(rows.index_select(0, source) + own_rows.index_select(0, target))
        scores = (conv.leaky_relu(pairs) * conv.attn).sum(2)
        out = layer.attend_edges(rows, scores, dropout=conv.attn_drop)
        return self._finished(layer, x, out, None)
