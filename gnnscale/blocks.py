"""DGL blocks from samples, for those who look at them, and samples from the blocks of others' samplers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnscale._dgl import dgl, dgl_has_cuda
from gnnscale.adjacency import Adjacency
from gnnscale.csc import CSC
from gnnscale.ops import Hop

if TYPE_CHECKING:
    from gnnscale.samplers.base import Sample


def to_blocks(graph: dgl.DGLGraph, sample: Sample, num_layers: int | None) -> list[dgl.DGLGraph]:
    """The sample as DGL blocks, the input layer first.

    Features of the graph are reachable through the blocks as in DGL, and gathered when they are read. Edges carry
    ``importance`` where it differs from 1, output nodes ``loss_weight`` where there is one, and nodes ``degree``
    where the sampler replaces the whole graph's. A sampler whose edges are not the graph's gives their weights as
    ``replaced_weight``, and no edge ids.

    Raises
    ------
    ValueError
        If the sampler draws any number of layers and was not told how many blocks are wanted.
    """
    if not sample.repeats:
        num_layers = len(sample.adjacencies)
    if num_layers is None:
        raise ValueError(
            "this sampler serves models of any depth, so the number of blocks is not known; give it to the sampler, "
            "as in FullSampler(num_layers=2), or use batch.layers(2)"
        )
    last = num_layers - 1
    blocks = []
    for index, adjacency in enumerate(sample.spread(num_layers)):
        block = make_block(graph, adjacency, sample.nodes[: adjacency.num_src])
        if sample.loss_weight is not None and index == last:
            block.dstdata["loss_weight"] = sample.loss_weight
        blocks.append(block)
    return blocks


def check_blocks_on(device: torch.device, who: str) -> None:
    """Refuse blocks on a device for which DGL was not built.

    Parameters
    ----------
    device : torch.device
    who : str
        Who wants them: the beginning of the sentence.

    Raises
    ------
    ValueError
        On a GPU with a DGL for the CPU.
    """
    if device.type != "cpu" and not dgl_has_cuda():
        raise ValueError(
            f"{who} a block of DGL's on {device}, and the DGL that is installed, {dgl.__version__}, is built for the "
            "CPU; train on the CPU, install a CUDA build of DGL, or use convolutions that run on gnnscale's own "
            "kernels (docs/autoscale.md)"
        )


def make_block(graph: dgl.DGLGraph, adjacency: Adjacency, nodes: Tensor) -> dgl.DGLGraph:
    """One layer's edges as a DGL block, whose sources are ``nodes``, shape (num_src,); see :func:`to_blocks`."""
    hop = adjacency.hop
    source_ids = nodes.to(graph.idtype)
    destination_ids = source_ids[: adjacency.num_dst]
    # The block would number its edges in this order by itself, but some of DGL's products of edges then fail.
    order = torch.arange(hop.indices.numel(), dtype=graph.idtype)
    block = dgl.create_block(
        ("csc", (hop.indptr.to(graph.idtype), hop.indices.to(graph.idtype), order)),
        num_src_nodes=adjacency.num_src,
        num_dst_nodes=adjacency.num_dst,
    )
    frames = {"node_frames": dgl.utils.extract_node_subframes_for_block(graph, [source_ids], [destination_ids])}
    if adjacency.replaced_weight is None:
        edge_ids = CSC.of(graph).ids_of(hop.positions).to(graph.idtype)
        frames["edge_frames"] = dgl.utils.extract_edge_subframes(graph, [edge_ids])
    dgl.utils.set_new_frames(block, **frames)
    if adjacency.replaced_weight is not None:
        block.edata["replaced_weight"] = adjacency.replaced_weight
    if adjacency.importance is not None:
        block.edata["importance"] = adjacency.importance
    if adjacency.replaced_degree is not None:
        block.srcdata["degree"] = adjacency.replaced_degree
        block.dstdata["degree"] = adjacency.replaced_degree[: adjacency.num_dst]
    return block


def from_blocks(graph: dgl.DGLGraph, result: Any, sampler_name: str) -> Sample:
    """The sample that a sampler's blocks describe.

    A block without ``importance`` is read as a uniform sample of each destination's in-edges: every drawn edge
    stands for (in-degree in the graph) / (in-degree in the block) of them; where DGL's LABOR left ``edge_weights``,
    they share that number out. Edges with ``replaced_weight`` need not be the graph's. Blocks inherit the graph's
    own columns, so a column that the graph has under one of these names is not taken for the sampler's.

    Raises
    ------
    TypeError, ValueError
        One sentence that says what of the contract does not hold.
    """
    from gnnscale.samplers.base import Sample

    blocks = _checked(result, sampler_name)
    csc = CSC.of(graph)
    nodes = blocks[0].srcdata[dgl.NID].long()
    adjacencies = []
    for block in blocks:
        indptr, indices, order = block.adj_tensors("csc")
        # DGL gives no order for blocks whose edges are numbered in it.
        order = order.long() if order.numel() else torch.arange(indices.numel())
        hop = Hop(indptr, indices, order)
        degree = None if "degree" in graph.ndata else block.srcdata.get("degree")
        replaced = None if "replaced_weight" in graph.edata else block.edata.get("replaced_weight")
        if replaced is not None:
            if replaced.dim() != 1 or not bool(((replaced >= 0) & replaced.isfinite()).all()):
                raise ValueError(
                    f"{sampler_name} gave block.edata['replaced_weight'] of shape {tuple(replaced.shape)}; it has to "
                    "be one finite number of at least 0 an edge, shape (E,)"
                )
            adjacencies.append(Adjacency.replacing(hop, block.num_src_nodes(), replaced[order].float(), degree))
            continue
        edge_ids = block.edata[dgl.EID].long()[order] if dgl.EID in block.edata else None
        importance = None if "importance" in graph.edata else block.edata.get("importance")
        if importance is not None and (importance.dim() != 1 or not bool(importance.isfinite().all())):
            raise ValueError(
                f"{sampler_name} gave block.edata['importance'] of shape {tuple(importance.shape)}; it has to be one "
                "finite number an edge, shape (E,)"
            )
        importance = _implied_importance(csc, block, indptr, order) if importance is None else importance[order].float()
        weight = None
        if csc.weight is not None:
            if edge_ids is None:
                raise ValueError(
                    f"{sampler_name} gave blocks without block.edata[dgl.EID], and the graph has edge weights; "
                    "store each edge's id there, so that its weight can be found"
                )
            weight = graph.edata["weight"][edge_ids].float()
        adjacencies.append(
            Adjacency(
                hop,
                block.num_src_nodes(),
                csc,
                nodes,
                importance=importance,
                degree=degree,
                weight=weight,
            )
        )
    loss_weight = None if "loss_weight" in graph.ndata else blocks[-1].dstdata.get("loss_weight")
    return Sample(nodes, adjacencies, loss_weight=loss_weight)


def _implied_importance(csc: CSC, block: dgl.DGLGraph, indptr: Tensor, order: Tensor) -> Tensor:
    """Shape (E,), in CSC order: how many of its destination's in-edges each drawn edge stands for."""
    destinations = block.dstdata[dgl.NID].long()
    available = (csc.indptr[destinations + 1] - csc.indptr[destinations]).float()
    rows = torch.repeat_interleave(torch.arange(destinations.numel()), indptr.diff().long())
    share = block.edata["edge_weights"][order].float() if "edge_weights" in block.edata else torch.ones(rows.numel())
    total = torch.zeros(destinations.numel()).index_add_(0, rows, share)
    return share * (available / total)[rows]


def _checked(result: Any, sampler_name: str) -> Sequence[dgl.DGLGraph]:
    """The blocks of what ``sample_blocks`` returned."""
    if not isinstance(result, tuple) or len(result) != 3:
        raise TypeError(
            f"{sampler_name}.sample_blocks returned {type(result).__name__}; it has to return "
            "(input_nodes, output_nodes, blocks)"
        )
    blocks = result[2]
    if not isinstance(blocks, Sequence) or not blocks or not all(getattr(b, "is_block", False) for b in blocks):
        raise TypeError(
            f"{sampler_name}.sample_blocks has to return a list of DGL blocks, one a layer, the input layer first; "
            "make them with dgl.to_block or dgl.create_block"
        )
    for number, block in enumerate(blocks):
        for side, ids, count in zip(
            ("source", "destination"), block.edges(), (block.num_src_nodes(), block.num_dst_nodes()), strict=True
        ):
            # dgl.to_block numbers a destination -1 that it was not given, and DGL would read there.
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
                raise ValueError(
                    f"block {number} of {sampler_name} has an edge whose {side} is none of its {side} nodes; "
                    "draw edges into the destinations, as g.in_edges(destinations) gives them"
                )
        if dgl.NID not in block.srcdata or dgl.NID not in block.dstdata:
            raise ValueError(
                f"block {number} of {sampler_name} has no global node ids; store them in "
                "block.srcdata[dgl.NID] and block.dstdata[dgl.NID]"
            )
        sources, destinations = block.srcdata[dgl.NID], block.dstdata[dgl.NID]
        if not torch.equal(sources[: destinations.numel()], destinations):
            raise ValueError(
                f"in block {number} of {sampler_name} the destinations are not the first sources; "
                "dgl.to_block(frontier, destinations) puts them there"
            )
        if number and not torch.equal(blocks[number - 1].dstdata[dgl.NID], sources):
            raise ValueError(
                f"block {number} of {sampler_name} does not continue block {number - 1}: its sources have to be "
                "the destinations of the block before, in the same order"
            )
    return blocks
