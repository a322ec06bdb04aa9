"""Datasets by name, from the user's own files, and generated."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gnnscale.data.archives import graphsaint, ppi, reddit, shchur, wikics
from gnnscale.data.dataset import Dataset
from gnnscale.data.facebook import facebook
from gnnscale.data.files import graph_file, tolokers
from gnnscale.data.ogb import ogbn
from gnnscale.data.planetoid import planetoid
from gnnscale.data.rmat import rmat
from gnnscale.data.synthetic import synthetic

__all__ = ["Dataset", "dataset_names", "load"]

_NAMED: dict[str, tuple[Callable[..., Dataset], str]] = {
    "cora": (planetoid, "citations; 2,708 nodes, 10,556 edges, 7 classes"),
    "citeseer": (planetoid, "citations; 3,327 nodes, 9,228 edges, 6 classes"),
    "pubmed": (planetoid, "citations; 19,717 nodes, 88,651 edges, 3 classes"),
    "tolokers": (tolokers, "crowd workers; 11,758 nodes, 1,038,000 edges, 2 classes, ROC AUC"),
    "facebook": (facebook, "pages that like each other; 22,470 nodes, 341,825 edges, 4 classes"),
    "wikics": (wikics, "articles on computer science; 11,701 nodes, 431,726 edges, 10 classes"),
    "amazon-computers": (shchur, "goods bought together; 13,752 nodes, 491,722 edges, 10 classes"),
    "amazon-photo": (shchur, "goods bought together; 7,650 nodes, 238,162 edges, 8 classes"),
    "coauthor-cs": (shchur, "joint papers; 18,333 nodes, 163,788 edges, 15 classes"),
    "coauthor-physics": (shchur, "joint papers; 34,493 nodes, 495,924 edges, 5 classes"),
    "ppi": (ppi, "proteins in 24 tissues; 56,944 nodes, about 1.6 M edges, 121 labels, micro-F1"),
    "flickr": (graphsaint, "images; 89,250 nodes, 899,756 edges, 7 classes"),
    "yelp": (graphsaint, "reviewers; 716,847 nodes, 13,954,819 edges, 100 labels, micro-F1"),
    "reddit": (reddit, "posts; 232,965 nodes, 114,615,892 edges, 41 classes"),
    "ogbn-arxiv": (ogbn, "citations; 169,343 nodes, 2,315,598 edges, 40 classes"),
    "ogbn-products": (ogbn, "goods bought together; 2,449,029 nodes, 123,718,280 edges, 47 classes"),
}
_GENERATED: dict[str, tuple[Callable[..., Dataset], str]] = {
    "synthetic": (synthetic, "generated: block model, planted classes; by default 50,000 nodes, 1 M edges"),
    "rmat": (rmat, "generated: R-MAT of any size; by default 100,000 nodes, 2 M edges"),
}


def dataset_names() -> dict[str, str]:
    """Every dataset known by name, and one line about it.

    Examples
    --------
    >>> dataset_names()["cora"]
    'citations; 2,708 nodes, 10,556 edges, 7 classes'
    """
    return {name: line for name, (_, line) in (_NAMED | _GENERATED).items()}


def load(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    split: int = 0,
    standardize: bool = False,
    **options: Any,
) -> Dataset:
    """Load a dataset by name, from a file, or generate it.

    Parameters
    ----------
    name_or_path : str or path
        A name of :func:`dataset_names`, or the path of an ``.npz`` file or of a graph saved by
        ``dgl.save_graphs``.
    data_dir : str or path, optional
        Folder to look for the files in, first. It is never written to. What is not there is looked for in the
        cache ($GNNSCALE_CACHE, else $XDG_CACHE_HOME/gnnscale, else ~/.cache/gnnscale) and downloaded
        into it. Generators need no files.
    split : int
        Which split of the nodes, where a dataset has several.
    standardize : bool
        Whether each feature column is shifted and scaled to mean 0 and variance 1 over the training nodes.
    **options
        Of a generator, such as ``num_nodes`` and ``seed``, or of a file: ``undirected``, ``metric``,
        ``allow_unseen_classes``.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If there is no such dataset, file or folder, or a download fails.
    TypeError
        If the dataset does not take an option.
    ValueError
        If an option, or something in a file, is outside its range.

    Examples
    --------
    >>> data = load("rmat", num_nodes=1000, num_edges=4000, seed=1)
    >>> data.num_edges, len(data.train_ids), data.metric
    (4000, 100, 'accuracy')
    """
    folder = None if data_dir is None else Path(data_dir).expanduser()
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"data_dir {folder} is not a folder; give the folder that holds the files.")
    if isinstance(split, bool) or not isinstance(split, int):
        raise TypeError(f"split is {split!r}; give the number of a split, from 0 on.")
    if not isinstance(standardize, bool):
        raise TypeError(f"standardize is {standardize!r}; it is True or False.")
    name = os.fspath(name_or_path)
    if name in _GENERATED:
        read: Callable[..., Dataset] = _GENERATED[name][0]
    elif name in _NAMED:
        read = partial(_NAMED[name][0], name, folder)
    else:
        read = partial(graph_file, _file(name, folder))
    for _, sentence in _unknown(name, read, options):
        raise TypeError(sentence)
    data = read(split=split, **options)
    return data.standardized() if standardize else data


def _file(name: str, folder: Path | None) -> Path:
    path = Path(name).expanduser()
    if not path.exists() and folder is not None and (folder / path).exists():
        return folder / path
    if not path.exists() and path.name == name and not path.suffix:
        near = difflib.get_close_matches(name.lower(), dataset_names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(dataset_names())}."
        raise FileNotFoundError(f"There is no dataset and no file named {name!r}; {hint}")
    return path


def unknown_options(name: str, options: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Options that a dataset does not take, each with a sentence; no file is looked at.

    Parameters
    ----------
    name : str
        A name of :func:`dataset_names`, or the path of a file.
    options : iterable of str

    Examples
    --------
    >>> list(unknown_options("synthetic", ["num_node", "seed"]))
    [('num_node', "synthetic takes no option 'num_node'; did you mean num_nodes?")]
    """
    read = (_NAMED | _GENERATED).get(name, (graph_file,))[0]
    return _unknown(name, read, [option for option in options if option != "standardize"])


def _unknown(name: str, read: Callable[..., Dataset], options: Iterable[str]) -> Iterator[tuple[str, str]]:
    parameters = inspect.signature(read).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("split", "name")]
    for option in options:
        if option not in allowed:
            near = difflib.get_close_matches(option, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(allowed) or 'none'}."
            yield option, f"{name} takes no option {option!r}; {hint}"
