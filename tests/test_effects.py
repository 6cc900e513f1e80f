"""The model alone as witness, on a tiny random one: every shape of clip and mask, and what may not happen."""

import numpy as np
import pytest

import layerlift
from layerlift.clip import Clip
from layerlift.engine.base import Engine, Score
from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.errors import InputError
from layerlift.masks import Mask
from layerlift.options import EffectOptions
from layerlift.pixels.arrays import grow
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages.effects import FrameEffects, find_effects, mask, plan_effects, total_mask, with_effects
from layerlift.stages.spool import FrameSpool
from support import around, watched
from tiny_model import write_tiny_model

WIDTH, HEIGHT = 70, 42


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def policy() -> Policy:
    return choose_policy("cpu", resident=True)


def make_clip(frames: int, width: int = WIDTH, height: int = HEIGHT) -> Clip:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return Clip.from_array(pixels, 24, "clip")


def box(clip: Clip, rows: slice = slice(12, 26), columns: slice = slice(20, 40)) -> np.ndarray:
    there = np.zeros((clip.frame_count, clip.height, clip.width), bool)
    there[:, rows, columns] = True
    return there


def find(clip: Clip, objects: list[np.ndarray], model: Engine, policy: Policy, **options: object) -> list[FrameEffects]:
    # A random model finds what it finds: at a low threshold that is something.
    chosen = EffectOptions(**{"threshold": 0.1, "witnesses": "model", **options})  # type: ignore[arg-type]
    return list(find_effects(clip, objects, chosen, runtime=Runtime(model=model, policy=policy)))


def check(found: list[FrameEffects], clip: Clip, objects: list[np.ndarray]) -> None:
    assert len(found) == clip.frame_count
    for index, frame in enumerate(found):
        given = np.stack([own[index] for own in objects])
        assert (frame.objects == given).all()
        assert frame.effects.shape == frame.totals.shape == given.shape
        assert not (frame.effects & given.any(0)).any()
        assert frame.effects.sum(0).max() <= 1
        assert (frame.totals >= given).all()
        assert np.isfinite(frame.scores).all()
        assert frame.scores.min() >= 0
        assert frame.scores.max() <= 1


@pytest.mark.parametrize("frames", [1, 3, 9, 25])
@pytest.mark.parametrize("refine", ["edges", "none"])
def test_any_length(model: Model, policy: Policy, frames: int, refine: str) -> None:
    clip = make_clip(frames)
    found = find(clip, [box(clip)], model, policy, refine=refine)
    check(found, clip, [box(clip)])
    assert any(frame.effects.any() for frame in found)


@pytest.mark.parametrize("size", [(64, 48), (43, 71), (200, 30), (150, 110)])
def test_any_shape(model: Model, policy: Policy, size: tuple[int, int]) -> None:
    clip = make_clip(5, *size)
    check(find(clip, [box(clip)], model, policy), clip, [box(clip)])


def test_object_at_the_border(model: Model, policy: Policy) -> None:
    clip = make_clip(5)
    there = box(clip, slice(0, HEIGHT), slice(50, WIDTH))
    check(find(clip, [there], model, policy), clip, [there])


def test_object_that_vanishes_and_returns(model: Model, policy: Policy) -> None:
    """Over windows: some of them have no object at all, and are never shown to the model."""
    clip = make_clip(41)
    there = box(clip)
    there[3:36] = False
    found = find(clip, [there], model, policy)
    check(found, clip, [there])
    assert not any(frame.scores.any() for frame in found[14:26])
    assert found[0].scores.any()
    assert found[40].scores.any()


def test_an_object_in_every_pixel_of_some_frames(model: Model, policy: Policy) -> None:
    clip = make_clip(9)
    there = box(clip)
    there[3:] = True
    check(find(clip, [there], model, policy), clip, [there])


def test_two_objects_that_overlap(model: Model, policy: Policy) -> None:
    clip = make_clip(9)
    objects = [box(clip), box(clip, slice(20, 40), slice(30, 60))]
    found = find(clip, objects, model, policy, dilate=3)
    check(found, clip, objects)
    for index, frame in enumerate(found):
        assert not (frame.totals[0] & objects[1][index] & ~objects[0][index]).any()


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (np.zeros((5, HEIGHT, WIDTH), bool), "empty"),
        (np.ones((5, HEIGHT, WIDTH), bool), "white everywhere"),
        (np.ones((4, HEIGHT, WIDTH), bool), "4 frames"),
        (np.ones((5, HEIGHT, HEIGHT), bool), "does not match the shape of the clip"),
    ],
)
def test_masks_that_hold_no_object(model: Model, policy: Policy, there: np.ndarray, said: str) -> None:
    clip = make_clip(5)
    with pytest.raises(InputError, match=said):
        find_effects(clip, [box(clip), there], runtime=Runtime(model=model, policy=policy))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"sigmas": ()}, "sigma"),
        ({"sigmas": (0.3, 1.0)}, "1.0"),
        ({"dilate": -1}, "dilate"),
        ({"temporal_radius": -2}, "--temporal-radius is -2"),
        ({"max_distance": -1.0}, "--max-distance is -1"),
        ({"refine": "magic"}, "edges, none, plate"),
        ({"layers": (7,)}, "from 0 to 1"),
        ({"size": (8, 8)}, "8x8"),
        ({"prompt": "Fairies"}, "Empty"),
    ],
)
def test_options_that_cannot_be_used(model: Model, policy: Policy, options: dict, said: str) -> None:
    clip = make_clip(3)
    with pytest.raises(InputError, match=said):
        find_effects(clip, [box(clip)], EffectOptions(**options), runtime=Runtime(model=model, policy=policy))


def test_facts_of_a_model_are_read_once(model: Model, policy: Policy) -> None:
    """They take a tenth of a second, and every job plans with them."""
    assert model.facts([""], policy) is model.facts([""], policy)


def test_no_object_at_all(model: Model) -> None:
    with pytest.raises(InputError, match="no object mask"):
        find_effects(make_clip(1), [], runtime=Runtime(model=model))


def test_nothing_is_read_before_the_first_frame(model: Model, policy: Policy) -> None:
    engine, opened = watched(model)
    clip = make_clip(3)
    found = find_effects(clip, [box(clip)], EffectOptions(witnesses="model"), Runtime(model=engine, policy=policy))
    assert opened == []
    next(found)
    assert [part for part, _ in opened] == ["encoding", "scoring"]


def telling(model: Model, scores: np.ndarray) -> Engine:
    """The model, but with these scores of a clip of one window."""

    def score(_: Score, latents: np.ndarray, *__: object) -> np.ndarray:
        beyond = 1 + model.geometry.time * (latents.shape[2] - 1) - scores.shape[1]
        return np.pad(scores, ((0, 0), (0, beyond), (0, 0), (0, 0)))

    return around(model, "scoring", score)


@pytest.fixture
def plain() -> Clip:
    """A grey clip, lighter in the rows of its topmost cells."""
    frames = np.full((3, 48, 64, 3), 128, np.uint8)
    frames[:, :16] = 200
    return Clip.from_array(frames, 24, "plain")


def test_options_reach_the_pixels(model: Model, policy: Policy, plain: Clip) -> None:
    there = box(plain, slice(0, 16), slice(0, 16))
    scores = np.zeros((1, 3, 3, 4), np.float32)
    scores[:, :, 1, :2] = 0.8
    scores[:, 1, 2, :4] = 0.6
    told = telling(model, scores)
    given = {"threshold": 0.3, "refine": "none", "temporal_radius": 0}
    found = find(plain, [there], told, policy, **given)
    assert found[0].effects[0, 24, 16]
    assert not found[0].effects[0, 40].any()
    assert found[1].effects[0, 40].all()
    assert (found[1].scores == scores[:, 1]).all()
    # the row that only one frame has is spread over its neighbours, or over so many that it is lost
    assert find(plain, [there], told, policy, **{**given, "temporal_radius": 1})[0].effects[0, 44].any() == False  # noqa: E712
    near = find(plain, [there], told, policy, **{**given, "max_distance": 17})
    assert not near[1].effects[0, 40, 40:].any()
    high = find(plain, [there], told, policy, **{**given, "threshold": 0.7})
    assert not high[1].effects[0, 40].any()
    grown = find(plain, [there], told, policy, **{**given, "dilate": 4})
    assert (grown[0].totals[0] == grow(found[0].totals[0], 4)).all()
    assert grown[0].totals.sum() > found[0].totals.sum()


def test_join_grows_over_no_other_object() -> None:
    objects, caused = np.zeros((2, 2, 9, 9), bool)
    objects[0, 2, 2] = objects[1, 2, 4] = caused[0, 3, 2] = True
    totals = with_effects(objects, caused, 2)
    assert totals[0, 5, 2]
    assert not totals[0, 2, 4]
    assert not totals[1, 2, 2]
    assert (with_effects(objects, caused, 0) == objects | caused).all()


def test_plate_keeps_of_the_effects_what_removal_changed(model: Model, policy: Policy) -> None:
    """An object is in one of three frames, and darkens what lies below it on the left: the others show the ground."""
    ground = np.random.default_rng(0).integers(90, 170, (12, 16, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    frames = np.stack([ground] * 3)
    frames[1, :16, :16] = 255
    frames[1, 16:, :32] -= 60
    clip = Clip.from_array(frames, 24, "shadow")
    there = box(clip, slice(0, 16), slice(0, 16))
    there[[0, 2]] = False
    scores = np.zeros((1, 3, 3, 4), np.float32)
    scores[:, 1, 1:] = 0.38
    told = telling(model, scores)

    def found(refine: str, threshold: float) -> np.ndarray:
        given = {"refine": refine, "threshold": threshold, "temporal_radius": 0}
        return find(clip, [there], told, policy, **given)[1].effects[0]

    assert found("edges", 0.2)[20:].mean() > 0.9
    # A plate is asked about more than edges alone call an effect.
    assert not found("edges", 0.3).any()
    plate = found("plate", 0.3)
    assert plate[20:, :28].mean() > 0.9
    assert not plate[:, 40:].any()


def test_plate_runs_with_a_real_removal(model: Model, policy: Policy) -> None:
    clip = make_clip(3)
    there = box(clip, slice(2, 8), slice(2, 8))
    check(find(clip, [there], model, policy, refine="plate", max_distance=0), clip, [there])


def test_from_python(model: Model) -> None:
    clip = make_clip(5)
    there = box(clip)
    report = Report()
    given = {"model": model, "device": "cpu", "threshold": 0.1, "witnesses": "model"}
    found = mask(clip, [there, box(clip, slice(30, 40))], report=report, **given)
    assert layerlift.mask is mask
    assert found.effects.shape == (2, 5, HEIGHT, WIDTH)
    assert found.scores.shape == (2, 5, 3, 4)
    assert (found.total.numpy() == found.totals[0].numpy() | found.totals[1].numpy()).all()
    assert found.total.numpy()[there].all()
    assert list(report.stages) == ["text", "encode", "look", "draw"]
    assert report.sizes["objects"] == 2
    assert report.results["threshold"] == 0.1
    # One mask needs no list, one still is every frame's, an array is a clip.
    alone = mask(clip.numpy(), there[0], sigmas=(0.4,), **given)
    again = mask(clip, Mask.from_array(there), sigmas=[0.4], **given)
    assert (alone.effects == again.effects).all()
    assert (alone.effects != mask(clip, there, sigmas=(0.1,), **given).effects).any()


def test_total_mask_for_removal(model: Model, policy: Policy) -> None:
    clip = make_clip(5)
    with FrameSpool() as spool:
        plan = plan_effects(clip, [box(clip)], EffectOptions(threshold=0.1, witnesses="model"), Runtime(model, policy))
        total = total_mask(plan, spool)
        found = find(clip, [box(clip)], model, policy)
        assert (total.numpy() == np.stack([frame.totals[0] for frame in found])).all()


def test_windows_hand_over_where_removal_does(model: Model, policy: Policy) -> None:
    """Every frame's scores come from the window that keeps it, in order."""
    windows = []

    def numbered(_: Score, latents: np.ndarray, *__: object) -> np.ndarray:
        frames = 1 + 4 * (latents.shape[2] - 1)
        windows.append(frames)
        scores = np.arange(frames, dtype=np.float32) / 100 + 0.2 * len(windows)
        return np.broadcast_to(scores[None, :, None, None], (1, frames, 3, 4))

    clip = make_clip(20)
    engine = around(model, "scoring", numbered)
    found = find(clip, [box(clip)], engine, policy, temporal_radius=0, threshold=0.9)
    plan = plan_effects(clip, [box(clip)], EffectOptions(), Runtime(model, policy)).attention
    assert plan is not None
    assert len(windows) == len(plan.windows) > 1
    for number, window in enumerate(plan.windows, 1):
        for index in range(window.keep_start, window.keep_stop):
            assert found[index].scores[0, 0, 0] == pytest.approx((index - window.start) / 100 + 0.2 * number)


def test_the_removal_that_a_refinement_needs_is_planned_with_the_user_s_memory(model: Model, policy: Policy) -> None:
    """Before anything is looked for, and not with what the machine has."""
    clip, runtime = make_clip(5), Runtime(model, policy, memory_bytes=2**30)
    assert plan_effects(clip, [box(clip)], EffectOptions(refine="edges"), runtime).removal is None
    removal = plan_effects(clip, [box(clip)], EffectOptions(refine="plate"), runtime).removal
    assert removal is not None
    assert removal.job is not None
    assert removal.job.plan.request.memory == 2**30
