"""Effects found in the clip itself: what travels, what is decided, what users paint, and the whole way on scenes."""

from pathlib import Path

import numpy as np
import pytest

import layerlift
from layerlift.clip import Clip, open_clip
from layerlift.engine.finder import CHANNELS as COUNT
from layerlift.engine.finder import KINDS, network
from layerlift.errors import InputError
from layerlift.evidence import EvidenceOptions, State, gather_evidence
from layerlift.finder.decide import decide, kinds_of, names_of, steadied, wanted
from layerlift.finder.find import Seen, judged, look, windows_of
from layerlift.finder.inputs import CHANNELS, Looked, averages_of, channels, mirror
from layerlift.finder.mirrored import reflection_of
from layerlift.finder.plate import first_look, gather_plate, second_look
from layerlift.finder.small import small_masks, small_size
from layerlift.finder.stir import stir_of
from layerlift.finder.travel import Place, average, brought, places
from layerlift.masks import Mask, open_mask
from layerlift.progress import QUIET
from layerlift.scenes import make_scene
from layerlift.scenes.demo_clip import write_demo_clip
from layerlift.stages.effects.brushes import brushed, open_brushes
from layerlift.stages.effects.votes import small_votes, with_votes

HEIGHT, WIDTH, FRAMES = 48, 80, 12


def walking(step: int = 4) -> np.ndarray:
    """An object that walks to the right, (1, F, H, W) bool."""
    there = np.zeros((1, FRAMES, HEIGHT, WIDTH), bool)
    for index in range(FRAMES):
        there[0, index, 10:26, 8 + step * index : 18 + step * index] = True
    return there


def test_an_object_s_place_follows_it() -> None:
    found = places(walking()[0])
    x = [place.x for place in found if place is not None]
    assert len(x) == FRAMES
    assert np.diff(x)[3:-3] == pytest.approx(4, abs=0.2)
    assert found[5] is not None
    assert found[5].foot == pytest.approx(25)
    assert found[5].unit == pytest.approx(np.sqrt(160), rel=0.01)
    gone = walking()[0]
    gone[4] = False
    assert places(gone)[4] is None


def test_what_travels_with_the_object_stays_and_the_rest_smears_out() -> None:
    masks = walking()[0]
    changes = [np.zeros((HEIGHT, WIDTH, 3), np.float32) for _ in masks]
    for index, change in enumerate(changes):
        change[28:34, 8 + 4 * index : 18 + 4 * index] = -30  # below the object, wherever it is
        change[28:34, 60:70] += 30 * (-1) ** index  # flickers in its own place
    where = places(masks)
    averages = average(changes, [np.ones((HEIGHT, WIDTH), np.float32)] * FRAMES, where)
    place = where[4]
    assert place is not None
    seen = brought(averages, place, (WIDTH, HEIGHT))
    assert seen[30, 27, 0] < -20
    assert seen[30, 27, 4] > 0.7
    assert abs(seen[30, 65, 0]) < 10
    assert seen[30, 65, 4] < 0.6


def test_the_mirrored_object_lies_below_its_foot() -> None:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:20, 30:40] = True
    frame[10:12, 30:40] = 200  # its head
    picture, shown = mirror(frame, mask, Place(35, 15, 10, 19))
    assert shown[20:29, 30:40].all()
    assert shown.sum() == 90
    assert (picture[27:29, 30:40] == 200).all()
    assert not (picture & shown[..., None])[20:27].any()


def test_channels_are_what_the_network_takes() -> None:
    ground = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames = np.stack([ground] * FRAMES)
    objects = np.concatenate([walking(), walking(1)])
    known = np.ones((FRAMES, HEIGHT, WIDTH), bool)
    stir = stir_of(frames, objects.any(0))
    looked = Looked(frames, objects, frames, known, stir)
    averages = averages_of(looked, 0)
    given = channels(looked, 0, [3, 5], averages)
    assert given.shape == (2, HEIGHT, WIDTH, len(CHANNELS))
    assert given.dtype == np.float32
    assert len(CHANNELS) == COUNT
    assert np.abs(given).max() <= 1
    assert (given[0, ..., CHANNELS.index("object")] == objects[0, 3]).all()
    assert (given[0, ..., CHANNELS.index("others")] == (objects[1, 3] & ~objects[0, 3])).all()
    again = channels(looked, 0, [5], averages)
    assert (again[0] == given[1]).all()
    # What the plate only fills says nothing of an object that stands still.
    other = Looked(frames, objects, 255 - frames, known & False, stir)
    standing = Looked(frames, objects[:, :1].repeat(FRAMES, 1), 255 - frames, known & False, stir)
    assert channels(other, 0, [3], averages_of(other, 0))[..., 5:8].any()
    assert not channels(standing, 0, [3], averages_of(standing, 0))[..., 5:8].any()
    # Nothing is known beneath an object and at its edge.
    assert not given[..., CHANNELS.index("known")][:, 10:26][objects[0, [3, 5], 10:26]].any()


def test_what_stirs_is_told_along_the_camera_s_motion() -> None:
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 200, (24, 60, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)  # (96, 240, 3)
    frames = np.stack([ground[:, 6 * index : 6 * index + 160] for index in range(FRAMES)])  # the camera pans
    hidden = np.zeros((FRAMES, 96, 160), bool)
    hidden[:, 30:60, 60:80] = True
    frames[hidden] = 0
    for frame in frames:
        frame[10:26, 100:140] = rng.integers(0, 256, (16, 40, 3))  # never rests
    seen = stir_of(frames, hidden)
    stir, known = seen.levels, seen.known
    assert stir.shape == known.shape == (FRAMES, 96, 160, 2)
    assert not known[:, 40, 70].any()
    assert known[6, 70, 80, 0]
    assert known[2, 70, 80, 1]
    assert not known[6, 70, 80, 1]  # neither frame is in the clip
    assert stir[6, 12:24, 104:136, 0].mean() > 40
    assert stir[6, 64:90, 50:130, 0].mean() < 4


def test_nothing_stirs_across_a_cut() -> None:
    rng = np.random.default_rng(0)
    shots = [rng.integers(0, 256, (24, 40, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(2)]
    frames = np.stack([shots[index >= 6] for index in range(FRAMES)])
    stir = stir_of(frames, np.zeros((FRAMES, 96, 160), bool))
    assert stir.levels.max() == 0
    assert stir.known[5, ..., 0].all()  # from the frame before, in its own shot
    assert not stir.known[..., 1].any()


def test_a_second_look_is_at_what_was_found() -> None:
    objects = walking()
    first = first_look(objects)
    assert first[objects[0]].all()
    assert first[0, 40, 12]  # where it would be mirrored
    found = np.zeros_like(objects)
    found[0, 0, 40:44, 60:70] = True
    second = second_look(objects, found)
    assert second[0, 42, 65]
    assert not second[1, 42, 65]
    assert second[1].sum() < first[1].sum()


def test_a_plate_shows_what_other_frames_do() -> None:
    ground = np.random.default_rng(0).integers(60, 200, (12, 20, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    objects = walking()
    frames = np.stack([ground] * FRAMES)
    frames[objects[0]] = (250, 20, 20)
    plate, known = gather_plate(frames, first_look(objects, 0.3))
    sure = known & objects[0]
    assert sure.sum() > 0.5 * objects[0].sum()
    assert np.abs(plate.astype(int) - ground)[sure].mean() < 3


def test_windows_cover_a_clip_once() -> None:
    for count in (1, 191, 192, 193, 1000):
        spans = windows_of(count)
        assert [number for start, stop, *_ in spans for number in range(start, stop)] == list(range(count))
        assert all(first <= start < stop <= end for start, stop, first, end in spans)
        assert max(end - first for *_, first, end in spans) <= 192 + 48


def test_windows_are_shorter_with_many_objects() -> None:
    assert windows_of(1000, 3) == windows_of(1000)
    for objects in (4, 6, 12):
        assert max(stop - start for start, stop, *_ in windows_of(1000, objects)) * objects <= 3 * 192
    assert max(stop - start for start, stop, *_ in windows_of(1000, 50)) == 48


def test_the_small_picture_keeps_thin_masks() -> None:
    clip = Clip.from_array(np.zeros((1, 400, 1000, 3), np.uint8))
    assert small_size(clip) == (288, 115)
    thin = np.zeros((1, 400, 1000), bool)
    thin[0, :, 500] = True
    assert small_masks(Mask.from_array(thin), 0, 1, (288, 115)).any()


def test_only_what_lasts_and_lies_near_is_an_effect() -> None:
    objects = walking()
    likely = np.zeros(objects.shape, np.float32)
    for index in range(FRAMES):
        likely[0, index, 26:32, 8 + 4 * index : 18 + 4 * index] = 0.8  # at its feet
    likely[0, 3, 2:6, 70:76] = 0.8  # far away and short
    likely[0, 4, 40, 5] = 0.95  # a speck
    kept = decide(likely, objects, steady=0)
    assert (kept[0, 5, 26:32, 28:38] == np.float32(0.8)).all()
    assert not kept[0, 3, 2:6, 70:76].any()
    assert not kept[0, 4, 40, 5]
    assert not (kept > 0)[0][objects[0]].any()
    assert not decide(likely, objects, steady=0, max_distance=3)[0, 5, 30:].any()
    assert decide(likely, objects, steady=0, threshold=0.9).max() == 0


def test_steadying_follows_the_object() -> None:
    objects = walking()
    values = np.zeros((FRAMES, HEIGHT, WIDTH), np.float32)
    for index in range(FRAMES):
        values[index, 30:34, 8 + 4 * index : 18 + 4 * index] = 1
    values[6] = 0  # missed once
    calm = steadied(values, places(objects[0]), 2)
    assert calm[6, 31, 36] > 0.6
    assert calm[5, 31, 32] > 0.6
    assert calm[6, 31, 60] == 0


def test_kinds_that_are_not_wanted_are_none() -> None:
    likely = np.zeros((1, 1, 5, 1, 3), np.float16)
    likely[0, 0, :, 0, 0] = (0.1, 0.7, 0.2, 0, 0)
    likely[0, 0, :, 0, 1] = (0.1, 0.2, 0.7, 0, 0)
    likely[0, 0, 0, 0, 2] = 1
    assert wanted(likely, KINDS[1:])[0, 0, 0] == pytest.approx([0.9, 0.9, 0], abs=1e-3)
    assert wanted(likely, ("shadow",))[0, 0, 0] == pytest.approx([0.9, 0, 0], abs=1e-3)
    decided = wanted(likely, KINDS[1:])[:, 0]
    assert names_of(kinds_of(decided, likely[:, 0])) == ["shadow"]
    assert names_of(kinds_of(np.ones_like(decided), 0 * likely[:, 0])) == ["unknown"]  # someone else found it
    assert names_of(np.zeros((2, 5))) == ["none", "none"]


def test_what_is_painted_holds_and_frames_nearby_follow() -> None:
    clip = Clip.from_array(np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8))
    objects = walking()
    painted = np.zeros((HEIGHT, WIDTH), bool)
    painted[28:34, 28:38] = True  # below the object in frame 5
    likely = np.full(objects.shape, 0.2, np.float32)
    more = open_brushes(clip, [(painted, 5)], [])
    out = brushed(likely, objects, more, 0)
    assert (out[0, 5][painted] == 1).all()
    assert out[0, 6, 30, 36] > 0.8  # moved along
    assert out[0, 6, 30, 28] == pytest.approx(0.2)
    assert out[0, 0, 30, 12] < out[0, 4, 30, 28]
    less = open_brushes(clip, [], [(painted, 5)])
    out = brushed(np.full(objects.shape, 0.9, np.float32), objects, less, 0)
    assert (out[0, 5][painted] == 0).all()
    assert out[0, 6, 30, 36] < 0.2
    assert out[0, 11, 30, 40] > 0.5
    everywhere = brushed(likely, objects, open_brushes(clip, [painted], []), 0)
    assert (everywhere[0, :, 30, 30] == 1).all()
    with pytest.raises(InputError, match="--effects is for frame 12, but clip has frames 0 to 11: give one of them"):
        open_brushes(clip, [(painted, 12)], [])
    # Frames count in the whole clip.
    (late,) = open_brushes(clip.cut(4, 9), [(painted, 5)], [])
    assert late.frame == 1


def seen_of(known: np.ndarray, objects: np.ndarray) -> Seen:
    likely = np.zeros((1, FRAMES, 5, HEIGHT, WIDTH), np.float16)
    nothing = np.zeros((FRAMES, HEIGHT, WIDTH), np.float16)
    return Seen(0, objects, likely, np.zeros(objects.shape, np.float16), nothing, known)


def test_the_model_is_heard_where_the_clip_cannot_tell_and_only_if_they_agree() -> None:
    objects = walking()
    known = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    known[:, :40] = True
    likely = np.zeros(objects.shape, np.float32)
    likely[0, :, 28:34, 30:50] = 0.9
    votes = np.where(likely > 0, 0.5, 0.05).astype(np.float32)
    votes[0, :, 42:46, 50:70] = 0.5  # where nothing is known
    out = with_votes(likely, seen_of(known, objects), votes, 0.3)
    assert (out[0, :, 42:46, 50:70] > 0.5).all()
    assert (out[0, ..., :40] == likely[0, ..., :40])[known[..., :40] & ~objects[0, ..., :40]].all()
    chance = np.random.default_rng(0).random(objects.shape).astype(np.float32)
    assert (with_votes(likely, seen_of(known, objects), chance, 0.3) == likely).all()
    # Where nothing moves nothing is known, and the model alone is left.
    still = with_votes(np.zeros_like(likely), seen_of(known & False, objects), 1.2 * votes, 0.3)
    assert (still[0, :, 42:46, 50:70] > 0.5).all()


def test_votes_lie_where_their_cells_do() -> None:
    scores = np.zeros((1, 1, 3, 4), np.float32)
    scores[0, 0, 1, 2] = 1
    votes = small_votes(scores, (20, 20), (40, 30), (80, 60))
    assert np.unravel_index(votes.argmax(), votes.shape)[2:] == pytest.approx((15, 25), abs=1)


def test_the_network_s_sides_need_not_be_multiples_of_its_step() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), dtype=np.uint8)
    objects = np.zeros((1, 3, 50, 70), bool)
    objects[0, :2, 10:30, 20:40] = True
    stir = stir_of(frames, objects[0])
    likely, strength = judged(Looked(frames, objects, frames, np.zeros((3, 50, 70), bool), stir))
    assert likely.shape == (1, 3, 5, 50, 70)
    assert likely.astype(np.float32).sum(2) == pytest.approx(np.ones((1, 3, 50, 70)), abs=0.01)
    assert (likely[0, 2, 0] == 1).all()  # the object is not there
    assert strength.max() <= 1
    assert network(True) is network(True)
    assert network(True) is not network(False)


def test_a_clip_without_its_object_has_nothing_to_see() -> None:
    clip = Clip.from_array(np.zeros((3, 60, 90, 3), np.uint8))
    ((start, stop, seen),) = look(clip, [Mask.from_array(np.zeros((3, 60, 90), bool))], QUIET)
    assert (start, stop) == (0, 3)
    assert (seen.likely[:, :, 0] == 1).all()


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(1000, marks=pytest.mark.slow),
        pytest.param(1001, marks=pytest.mark.slow),
        pytest.param(1003, marks=pytest.mark.slow),
    ],
)
def test_scenes_without_a_model(seed: int) -> None:
    scene = make_scene(seed)
    found = layerlift.mask(scene.video, list(scene.object_masks), model="none")
    truth, own = scene.effect_masks.any(0) & ~scene.object_mask, found.effects.any(0)
    if not scene.spec.has_effects:
        assert own.sum() < 0.1 * scene.object_mask.sum()
        assert set(found.kinds) == {"none"}
        return
    assert (truth & own).sum() / (truth | own).sum() > 0.75
    again = layerlift.mask(scene.video, list(scene.object_masks), model="none")
    assert (again.effects == found.effects).all()
    named = {str(effect) for effects in scene.spec.effects for effect in effects}
    assert set(found.kinds) - {"none"} <= named
    assert (
        layerlift.mask(scene.video, list(scene.object_masks), model="none", kinds=("light",)).effects.sum()
        < 0.2 * own.sum()
    )


@pytest.mark.slow
def test_soft_is_between_nothing_and_the_object() -> None:
    scene = make_scene(1001)
    plan = layerlift.plan_effects(scene.video, list(scene.object_masks), runtime=layerlift.Runtime(model="none"))
    frame = next(layerlift.run_effects(plan))
    soft = frame.soft()
    assert (soft[frame.objects] == 1).all()
    assert (soft[~frame.totals] == 0).all()
    assert 0 < soft[frame.effects].min() < soft[frame.effects].max() <= 1


@pytest.mark.slow
def test_python_takes_brushes() -> None:
    scene = make_scene(1001, frames=5)
    painted = np.zeros(scene.video.shape[1:3], bool)
    painted[4:20, 250:280] = True
    found = layerlift.mask(scene.video, list(scene.object_masks), model="none", effects=[(painted, 2)])
    assert found.total.numpy()[2][painted].all()
    erased = layerlift.mask(scene.video, list(scene.object_masks), model="none", not_effects=[~painted])
    assert (erased.total.numpy() == scene.object_mask).all()
    assert not (erased.effects & ~painted).any()


def test_what_only_the_model_finds_is_believed_if_it_is_quiet_elsewhere() -> None:
    objects = walking()
    known = np.ones((FRAMES, HEIGHT, WIDTH), bool)
    nothing = np.zeros(objects.shape, np.float32)
    votes = nothing.copy()
    votes[0, :, 28:34, 30:40] = 0.5
    assert (with_votes(nothing, seen_of(known, objects), votes, 0.3)[0, :, 28:34, 30:40] > 0.5).all()
    votes[0, :, 30:] = 0.5  # it calls everything an effect
    assert (with_votes(nothing, seen_of(known, objects), votes, 0.3) == nothing).all()


@pytest.mark.slow
def test_what_was_found_is_hidden_when_the_plate_is_gathered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(1001, frames=9)
    hidden = []

    def gathering(frames: np.ndarray, where: np.ndarray, *more: object) -> tuple[np.ndarray, np.ndarray]:
        hidden.append(where)
        return gather_plate(frames, where)

    monkeypatch.setattr("layerlift.finder.find.gather_plate", gathering)
    layerlift.mask(scene.video, list(scene.object_masks), model="none")
    first, second = hidden
    effects = scene.effect_masks.any(0)
    assert first.sum() > second.sum()
    assert second[effects].mean() > 0.95


@pytest.mark.slow
def test_gathering_without_fills_gathers_the_same() -> None:
    scene = make_scene(1002, frames=9)
    clip, mask = Clip.from_array(scene.video), Mask.from_array(scene.total_mask)
    taken = []
    for fills in (True, False):
        with gather_evidence(clip, mask, dilate=0, options=EvidenceOptions(fills=fills)) as found:
            frames, states = map(np.stack, zip(*found.frames(), strict=True))
        taken.append((frames[states == State.GATHERED], states))
    assert (taken[0][1] == taken[1][1]).all()
    assert (taken[0][0] == taken[1][0]).all()


@pytest.mark.slow
def test_the_low_sun_s_shadows_of_the_package_s_clip_are_found(tmp_path: Path) -> None:
    write_demo_clip(tmp_path)
    clip = open_clip(tmp_path / "video.mkv")
    masks = [open_mask(tmp_path / f"object_mask_{number}.mkv", clip).numpy() for number in (0, 1)]
    truth = open_mask(tmp_path / "total_mask.mkv", clip).numpy() & ~masks[0] & ~masks[1]
    found = layerlift.mask(clip, masks, model="none")
    own = found.effects.any(0)
    assert set(found.kinds) == {"shadow"}
    assert (truth & own).sum() / (truth | own).sum() > 0.6


def standing_over_water(opacity: float, gap: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A patterned object that stands over grey water which mirrors it: frames, masks (F, H, W) and its reflection."""
    rng = np.random.default_rng(2)
    ground = np.full((80, 120, 3), 110, np.uint8) + rng.integers(0, 9, (80, 120, 3), dtype=np.uint8)
    pattern = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1)
    frame, mask, reflection = ground.astype(float), np.zeros((80, 120), bool), np.zeros((80, 120), bool)
    mask[8:38, 40:70] = True
    reflection[38 + gap : 68 + gap, 40:70] = True
    frame[8:38, 40:70] = pattern
    below = frame[38 + gap : 68 + gap, 40:70]
    below[:] = (1 - opacity) * below + opacity * pattern[::-1]
    frames = np.stack([frame + rng.normal(0, 2, frame.shape) for _ in range(FRAMES)]).clip(0, 255).astype(np.uint8)
    return frames, np.stack([mask] * FRAMES), np.stack([reflection] * FRAMES)


def test_what_an_object_that_stands_looks_like_is_its_reflection() -> None:
    frames, masks, truth = standing_over_water(0.4)
    found = reflection_of(frames, masks, places(masks))
    assert found is not None
    likely, strength = found
    own = likely > 0.4
    assert (own & truth).sum() / (own | truth).sum() > 0.85
    assert strength[truth].mean() == pytest.approx(0.4, abs=0.1)
    # Neither a still floor nor an object on it that is no mirror image is one.
    plain, *_ = standing_over_water(0)
    assert reflection_of(plain, masks, places(masks)) is None
    other = plain.copy()
    other[:, 41:71, 40:70] = np.random.default_rng(3).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    assert reflection_of(other, masks, places(masks)) is None


def test_a_reflection_is_added_to_what_the_network_says() -> None:
    frames, masks, truth = standing_over_water(0.4)
    looked = Looked(frames, masks[None], frames, np.zeros(masks.shape, bool), stir_of(frames, masks))
    likely, strength = judged(looked)
    assert likely.astype(np.float32).sum(2) == pytest.approx(np.ones((1, *masks.shape)), abs=0.01)
    assert np.median(likely[0, :, KINDS.index("reflection")][truth]) > 0.6
    assert np.median(strength[0][truth]) > 0.3
