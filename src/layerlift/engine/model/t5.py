"""The T5 text encoder through transformers: its files checked, run on a few prompts, freed."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from layerlift.engine.device import free_device
from layerlift.engine.model.checkpoint import check_tensors, diffusers_files, read_json
from layerlift.engine.model.headers import TensorSpec, read_header
from layerlift.engine.model.schema import T5, checked
from layerlift.engine.model.t5_stream import EMBEDDING, embed_stream
from layerlift.engine.model.weights import fill, release
from layerlift.errors import InputError
from layerlift.progress import QUIET, StageProgress

if TYPE_CHECKING:
    import torch

    from layerlift.engine.device import Policy

# Enough of each file to tell two trainings of one architecture apart, without reading 19 GB.
SAMPLES = 16
SAMPLE_BYTES = 65536

# T5's own, in every vocabulary of it.
PAD_TOKEN = 0
END_TOKEN = 1

TOKENIZERS = ("spiece.model", "tokenizer.json")

# The encoder shares one table under two names; which of them a file has depends on who wrote it.
TIED = "encoder.embed_tokens.weight"


def check_encoder(folder: Path, width: int) -> None:
    """Raises InputError when `folder` has no T5 encoder of embedding size `width` with its tokenizer."""
    config = read_json(folder / "text_encoder" / "config.json")
    if config.get("model_type") != "t5" or config.get("d_model") != width:
        raise InputError(
            f"{folder / 'text_encoder'} is a {config.get('model_type')} of width {config.get('d_model')}, "
            f"but the model was trained with a T5 of width {width}; give another --text-encoder."
        )
    read_config(folder / "text_encoder")
    if not any((folder / "tokenizer" / name).is_file() for name in TOKENIZERS):
        raise InputError(f"{folder / 'tokenizer'} has neither spiece.model nor tokenizer.json; fetch it again.")
    for file in diffusers_files(folder / "text_encoder"):
        read_header(file)


def read_config(folder: Path) -> T5:
    """What `config.json` in an encoder's folder says. Raises InputError."""
    file = folder / "config.json"
    return checked(read_json(file), T5, str(file))


def encoder_identity(folder: Path) -> str:
    """A digest that tells encoders apart: config, tokenizer, and samples of every weight file."""
    digest = hashlib.sha256()
    parts = [folder / "text_encoder" / "config.json", *sorted((folder / "tokenizer").iterdir())]
    for part in (part for part in parts if part.is_file()):
        digest.update(part.name.encode() + b"\0" + hashlib.sha256(part.read_bytes()).digest())
    for file in diffusers_files(folder / "text_encoder"):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for sample in range(SAMPLES):
                stream.seek(max(0, size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()


def load_tokenizer(folder: Path) -> Callable[[str], list[int]]:
    """Prompt → token ids without an end token, from the tokenizer files in `folder`.

    SentencePiece itself rather than transformers' T5Tokenizer, which needs protobuf to read spiece.model. The ids are
    the same, but for special tokens spelled out in a prompt (`</s>`): here they are plain text.

    Raises InputError for a file that is damaged, here or when the tokenizer is called.
    """
    file = next((folder / name for name in TOKENIZERS if (folder / name).is_file()), folder / TOKENIZERS[0])
    if file.name == "spiece.model":
        from sentencepiece import SentencePieceProcessor

        with _damage_of(file):
            pieces = SentencePieceProcessor(model_file=str(file))
        return lambda prompt: _tokens(file, lambda: pieces.encode(prompt))
    from tokenizers import Tokenizer

    with _damage_of(file):
        tokenizer = Tokenizer.from_file(str(file))
    return lambda prompt: _tokens(file, lambda: tokenizer.encode(prompt, add_special_tokens=False).ids)


def _tokens(file: Path, encode: Callable[[], Sequence[int]]) -> list[int]:
    with _damage_of(file):
        return list(encode())


@contextmanager
def _damage_of(file: Path) -> Iterator[None]:
    """InputError for whatever a tokenizer's library raises: neither of them has exceptions of its own."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{file} is damaged ({str(error)[:200]}); fetch it again.") from error


def tokenize(tokenizer: Callable[[str], list[int]], prompt: str, length: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and mask (True = a token), both (1, length): padded, cut when longer, ending in T5's end token either
    way, so that the mask is never empty."""
    import torch

    ids = [*tokenizer(prompt)[: length - 1], END_TOKEN]
    padding = length - len(ids)
    mask = torch.tensor([[True] * len(ids) + [False] * padding])
    return torch.tensor([ids + [PAD_TOKEN] * padding]), mask


def embed(
    folder: Path,
    prompts: Sequence[str],
    length: int,
    policy: "Policy",
    progress: StageProgress = QUIET,
    *,
    run: "Callable[..., list[torch.Tensor]] | None" = None,
) -> list[tuple["torch.Tensor", "torch.Tensor"]]:
    """Embeddings (1, length, D) and masks (1, length) on the CPU; the encoder is freed before this returns.

    `run`: what runs the encoder, as `embed_stream` is called; None: torch, as the policy says.

    Raises InputError when the encoder's files do not fit its config.
    """
    import torch

    tokenizer = load_tokenizer(folder / "tokenizer")
    tokens = [tokenize(tokenizer, prompt, length) for prompt in prompts]
    encoder, tensors = open_encoder(folder / "text_encoder")
    largest, known = max(int(ids.max()) for ids, _ in tokens), encoder.config.vocab_size
    if largest >= known:
        raise InputError(
            f"the tokenizer in {folder} makes token {largest}, but the text encoder beside it knows {known}; fetch "
            "them again."
        )
    if run is None:
        run = embed_stream if policy.text_stream else encode_whole
    try:
        with torch.inference_mode():
            embeds = run(encoder, tensors, tokens, policy, progress)
    finally:
        release(encoder)
        free_device(policy.text_device)
    return [(embed, mask) for embed, (_, mask) in zip(embeds, tokens, strict=True)]


def encode_whole(
    encoder: Any,
    tensors: Mapping[str, TensorSpec],
    tokens: Sequence[tuple["torch.Tensor", "torch.Tensor"]],
    policy: "Policy",
    progress: StageProgress = QUIET,
) -> list["torch.Tensor"]:
    """As `embed_stream`, with all of the encoder in memory at once; `progress` advances by one for every prompt."""
    encoder.encoder.embed_tokens = encoder.shared
    fill(encoder, tensors, policy.text_dtype, policy.text_device)
    found = []
    for ids, mask in tokens:
        made = encoder(input_ids=ids.to(policy.text_device), attention_mask=mask.to(policy.text_device))
        found.append(made.last_hidden_state.cpu().clone())
        progress.advance()
    return found


def open_encoder(folder: Path) -> tuple[Any, dict[str, TensorSpec]]:
    """The T5 encoder on the meta device, in eval mode, and where each tensor of its state dict lies."""
    import torch
    from transformers import T5Config, T5EncoderModel

    config = to_builtins(read_config(folder))
    del config["model_type"]
    with torch.device("meta"):
        encoder = T5EncoderModel(T5Config(**config))
    tensors: dict[str, TensorSpec] = {}
    for file in diffusers_files(folder):
        tensors.update(read_header(file)[0])
    tied = tensors.pop(TIED, None)
    if EMBEDDING not in tensors and tied is not None:
        tensors[EMBEDDING] = tied
    expected = {key: tuple(value.shape) for key, value in encoder.state_dict().items() if key != TIED}
    # Files of the whole T5 are fine too: the decoder's tensors are not looked at.
    tensors = {key: spec for key, spec in tensors.items() if not key.startswith(("decoder.", "lm_head."))}
    check_tensors(tensors, expected, f"the text encoder in {folder}")
    return encoder.eval(), tensors
