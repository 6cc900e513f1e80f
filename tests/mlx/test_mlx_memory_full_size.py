"""Every stage at 704x480 with all channels of the published models, and few blocks and frames: what plans say it takes
against what MLX's allocator held. Prints both. MLX's CPU has no BLAS: each takes one to five minutes of a core, and
decoding nine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerlift.engine.device import Policy
from mlx_memory import (
    Table,
    Written,
    check_half,
    check_passes,
    check_text,
    vae_config,
)

pytestmark = pytest.mark.slow

SIZE = 704, 480


@pytest.fixture
def table(capsys: pytest.CaptureFixture[str]) -> Table:
    return Table(capsys)


@pytest.mark.parametrize(
    ("choices", "frames"),
    [({}, 9), ({"int8": True}, 9), ({"int4": True}, 9), ({"transformer_dtype": "bfloat16"}, 9), ({}, 97),
     ({"int8": True}, 97)],
)  # fmt: skip
def test_denoising(table: Table, written: Written, policy: Policy, choices: dict[str, Any], frames: int) -> None:
    """One of the 2B model's 28 blocks, one pass; with 97 frames, attention goes in pieces."""
    rules = replace(policy, **choices)
    check_passes(table, written, rules, SIZE, frames, heads=32, channels=64, layers=1, plan=(True,), prompts=1)


def test_encoding(table: Table, written: Written, policy: Policy) -> None:
    """The level of the largest pictures, and all steps down; three frames, so that what waits is there."""
    config = vae_config(layers_per_block=[1, 0, 0, 0, 0])
    check_half(table, written, replace(policy, vae_frames=1), config, stage="encode", size=SIZE, frames=3)


def test_reading_the_encoder(table: Table, written: Written, policy: Policy) -> None:
    """One residual block of every level, up to 2048 channels."""
    check_half(
        table, written, policy, vae_config(layers_per_block=[1] * 5), stage="encode", size=SIZE, frames=9, runs=False
    )


def test_decoding(table: Table, written: Written, policy: Policy) -> None:
    """The level of the deepest pictures and that of the largest, and all steps between them; nine frames, the fewest
    that there can be, so that with 8 at a time some wait."""
    config = vae_config(decoder_layers_per_block=[1, 0, 0, 1])
    check_half(table, written, policy, config, stage="decode", size=SIZE, frames=9)


def test_text(table: Table, tmp_path: Path, policy: Policy) -> None:
    """Two of T5-XXL's 24 blocks in its own bfloat16, one prompt."""
    check_text(table, tmp_path, policy, layers=2)
