"""`layerlift reference`, and `--reference` of `remove` and `run`, from the command line to the files."""

import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.cli import main
from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.contact_sheet import write_png
from layerlift.evidence.reference import MARK
from support import files

FRAMES, HEIGHT, WIDTH = 9, 96, 144
OBJECT = np.s_[34:62, 50:90]
MIDDLE = 4


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A thing that stands still under a still camera, in the current folder: no frame shows its place; the truth."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.5)
    truth = np.clip(128 + 35 * soft / soft.std(), 0, 255).astype(np.uint8)
    frames = np.stack([truth] * FRAMES)
    frames[:, *OBJECT] = (250, 20, 20)
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[:, *OBJECT] = True
    like = Clip.from_array(frames, 25)
    write_clip("clip.mkv", frames, like, lossless=True)
    write_mask("mask.mkv", mask, like)
    write_png(Path("clean.png"), truth)
    return truth


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading any part of a model fails the test."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    for part in ("transformer", "vae_encoder", "vae_decoder", "text"):
        monkeypatch.setattr(f"layerlift.engine.model.Model.{part}", loaded)


def layerlift(line: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(shlex.split(line))
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code


REMOVE = "remove clip.mkv --mask mask.mkv --model none --lossless -o out.mkv"


def test_a_folder_is_written_edited_and_given_back(clip: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("reference clip.mkv --mask mask.mkv -o 'new refs' --report report.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "004.png: frame 4 would cover 100% of what no frame shows"
    again = "--reference 'new refs'"
    assert lines[1] == f"wrote new refs (paint over the magenta, then add {again} to `layerlift remove`)"
    assert files("new refs") == ["004.png", "004_mask.png"]
    assert json.loads(Path("report.json").read_text())["command"] == "reference"
    picture, white = (open_clip(f"new refs/{name}").numpy()[0] for name in files("new refs"))
    assert (picture[OBJECT] == MARK).all()
    assert np.array_equal((picture == MARK).all(2), white[..., 0] == 255)

    assert layerlift(f"{REMOVE} {again}") == 2  # not edited yet
    said = capsys.readouterr().err
    assert "new refs/004.png is still magenta or transparent" in said
    assert said.count("\n") == 1

    write_png(Path("new refs/004.png"), np.where(white > 0, clip, picture))
    assert layerlift(f"{REMOVE} {again}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "reference frame 4 covers 100% of what no frame shows"
    assert lines[1] == "wrote out.mkv (100% of the hidden pixels were seen elsewhere, 0% filled in)"
    assert np.array_equal(open_clip("out.mkv").numpy(), np.stack([clip] * FRAMES))


def test_frames_are_the_clips_own_under_frames(clip: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift(f"{REMOVE} --frames 3:7 --reference clean.png@5 --report report.json") == 0
    assert "reference frame 5 covers 100%" in capsys.readouterr().out
    assert np.array_equal(open_clip("out.mkv").numpy(), np.stack([clip] * 4))
    assert json.loads(Path("report.json").read_text())["results"]["references"] == {"5": 1.0}
    assert layerlift("reference clip.mkv --mask mask.mkv -o refs --frames 3:8") == 0
    assert files("refs") == ["005.png", "005_mask.png"]


def test_the_frame_stands_after_the_last_at_sign(clip: np.ndarray) -> None:
    Path("clean.png").rename("clean@2.png")
    assert layerlift(f"{REMOVE} --reference clean@2.png@4") == 0
    assert np.array_equal(open_clip("out.mkv").numpy()[MIDDLE], clip)


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ("clean.png", "names no frame"),
        ("clean.png@four", "names no frame"),
        ("clean.png@-1", "names no frame"),
        ("@4", "names no frame"),
        ("clean.png@9", "the frames are 0 to 8"),
        ("clean.png@4 copy.png@4", "both clean.png and copy.png are given for frame 4"),
        ("named clean.png@4", "both named/4.png and clean.png are given for frame 4"),
        ("wide.png@4", "does not match the shape of the clip"),
        ("text.png@4", "cannot be read"),
        ("missing.png@4", "does not exist"),
        ("empty", "contains no reference frame"),
        ("object.png@4", "clean it first"),
        ("clean.png@1", "nothing is masked"),
    ],
)
@pytest.mark.parametrize("command", ["remove", "run", "objects"])
@pytest.mark.usefixtures("no_model")
def test_mistakes_are_one_sentence_before_a_model_is_loaded(
    command: str, references: str, said: str, clip: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = open_clip("mask.mkv").numpy()[..., 0] > 0
    mask[1] = False
    write_mask("mask.mkv", mask, open_clip("clip.mkv"), overwrite=True)
    write_png(Path("copy.png"), clip)
    write_png(Path("wide.png"), clip[:60])
    write_png(Path("object.png"), open_clip("clip.mkv").numpy()[MIDDLE])
    Path("text.png").write_text("no picture")
    Path("named").mkdir()
    write_png(Path("named/4.png"), clip)
    Path("empty").mkdir()
    before = files()
    flags = " ".join(f"--reference {reference}" for reference in references.split())
    start = {
        "remove": "remove clip.mkv --mask mask.mkv --model demo -o out.mkv",
        "run": "run clip.mkv --object mask.mkv --model demo -o out",
        "objects": "remove clip.mkv --object mask.mkv --model demo -o out.mkv",
    }[command]
    assert layerlift(f"{start} {flags}") == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("layerlift: ")
    assert streams.err.count("\n") == 1
    assert said in streams.err
    assert files() == before


def test_run_takes_references(clip: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--object mask.mkv --total mask.mkv --model none --lossless -o out --reference clean.png@4"
    assert layerlift(f"run clip.mkv {flags}") == 0
    assert "reference frame 4 covers 100% of what no frame shows\n" in capsys.readouterr().out
    np.testing.assert_array_equal(open_clip("out/background.mkv").numpy(), np.stack([clip] * FRAMES))


def test_nothing_is_written_where_no_reference_is_needed(clip: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[:4, *OBJECT] = True
    frames = np.stack([clip] * FRAMES)
    frames[mask] = (250, 20, 20)
    write_clip("clip.mkv", frames, Clip.from_array(frames, 25), lossless=True, overwrite=True)
    write_mask("mask.mkv", mask, open_clip("clip.mkv"), overwrite=True)
    assert layerlift("reference clip.mkv --mask mask.mkv -o refs") == 0
    assert "no reference frame is needed" in capsys.readouterr().out
    assert "refs" not in files()


def test_a_folder_of_others_is_not_replaced(clip: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    Path("refs").mkdir()
    Path("refs/004.png").write_text("mine")
    command = "reference clip.mkv --mask mask.mkv -o refs"
    assert layerlift(command) == 2
    assert "is not empty" in capsys.readouterr().err
    Path("refs/notes.txt").write_text("mine")
    assert layerlift(f"{command} --overwrite") == 2
    assert "notes.txt, which layerlift did not write" in capsys.readouterr().err
    Path("refs/notes.txt").unlink()
    assert layerlift(f"{command} --overwrite") == 0
    assert files("refs") == ["004.png", "004_mask.png"]
