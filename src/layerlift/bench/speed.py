"""How fast a model is on this machine, stage by stage, and what each way of being faster brings: to be pasted.

Every stage is run as removal runs it on one window. The first call is told apart from warm ones, of which the median
counts. Read `measure_speed` from top to bottom.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from layerlift.bench.made_up import made_up_clip
from layerlift.bench.runners import Opened, Runner, TorchRunner, choose_runner
from layerlift.engine.device import MemoryMeter, choose_policy
from layerlift.engine.device.memory import host_anonymous_bytes
from layerlift.engine.model.latents import unknown_tokens
from layerlift.engine.model.speed import DEFAULT_REFRESH, PLAIN, Speed, full_passes
from layerlift.engine.planning import plan_windows
from layerlift.engine.sampling import Prompts, token_coordinates
from layerlift.engine.schedule import model_sigmas
from layerlift.geometry.fit import Fit, Window, latent_frames
from layerlift.progress import QUIET, Progress, StageProgress

if TYPE_CHECKING:
    from layerlift.engine.device import Policy
    from layerlift.engine.device.plan import Plan
    from layerlift.engine.model import Model

# The share of the tokens that is unknown in sparse steps, about.
SHARE = 0.1
# The plain way of running a step, where it does not run on the device.
ON_CPU = "torch, plain, on the CPU in float32"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: seconds of reading its weights, of the first call and of a warm one; bytes at its peak, of the host
    over the idle process and of the device."""

    read: float
    first: float
    warm: float
    host: int
    device: int


@dataclass(slots=True)
class Measured:
    """What `measure_speed` found.

    Attributes:
        stages: "encode", "denoise", whose calls are a step over all tokens, and "decode".
        steps: seconds of a warm step of all prompts by way of running it, in the order in which they were run.
        missing: ways that were not run, with the reason.
        base: the way whose result the others are compared with.
        off: by the same ways, how far the velocity of unknown tokens lies from that at most, as a share of its largest
            value.
        rate: FLOP/s of products of matrices.
        attention: seconds of self-attention by the number of queries and by kernel, see `Runner.attention_times`.
        full_steps: those of the model's `step_count` steps that run over all tokens.
    """

    plan: Plan
    tokens: int
    unknown: int
    step_count: int
    full_steps: int
    stages: dict[str, Stage] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    base: str = "plain"
    off: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    attention: dict[int, dict[str, float | None]] = field(default_factory=dict)


def measure_speed(
    model: Model,
    policy: Policy,
    prompts: Sequence[str],
    *,
    size: tuple[int, int],
    frames: int,
    steps: int | None = None,
    memory: int | None = None,
    repeats: int = 3,
    compile: bool | None = None,
    share: float = SHARE,
    cpu: bool = False,
    progress: Progress = QUIET,
) -> Measured:
    """Run every stage of a model on a window of made-up frames.

    Args:
        model: what runs.
        policy: the rules to start from; the plan for `memory` has the last word.
        prompts: the prompt, and with guidance the negative prompt before it.
        size, frames: of the window, whole tokens.
        steps: denoising steps of a whole job; None is the model's own.
        memory: bytes that may be taken, device and host together; None is what the machine reports as usable.
        repeats: warm calls of which the median counts.
        compile: whether to run compiled blocks, too; None does where the backend can.
        share: of the tokens that are unknown, about.
        cpu: whether to run the plain way on the CPU in float32, too.

    Raises:
        InputError: before a weight is read, for too little memory or more steps than the model has noise levels.
    """
    sigmas = model_sigmas(model.settings, steps)
    plan = plan_windows(model, Fit(size, size, size), [Window(0, frames, 0, frames)], prompts, policy, memory=memory)
    policy, geometry = plan.policy, model.geometry
    unknown = unknown_tokens(make_mask(size, frames, geometry.space, share), geometry, grow=0)
    full_steps = sum(full_passes(sigmas, DEFAULT_REFRESH if plan.sparse else None))
    found = Measured(plan, unknown.numel(), int(unknown.sum()), len(sigmas) - 1, full_steps)
    shape = (1, geometry.channels, latent_frames(frames, geometry.time), *unknown.shape[1:])
    text = model.text(prompts, policy)
    asked = Prompts(torch.cat([one.embeds for one in text]), torch.cat([one.mask for one in text]))
    step = _Step(asked, unknown, token_coordinates(shape, geometry, model.settings.rate))
    with choose_runner(model, plan) as runner:
        clock = _Clock(runner, host_anonymous_bytes(), repeats)

        # 1. Encode.
        video = made_up_clip(size, frames, (1, 1))[0].numpy()
        with progress.stage("encode", 1 + repeats) as bar:
            found.stages["encode"] = clock.stage(model.encoding(policy), lambda encode: encode(video), bar)

        # 2. Denoise: one step, in every way there is.
        measure_steps(found, model, step, clock, compile=compile, cpu=cpu, progress=progress)
        measure_floor(found, runner, clock)

        # 3. Decode.
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).numpy()

        def decode_all(decode: Any) -> None:
            for _ in decode(latents, model.noise(0)):
                pass

        with progress.stage("decode", 1 + repeats) as bar:
            found.stages["decode"] = clock.stage(model.decoding(policy), decode_all, bar)
    return found


def measure_steps(
    found: Measured, model: Model, step: _Step, clock: _Clock, *, compile: bool | None, cpu: bool, progress: Progress
) -> None:
    """A step in every way the found plan has, and with `cpu` the plain way on the CPU."""
    ways, found.missing = choose_ways(found.plan, compile)
    runner, policy = clock.runner, found.plan.policy
    firsts, made = list[float](), dict[str, torch.Tensor]()
    with progress.stage("denoise", len(ways)) as bar, clock.peak() as peak:
        began = time.perf_counter()
        with runner.transformer(model, policy) as transformer:
            read = time.perf_counter() - began
            for name, (speed, together) in ways.items():
                taken, made[name] = clock.step(step.opened(runner, transformer, speed, together))
                firsts.append(taken[0])
                found.steps[name] = median(taken[1:])
                bar.advance()
            del transformer
    found.stages["denoise"] = Stage(read, firsts[0], found.steps["hoisted"], peak["host"], peak["device"])
    if cpu:
        plain = TorchRunner("cpu")
        with plain.transformer(model, choose_policy("cpu")) as transformer:
            there = replace(clock, runner=plain)
            taken, made[ON_CPU] = there.step(step.opened(plain, transformer, PLAIN, together=False))
            found.steps[ON_CPU] = median(taken[1:])
            del transformer
    # What torch makes is compared with its plain way; MLX has none, and is compared with torch.
    found.base = next(name for name in ("plain", ON_CPU, "hoisted") if name in made)
    right = made[found.base]
    found.off = {name: float((one - right).abs().max() / right.abs().max()) for name, one in made.items()}


def measure_floor(found: Measured, runner: Runner, clock: _Clock) -> None:
    """What the device does at best, for the found plan's number format and attention."""
    request, policy = found.plan.request, found.plan.policy
    heads, kind = request.facts.heads, policy.transformer_dtype
    batch = request.branches if policy.batched_guidance else 1
    found.rate = runner.matrix_rate(kind, clock.seconds)
    for queries in (found.tokens, found.unknown):
        shape = batch, heads, queries, request.facts.width // heads
        found.attention[queries] = runner.attention_times(shape, found.tokens, kind, clock.seconds)


def choose_ways(plan: Plan, compile: bool | None) -> tuple[dict[str, tuple[Speed, bool]], dict[str, str]]:
    """The ways to run a step, each with whether both prompts run in one pass; and those that cannot be, with the
    reason. Ways named "sparse" count their step over the unknown tokens, the others that over all."""
    policy, both = plan.policy, plan.request.branches > 1
    together = policy.batched_guidance
    if policy.engine == "mlx":
        return _ways_of_mlx(plan)
    ways, missing = {"hoisted": (Speed(hoist=True), together), "plain": (PLAIN, together)}, {}
    if not both:
        missing["batched"] = "there is no guidance"
    elif not plan.request.policy.batched_guidance and not together:
        ways["batched"] = Speed(hoist=True), True
    elif together:
        ways["two passes"] = Speed(hoist=True), False
    else:
        missing["batched"] = "it needs more memory than the limit"
    if plan.sparse:
        ways["sparse"] = Speed(DEFAULT_REFRESH, hoist=True), together
        if policy.cuda_graphs:
            ways["sparse, recorded"] = Speed(DEFAULT_REFRESH, hoist=True, graphs=True), together
        else:
            missing["recorded"] = "this device has no CUDA graphs"
        if policy.can_compile and compile is not False:
            speed = Speed(DEFAULT_REFRESH, hoist=True, compile=True, graphs=policy.cuda_graphs)
            ways["sparse, compiled"] = speed, together
    else:
        missing["sparse"] = "keys and values of all tokens need more memory than the limit"
    if policy.can_compile and compile is not False:
        ways["compiled"] = Speed(hoist=True, compile=True), together
    else:
        missing["compiled"] = "--no-compile was given" if policy.can_compile else f"not supported on {policy.backend}"
    return ways, missing


def _ways_of_mlx(plan: Plan) -> tuple[dict[str, tuple[Speed, bool]], dict[str, str]]:
    """MLX does constant work beforehand in any case, and runs one prompt after the other."""
    ways = {"hoisted": (Speed(hoist=True), False)}
    missing = {"batched": "MLX runs one prompt after the other", "compiled": "not supported with MLX"}
    if plan.sparse:
        ways["sparse"] = Speed(DEFAULT_REFRESH, hoist=True), False
    else:
        missing["sparse"] = "keys and values of all tokens need more memory than the limit"
    return ways, missing


# --- running ---------------------------------------------------------------------------------------------------------


def make_mask(size: tuple[int, int], frames: int, space: int, share: float = SHARE) -> np.ndarray:
    """A box of whole tokens, about a `share` of the picture, (F, H, W) bool."""
    width, height = size
    rows, columns = (max(1, round(share**0.5 * length / space)) * space for length in (height, width))
    mask = np.zeros((frames, height, width), bool)
    mask[:, :rows, :columns] = True
    return mask


@dataclass(frozen=True, slots=True)
class _Step:
    """What a step is given besides the transformer."""

    prompts: Prompts
    unknown: torch.Tensor
    coordinates: torch.Tensor

    def opened(self, runner: Runner, transformer: Any, speed: Speed, together: bool) -> AbstractContextManager[Opened]:
        prompts = Prompts(self.prompts.embeds, self.prompts.mask, together)
        return runner.opened(transformer, prompts, self.unknown, self.coordinates, speed)


@dataclass(frozen=True, slots=True)
class _Clock:
    """Takes seconds and peaks of what a runner runs; `idle`: bytes of the host before anything was run."""

    runner: Runner
    idle: int
    repeats: int

    def seconds(self, work: Callable[[], Any]) -> float:
        """Of a call, with all that the device was given by it."""
        self.runner.wait()
        began = time.perf_counter()
        work()
        self.runner.wait()
        return time.perf_counter() - began

    @contextmanager
    def peak(self) -> Iterator[dict[str, int]]:
        """Filled at the end with the peaks in bytes: the device's, and the host's over `idle`."""
        peak: dict[str, int] = {}
        with MemoryMeter(self.runner.meter) as meter:
            yield peak
        peak |= {"host": max(0, meter.host_peak_bytes - self.idle), "device": meter.device_peak_bytes}

    def stage(self, component: AbstractContextManager[Any], work: Callable[[Any], Any], bar: StageProgress) -> Stage:
        """A stage that is one call over a component."""
        taken = []
        with self.peak() as peak:
            began = time.perf_counter()
            with component as part:
                read = time.perf_counter() - began
                for _ in range(1 + self.repeats):
                    taken.append(self.seconds(partial(work, part)))
                    bar.advance()
                del part
        return Stage(read, taken[0], median(taken[1:]), peak["host"], peak["device"])

    @torch.no_grad()
    def step(self, passes: AbstractContextManager[Opened]) -> tuple[list[float], torch.Tensor]:
        """Seconds of one step, the first call and then warm ones: a sparse step where the passes have any; and the
        velocity of the unknown tokens (n, N, C) float32."""
        with passes as opened:
            number = 0
            if not all(opened.plan):
                opened.run(0)
                number = 1
            taken = [self.seconds(lambda: opened.run(number))]
            # The second call may still choose kernels, or record what it runs.
            velocity = opened.unknown(opened.run(number))
            return taken + [self.seconds(lambda: opened.run(number)) for _ in range(self.repeats)], velocity
