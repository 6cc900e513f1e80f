"""`layerlift bench footage`: its figures against formulas written out, the cases it makes, and what it refuses."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.bench.footage import FILES, Case, Scores, footage_tables, open_cases, similarity
from layerlift.bench.footage_cases import PAINT, make_cases
from layerlift.bench.table import CaseTable
from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.engine.device import choose_policy
from layerlift.evidence import State
from layerlift.evidence.exemplar import exemplars_available
from layerlift.masks import Mask
from layerlift.runtime import Runtime
from support import layerlift

FRAMES, HEIGHT, WIDTH = 6, 60, 80


def smooth(seed: int, frames: int = FRAMES) -> np.ndarray:
    """Textured ground that moves by two pixels a frame, (F, H, W, 3) uint8."""
    ground = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH + 2 * frames, 3), dtype=np.uint8)
    ground = cv2.normalize(cv2.GaussianBlur(ground, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([ground[:, 2 * index : 2 * index + WIDTH] for index in range(frames)])


def moving_hole(frames: int = FRAMES) -> np.ndarray:
    mask = np.zeros((frames, HEIGHT, WIDTH), bool)
    for index in range(frames):
        mask[index, 20:36, 20 + 3 * index : 34 + 3 * index] = True
    return mask


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Folders `lake` and `street`, each with a video and the mask of what moves in it, and a loose mask."""
    for seed, name in enumerate(("lake", "street")):
        like = Clip.from_array(smooth(seed), 25)
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / "video.mkv", smooth(seed), like, lossless=True)
        write_mask(tmp_path / name / "object_mask_0.mkv", np.roll(moving_hole(), seed, 1), like)
    write_mask(tmp_path / "walker.mkv", moving_hole(4), Clip.from_array(smooth(0, 4), 25))
    return tmp_path


def scored(result: np.ndarray, truth: np.ndarray, mask: np.ndarray, states: np.ndarray | None = None) -> Scores:
    scores = Scores()
    for index in range(len(mask)):
        scores.add(result[index], truth[index], mask[index], None if states is None else states[index])
    return scores


def test_figures_are_those_of_the_formulas_on_whole_arrays() -> None:
    rng = np.random.default_rng(0)
    truth, mask = smooth(0), moving_hole()
    result = np.clip(truth + rng.integers(-40, 41, truth.shape), 0, 255).astype(np.uint8)
    states = np.where(mask & (rng.random(mask.shape) < 0.5), np.uint8(State.GATHERED), np.uint8(State.UNKNOWN))
    scores = scored(result, truth, mask, states)

    g, r = truth.astype(np.float64), np.where(mask[..., None], result, truth).astype(np.float64)
    assert scores.psnr == pytest.approx(10 * np.log10(255**2 / np.square(g - r)[mask].mean()), abs=1e-4)
    both = mask[1:] & mask[:-1]
    change = np.abs(np.diff(r, axis=0) - np.diff(g, axis=0)).mean(-1)[both].mean()
    assert scores.temporal_error == pytest.approx(change, abs=1e-4)
    taken = mask & (states == State.GATHERED)
    assert scores.calibration == pytest.approx(100 * (np.abs(g - r).mean(-1)[taken] > 20).mean())
    assert scores.gathered_share == pytest.approx(100 * taken.sum() / mask.sum())
    assert 0 < scores.calibration < 100


def test_what_lies_beyond_the_mask_does_not_count() -> None:
    truth, mask = smooth(0), moving_hole()
    made = np.where(mask[..., None], truth // 2, truth)
    noisy = np.where(mask[..., None], made, np.uint8(0))
    one, other = scored(made, truth, mask), scored(noisy, truth, mask)
    assert (one.psnr, one.ssim, one.temporal_error) == (other.psnr, other.ssim, other.temporal_error)
    exact = scored(truth, truth, mask)
    assert (exact.psnr, exact.temporal_error) == (99, 0)
    assert exact.ssim == pytest.approx(1)
    assert np.isnan(exact.calibration)
    assert np.isnan(exact.gathered_share)


@pytest.mark.parametrize("where", [np.s_[20:36, 30:50], np.s_[0:9, 70:80]])
def test_similarity_is_that_of_wang_and_others(where: tuple[slice, slice]) -> None:
    """Eq. 13 of the paper, at every masked pixel, with its window of 11×11 and σ = 1.5 written out."""
    truth, mask = smooth(0)[0], np.zeros((HEIGHT, WIDTH), bool)
    mask[where] = True
    made = np.where(mask[..., None], smooth(1)[0], truth)
    x, y = (np.pad(frame @ np.array([0.299, 0.587, 0.114]), 5, mode="reflect") for frame in (made, truth))
    rows, columns = np.mgrid[-5:6, -5:6]
    weight = np.exp(-(rows**2 + columns**2) / (2 * 1.5**2))
    weight /= weight.sum()
    total = 0.0
    for row, column in zip(*np.nonzero(mask), strict=True):
        a, b = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
        mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
        var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
        both = (weight * (a - mean_a) * (b - mean_b)).sum()
        c1, c2 = 2.55**2, 7.65**2
        total += (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert total / mask.sum() < 0.9
    assert similarity(smooth(1)[0], truth, mask) / mask.sum() == pytest.approx(total / mask.sum(), abs=1e-4)


def test_means_are_over_cases_and_over_pixels() -> None:
    table = CaseTable("wrong", 1)
    table.add("ours", "a", 10, 100)
    table.add("ours", "b", 40, 300)
    table.add("ours", "c", float("nan"), 0)
    table.add("theirs", "a", 1, 1)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.markdown().splitlines()]
    assert lines[0] == ["wrong", "ours", "theirs"]
    assert lines[2:] == [
        ["a", "10.0", "1.0"], ["b", "40.0", "–"], ["c", "–", "–"], ["mean of 3", "25.0", "1.0"],
        ["all pixels", "32.5", "1.0"],
    ]  # fmt: skip


def test_cases_are_made_of_clips_and_masks_and_can_be_measured(
    clips: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clips)
    monkeypatch.setattr("layerlift.engine.model.hub.find_checkpoint", lambda entry: None)
    size = f"{WIDTH}x{HEIGHT}"
    assert (
        layerlift("bench", "footage", "--make", "out", "lake", "street", "--masks", "walker.mkv", "--size", size) == 0
    )
    assert capsys.readouterr().out.split() == ["wrote", "out/holes/lake_walker", "wrote", "out/holes/street_walker"]
    case = clips / "out" / "holes" / "street_walker"
    assert sorted(path.name for path in case.iterdir()) == sorted(FILES)
    video, truth, mask = (open_clip(case / name).numpy() for name in ("video.mkv", "truth.mkv", "mask.mkv"))
    hole = moving_hole(4)
    np.testing.assert_array_equal(truth, smooth(1)[:4])
    np.testing.assert_array_equal(mask[..., 0] > 127, hole)
    np.testing.assert_array_equal(video[~hole], truth[~hole])
    assert (video[hole] == PAINT).all()

    assert layerlift("bench", "footage", "out", "--rows", "telea,evidence,default", "--report", "r.json") == 0
    streams = capsys.readouterr()
    report = json.loads(Path("r.json").read_text())
    inside, _, _, calibration, gathered = report["results"]["tables"]
    assert list(inside["values"]) == ["Telea", "evidence only", "default"]
    assert inside["values"]["default"] == inside["values"]["evidence only"] != inside["values"]["Telea"]
    for values in inside["values"].values():
        for name, value in values.items():
            assert f"{value:.2f}" in next(line for line in streams.out.splitlines() if name in line)
    assert list(calibration["values"]) == list(gathered["values"]) == ["evidence only", "default"]
    assert report["notes"][1:] == ["The row default uses evidence alone: it runs no model."]
    assert "layerlift download" in report["notes"][0]
    assert "street_walker: Telea" in streams.err


def test_without_masks_the_clips_hide_each_other(clips: Path) -> None:
    made = make_cases(clips / "out", [clips / "lake", clips / "street"], size=(40, 30), frames=3)
    assert [place.name for place in made] == ["lake_street_0", "street_lake_0"]
    assert open_clip(made[0] / "truth.mkv").frame_count == 3
    assert [case.name for case in open_cases(clips / "out")] == ["lake_street_0", "street_lake_0"]
    assert [case.name for case in open_cases(clips / "out" / "holes")] == ["lake_street_0", "street_lake_0"]
    assert [case.name for case in open_cases(made[0])] == ["lake_street_0"]


def test_clips_and_masks_may_lie_in_one_folder(clips: Path) -> None:
    like = Clip.from_array(smooth(2), 25)
    for name in ("one", "two"):
        write_clip(clips / f"{name}.mkv", smooth(2), like, lossless=True)
    made = make_cases(clips / "out", [clips / "one.mkv", clips / "two.mkv"], [clips / "walker.mkv"], size=(40, 30))
    assert [place.name for place in made] == ["one_walker", "two_walker"]


def test_a_clip_with_its_masks_hides_by_these(clips: Path) -> None:
    made = make_cases(clips / "out", [clips / "lake"], [clips / "lake", clips / "street"], size=(40, 30))
    assert [place.name for place in made] == ["lake_street_0"]


def test_a_folder_of_masks_is_all_of_them_and_a_still_lasts(clips: Path) -> None:
    (clips / "masks").mkdir()
    (clips / "walker.mkv").rename(clips / "masks" / "walker.mkv")
    assert cv2.imwrite(str(clips / "logo.png"), moving_hole()[0].astype(np.uint8) * 255)
    made = make_cases(
        clips / "out", [clips / "lake"], [clips / "masks", clips / "logo.png"], size=(WIDTH, HEIGHT), frames=99
    )
    assert [place.name for place in made] == ["lake_walker", "lake_logo"]
    logo = open_clip(made[1] / "mask.mkv").numpy()
    assert len(logo) == FRAMES
    assert (logo[..., 0] > 127).all(0).sum() == moving_hole()[0].sum()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("nowhere", "is not a folder"),
        ("lake", "contains no case"),
        ("lake street", "--make"),
        ("lake --masks walker.mkv", "--make"),
        ("lake --rows telea,foo", "choose from telea"),
        ("--make out", "no clip"),
        (
            "--make out lake --masks walker.mkv --report r.json",
            "--make measures nothing, so it takes no --report",
        ),
        (
            "--make out lake --masks walker.mkv --rows telea --model none",
            "--make measures nothing, so it takes no --model, --rows",
        ),
        ("--make out lake", "--masks from other clips"),
        ("--make out lake --masks black.mkv", "empty"),
        ("--make out lake --masks walker.mkv --size 3", "--size"),
        ("--make out lake --masks dot.mkv --size 16x12", "hides nothing"),
        ("--make there lake --masks walker.mkv", "already exists"),
        ("--make there lake --masks walker.mkv --overwrite", "will not be replaced"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(
    flags: str, said: str, clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(clips)
    like = Clip.from_array(smooth(0), 25)
    write_mask("black.mkv", np.zeros((FRAMES, HEIGHT, WIDTH), bool), like)
    dot = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    dot[:, 3, 3] = True
    write_mask("dot.mkv", dot, like)
    there = clips / "there" / "holes" / "lake_walker"
    there.mkdir(parents=True)
    if "--overwrite" in flags:
        (there / "diary.txt").write_text("mine")
    assert layerlift("bench", "footage", *flags.split()) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert next(line for line in streams.err.splitlines() if "done in" not in line).startswith("layerlift: ")
    assert said in streams.err
    assert not list(clips.glob("*/holes/.*"))


def test_cases_of_other_lengths_are_refused(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (case,) = make_cases(clips / "out", [clips / "lake"], [clips / "walker.mkv"], size=(40, 30))
    short = np.zeros((2, 30, 40, 3), np.uint8)
    write_clip(case / "truth.mkv", short, Clip.from_array(short), lossless=True, overwrite=True)
    assert layerlift("bench", "footage", clips / "out") == 2
    assert "truth.mkv has 2 frames" in capsys.readouterr().err


def as_case(truth: np.ndarray, mask: np.ndarray) -> Case:
    painted = np.where(mask[..., None], np.array(PAINT, np.uint8), truth)
    return Case("a", Clip.from_array(painted), Mask.from_array(mask), Clip.from_array(truth))


@pytest.mark.skipif(not exemplars_available(), reason="pypatchmatch has no wheel for this machine")
def test_patchmatch_fills_every_frame() -> None:
    inside, *_ = footage_tables(
        [as_case(smooth(0), moving_hole())], ["patchmatch"], Runtime(policy=choose_policy("cpu"))
    )
    assert inside.values["PatchMatch"]["a"] > 12


def test_patchmatch_is_left_out_with_a_note_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    runtime = Runtime(policy=choose_policy("cpu"))
    inside, *_ = footage_tables([as_case(smooth(0), moving_hole())], ["telea", "patchmatch"], runtime)
    assert list(inside.values) == ["Telea"]
    assert "pypatchmatch" in runtime.report.notes[0]


@pytest.mark.slow
def test_the_demo_row_runs_the_demo_model() -> None:
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[:, 8:52, 16:64] = True
    case = as_case(np.repeat(smooth(0)[:1], FRAMES, 0), mask)  # no frame shows what is hidden
    inside, _, _, calibration, _ = footage_tables([case], ["evidence", "demo"], Runtime(policy=choose_policy("cpu")))
    assert list(inside.values) == list(calibration.values) == ["evidence only", "demo"]
    assert inside.values["demo"] != inside.values["evidence only"]
