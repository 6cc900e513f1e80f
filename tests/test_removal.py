"""Removal end to end on a tiny random model: what it promises about every pixel, frame and weight."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from layerlift.clip import Clip, open_clip, write_clip
from layerlift.clip.samples import Samples, frame_of
from layerlift.engine.base import Decode, Denoise, Encode, Engine
from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.errors import InputError
from layerlift.evidence import State
from layerlift.geometry.fit import Window, fit_windows, latent_frames
from layerlift.options import RemovalOptions
from layerlift.pixels.arrays import grow
from layerlift.pixels.paste import ColorMatch, feather_alpha, paste
from layerlift.pixels.work import Patch
from layerlift.progress import Progress
from layerlift.report import Report
from layerlift.runtime import Runtime
from layerlift.stages import removal
from layerlift.stages.removal import remove, remove_frames
from layerlift.stages.removal.paste_back import paste_generated
from layerlift.stages.windows import cut
from support import around
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return open_model(folder)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Keeps the components of the tiny model: freeing them is what costs time here."""
    return choose_policy("cpu", resident=True)


def plate(clip: Clip, mask: np.ndarray, model: Engine, policy: Policy, **options) -> np.ndarray:
    """The clean plate, all of it generated: the frames of these clips are noise and tell nothing of each other."""
    options = {"evidence": "off"} | options
    return np.stack(
        list(remove_frames(clip, mask, RemovalOptions(**options), runtime=Runtime(model=model, policy=policy)))
    )


def make_clip(frames: int, width: int = 70, height: int = 42, seed: int = 0) -> Clip:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return Clip.from_array(pixels, Fraction(30000, 1001), "clip")


def box_mask(clip: Clip, frames: slice = slice(None)) -> np.ndarray:
    mask = np.zeros((clip.frame_count, clip.height, clip.width), bool)
    mask[frames, 15:25, 20:35] = True
    return mask


@pytest.mark.parametrize("frames", [1, 6, 9, 25])
@pytest.mark.parametrize("size", [(70, 42), (43, 71), (200, 30)])
def test_only_pixels_of_the_grown_mask_change(model: Model, policy: Policy, frames: int, size: tuple[int, int]) -> None:
    clip = make_clip(frames, *size)
    mask = box_mask(clip)
    for own, made, masked in zip(clip.numpy(), plate(clip, mask, model, policy, dilate=3), mask, strict=True):
        assert (own[~grow(masked, 3)] == made[~grow(masked, 3)]).all()
        assert (own[masked] != made[masked]).any(-1).mean() > 0.9


def test_remove_is_the_clip_with_other_pixels(folder: Path, model: Model, policy: Policy) -> None:
    clip = make_clip(5)
    mask = box_mask(clip)
    made = remove(clip, mask, model=folder, device="cpu", seed=3, evidence="off")
    assert (made.width, made.height, made.frame_count, made.rate, made.name) == (70, 42, 5, clip.rate, "clip")
    assert (made.numpy() == plate(clip, mask, model, policy, seed=3)).all()
    # Arrays are clips and masks as well.
    assert (remove(clip.numpy(), mask, model=model, device="cpu", seed=3, evidence="off").numpy() == made.numpy()).all()


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"step": 3}, "unknown choice 'step': give one of .*steps"),
        ({"device": "cpu"}, "both runtime and device were given"),
        ({"report": Report()}, "both runtime and report were given"),
    ],
)
def test_choices_that_would_be_lost_are_refused(model: Model, choices: dict[str, Any], said: str) -> None:
    clip = make_clip(1)
    with pytest.raises(TypeError, match=said):
        remove(clip, box_mask(clip), runtime=Runtime(model), **choices)


def test_what_lies_under_the_mask_does_not_matter(model: Model, policy: Policy) -> None:
    """Bit for bit: not through the VAE, not through the feather, not through the colours."""
    clip = make_clip(9)
    mask = box_mask(clip)
    other = clip.numpy()
    other[mask] = 255 - other[mask]
    one, two = (plate(source, mask, model, policy) for source in (clip, Clip.from_array(other, clip.rate)))
    assert (one == two).all()


def test_what_lies_under_the_growth_does_not_matter_without_a_feather(model: Model, policy: Policy) -> None:
    """A mask that is too tight is cured by --dilate: what it grew over is hidden from the model as well."""
    clip = make_clip(5)
    mask = box_mask(clip)
    other = clip.numpy()
    grown = np.stack([grow(masked, 6) for masked in mask])
    other[grown] = 255 - other[grown]
    one, two = (
        plate(source, mask, model, policy, dilate=6, feather=0) for source in (clip, Clip.from_array(other, clip.rate))
    )
    assert (one == two).all()


def test_the_seed_decides(model: Model, policy: Policy) -> None:
    clip = make_clip(13)
    mask = box_mask(clip)
    one, again, other = (plate(clip, mask, model, policy, seed=seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one[mask] != other[mask]).any()


def test_a_still_mask_is_every_frames(model: Model, policy: Policy) -> None:
    clip = make_clip(5)
    mask = box_mask(clip)
    still, moving = (plate(clip, m, model, policy) for m in (mask[0], mask))
    assert (still == moving).all()


def test_every_window_gives_back_what_the_heap_keeps(
    model: Model, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else gaps between things still used add up over a long clip. The heap is glibc's: a stand-in tells its calls."""
    given_back: list[int] = []
    monkeypatch.setattr("layerlift.engine.device.memory._glibc", lambda name: given_back.append)
    clip = make_clip(41)
    plate(clip, box_mask(clip), model, policy)
    windows = fit_windows(41, model.settings.frames, model.geometry.time)
    assert len(windows) > 1
    assert len(given_back) == 3 * len(windows)  # encoded, denoised, decoded


class Spy:
    """Counts what a removal asks of its model, by `engine`."""

    def __init__(self, model: Engine) -> None:
        self.encoded = self.decoded = 0
        self.denoised: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # latents in, unknown, latents out

        def encode(run: Encode, *given: Any) -> np.ndarray:
            self.encoded += 1
            return run(*given)

        def decode(run: Decode, *given: Any) -> Iterator[Any]:
            self.decoded += 1
            return run(*given)

        def denoise(run: Denoise, before: np.ndarray, unknown: np.ndarray, *given: Any) -> np.ndarray:
            made = run(before, unknown, *given)
            self.denoised.append((before.copy(), unknown.copy(), made))
            return made

        self.engine = around(around(around(model, "encoding", encode), "decoding", decode), "denoising", denoise)


def test_windows_without_a_mask_cost_nothing_and_their_frames_pass(model: Model, policy: Policy) -> None:
    spy = Spy(model)
    clip = make_clip(41)
    windows = fit_windows(41, model.settings.frames, model.geometry.time)
    last = windows[-1]
    mask = box_mask(clip, slice(last.keep_stop - 2, None))
    made = plate(clip, mask, spy.engine, policy, crop=True)
    assert len(windows) > 2
    assert (spy.encoded, len(spy.denoised), spy.decoded) == (1, 1, 1)
    assert (made[: last.keep_stop - 2] == clip.numpy()[: last.keep_stop - 2]).all()


def test_what_windows_share_is_generated_once(model: Model, policy: Policy) -> None:
    spy = Spy(model)
    clip = make_clip(33)
    plate(clip, box_mask(clip), spy.engine, policy, context=0)
    windows = fit_windows(33, model.settings.frames, model.geometry.time)
    assert len(spy.denoised) == len(windows) > 2
    for window, before, now in zip(windows[1:], spy.denoised, spy.denoised[1:], strict=False):
        shared, source = slice(1, 1 + window.carried), slice(1 + window.shift, 1 + window.shift + window.carried)
        assert window.carried > 0
        assert not now[1][shared].any()
        assert (now[2][:, :, shared] == before[2][:, :, source]).all()
        assert now[1][0].any()  # frame 0 has no equal: it is generated again


def test_asking_where_pixels_come_from_changes_none(model: Model, policy: Policy) -> None:
    """Frames with the same mask share what is known of them."""
    clip = make_clip(5)
    mask, told = box_mask(clip), []
    options = RemovalOptions(evidence="off", dilate=2)
    made = remove_frames(clip, mask, options, runtime=Runtime(model=model, policy=policy), provenance=told.append)
    assert (np.stack(list(made)) == plate(clip, mask, model, policy, dilate=2)).all()
    grown = grow(mask[0], 2)
    for state in told:
        assert (state[grown] == State.GENERATED).all()
        assert (state[~grown] == State.ORIGINAL).all()
    assert len(told) == 5


@pytest.mark.slow
def test_a_small_mask_is_generated_from_its_surroundings_alone(model: Model, policy: Policy) -> None:
    spy = Spy(model)
    clip = make_clip(33, 400, 300)
    mask = np.zeros((33, 300, 400), bool)
    for i in range(33):
        mask[i, 100:120, 100 + 6 * i : 120 + 6 * i] = True
    report = Report()
    options = RemovalOptions(evidence="off", dilate=3, size=(192, 160), crop=True)
    made = np.stack(
        list(remove_frames(clip, mask, options, runtime=Runtime(model=spy.engine, policy=policy, report=report)))
    )
    grown = np.stack([grow(masked, 3) for masked in mask])
    assert (made[~grown] == clip.numpy()[~grown]).all()
    assert (made[mask] != clip.numpy()[mask]).any(-1).mean() > 0.9
    boxes = report.sizes["boxes"]
    assert boxes[0] < boxes[1] < boxes[-1]  # it follows the object
    assert report.sizes["scaled"] == [400, 300]  # at the clip's own resolution
    whole = plate(clip, mask, model, policy, crop=False, dilate=3, size=(192, 160))
    assert (whole[~grown] == clip.numpy()[~grown]).all()
    # What two windows share is known in the second where their boxes overlap, as the first generated it.
    space = model.geometry.space
    windows = fit_windows(33, model.settings.frames, model.geometry.time)
    for window, at, to, before, now in zip(windows[1:], boxes, boxes[1:], spy.denoised, spy.denoised[1:], strict=False):
        shared, source = slice(1, 1 + window.carried), slice(1 + window.shift, 1 + window.shift + window.carried)
        assert not now[1][shared].any()
        across, down = ((b - a) // space for a, b in zip(at, to, strict=True))
        assert across > 0
        assert down == 0
        assert (now[2][:, :, shared, :, :-across] == before[2][:, :, source, :, across:]).all()


@pytest.mark.parametrize(
    ("options", "windows"),
    [({}, 1), ({"crop": True}, 1), ({"window": 9}, 7), ({"window": 9, "crop": True}, 7), ({"window": 21}, 2)],
)
def test_small_pictures_are_seen_in_longer_windows_unless_the_user_says_otherwise(
    tmp_path: Path, policy: Policy, options: dict[str, Any], windows: int
) -> None:
    # 4 × 3 tokens of a model of 12 × 9: nine times as many latent frames as its own three would have as many tokens.
    large = open_model(write_tiny_model(tmp_path / "large", size=[192, 144], longest=33))
    clip = make_clip(33, 64, 48)
    report = Report()
    chosen = RemovalOptions(evidence="off", **options)
    list(remove_frames(clip, box_mask(clip), chosen, runtime=Runtime(model=large, policy=policy, report=report)))
    assert len(report.sizes["windows"]) == windows
    assert report.results["tokens"]["all"] == sum(
        12 * latent_frames(stop - start, 4) for start, stop in report.sizes["windows"]
    )


@pytest.mark.slow
def test_the_user_s_windows_are_those_of_a_crop_too(tmp_path: Path, policy: Policy) -> None:
    large = open_model(write_tiny_model(tmp_path / "large", size=[400, 304], longest=17))
    clip = make_clip(17, 400, 300)
    mask = np.zeros((300, 400), bool)
    mask[100:120, 100:120] = True
    for window, lengths in ((None, {17}), (9, {9})):
        report = Report()
        options = RemovalOptions(evidence="off", crop=True, window=window)
        list(remove_frames(clip, mask, options, runtime=Runtime(model=large, policy=policy, report=report)))
        assert report.sizes["padded"] != [400, 304]
        assert {stop - start for start, stop in report.sizes["windows"]} == lengths
    report = Report()
    remove(clip, mask, model=large, device="cpu", evidence="off", window=9, report=report)
    assert {stop - start for start, stop in report.sizes["windows"]} == {9}


@pytest.mark.parametrize(
    ("evidence", "crop", "near"),
    [("off", None, False), ("off", True, True), ("auto", None, True), ("auto", False, False)],
)
def test_the_crop_is_for_what_evidence_leaves(
    model: Model, policy: Policy, evidence: str, crop: bool | None, near: bool
) -> None:
    """Without evidence the rest of the picture may tell what the hole hides."""
    clip = make_clip(5, 400, 300)
    mask = np.zeros((300, 400), bool)
    mask[100:130, 100:130] = True
    report = Report()
    options = RemovalOptions(evidence=evidence, crop=crop, size=(192, 160))
    list(remove_frames(clip, mask, options, runtime=Runtime(model=model, policy=policy, report=report)))
    assert (report.sizes["scaled"] == [400, 300]) == near


def test_frames_are_dealt_to_windows_and_the_last_is_repeated() -> None:
    late = (Window(5, 9, 5, 9), Window(12, 16, 12, 14))
    assert [items for _, items in cut(iter(range(14)), late)] == [[5, 6, 7, 8], [12, 13, 13, 13]]
    for count in (1, 7, 9, 10, 40, 61):
        windows = fit_windows(count, 17, 4)
        dealt = list(cut(iter(range(count)), windows))
        assert [window for window, _ in dealt] == list(windows)
        for window, items in dealt:
            assert items == [min(i, count - 1) for i in range(window.start, window.stop)]


def test_only_one_component_is_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    events: list[str] = []
    alive: list[weakref.ref] = []
    for kind in ("vae_encoder", "transformer", "vae_decoder"):
        opened = getattr(Model, kind)

        @contextmanager
        def watched(self: Model, policy: Policy, opened=opened, kind: str = kind) -> Iterator[object]:
            assert not any(ref() for ref in alive), f"something is still there when {kind} comes"
            with opened(self, policy) as component:
                alive.append(weakref.ref(component))
                events.append(kind)
                yield component
                del component

        monkeypatch.setattr(Model, kind, watched)
    clip = make_clip(9)
    options = RemovalOptions(evidence="off")
    frames = remove_frames(
        clip, box_mask(clip), options, runtime=Runtime(model=open_model(folder), policy=choose_policy("cpu"))
    )
    assert events == []  # nothing is read before the first frame is asked for
    assert len(list(frames)) == 9
    assert events == ["vae_encoder", "transformer", "vae_decoder"]


class Log:
    """A progress that adds up."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int | None]] = {}

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator["Log"]:
        self.now = self.stages.setdefault(name, [total, 0])
        yield self

    def advance(self, steps: int = 1) -> None:
        self.now[1] += steps


def test_progress_reaches_its_totals_and_the_report_knows_sizes(model: Model, policy: Policy) -> None:
    log, report = Log(), Report()
    clip = make_clip(20)
    progress: Progress = log
    options = RemovalOptions(evidence="off")
    list(
        remove_frames(
            clip, box_mask(clip), options, runtime=Runtime(model=model, policy=policy, progress=progress, report=report)
        )
    )
    assert list(log.stages) == list(report.stages) == ["encode", "text", "denoise", "decode"]
    assert all(total in (None, done) for total, done in log.stages.values())
    assert report.sizes["clip"] == [70, 42, 20]
    assert report.sizes["padded"] == [64, 48]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"steps": 0}, "--steps is 0"),
        ({"guidance": 0.5}, "--guidance is 0.5"),
        ({"guidance": float("nan")}, "--guidance is nan"),
        ({"dilate": -1}, "dilate is -1"),
        ({"feather": -2}, "feather is -2"),
        ({"dilate": 2, "feather": 5}, "--feather is 5"),
        ({"size": (8, 64)}, "--size 8x64"),
        ({"prompt": "a cat"}, "a cat"),
        ({"evidence": "some"}, "evidence 'some'"),
    ],
)
def test_what_cannot_be_used_is_said_at_once(model: Model, policy: Policy, given: dict, says: str) -> None:
    clip = make_clip(3)
    with pytest.raises(InputError, match=says):
        remove_frames(clip, box_mask(clip), RemovalOptions(**given), runtime=Runtime(model=model, policy=policy))


def test_the_feather_grows_the_mask_with_it() -> None:
    clip = make_clip(3)
    assert removal.choose_margin(RemovalOptions(feather=9), clip) == removal.Margin(9, 9)
    assert removal.choose_margin(RemovalOptions(dilate=4), clip) == removal.Margin(4, 4)
    assert removal.choose_margin(RemovalOptions(), make_clip(1, 854, 480)) == removal.Margin(4, 4)


@pytest.mark.parametrize("feather", [0, 1, 6])
def test_the_feather_lies_inside_what_was_grown(feather: int) -> None:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:80] = True  # touches the picture's border, which is no seam
    grown = grow(mask, 6)
    alpha = feather_alpha(grown, feather)
    assert (alpha[~grown] == 0).all()
    assert (alpha[mask] == 1).all()
    assert (alpha[grown] > 0).all()
    if feather == 6:
        assert ((alpha > 0) & (alpha < 1)).any()
        assert (np.abs(np.diff(alpha[30])) < 0.2).all()


def test_paste_keeps_the_frame_beyond_the_mask() -> None:
    frame = make_clip(1).numpy()[0]
    mask = box_mask(make_clip(1))[0]
    made = paste(frame, np.full(frame.shape, 300, np.float32), mask, 0)
    assert (made[mask] == 255).all()
    assert (made[~mask] == frame[~mask]).all()
    whole = paste(frame, np.full(frame.shape, 9, np.float32), np.ones_like(mask), 4)
    assert (whole == 9).all()


def test_colours_are_matched_in_the_ring_and_detail_is_kept() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128].astype(np.float32)
    truth = (np.stack([x, y, x + y], -1) / 2 + 60 + rng.normal(0, 10, (96, 128, 3))).astype(np.float32)
    mask = np.zeros((96, 128), bool)
    mask[30:66, 40:90] = True
    frame = np.rint(truth).astype(np.uint8)
    frame[mask] = 0
    generated = truth + np.array([12, -9, 5], np.float32) + rng.normal(0, 3, truth.shape).astype(np.float32)
    match = ColorMatch()
    matched = match(generated, frame, mask)
    assert np.abs((matched - truth)[mask].mean(0)).max() < 1.0
    # Smooth: what was added varies little from pixel to pixel.
    assert np.abs(np.diff(matched - generated, axis=0)).max() < 1.0
    # Steady: another frame with the same difference but other noise moves the correction only a little.
    again = generated + rng.normal(0, 3, truth.shape).astype(np.float32)
    assert np.abs((match(again, frame, mask) - again) - (matched - generated)).max() < 1.5


def test_colours_are_matched_afresh_after_a_frame_without_a_mask() -> None:
    clip = make_clip(1)
    (frame,), mask = clip.numpy(), box_mask(clip)[0]
    pink, blank = np.full(frame.shape, 200, np.float32), np.zeros_like(mask)

    def pasted(masks: list[np.ndarray], news: list[np.ndarray | None]) -> np.ndarray:
        frames = [(frame, np.where(mask, np.uint8(State.UNKNOWN), np.uint8(State.ORIGINAL))) for mask in masks]
        patches = [None if new is None else Patch((0, 0, clip.width, clip.height), new) for new in news]
        return list(paste_generated(frames, patches, 2, choose_policy("cpu")))[-1]

    alone = pasted([mask], [pink])
    assert (pasted([mask, blank, mask], [pink / 2, None, pink]) == alone).all()
    assert (pasted([mask, mask], [pink / 2, pink]) != alone).any()


def test_a_wrong_ring_moves_colours_only_so_far() -> None:
    frame = np.full((64, 64, 3), 255, np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[20:44, 20:44] = True
    matched = ColorMatch()(np.zeros((64, 64, 3), np.float32), frame, mask)
    assert matched.max() <= 24.5


def walking_box(frames: int = 17) -> tuple[Clip, np.ndarray, np.ndarray]:
    """A clip of a still, textured background that a red box walks across, its mask, and the background (H, W, 3)."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(60, 200, (8, 12, 3), dtype=np.uint8)
    background = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    mask = np.zeros((frames, *background.shape[:2]), bool)
    for i in range(frames):
        mask[i, 20:40, 4 + 4 * i : 20 + 4 * i] = True
    pixels = np.where(mask[..., None], np.array([255, 0, 0], np.uint8), background)
    return Clip.from_array(pixels), mask, background


def test_what_other_frames_show_is_taken_and_not_generated(model: Model, policy: Policy) -> None:
    clip, mask, background = walking_box()
    report, states = Report(), []
    runtime = Runtime(model, policy, report=report)
    made = np.stack(list(remove_frames(clip, mask, RemovalOptions(), runtime, provenance=states.append)))
    assert np.abs(made.astype(int) - background).max() <= 2  # a model of random weights could not know it
    assert (np.stack(states)[mask] == State.GATHERED).all()
    assert report.results["tokens"]["unknown"] == 0
    assert report.results["evidence"]["gathered"] == 1


def test_what_no_frame_shows_is_generated_and_said(model: Model, policy: Policy) -> None:
    clip, mask, background = walking_box()
    mask[:, 20:40, 40:48] = True  # never seen
    states: list[np.ndarray] = []
    made = np.stack(
        list(
            remove_frames(
                clip, mask, RemovalOptions(), runtime=Runtime(model=model, policy=policy), provenance=states.append
            )
        )
    )
    state = np.stack(states)
    never = np.zeros_like(mask)
    never[:, 22:38, 42:46] = True
    assert (state[never] == State.GENERATED).all()
    assert not (state == State.UNKNOWN).any()
    own = state == State.ORIGINAL
    assert (made[own] == clip.numpy()[own]).all()
    gathered = state == State.GATHERED
    far = gathered & ~np.stack([grow(frame, 6) for frame in state == State.GENERATED])
    assert far.any()
    assert np.abs(made.astype(int) - background)[far].max() <= 16  # within what is called gathered
    assert np.abs(made.astype(int) - background)[far].mean() < 1


def test_without_a_model_what_no_frame_shows_is_inpainted() -> None:
    clip, mask, background = walking_box()
    mask[:, 20:40, 40:48] = True
    made = np.stack(list(remove_frames(clip, mask, runtime=Runtime(model="none"))))
    red = (made[..., 0] > 230) & (made[..., 1:].max(-1) < 30)
    assert not red.any()
    assert np.abs(made.astype(int) - background).mean() < 2


def test_a_clip_with_alpha_keeps_it_in_python(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 48, 64, 4), dtype=np.uint8)
    frames[..., 3] = np.where(np.arange(64) < 20, 90, 255)
    (tmp_path / "clip").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{index}.png")
    mask = np.zeros((48, 64), bool)
    mask[20:30, 30:44] = True
    made = remove(tmp_path / "clip", mask, model="none")
    assert made.has_alpha
    back = np.stack(list(made.rgba_frames()))
    np.testing.assert_array_equal(back[..., 3], frames[..., 3])
    np.testing.assert_array_equal(back[..., :3], made.numpy())
    path = write_clip(tmp_path / "out.mkv", made.frames(), made, lossless=True)
    np.testing.assert_array_equal(np.stack(list(open_clip(path).rgba_frames())), back)


@pytest.mark.parametrize("pan", [pytest.param(0.0, marks=pytest.mark.slow), 1.5])
def test_a_ramp_of_ten_bits_has_no_bands_where_something_was(tmp_path: Path, pan: float) -> None:
    """Gathering sees 8 bits, of which this ramp has one for every eight pixels; the clip has four between them."""
    frames, height, width = 12, 120, 240
    column, row = np.arange(width)[None], np.arange(height)[:, None]
    truth = np.stack([np.rint(200 + (column + pan * t) / 2 + row / 4).astype(np.uint16) for t in range(frames)])
    mask = np.zeros((frames, height, width), bool)
    for t in range(frames):
        mask[t, 40:80, 20 + 13 * t : 56 + 13 * t] = True
    content = np.where(mask, np.uint16(900), truth)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        for luma in content:
            planes = [luma, *[np.full((height // 2, width // 2), 512, np.uint16)] * 2]
            frame = frame_of(planes, Samples("yuv", 10, (1, 1)))
            frame.color_range = 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = open_clip(tmp_path / "in.mkv")
    made = remove_frames(clip, mask, RemovalOptions(evidence="only"))
    path = write_clip(tmp_path / "out.mkv", made, clip, lossless=True)
    pictures = open_clip(path).pictures
    assert pictures is not None
    luma = np.stack([picture.planes()[0] for picture in pictures(0, frames)]).astype(int)
    off = np.abs(luma - truth)[mask]
    assert off.mean() < 0.5
    assert off.max() <= 4  # one level of eight bits
    seen, wanted = (len(np.unique(values[6, 60, 98:134])) for values in (luma, truth))
    assert seen >= 0.8 * wanted  # of 8 bits, a quarter
