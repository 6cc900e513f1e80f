"""From what a user says to an opened model: a name, a path, a hub id, or nothing."""

import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from layerlift.engine.model import hub
from layerlift.engine.model.catalogue import CATALOGUE, DEFAULT, DEMO, Entry, by_file, names
from layerlift.engine.model.checkpoint import Checkpoint, build_module, read_checkpoint
from layerlift.engine.model.model import Model
from layerlift.engine.model.published import find_published
from layerlift.engine.model.settings import Settings
from layerlift.engine.model.text import EncodedText, ReadyText, TextSource
from layerlift.errors import InputError
from layerlift.geometry.fit import Geometry
from layerlift.names import at_home, exists

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def open_model(name: str | Path | None, *, text_encoder: Path | None = None) -> Model:
    """Open a model and check everything that can be checked without reading a weight.

    `name`: "demo", a name of the table, the path of a single-file checkpoint or a model folder, a hub id whose files
    are in the hub's cache, or None for the first LTX checkpoint of the table that is on this machine. `text_encoder`:
    a folder with `text_encoder` and `tokenizer`, where the model has none of its own. Never uses the network.

    Raises InputError: unknown name, files not there (with size and the way to them), and everything
    `read_checkpoint` finds wrong.
    """
    return _open(*_resolve(name), text_encoder)


def open_installed(*, text_encoder: Path | None = None) -> Model | None:
    """The first LTX checkpoint of the table that is on this machine, opened as `open_model` does; None without one."""
    found = _installed()
    return None if found is None else _open(*found, text_encoder)


def demo_folder() -> Path:
    """Where the demo model lies inside the package."""
    return Path(__file__).parent / "demo"


def _open(shown: str, path: Path, entry: Entry | None, text_encoder: Path | None) -> Model:
    checkpoint = read_checkpoint(path)
    settings = _settings(checkpoint, entry)
    text = _text_source(checkpoint, text_encoder, "text-encoder" if entry is None else entry.name)
    geometry = _geometry(checkpoint)
    if settings.frames < 1 + geometry.time:
        raise InputError(
            f"the settings of model {path} cannot be used: frames is {settings.frames}, which is shorter than one "
            f"token of this model; make it {1 + geometry.time} or more, or fetch the model again."
        )
    return Model(shown, checkpoint, settings, geometry, text)


def _installed() -> tuple[str, Path, Entry] | None:
    for entry in CATALOGUE.values():
        if (found := hub.find_checkpoint(entry)) is not None:
            return entry.name, found, entry
    return None


def _resolve(name: str | Path | None) -> tuple[str, Path, Entry | None]:
    """A name to show, what to read, and the table's entry if it is one of the table."""
    if name is None:
        if (installed := _installed()) is not None:
            return installed
        raise InputError(
            f"no LTX-Video checkpoint is on this machine: run `layerlift download {DEFAULT.name}` "
            f"({DEFAULT.gigabytes:g} GB), or try the built-in model with --model demo."
        )
    text = str(name)
    if text == DEMO:
        if not (demo_folder() / "config.json").is_file():
            raise InputError(
                f"the demo model is missing from this installation ({demo_folder()}); reinstall layerlift."
            )
        return DEMO, demo_folder(), None
    if (listed := CATALOGUE.get(text)) is not None:
        checkpoint = hub.find_checkpoint(listed)
        if checkpoint is None:
            raise hub.missing_checkpoint(listed)
        return text, checkpoint, listed
    path = at_home(text)
    if exists(path):
        return path.stem if path.is_file() else path.name, path, by_file(path.name)
    if HUB_ID.fullmatch(text) and path.suffix != ".safetensors":
        repo = hub.find_repo(text)
        if repo is not None:
            return text, repo, None
        raise InputError(
            f"model {text!r} is neither a path nor in the hub's cache: fetch it with `hf download {text}`, or choose "
            f"one of {names()}."
        )
    raise InputError(f"unknown model {text!r}: choose one of {names()}, an existing path, or a hub id.")


def _settings(checkpoint: Checkpoint, entry: Entry | None) -> Settings:
    """The table's settings for a file of the table; else what came with the checkpoint over those of its size."""
    if entry is not None:
        return entry.settings
    like = DEFAULT if int(checkpoint.transformer.config["num_layers"]) <= 28 else CATALOGUE["ltx-13b-0.9.7"]
    values: dict[str, Any] = {**asdict(like.settings), "licence": "not known: see where the checkpoint came from"}
    own = checkpoint.settings or {}
    if {"frames", "size"} & own.keys():
        values["longest"] = None  # what LTX-Video was trained on says nothing about a model of other lengths
    return Settings.from_json({**values, **own}, f"model {checkpoint.path}")


def _geometry(checkpoint: Checkpoint) -> Geometry:
    vae = build_module(checkpoint.vae)
    channels = int(checkpoint.vae.config["latent_channels"])
    if channels != int(checkpoint.transformer.config["in_channels"]):
        raise InputError(
            f"the transformer and VAE in {checkpoint.path} do not match: the VAE makes {channels} channels, but the "
            f"transformer takes {checkpoint.transformer.config['in_channels']}."
        )
    return Geometry(
        space=int(vae.spatial_compression_ratio), time=int(vae.temporal_compression_ratio), channels=channels
    )


def _text_source(checkpoint: Checkpoint, given: Path | None, name: str) -> TextSource:
    width = int(checkpoint.transformer.config["caption_channels"])
    published = partial(find_published, width)
    if given is not None:
        source = EncodedText(partial(_given_encoder, at_home(given)), width, published, name)
        source.check_encoder()
        return source
    if checkpoint.text is not None:
        return ReadyText(checkpoint.text, width)
    return EncodedText(partial(_found_encoder, checkpoint.text_encoder), width, published, name)


def _given_encoder(folder: Path) -> Path:
    if not (folder / "text_encoder").is_dir() or not (folder / "tokenizer").is_dir():
        raise InputError(f"text encoder {folder} must contain the folders text_encoder and tokenizer.")
    return folder


def _found_encoder(own: Path | None) -> Path:
    folder = own if own is not None else hub.find_text_encoder()
    if folder is None:
        raise hub.missing_text_encoder()
    return folder
