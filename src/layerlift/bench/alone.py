"""One job in a process of its own, and what it takes there: seconds, and memory over what the process has anyway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    from layerlift.clip import Clip
    from layerlift.engine.device import Policy
    from layerlift.engine.device.plan import Plan
    from layerlift.masks import Mask
    from layerlift.report import StageCost
    from layerlift.runtime import Runtime

# A short clip has few moments at its peak: they must not be missed.
SAMPLE_SECONDS = 0.002
JobName = Literal["remove", "crop", "mask", "compose", "text"]
WORDS = 4  # tokens of a prompt for the text encoder that are not padding


@dataclass(frozen=True, slots=True)
class Case:
    """A job and what it runs on.

    Attributes:
        job: a removal without evidence, one that sees only what lies around the mask, a search for effects, a latent
            composition, or prompts through a text encoder.
        model: what `open_model` takes, "none", or for "text" the encoder's folder.
        policy: the rules it runs by.
        size, frames, hidden, there: of the clip; see `made_up_clip`.
        clip, mask: files instead of that.
        options: fields of the job's option class.
        memory: bytes that may be taken, which on CUDA torch's allocator is held to; None is what there is.
        threads: of the CPU; None is torch's own choice.
        write: whether what comes out is written to a file.
    """

    job: JobName
    model: str
    policy: Policy
    size: tuple[int, int] = (704, 480)
    frames: int = 97
    hidden: tuple[int, int] = (278, 22)
    there: float | None = None
    clip: Path | None = None
    mask: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    memory: int | None = None
    threads: int | None = None
    write: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a case took; bytes are of the host's anonymous memory, without mapped files.

    Attributes:
        frames: how many came out.
        seconds, cpu: wall-clock seconds and seconds of CPU time, without opening and planning.
        idle: bytes with torch imported and the device initialised.
        ready: bytes when everything was opened and planned, and the work was about to begin.
        stages: what each stage took, and "all" of it.
        planned: bytes that each stage was to take.
        windows: of the clip that the model saw; 0 without one.
        notes: of the report.
    """

    frames: int
    seconds: float
    cpu: float
    idle: int
    ready: int
    stages: dict[str, StageCost]
    planned: dict[str, int]
    windows: int
    notes: list[str]

    def over(self, base: int, stage: str = "all") -> int:
        """Bytes of device and host together at the stage's peak, over a `base` of the host's."""
        cost = self.stages[stage]
        return cost.peak_device_bytes + max(0, cost.peak_host_bytes - base)


def measure(case: Case) -> Found:
    """Run a case in a process of its own. Raises what the job raises, and BrokenProcessPool where it was ended."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(run_case, case).result()


def run_case(case: Case) -> Found:
    """Run a case in this process, which should do nothing else, before or after."""
    import torch

    from layerlift.engine.device import memory

    memory.SAMPLE_SECONDS = SAMPLE_SECONDS
    if case.threads is not None:
        torch.set_num_threads(case.threads)
    device = case.policy.device
    if device.startswith("cuda"):
        torch.zeros(1, device=device)
        hold_to(case)
    idle = memory.host_anonymous_bytes()

    from layerlift.report import Report
    from layerlift.runtime import Runtime

    report = Report(case.job, device=device)
    plan, frames = start(case, Runtime(case.model, case.policy, memory_bytes=case.memory, report=report))
    ready = memory.host_anonymous_bytes()
    began, used = time.perf_counter(), time.process_time()
    with report.stage("all"):
        count = sum(1 for _ in frames)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    planned = {} if plan is None else {need.stage: round(need.total) for need in plan.needs}
    windows = len(report.sizes.get("windows", ()))
    return Found(count, seconds, cpu, idle, ready, report.stages, planned, windows, report.notes)


def hold_to(case: Case) -> None:
    """Keep torch's allocator to the memory of a case, and its attention to what a Mac has, by the rules of MPS."""
    import torch

    device = torch.device(case.policy.device)
    if case.memory is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, case.memory / total), device.index or 0)
    if case.policy.backend == "mps":
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)


def start(case: Case, runtime: Runtime) -> tuple[Plan | None, Iterator[Any]]:
    """Plan a case: its memory, None without a model, and what comes out, of which nothing is made before it is asked
    for."""
    if case.job == "text":
        return None, encode_prompts(case.model, runtime)
    clip, mask = open_case(case)
    if case.job == "mask":
        from layerlift.options import EffectOptions
        from layerlift.stages.effects import plan_effects, run_effects

        looking = plan_effects(clip, [mask], EffectOptions(**case.options, witnesses="model"), runtime)
        assert looking.attention is not None
        return looking.attention.memory, run_effects(looking)
    if case.job == "compose":
        from layerlift.options import LatentCompositionOptions
        from layerlift.stages.composition.latent import plan_latent_composition, run_latent_composition

        options = LatentCompositionOptions(**case.options)
        composing = plan_latent_composition(clip, clip, [mask], mask, clip, options, runtime)
        return composing.job.plan, run_latent_composition(composing)

    from layerlift.options import RemovalOptions
    from layerlift.stages.removal import around_mask, plan_removal, run_removal

    removing = plan_removal(clip, mask, RemovalOptions(**case.options), runtime)
    frames, job = run_removal(removing), removing.job
    if case.job == "crop" and job is not None:
        job = around_mask(removing)
    return None if job is None else job.plan, written(frames, clip) if case.write else frames


def open_case(case: Case) -> tuple[Clip, Mask]:
    """The clip of a case with its mask."""
    from layerlift.bench.made_up import made_up_clip
    from layerlift.stages.inputs import as_clip, as_mask

    if case.clip is None or case.mask is None:
        return made_up_clip(case.size, case.frames, case.hidden, case.there)
    clip = as_clip(case.clip)
    return clip, as_mask(case.mask, clip)


def written(frames: Iterator[np.ndarray], clip: Clip) -> Iterator[np.ndarray]:
    """The frames, which go through the encoder into a file that nobody keeps."""
    from layerlift.clip import ClipWriter

    with TemporaryDirectory(prefix="layerlift-bench-") as folder, ClipWriter(Path(folder) / "out.mp4", clip) as writer:
        for frame in frames:
            writer.write(frame)
            yield frame


def encode_prompts(folder: str, runtime: Runtime) -> Iterator[Any]:
    """Two prompts through the text encoder in `folder`, block by block."""
    import torch

    from layerlift.engine.model.t5 import open_encoder
    from layerlift.engine.model.t5_stream import embed_stream
    from layerlift.engine.model.text import TEXT_LENGTH

    ids = torch.zeros(1, TEXT_LENGTH, dtype=torch.long)
    ids[0, :WORDS] = torch.arange(1, WORDS + 1)
    tokens = [(given, given != 0) for given in (ids, ids.roll(1, 1))]
    with runtime.report.stage("text"), torch.inference_mode():
        encoder, tensors = open_encoder(Path(folder))
        yield from embed_stream(encoder, tensors, tokens, runtime.policy)
