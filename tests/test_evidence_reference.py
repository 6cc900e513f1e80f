"""Reference frames on seeded clips whose hidden pixels are known."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.contact_sheet import write_png
from layerlift.engine.model import Model, open_model
from layerlift.errors import InputError
from layerlift.evidence import State, gather_evidence
from layerlift.evidence.fuse import Side
from layerlift.evidence.rank import outrank
from layerlift.evidence.reach import BYTES, Reach
from layerlift.evidence.reference import (
    MARK,
    Reference,
    apply_references,
    open_references,
    pictures_of,
    shares_with,
    told_references,
)
from layerlift.masks import Mask
from layerlift.metrics import psnr
from layerlift.options import RemovalOptions
from layerlift.pixels.arrays import grow
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages.reference import Suggestion, suggest_references
from layerlift.stages.removal import plan_removal, remove, remove_frames, run_removal
from tiny_model import write_tiny_model

FRAMES, HEIGHT, WIDTH = 13, 120, 176
DILATE = 2
MIDDLE = 6


def world(seed: int = 0, contrast: float = 35) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(260, 460, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(128 + contrast * soft / soft.std(), 0, 255)


def see(ground: np.ndarray, x: float, y: float = 60) -> np.ndarray:
    matrix = np.array([[1, 0, x], [0, 1, y]], float)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.clip(np.rint(cv2.warpAffine(ground, matrix, (WIDTH, HEIGHT), flags=flags)), 0, 255).astype(np.uint8)


def never_shown(step: float = 2.3, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, clip and mask of a thing that stands still on panning ground: no frame shows what is behind it."""
    truth = np.stack([see(world(), 80 + step * t) for t in range(frames)])
    mask = np.zeros((frames, HEIGHT, WIDTH), bool)
    for t in range(frames):
        left = round(80 - step * t)
        mask[t, 45:81, left : left + 40] = True
    video = truth.copy()
    video[mask] = (250, 20, 20)
    return truth, video, mask


def passed_twice() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, clip and mask of two things that stand still under a still camera, each in its own half of the clip."""
    truth = np.stack([see(world(3), 100)] * 20)
    mask = np.zeros((20, HEIGHT, WIDTH), bool)
    mask[:10, 30:70, 20:60] = True
    mask[8:, 40:90, 100:150] = True
    video = truth.copy()
    video[mask] = (20, 220, 240)
    return truth, video, mask


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny")))


def opened(video: np.ndarray, mask: np.ndarray, picture: np.ndarray | Path, frame: int = MIDDLE) -> list[Reference]:
    return open_references({frame: picture}, Clip.from_array(video), Mask.from_array(mask), DILATE)


def inside(reference: Reference, truth: np.ndarray) -> float:
    """PSNR of what a reference shows of its hole."""
    left, top, right, bottom = reference.box
    part = truth[reference.index, top:bottom, left:right]
    return psnr(reference.pixels[None], part[None], reference.hole[None])


def test_an_exact_reference_comes_back_bit_for_bit() -> None:
    truth, video, mask = never_shown()
    (reference,) = opened(video, mask, truth[MIDDLE])
    left, top, right, bottom = reference.box
    assert np.array_equal(reference.hole, grow(mask[MIDDLE], DILATE)[top:bottom, left:right])
    assert reference.known.sum() == reference.hole.sum()
    assert np.array_equal(reference.pixels[reference.hole], truth[MIDDLE, top:bottom, left:right][reference.hole])


@pytest.mark.parametrize("shift", [(0.4, -0.3), (3.0, 2.0), (-6.0, 4.5)])
def test_a_shift_is_taken_back(shift: tuple[float, float]) -> None:
    truth, video, mask = never_shown()
    picture = see(world(), 80 + 2.3 * MIDDLE + shift[0], 60 + shift[1])
    (reference,) = opened(video, mask, picture)
    assert inside(reference, truth) > 38


def test_colours_are_brought_to_the_frame() -> None:
    truth, video, mask = never_shown()
    warmer = np.clip(truth[MIDDLE] * (1.1, 0.95, 0.85) + (6, 0, -4), 0, 255).astype(np.uint8)
    (reference,) = opened(video, mask, warmer)
    assert inside(reference, truth) > 38


def test_another_size_of_the_same_shape_is_scaled() -> None:
    truth, video, mask = never_shown()
    large = cv2.resize(truth[MIDDLE], (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    (reference,) = opened(video, mask, large)
    assert inside(reference, truth) > 36


def test_the_clip_shows_the_reference_and_is_its_own_everywhere_else() -> None:
    truth, video, mask = never_shown()
    clip, masks = Clip.from_array(video), Mask.from_array(mask)
    references = open_references({MIDDLE: truth[MIDDLE]}, clip, masks, DILATE)
    shown, left = apply_references(clip, masks, references)
    hole = grow(mask[MIDDLE], DILATE)
    frames = shown.numpy()
    assert np.array_equal(frames[MIDDLE][hole], truth[MIDDLE][hole])
    assert np.array_equal(frames[MIDDLE][~hole], video[MIDDLE][~hole])
    others = np.arange(FRAMES) != MIDDLE
    assert np.array_equal(frames[others], video[others])
    assert np.array_equal(left.numpy()[others], mask[others])
    assert not left.numpy()[MIDDLE].any()
    # From the middle on, too: numbers count from the clip's first frame.
    assert np.array_equal(next(shown.frames(MIDDLE)), frames[MIDDLE])
    assert not next(left.frames(MIDDLE)).any()


def test_without_references_nothing_is_wrapped() -> None:
    _, video, mask = never_shown()
    clip, masks = Clip.from_array(video), Mask.from_array(mask)
    assert open_references(None, clip, masks, DILATE) == []
    assert apply_references(clip, masks, []) == (clip, masks)


def carried(video: np.ndarray, mask: np.ndarray, pictures: dict[int, np.ndarray]) -> np.ndarray:
    """The clip with what evidence makes of it, references among it."""
    clip, masks = Clip.from_array(video, Fraction(24)), Mask.from_array(mask)
    references = open_references(pictures, clip, masks, DILATE)
    shown = apply_references(clip, masks, references)
    with gather_evidence(*shown, dilate=DILATE, references=references) as found:
        return np.stack([frame for frame, _ in found.filled_frames()])


def test_gathering_carries_a_reference_to_other_frames() -> None:
    truth, video, mask = never_shown()
    without, given = carried(video, mask, {}), carried(video, mask, {MIDDLE: truth[MIDDLE]})
    around = [at for at in range(MIDDLE - 4, MIDDLE + 5) if at != MIDDLE]
    better = psnr(given[around], truth[around], mask[around])
    assert better > psnr(without[around], truth[around], mask[around]) + 2
    assert better > 34


def shown_otherwise(step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, clip and mask of a place that is hidden for a while; before and after somebody stands there, unmasked."""
    frames = 25
    truth = np.stack([see(world(), 80 + step * t) for t in range(frames)])
    mask = np.zeros((frames, HEIGHT, WIDTH), bool)
    video = truth.copy()
    for t in range(frames):
        left = round(80 - step * t)
        if 8 <= t <= 16:
            mask[t, 40:80, left : left + 40] = True
        else:
            video[t, 50:70, left + 10 : left + 30] = np.clip(0.4 * truth[t, 50:70, left + 10 : left + 30] + 90, 0, 255)
    video[mask] = (250, 20, 20)
    return truth, video, mask


@pytest.mark.slow
@pytest.mark.parametrize("step", [pytest.param(0, marks=pytest.mark.slow), 1.7])
def test_a_reference_outranks_frames_that_show_something_else(step: float) -> None:
    truth, video, mask = shown_otherwise(step)
    without, given = carried(video, mask, {}), carried(video, mask, {12: truth[12]})
    for at in (8, 11, 13, 16):
        hidden = mask[at : at + 1]
        assert psnr(given[at : at + 1], truth[at : at + 1], hidden) > 34
        assert psnr(without[at : at + 1], truth[at : at + 1], hidden) < 28


@pytest.mark.slow
def test_far_from_a_reference_nearer_frames_count() -> None:
    # A light goes on in the place that is hidden half of the time; the reference shows it dark.
    frames = 33
    truth = np.stack([see(world(), 80)] * frames).astype(np.float32)
    truth[:, 30:90, 60:140] += np.linspace(0, 60, frames)[:, None, None, None]
    truth = np.clip(np.rint(truth), 0, 255).astype(np.uint8)
    mask = np.zeros((frames, HEIGHT, WIDTH), bool)
    mask[::2, 40:80, 80:120] = True
    video = truth.copy()
    video[mask] = (250, 20, 20)
    without, given = carried(video, mask, {}), carried(video, mask, {4: truth[4]})
    far = np.arange(frames) > 12
    assert psnr(given[far], truth[far], mask[far]) > psnr(without[far], truth[far], mask[far]) - 0.1


def test_what_is_no_contradiction_keeps_its_word() -> None:
    rows, columns = (place.ravel() for place in np.mgrid[:20, :30])
    count = len(rows)
    sure, vague = (np.full(count, value, np.float32) for value in (1, 40))
    colours = np.full((count, 3), 100, np.float32)
    aside = colours + np.where(columns % 2, 20, -20).astype(np.float32)[:, None]  # to and fro: an edge a little aside
    other = colours.copy()
    other[rows < 10] += 30
    given, side = Side(colours, sure), Side(other, sure)
    (left,) = outrank([side], [given], rows, columns, 1)
    assert np.isinf(left.error[rows < 8]).all()
    assert (left.error[rows >= 12] == 1).all()
    assert np.isfinite(outrank([Side(aside, sure)], [given], rows, columns, 1)[0].error[columns > 3]).all()
    # Where the way to the reference is long, it outranks nobody.
    assert np.isfinite(outrank([side], [Side(colours, vague)], rows, columns, 1)[0].error).all()
    assert outrank([side], [], rows, columns, 1) == [side]


def test_references_are_in_reach_wherever_they_are() -> None:
    video, mask = np.zeros((80, 40, 50, 3), np.uint8), np.zeros((80, 40, 50), bool)
    clip, masks, memory = Clip.from_array(video), Mask.from_array(mask), 24 * 40 * 50 * BYTES
    held = Reach(clip, masks, 0, 70, memory, references=[3, 61])
    assert held.stride > 3
    for present in held.walk():
        assert len(held.at_hand()) <= 24
        assert all(at in held for at in (3, 61) if abs(at - present) <= 70)
    assert not Reach(clip, masks, 0, 70, memory, references=range(30)).references


def test_provenance_and_shares_call_it_gathered() -> None:
    truth, video, mask = never_shown()
    (reference,) = opened(video, mask, truth[MIDDLE])
    told: list[np.ndarray] = []
    tell = told_references([reference], told.append)
    assert tell is not None
    for _ in range(FRAMES):
        tell(np.full((HEIGHT, WIDTH), State.ORIGINAL, np.uint8))
    hole = grow(mask[MIDDLE], DILATE)
    assert np.array_equal(told[MIDDLE] == State.GATHERED, hole)
    assert not any((state != State.ORIGINAL).any() for at, state in enumerate(told) if at != MIDDLE)
    pixels = int(hole.sum())
    shares = shares_with([reference], {"hidden": pixels, "gathered": 0.0, "unknown": 1.0})
    assert shares == {"hidden": 2 * pixels, "gathered": 0.5, "unknown": 0.5}


def test_frames_of_a_cut_clip_keep_their_numbers() -> None:
    truth, video, mask = never_shown()
    clip, masks = Clip.from_array(video).cut(4, 10), Mask.from_array(mask).cut(4, 10)
    (reference,) = open_references({MIDDLE: truth[MIDDLE]}, clip, masks, DILATE)
    assert (reference.index, reference.frame) == (2, MIDDLE)
    assert np.array_equal(
        next(apply_references(clip, masks, [reference])[0].frames(2)),
        np.where(grow(mask[MIDDLE], DILATE)[..., None], truth[MIDDLE], video[MIDDLE]),
    )
    with pytest.raises(InputError, match="frame 2, but the frames in this part of the clip are 4 to 9"):
        open_references({2: truth[2]}, clip, masks, DILATE)


def test_what_cannot_be_a_reference_is_refused_in_a_sentence(tmp_path: Path) -> None:
    truth, video, mask = never_shown()
    mask[0] = False

    def refusal(picture: np.ndarray | Path, frame: int = MIDDLE) -> str:
        with pytest.raises(InputError) as error:
            opened(video, mask, picture, frame)
        return str(error.value)

    assert "the frames are 0 to 12" in refusal(truth[MIDDLE], 13)
    assert "counted from 0" in refusal(truth[MIDDLE], -1)
    assert "nothing is masked" in refusal(truth[0], 0)
    assert "does not match the shape of the clip" in refusal(truth[MIDDLE, :, :100])
    assert "does not match frame 6 around the mask" in refusal(see(world(seed=5), 80))
    assert "does not match frame 6 around the mask" in refusal(see(world(), 150))
    assert "is the same as frame 6 of the clip inside the mask" in refusal(video[MIDDLE])
    marked = truth[MIDDLE].copy()
    marked[50:70, 70:90] = MARK
    assert "is still magenta or transparent" in refusal(marked)
    transparent = np.dstack([truth[MIDDLE], np.where(mask[MIDDLE], np.uint8(0), np.uint8(255))])
    assert "is still magenta or transparent" in refusal(transparent)
    assert "does not exist" in refusal(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    assert "cannot be read" in refusal(tmp_path / "text.png")
    assert "shape (120, 176)" in refusal(truth[MIDDLE, ..., 0])


def test_a_few_pixels_left_marked_stay_masked() -> None:
    truth, video, mask = never_shown()
    picture = truth[MIDDLE].copy()
    spot = tuple(np.argwhere(mask[MIDDLE])[40])
    picture[spot] = MARK
    (reference,) = opened(video, mask, picture)
    _, left = apply_references(Clip.from_array(video), Mask.from_array(mask), [reference])
    assert np.array_equal(np.argwhere(left.numpy()[MIDDLE]), [spot])


def test_a_picture_saved_again_without_an_edit_is_recognised(tmp_path: Path) -> None:
    _, video, mask = never_shown()
    cv2.imwrite(str(tmp_path / "6.jpg"), video[MIDDLE, ..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    with pytest.raises(InputError, match="clean it first"):
        opened(video, mask, tmp_path / "6.jpg")


def test_a_faint_watermark_counts_as_an_edit() -> None:
    truth, _, mask = never_shown()
    video = truth.copy()
    video[mask] = np.clip(video[mask] * 0.92 + 20, 0, 255).astype(np.uint8)
    (reference,) = opened(video, mask, truth[MIDDLE])
    assert inside(reference, truth) > 40


def test_flat_ground_and_a_mask_of_the_whole_frame_need_no_alignment() -> None:
    truth = np.full((3, HEIGHT, WIDTH, 3), 90, np.uint8)
    mask = np.zeros((3, HEIGHT, WIDTH), bool)
    mask[:, 40:60, 40:60] = True
    video = truth.copy()
    video[mask] = 200
    assert inside(opened(video, mask, truth[1], 1)[0], truth) == 50
    whole = np.ones((3, HEIGHT, WIDTH), bool)
    whole[0] = False
    video = np.stack([see(world(1), 10 * t) for t in range(3)])
    ours = see(world(2), 50)
    (reference,) = opened(video, whole, ours, 1)
    assert np.array_equal(reference.pixels, ours)


def test_a_folder_names_its_pictures_by_frames(tmp_path: Path) -> None:
    truth, video, mask = never_shown()
    write_png(tmp_path / "006.png", truth[6])
    write_png(tmp_path / "006_mask.png", truth[6])
    write_png(tmp_path / "11.png", truth[11])
    (tmp_path / "notes.txt").write_text("mine")
    assert pictures_of(tmp_path) == {6: tmp_path / "006.png", 11: tmp_path / "11.png"}
    references = open_references(tmp_path, Clip.from_array(video), Mask.from_array(mask), DILATE)
    assert [reference.index for reference in references] == [6, 11]
    write_png(tmp_path / "06.png", truth[6])
    with pytest.raises(InputError, match=r"both .*06.png .*for frame 6"):
        pictures_of(tmp_path)
    write_png(tmp_path / "clean.png", truth[6])
    with pytest.raises(InputError, match=r"clean\.png is not named after a frame"):
        pictures_of(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no reference frame"):
        pictures_of(tmp_path / "empty")
    with pytest.raises(InputError, match="is not a folder"):
        pictures_of(tmp_path / "nowhere")


def plate(video: np.ndarray, mask: np.ndarray, report: Report | None = None, **options: object) -> np.ndarray:
    chosen = RemovalOptions(dilate=DILATE, **({"evidence": "only"} | options))  # type: ignore[arg-type]
    return np.stack(
        list(remove_frames(Clip.from_array(video), mask, chosen, runtime=Runtime(report=report or Report())))
    )


@pytest.mark.parametrize("evidence", ["only", "off", "auto"])
def test_removal_shows_the_reference_in_its_frame(evidence: str, model: Model) -> None:
    truth, video, mask = never_shown()
    told: list[np.ndarray] = []
    report = Report()
    options = RemovalOptions(dilate=DILATE, evidence=evidence, steps=1, references={MIDDLE: truth[MIDDLE]})
    made = np.stack(
        list(
            remove_frames(
                video,
                mask,
                options,
                runtime=Runtime(model=model, report=report),
                provenance=lambda s: told.append(s.copy()),
            )
        )
    )
    hole = np.stack([grow(masked, DILATE) for masked in mask])
    assert np.array_equal(made[~hole], video[~hole])
    assert np.array_equal(made[MIDDLE], np.where(hole[MIDDLE][..., None], truth[MIDDLE], video[MIDDLE]))
    assert (told[MIDDLE][hole[MIDDLE]] == State.GATHERED).all()
    assert [bool((state[~its] != State.ORIGINAL).any()) for state, its in zip(told, hole, strict=True)] == [
        False
    ] * FRAMES
    covered = report.results["references"][MIDDLE]
    if evidence == "off":  # nothing is carried: it covers its own frame
        assert covered == pytest.approx(1 / FRAMES, abs=0.02)
    else:
        assert covered > 0.9
        assert report.results["evidence"]["hidden"] == hole.sum()


def test_a_plan_for_more_of_the_clip_shows_the_reference_in_all_of_it() -> None:
    """As `run` plans with the objects alone, and goes on with their shadows."""
    truth, video, mask = never_shown()
    more = np.stack([grow(masked, 8) for masked in mask])
    video[more & ~mask] //= 2
    options = RemovalOptions(dilate=DILATE, feather=0, references={MIDDLE: truth[MIDDLE]})
    plan = plan_removal(video, mask, options, Runtime(model="none"))
    made = list(run_removal(plan.with_mask(Mask.from_array(more))))
    np.testing.assert_array_equal(made[MIDDLE], truth[MIDDLE])


def test_removal_is_better_near_a_reference_that_is_off_in_place_and_colour() -> None:
    truth, video, mask = never_shown()
    picture = np.clip(see(world(), 80 + 2.3 * MIDDLE + 2, 58) * 0.93 + 9, 0, 255).astype(np.uint8)
    near = [at for at in range(MIDDLE - 4, MIDDLE + 5) if at != MIDDLE]
    without, given = plate(video, mask), plate(video, mask, references={MIDDLE: picture})
    assert psnr(given[MIDDLE, None], truth[MIDDLE, None], mask[MIDDLE, None]) > 34
    assert psnr(given[near], truth[near], mask[near]) > psnr(without[near], truth[near], mask[near]) + 2


def test_a_model_is_not_asked_where_every_frame_has_a_reference(model: Model) -> None:
    truth, video, mask = never_shown(frames=2)
    made = remove(video, mask, model=model, evidence="off", dilate=DILATE, references=dict(enumerate(truth)))
    hole = np.stack([grow(masked, DILATE) for masked in mask])
    assert np.array_equal(made.numpy(), np.where(hole[..., None], truth, video))


@pytest.mark.slow
def test_a_reference_covers_what_no_frame_shows_and_no_more() -> None:
    truth, video, mask = passed_twice()

    def covered(frames: tuple[int, ...]) -> dict[int, float]:
        report = Report()
        plate(video, mask, report, references={at: truth[at] for at in frames})
        return report.results["references"]

    # The second half shows the first thing's place, and the first half the second's.
    assert covered((4, 9)) == {4: 0, 9: 0}
    # Two things that are never gone; nine frames hide both.
    mask[:] = mask[9]
    video = np.where(mask[..., None], np.array((20, 220, 240), np.uint8), truth)
    assert covered((9,)) == {9: 1}
    mask[10:, :, :90] = False
    mask[:10, :, 90:] = False
    video = np.where(mask[..., None], np.array((20, 220, 240), np.uint8), truth)
    assert covered((4, 12)) == {4: 0, 12: 0}


def suggested(video: np.ndarray, mask: np.ndarray, **options: int) -> list[Suggestion]:
    return list(suggest_references(video, mask, dilate=DILATE, **options))


def test_one_frame_is_suggested_where_it_covers_all() -> None:
    _, video, mask = never_shown()
    (one,) = suggested(video, mask)
    assert one.frame == MIDDLE  # nearest to all others
    assert one.covers > 0.99
    hole = grow(mask[MIDDLE], DILATE)
    assert np.array_equal(one.marked, hole)
    assert (one.picture[hole] == MARK).all()
    assert np.array_equal(one.picture[~hole], video[MIDDLE][~hole])


def test_only_what_no_frame_shows_is_marked() -> None:
    truth, video, mask = passed_twice()
    mask[:, 40:90, 100:150] = True  # the second is never gone, the first one goes
    video = np.where(mask[..., None], np.array((20, 220, 240), np.uint8), truth)
    (one,) = suggested(video, mask)
    assert not one.marked[:, :95].any()
    assert np.array_equal(one.picture[:, :95], truth[one.frame][:, :95])
    assert one.marked[40:90, 100:150].all()


def test_each_shot_has_its_own_frame_and_the_count_is_kept() -> None:
    truth = np.stack([see(world(4), 60)] * 6 + [see(world(5), 60)] * 4)
    mask = np.zeros((10, HEIGHT, WIDTH), bool)
    mask[:, 40:80, 60:110] = True
    video = truth.copy()
    video[mask] = (250, 20, 20)
    both = suggested(video, mask)
    assert [one.frame < 6 for one in both] == [True, False]
    assert [one.covers for one in both] == pytest.approx([0.6, 0.4], abs=0.02)
    (one,) = suggested(video, mask, count=1)
    assert one.frame < 6
    with pytest.raises(InputError, match="at least 1"):
        suggest_references(video, mask, count=0)


def test_nothing_is_suggested_where_other_frames_show_everything() -> None:
    _, video, mask = passed_twice()
    assert suggested(video, mask) == []


def test_frames_are_numbered_as_in_the_whole_clip() -> None:
    _, video, mask = never_shown()
    clip = Clip.from_array(video).cut(4, 11)
    (one,) = suggest_references(clip, mask, dilate=DILATE)
    assert one.frame == 7


def test_a_reference_of_an_interlaced_clip_is_named_by_its_frame() -> None:
    """Its frames here are fields, two for each of the file's; the picture is taken for the first of them."""
    truth, video, mask = never_shown()
    count = 2 * (FRAMES // 2)
    fields = replace(Clip.from_array(video[:count]), field_order="top")
    masks = Mask.from_array(mask[:count])
    (reference,) = open_references({3: truth[6]}, fields, masks, DILATE)
    assert (reference.index, reference.frame) == (6, 3)
    (reference,) = open_references({3: truth[6]}, fields.cut(4, 10), masks.cut(4, 10), DILATE)
    assert (reference.index, reference.frame) == (2, 3)
    with pytest.raises(InputError, match="are 0 to 5"):
        open_references({6: truth[6]}, fields, masks, DILATE)
    with pytest.raises(InputError, match="in this part of the clip are 2 to 4"):
        open_references({5: truth[10]}, fields.cut(4, 10), masks.cut(4, 10), DILATE)
    suggested = list(suggest_references(fields, masks, count=4))
    assert suggested
    frames = [suggestion.frame for suggestion in suggested]
    assert frames == sorted(set(frames))
    assert max(frames) < count // 2
    for suggestion in suggested:  # each is of its frame's first field
        seen = ~suggestion.marked & ~grow(mask[2 * suggestion.frame], 4)
        np.testing.assert_array_equal(suggestion.picture[seen], video[2 * suggestion.frame][seen])
