"""Label images and what else masks are taken for, from the command line."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip, open_clip, write_clip
from layerlift.clip.rgba_reader import open_layer
from support import layerlift
from tiny_model import write_tiny_model

COUNT, HEIGHT, WIDTH = 4, 80, 112
LEFT, RIGHT = np.s_[20:50, 20:44], np.s_[20:50, 64:92]


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A clip of two objects, its plate, and masks of them, 1 and 2, as grey values and as colours."""
    monkeypatch.chdir(tmp_path)
    plate = np.random.default_rng(0).integers(90, 110, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames = plate.copy()
    frames[:, *LEFT], frames[:, *RIGHT] = (220, 30, 30), (30, 30, 220)
    like = Clip.from_array(frames)
    write_clip("walk.mkv", frames, like, lossless=True)
    write_clip("plate.mkv", plate, like, lossless=True)
    colours = np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8)
    colours[:, *LEFT], colours[:, *RIGHT] = (255, 0, 0), (0, 255, 0)
    write_clip("colours.mkv", colours, like, lossless=True)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[LEFT], ids[RIGHT] = 1, 2
    assert cv2.imwrite("ids.png", ids)
    return frames


def files() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"walk.mkv", "plate.mkv", "colours.mkv", "ids.png"}


def opaque(layer: str) -> tuple[bool, bool]:
    """Whether a layer holds the left object, and the right one."""
    alpha = open_layer(layer).numpy()[..., 3]
    return bool(alpha[:, *LEFT].mean() > 0.8), bool(alpha[:, *RIGHT].mean() > 0.8)


@pytest.mark.parametrize(("mask", "said"), [("ids.png", "1, 2"), ("colours.mkv", "#00FF00, #FF0000"), ("walk", "1, 2")])
def test_extract_makes_a_layer_of_every_object(
    walk: np.ndarray, mask: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--object", mask]
    clip = "walk.mkv"
    if mask == "walk":  # a folder in the earlier systems' layout
        Path("walk").mkdir()
        Path("walk.mkv").rename("walk/video.mkv")
        clip, mask, flags = "walk", str(Path("ids.png").rename("walk/object_mask.png")), []
    assert layerlift("extract", clip, "--background", "plate.mkv", *flags, "-o", "layer.mkv") == 0
    assert f"2 objects in {mask}: {said}.\n" in capsys.readouterr().err
    assert files() - {"walk"} == {"layer_0.mkv", "layer_1.mkv"}
    first = (False, True) if mask == "colours.mkv" else (True, False)
    assert opaque("layer_0.mkv") == first
    assert opaque("layer_1.mkv") == first[::-1]


def test_extract_takes_the_one_that_is_named(walk: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    extract = ["extract", "walk.mkv", "--background", "plate.mkv", "-o", "layer.mkv"]
    assert layerlift(*extract, "--object", "colours.mkv:#ff0000") == 0
    assert opaque("layer.mkv") == (True, False)
    assert layerlift(*extract, "--object", "ids.png:2", "--overwrite") == 0
    assert opaque("layer.mkv") == (False, True)
    assert "2 objects in ids.png: 1, 2; using 2.\n" in capsys.readouterr().err
    assert layerlift(*extract, "--object", "ids.png:3", "--overwrite") == 2
    assert capsys.readouterr().err == ("layerlift: ids.png has no object 3; choose from 1, 2.\n")


def test_remove_takes_all_of_them_together(walk: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("remove", "walk.mkv", "--mask", "ids.png", "--model", "none", "--lossless") == 0
    assert "2 objects in ids.png: 1, 2.\n" in capsys.readouterr().err
    made = open_clip("walk_remove.mkv").numpy()
    np.testing.assert_array_equal(made[:, :10], walk[:, :10])
    for place in (LEFT, RIGHT):
        assert np.abs(made[:, *place].astype(int) - 100).mean() < 25


def test_run_and_mask_keep_them_apart(walk: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    total = np.zeros((HEIGHT, WIDTH), np.uint8)
    total[LEFT], total[RIGHT] = 255, 255
    assert cv2.imwrite("ids.png", np.where(total, cv2.imread("ids.png", 0), 0))
    model = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    assert (
        layerlift("run", "walk.mkv", "--object", "ids.png", "--total", "ids.png", "--model", "none", "-o", "out") == 0
    )
    assert {path.name for path in Path("out").glob("layer*")} == {"layer_0.mov", "layer_1.mov"}
    assert opaque("out/layer_1.mov") == (False, True)
    assert layerlift("mask", "walk.mkv", "--object", "ids.png", "--model", model, "-o", "m.mkv") == 0
    assert {"m.mkv", "m_0.mkv", "m_1.mkv"} <= files()


def test_a_mask_the_wrong_way_round_is_warned_of(walk: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    inverted = np.full((HEIGHT, WIDTH), 255, np.uint8)
    inverted[30:40, 30:40] = 0
    assert cv2.imwrite("ids.png", inverted)
    assert layerlift("extract", "walk.mkv", "--object", "ids.png", "--background", "plate.mkv") == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "1 object in ids.png: everything brighter than half.",
        "The mask ids.png is white over more than 90% of every frame: if the object is the black part, "
        "invert the mask.",
    ]
