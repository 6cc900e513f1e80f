"""A worker's model, which stays opened from clip to clip, and its weights on the device where there is room."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from layerlift.engine.base import Engine
from layerlift.engine.device.budget import gpu_bytes
from layerlift.stages.choose_model import open_named, run_by

# The weights of a model that stay on a GPU take at most this share of its memory.
SHARE = 1 / 3


class Models:
    """Opens models as `open_named` does, and keeps the last one."""

    def __init__(self) -> None:
        self._name: tuple[str, str] | None = None
        self._kept: KeptModel | None = None

    def open(self, name: str | Path | None, text_encoder: Path | None) -> Engine | None:
        """The model; the same one where the same is asked for again. Raises InputError as `open_model`."""
        asked = str(name), str(text_encoder)
        if self._kept is None or self._name != asked or self._kept.changed():
            self.free()
            found = open_named(name, text_encoder)
            if found is None:
                return None
            self._name, self._kept = asked, KeptModel(found)
        return cast("Engine", self._kept)  # it has all that the model has

    def free(self) -> None:
        """Let go of the model and its weights."""
        if self._kept is not None:
            self._kept.free()
        self._name = self._kept = None


class KeptModel:
    """A model that outlives the commands that run it: at their end they may close it, and nothing goes."""

    def __init__(self, model: Engine) -> None:
        self._model, self._engine = model, "torch"
        self._files = _files(model.path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run_by(self, engine: str) -> KeptModel:
        """See `choose_model.run_by`: the same model again, unless another engine ran it; what that held goes."""
        if engine != self._engine:
            self._model.close()
            self._model, self._engine = cast("Engine", run_by(self._model, engine)), engine
        return self

    def changed(self) -> bool:
        """Whether its files are no longer as they were."""
        return _files(self._model.path) != self._files

    def stays_in_memory(self, memory: int | None = None) -> bool:
        """See `Engine`: a larger one stays, too, if it takes little of a GPU, and no limit was asked for."""
        return self._model.stays_in_memory(memory) or (memory is None and self._weights() <= SHARE * gpu_bytes())

    def spare(self, device: str) -> int:
        """See `Engine`: what all of its weights take is set aside, so that every clip has the same plan."""
        held = self._model.spare(device)
        return held if self._model.stays_in_memory() or not self.stays_in_memory() else held - self._weights()

    def close(self) -> None:
        """Nothing goes: the next clip will ask for it."""

    def free(self) -> None:
        """Let go of the weights."""
        self._model.close()

    def _weights(self) -> int:
        return sum(size for path, size, _ in self._files if path.endswith(".safetensors"))


def _files(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of every file of a model."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    told = [(str(file), os.stat(file)) for file in files if file.is_file()]  # noqa: PTH116 - links are followed
    return [(name, found.st_size, found.st_mtime_ns) for name, found in told]
