"""Sizes that a codec or a container does not take are refused before the work, with an ending that does."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import Clip, check_output, open_clip, write_clip, write_mask
from layerlift.clip.rgba_writer import check_layer_output, write_layer
from layerlift.clip.samples import Samples
from layerlift.errors import InputError
from support import files, layerlift

SIZES = [(1, 1), (2, 2), (15, 15), (16, 16), (1, 64), (16386, 2), (2, 16386), (70000, 2)]
DEEP = Samples("yuv", 10, (1, 1))


def clip_of(size: tuple[int, int], samples: Samples | None = None) -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (2, size[1], size[0], 3), dtype=np.uint8)
    return replace(Clip.from_array(frames, 24), samples=samples)


def advised(error: InputError, folder: Path) -> str:
    """Where the refusal says that a clip can be written."""
    found = re.search(r"use (\.\w+|a folder)", str(error))
    assert found is not None, str(error)
    return str(folder / ("advised/" if found[1] == "a folder" else f"advised{found[1]}"))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("ending", "samples", "lossless"),
    [
        *((ending, None, False) for ending in (".mp4", ".m4v", ".mov", ".mkv")),
        *((ending, DEEP, False) for ending in (".mp4", ".mov", ".mkv")),
        (".mkv", None, True),
        (".mkv", DEEP, True),
        ("/", None, False),
    ],
)
def test_what_is_planned_can_be_written(
    tmp_path: Path, size: tuple[int, int], ending: str, samples: Samples | None, lossless: bool
) -> None:
    clip = clip_of(size, samples)
    path = f"{tmp_path}/out{ending}"
    try:
        check_output(path, lossless, like=clip)
    except InputError as error:
        with pytest.raises(InputError, match=f"{size[0]}x{size[1]} pixels"):
            write_clip(path, iter(()), clip, lossless=lossless)
        assert files(tmp_path) == []
        path = advised(error, tmp_path)
        check_output(path, lossless, like=clip)
    write_clip(path, clip.frames(), clip, lossless=lossless)
    made = open_clip(path)
    assert (made.width, made.height, made.frame_count) == (*size, 2)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ending", [".mov", ".mkv", ".webm", "/"])
def test_layers_alike(tmp_path: Path, size: tuple[int, int], ending: str) -> None:
    clip = clip_of(size)
    path = f"{tmp_path}/out{ending}"
    try:
        check_layer_output(path, clip)
    except InputError as error:
        path = advised(error, tmp_path)
    write_layer(path, np.ones((2, size[1], size[0], 4), np.float32), clip)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("ending", [".mp4", ".mkv", "/"])
def test_masks_alike(tmp_path: Path, size: tuple[int, int], ending: str) -> None:
    clip = clip_of(size, DEEP)
    path = f"{tmp_path}/out{ending}"
    try:
        check_output(path, ending == ".mkv", like=clip, version=False)
    except InputError as error:
        path = advised(error, tmp_path)
    write_mask(path, np.ones((2, size[1], size[0]), bool), clip)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of 10 bits that HEVC does not take, and a mask, in the current folder."""
    monkeypatch.chdir(tmp_path)
    clip = clip_of((15, 15), DEEP)
    write_clip("clip.mkv", clip.frames(), clip, lossless=True)
    mask = np.zeros((2, 15, 15), bool)
    mask[:, 4:8, 4:8] = True
    write_mask("mask.mkv", mask, clip)


@pytest.mark.usefixtures("small")
def test_commands_say_so_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    before = files()
    for flags in ("--mask mask.mkv", "--object mask.mkv"):
        assert layerlift("remove", "clip.mkv", *flags.split(), "--model", "demo", "-o", "out.mp4") == 2
        assert capsys.readouterr().err == (
            "layerlift: cannot write out.mp4: a clip of 15x15 pixels does not go into this kind of .mp4; use .mov.\n"
        )
    run = ["run", "clip.mkv", "--object", "mask.mkv", "--model", "none", "-o", "out"]
    assert layerlift(*run) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("layerlift: cannot write background.mp4: a clip of 15x15 pixels")
    assert said.endswith("; add --lossless.")
    assert files() == before
    assert layerlift(*run, "--lossless") == 0
