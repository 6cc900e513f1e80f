"""`layerlift bench objects`: what is told of an object, and figures that fall when masks are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from layerlift.bench import objects
from layerlift.bench.objects import (
    ObjectCase,
    box_of,
    click_of,
    first_words,
    intersection_over_union,
    measured,
    open_object_cases,
)
from layerlift.clip import Clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.masks import Mask
from layerlift.options import SegmentationOptions
from layerlift.runtime import Runtime
from layerlift.stages.segment import SegmentationPlan
from support import layerlift


def moving(count: int = 4) -> np.ndarray:
    """A rectangle that appears in frame 1 and moves, (F, H, W) bool."""
    mask = np.zeros((count, 48, 64), np.bool_)
    for index in range(1, count):
        mask[index, 10:30, 10 + 4 * index : 40 + 4 * index] = True
    return mask


def test_a_box_and_a_click_come_from_the_first_frame_that_shows_the_object() -> None:
    ((index, box),) = first_words(Mask.from_array(moving()), "box").items()
    assert (index, box.box) == (1, (14, 10, 44, 30))
    ((index, click),) = first_words(Mask.from_array(moving()), "click").items()
    assert index == 1
    (x, y), *_ = click.points
    assert 20 <= x <= 36
    assert 18 <= y <= 21
    assert box_of(moving()[1]).box == box.box
    assert click_of(moving()[1]).inside.tolist() == [True]
    with pytest.raises(InputError, match="shows no object"):
        first_words(Mask.from_array(np.zeros((2, 8, 8), np.bool_)), "box")


def test_figures_are_those_of_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = moving()
    clip = Clip.from_array(np.zeros((*truth.shape, 3), np.uint8))

    def found(plan: SegmentationPlan) -> Iterator[np.ndarray]:
        assert [target.name for target in plan.targets] == ["object"]
        wrong = truth.copy()
        wrong[2, 10:20] = False
        return iter(wrong.astype(np.uint8))

    monkeypatch.setattr(objects, "run_segmentation", found)
    values = measured(ObjectCase("toy", clip, {"": Mask.from_array(truth)}), "box", SegmentationOptions(), Runtime())
    assert values == {"": [1.0, 1.0, 0.5, 1.0]}
    assert intersection_over_union(truth[1], ~truth[1]) == 0


def write_case(folder: Path, masks: Sequence[np.ndarray]) -> None:
    """A clip and its object masks."""
    folder.mkdir()
    ground = np.random.default_rng(0).integers(60, 90, (*masks[0].shape, 3), dtype=np.uint8)
    for number, mask in enumerate(masks):
        ground[mask] = (230, 120, 40) if number == 0 else (40, 60, 230)
    clip = Clip.from_array(ground)
    write_clip(folder / "video.mkv", ground, clip, lossless=True)
    for number, mask in enumerate(masks):
        write_mask(folder / f"object_mask_{number}.mkv", mask, clip)


def test_the_command_prints_a_line_for_each_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path / "toy", [moving(), moving()[:, ::-1, ::-1]])
    assert layerlift("bench", "objects", tmp_path / "toy", "--segmenter", "classic", "--from", "box") == 0
    printed = capsys.readouterr().out
    assert "| toy 0 " in printed
    assert "| toy 1 " in printed
    assert "mean IoU over all frames" in printed
    assert "share of frames above 0.7" in printed


def test_scenes_are_measured_where_no_clip_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--seeds", "1000:1001", "--frames", "3", "--size", "96x64", "--segmenter", "classic", "--from", "click")
    assert layerlift("bench", "objects", *asked) == 0
    assert "| scene 1000 0 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("toy", "--seeds", "1:2"), "--seeds is for scenes, but clips were given"),
        (("toy", "--rendered"), "--rendered is for scenes, but clips were given"),
        (("toy", "--from", "mask"), "unknown --from 'mask': choose box, click, or both"),
        (("bare",), "bare has no object masks: give a folder with object_mask beside its video"),
    ],
)
def test_what_cannot_be_measured_is_told(
    asked: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_case(Path("toy"), [moving()])
    write_case(Path("bare"), [moving()])
    Path("bare/object_mask_0.mkv").unlink()
    assert layerlift("bench", "objects", *asked) == 2
    assert said in capsys.readouterr().err


def test_cases_have_the_names_of_their_folders(tmp_path: Path) -> None:
    write_case(tmp_path / "toy", [moving()])
    (case,) = open_object_cases([tmp_path / "toy"])
    assert (case.name, list(case.truths)) == ("toy", [""])
