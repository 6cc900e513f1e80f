"""Which model a stage runs: the one that is given, else the checkpoint on this machine, else none."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

from layerlift.engine.base import Engine
from layerlift.engine.model import Model, open_installed, open_model
from layerlift.engine.model.catalogue import DEFAULT
from layerlift.engine.model.hub import download_size
from layerlift.errors import InputError
from layerlift.runtime import Runtime

NO_MODEL = "none"


def open_named(name: str | Path | None, text_encoder: Path | None) -> Engine | None:
    """`open_model`, or the checkpoint on this machine where there is no name. Raises InputError as `open_model`."""
    if name is None:
        return open_installed(text_encoder=text_encoder)
    return open_model(name, text_encoder=text_encoder)


# How models are opened. A process that runs one command after the other has a way that keeps them.
OPEN: ContextVar[Callable[[str | Path | None, Path | None], Engine | None]] = ContextVar("OPEN", default=open_named)


def choose_model(runtime: Runtime) -> tuple[Engine | None, list[str]]:
    """The model to run, and what the user should know; None where it is to be done without.

    That is where "none" is given, or nothing while no LTX checkpoint is on this machine: then there is a note of what a
    checkpoint would add. The demo model is never chosen unless it is named. Raises InputError as `open_model`.
    """
    found = _find(runtime)
    if found is None and runtime.model is None:
        return None, [
            "No LTX-Video checkpoint is on this machine, so areas that no frame shows are filled in without a model; "
            f"to generate them, run {_way_to_one()}."
        ]
    return found, []


def require_model(runtime: Runtime, needed_for: str) -> Engine:
    """The same for what cannot be done without a model. Raises InputError, too, where there is none."""
    found = _find(runtime)
    if found is None:
        why = "no LTX-Video checkpoint is on this machine" if runtime.model is None else "--model is none"
        raise InputError(
            f"{needed_for} needs a model, but {why}: run {_way_to_one()}, or try the built-in model with --model demo."
        )
    return found


def _way_to_one() -> str:
    return f"`layerlift download {DEFAULT.name}` ({download_size(DEFAULT)})"


def _find(runtime: Runtime) -> Engine | None:
    given = runtime.model
    if given == NO_MODEL:
        return None
    if given is None or isinstance(given, str | Path):
        given = OPEN.get()(given, runtime.text_encoder)
    return run_by(given, runtime.policy.engine)


def run_by(model: Engine | None, engine: str) -> Engine | None:
    """A model as "torch" or "mlx" runs it; no weight is read. One that outlives commands knows itself how."""
    if (own := getattr(model, "run_by", None)) is not None:
        found: Engine = own(engine)
        return found
    if not isinstance(model, Model):
        return model
    opened = getattr(model, "opened", None)  # of one that MLX runs
    if engine != "mlx":
        return opened or model
    from layerlift.engine.mlx.engine import MlxModel

    return model if opened is not None else MlxModel(model)
