"""Without a checkpoint and without --model everything that can run does, says what a checkpoint would add, and how."""

import json
from pathlib import Path

import numpy as np
import pytest

import layerlift as api
from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.parse import EFFECT_KINDS
from layerlift.report import Report
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
    total = open_clip("out/total_mask.mkv").numpy()[..., 0] > 127
    assert total[mask_of(FRONT) | mask_of(HIND)].all()
    assert total.mean() < 0.2
    report = json.loads(Path("out/report.json").read_text())
    assert report["stages"].keys().isdisjoint({"look", "encode", "denoise"})
    assert "clip" in report["stages"]
    assert len(report["results"]["kinds"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--model", "none"]])
def test_objects_are_removed_with_what_they_cause(
    flags: list[str], walk: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["remove", "walk.mkv", "--object", "front.mkv", "--object", "hind.mkv", "--lossless", "--dilate", "0"]
    assert layerlift(*command, *flags) == 0
    assert len(said_of_checkpoint(capsys.readouterr().err)) == (not flags)
    found = api.mask(walk, [mask_of(FRONT), mask_of(HIND)], model="none").total.numpy()
    changed = (open_clip("walk_remove.mkv").numpy() != walk).any(-1)
    assert not changed[~found].any()
    assert changed[mask_of(FRONT) | mask_of(HIND)].mean() > 0.9


@pytest.mark.usefixtures("walk")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mask walk.mkv --object front.mkv --witnesses model", "needs a model"),
        ("mask walk.mkv --object front.mkv --witnesses model --model none", "needs a model"),
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
        api.mask(walk, mask_of(FRONT), witnesses="model")
    assert api.mask(walk, mask_of(FRONT), model="none").kinds in [(kind,) for kind in ("none", *EFFECT_KINDS)]


@pytest.mark.parametrize("flag", ["--sigma 0.3", "--layers all", "--prompt x", "--save-scores s.safetensors"])
@pytest.mark.usefixtures("walk")
def test_what_only_a_model_takes_is_refused_by_name(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().iterdir())
    assert layerlift(*f"mask walk.mkv --object front.mkv --model none {flag}".split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{flag.split(maxsplit=1)[0]} needs a model" in line
    assert sorted(Path().iterdir()) == before


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
