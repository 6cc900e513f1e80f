"""How much faster several devices are than one at a single long clip, which they share."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from layerlift.bench.made_up import made_up_clip
from layerlift.engine.model import open_model
from layerlift.options import RemovalOptions, RuntimeOptions
from layerlift.progress import QUIET, Progress
from layerlift.report import Report
from layerlift.runtime import open_runtime
from layerlift.stages.removal import remove_frames

HEADER = ("devices", "frames", "s", "frames a second", "over one", "same result", "s of each device")


@dataclass(frozen=True, slots=True)
class Shared:
    """A clip, done by some devices.

    Attributes:
        devices: their names.
        frames: of the clip.
        seconds: of the whole removal.
        over: how much faster than the first of the devices alone.
        same: whether the result is the first device's, bit for bit.
        parts: of each device, seconds of what it did; of one alone, of each stage.
    """

    devices: list[str]
    frames: int
    seconds: float
    over: float
    same: bool
    parts: list[dict[str, float]]

    def cells(self) -> list[str]:
        """A row of the table under `HEADER`."""
        parts = "; ".join(", ".join(f"{name} {took:.1f}" for name, took in part.items()) for part in self.parts)
        rate = self.frames / self.seconds
        same = "yes" if self.same else "no"
        return [
            ", ".join(self.devices), str(self.frames), f"{self.seconds:.1f}", f"{rate:.1f}", f"{self.over:.2f}", same,
            parts,
        ]  # fmt: skip


def time_shared(
    devices: Sequence[str],
    model: Path,
    size: tuple[int, int],
    frames: int,
    hidden: tuple[int, int],
    *,
    dense: bool = False,
    progress: Progress = QUIET,
) -> Iterator[Shared]:
    """Have a removal done by the first device alone, and then by all of them, with the weights kept there. Each does it
    once beforehand, which nobody counts."""
    opened = open_model(model)
    clip, mask = made_up_clip(size, frames, hidden)
    options = RemovalOptions(evidence="off", crop=False, dense=dense)
    first: Shared | None = None
    digest = b""
    for count in dict.fromkeys((1, len(devices))):
        named = ",".join(devices[:count])
        runtime = open_runtime(RuntimeOptions(opened, devices=named, cache=False), progress=progress)
        runtime = replace(runtime, policy=replace(runtime.policy, resident=True))
        for _ in remove_frames(clip, mask, options, runtime):
            pass
        runtime, made = replace(runtime, report=Report(device=runtime.policy.device)), hashlib.blake2b()
        began = time.perf_counter()
        for frame in remove_frames(clip, mask, options, runtime):
            made.update(frame.tobytes())
        took = time.perf_counter() - began
        alone = [{name: cost.seconds for name, cost in runtime.report.stages.items()}]
        parts = [each["seconds"] for each in runtime.report.results.get("devices", [])] or alone
        if first is None:
            digest = made.digest()
        found = Shared([*devices[:count]], frames, took, 1.0, made.digest() == digest, parts)
        first = first or found
        yield replace(found, over=first.seconds / took)
    opened.close()
