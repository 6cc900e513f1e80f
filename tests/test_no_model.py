"""Without a checkpoint and without --model everything that can run does, says what a checkpoint would add, and how."""

import json
from pathlib import Path

import numpy as np
import pytest

import layerlift as api
from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.pixels.arrays import grow
from layerlift.report import Report
from layerlift.stages.effects.grown import growth
from support import layerlift
from tiny_model import write_tiny_model

FRAMES, HEIGHT, WIDTH = 5, 120, 160
FRONT, HIND, TOTAL = np.s_[40:60, 46:70], np.s_[40:60, 90:110], np.s_[36:70, 40:120]


def mask_of(place: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[:, *place] = True
    return mask


@pytest.fixture(autouse=True)
def no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlift.engine.model.hub.find_checkpoint", lambda entry: None)


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A clip, masks of its two objects, and their total mask, in the current folder."""
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(90, 110, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames[:, *FRONT], frames[:, *HIND] = (220, 30, 30), (30, 30, 220)
    like = Clip.from_array(frames, 30)
    write_clip("walk.mkv", frames, like, lossless=True)
    for name, place in {"front": FRONT, "hind": HIND, "total": TOTAL}.items():
        write_mask(f"{name}.mkv", mask_of(place), like)
    return frames


def said_of_checkpoint(error: str) -> list[str]:
    return [line for line in error.splitlines() if "layerlift download ltx-2b-0.9.5" in line]


def test_remove_fills_without_a_model_and_says_what_one_would_add(
    walk: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    assert layerlift("remove", "walk.mkv", "--mask", "total.mkv", "--lossless", "--report", "r.json") == 0
    streams = capsys.readouterr()
    (line,) = said_of_checkpoint(streams.err)
    assert "6.34 GB" in line
    assert "filled in" in streams.out
    assert (
        layerlift("remove", "walk.mkv", "--mask", "total.mkv", "--lossless", "-o", "none.mkv", "--model", "none") == 0
    )
    assert said_of_checkpoint(capsys.readouterr().err) == []  # who names none knows
    np.testing.assert_array_equal(open_clip("walk_remove.mkv").numpy(), open_clip("none.mkv").numpy())
    assert line in json.loads(Path("r.json").read_text())["notes"]


def test_run_goes_the_whole_way_without_a_model(walk: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("run", "walk.mkv", "--object", "front.mkv", "--object", "hind.mkv", "-o", "out", "--lossless") == 0
    streams = capsys.readouterr()
    assert len(said_of_checkpoint(streams.err)) == 1
    pixels = growth(Clip.from_array(walk))
    assert pixels >= 2
    (line,) = [line for line in streams.err.splitlines() if "grown by" in line]
    assert f"grown by {pixels} pixels" in line
    total = open_clip("out/total_mask.mkv").numpy()[0, ..., 0] > 127
    np.testing.assert_array_equal(total, grow(mask_of(FRONT)[0] | mask_of(HIND)[0], pixels))
    report = json.loads(Path("out/report.json").read_text())
    assert report["stages"].keys().isdisjoint({"look", "encode", "denoise"})
    assert line in report["notes"]


def test_grown_masks_never_reach_over_another_object() -> None:
    from layerlift.masks import Mask
    from layerlift.stages.effects.grown import grown_objects

    near = np.s_[40:60, 71:90]  # a pixel beside the front one
    clip = Clip.from_array(np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8))
    masks = [Mask.from_array(mask_of(FRONT)), Mask.from_array(mask_of(near))]
    for totals in grown_objects(clip, masks):
        assert not (totals[0] & mask_of(near)[0]).any()
        assert not (totals[1] & mask_of(FRONT)[0]).any()
        np.testing.assert_array_equal(totals.any(0), grow((mask_of(FRONT) | mask_of(near))[0], growth(clip)))


@pytest.mark.parametrize("flags", [[], ["--model", "none"]])
def test_objects_to_be_removed_are_grown(
    flags: list[str], walk: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["remove", "walk.mkv", "--object", "front.mkv", "--object", "hind.mkv", "--lossless", "--dilate", "0"]
    assert layerlift(*command, *flags) == 0
    error = capsys.readouterr().err
    assert len(said_of_checkpoint(error)) == (not flags)
    assert error.count("grown by") == 1
    changed = (open_clip("walk_remove.mkv").numpy() != walk).any((0, 3))
    reach = grow(mask_of(FRONT)[0] | mask_of(HIND)[0], growth(Clip.from_array(walk)))
    assert not changed[~reach].any()
    assert changed[reach].mean() > 0.9


@pytest.mark.usefixtures("walk")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mask walk.mkv --object front.mkv", "needs a model"),
        ("mask walk.mkv --object front.mkv --model none", "needs a model"),
        (
            "compose walk.mkv --latent --background walk.mkv --onto walk.mkv --object front.mkv --total total.mkv",
            "model",
        ),
        (
            "compose walk.mkv --latent --background walk.mkv --onto walk.mkv --object front.mkv --total total.mkv "
            "--model none",
            "needs a model",
        ),
        ("plan walk.mkv", "needs a model"),
        ("remove walk.mkv --mask total.mkv --evidence off", "needs a model"),
        ("remove walk.mkv --mask total.mkv --evidence off --model none", "needs a model"),
    ],
)
def test_what_needs_a_model_says_so(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().iterdir())
    assert layerlift(*command.split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert "layerlift download ltx-2b-0.9.5" in line
    assert sorted(Path().iterdir()) == before


def test_python_does_alike(walk: np.ndarray) -> None:
    report = Report()
    plate = api.remove(walk, mask_of(TOTAL), report=report)
    assert [note for note in report.notes if "layerlift download" in note] == report.notes != []
    without = api.remove(walk, mask_of(TOTAL), model="none")
    np.testing.assert_array_equal(plate.numpy(), without.numpy())
    with pytest.raises(InputError, match="needs a model"):
        api.mask(walk, mask_of(FRONT))


def test_an_installed_checkpoint_is_used(
    walk: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path / "tiny")
    from layerlift.engine.model import opening

    real = opening._settings
    monkeypatch.setattr(opening, "_settings", lambda checkpoint, entry: real(checkpoint, None))
    monkeypatch.setattr("layerlift.engine.model.hub.find_checkpoint", lambda entry: model)
    assert layerlift("remove", "walk.mkv", "--mask", "total.mkv", "--steps", 1) == 0
    streams = capsys.readouterr()
    assert said_of_checkpoint(streams.err) == []
    assert "generated" in streams.out
