"""Models made of DGL's modules, under every sampler."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from torch import nn

from gnnscale._dgl import dgl
from gnnscale.batch import MiniBatch
from gnnscale.checks import check_count
from gnnscale.layer import Layer
from gnnscale.nn.adapters import Adapter, OnBlock, adapter_for
from gnnscale.nn.autoscale_blocks import ONE_AFTER_THE_OTHER, Blocks, BlockView
from gnnscale.nn.autoscale_dropout import RowsBeforeDropout

Model = TypeVar("Model", bound=nn.Module)

_NOT_CONVOLUTIONS = ("EdgeWeightNorm",)


def autoscale(model: Model, *, convs: Sequence[type[nn.Module]] = (), num_blocks: int | None = None) -> Model:
    """Make a model of ``dgl.nn`` modules run under every sampler, without a change to it.

    Afterwards ``model(batch, batch.x)`` does what a model of gnnscale's does, with every sampler, its histories and
    exact evaluation included; ``model(blocks, x)`` and calls of the convolutions on DGL's graphs are as before. The
    model is changed in place and returned, as by ``model.to``: parameters, names, attributes and classes stay.

    Its ``forward(blocks, x)`` is called with a view of the batch's layers for ``blocks``, one for each convolution in
    the order in which the model registers them. ``forward(g, x)``, which hands one graph to all convolutions, works as
    well. At each convolution, an adapter computes with the module's own parameters what DGL's module computes on the
    **whole graph**: with its degrees, where DGL's takes those of the block, and with the sampler's importance of edges.
    Before it, rows are exchanged with the history. If they come straight from dropout (``nn.Dropout`` or
    ``functional.dropout``, and perhaps a change of shape), then it is the rows before dropout that are.

    Convolutions that sum over neighbours k times (``SGConv``, ``TAGConv``, ``APPNPConv``) take k layers of the batch,
    so that a sampler with a number for each layer needs one for each hop.

    A convolution without an adapter runs as it is on a block with the edges drawn, and a warning says so; on a GPU that
    needs a CUDA build of DGL, which the others do not (``model.forward.runs_on`` tells which is which). Under
    samplers with control variates it is refused, unless it is affine in the rows, which is tried out once with random
    numbers. ``docs/autoscale.md`` has the table of convolutions and samplers.

    Parameters
    ----------
    model : nn.Module
        With at least one convolution of ``dgl.nn`` or of ``convs`` in it.
    convs : sequence of type
        Classes of your own convolutions, called as ``conv(block, rows)``.
    num_blocks : int, optional
        How often the model calls convolutions, where it is not each of them once.

    Returns
    -------
    nn.Module
        ``model`` itself.

    Raises
    ------
    TypeError, ValueError
        One sentence, for a model without convolutions, one for several types of nodes, or an option of a convolution
        that cannot be had.

    Examples
    --------
    >>> import dgl, torch
    >>> import gnnscale as gs
    >>> class Model(torch.nn.Module):
    ...     def __init__(self, in_size, out_size):
    ...         super().__init__()
    ...         self.convs = torch.nn.ModuleList([
    ...             dgl.nn.SAGEConv(in_size, 16, "mean"), dgl.nn.SAGEConv(16, out_size, "mean")])
    ...     def forward(self, blocks, x):
    ...         h = torch.relu(self.convs[0](blocks[0], x))
    ...         return self.convs[1](blocks[1], h)
    >>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
    >>> model = gs.autoscale(Model(data.num_features, data.num_classes))
    >>> result = gs.train(model, data, gs.samplers.GASSampler(num_parts=8), epochs=2)
    >>> gs.infer(model, data.graph).shape
    torch.Size([1000, 10])
    >>> model.forward.runs_on
    {'convs.0': 'gnnscale', 'convs.1': 'gnnscale'}
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; autoscale takes a torch.nn.Module")
    if isinstance(convs, str) or not isinstance(convs, Sequence):
        raise TypeError(f"convs={convs!r} is no list; it takes a list of classes of modules, such as convs=[MyConv]")
    for cls in convs:
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise TypeError(f"convs has {cls!r}; it takes classes of modules, such as convs=[MyConv]")
    found = list(_convolutions(model, tuple(convs)))
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no convolution of dgl.nn; name the classes of your own: "
            "gs.autoscale(model, convs=[MyConv])"
        )
    if type(model).forward in (nn.Sequential.forward, nn.Module.forward):
        raise TypeError(
            f"{type(model).__name__} has no forward(blocks, x) that would give convolutions their blocks; write a "
            "module that has one, or use dgl.nn.Sequential"
        )
    adapters = [adapter_for(conv) for conv in found]
    hops = _hops(adapters, num_blocks)
    for adapter in adapters:
        adapter.conv.forward = ConvForward(adapter)
    of_itself = ConvForward(adapters[0]) if found[0] is model else None
    model.forward = ModelForward(model, tuple(convs), hops, of_itself)
    _warn_of([adapter for adapter in adapters if type(adapter) is OnBlock])
    return model


class ConvForward:
    """A convolution's ``forward``: its adapter's on a view of a batch's layers, the class's own on DGL's graphs."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.signature = inspect.signature(type(adapter.conv).forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        conv = self.adapter.conv
        try:
            _, graph, *rest = self._named(self.signature.bind(conv, *args, **kwargs)).items()
        except TypeError as error:
            raise TypeError(f"{type(conv).__name__} was called wrongly, {error}; it takes {self.signature}") from None
        view = graph[1].next() if isinstance(graph[1], Blocks) else graph[1]
        if not isinstance(view, BlockView):
            if any(isinstance(value, (Blocks, BlockView)) for _, value in rest):
                raise TypeError(
                    f"{type(conv).__name__} was given a {type(view).__name__} first, and blocks after it; call it as "
                    "conv(block, x), in a model's forward(blocks, x)"
                )
            return type(conv).forward(conv, *args, **kwargs)
        (_, feat), *others = rest
        return view.apply(self.adapter, feat, {k: v for k, v in others if v is not None and v is not False})

    @staticmethod
    def _named(call: inspect.BoundArguments) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for name, value in call.arguments.items():
            kind = call.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                named.update({f"{name}[{index}]": each for index, each in enumerate(value)})
            else:
                named[name] = value
        return named


class ModelForward:
    """A model's ``forward``: given a batch, the model's own with views of the batch's layers for blocks.

    Attributes
    ----------
    runs_on : dict of str to str
        For each convolution, by its name in the model, ``"gnnscale"`` where gnnscale's own operations compute it, with
        their kernels on a GPU, and ``"DGL block"`` where DGL's code does, which on a GPU needs a CUDA build of DGL.
    """

    def __init__(
        self,
        model: nn.Module,
        named: tuple[type[nn.Module], ...],
        hops: list[int],
        conv_forward: ConvForward | None,
    ) -> None:
        self.model = model
        self.named = named
        self.hops = hops
        self.conv_forward = conv_forward  # of a model that is one convolution

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not args or not isinstance(args[0], MiniBatch):
            return self._own(*args, **kwargs)
        batch = args[0]
        for conv in _convolutions(self.model, self.named):
            if not isinstance(conv.forward, (ConvForward, ModelForward)):
                raise ValueError(
                    f"the model has a {type(conv).__name__} that was not there when gs.autoscale(model) was called; "
                    "call it again"
                )
        # Evaluation, in which other forwards run between, neither drops out nor may leave anything entered.
        exchanges = batch.sample.layer_class.exchange is not Layer.exchange
        dropouts = RowsBeforeDropout() if self.model.training and exchanges else None
        blocks = Blocks(batch, self.hops, dropouts)
        try:
            with dropouts or nullcontext():
                out = self._own(blocks, *args[1:], **kwargs)
        except RuntimeError as error:
            if blocks.branches:
                raise ValueError(f"forward does not get through ({error}); {ONE_AFTER_THE_OTHER}") from error
            raise
        blocks.check_all_used()
        return out

    @property
    def runs_on(self) -> dict[str, str]:
        names = {module: name for name, module in self.model.named_modules()}
        forwards = {names[conv]: conv.forward for conv in _convolutions(self.model, self.named)}
        if self.conv_forward is not None:
            forwards = {"": self.conv_forward}
        return {
            name: "DGL block" if forward.adapter.on_block else "gnnscale"
            for name, forward in forwards.items()
            if isinstance(forward, ConvForward)
        }

    def _own(self, *args: Any, **kwargs: Any) -> Any:
        if self.conv_forward is not None:
            return self.conv_forward(*args, **kwargs)
        return type(self.model).forward(self.model, *args, **kwargs)


def _convolutions(module: nn.Module, named: tuple[type[nn.Module], ...]) -> Iterator[nn.Module]:
    """The convolutions in a module, without those inside of others, in the order of registration, each once."""
    seen: set[int] = set()

    def walk(each: nn.Module) -> Iterator[nn.Module]:
        if id(each) in seen:
            return
        seen.add(id(each))
        if isinstance(each, dgl.nn.HeteroGraphConv):
            raise ValueError(
                "the model has a HeteroGraphConv, for several types of nodes or edges; gnnscale samples homogeneous "
                "graphs: convert the graph with dgl.to_homogeneous(graph), and use RelGraphConv"
            )
        if isinstance(each, named) or _is_of_dgl(each):
            yield each
            return
        for child in each.children():
            yield from walk(child)

    yield from walk(module)


def _is_of_dgl(module: nn.Module) -> bool:
    return any(
        cls.__module__.startswith("dgl.nn.pytorch.conv.") and cls.__name__ not in _NOT_CONVOLUTIONS
        for cls in type(module).__mro__
    )


def _hops(adapters: list[Adapter], num_blocks: int | None) -> list[int]:
    """How many layers of a batch each block stands for."""
    hops = [adapter.hops for adapter in adapters]
    if num_blocks is None:
        return hops
    num_blocks = check_count("num_blocks", num_blocks)
    if len(set(hops)) > 1:
        raise ValueError(
            f"num_blocks={num_blocks} is given and the convolutions take {', '.join(map(str, hops))} layers each, so "
            "that it is not clear which block is whose; call each convolution once, in the order of registration"
        )
    return hops[:1] * num_blocks


def _warn_of(unknown: list[OnBlock]) -> None:
    names = sorted({adapter._get_name() for adapter in unknown})
    if names:
        warnings.warn(
            f"gnnscale has no adapter for {', '.join(names)}: it runs as it is on the edges that a batch has, with the "
            "degrees there and without their importance, so that under samplers that draw edges it estimates "
            "something of its own; with all neighbours (full, gas) it is exact. On a GPU it needs a CUDA build of DGL",
            stacklevel=3,
        )
