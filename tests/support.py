"""What several tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from layerlift.cli import main
from layerlift.engine.base import Engine

# Real clips beside the checkout, for developers who have them; tests that ask for one are skipped elsewhere.
CLIPS = Path(__file__).resolve().parents[2] / "shared" / "clips"


def layerlift(*arguments: object) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code


def files(folder: str | Path = ".") -> list[str]:
    """The names of what lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


class Instead:
    """An engine that does what another does, but for the methods that are given by name."""

    def __init__(self, engine: Engine, **methods: Callable[..., Any]) -> None:
        self._engine = engine
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def around(engine: Engine, part: str, call: Callable[..., Any]) -> Engine:
    """The engine, but with `call` around each use of an open part ("encoding", "denoising", …): it is given what the
    part does, and what it is to do it with."""

    @contextmanager
    def opened(*given: Any) -> Iterator[Callable[..., Any]]:
        with getattr(engine, part)(*given) as run:
            yield lambda *rest: call(run, *rest)

    return Instead(engine, **{part: opened})


def failing(engine: Engine, part: str, calls: set[int]) -> Engine:
    """The engine, but out of memory in so many of the uses of a part, counted from 1."""
    import torch

    used = 0

    def call(run: Callable[..., Any], *given: Any) -> Any:
        nonlocal used
        used += 1
        if used in calls:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(*given)

    return around(engine, part, call)
