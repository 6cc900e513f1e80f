"""What several tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from layerlift.cli import main
from layerlift.engine.base import Engine
from layerlift.engine.device import Policy
from layerlift.hidden import hidden_name
from layerlift.jobs.job import Job
from layerlift.jobs.manifest import Manifest
from layerlift.processes import owner
from layerlift.progress import Cancellation, StageProgress
from layerlift.runtime import Runtime

# Real clips beside the checkout, for developers who have them; tests that ask for one are skipped elsewhere.
CLIPS = Path(__file__).resolve().parents[2] / "shared" / "clips"


def layerlift(*arguments: object) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code


def files(folder: str | Path = ".") -> list[str]:
    """The names of what lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def left_by_a_killed_run(place: str | Path, ending: str = "") -> Path:
    """A hidden name beside `place` that was made by a process of this machine that is gone."""
    host = owner().partition("-")[0]
    name = hidden_name(Path(place), ending)
    return name.with_name(name.name.replace(owner(), f"{host}-7fffffff-00000000"))


def add_tone(video: Path, path: Path) -> None:
    """Write the same video with a tenth of a second of sound to another path."""
    import av

    with av.open(str(video)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("pcm_s16le", rate=8000)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        tone.sample_rate = 8000
        target.mux([*sound.encode(tone), *sound.encode(None)])


def write_even_heads(folder: Path, threshold: float) -> Path:
    """Bring head weights into the folder of a tiny model, all alike, and a threshold that leaves something of a clip:
    random heads find effects nearly everywhere. Returns the folder."""
    import torch
    from safetensors.torch import save_file

    from layerlift.engine.model.effect_score import HEADS_FILE

    weights = torch.zeros(2, 2, 2, 2)  # kinds, columns, layers, heads
    weights[0] = 10 / weights[0].numel()
    save_file({"weights": weights}, folder / HEADS_FILE, {"bias": "0", "threshold": str(threshold)})
    return folder


class Instead:
    """An engine that does what another does, but for the methods that are given by name."""

    def __init__(self, engine: Engine, **methods: Callable[..., Any]) -> None:
        self._engine = engine
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def watched(engine: Engine) -> tuple[Engine, list[tuple[str, Policy]]]:
    """The engine, and a list of the parts that are opened from then on, each with the rules it is opened by."""
    opened: list[tuple[str, Policy]] = []

    def watch(part: str) -> Callable[..., Any]:
        return lambda policy, *rest: opened.append((part, policy)) or getattr(engine, part)(policy, *rest)

    return Instead(engine, **{part: watch(part) for part in ("encoding", "denoising", "decoding", "scoring")}), opened


def around(engine: Engine, part: str, call: Callable[..., Any]) -> Engine:
    """The engine, but with `call` around each use of an open part ("encoding", "denoising", …): it is given what the
    part does, and what it is to do it with."""

    @contextmanager
    def opened(*given: Any) -> Iterator[Callable[..., Any]]:
        with getattr(engine, part)(*given) as run:
            yield lambda *rest: call(run, *rest)

    return Instead(engine, **{part: opened})


def failing(engine: Engine, part: str, calls: set[int]) -> Engine:
    """The engine, but out of memory in so many of the uses of a part, counted from 1."""
    import torch

    used = 0

    def call(run: Callable[..., Any], *given: Any) -> Any:
        nonlocal used
        used += 1
        if used in calls:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(*given)

    return around(engine, part, call)


def moving_texture(
    path: Path, codec: str, options: dict[str, str], *, container: dict[str, str] | None = None, gop: int, count: int
) -> Path:
    """A clip of texture that moves by a pixel a frame, 160x96 at 24 fps, with key frames at every `gop`."""
    ground = cv2.resize(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8), (240, 160))
    with av.open(str(path), "w", options=container or {}) as file:
        stream: Any = file.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.options, stream.codec_context.gop_size = options, gop
        if codec == "libx264":
            stream.codec_context.thread_count = 1  # the same file each time
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(ground[index : index + 96, index : index + 160]))
            frame.pts, frame.time_base = index, Fraction(1, 24)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


class Steps:
    """Counts what it is told, and asks for an end at the step `last`; what is told after that is counted, too."""

    def __init__(self, last: int | None = None) -> None:
        self.cancellation, self.last, self.count = Cancellation(), last, 0

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        self._step()
        yield self

    def advance(self, steps: int = 1) -> None:
        self._step()

    def _step(self) -> None:
        self.count += 1
        if self.count == self.last:
            self.cancellation.cancel()


class Killed(BaseException):
    """In place of a signal that nothing survives: what was written until then is all there is."""


class Kills:
    """A progress that ends the work at a step: every further step of it fails, too, whichever thread makes it."""

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[StageProgress]:
        yield self

    def advance(self, steps: int = 1) -> None:
        self.count += bool(steps)
        if self.count > self.last:
            raise Killed


def survive(
    folder: Path, runtime: Runtime, work: Callable[[Runtime], np.ndarray], every: int, *, power: bool = True
) -> tuple[np.ndarray, int]:
    """What comes of work that is killed after every so many steps, and how often it was.

    Without `power`, the first three kills leave of some files less than was written: what the system had not written to
    the disk yet is lost.
    """
    rng = np.random.default_rng(every)
    kills = 0
    while True:
        job = Job(folder, resume=kills > 0)
        job.begin(Manifest("remove", "out.mkv", "layerlift remove", {}, {}))
        try:
            return work(replace(runtime, keeper=job.keeper, progress=Kills(every))), kills
        except Killed:
            kills += 1
            for path in sorted((folder / "shelves").rglob("*")) if not power and kills < 4 else ():
                if path.is_file() and rng.random() < 0.5:
                    os.truncate(path, int(rng.random() * path.stat().st_size))
            assert kills < 100, "it gets nowhere"
        finally:
            assert job._lock is not None
            job._lock.leave()


def short_loop(model: Any, policy: Policy, speed: Any, unknown: int = 4) -> Any:
    """A short denoising loop of a model of `write_tiny_model` over 24 tokens, `unknown` of them (even) unknown."""
    import torch

    from layerlift.engine.sampling import Prompts, SamplingSettings, denoise, token_coordinates
    from layerlift.progress import QUIET

    latents = torch.randn(1, 8, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    hidden = torch.zeros(2, 12, dtype=torch.bool)
    hidden[:, 5 : 5 + unknown // 2] = True
    texts = model.text(["", "Empty"], policy)
    prompts = Prompts(torch.cat([text.embeds for text in texts]), torch.cat([text.mask for text in texts]))
    with model.transformer(policy) as transformer:
        return denoise(
            transformer,
            latents,
            hidden.view(2, 3, 4),
            prompts,
            token_coordinates(latents.shape, model.geometry, 24),
            settings=SamplingSettings((1.0, 0.8, 0.5, 0.0), guidance=3.0),
            generator=torch.Generator().manual_seed(1),
            progress=QUIET,
            speed=speed,
        )
