"""Convolutions whose inside is not known: they run as they are, on a block with the layer's edges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gnnscale._dgl import dgl
from gnnscale.blocks import check_blocks_on, make_block
from gnnscale.layer import Layer
from gnnscale.nn.adapters.base import Adapter


def block_of(layer: Layer, who: str) -> dgl.DGLGraph:
    """The layer's edges as a DGL block with the graph's features, made anew at each call.

    Parameters
    ----------
    layer : Layer
    who : str
        As for :func:`gnnscale.blocks.check_blocks_on`.

    Raises
    ------
    ValueError
        If the layer is on a device for which DGL was not built.
    """
    check_blocks_on(layer._adjacency.degree.device, who)
    batch, device = layer._batch, layer._adjacency.degree.device
    adjacency = layer._adjacency.to(torch.device("cpu"))
    nodes = batch.input_nodes[: layer.num_src] if adjacency.nodes is None else adjacency.nodes
    block = make_block(batch.graph, adjacency, nodes)
    return block if device.type == "cpu" else block.to(device)


class OnBlock(Adapter):
    """Runs a convolution on blocks, as DGL does: with the degrees, and the number of edges, of what was drawn.

    Of a sample it is whatever the convolution makes of it; importance is not seen. With all neighbours it is exact.
    """

    on_block = True

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv)
        self._affine: dict[tuple[int, torch.dtype, torch.device], bool] = {}

    def _get_name(self) -> str:
        return type(self.conv).__name__

    @property
    def in_feats(self) -> None:
        """Not known, whatever an attribute of that name may mean in somebody's convolution."""

    def drop(self, x: Tensor) -> Tensor:
        return x  # the convolution does it

    def forward(self, layer: Layer, x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return self._on(block_of(layer, f"{self._get_name()} has no adapter and runs on"), x, *arguments, **named)

    def _on(self, block: dgl.DGLGraph, x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        name = type(self.conv).__name__
        try:
            out = type(self.conv).forward(self.conv, block, x, *arguments, **named)
        except Exception as error:
            message = str(error).splitlines()[0] if str(error) else "no message"
            raise ValueError(
                f"{name} cannot run on a block, in which destinations are some of the sources, with rows of the shape "
                f"{tuple(x.shape)} ({type(error).__name__}: {message})"
            ) from error
        if not isinstance(out, Tensor) or len(out) != block.num_dst_nodes():
            got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(
                f"{name} gave {got} on a block of {block.num_dst_nodes()} destinations; a convolution gives one "
                "tensor with a row for each destination"
            )
        return out

    def is_affine(self, x: Tensor) -> bool:
        """Whether f(a + b) - f(a) - f(b) + f(0) is zero for random rows of the width and dtype of ``x``."""
        kind = x.shape[1], x.dtype, x.device
        if kind not in self._affine:
            self._affine[kind] = self._looks_affine(*kind)
        return self._affine[kind]

    @torch.no_grad()
    def _looks_affine(self, num_columns: int, dtype: torch.dtype, device: torch.device) -> bool:
        check_blocks_on(device, f"{self._get_name()} has no adapter and runs on")
        generator = torch.Generator().manual_seed(0)
        source = torch.arange(12).repeat(4)
        block = dgl.create_block((source, torch.randint(8, (48,), generator=generator)), 12, 8)
        block = block if device.type == "cpu" else block.to(device)
        a, b = torch.randn(2, 12, num_columns, generator=generator, dtype=dtype).to(device).unbind()
        modes = {module: module.training for module in self.conv.modules()}
        self.conv.eval()
        try:
            both, one, other, none = (self._on(block, rows) for rows in (a + b, a, b, torch.zeros_like(a)))
        finally:
            for module, training in modes.items():
                module.training = training
        rest = (both - one - other + none).abs().max()
        return bool(rest <= 1e-4 * (1 + both.abs().max()))
