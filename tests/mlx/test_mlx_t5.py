"""The T5 encoder in MLX against transformers'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5EncoderModel

import layerlift.engine.mlx.t5 as mlx_t5
from layerlift.engine.device import Policy
from layerlift.engine.mlx.engine import MlxModel
from layerlift.engine.mlx.t5 import embed_stream
from layerlift.engine.model import open_model, t5
from tiny_model import write_tiny_model

LENGTH = 40
WHOLE = 1e-4


@pytest.fixture(scope="module", params=["gated-gelu", "gated-silu", "relu"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("t5") / "text_encoder"
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=300, d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4, feed_forward_proj=request.param,
        relative_attention_max_distance=24,  # some of the prompts' tokens are further apart
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(path, max_shard_size="40KB")
    return path


def tokens(*lengths: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    pairs = []
    for length in lengths:
        mask = torch.arange(LENGTH)[None] < length
        pairs.append((torch.randint(2, 300, (1, LENGTH), generator=generator) * mask, mask))
    return pairs


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", WHOLE), ("bfloat16", 0.05)])
def test_same_as_transformers(
    folder: Path, policy: Policy, dtype: str, tolerance: float, off: Callable[..., float]
) -> None:
    given = tokens(5, LENGTH, 1)
    theirs = T5EncoderModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    encoder, tensors = t5.open_encoder(folder)
    found = embed_stream(encoder, tensors, given, replace(policy, text_dtype=dtype))
    for (ids, mask), ours in zip(given, found, strict=True):
        with torch.inference_mode():
            expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        assert ours.dtype == expected.dtype == getattr(torch, dtype)
        assert off(expected, ours.float().numpy()) < tolerance


def test_one_block_s_weights_at_a_time(folder: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    read = mlx_t5.read_arrays

    def watched(specs: Any, dtype: str) -> Any:
        asked.append(sorted(specs))
        return read(specs, dtype)

    monkeypatch.setattr(mlx_t5, "read_arrays", watched)
    encoder, tensors = t5.open_encoder(folder)
    embed_stream(encoder, tensors, tokens(3), policy)
    assert len(asked) == 4  # three blocks and the last norm
    assert sum(len(keys) for keys in asked) == len(tensors) - 1  # the table is read row by row


def test_a_model_with_a_text_encoder_has_mlx_run_it(tmp_path: Path, policy: Policy) -> None:
    """And a torch model that was opened the same way keeps torch."""
    model = open_model(write_tiny_model(tmp_path / "m"))
    from layerlift.engine.model.text import EncodedText

    model._text = EncodedText(lambda: tmp_path, 16)
    ours = MlxModel(model)
    assert isinstance(ours._text, EncodedText)
    assert ours._text.run is not None
    assert model._text.run is None
