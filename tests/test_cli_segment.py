"""`layerlift segment`, and `run --point`: what is written, and one sentence for everything that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip, ClipWriter, open_clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.masks import open_mask, open_object_masks
from layerlift.parse import parse_boxes, parse_named, parse_points
from layerlift.stages.segment import Prompts, Target, plan_segmentation, segment
from layerlift.stages.segment.classic import ClassicSegmenter
from support import files, layerlift

WIDTH, HEIGHT, FRAMES = 128, 96, 7


def places(index: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The centres of the orange disc and of the blue square."""
    return (34 + 3 * index, 52), (100 - 3 * index, 24)


def discs() -> np.ndarray:
    """An orange disc of radius 16 goes right, a blue square of 20 pixels goes left: (F, H, W, 3) uint8."""
    noise = np.random.default_rng(0).integers(50, 110, (24, 32, 3), dtype=np.uint8)
    ground = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    frames = []
    for index in range(FRAMES):
        disc, (x, y) = places(index)
        frame = ground.copy()
        cv2.circle(frame, disc, 16, (235, 130, 30), -1)
        frame[y - 10 : y + 10, x - 10 : x + 10] = (40, 60, 230)
        frames.append(frame)
    return np.stack(frames)


def truth(index: int) -> np.ndarray:
    """The disc, (H, W) bool."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    (x0, y0), _ = places(index)
    return (x - x0) ** 2 + (y - y0) ** 2 <= 16**2


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max(1, (one | other).sum())


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    frames = discs()
    return write_clip("toy.mkv", frames, Clip.from_array(frames), lossless=True)


def test_one_click_writes_a_mask_of_the_clip_s_length(clip: Path) -> None:
    assert layerlift("segment", clip, "--point", "34,52", "--segmenter", "classic", "--report", "report.json") == 0
    mask = open_mask("toy_object.mkv", open_clip(clip)).numpy()
    assert min(iou(mask[index], truth(index)) for index in range(FRAMES)) > 0.85
    report = json.loads(Path("report.json").read_text())
    assert report["results"]["segmenter"] == "classic"
    assert report["results"]["frames with the object"] == {"object": FRAMES}
    assert report["settings"]["point"] == ["34,52"]


@pytest.mark.slow
def test_the_network_in_the_package_is_the_default(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("segment", clip, "--box", "18,36,51,69", "-o", "mask.mkv") == 0
    mask = open_mask("mask.mkv", open_clip(clip)).numpy()
    assert min(iou(mask[index], truth(index)) for index in range(FRAMES)) > 0.9
    assert "wrote mask.mkv (object in 7 of 7 frames" in capsys.readouterr().out


def test_several_objects_have_a_mask_each_and_their_union(clip: Path) -> None:
    both = ("--point", "34,52", "--object", "square=100,24 not:60,80", "--segmenter", "classic")
    assert layerlift("segment", clip, *both, "-o", "mask.mkv", "--preview", "seen.png") == 0
    assert {"mask.mkv", "mask_0.mkv", "mask_1.mkv", "seen.png"} <= set(files())
    union, disc, square = (open_mask(f"mask{end}.mkv", open_clip(clip)).numpy() for end in ("", "_0", "_1"))
    assert not (disc & square).any()
    np.testing.assert_array_equal(union, disc | square)
    assert iou(disc[3], truth(3)) > 0.85


def test_label_images_are_read_back_as_the_objects(clip: Path) -> None:
    both = ("--object", "disc=34,52", "--object", "square=90,14,110,34", "--segmenter", "classic", "--labels")
    assert layerlift("segment", clip, *both, "-o", "labels/") == 0
    disc, square = open_object_masks("labels", open_clip(clip))
    assert iou(disc.numpy()[3], truth(3)) > 0.85
    assert square.numpy().any()
    assert layerlift("segment", clip, *both, "-o", "labels.mp4") == 2


def test_a_folder_of_pngs_and_a_preview_of_all_frames(clip: Path) -> None:
    asked = ("--point", "34,52", "--segmenter", "classic", "-o", "mask/", "--preview", "seen.mp4")
    assert layerlift("segment", clip, *asked) == 0
    assert len(files("mask")) == FRAMES
    assert open_clip("seen.mp4").frame_count == FRAMES


def test_a_known_mask_counts_frames_in_the_whole_clip(clip: Path) -> None:
    still = Clip.from_array(discs()[:1])
    write_mask("known/", [truth(4)], still)
    asked = ("--keyframe", "known/00000.png@4", "--frames", "2:7", "--segmenter", "classic", "-o", "mask.mkv")
    assert layerlift("segment", clip, *asked) == 0
    mask = open_mask("mask.mkv", open_clip(clip).cut(2, 7)).numpy()
    assert len(mask) == 5
    assert iou(mask[2], truth(4)) > 0.95
    assert iou(mask[0], truth(2)) > 0.8


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has Ctrl-C come at a frame that is written, counted over all files."""
    write = ClipWriter.write

    def at(number: int) -> None:
        left = [number]

        def interrupted(self: ClipWriter, frame: np.ndarray) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            write(self, frame)

        monkeypatch.setattr(ClipWriter, "write", interrupted)

    return at


def test_an_interrupted_segmentation_goes_on(
    clip: Path, interrupt: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["segment", "toy.mkv", "--point", "34,52", "--object", "square=100,24", "--segmenter", "classic"]
    assert layerlift(*both, "-o", "whole.mkv", "--preview", "whole.mp4") == 0
    before = files()
    interrupt(10)
    assert layerlift(*both, "-o", "mask.mkv", "--preview", "seen.mp4") == 130
    assert files() == sorted([*before, ".mask.mkv.layerlift-job"])
    assert "-o mask.mkv --preview seen.mp4 --resume" in capsys.readouterr().err

    assert layerlift(*both, "-o", "mask.mkv", "--preview", "seen.mp4", "--resume", "--point", "35,52") == 2
    assert "--point was ['34,52'] and is ['34,52', '35,52']" in capsys.readouterr().err
    assert layerlift(*both, "-o", "mask.mkv", "--preview", "seen.mp4", "--resume", "--report", "report.json") == 0
    for name, whole in (("mask", "whole"), ("mask_0", "whole_0"), ("mask_1", "whole_1")):
        np.testing.assert_array_equal(open_clip(f"{name}.mkv").numpy(), open_clip(f"{whole}.mkv").numpy())
    np.testing.assert_array_equal(open_clip("seen.mp4").numpy(), open_clip("whole.mp4").numpy())
    results = json.loads(Path("report.json").read_text())["results"]
    assert results["resumed"]["objects follow"]["again"] == 0
    assert results["frames with the object"] == {"object": FRAMES, "square": FRAMES}
    assert [name for name in files() if name.startswith(".")] == []


@pytest.mark.slow
def test_an_interrupted_run_from_a_click_goes_on(clip: Path, interrupt: Callable[[int], None]) -> None:
    asked = ["run", "toy.mkv", "--point", "34,52", "--segmenter", "classic", "--model", "none", "--lossless", "-o"]
    assert layerlift(*asked, "whole") == 0
    for frame in (3, FRAMES + 3):  # of the object's mask, and of the total mask
        interrupt(frame)
        assert layerlift(*asked, "out", "--overwrite", *(["--resume"] if frame > FRAMES else [])) == 130
        assert ".out.layerlift-job" in files()
    interrupt(-1)
    assert layerlift(*asked, "out", "--resume") == 0
    for name in ("object_mask_0", "total_mask", "background"):
        np.testing.assert_array_equal(open_clip(f"out/{name}.mkv").numpy(), open_clip(f"whole/{name}.mkv").numpy())


def test_objects_that_are_known_by_masks_alone_have_names(clip: Path) -> None:
    write_mask("known/", [truth(0)], Clip.from_array(discs()[:1]))
    Path("a=b").mkdir()
    Path("known/00000.png").rename("a=b/mask.png")
    asked = ("--object", "square=100,24", "--keyframe", "disc=a=b/mask.png@0", "--segmenter", "classic", "--labels")
    assert layerlift("segment", clip, *asked, "-o", "labels/") == 0
    square, disc = open_object_masks("labels", open_clip(clip))
    assert iou(disc.numpy()[3], truth(3)) > 0.8
    assert not (square.numpy() & disc.numpy()).any()
    # A file whose own name holds an equals sign is that file.
    assert layerlift("segment", clip, "--keyframe", "a=b/mask.png@0", "--segmenter", "classic", "-o", "one.mkv") == 0
    assert iou(open_mask("one.mkv", open_clip(clip)).numpy()[0], truth(0)) > 0.9


def test_run_goes_from_one_click_to_plate_and_layers(clip: Path) -> None:
    asked = ("--point", "34,52", "--segmenter", "classic", "--model", "none", "-o", "out")
    assert layerlift("run", clip, *asked) == 0
    assert {"background.mp4", "layer_0.mov", "object_mask_0.mkv", "total_mask.mkv"} <= set(files("out"))
    assert iou(open_mask("out/object_mask_0.mkv", open_clip(clip)).numpy()[3], truth(3)) > 0.85
    assert layerlift("run", clip, *asked, "--overwrite") == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "no object was named: give a --point inside it, or a --box around it"),
        ("--point 600,90", "the point 600,90 for object is outside the picture, which is 128x96"),
        ("--point 30,-2", "the point 30,-2 for object is outside the picture"),
        ("--point 34,52@7", "object is said to be in frame 7, but toy has frames 0 to 6: give one of them"),
        ("--point 34,52@1 --frames 2:6", "object is said to be in frame 1, but toy has frames 2 to 5"),
        ("--point 34", "--point '34' is not X,Y or X,Y@FRAME"),
        ("--box 10,10,10,30", "--box '10,10,10,30' has no area"),
        ("--box 10,10,30", "--box '10,10,30' is not X0,Y0,X1,Y1"),
        ("--box 300,300,400,400", "the box 300,300,400,400 for object is outside the picture"),
        ("--box 1,1,9,9 --box 2,2,8,8", "two boxes are given for object in frame 0"),
        ("--negative 4,4", "only where object is not is said of frame 0"),
        ("--point 34,52 --negative 34,53", "the point 34,52 in frame 0 is said to be both inside and outside object"),
        ("--point 3,3 --box 30,30,90,90", "the point 3,3 in frame 0 is said to be inside object, but lies outside its"),
        ("--object dog", "--object 'dog' is not NAME=…"),
        ("--object dog=1,1 --object dog=2,2", "two objects are called dog"),
        ("--keyframe mask.png", "--keyframe 'mask.png' names no frame"),
        ("--keyframe mask.png@9", "--keyframe mask.png is for frame 9, but toy has frames 0 to 6"),
        ("--keyframe mask.png@2", "mask.png does not exist"),
        ("--object a=1,1 --object b=9,9 --keyframe mask.png@2", "does not say which object it shows: put a= or b="),
        ("--point 34,52 --segmenter best", "unknown --segmenter 'best': choose"),
        ("--point 34,52 --preview seen.gif", "--preview seen.gif is neither .png nor .mp4"),
        ("--point 34,52 -o toy.mkv", "would overwrite the input"),
        ("--point 34,52 -o mask.gif", "cannot write mask.gif"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence_before_anything_is_looked_at(
    clip: Path, asked: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlift.stages.segment.open_segmenter", lambda *_: pytest.fail("a segmenter was opened"))
    assert layerlift("segment", clip, *asked.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert files() == ["toy.mkv"]


def test_a_click_on_nothing_is_told_when_that_is_known(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = np.full((1, HEIGHT, WIDTH, 3), 90, np.uint8)
    write_clip("flat.mkv", flat, Clip.from_array(flat), lossless=True)
    assert layerlift("segment", "flat.mkv", "--point", "64,48", "--segmenter", "classic", "-o", "mask.mkv") == 2
    assert "nothing was found for object in frame 0" in capsys.readouterr().err
    assert "mask.mkv" not in files()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("--point 34,52 --object mask.png", "--point finds an object, but --object gives masks"),
        ("--segmenter classic", "--segmenter works only with --point or --box"),
        ("--point 999,52", "the point 999,52 for object is outside the picture"),
        ("--point 34,52 --steps 0", "--steps"),
    ],
)
def test_run_tells_before_anything_is_looked_at(
    clip: Path, asked: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlift.stages.segment.open_segmenter", lambda *_: pytest.fail("a segmenter was opened"))
    assert layerlift("run", clip, *asked.split(), "--model", "none", "-o", "out") == 2
    assert said in capsys.readouterr().err
    assert files() == ["toy.mkv"]


def test_the_classic_segmenter_takes_clicks_and_boxes() -> None:
    frame = discs()[0]
    classic = ClassicSegmenter()
    view = classic.embed(frame)
    clicked = classic.predict(view, Prompts(np.array([(34, 52)], np.float32), np.array([True])))
    boxed = classic.predict(view, Prompts(box=(14, 32, 55, 73)))
    for prediction in (clicked, boxed):
        assert iou(prediction.mask(), truth(0)) > 0.9
    again = classic.again(view, truth(0).astype(np.float32), np.zeros((HEIGHT, WIDTH), np.bool_))
    assert iou(again.mask(), truth(0)) > 0.9
    np.testing.assert_array_equal(classic.predict(view, Prompts(box=(14, 32, 55, 73))).masks, boxed.masks)


def test_from_python_the_same_checks_hold() -> None:
    frames = discs()
    target = Target("disc", {0: Prompts(np.array([(34, 52)], np.float32), np.array([True]))})
    labels = list(segment(frames, target, segmenter="classic"))
    assert iou(labels[3] == 1, truth(3)) > 0.85
    with pytest.raises(InputError, match="no object was named"):
        plan_segmentation(frames, [])
    with pytest.raises(InputError, match="nothing is said of disc"):
        plan_segmentation(frames, Target("disc", {}))
    with pytest.raises(InputError, match="has shape"):
        plan_segmentation(frames, Target("disc", {}, {0: np.zeros((3, 3), np.bool_)}))
    with pytest.raises(InputError, match="leave one of them out"):
        plan_segmentation(frames, Target("disc", target.prompts, {0: truth(0)}))
    with pytest.raises(InputError, match="at most 32"):
        plan_segmentation(frames, [target] * 33)
    with pytest.raises(TypeError, match="unknown choice"):
        segment(frames, target, steps=3)


def test_clicks_and_boxes_as_they_are_typed() -> None:
    assert parse_points(["120,80@12", " 3.5 , 4"]) == (((120.0, 80.0), 12), ((3.5, 4.0), None))
    assert parse_boxes(["1,2,3,4@5"]) == (((1.0, 2.0, 3.0, 4.0), 5),)
    name, points, negatives, boxes = parse_named("the dog=1,2 not:3,4@5 6,7,8,9")
    assert (name, points, negatives, boxes) == (
        "the dog", (((1.0, 2.0), None),), (((3.0, 4.0), 5),), (((6.0, 7.0, 8.0, 9.0), None),)
    )  # fmt: skip
