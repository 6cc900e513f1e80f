"""Which model a stage runs: the one that is given, else the checkpoint on this machine, else none."""

from __future__ import annotations

from pathlib import Path

from layerlift.errors import InputError
from layerlift.model import Model, open_installed, open_model
from layerlift.model.catalogue import DEFAULT, TEXT_ENCODER_GB
from layerlift.report import Report

NO_MODEL = "none"

_DOWNLOAD = (
    f"`layerlift download {DEFAULT.name}` ({DEFAULT.gigabytes:g} GB, and {TEXT_ENCODER_GB:g} GB for its text encoder)"
)


def choose_model(given: Model | str | Path | None, report: Report, *, text_encoder: Path | None = None) -> Model | None:
    """The model to run; None where it is to be done without.

    That is where "none" is given, or nothing while no LTX checkpoint is on this machine: then the report gets a note of
    what a checkpoint would add. The demo model is never chosen unless it is named. Raises InputError as `open_model`.
    """
    found = _find(given, text_encoder)
    if found is None and given is None:
        report.note(
            "No LTX-Video checkpoint is on this machine, so what no frame shows is filled in without a model; a "
            f"checkpoint generates it: {_DOWNLOAD}."
        )
    return found


def require_model(given: Model | str | Path | None, needed_for: str, *, text_encoder: Path | None = None) -> Model:
    """The same for what cannot be done without a model. Raises InputError, too, where there is none."""
    found = _find(given, text_encoder)
    if found is None:
        why = "no LTX-Video checkpoint is on this machine" if given is None else "the model none was given"
        raise InputError(
            f"{needed_for} needs a model, and {why}: run {_DOWNLOAD}, or try the built-in model with --model demo."
        )
    return found


def _find(given: Model | str | Path | None, text_encoder: Path | None) -> Model | None:
    if isinstance(given, Model):
        return given
    if given is None:
        return open_installed(text_encoder=text_encoder)
    return None if given == NO_MODEL else open_model(given, text_encoder=text_encoder)
