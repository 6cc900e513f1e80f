"""How long whole jobs take with a model's weights on the device: from frames in memory to frames in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from layerlift.bench.made_up import made_up_clip
from layerlift.engine.device.needs import GIB
from layerlift.engine.model import Model
from layerlift.engine.model.random import write_random_heads
from layerlift.errors import LayerliftError
from layerlift.options import EffectOptions, RemovalOptions
from layerlift.progress import QUIET
from layerlift.report import Report, StageCost
from layerlift.runtime import Runtime
from layerlift.stages.effects import find_effects
from layerlift.stages.removal import remove_frames

OWN_SIZE = "--no-crop, the clip's own size"
# Removals without evidence, by the flags that tell them apart, and what they choose.
REMOVALS: dict[str, dict[str, Any]] = {
    "--no-crop --dense --compile": {"crop": False, "dense": True, "compile": True},
    "--no-crop --dense": {"crop": False, "dense": True},
    "--no-crop": {"crop": False},
    OWN_SIZE: {"crop": False},
    "--crop": {"crop": True},
    "--no-crop --compile": {"crop": False, "compile": True},
    "--crop --compile": {"crop": True, "compile": True},
    "--crop --dense": {"crop": True, "dense": True},
}
# The search for effects, by the model's own heads and by heads of random weights, which look twice a layer.
MASK, FITTED = "mask", "mask, fitted heads"
JOBS = (*REMOVALS, MASK, FITTED)
HEADER = ("job", "first, s", "warm, s", "slowest, s", "stages: s, GiB of the device", "the model sees")


@dataclass(frozen=True, slots=True)
class Timed:
    """One job: seconds of the first call and of those after it, and of the last one its stages and what was seen."""

    job: str
    first: float
    warm: list[float]
    stages: dict[str, StageCost]
    sees: str

    def cells(self) -> list[str]:
        """A row of the table under `HEADER`."""
        stages = ", ".join(
            f"{name} {cost.seconds:.3f} ({cost.peak_device_bytes / GIB:.2f})" for name, cost in self.stages.items()
        )
        seconds = (self.first, median(self.warm), max(self.warm))
        return [self.job, *(f"{value:.3f}" for value in seconds), stages, self.sees]


def time_jobs(
    jobs: Iterable[str],
    model: Model,
    runtime: Runtime,
    *,
    size: tuple[int, int],
    frames: int,
    hidden: tuple[int, int],
    repeats: int,
    random: bool,
) -> Iterator[Timed | tuple[str, LayerliftError]]:
    """Run jobs of `JOBS` one after the other, each once and then `repeats` times; yields what each took, or its error.

    Args:
        jobs: their names; the clip's own size is left out where the model's is the same, and fitted heads where the
            model is not a random one.
        model: what runs, and stays in memory until it is closed.
        runtime: the rest of what it runs with.
        size, frames, hidden: of the clip; see `made_up_clip`.
        repeats: calls after the first, at least 1.
        random: whether the model's weights are random: heads may be written beside them.
    """
    runtime = replace(runtime, model=model, policy=replace(runtime.policy, resident=True), cache=False, progress=QUIET)
    clip, mask = (made.numpy() for made in made_up_clip(size, frames, hidden))

    def call(job: str, **more: Any) -> tuple[float, Report]:
        running = replace(runtime, report=Report(device=runtime.policy.device))
        began = time.perf_counter()
        if job in REMOVALS:
            at = whole_tokens if job == OWN_SIZE else None
            options = RemovalOptions(evidence="off", size=at, **REMOVALS[job], **more)
            made: Iterator[Any] = remove_frames(clip, mask, options, running)
        else:
            made = find_effects(clip, [mask], EffectOptions(witnesses="model"), running)
        for _ in made:
            pass
        return time.perf_counter() - began, running.report

    # Weights are read and kernels loaded by calls that nobody counts.
    space = model.geometry.space
    whole_tokens = (-(-size[0] // space) * space, -(-size[1] // space) * space)
    alike = whole_tokens == model.settings.size
    jobs = [job for job in jobs if not (job == OWN_SIZE and alike) and not (job == FITTED and not random)]
    if any(job in REMOVALS for job in jobs):
        call("--no-crop", steps=1)
    for job in jobs:
        try:
            if job == FITTED:
                write_random_heads(model)
            taken = [call(job) for _ in range(1 + repeats)]
        except LayerliftError as error:
            yield job, error
            continue
        report = taken[-1][1]
        sees = "×".join(map(str, report.sizes["padded"])) + f", {len(report.sizes['windows'])} windows"
        yield Timed(job, taken[0][0], [seconds for seconds, _ in taken[1:]], report.stages, sees)
