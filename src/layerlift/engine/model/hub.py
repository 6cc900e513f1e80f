"""The hub's cache on this machine, and the one function that may use the network: `download` (with `published`)."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from layerlift.engine.model.catalogue import CATALOGUE, HUB_REPO, TEXT_ENCODER_GB, Entry
from layerlift.engine.segmenters import FILES, SEGMENTERS
from layerlift.errors import InputError, LayerliftError
from layerlift.exhausted import FULL

# Where the earlier systems' instructions say to put a checkpoint; looked at in the current folder.
EARLIER_FOLDER = "model_checkpoint"

TEXT_INDEX = "text_encoder/model.safetensors.index.json"
TEXT_FILES = (
    "text_encoder/config.json",
    "tokenizer/added_tokens.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/spiece.model",
    "tokenizer/tokenizer_config.json",
)

# What a disk says that takes nothing of ours.
_REFUSED = frozenset([errno.EROFS, errno.EACCES, errno.EPERM])

ProgressCallback = Callable[[str, int, int], None]
"""Called with a file's name, bytes done and bytes in all (0 while unknown)."""


def find_checkpoint(entry: Entry) -> Path | None:
    """The entry's file in the hub's cache or in `model_checkpoint/`; None when it is in neither."""
    cached = _cached_file(entry.repo, entry.file)
    if cached is not None:
        return cached
    beside = Path(EARLIER_FOLDER) / entry.file
    return beside if beside.is_file() else None


def find_text_encoder() -> Path | None:
    """The folder in the hub's cache that holds LTX-Video's `text_encoder` and `tokenizer`, or None."""
    config = _cached_file(HUB_REPO, TEXT_FILES[0])
    index = _cached_file(HUB_REPO, TEXT_INDEX)
    if config is None or index is None:
        return None
    folder = config.parent.parent
    return folder if all((folder / name).is_file() for name in _text_names(index)) else None


def text_is_here() -> bool:
    """Whether this machine has what models need for the prompts of a job: the text encoder or ready embeddings."""
    from layerlift.engine.model.published import place

    return find_text_encoder() is not None or place().is_file()


def download_size(entry: Entry) -> str:
    """What `download` fetches for a model, in words, as far as one knows without the network."""
    from layerlift.engine.model.published import address

    said = f"{entry.gigabytes:g} GB"
    if text_is_here():
        return said
    said += f", and {TEXT_ENCODER_GB:g} GB for its text encoder"
    return said if address() is None else f"{said} unless this release has ready embeddings"


def find_repo(repo: str) -> Path | None:
    """The cached snapshot of a hub repository, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def missing_checkpoint(entry: Entry) -> InputError:
    """The error for a model whose file is not here: with its size and the way to it."""
    return InputError(
        f"{entry.name} is not on this machine ({entry.file}, {entry.gigabytes:g} GB): "
        f"run `layerlift download {entry.name}`, or try the built-in model with --model demo."
    )


def missing_text_encoder() -> InputError:
    """The error for a text encoder that is not here."""
    return InputError(
        f"the text encoder of LTX-Video is not on this machine ({TEXT_ENCODER_GB:g} GB): run "
        f"`layerlift download text-encoder`, or give --text-encoder PATH, a folder with text_encoder and tokenizer."
    )


def download(
    name: str,
    progress: ProgressCallback | None = None,
    *,
    with_text_encoder: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Fetch a model of the table and what it needs for its prompts into the caches; what is there is kept.

    That is the text encoder where it is there already or `with_text_encoder` asks for it, and else the embeddings that
    came with this version's release; where it has none, the encoder as well, and `say` is told a line about it.

    `name`: a name of the table, "text-encoder" for that alone, or a segmenter's. Returns the files. Raises InputError
    for a name that is not in the tables and when the network fails or refuses.
    """
    if name in SEGMENTERS:
        return [_fetch(SEGMENTERS[name].repo, file, progress) for file in FILES]
    if name != "text-encoder" and name not in CATALOGUE:
        known = ", ".join([*CATALOGUE, *SEGMENTERS])
        raise InputError(f"unknown model {name!r}: choose one of {known}, or text-encoder.")
    files: list[Path] = []
    if name != "text-encoder":
        entry = CATALOGUE[name]
        files.append(_fetch(entry.repo, entry.file, progress))
        if not with_text_encoder and find_text_encoder() is None:
            ready = _published(progress, say)
            if ready is not None:
                return [*files, ready]
    index = _fetch(HUB_REPO, TEXT_INDEX, progress)
    return [*files, index, *(_fetch(HUB_REPO, wanted, progress) for wanted in _text_names(index))]


def _published(progress: ProgressCallback | None, say: Callable[[str], None]) -> Path | None:
    """The embeddings of this version's release; None where there are none, which was said."""
    from layerlift.engine.model import published

    url = published.address()
    if url is None:
        return None
    found = published.fetch(url, progress)
    if found is None:
        say(f"This release has no ready embeddings ({url}): the text encoder is fetched ({TEXT_ENCODER_GB:g} GB).")
    return found


def _fetch(repo: str, file: str, progress: ProgressCallback | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
    )

    failed = f"{file} could not be fetched from {repo}"
    try:
        return Path(hf_hub_download(repo, file, tqdm_class=_reporting_bar(file, progress)))
    except (RemoteEntryNotFoundError, RepositoryNotFoundError) as error:
        raise InputError(f"{failed}: the hub has no such file; update layerlift.") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in FULL or number in _REFUSED:
            free, other = ("free some space, or ", "on another disk") if number in FULL else ("", "you can write to")
            reason = os.strerror(number).lower()
            raise LayerliftError(f"{failed}: {reason}; {free}set HF_HOME to a folder {other}.") from error
        said = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{failed} ({type(error).__name__}: {said}); check the network and run the command again: files that are "
            "whole are kept."
        ) from error


def _reporting_bar(file: str, progress: ProgressCallback | None) -> Any:
    """A tqdm class that draws nothing and tells `progress` instead."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class ReportingBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # huggingface_hub adds `name`, which tqdm itself does not know; `disable` would stop the counting
            kwargs.pop("name", None)
            kwargs["disable"] = False
            super().__init__(*args, **kwargs)
            self._tell()

        def display(self, *args: Any, **kwargs: Any) -> None:
            """Draw nothing."""

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            self._tell()
            return shown

        def close(self) -> None:
            """Nothing was drawn, so nothing is cleared; tqdm's own would print the bar once more."""
            self.disable = True

        def _tell(self) -> None:
            if progress is not None:
                progress(file, int(self.n), int(self.total or 0))

    return ReportingBar


def _text_names(index: Path) -> list[str]:
    from layerlift.engine.model.checkpoint import read_index

    return [*TEXT_FILES, *(f"text_encoder/{shard}" for shard in read_index(index))]


def _cached_file(repo: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file)
    return Path(found) if isinstance(found, str) else None
