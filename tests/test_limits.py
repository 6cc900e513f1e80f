"""Every number that a user can give has a range, and one beyond it is refused before any work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from layerlift.cli.app import app
from layerlift.clip import Clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.flags import check_ranges
from layerlift.masks import Mask
from layerlift.options import (
    CompositionOptions,
    EffectOptions,
    ExtractionOptions,
    LatentCompositionOptions,
    ReferenceOptions,
    RemovalOptions,
    RuntimeOptions,
)
from layerlift.parse import parse_size
from layerlift.runtime import open_runtime
from layerlift.stages.removal import plan_removal
from support import layerlift

# Numbers that the flag's own function checks, which says what they mean.
PARSED = {"guidance"}


def parameters(command: Any, name: str = "layerlift") -> Iterator[tuple[str, Any]]:
    """Every flag and argument of every command."""
    for sub, inner in getattr(command, "commands", {}).items():
        yield from parameters(inner, f"{name} {sub}")
    yield from ((f"{name} {given.opts[-1]}", given) for given in command.params)


def test_every_number_of_the_command_line_has_a_range() -> None:
    numbers = [
        (name, given)
        for name, given in parameters(typer.main.get_command(app))
        if given.type_descriptor.annotation in (int, float) and given.name not in PARSED
    ]
    assert len(numbers) > 50
    assert [name for name, given in numbers if given.min is None or given.max is None] == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("scene -o out --size 999999x999999", "--size 999999x999999 is more than layerlift makes"),
        ("scene -o out --size 60000x60000", "--size 60000x60000 is more than layerlift makes"),
        ("scene -o out --frames 1000000000", "--frames"),
        ("scene -o out --size 1920x1080 --frames 9000", "9000 frames of 1920x1080 are too many to be drawn in memory"),
        ("demo -o out --seed 1 --size 1920x1080 --frames 9000", "too many to be drawn in memory"),
        ("compose layer --onto clip --start 999999999", "--start"),
        ("compose layer --onto clip --scale inf", "--scale"),
        ("compose layer --onto clip --scale nan", "--scale"),
        ("remove clip --mask m --steps 1000000000", "--steps"),
        ("remove clip --mask m --guidance 1e30", "--guidance is 1e+30: give 1000 or less"),
        ("remove clip --mask m --dilate 99999999", "--dilate"),
        ("remove clip --mask m --context 99999999", "--context"),
        ("remove clip --mask m --window 99999999", "--window"),
        ("remove clip --mask m --refresh nan", "--refresh"),
        ("remove clip --mask m --memory nan", "--memory"),
        ("mask clip --threshold nan", "--threshold"),
        ("mask clip --max-distance inf", "--max-distance"),
        ("mask clip --temporal-radius 99999999", "--temporal-radius"),
        ("mask clip --sigma " + ",".join(["0.5"] * 101), "--sigma has 101 numbers"),
        ("extract clip --background p --noise nan", "--noise"),
        ("extract clip --background p --edge 99999999", "--edge"),
        ("reference clip --mask m --count 99999999", "--count"),
        ("bench quality --seeds 0:999999999", "are more than 100000 scenes"),
        ("bench length --lengths 9999999999", "--lengths has 9999999999: give 1000000 or less"),
        ("bench memory --limits inf", "--limits has inf"),
    ],
)
def test_a_number_beyond_its_range(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift(*command.split()) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (RemovalOptions(steps=10**9), "--steps is 1000000000: give 100000 or less"),
        (RemovalOptions(size=(64, 10**9)), "--size is 1000000000: give 65536 or less"),
        (RemovalOptions(refresh=float("nan")), "--refresh is nan"),
        (EffectOptions(dilate=10**9), "--dilate is 1000000000: give 4096 or less"),
        (ExtractionOptions(edge=10**9), "--edge is"),
        (CompositionOptions(start=10**9), "--start is"),
        (LatentCompositionOptions(steps=10**9), "--refine-steps is"),
        (ReferenceOptions(count=10**9), "--count is"),
        (RuntimeOptions(memory=float("inf")), "--memory is inf"),
    ],
)
def test_options_have_the_same_ranges_in_python(options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_ranges(options)


def test_stages_check_their_options() -> None:
    clip, mask = Clip.from_array(np.zeros((2, 48, 64, 3), np.uint8)), np.zeros((48, 64), bool)
    mask[:20] = True
    with pytest.raises(InputError, match="--window is 1000000000"):
        plan_removal(clip, Mask.from_array(mask), RemovalOptions(window=10**9, evidence="only"))
    with pytest.raises(InputError, match="--memory is nan"):
        open_runtime(RuntimeOptions(memory=float("nan")))


def test_the_largest_picture_is_still_a_size() -> None:
    assert parse_size("7680x4320") == (7680, 4320)
    assert parse_size("15360x4320") == (15360, 4320)


@pytest.mark.parametrize(
    "command",
    [
        "remove {} --mask m",
        "remove {clip} --mask {}",
        "remove {clip} --mask {mask} --model {}",
        "remove {clip} --mask {mask} --reference {}@3",
        "remove {clip} --mask {mask} --reference {}",
        "mask {clip} --object {mask} --effects {}@3",
        "compose {} --onto {clip}",
        "compose {clip} --onto {}",
    ],
)
def test_a_name_that_is_too_long(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, mask = np.zeros((2, 48, 64, 4), np.uint8), np.zeros((2, 48, 64), bool)
    mask[:, :20, :20] = True
    clip = Clip.from_array(frames)
    write_clip(tmp_path / "clip.mkv", frames, clip, lossless=True)
    write_mask(tmp_path / "mask.mkv", mask, clip)
    given = {"clip": tmp_path / "clip.mkv", "mask": tmp_path / "mask.mkv"}
    output = ("-o", tmp_path / "out.mkv")
    assert layerlift(*command.format("x" * 5000, **given).split(), *output) == 2
    assert capsys.readouterr().err.count("\n") == 1
