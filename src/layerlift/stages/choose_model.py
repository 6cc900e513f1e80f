"""Which model a stage runs: the one that is given, else the checkpoint on this machine, else none."""

from __future__ import annotations

from pathlib import Path

from layerlift.engine.base import Engine
from layerlift.engine.model import Model, open_installed, open_model
from layerlift.engine.model.catalogue import DEFAULT, TEXT_ENCODER_GB
from layerlift.errors import InputError
from layerlift.runtime import Runtime

NO_MODEL = "none"

_DOWNLOAD = (
    f"`layerlift download {DEFAULT.name}` ({DEFAULT.gigabytes:g} GB, and {TEXT_ENCODER_GB:g} GB for its text encoder)"
)


def choose_model(runtime: Runtime) -> tuple[Engine | None, list[str]]:
    """The model to run, and what the user should know; None where it is to be done without.

    That is where "none" is given, or nothing while no LTX checkpoint is on this machine: then there is a note of what a
    checkpoint would add. The demo model is never chosen unless it is named. Raises InputError as `open_model`.
    """
    found = _find(runtime)
    if found is None and runtime.model is None:
        return None, [
            "No LTX-Video checkpoint is on this machine, so areas that no frame shows are filled in without a model; "
            f"to generate them, run {_DOWNLOAD}."
        ]
    return found, []


def require_model(runtime: Runtime, needed_for: str) -> Engine:
    """The same for what cannot be done without a model. Raises InputError, too, where there is none."""
    found = _find(runtime)
    if found is None:
        why = "no LTX-Video checkpoint is on this machine" if runtime.model is None else "--model is none"
        raise InputError(
            f"{needed_for} needs a model, but {why}: run {_DOWNLOAD}, or try the built-in model with --model demo."
        )
    return found


def _find(runtime: Runtime) -> Engine | None:
    given, text_encoder = runtime.model, runtime.text_encoder
    if given == NO_MODEL:
        return None
    found: Engine | None
    if given is None:
        found = open_installed(text_encoder=text_encoder)
    else:
        found = open_model(given, text_encoder=text_encoder) if isinstance(given, str | Path) else given
    return run_by(found, runtime.policy.engine)


def run_by(model: Engine | None, engine: str) -> Engine | None:
    """A model as "torch" or "mlx" runs it; no weight is read."""
    if engine != "mlx" or not isinstance(model, Model):
        return model
    from layerlift.engine.mlx.engine import MlxModel

    return model if isinstance(model, MlxModel) else MlxModel(model)
