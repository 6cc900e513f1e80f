"""`bench footage --effects`: what is compared, on a small case whose effect is known."""

from pathlib import Path

import numpy as np
import pytest

from layerlift.bench.footage_effects import compared, open_layer_cases
from layerlift.clip import Clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.masks import Mask
from layerlift.stages.effects.result import Effects
from support import layerlift

FRAMES, HEIGHT, WIDTH = 6, 64, 96


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """A square that walks over a wall, with a shadow below it; and the same without."""
    wall = np.random.default_rng(0).integers(90, 170, (16, 24, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    for name, dark in (("wall_square_shadow", 0.5), ("wall_square_none", 0.0)):
        folder = tmp_path / "layers" / name
        folder.mkdir(parents=True)
        background = np.stack([wall] * FRAMES)
        video, opacity = background.copy(), np.zeros((FRAMES, HEIGHT, WIDTH), np.float32)
        thing = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
        for index in range(FRAMES):
            left = 4 + 12 * index
            thing[index, 16:36, left : left + 14] = True
            opacity[index, 36:50, left : left + 14] = dark
        video = (video * (1 - opacity[..., None])).astype(np.uint8)
        video[thing] = (230, 40, 40)
        like = Clip.from_array(video, 24)
        write_clip(folder / "video.mkv", video, like, lossless=True)
        write_clip(folder / "background.mkv", background, like, lossless=True)
        grey = (255 * opacity).astype(np.uint8)
        write_clip(folder / "effect.mkv", np.repeat(grey[..., None], 3, -1), like, lossless=True)
        write_mask(folder / "object_mask.mkv", thing, like)
        write_mask(folder / "total_mask.mkv", thing | (opacity > 0), like)
    return tmp_path


def found(total: np.ndarray) -> Effects:
    nothing = np.zeros((1, *total.shape), bool)
    return Effects(Mask.from_array(total), (), nothing, nothing.astype(np.float32), ("shadow",))


def test_effects_count_away_from_the_object(cases: Path) -> None:
    none, shadow = open_layer_cases(cases)
    assert (none.kind, shadow.kind) == ("none", "shadow")
    assert open_layer_cases(cases / "layers" / "wall_square_shadow")[0].name == "wall_square_shadow"
    true = compared(shadow, found(shadow.total.numpy()))
    assert (true["IoU"], true["recall"]) == (1, 1)
    nothing = compared(shadow, found(shadow.object.numpy()))
    assert (nothing["IoU"], nothing["recall"], nothing["beyond"]) == (0, 0, 0)
    everything = compared(none, found(np.ones((FRAMES, HEIGHT, WIDTH), bool)))
    assert everything["beyond"] > 5


@pytest.mark.slow
def test_tables_are_printed(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("bench", "footage", cases, "--effects", "--model", "none", "--report", cases / "r.json") == 0
    said = capsys.readouterr().out
    for title in ("IoU of effects", "recall of effects", "no effect: found beyond the object", "PSNR of the plate"):
        assert title in said
    assert "wall_square_shadow" in said


@pytest.mark.parametrize(
    ("flags", "part"),
    [("--effects --rows telea", "--rows is for plates"), ("--effects --make", "--make measures nothing")],
)
def test_flags_that_do_not_go_together(cases: Path, flags: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("bench", "footage", cases, *flags.split()) == 2
    assert part in capsys.readouterr().err


def test_a_folder_without_cases(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no case of an object with an effect"):
        open_layer_cases(tmp_path)
