"""The T5 encoder in MLX against transformers'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5EncoderModel

import layerlift.engine.mlx.t5 as mlx_t5
from layerlift.engine.device import Policy
from layerlift.engine.mlx.engine import MlxModel
from layerlift.engine.mlx.t5 import embed_stream
from layerlift.engine.model import open_model, t5
from tiny_model import random_tokens, write_t5, write_tiny_model

LENGTH = 40
WHOLE = 1e-4


@pytest.fixture(scope="module", params=["gated-gelu", "gated-silu", "relu"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Some of the prompts' tokens are further apart than it tells distances.
    changes = {"feed_forward_proj": request.param, "relative_attention_max_distance": 24}
    return write_t5(tmp_path_factory.mktemp("t5") / "text_encoder", **changes)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", WHOLE), ("bfloat16", 0.05)])
def test_same_as_transformers(
    folder: Path, policy: Policy, dtype: str, tolerance: float, off: Callable[..., float]
) -> None:
    given = random_tokens(LENGTH, 5, LENGTH, 1)
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
    embed_stream(encoder, tensors, random_tokens(LENGTH, 3), policy)
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
