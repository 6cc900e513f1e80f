"""One clip on several devices: what comes out is what one device makes, bit for bit, however the work is shared."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, active_count, get_ident
from time import sleep
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from PIL import Image

from layerlift.clip import Clip, open_clip, write_clip
from layerlift.engine.base import Engine, SamplingSettings
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.engine.model.speed import Speed
from layerlift.engine.model.split import SplitLoops
from layerlift.engine.planning import least_memory
from layerlift.engine.sampling import Prompts, open_denoising, token_coordinates
from layerlift.errors import InputError
from layerlift.geometry.fit import Geometry
from layerlift.options import RemovalOptions, RuntimeOptions
from layerlift.progress import CancelledError
from layerlift.report import Report
from layerlift.runtime import Runtime, open_runtime
from layerlift.stages.composition.latent import plan_latent_composition, run_latent_composition
from layerlift.stages.removal import plan_removal, remove_frames
from layerlift.stages.removal.going_on import go_on_removing
from layerlift.stages.sharing import Shared, each
from support import Instead, Steps, around, failing, layerlift, survive
from tiny_model import tiny_transformer_config, write_tiny_model

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
    ("options", "count"),
    [
        ({}, 2),
        pytest.param({"crop": False}, 3, marks=pytest.mark.slow),
        pytest.param({"context": 3}, 2, marks=pytest.mark.slow),
        ({"dense": True}, 2),
        pytest.param({"dense": True, "guidance": 1.0}, 3, marks=pytest.mark.slow),
    ],
    ids=["crop", "whole", "context", "dense", "alone"],
)
def test_several_devices_make_what_one_makes(
    model: Model, clip: Clip, frames: tuple[range, ...], options: dict[str, Any], count: int
) -> None:
    mask = mask_of(*frames)
    alone = made(model, clip, mask, runtime_of(model, ()), **options)
    assert (made(model, clip, mask, runtime_of(model, ("cpu",) * count), **options) == alone).all()
    assert ((alone != clip.numpy()).any((1, 2, 3)) == mask.any((1, 2))).all()


@pytest.mark.parametrize("count", [2, 3])
def test_passes_over_all_tokens_run_on_two_devices(model: Model, clip: Clip, count: int) -> None:
    """Each runs one of the prompts."""
    given: list[tuple[Any, ...]] = []
    watched = Instead(model, denoising=lambda *those: given.append(those) or model.denoising(*those))
    made(watched, clip, mask_of(*ALWAYS), runtime_of(watched, ("cpu",) * count), dense=True)
    assert [those[4:] for those in given] == [(choose_policy("cpu", resident=True),)]


def test_a_half_of_a_pass_is_what_the_whole_one_has() -> None:
    """Bit for bit, also for prompts of different lengths."""
    torch.manual_seed(0)
    transformers = [LTXVideoTransformer3DModel(**tiny_transformer_config()) for _ in range(2)]
    transformers[1].load_state_dict(transformers[0].state_dict())
    mask = torch.zeros(2, 40)
    mask[0, :3] = mask[1, :25] = 1
    prompts, settings = Prompts(torch.randn(2, 40, 16), mask), SamplingSettings((1.0, 0.5, 0.0), guidance=3.0)
    coordinates, moving = token_coordinates((1, 8, 2, 3, 4), Geometry(16, 4, 8), 24.0), torch.rand(24) > 0.3
    tokens, speed = torch.randn(1, 24, 8), Speed(hoist=True)
    with open_denoising(transformers[0], prompts, settings, speed) as loops, torch.no_grad():
        whole = loops.over(coordinates, moving)(tokens, 0)
    halves = [open_denoising(transformers[n], prompts, settings, speed, only=n) for n in range(2)]
    with halves[0] as without, halves[1] as towards, torch.no_grad():
        assert (SplitLoops(without, towards).over(coordinates, moving)(tokens, 0) == whole).all()


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
    busy, seen, several = [0], list[int](), Event()

    def denoise(run: Any, *given: Any) -> Any:
        busy[0] += 1
        seen.append(busy[0])
        if len(seen) > 1:
            several.set()
        # The first one goes on when another has begun: that one comes at once, or never while this one waits.
        several.wait(60 if most > 1 else 0.1)
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


@pytest.mark.parametrize("part", [pytest.param("encoding", marks=pytest.mark.slow), "denoising", "decoding"])
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


def test_the_command_line_shares_a_clip(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`remove` makes the same file, and a device that does not exist is refused before a model is looked for."""
    clip, mask, made = (str(tmp_path / name) for name in ("clip.mkv", "mask.png", "made.mkv"))
    frames = np.random.default_rng(0).integers(0, 256, (17, 48, 64, 3), dtype=np.uint8)
    write_clip(Path(clip), frames, Clip.from_array(frames, 24), lossless=True)
    Image.fromarray(np.pad(np.full((12, 16), 255, np.uint8), ((20, 16), (24, 24)))).save(mask)
    shown = ["--mask", mask, "--model", str(model.path), "--evidence", "off", "--lossless", "--overwrite"]
    plates = []
    for device in (["--device", "cpu"], ["--devices", "cpu,cpu"]):
        assert layerlift("remove", clip, *shown, *device, "-o", made) == 0
        plates.append(open_clip(Path(made)).numpy())
    assert (plates[0] == plates[1]).all()
    for wrong in ("cpu,cuda:7", "cpu,tpu", "cpu,cpu,0"):
        assert (
            layerlift("remove", clip, "--mask", mask, "--model", "nothing", "--devices", wrong, "-o", f"{made}.mkv")
            == 2
        )
        assert "--devices" in capsys.readouterr().err


def test_a_benchmark_compares_several_devices_with_one(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    clip = ["--size", "64x48", "--hidden", "20x10", "--long", "13", "--clips", "0", "--model", str(model.path)]
    assert layerlift("bench", "batch", "--devices", "cpu,cpu", *clip) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| cpu")]
    assert [(row[1].strip(), row[2].strip(), row[6].strip()) for row in rows] == [
        ("cpu", "13", "yes"),
        ("cpu, cpu", "13", "yes"),
    ]


@pytest.mark.parametrize("in_turn", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_latent_composition_is_what_one_device_makes(model: Model, clip: Clip, in_turn: bool) -> None:
    other = Instead(model, draws_while_decoding=lambda: in_turn)
    mask = mask_of(*ALWAYS)
    plate, onto = (255 - clip.numpy(), np.roll(clip.numpy(), 7, 1))
    plans = [
        plan_latent_composition(clip, plate, mask, mask, onto, runtime=runtime_of(other, devices))
        for devices in ((), TWO)
    ]
    assert len(plans[0].job.windows) > 3
    alone, shared = (np.stack([*run_latent_composition(plan)]) for plan in plans)
    assert (alone == shared).all()


def test_windows_are_begun_in_order_and_made_beside_each_other() -> None:
    begun, busy, seen = [], [0], []

    def begin(part: str, item: int) -> Iterator[tuple[str, int]]:
        begun.append(item)

        def work() -> Iterator[tuple[str, int]]:
            busy[0] += 1
            seen.append(busy[0])
            sleep(0.05)
            yield part, item
            busy[0] -= 1

        return work()

    pairs = [pair for made in each(Shared(TWO, ("a", "b")), begin, range(6)) for pair in made]
    assert pairs == [("ab"[item % 2], item) for item in range(6)]
    assert begun == [*range(6)]
    assert max(seen) == 2
    assert [pair for made in each("a", begin, range(2)) for pair in made] == [("a", 0), ("a", 1)]


def test_windows_that_fail_are_told_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(ThreadPoolExecutor):
        """The second one takes its time before it begins with another item; whoever submits one sees it begun."""

        pools: ClassVar[list[ThreadPoolExecutor]] = []

        def submit(self, *given: Any) -> Any:  # type: ignore[override]
            self.pools.append(self)
            future = super().submit(*given)
            if self is not self.pools[0]:
                super().submit(sleep, 0.3)
            sleep(0.05)
            return future

    def begin(part: str, item: int) -> Iterator[int]:
        if item == 2:
            raise OSError("the disk is gone")
        return iter([item])

    monkeypatch.setattr("layerlift.stages.sharing.ThreadPoolExecutor", Late)
    taken = []
    with pytest.raises(OSError, match="the disk is gone"):
        taken.extend(number for made in each(Shared(TWO, ("a", "b")), begin, range(9)) for number in made)
    assert taken == [0, 1]


@pytest.mark.parametrize(("spare", "most"), [(1, 1), (2**30, 3)])
def test_a_device_has_no_more_of_the_model_open_than_fits(model: Model, clip: Clip, spare: int, most: int) -> None:
    """Whatever it has time for."""
    held: dict[int, set[str]] = defaultdict(set)
    seen = []

    def counted(part: str) -> Callable[..., Any]:
        @contextmanager
        def opened(*given: Any) -> Iterator[Any]:
            with getattr(model, part)(*given) as run:
                held[get_ident()].add(part)
                seen.append(len(held[get_ident()]))
                yield run
                held[get_ident()].discard(part)

        return opened

    watched = Instead(model, **{part: counted(part) for part in ("encoding", "denoising", "decoding")})
    mask, options = mask_of(*APART), RemovalOptions(evidence="off", window=9, dilate=2)
    job = plan_removal(clip, mask, options, runtime_of(model, ())).job
    assert job is not None
    memory = int(job.plan.peak) + spare
    alone = made(model, clip, mask, runtime_of(model, (), memory_bytes=memory))
    assert (made(watched, clip, mask, runtime_of(watched, TWO, memory_bytes=memory)) == alone).all()
    assert max(seen) <= most
    assert (max(seen) > 1) == (most > 1)


def test_the_smallest_device_says_how_much_memory_there_is(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"cuda:0": 10, "cuda:1": 4, "cpu": 9}
    monkeypatch.setattr("layerlift.engine.planning.usable_memory", lambda policy: there[policy.device])
    assert least_memory(model, choose_policy("cpu"), ("cuda:0", "cuda:1")) == 4
    assert least_memory(model, choose_policy("cpu"), ("cpu", "cpu", "cpu")) == 3
