"""Names as long as the file system takes, and longer: results are written, or refused in a sentence before the work."""

from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.clip.rgba_reader import open_layer
from layerlift.clip.rgba_writer import check_layer_output
from layerlift.contact_sheet import write_png
from layerlift.errors import InputError
from layerlift.hidden import hidden_name
from layerlift.names import check_name
from layerlift.report import Report
from support import add_tone, layerlift

COUNT, HEIGHT, WIDTH = 3, 40, 56


def name(ending: str, size: int = 255, letter: str = "影") -> str:
    """A name of exactly `size` bytes."""
    room = size - len(ending.encode())
    letters = room // len(letter.encode())
    return letter * letters + "x" * (room - letters * len(letter.encode())) + ending


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clip:
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(90, 110, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    inside = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    inside[:, 10:20, 16:26] = True
    like = Clip.from_array(frames)
    write_clip("walk.mkv", frames, like, lossless=True)
    write_mask("mask.mkv", inside, like)
    return like


REMOVE = ("remove", "walk.mkv", "--mask", "mask.mkv", "--model", "none")
EXTRACT = ("extract", "walk.mkv", "--object", "mask.mkv", "--background", "walk.mkv")
RUN = ("run", "walk.mkv", "--object", "mask.mkv", "--total", "mask.mkv", "--model", "none")


@pytest.mark.parametrize("letter", ["x", "é", "影"])
def test_outputs_of_the_longest_names(walk: Clip, letter: str) -> None:
    names = {flag: name(ending, letter=letter) for flag, ending in {"-o": ".mkv", "--report": ".json"}.items()}
    assert layerlift(*REMOVE, *(part for pair in names.items() for part in pair)) == 0
    assert open_clip(names["-o"]).frame_count == COUNT
    folder = name("", letter=letter)
    assert layerlift(*EXTRACT, "-o", f"{folder}/") == 0
    assert len(list(Path(folder).iterdir())) == COUNT
    assert open_layer(folder).frame_count == COUNT
    assert layerlift(*RUN, "-o", name("", 255, "r")) == 0
    made = write_png(Path(name(".png", letter=letter)), np.zeros((4, 4, 3), np.uint8))
    assert made.is_file()
    assert not list(Path().glob(".layerlift-*"))


def test_a_dot_in_a_long_folder_s_name(walk: Clip) -> None:
    folder = "a." + "b" * 250
    write_clip(f"{folder}/", walk.frames(), walk)
    assert len(list(Path(folder).iterdir())) == COUNT


@pytest.mark.parametrize(
    "command",
    [
        (*REMOVE, "-o", name(".mp4", 256)),
        (*REMOVE, "-o", f"{name('', 256)}/"),
        (*REMOVE, "-o", f"{name('', 300)}/a.mp4"),
        (*REMOVE, "--report", name(".json", 256)),
        (*REMOVE, "--source-map", name(".mkv", 256)),
        (*EXTRACT, "-o", name(".mov", 256)),
        (*EXTRACT, "-o", f"{name('', 256)}/"),
        (*RUN, "-o", name("", 256)),
        ("mask", "walk.mkv", "--object", "mask.mkv", "--preview", name(".png", 256)),
        ("mask", "walk.mkv", "--object", "mask.mkv", "--save-scores", name(".safetensors", 256)),
        ("scene", "-o", name("", 256)),
        ("demo", "-o", name("", 256)),
        (*REMOVE, "-o", "/".join(["d" * 200] * 21)),
    ],
)
def test_outputs_of_longer_names_are_refused_before_the_work(
    walk: Clip, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(Path().iterdir())
    assert layerlift(*command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "bytes, which is too long" in said or "bytes, but at most" in said
    assert "give a shorter one" in said
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    "command",
    [
        ("remove", name(".mp4", 256), "--mask", "mask.mkv"),
        ("remove", "walk.mkv", "--mask", name(".png", 256), "--model", "none"),
        ("extract", "walk.mkv", "--object", f"{name('.png', 256)}:2", "--background", "walk.mkv"),
        ("extract", "walk.mkv", "--object", "mask.mkv", "--background", name(".mp4", 256)),
        ("compose", name(".mov", 256), "--onto", "walk.mkv"),
        ("compose", "/".join(["d" * 200] * 21), "--onto", "walk.mkv"),
        ("run", "walk.mkv", "--object", name("", 300), "-o", "out", "--model", "none"),
    ],
)
def test_inputs_of_longer_names_are_not_there(
    walk: Clip, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert layerlift(*command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be opened (file name too long)" in said


def test_default_outputs_of_long_clips(walk: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    """`_remove.mp4` makes a name longer: as far as it fits it is written, beyond it is refused at once."""
    Path("walk.mkv").rename(name(".mkv", 248))
    assert layerlift("remove", name(".mkv", 248), *REMOVE[2:]) == 0
    assert Path(f"{name('.mkv', 248)[:-4]}_remove.mp4").is_file()
    Path(name(".mkv", 248)).rename(name(".mkv", 249))
    capsys.readouterr()
    assert layerlift("remove", name(".mkv", 249), *REMOVE[2:]) == 2
    assert "has a name of 256 bytes, but at most 255 fit; give a shorter one" in capsys.readouterr().err


def test_the_sound_beside_a_folder_and_numbered_layers_have_to_fit(
    walk: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    add_tone(Path("walk.mkv"), Path("heard.mkv"))
    heard = open_clip("heard.mkv")
    check_layer_output(f"{name('', 251)}/", heard)
    with pytest.raises(InputError, match="has a name of 256 bytes"):
        check_layer_output(f"{name('', 252)}/", heard)
    two = (*EXTRACT, "--object", "mask.mkv")
    assert layerlift(*two, "-o", name(".mkv", 254)) == 2
    assert "has a name of 256 bytes" in capsys.readouterr().err
    assert layerlift(*two, "-o", name(".mkv", 253)) == 0


def test_hidden_names_fit_and_are_new(tmp_path: Path) -> None:
    long = tmp_path / name(".mkv")
    assert hidden_name(long, ".mkv").parent == tmp_path
    assert len(hidden_name(long, ".mkv").name) < 80
    assert hidden_name(long) != hidden_name(long)
    check_name(long)
    check_name(tmp_path / "not" / "there" / "a.mp4")


def test_reports_of_long_names(tmp_path: Path) -> None:
    assert Report("remove", {}).write(tmp_path / name(".json")).is_file()
