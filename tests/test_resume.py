"""Jobs that are interrupted, at any step, go on from what they have kept and make the very same frames."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from layerlift import Clip, EffectOptions, ExtractionOptions, RemovalOptions, RunOptions, Runtime
from layerlift.clip import open_clip
from layerlift.clip.rgba_reader import open_layer
from layerlift.engine.base import Engine
from layerlift.engine.device import choose_policy
from layerlift.engine.model import open_model
from layerlift.evidence.tracing import ROUNDS, STEPS
from layerlift.jobs.job import Job
from layerlift.jobs.keeper import kept
from layerlift.jobs.manifest import Manifest
from layerlift.masks import Mask
from layerlift.options import LatentCompositionOptions, SegmentationOptions
from layerlift.room import evidence_room, segment_room
from layerlift.stages.composition.latent import plan_latent_composition, run_latent_composition
from layerlift.stages.effects import FrameEffects, plan_effects, run_effects
from layerlift.stages.layers import plan_extraction, run_extraction
from layerlift.stages.removal import plan_removal
from layerlift.stages.removal.going_on import go_on_removing
from layerlift.stages.run import open_inputs, plan_run, run_stages
from layerlift.stages.segment import Prompts, Target, plan_segmentation, run_segmentation
from layerlift.stages.segment.mobile import MobileSamSegmenter
from layerlift.stages.segment.survey import EVERY
from support import Killed, Kills, survive
from tiny_model import write_tiny_model

FRAMES, HEIGHT, WIDTH = 40, 48, 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), frames=9))


def panned() -> tuple[Clip, Mask]:
    """A camera that pans along a fence; the object stands before it, at times in the picture's middle, and one place
    behind it is never seen."""
    rng = np.random.default_rng(3)
    ground = np.kron(rng.integers(40, 220, (12, 40, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = np.stack([ground[:, index : index + WIDTH] for index in range(FRAMES)])
    hidden = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for index in range(FRAMES):
        left = 20 + index // 8
        hidden[index, 10:36, left : left + 22] = True
    frames = np.where(hidden[..., None], np.array([220, 30, 30], np.uint8), frames)
    return Clip.from_array(frames, 24), Mask.from_array(hidden)


def removed(runtime: Runtime) -> np.ndarray:
    clip, mask = panned()
    plan = plan_removal(clip, mask, RemovalOptions(steps=2, window=9, context=1), runtime.part("removal"))
    states = list[np.ndarray]()
    plates = np.stack(list(go_on_removing(plan, states.append)))
    return np.concatenate([plates, np.stack(states)[..., None]], -1)


@pytest.mark.parametrize(
    ("every", "least"), [pytest.param(7, 30, marks=pytest.mark.slow), pytest.param(60, 4, marks=pytest.mark.slow)]
)
def test_a_removal_without_a_model_survives(every: int, least: int, tmp_path: Path) -> None:
    runtime = Runtime("none", choose_policy("cpu"))
    made, kills = survive(tmp_path / "job", runtime, removed, every)
    assert kills >= least
    np.testing.assert_array_equal(made, removed(runtime))


def test_the_room_that_is_asked_for_is_what_files_take(tmp_path: Path) -> None:
    job = Job(tmp_path / "job")
    job.begin(Manifest("remove", "out.mkv", "", {}, {}))
    steps = (1 + STEPS) * FRAMES + 3  # of motion, traces, and a little of gathering
    with pytest.raises(Killed):
        removed(Runtime("none", choose_policy("cpu"), keeper=job.keeper, progress=Kills(steps)))
    sizes = {path.name: path.stat().st_size for path in (job.folder / "shelves" / "removal").iterdir()}
    job.finish()
    taken = sum(sizes[name] for name in ("proxies", *(f"filled-{number}" for number in range(len(ROUNDS)))))
    assert evidence_room(panned()[0]) <= taken <= 1.1 * evidence_room(panned()[0])
    seen = 2 * math.prod(MobileSamSegmenter.embedding_shape) / EVERY
    assert segment_room(panned()[0], seen=True) - segment_room(panned()[0], seen=False) == FRAMES * seen


@pytest.mark.slow
@pytest.mark.parametrize("work", ["removal", "segmentation"])
def test_work_survives_a_power_cut(work: str, tmp_path: Path) -> None:
    def segmented(runtime: Runtime) -> np.ndarray:
        plan = plan_segmentation(objects()[0], TARGETS, SegmentationOptions("classic"), runtime.part("objects"))
        return np.stack(list(run_segmentation(plan)))

    runtime, make = Runtime("none", choose_policy("cpu")), removed if work == "removal" else segmented
    whole = make(runtime)
    for every in (31, 90, 130) if work == "removal" else (37, 60):
        made, kills = survive(tmp_path / str(every), runtime, make, every, power=False)
        assert kills >= 2
        np.testing.assert_array_equal(made, whole)


@pytest.mark.parametrize("evidence", [pytest.param("auto", marks=pytest.mark.slow), "off"])
def test_a_removal_with_a_model_survives(evidence: str, model: Engine, tmp_path: Path) -> None:
    def work(runtime: Runtime) -> np.ndarray:
        clip, mask = panned()
        options = RemovalOptions(steps=2, window=9, context=1, evidence=evidence, dilate=2)
        plan = plan_removal(clip, mask, options, runtime.part("removal"))
        return np.stack(list(go_on_removing(plan)))

    runtime = Runtime(model, choose_policy("cpu"))
    made, kills = survive(tmp_path / "job", runtime, work, 33)
    assert kills >= 3
    np.testing.assert_array_equal(made, work(runtime))


def test_what_goes_on_counts_on_the_memory_that_there_was_when_it_began(
    model: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be planned otherwise where another program has taken some: half the clip made so, half so."""
    there = iter(range(40, 0, -1))
    monkeypatch.setattr("layerlift.engine.planning.usable_memory", lambda _: next(there) << 30)

    def planned(job: Job) -> int:
        runtime = Runtime(model, choose_policy("cpu"), keeper=job.keeper).part("removal")
        plan = plan_removal(*panned(), RemovalOptions(window=9, evidence="off"), runtime)
        assert plan.job is not None
        assert runtime.memory_for(model) == plan.job.plan.request.memory
        return plan.job.plan.request.memory >> 30

    manifest = Manifest("remove", "out.mkv", "", {}, {})
    job = Job(tmp_path / "job")
    assert planned(job) == 40
    job.begin(manifest)
    with job.keeper.shelf("plate") as shelf:
        shelf.put(0, np.arange(999))
    job.leave()
    for _ in range(2):
        job = Job(tmp_path / "job", resume=True)
        assert planned(job) == 40
        job.begin(manifest)
        job.leave()
    job = Job(tmp_path / "job")
    assert planned(job) < 40
    job.begin(manifest)
    job.finish()


def objects() -> tuple[Clip, list[Mask]]:
    """An object that walks over a still ground, with a shadow, and one that stands."""
    rng = np.random.default_rng(5)
    ground = np.kron(rng.integers(90, 200, (12, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = np.repeat(ground[None], FRAMES, 0)
    masks = np.zeros((2, FRAMES, HEIGHT, WIDTH), bool)
    for index in range(FRAMES):
        left = 2 + index
        masks[0, index, 12:24, left : left + 8] = True
        frames[index, 24:28, left : left + 12] //= 2
    masks[1, :, 30:40, 50:60] = True
    frames[masks[0]], frames[masks[1]] = (220, 30, 30), (30, 30, 220)
    return Clip.from_array(frames, 24), [Mask.from_array(mask) for mask in masks]


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finder looks at few frames together: a window is what is done again."""
    for name, frames in {"WINDOW": 10, "LEAST_WINDOW": 10, "MARGIN": 4}.items():
        monkeypatch.setattr(f"layerlift.finder.find.{name}", frames)


@pytest.mark.parametrize(
    ("witnesses", "refine", "every"),
    [
        pytest.param("clip", "edges", 200, marks=pytest.mark.slow),
        pytest.param("all", "edges", 240, marks=pytest.mark.slow),
        ("model", "edges", 13),
        pytest.param("clip", "plate", 200, marks=pytest.mark.slow),
    ],
)
def test_a_search_for_effects_survives(
    witnesses: str, refine: str, every: int, *, model: Engine, tmp_path: Path, small_windows: None
) -> None:
    def work(runtime: Runtime) -> np.ndarray:
        clip, masks = objects()
        options = EffectOptions(witnesses=witnesses, refine=refine)
        plan = plan_effects(clip, masks, options, runtime.part("effects"), RemovalOptions(steps=1, window=9))
        found = kept(plan.runtime.keeper, "frames", partial(run_effects, plan), FrameEffects.pack, FrameEffects.unpack)
        frames = list(found)
        kinds.append(runtime.report.results.get("kinds"))
        return np.stack([frame.totals for frame in frames])

    kinds = list[object]()
    runtime = Runtime("none" if witnesses == "clip" else model, choose_policy("cpu"))
    made, kills = survive(tmp_path / "job", runtime, work, every)
    assert kills >= 1
    np.testing.assert_array_equal(made, work(runtime))
    assert kinds[-1] == kinds[-2]


def test_an_extraction_survives(tmp_path: Path) -> None:
    def work(runtime: Runtime) -> np.ndarray:
        clip, masks = objects()
        plate = next(clip.cut(FRAMES - 1, FRAMES).frames())[None]
        plan = plan_extraction(clip, plate, masks, None, ExtractionOptions(), runtime.part("layers"))
        return np.stack([np.stack(layers) for layers in run_extraction(plan)])

    runtime = Runtime("none", choose_policy("cpu"))
    made, kills = survive(tmp_path / "job", runtime, work, 11)
    assert kills >= 3
    np.testing.assert_array_equal(made, work(runtime))


@pytest.mark.parametrize("refine", [True, False])
def test_a_latent_composition_survives(refine: bool, model: Engine, tmp_path: Path) -> None:
    def work(runtime: Runtime) -> np.ndarray:
        clip, masks = objects()
        plate = next(clip.cut(FRAMES - 1, FRAMES).frames())[None]
        told: dict[str, list[np.ndarray]] = {"latent": [], "injected": []}
        options = LatentCompositionOptions(refine=refine, steps=2)
        plan = plan_latent_composition(clip, plate, masks[:1], masks[0], panned()[0], options, runtime)
        frames = list(run_latent_composition(plan, lambda name, frame: told[name].append(frame)))
        return np.stack([np.stack(part) for part in (frames, told["latent"], told["injected"])])

    runtime = Runtime(model, choose_policy("cpu"))
    made, kills = survive(tmp_path / "job", runtime, work, 23)
    assert kills >= 3
    np.testing.assert_array_equal(made, work(runtime))


def clicked(*at: tuple[int, int], inside: bool = True) -> Prompts:
    return Prompts(np.array(at, np.float32), np.full(len(at), inside))


# Whoever is walked with is clicked on in the middle, corrected by a click and by a mask; the other has a box.
TARGETS = [
    Target("walks", {13: clicked((18, 18)), 22: clicked((27, 35), inside=False)}, {30: objects()[1][0].numpy()[30]}),
    Target("stands", {0: Prompts(box=(48, 28, 62, 42))}),
]


@pytest.mark.parametrize(
    ("segmenter", "every"), [("classic", 19), pytest.param("mobile-sam", 41, marks=pytest.mark.slow)]
)
def test_a_segmentation_survives(segmenter: str, every: int, tmp_path: Path) -> None:
    def work(runtime: Runtime) -> np.ndarray:
        plan = plan_segmentation(objects()[0], TARGETS, SegmentationOptions(segmenter), runtime.part("objects"))
        labels = np.stack(list(run_segmentation(plan)))
        shown.append(runtime.report.results["frames with the object"])
        return labels

    shown = list[object]()
    runtime = Runtime("none", choose_policy("cpu"))
    made, kills = survive(tmp_path / "job", runtime, work, every)
    assert kills >= 3
    np.testing.assert_array_equal(made, work(runtime))
    assert shown[-1] == shown[-2]
    assert set(np.unique(made)) == {0, 1, 2}


@pytest.mark.slow
def test_the_whole_job_survives(model: Engine, tmp_path: Path, small_windows: None) -> None:
    def work(runtime: Runtime) -> np.ndarray:
        clip, masks = objects()
        options = RunOptions(RemovalOptions(steps=1, window=9, evidence="off"), EffectOptions(), lossless=True)
        plan = plan_run(open_inputs(clip, masks, onto=panned()[0]), options, runtime)
        folder = tmp_path / "whole"
        if runtime.keeper.lasts:
            folder = tmp_path / "job" / "made"
        folder.mkdir(exist_ok=True)
        files = run_stages(plan, folder)
        assert files.composite is not None
        layers = [np.stack(list(open_layer(path).frames())) for path in files.layers]
        clips = [open_clip(path).numpy() for path in (files.background, files.total_mask, files.composite)]
        return np.concatenate([*(np.rint(255 * layer[..., :3]) for layer in layers), *clips])

    runtime = Runtime(model, choose_policy("cpu"))
    made, kills = survive(tmp_path / "job", runtime, work, 220)
    assert kills >= 3
    np.testing.assert_array_equal(made, work(runtime))
