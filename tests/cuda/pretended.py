"""A GPU that is not there: tensors of the device "cuda" whose numbers are in host memory.

What a GPU would refuse is refused: an operation on tensors here and there, a kernel's reading memory that it does not
reach. And what a GPU would do wrong at times is refused every time: each stream has a clock, so that an operation on
memory which another stream writes or reads, and for which nobody waited, is an error (as ``torch.cuda._sanitizer`` has
it), and so is memory given back while another stream may still use it.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.cuda.host_build import ROOT, compiler, locked

CUDA = torch.device("cuda", 0)

Clock = dict[object, int]
HOST = "host"


class RaceError(AssertionError):
    """Two accesses to the same memory of which neither waits for the other."""


# --- streams


class Stream:
    """Work in order. Its clock knows, of each stream, how much of its work comes before what is issued next."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.clock: Clock = {}
        self.cuda_stream = 0
        streams.add(self)
        self.device = CUDA

    def step(self) -> int:
        """One more operation, after all that the host has waited for."""
        join(self.clock, host_clock)
        self.clock[self] = self.clock.get(self, 0) + 1
        return self.clock[self]

    def wait_stream(self, other: Stream) -> None:
        refuse_in_capture("wait for another stream", self)
        join(self.clock, other.clock)

    def wait_event(self, event: Event) -> None:
        refuse_in_capture("wait for another stream", self)
        join(self.clock, event.clock)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self, why: str = "synchronize") -> None:
        refuse_in_capture(why, self)
        waits.append(why)
        join(host_clock, self.clock)

    def query(self) -> bool:
        return True

    def __enter__(self) -> Stream:
        entered().append(self)
        return self

    def __exit__(self, *error: object) -> None:
        entered().pop()


class Event:
    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.clock: Clock = {}

    def record(self, stream: Stream | None = None) -> None:
        self.clock = dict((stream or current_stream()).clock)

    def wait(self, stream: Stream | None = None) -> None:
        (stream or current_stream()).wait_event(self)

    def synchronize(self) -> None:
        waits.append("synchronize")
        join(host_clock, self.clock)

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Event) -> float:
        return 0.0


def join(clock: Clock, other: Clock) -> None:
    for stream, time in list(other.items()):
        if clock.get(stream, 0) < time:
            clock[stream] = time


streams: weakref.WeakSet[Stream] = weakref.WeakSet()
host_clock: Clock = {}
waits: list[str] = []  # each operation at which the host has waited for the GPU
default_stream = Stream()
local = threading.local()
lock = threading.RLock()


def entered() -> list[Stream]:
    """The streams that this thread is in."""
    if not hasattr(local, "entered"):
        local.entered = []
    return local.entered


def current_stream(device: Any = None) -> Stream:
    if entered():
        return entered()[-1]
    # Autograd's threads take the stream of the forward pass.
    autograds = isinstance(threading.current_thread(), threading._DummyThread)
    return stream_of_backward if autograds else default_stream


stream_of_backward = default_stream

capturing: Any = None  # what is being captured for a graph (pretended_graph.py)


def refuse_in_capture(what: str, stream: Stream) -> None:
    if capturing is not None and stream is capturing.stream:
        raise RuntimeError(f"operation not permitted when stream is capturing: {what}")


# --- memory


class Memory:
    """Who wrote it last, and who has read it since."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.written: tuple[Stream, int] | None = None
        self.read: dict[Stream, int] = {}
        self.used: dict[Stream, int] = {}
        self.recorded: set[Stream] = set()  # streams of which the allocator knows
        self.owner = current_stream()

    def touch(self, stream: Stream, time: int, writes: bool, name: str) -> None:
        before = {} if self.written is None else {self.written[0]: self.written[1]}
        if writes:
            before = {**before, **{s: max(t, before.get(s, 0)) for s, t in self.read.items()}}
        for other, at in before.items():
            if other is not stream and stream.clock.get(other, 0) < at:
                raise RaceError(
                    f"{name} {'writes' if writes else 'reads'} {self.name}, for which its stream does not wait"
                )
        if writes:
            self.written, self.read = (stream, time), {}
        else:
            self.read[stream] = time
        if stream is not self.owner:
            self.used[stream] = time

    def seen_by_host(self, writes: bool, name: str) -> None:
        before = [] if self.written is None else [self.written]
        for other, at in [*before, *(self.read.items() if writes else ())]:
            if host_clock.get(other, 0) < at:
                raise RaceError(
                    f"{name} on the host {'writes' if writes else 'reads'} {self.name} before the GPU is done"
                )


memories: weakref.WeakValueDictionary[int, Memory] = weakref.WeakValueDictionary()
races: list[RaceError] = []  # found where an error would have nobody to go to


def given_back(used: dict[Stream, int], recorded: set[Stream], owner: Stream, name: str) -> None:
    """Memory goes back to its stream's pool, whose next user may be that stream's next operation."""
    join(owner.clock, host_clock)
    for stream, time in used.items():
        if stream not in recorded and owner.clock.get(stream, 0) < time:
            races.append(RaceError(f"{name} is given back while another stream may use it; it needs record_stream"))


def memory_of(here: Tensor, name: str) -> Memory:
    place = here.untyped_storage().data_ptr()
    found = memories.get(place) if place else None
    if found is None:
        found = Memory(name)
        weakref.finalize(found, given_back, found.used, found.recorded, found.owner, name)
        if place:
            memories[place] = found
    return found


pinned: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Pinned:
    """Host memory that the GPU reaches, for as long as a tensor on it lives."""

    def __init__(self, name: str) -> None:
        self.memory = Memory(name)


def pinned_memory(values: Tensor) -> Memory | None:
    found = pinned.get(values.untyped_storage().data_ptr())
    return None if found is None else found.memory


def pin(values: Tensor, name: str) -> Tensor:
    if values.numel():
        known = pinned[values.untyped_storage().data_ptr()] = Pinned(name)
        values.untyped_storage()._keeps = known  # type: ignore[attr-defined]
    return values


# --- random numbers


class Random:
    """The GPU's generator, apart from the CPU's."""

    def __init__(self) -> None:
        self.state = torch.Generator().manual_seed(0).get_state()

    def seed(self, seed: int) -> None:
        self.set_state(torch.Generator().manual_seed(int(seed) + 1).get_state())

    def get_state(self, device: Any = None) -> Tensor:
        return self.state.clone()

    def set_state(self, state: Tensor, device: Any = None) -> None:
        self.state = state.clone()

    def __enter__(self) -> None:
        self._of_cpu = torch.random.default_generator.get_state()
        torch.random.default_generator.set_state(self.state)

    def __exit__(self, *error: object) -> None:
        self.state = torch.random.default_generator.get_state()
        torch.random.default_generator.set_state(self._of_cpu)


random = Random()


# --- tensors


class There(Tensor):
    """A tensor on the GPU; ``here`` has its numbers."""

    here: Tensor
    memory: Memory
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor, name: str = "") -> There:
        made = Tensor._make_wrapper_subclass(
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            layout=here.layout, device=CUDA, requires_grad=here.requires_grad,
        )  # fmt: skip
        made.here, made.memory = here, memory_of(here, f"{name}'s {tuple(here.shape)}")
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["here"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], meta: None, size: Any, stride: Any) -> There:
        return There(inner["here"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def __reduce_ex__(self, protocol: Any) -> Any:
        return loaded, (self.cpu(),)

    def record_stream(self, stream: Any) -> None:
        self.memory.recorded.add(stream)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"There({self.here})"

    def __deepcopy__(self, memo: dict[int, Any]) -> There:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        return memo.setdefault(id(self), copy)


def loaded(values: Tensor) -> Tensor:
    """What a file has of a tensor there, where ``torch.load`` puts it."""
    return values if loads_to is not None and torch.device(loads_to).type == "cpu" else values.to(CUDA)


loads_to: Any = None
torch_load = torch.load


def load(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
    global loads_to
    loads_to = map_location
    with torch.serialization.safe_globals([loaded]):
        return torch_load(*args, map_location=map_location, **kwargs)


_TAKE_INDICES_FROM_HERE = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
_COPY = ("copy_", "_to_copy")
# The host waits for their results, or for how long these are.
_WAITS = (
    "_local_scalar_dense", "nonzero", "unique_dim", "_unique2", "unique_consecutive", "is_nonzero", "equal",
    "masked_select", "bincount",
)  # fmt: skip


def reciprocal(x: Tensor, number: Any) -> Tensor:
    """By what torch multiplies on a GPU instead of dividing by a number that the host has (BinaryDivTrueKernel.cu)."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    return torch.tensor(float(number), dtype=dtype).reciprocal()


def unwrapped(x: Any) -> Any:
    return x.here if isinstance(x, There) else x


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation of torch's, on tensors here or there."""
    name = func.overloadpacket.__name__
    if name == "_pin_memory":  # from where no function mode is, such as a thread of autograd's
        return pin(args[0].clone(), f"pinned {tuple(args[0].shape)}")
    leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in leaves if isinstance(x, There)]
    wanted = kwargs.get("device")
    to_there = bool(there) if wanted is None else torch.device(wanted).type == "cuda"
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    pins = kwargs.get("pin_memory", False)
    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    if there and name not in _COPY:
        for x in leaves:
            if not isinstance(x, There) and x.dim() and not (name in _TAKE_INDICES_FROM_HERE and x is not leaves[0]):
                raise RuntimeError(
                    f"{name}: expected all tensors on cuda:0, one of shape {tuple(x.shape)} is on the CPU"
                )
    # Between here and there.
    crosses = name in _COPY and (len(there) < len(leaves) if name == "copy_" else to_there != bool(there))
    waits = crosses and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True))
    with lock:
        note(func, name, args, kwargs, leaves, bool(there) or to_there, waits)
        if name in ("div", "div_") and there and "rounding_mode" not in kwargs and not isinstance(args[1], There):
            func, args = getattr(torch.ops.aten, name.replace("div", "mul")).Tensor, (args[0], reciprocal(*args))
        noted = capturing if (there or to_there) and not is_view(func) and is_captured() else None
        if noted is not None:
            remember(noted.graph, leaves, written := written_by(func, args, kwargs))
            for x in leaves:
                if id(x) in written:
                    noted.writes(unwrapped(x))
        is_random = to_there and torch.Tag.nondeterministic_seeded in func.tags
        here = tree_map(unwrapped, (args, kwargs))
        with random if is_random else contextlib.nullcontext():
            out = func(*here[0], **here[1])
        if noted is not None:
            noted.operation(func, *here, out, is_random)
    if name == "copy_":
        return args[0]
    stream = current_stream()
    # Of a copy for which the host does not wait, the memory here is pinned.
    if not to_there and (pins or (crosses and not waits)):
        out = tree_map(lambda x: pin(x, name) if isinstance(x, Tensor) else x, out)
        if there and (memory := pinned_memory(out)) is not None:
            memory.touch(stream, stream.clock[stream], True, name)
    if not to_there:
        return out
    same = {id(x.here): x for x in there}  # of an operation in place

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if id(x) in same:
            return same[id(x)]
        made = There(x, name)
        if not is_view(func):
            made.memory.touch(stream, stream.clock.get(stream, 0), True, name)
        return made

    return tree_map(wrapped, out)


def is_captured() -> bool:
    return capturing is not None and current_stream() is capturing.stream


def remember(graph: Any, leaves: list[Tensor], written: set[int]) -> None:
    """What a graph reads and writes."""
    for x in leaves:
        memory = x.memory if isinstance(x, There) else pinned_memory(x)
        if memory is not None:
            (graph.written if id(x) in written else graph.read).add(memory)


def note(
    func: Any, name: str, args: Any, kwargs: dict[str, Any], leaves: list[Tensor], on_gpu: bool, waits: bool
) -> None:
    """Whether what the operation reads and writes is there by then."""
    written = written_by(func, args, kwargs)
    if not on_gpu:
        for x in leaves:
            if (memory := pinned_memory(x)) is not None and not is_view(func):
                memory.seen_by_host(id(x) in written, name)
        return
    stream = current_stream()
    time = stream.step()
    if is_view(func):
        return
    for x in leaves:
        memory = x.memory if isinstance(x, There) else pinned_memory(x)
        if memory is not None:
            memory.touch(stream, time, id(x) in written, name)
    if waits or name in _WAITS or waits_for_indices(name, args, kwargs):
        stream.synchronize(name)


def waits_for_indices(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Of a mask the host has to know how much it takes, and indices on the host are copied."""
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name not in _TAKE_INDICES_FROM_HERE:
        return False
    return any(x is not None and (x.dtype == torch.bool or not isinstance(x, There)) for x in args[1])


def is_view(func: Any) -> bool:
    aliases = [argument.alias_info for argument in func._schema.arguments]
    return (
        any(alias is not None and not alias.is_write for alias in aliases) or func.overloadpacket.__name__ == "detach"
    )


def written_by(func: Any, args: Any, kwargs: dict[str, Any]) -> set[int]:
    found = set()
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            found |= {id(x) for x in tree_leaves(value) if isinstance(x, Tensor)}
    if func.overloadpacket.__name__ == "native_batch_norm":  # its schema does not say so
        found |= {id(x) for x in args[3:5]}
    return found


class Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class Called(TorchFunctionMode):
    """What does not get to the dispatcher with the device that was asked for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        args, kwargs = tuple(map(indexed, args)), {key: indexed(value) for key, value in kwargs.items()}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == CUDA:
            return func(*args, **{**kwargs, "device": None}).to(CUDA)
        if func is Tensor.tolist and isinstance(args[0], There):
            return args[0].cpu().tolist()
        if func is Tensor.pin_memory:
            with lock:
                return pin(args[0].clone(), f"pinned {tuple(args[0].shape)}")
        if func is Tensor.is_pinned:
            return not isinstance(args[0], There) and pinned_memory(args[0]) is not None
        if func is Tensor.cuda:
            return args[0].to(CUDA)
        if func is Tensor.backward:
            global stream_of_backward
            stream_of_backward = current_stream()
        return func(*args, **kwargs)


def indexed(x: Any) -> Any:
    if x == "cuda" if isinstance(x, str) else isinstance(x, torch.device) and x.type == "cuda" and x.index is None:
        return CUDA
    return x


# By which arguments a kernel gives its results.
WRITTEN = {
    "spmm": {6},
    "edge_dots": {5},
    "extremes": {4, 5},
    "extremes_backward": {5},
    "attend": {11, 12, 13, 14},
    "attend_backward": {15, 16, 17},
    "read_rows": {8, 9, 11, 12},
    "encode_rows": {2, 3},
    "write_rows": {0, 3, 4},
    "count_edges": {6},
    "draw_edges": {7, 8},
    "find_new": {4, 5, 6},
    "number_new": {3, 4, 5},
    "sample_alike": {8, 9, 10, 11, 12, 13, 14},
    "mark_below": {5},
    "mark_members": {4},
    "labor_roots": {4},
    "row_weight_sums": {3},
    "draw_by_weight": {8, 9},
    "segment_sums": {3},
    "cumulative_sums": {1, 2},
    "random_walks": {6},
    "walk_ends": {6},
    "take": {2},
}


class Kernels:
    """gnnscale's kernels, built for the host, as a GPU's: they reach its memory, and pinned memory of the host."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        kernel = getattr(self._module, name)
        return kernel if name == "obstacle" else lambda *args: self._launch(name, kernel, args)

    def _launch(self, name: str, kernel: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        writes = WRITTEN[name]
        with lock:
            stream = current_stream()
            time = stream.step()
            for place, x in enumerate(args):
                if not isinstance(x, Tensor):
                    continue
                memory = x.memory if isinstance(x, There) else pinned_memory(x)
                assert memory is not None or not x.numel(), f"{name}: argument {place} is in memory that no GPU reaches"
                if memory is not None:
                    memory.touch(stream, time, place in writes, name)
            # What a kernel asks memory for is its own.
            args = tuple(
                (lambda size, make=x: unwrapped(make(size)))
                if callable(x) and not isinstance(x, Tensor)
                else unwrapped(x)
                for x in args
            )
            if is_captured():
                for place in writes:
                    if isinstance(args[place], Tensor):
                        capturing.writes(args[place])
                args = capturing.launch(kernel, args)
            return kernel(*args)


# --- all of it


@cache
def library() -> Any:
    """The part in C++, which the engine of autograd has to meet before it first runs."""
    folder = Path(torch.__file__).parent
    source = Path(__file__).with_suffix(".cpp")
    target = ROOT / "build" / f"pretended-{torch.__version__}.so"
    target.parent.mkdir(exist_ok=True)
    with locked(target.with_suffix(".lock")):
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            command = [
                compiler(), "-std=c++20", "-shared", "-fPIC", f"-I{folder / 'include'}", str(source), "-o", str(target),
                f"-L{folder / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{folder / 'lib'}",
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(target))


@contextlib.contextmanager
def gpu(kernels: Any) -> Iterator[None]:
    """A GPU for all threads, with gnnscale's kernels."""
    from gnnscale.ops import _backend
    from tests.cuda import pretended_graph

    thread_run = threading.Thread.run

    def run_with_gpu(thread: threading.Thread) -> None:
        with Called(), Dispatched():
            thread_run(thread)

    nothing = dict.fromkeys(("_lazy_init", "synchronize", "reset_peak_memory_stats", "empty_cache"))
    patches: dict[str, Any] = {name: (lambda *args, **kwargs: None) for name in nothing}
    patches |= {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "get_device_name": lambda *args: "a pretended GPU", "current_stream": current_stream,
        "default_stream": lambda *args: default_stream, "stream": lambda stream: stream,
        "Stream": Stream, "Event": Event,
        "max_memory_allocated": lambda *args: 0, "memory_allocated": lambda *args: 0,
        "memory_reserved": lambda *args: 0,
        "mem_get_info": lambda *args: (2**33, 2**34), "is_bf16_supported": lambda *args: True,
        "synchronize": synchronize,
        "is_current_stream_capturing": is_captured, "CUDAGraph": pretended_graph.Graph,
        "graph": pretended_graph.Capture, "graph_pool_handle": lambda: (0, 0),
        "manual_seed_all": random.seed, "manual_seed": random.seed,
        "get_rng_state": random.get_state, "set_rng_state": random.set_state,
    }  # fmt: skip
    library().pretend(True)
    global stream_of_backward
    stream_of_backward = default_stream
    races.clear()
    waits.clear()
    try:
        with contextlib.ExitStack() as stack:
            for name, value in patches.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, value))
            stack.enter_context(mock.patch.object(torch, "load", load))
            stack.enter_context(mock.patch.object(threading.Thread, "run", run_with_gpu))
            stack.enter_context(mock.patch.object(_backend, "_load_cuda", return_value=(Kernels(kernels), "")))
            stack.enter_context(Called())
            stack.enter_context(Dispatched())
            yield
    finally:
        library().pretend(False)
    if races:
        raise races[0]


def synchronize(device: Any = None) -> None:
    refuse_in_capture("synchronize", current_stream())
    waits.append("synchronize")
    for stream in streams:
        join(host_clock, stream.clock)
