"""The command line with either engine, lossless files in and out: the same pictures and masks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlift.clip import open_clip
from layerlift.engine.mlx.passes import Passes
from mlx_device import FLAGS
from support import layerlift
from tiny_model import write_tiny_model

# What may differ, in levels of 255: on the mean, and at the most; and how far masks agree.
MEAN, MOST, IOU = 0.25, 4, 0.995


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scenes to work on, in a folder of their own."""
    monkeypatch.chdir(tmp_path)


def draw(name: str, seed: int, size: str, frames: int) -> None:
    assert layerlift("scene", "-o", name, "--seed", seed, "--size", size, "--frames", frames) == 0


def both(command: str, model: str | Path, *flags: object) -> tuple[np.ndarray, np.ndarray]:
    """The frames that a command writes with torch, and with MLX."""
    found = []
    for engine, where in (("torch", ("--engine", "torch", "--device", "cpu")), ("mlx", FLAGS)):
        out = f"{command}_{engine}.mkv"
        given = (*flags, *where, "--model", model, "--lossless", "-o", out)
        assert layerlift(command, *given, "--report", f"{out}.json") == 0
        assert json.loads(Path(f"{out}.json").read_text())["settings"]["engine"] == engine
        found.append(open_clip(out).numpy())
    return found[0], found[1]


def check_pictures(what: str, capsys: pytest.CaptureFixture[str], theirs: np.ndarray, ours: np.ndarray) -> None:
    apart = np.abs(theirs.astype(np.int16) - ours)
    with capsys.disabled():
        sys.stdout.write(f"\n{what}: {apart.mean():.5f} of 255 apart on the mean, {apart.max()} at the most\n")
    assert apart.mean() <= MEAN
    assert apart.max() <= MOST


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def check_masks(capsys: pytest.CaptureFixture[str], objects: Sequence[str], size: tuple[int, int]) -> None:
    """The masks that both engines wrote, and what they have beyond the objects."""
    theirs, ours = (open_clip(f"mask_{engine}.mkv").numpy()[..., 0] > 127 for engine in ("torch", "mlx"))
    assert theirs.shape[1:] == size[::-1]
    covered = np.zeros_like(theirs)
    for path in objects:
        covered |= open_clip(path).numpy()[..., 0] > 127
    effects = theirs & ~covered, ours & ~covered
    assert effects[0].any()
    with capsys.disabled():
        sys.stdout.write(f"\nmask: IoU {overlap(theirs, ours):.4f}, of effects alone {overlap(*effects):.4f}\n")
    assert overlap(theirs, ours) >= IOU
    assert overlap(*effects) >= IOU


@pytest.mark.slow
def test_removal(capsys: pytest.CaptureFixture[str]) -> None:
    draw("walk", 1000, "96x64", 9)
    theirs, ours = both("remove", "demo", "walk", "--dense", "--evidence", "off")
    hidden = open_clip("walk/total_mask.mkv").numpy()[..., 0] > 127
    assert (theirs[hidden] != open_clip("walk/video.mkv").numpy()[hidden]).mean() > 0.5
    check_pictures("remove", capsys, theirs, ours)


@pytest.mark.slow
def test_masks(capsys: pytest.CaptureFixture[str]) -> None:
    draw("walk", 1000, "128x96", 5)  # smaller ones have no effects that it sees
    both("mask", "demo", "walk", "--witnesses", "model")
    check_masks(capsys, ["walk/object_mask_0.mkv"], (128, 96))


@pytest.mark.slow
def test_latent_composition(capsys: pytest.CaptureFixture[str]) -> None:
    draw("walk", 1000, "96x64", 5)
    draw("onto", 1003, "96x64", 5)
    plates = "--background", "walk/truth/background.mkv", "--onto", "onto/truth/background.mkv"
    flags = "--latent", "--refine-steps", 3, "--keep-intermediate"
    check_pictures("compose --latent", capsys, *both("compose", "demo", "walk", *plates, *flags))
    for name in ("latent", "injected"):
        theirs, ours = (open_clip(f"compose_{engine}_{name}.mkv").numpy() for engine in ("torch", "mlx"))
        check_pictures(name, capsys, theirs, ours)


def test_removal_with_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes that are no whole tokens, and two windows of a clip."""
    model = write_tiny_model(tmp_path / "m", random=True)
    draw("walk", 1000, "70x50", 11)
    flags = "--dense", "--evidence", "off", "--window", 9
    check_pictures("remove", capsys, *both("remove", model, "walk", *flags))


def test_a_job_goes_on_by_the_engine_that_began_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an interruption within a step of the second window."""
    draw("walk", 1000, "64x48", 17)
    model = write_tiny_model(tmp_path / "m", random=True)
    words = "remove", "walk", "--evidence", "off", "--window", 9, "--lossless", "--model", model, *FLAGS[2:]
    assert layerlift(*words, "--engine", "mlx", "-o", "whole.mkv") == 0

    usual, count = Passes.__call__, 0

    def interrupted(self: Passes, tokens: Any, step: int) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return usual(self, tokens, step)

    monkeypatch.setattr(Passes, "__call__", interrupted)
    assert layerlift(*words, "--engine", "mlx", "-o", "out.mkv") == 130
    capsys.readouterr()
    assert layerlift(*words, "--engine", "torch", "-o", "out.mkv", "--resume") == 2
    assert "--engine was mlx and is torch" in " ".join(capsys.readouterr().err.split())
    assert layerlift(*words, "--engine", "mlx", "-o", "out.mkv", "--resume") == 0
    np.testing.assert_array_equal(open_clip("out.mkv").numpy(), open_clip("whole.mkv").numpy())
