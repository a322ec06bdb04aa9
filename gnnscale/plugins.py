"""Samplers of others: a class in a file, ``my_sampler.py:MySampler``, or a package's entry point."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from gnnscale.samplers import SAMPLERS

GROUP = "gnnscale.samplers"
"""The group of entry points under which a package offers samplers."""


def is_file_choice(name: str) -> bool:
    """Whether a name says where a class is, as ``my_sampler.py:MySampler`` does, or tries to.

    Examples
    --------
    >>> is_file_choice("my_sampler.py:MySampler"), is_file_choice("my_sampler.py"), is_file_choice("gas")
    (True, True, False)
    """
    return ".py:" in name or name.endswith(".py")


def absolute_choice(name: str) -> str:
    """The same choice, by the absolute path of its file where it names one."""
    if not is_file_choice(name):
        return name
    path, _, class_name = name.rpartition(":")
    return f"{Path(path).resolve()}:{class_name}"


def offered() -> dict[str, EntryPoint]:
    """The samplers that installed packages offer, by name."""
    return _offered(tuple(sys.path))


@lru_cache(maxsize=8)
def _offered(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Those of the packages on ``sys.path``: to go through all of them takes longer than to make a sampler."""
    found = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    return {point.name: point for point in found}


def find_sampler(name: str) -> Callable[..., Any]:
    """What makes a sampler: its class.

    Parameters
    ----------
    name : str
        A key of :data:`gnnscale.samplers.SAMPLERS`, the path of a Python file and a class in it,
        ``path/to/my_sampler.py:MySampler``, or the name of an entry point of the group ``gnnscale.samplers``.

    Returns
    -------
    callable
        A class with ``sample_blocks(g, seeds)``; for a few of gnnscale's own names, one with an argument filled in.

    Raises
    ------
    ValueError
        In one sentence: there is no such sampler, file or class, or what is wrong with it.

    Examples
    --------
    >>> find_sampler("gas")
    <class 'gnnscale.samplers.gas.GASSampler'>
    """
    check_name(name)
    if is_file_choice(name):
        path, _, class_name = name.rpartition(":")
        return _class_of(_load(Path(path).resolve(), path), class_name, path)
    return SAMPLERS[name] if name in SAMPLERS else _load_entry_point(name, offered()[name])


def check_name(name: str) -> None:
    """Refuse a name behind which no sampler can be, without running any code of others.

    Raises
    ------
    ValueError
        There is no such sampler or file, or a package's sampler has the name of one of gnnscale's.
    """
    if is_file_choice(name):
        path, colon, class_name = name.rpartition(":")
        if not colon or not class_name:
            raise ValueError(f"sampler {name!r} names no class; write it like {path or name}:MySampler")
        if not Path(path).is_file():
            raise ValueError(f"sampler {name!r}: there is no file {path!r}; its path is relative to where you are")
        return
    packages = offered()
    if name in SAMPLERS:
        if name in packages:
            raise ValueError(
                f"sampler {name!r} is gnnscale's own, and {_package(packages[name])} offers another of that name; "
                f"rename its entry point in the group {GROUP}"
            )
        return
    if name not in packages:
        raise ValueError(
            f"sampler {name!r} is not known; use one of {', '.join([*SAMPLERS, *packages])}, or a class in a file, "
            "my_sampler.py:MySampler"
        )


def source_digest(name: str) -> str:
    """A hash of the file that a sampler of others stands in; empty for gnnscale's own.

    With the files that it imports from its own folder, or package, and those that they import from there. Nothing of
    them is run: an import by a name that is put together is not seen.
    """
    if is_file_choice(name):
        return _digest(_sources(Path(name.rpartition(":")[0])))
    if name in SAMPLERS:
        return ""
    point = offered()[name]
    try:
        spec = importlib.util.find_spec(point.module)
        return _digest(_sources(Path(str(spec.origin if spec else None)), point.module))
    except Exception as error:
        raise ValueError(_does_not_import(name, point, error)) from error


def _sources(path: Path, module: str = "") -> bytes:
    """A file and those that it imports from beside it, one after the other, each once.

    ``module`` is the full name of a package's module; of a file by itself it is empty.
    """
    path = path.resolve()
    # The folder that the names of imports begin from, and the package that they have to be of.
    package = module.split(".")[0]
    depth = len(module.split(".")) - (path.name != "__init__.py") if module else 0
    root = path.parents[depth]
    found, left = {path: path.read_bytes()}, [path]
    while left:
        file = left.pop()
        for name in _imports(found[file], file.relative_to(root)):
            if package and name[:1] != (package,):
                continue
            inside = root.joinpath(*name)
            for each in (inside.with_suffix(".py"), inside / "__init__.py"):
                if each not in found and each.is_file():
                    found[each] = each.read_bytes()
                    left.append(each)
    others = sorted((str(file.relative_to(root)), source) for file, source in found.items() if file != path)
    return b"".join([found[path], *(b"\0%s\0%s" % (name.encode(), source) for name, source in others)])


def _imports(source: bytes, file: Path) -> Iterator[tuple[str, ...]]:
    """The modules that a file names in imports, and what may be modules, each as the parts of its full name."""
    try:
        statements = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # the cell that runs it will say so
    for statement in statements:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                parts = tuple(alias.name.split("."))
                yield from (parts[:end] for end in range(1, len(parts) + 1))
        elif isinstance(statement, ast.ImportFrom):
            above = file.parts[: -statement.level] if statement.level else ()
            parts = (*above, *(statement.module or "").split(".")) if statement.module else above
            yield from (parts[:end] for end in range(1, len(parts) + 1))
            yield from ((*parts, alias.name) for alias in statement.names)


def _digest(source: bytes) -> str:
    return hashlib.blake2b(source, digest_size=16).hexdigest()


def _load(path: Path, shown: str) -> ModuleType:
    """The module of a file. An edited file is a new module, so that a class and its source never part."""
    source = path.read_bytes()
    name = f"gnnscale_plugin_{path.stem}_{_digest(str(path).encode() + source)[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    # Pickle and dataclasses look the module up by its name.
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # for what the file imports from beside itself
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"{_place(error, path, shown)}: {type(error).__name__}: {_one_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _place(error: BaseException, path: Path, shown: str) -> str:
    """The file, and the line in it that led to the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{shown}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{shown}, line {lines[-1]}" if lines else shown


def _one_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(str(text).split())


def _class_of(module: ModuleType, name: str, shown: str) -> type:
    found = getattr(module, name, None)
    if isinstance(found, type):
        return _checked(found, f"{shown}:{name}")
    there = sorted(
        key for key, value in vars(module).items() if isinstance(value, type) and _can_sample(value)
        and value.__module__ == module.__name__
    )  # fmt: skip
    near = get_close_matches(name, there, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    has = f"it has {', '.join(there)}" if there else "nor any other with sample_blocks(g, seeds)"
    raise ValueError(f"{shown} has no class {name!r}; {guess}{has}")


def _can_sample(cls: type) -> bool:
    return callable(getattr(cls, "sample_blocks", None))


def _checked(cls: type, shown: str) -> type:
    if not _can_sample(cls):
        raise ValueError(
            f"{shown} has no method sample_blocks(g, seeds); it has to return (input_nodes, output_nodes, blocks)"
        )
    return cls


def _load_entry_point(name: str, point: EntryPoint) -> type:
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        raise ValueError(_does_not_import(name, point, error)) from error
    if not isinstance(found, type):
        raise ValueError(f"sampler {name!r} of {_package(point)} is {point.value}, which is no class; name a class")
    return _checked(found, f"sampler {name!r} of {_package(point)}")


def _does_not_import(name: str, point: EntryPoint, error: BaseException) -> str:
    return f"sampler {name!r} of {_package(point)} cannot be imported: {type(error).__name__}: {_one_line(error)}"


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist else f"a package ({point.value})"
