"""Prompts to embeddings: ready ones that come with a model, or a text encoder's behind a cache."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from layerlift.cache import cache_folder
from layerlift.engine.model.headers import open_weights, read_header
from layerlift.errors import InputError, reason_of
from layerlift.hidden import leftovers
from layerlift.progress import QUIET, StageProgress
from layerlift.whole import whole_file

if TYPE_CHECKING:
    import torch

    from layerlift.engine.device import Policy
    from layerlift.engine.model.published import PublishedText

# Tokens LTX-Video is given: longer prompts are cut, shorter ones padded and masked.
TEXT_LENGTH = 256
# Ready embeddings of more tokens than this are damage.
MOST_TOKENS = 4096
# The types that embeddings may be stored in, in the file format's words.
NUMBERS = ("F32", "F16", "BF16")


class CacheWarning(UserWarning):
    """The cache of prompts could not be read or written: the text encoder runs instead."""


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """One prompt for the transformer, on the CPU: embeds (1, L, D) float32, mask (1, L) bool, True = a real token."""

    embeds: "torch.Tensor"
    mask: "torch.Tensor"

    def __post_init__(self) -> None:
        if self.embeds.ndim != 3 or self.mask.shape != self.embeds.shape[:2] or self.embeds.shape[0] != 1:
            raise ValueError(f"expected (1, L, D) and (1, L), got {self.embeds.shape} and {self.mask.shape}")
        if not bool(self.embeds.isfinite().all()):
            raise ValueError("a text embedding has numbers that are none")
        # A row with nothing to attend to is NaN on some backends (pytorch #156707).
        if not bool(self.mask.any()):
            raise ValueError("a text embedding needs at least one token that is not masked")


class TextSource(Protocol):
    """Where a model's text embeddings come from."""

    @property
    def known_prompts(self) -> tuple[str, ...] | None:
        """The only prompts it can answer; None: any."""
        ...

    def check(self, prompts: Sequence[str], policy: "Policy", cache: bool) -> None:
        """Raises InputError when `embed` could not answer; reads no weight."""
        ...

    def embed(
        self, prompts: Sequence[str], policy: "Policy", cache: bool, progress: StageProgress = QUIET
    ) -> list[TextEmbedding]:
        """One embedding per prompt."""
        ...

    def encoder_to_run(self, prompts: Sequence[str], policy: "Policy", cache: bool) -> Path | None:
        """The folder of the text encoder that `embed` would run; None when every embedding is there already."""
        ...


# --- ready embeddings ------------------------------------------------------------------------------------------------


def save_ready_text(path: Path, prompts: Sequence[str], embeds: "torch.Tensor", mask: "torch.Tensor") -> None:
    """Write ready embeddings: `embeds` (P, L, D), `mask` (P, L) bool, and the prompts in the file's metadata."""
    import torch
    from safetensors.torch import save_file

    if embeds.shape[0] != len(prompts) or mask.shape != embeds.shape[:2]:
        raise ValueError(f"{len(prompts)} prompts do not fit {tuple(embeds.shape)} and {tuple(mask.shape)}")
    tensors = {"embeds": embeds.contiguous(), "mask": mask.to(torch.uint8).contiguous()}
    save_file(tensors, path, metadata={"prompts": json.dumps(list(prompts))})


class ReadyText:
    """Embeddings that come with a model, in a file as `save_ready_text` writes it."""

    def __init__(self, path: Path, width: int) -> None:
        """`width`: the embedding size D the transformer expects. Raises InputError when the file does not fit."""
        specs, metadata = read_header(path)
        try:
            prompts = msgspec.json.decode(metadata["prompts"], type=list[str])
            embeds, mask = specs["embeds"].shape, specs["mask"].shape
        except (KeyError, msgspec.MsgspecError, RecursionError) as error:
            raise InputError(f"{path} holds no text embeddings with their prompts; fetch the model again.") from error
        if (
            len(embeds) != 3
            or not prompts
            or embeds[0] != len(prompts)
            or embeds[2] != width
            or mask != embeds[:2]
            or not 0 < embeds[1] <= MOST_TOKENS
            or specs["embeds"].dtype not in NUMBERS
        ):
            raise InputError(
                f"{path} does not fit its model: embeds {list(embeds)} and mask {list(mask)} for {len(prompts)} "
                f"prompts of width {width}; fetch the model again."
            )
        self.path = path
        self._index = {prompt: index for index, prompt in enumerate(prompts)}

    @property
    def known_prompts(self) -> tuple[str, ...]:
        return tuple(self._index)

    def check(self, prompts: Sequence[str], policy: "Policy", cache: bool) -> None:
        for prompt in prompts:
            if prompt not in self._index:
                known = ", ".join(repr(name) for name in self._index)
                raise InputError(
                    f"this model has no text encoder and does not know the prompt {prompt!r}: use one of {known}."
                )

    def embed(
        self, prompts: Sequence[str], policy: "Policy", cache: bool, progress: StageProgress = QUIET
    ) -> list[TextEmbedding]:
        self.check(prompts, policy, cache)
        found = []
        with open_weights(self.path) as stored:
            for prompt in prompts:
                row = slice(self._index[prompt], self._index[prompt] + 1)
                embeds, mask = (stored.get_slice(name)[row] for name in ("embeds", "mask"))
                try:
                    found.append(TextEmbedding(embeds.float(), mask.bool()))
                except ValueError as error:
                    raise InputError(
                        f"{self.path} has no usable text embedding for {prompt!r} ({error}); fetch the model again."
                    ) from error
        return found

    def encoder_to_run(self, prompts: Sequence[str], policy: "Policy", cache: bool) -> Path | None:
        return None


# --- a text encoder behind a cache -----------------------------------------------------------------------------------


class EncodedText:
    """Embeddings by a T5 encoder, each made once and then read from the cache folder.

    Those that were published with a release need no encoder; where there is one, it has to be the one they are from.
    """

    # What runs the encoder, as `t5_stream.embed_stream` is called; None: torch, as the policy says.
    run: "Callable[..., list[torch.Tensor]] | None" = None

    def __init__(
        self,
        find_folder: Callable[[], Path],
        width: int,
        find_published: "Callable[[], PublishedText | None]" = lambda: None,
        name: str = "text-encoder",
    ) -> None:
        """`find_folder` returns a folder with `text_encoder` and `tokenizer`, or raises the InputError that says how
        to get one; `width`: the embedding size D the transformer expects; `find_published`: embeddings of that size;
        `name`: what `layerlift download` calls the model."""
        self._find_folder = find_folder
        self._width = width
        self._find_published = find_published
        self._name = name

    @property
    def known_prompts(self) -> tuple[str, ...] | None:
        try:
            self._find_folder()
        except InputError:
            published = self._find_published()
            return None if published is None else published.prompts
        return None

    def check(self, prompts: Sequence[str], policy: "Policy", cache: bool) -> None:
        self._encoder_for(prompts, policy)

    def check_encoder(self) -> Path:
        """The encoder's folder. Raises InputError when there is none or it does not fit the model."""
        from layerlift.engine.model.t5 import check_encoder

        folder = self._find_folder()
        check_encoder(folder, self._width)
        return folder

    def _encoder_for(self, prompts: Sequence[str], policy: "Policy") -> Path | None:
        """The encoder's folder; None where there is none, and every prompt was published.

        Raises InputError for a prompt that is no text, for one that needs an encoder which is not there, and as
        `check_encoder`.
        """
        for prompt in prompts:
            try:
                prompt.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"the prompt {prompt!r} is no text: type it in UTF-8.") from error
        try:
            self._find_folder()
        except InputError:
            published = self._find_published()
            if published is None or not published.fits(policy):
                raise
            for prompt in prompts:
                if prompt not in published.prompts:
                    ready = ", ".join(repr(name) for name in published.prompts)
                    raise InputError(
                        f"the prompt {prompt!r} needs the text encoder, because only {ready} are ready: run "
                        f"`layerlift download {self._name}"
                        f"{'' if self._name == 'text-encoder' else ' --with-text-encoder'}`, or give --text-encoder "
                        "PATH."
                    ) from None
            return None
        return self.check_encoder()

    def _ready(
        self, folder: Path | None, prompts: Sequence[str], policy: "Policy", cache: bool
    ) -> dict[str, TextEmbedding]:
        """Embeddings that no encoder has to run for: published or in the cache."""
        from layerlift.engine.model.t5 import encoder_identity

        found: dict[str, TextEmbedding] = {}
        published = self._find_published() if cache or folder is None else None
        if published is not None and published.fits(policy):
            if folder is None:
                return published.read(prompts)
            if published.encoder == encoder_identity(folder):
                try:
                    found = published.read(prompts)
                except InputError as error:
                    warn(str(error).removesuffix("."))
        left = [prompt for prompt in prompts if prompt not in found]
        if cache and folder is not None and left:
            found |= _read_all(self._paths(folder, left, policy), self._width)
        return found

    def encoder_to_run(self, prompts: Sequence[str], policy: "Policy", cache: bool) -> Path | None:
        folder = self._encoder_for(prompts, policy)
        return None if self._ready(folder, prompts, policy, cache).keys() >= set(prompts) else folder

    def _paths(self, folder: Path, prompts: Sequence[str], policy: "Policy") -> dict[str, Path]:
        from layerlift.engine.model.t5 import encoder_identity

        identity = encoder_identity(folder)
        return {prompt: cache_path(prompt, identity, TEXT_LENGTH, policy) for prompt in prompts}

    def embed(
        self, prompts: Sequence[str], policy: "Policy", cache: bool, progress: StageProgress = QUIET
    ) -> list[TextEmbedding]:
        import torch

        from layerlift.engine.model import t5

        folder = self._encoder_for(prompts, policy)
        found = self._ready(folder, prompts, policy, cache)
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        if missing and folder is not None:
            paths = self._paths(folder, missing, policy)
            cache_dtype = getattr(torch, policy.cache_dtype)
            made = t5.embed(folder, missing, TEXT_LENGTH, policy, progress, run=self.run)
            for prompt, (embeds, mask) in zip(missing, made, strict=True):
                # Through the cache's dtype in any case: a hit and a miss give the same numbers.
                kept = embeds.to(cache_dtype)
                found[prompt] = TextEmbedding(kept.float(), mask)
                if cache:
                    write_cached(paths[prompt], prompt, kept, mask)
        return [found[prompt] for prompt in prompts]


def _read_all(paths: Mapping[str, Path], width: int) -> dict[str, TextEmbedding]:
    """The prompts whose embeddings of a width are in the cache, of those whose files would be at `paths`."""
    stored = {prompt: read_cached(path, prompt, width) for prompt, path in paths.items()}
    return {prompt: embedding for prompt, embedding in stored.items() if embedding is not None}


def cache_path(prompt: str, encoder: str, length: int, policy: "Policy") -> Path:
    """The file of one embedding: its name is a digest of everything the embedding depends on."""
    key = json.dumps([prompt, encoder, length, policy.text_dtype, policy.cache_dtype])
    return cache_folder("text") / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"


def read_cached(path: Path, prompt: str, width: int) -> TextEmbedding | None:
    """The cached embedding of `width`; None when there is none, or none that can be used: a CacheWarning says why."""
    try:
        if not path.is_file():
            return None
        specs, metadata = read_header(path)
        if metadata.get("prompt") != prompt or specs["embeds"].dtype not in NUMBERS or specs["mask"].dtype != "U8":
            return None
        with open_weights(path) as stored:
            found = TextEmbedding(stored.get_tensor("embeds").float(), stored.get_tensor("mask").bool())
    except OSError as error:
        warn(f"{path} cannot be read: {reason_of(error)}")
        return None
    except (InputError, KeyError, ValueError):
        warn(f"{path} is damaged")
        return None
    if found.embeds.shape != (1, TEXT_LENGTH, width) or not bool(found.embeds.isfinite().all()):
        warn(f"{path} does not hold an embedding of this model")
        return None
    return found


def write_cached(path: Path, prompt: str, embeds: "torch.Tensor", mask: "torch.Tensor") -> None:
    """Store one embedding: embeds (1, L, D), mask (1, L) bool; another process sees all of it or nothing.

    A CacheWarning says why where it cannot be stored.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {"embeds": embeds.contiguous(), "mask": mask.to(torch.uint8).contiguous()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in leftovers(path):
            left.unlink(missing_ok=True)
        with whole_file(path, overwrite=True, own=True) as made:
            save_file(tensors, made, metadata={"prompt": prompt})
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        warn(f"{path} cannot be written: {reason.lower()}")


def warn(reason: str) -> None:
    """A CacheWarning that says why something kept is not used."""
    warnings.warn(f"The cache of prompts is not used: {reason}.", CacheWarning, stacklevel=3)
