"""One clip on several devices: what comes out is what one device makes, bit for bit, however the work is shared."""

from dataclasses import replace
from pathlib import Path
from threading import active_count
from time import sleep
from typing import Any

import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.engine.base import Engine
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.errors import InputError
from layerlift.options import RemovalOptions, RuntimeOptions
from layerlift.progress import CancelledError
from layerlift.report import Report
from layerlift.runtime import Runtime, open_runtime
from layerlift.stages.removal import plan_removal, remove_frames
from layerlift.stages.removal.going_on import go_on_removing
from support import Instead, Steps, around, failing, survive
from tiny_model import write_tiny_model

FRAMES = 41
TWO = ("cpu", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def clip() -> Clip:
    pixels = np.random.default_rng(0).integers(0, 256, (FRAMES, 42, 70, 3), dtype=np.uint8)
    return Clip.from_array(pixels, 24, "clip")


def mask_of(*ranges: range) -> np.ndarray:
    """A box that is there in these frames."""
    mask = np.zeros((FRAMES, 42, 70), bool)
    for frames in ranges:
        mask[frames.start : frames.stop, 15:25, 20:35] = True
    return mask


def runtime_of(model: Engine, devices: tuple[str, ...], **more: Any) -> Runtime:
    return Runtime(model=model, policy=choose_policy("cpu", resident=True), devices=devices, **more)


def made(model: Engine, clip: Clip, mask: np.ndarray, runtime: Runtime, **options: Any) -> np.ndarray:
    chosen = RemovalOptions(**{"evidence": "off", "window": 9, "dilate": 2} | options)
    return np.stack([*remove_frames(clip, mask, chosen, runtime)])


ALWAYS, APART, LATE = (range(FRAMES),), (range(4), range(17, 20), range(34, 36)), (range(30, 41),)


@pytest.mark.parametrize("frames", [ALWAYS, APART, LATE], ids=["always", "apart", "late"])
@pytest.mark.parametrize(
    ("options", "count"), [({}, 2), ({"crop": False}, 3), ({"context": 3}, 2)], ids=["crop", "whole", "context"]
)
def test_several_devices_make_what_one_makes(
    model: Model, clip: Clip, frames: tuple[range, ...], options: dict[str, Any], count: int
) -> None:
    mask = mask_of(*frames)
    alone = made(model, clip, mask, runtime_of(model, ()), **options)
    assert (made(model, clip, mask, runtime_of(model, ("cpu",) * count), **options) == alone).all()
    assert ((alone != clip.numpy()).any((1, 2, 3)) == mask.any((1, 2))).all()


@pytest.mark.parametrize("stochastic", [True, False])
def test_noise_is_drawn_as_by_one_device(model: Model, clip: Clip, stochastic: bool) -> None:
    """In every step, and by decoders that draw it while they decode."""
    like = replace(model.settings, stochastic=stochastic)
    other = Instead(model, draws_while_decoding=lambda: not stochastic)
    vars(other)["settings"] = like
    mask = mask_of(*APART)
    alone = made(other, clip, mask, runtime_of(other, ()))
    assert (made(other, clip, mask, runtime_of(other, TWO)) == alone).all()


@pytest.mark.parametrize(("frames", "most"), [(APART, 2), (ALWAYS, 1)], ids=["apart", "always"])
def test_windows_wait_for_each_other_only_where_they_share_what_is_generated(
    model: Model, clip: Clip, frames: tuple[range, ...], most: int
) -> None:
    busy, seen = [0], [0]

    def denoise(run: Any, *given: Any) -> Any:
        busy[0] += 1
        seen.append(busy[0])
        sleep(0.1)
        latents = run(*given)
        busy[0] -= 1
        return latents

    slow = around(model, "denoising", denoise)
    made(slow, clip, mask_of(*frames), runtime_of(slow, TWO))
    assert max(seen) == most


@pytest.mark.parametrize("context", [0, 1])
def test_a_job_goes_on_from_whatever_was_made(model: Model, clip: Clip, context: int, tmp_path: Path) -> None:
    """With as many devices, and what several made with one alone."""
    mask, options = mask_of(*APART), RemovalOptions(evidence="off", window=9, dilate=2, context=context)

    def work(runtime: Runtime) -> np.ndarray:
        plan = plan_removal(clip, mask, options, runtime.part("removal"))
        return np.stack([*go_on_removing(plan)])

    alone = work(runtime_of(model, ()))
    taken: list[tuple[str, ...]] = []

    def alternating(runtime: Runtime) -> np.ndarray:
        taken.append(TWO if len(taken) % 3 else ())
        return work(replace(runtime, devices=taken[-1]))

    for name, task in {"two": work, "alternating": alternating}.items():
        found, kills = survive(tmp_path / name, runtime_of(model, TWO), task, 40)
        assert kills >= 2
        assert (found == alone).all()


@pytest.mark.parametrize("last", [1, 30, 80])
def test_it_ends_when_that_is_asked_for(model: Model, clip: Clip, last: int) -> None:
    before = active_count()
    steps = Steps(last)
    with pytest.raises(CancelledError):
        made(model, clip, mask_of(*ALWAYS), runtime_of(model, TWO, progress=steps.cancellation.watched(steps)))
    assert steps.count <= last + 2
    assert active_count() == before


def test_whoever_wants_no_more_frames_ends_it(model: Model, clip: Clip) -> None:
    before = active_count()
    frames = remove_frames(clip, mask_of(*ALWAYS), RemovalOptions(evidence="off", window=9), runtime_of(model, TWO))
    next(frames)
    assert active_count() > before
    frames.close()  # type: ignore[attr-defined]
    assert active_count() == before


@pytest.mark.parametrize("part", ["encoding", "denoising", "decoding"])
def test_a_device_without_memory_is_left_out(model: Model, clip: Clip, part: str) -> None:
    mask, report = mask_of(*ALWAYS), Report()
    alone = made(model, clip, mask, runtime_of(model, ()))
    short = failing(model, part, {2})
    assert (made(short, clip, mask, runtime_of(short, TWO, report=report)) == alone).all()
    assert len(report.notes) == 1
    assert "memory ran out on cpu in stage" in report.notes[0]


def test_what_fails_on_a_device_is_told_as_by_one(model: Model, clip: Clip) -> None:
    def fail(run: Any, *given: Any) -> Any:
        raise OSError("the disk is gone")

    broken = around(model, "decoding", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        made(broken, clip, mask_of(*ALWAYS), runtime_of(broken, TWO))


def test_a_report_says_what_each_device_did(model: Model, clip: Clip) -> None:
    report = Report()
    made(model, clip, mask_of(*ALWAYS), runtime_of(model, TWO, report=report))
    first, second = report.results["devices"]
    assert (first["device"], second["device"]) == TWO
    assert "denoise" in first["seconds"]
    assert {"encode", "decode"} <= second["seconds"].keys()


@pytest.mark.parametrize(
    ("devices", "more", "said"),
    [
        ("cpu,gpu", {}, "'cpu,gpu' is no list of devices"),
        ("", {}, "is no list of devices"),
        ("cuda:0,0", {}, "names cuda:0 twice"),
        ("0,1", {}, "--devices names cuda:0, which cannot be used: "),
        ("cpu", {"device": "cpu"}, "--device and --devices were given"),
        ("cpu,cpu", {"engine": "mlx"}, "MLX has one GPU"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(devices: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_runtime(RuntimeOptions("demo", devices=devices, **more))


def test_one_device_and_auto_without_a_second_gpu_share_nothing() -> None:
    assert open_runtime(RuntimeOptions(devices="cpu")).devices == ("cpu",)
    assert open_runtime(RuntimeOptions(devices=" cpu, cpu")).devices == TWO
    assert open_runtime(RuntimeOptions(devices="auto")).devices == ()
