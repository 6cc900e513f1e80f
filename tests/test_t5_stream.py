"""T5 block by block: transformers' own numbers, with one block in memory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from layerlift.engine.device import choose_policy
from layerlift.engine.model import t5, t5_stream, weights
from tiny_model import random_tokens, write_t5

CPU = replace(choose_policy("cpu"), text_dtype="float32")
LENGTH = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_t5(tmp_path_factory.mktemp("t5") / "text_encoder")
    assert len(list(path.glob("*.safetensors"))) > 2
    return path


def stream(folder: Path, given: list[tuple[torch.Tensor, torch.Tensor]], dtype: str) -> list[torch.Tensor]:
    encoder, tensors = t5.open_encoder(folder)
    with torch.inference_mode():
        return t5_stream.embed_stream(encoder, tensors, given, replace(CPU, text_dtype=dtype))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("bfloat16", 1e-3)])
def test_same_as_transformers(folder: Path, dtype: str, tolerance: float) -> None:
    given = random_tokens(LENGTH, 5, LENGTH, 1)
    theirs = T5EncoderModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    found = stream(folder, given, dtype)
    for (ids, mask), ours in zip(given, found, strict=True):
        with torch.inference_mode():
            expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        assert ours.dtype == expected.dtype == getattr(torch, dtype)
        assert (ours - expected).float().norm() <= tolerance * expected.float().norm()


def test_same_as_the_whole_encoder_at_once(folder: Path) -> None:
    given = random_tokens(LENGTH, 4, 9)
    encoder, tensors = t5.open_encoder(folder)
    with torch.inference_mode():
        whole = t5.encode_whole(encoder, tensors, given, CPU)
    for ours, expected in zip(stream(folder, given, "float32"), whole, strict=True):
        assert torch.equal(ours, expected)


def test_does_not_depend_on_what_it_is_encoded_with(folder: Path) -> None:
    given = random_tokens(LENGTH, 3, 20)
    assert torch.equal(stream(folder, given, "bfloat16")[1], stream(folder, given[1:], "bfloat16")[0])


def test_never_more_than_one_block_and_never_the_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, tensors = t5.open_encoder(folder)
    held: list[int] = []

    def count(*_: object) -> None:
        held.append(sum(v.numel() for v in encoder.parameters() if v.device.type != "meta"))

    for block in encoder.encoder.block:
        block.register_forward_hook(count)
    read: list[str] = []
    real = weights.read_tensors

    def watched(given, dtype):  # type: ignore[no-untyped-def]
        read.extend(spec.key for spec in given.values())
        return real(given, dtype)

    monkeypatch.setattr(weights, "read_tensors", watched)
    with torch.inference_mode():
        t5_stream.embed_stream(encoder, tensors, random_tokens(LENGTH, 3, 7), CPU)
    largest = max(sum(value.numel() for value in block.parameters()) for block in encoder.encoder.block)
    assert len(held) == 6
    assert max(held) == largest
    assert len(read) == len(set(read))  # both prompts from one reading
    assert not any("shared" in key or "embed_tokens" in key for key in read)
    assert all(value.device.type == "meta" for value in encoder.parameters())


@pytest.mark.parametrize("stored", [torch.float16, torch.float8_e4m3fn])
def test_smaller_floats_on_disk(folder: Path, tmp_path: Path, stored: torch.dtype) -> None:
    small = {}
    for file in sorted(folder.glob("*.safetensors")):
        small |= {key: value.to(stored) for key, value in load_file(file).items()}
    save_file(small, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    given = random_tokens(LENGTH, 6)
    theirs = T5EncoderModel(T5Config.from_pretrained(folder)).eval()
    theirs.load_state_dict({key: value.float() for key, value in small.items()}, strict=False)
    with torch.inference_mode():
        expected = theirs(input_ids=given[0][0], attention_mask=given[0][1]).last_hidden_state
    assert torch.equal(stream(tmp_path, given, "float32")[0], expected)


def test_policy_turns_it_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t5, "load_tokenizer", lambda _: lambda prompt: [2 + ord(letter) for letter in prompt])
    whole: list[bool] = []
    real = t5.encode_whole

    def watched(*given):  # type: ignore[no-untyped-def]
        whole.append(True)
        return real(*given)

    monkeypatch.setattr(t5, "encode_whole", watched)
    (streamed,) = t5.embed(folder.parent, ["abc"], LENGTH, CPU)
    assert not whole
    (at_once,) = t5.embed(folder.parent, ["abc"], LENGTH, replace(CPU, text_stream=False))
    assert whole
    assert torch.equal(streamed[0], at_once[0])
