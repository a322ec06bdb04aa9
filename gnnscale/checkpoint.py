"""A training run on disk, so that it goes on where it was after a kill."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile
from zlib import error as zlib_error

import torch
from torch import nn

from gnnscale.history import HistoryStore
from gnnscale.loader import DataLoader

_FORMAT = 2


class SavedRun:
    """The file of one training run; it holds tensors and plain values alone, and is replaced as a whole.

    Parameters
    ----------
    path : str or Path
        The file.
    settings : dict
        What decides the run, plain values; a file of other settings is refused.
    model, optimizer, loader
        What the run consists of, with the loader's histories and its sampler's parameters. The rows of a store with
        ``placement="file"`` are not copied: its own file keeps them.
    """

    def __init__(
        self,
        path: str | Path,
        settings: dict[str, Any],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: DataLoader,
    ) -> None:
        self.path, self.settings = Path(path), settings
        if self.path.is_dir():
            raise ValueError(f"checkpoint={str(path)!r} is a folder; name a file")
        self._model, self._optimizer, self._loader = model, optimizer, loader
        self._on_gpu = loader.device.type == "cuda"
        stores = {"history": loader.history, "gradients": loader.gradients}
        self._stores: dict[str, HistoryStore] = {name: store for name, store in stores.items() if store is not None}

    def write(self, progress: dict[str, Any]) -> None:
        """Replace the file by the state as of now, between two epochs, and ``progress``, plain values."""
        # What has been pushed to a store in a file has to be there when the checkpoint is.
        for store in self._stores.values():
            store.flush()
        state = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "sampler": [parameter.detach() for parameter in self._loader.parameters()],
            "random": torch.get_rng_state(),
            "random_of_gpu": torch.cuda.get_rng_state(self._loader.device) if self._on_gpu else None,
            "epoch": self._loader.epoch,
            "steps": {name: store.step for name, store in self._stores.items()},
            "rows": {name: store.state_dict() for name, store in self._stores.items() if store.placement != "file"},
        }
        content = {"format": _FORMAT, "settings": self.settings, "state": state, "progress": progress}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            # A kill before this leaves the old file.
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def restore(self) -> dict[str, Any] | None:
        """Go back to the state of the file, and give its ``progress``; None where there is no file.

        Raises
        ------
        ValueError
            If the file is damaged, no checkpoint, or of another run.
        """
        if not self.path.exists():
            return None
        content = self._read()
        state = content["state"]
        try:
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.path} is of another model ({' '.join(str(error).split())}); use the same model, another "
                "file, or delete it to train anew"
            ) from None
        with torch.no_grad():
            for parameter, value in zip(self._loader.parameters(), state["sampler"], strict=True):
                parameter.copy_(value)
        torch.set_rng_state(state["random"])
        of_gpu = state.get("random_of_gpu")  # younger than some files
        if self._on_gpu and of_gpu is not None:
            torch.cuda.set_rng_state(of_gpu, self._loader.device)
        self._loader.epoch = state["epoch"]
        for name, store in self._stores.items():
            if name in state["rows"]:
                store.load_state_dict(state["rows"][name])
                continue
            if store.step < state["steps"][name]:
                raise ValueError(
                    f"{self.path} belongs to a history file of step {state['steps'][name]} or later, and {store!r} is "
                    f"at step {store.step}; pass history=HistoryStore.open(...) of that run's file"
                )
            # Steps that the model has not made, as far as the checkpoint goes, are made again.
            store.step = state["steps"][name]
        return content["progress"]

    def _read(self) -> dict[str, Any]:
        with self.path.open("rb") as file:
            try:
                # torch does not look at the sums that it writes.
                if ZipFile(file).testzip() is not None:
                    raise BadZipFile
                file.seek(0)
                content = torch.load(file, map_location="cpu", weights_only=True)
            except (
                pickle.UnpicklingError,
                BadZipFile,
                ArithmeticError,
                OSError,
                RuntimeError,
                EOFError,
                ValueError,
                LookupError,
                struct.error,
                zlib_error,
            ):
                raise ValueError(
                    f"{self.path} is no checkpoint of gnnscale, or damaged; delete it to train anew"
                ) from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"{self.path} is no checkpoint of this version of gnnscale; delete it to train anew")
        for name, value in self.settings.items():
            if content["settings"].get(name) != value:
                raise ValueError(
                    f"{self.path} is of a run with {name}={content['settings'].get(name)!r}, and this one has "
                    f"{name}={value!r}; use the same settings, another file, or delete it to train anew"
                )
        return content
