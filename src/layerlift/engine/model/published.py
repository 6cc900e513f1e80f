"""The few embeddings that jobs need, ready-made: a small file that comes with a release, in place of a text encoder.

The file is a safetensors file with `embeds` (P, 256, D) in bfloat16, `mask` (P, 256) of zeros and ones, and in its
metadata what they are of: hashes of the encoder, of every prompt and of every embedding. It comes from the network, so
nothing in it is believed before it is checked.
"""

import hashlib
import re
import ssl
from collections.abc import Callable, Sequence
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import msgspec
from msgspec import Meta

from layerlift.cache import cache_folder
from layerlift.engine.model.headers import open_weights, read_header
from layerlift.engine.model.text import TEXT_LENGTH, TextEmbedding, warn
from layerlift.errors import InputError
from layerlift.options import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from layerlift.whole import whole_file

if TYPE_CHECKING:
    import torch

    from layerlift.engine.device import Policy

NAME = "prompts.safetensors"
# Removal's two, and the one that effects are looked for with (`effect_score.choose_prompt`).
PROMPTS = (DEFAULT_PROMPT, DEFAULT_NEGATIVE_PROMPT, "")

FORMAT = "layerlift prompts 1"
# Three embeddings of T5-XXL are 6.3 MB.
LARGEST_FILE = 64_000_000
MOST_PROMPTS = 32

# Names of [project.urls] for a repository, in the form that packaging's specification compares them in.
REPOSITORY = ("repository", "source", "sourcecode", "github", "homepage")
GITHUB = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+?(\.git)?/?")
# Seconds without a byte.
PATIENCE = 30.0

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompt: Annotated[str, Meta(max_length=4096)]
    prompt_sha256: Digest
    embedding_sha256: Digest


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The metadata of a file."""

    format: str
    encoder: Digest
    text_dtype: Annotated[str, Meta(max_length=20)]
    prompts: Annotated[tuple[_Prompt, ...], Meta(min_length=1, max_length=MOST_PROMPTS)]


class PublishedText:
    """A file of embeddings whose metadata and shapes were found to fit.

    Attributes:
        width: the size D of an embedding.
        encoder: identity of the encoder that made them, see `t5.encoder_identity`.
        prompts: which there are.
    """

    def __init__(self, path: Path) -> None:
        """Raises InputError when `path` is no such file."""
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            raise _unfit(path, f"it has {path.stat().st_size} bytes")
        specs, found = read_header(path)
        try:
            about = msgspec.json.decode(found["layerlift"], type=_About)
            embeds, mask = specs["embeds"], specs["mask"]
        except (KeyError, msgspec.MsgspecError, RecursionError) as error:
            raise _unfit(path, "it does not say what it holds") from error
        count = len(about.prompts)
        if about.format != FORMAT:
            raise _unfit(path, f"its format is {about.format[:40]!r} instead of {FORMAT!r}")
        if any(_sha256(row.prompt.encode()) != row.prompt_sha256 for row in about.prompts):
            raise _unfit(path, "a prompt is not the one it was made for")
        if (
            specs.keys() != {"embeds", "mask"}
            or (embeds.dtype, mask.dtype) != ("BF16", "U8")
            or embeds.shape[:2] != (count, TEXT_LENGTH)
            or len(embeds.shape) != 3
            or mask.shape != (count, TEXT_LENGTH)
        ):
            raise _unfit(path, f"embeds {list(embeds.shape)} and mask {list(mask.shape)} for {count} prompts")
        self.path = path
        self.width = embeds.shape[2]
        self.encoder, self._text_dtype = about.encoder, about.text_dtype
        self._rows = {row.prompt: (index, row.embedding_sha256) for index, row in enumerate(about.prompts)}

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(self._rows)

    def fits(self, policy: "Policy") -> bool:
        """Whether the encoder would give the same by a policy."""
        return (policy.text_dtype, policy.cache_dtype) == (self._text_dtype, "bfloat16")

    def read(self, prompts: Sequence[str]) -> dict[str, TextEmbedding]:
        """The embeddings of those prompts that there are. Raises InputError for one that is damaged."""
        found = {}
        with open_weights(self.path) as stored:
            for prompt in prompts:
                if prompt not in self._rows:
                    continue
                index, digest = self._rows[prompt]
                embeds, mask = (stored.get_slice(name)[index : index + 1] for name in ("embeds", "mask"))
                if _digest(embeds, mask) != digest:
                    raise _unfit(self.path, f"the embedding of {prompt!r} is not the one it was made with")
                try:
                    found[prompt] = TextEmbedding(embeds.float(), mask.bool())
                except ValueError as error:
                    raise _unfit(self.path, str(error)) from error
        return found


def write_published(path: Path, encoder: str, text_dtype: str, found: dict[str, "TextEmbedding"]) -> None:
    """Write a file of embeddings: `encoder` made them with weights in `text_dtype`."""
    import torch
    from safetensors.torch import save_file

    embeds = torch.cat([one.embeds for one in found.values()]).to(torch.bfloat16)
    mask = torch.cat([one.mask for one in found.values()]).to(torch.uint8)
    rows = tuple(
        _Prompt(prompt, _sha256(prompt.encode()), _digest(embeds[i : i + 1], mask[i : i + 1]))
        for i, prompt in enumerate(found)
    )
    about = msgspec.json.encode(_About(FORMAT, encoder, text_dtype, rows)).decode()
    save_file({"embeds": embeds.contiguous(), "mask": mask.contiguous()}, path, metadata={"layerlift": about})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(embeds: "torch.Tensor", mask: "torch.Tensor") -> str:
    """Of the bytes of one embedding (1, L, D) and its mask (1, L), as they lie in the file."""
    import torch

    return _sha256(b"".join(part.contiguous().view(torch.uint8).numpy().tobytes() for part in (embeds, mask)))


def _unfit(path: Path, reason: str) -> InputError:
    return InputError(f"{path} holds no embeddings of prompts that can be used ({reason}); download it again.")


# --- where they are --------------------------------------------------------------------------------------------------


def place() -> Path:
    """Where the file lies on this machine, if it was fetched."""
    return cache_folder("prompts") / NAME


def find_published(width: int | None = None) -> PublishedText | None:
    """The embeddings that were fetched, of a size D if `width` says which; None where none were.

    None, too, for a file that cannot be used: a CacheWarning says why.
    """
    path = place()
    try:
        found = PublishedText(path) if path.is_file() else None
    except (InputError, OSError) as error:
        warn(str(error).removesuffix(".") if isinstance(error, InputError) else f"{path} cannot be read")
        return None
    return found if found is None or width in (None, found.width) else None


def address() -> str | None:
    """Where this version's release has the file; None: the package's metadata names no repository on GitHub."""
    try:
        about = metadata.metadata("layerlift")
    except metadata.PackageNotFoundError:
        return None
    named = {}
    for line in about.get_all("Project-URL") or []:
        label, _, url = line.partition(",")
        named[re.sub(r"[^a-z0-9]", "", label.lower())] = url.strip()
    found = next((named[label] for label in REPOSITORY if GITHUB.fullmatch(named.get(label, ""))), None)
    if found is None:
        return None
    return f"{found.rstrip('/').removesuffix('.git')}/releases/download/v{about['Version']}/{NAME}"


def fetch(url: str, progress: Callable[[str, int, int], None] | None = None) -> Path | None:
    """Fetch the file into its place; None where there is none at the address (404).

    What is there is kept, unless it cannot be used. `progress` is told the file's name, bytes done, and in all.

    Raises InputError when the network fails, and when what comes is not such a file or not a whole one.
    """
    path = place()
    try:
        if path.is_file():
            return PublishedText(path).path
    except InputError:
        pass  # it is replaced
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open(url) as answer, whole_file(path, overwrite=True, own=True) as made:
            _save(answer, made, progress)
            checked = PublishedText(made)
            checked.read(checked.prompts)
    except HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        raise _unreached(url, error) from error
    except (OSError, HTTPException) as error:
        raise _unreached(url, error) from error
    return path


def _open(url: str) -> Any:
    """The answer to a request, wherever it is redirected to, but never from https to something else."""
    context = ssl.create_default_context()
    try:
        # Python from python.org has no certificates of its own on a Mac; these come with huggingface_hub.
        import certifi

        context.load_verify_locations(certifi.where())
    except ImportError:
        pass
    opener = build_opener(HTTPSHandler(context=context), _Redirects())
    return opener.open(Request(url, headers={"User-Agent": "layerlift"}), timeout=PATIENCE)


class _Redirects(HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme != urlsplit(req.full_url).scheme:
            raise InputError(f"{req.full_url} leads to {newurl[:200]}, another kind of address; try again later.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _save(answer: Any, made: Path, progress: Callable[[str, int, int], None] | None) -> None:
    length, done = answer.headers.get("Content-Length", ""), 0
    total = int(length) if length.isdecimal() else 0
    with made.open("wb") as stream:
        while piece := answer.read(2**16):
            done += len(piece)
            if done > LARGEST_FILE:
                raise InputError(f"{answer.url} has more than {LARGEST_FILE} bytes, so it is no {NAME}.")
            stream.write(piece)
            if progress is not None:
                progress(NAME, done, total)
    if done < total:
        raise InputError(f"{answer.url} ended after {done} of {total} bytes; run the command again.")


def _unreached(url: str, error: Exception) -> InputError:
    return InputError(
        f"{NAME} could not be fetched from {url} ({type(error).__name__}: {error}); check the network and run the "
        "command again, or add --with-text-encoder."
    )
