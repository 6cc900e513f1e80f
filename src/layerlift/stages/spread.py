"""Generating on several devices: one encodes windows while others denoise and decode those before.

What a window is made from is the same wherever and whenever it is made, so the result is that of one device. Each
device has a thread, which does the next piece of work that can be done (`schedule.Schedule`). Read `generate_spread`.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from threading import Condition, Lock, Thread
from typing import Any

import numpy as np

from layerlift.engine.base import Noise, Picture
from layerlift.engine.device import MemoryMeter
from layerlift.engine.device.budget import limit, ran_out
from layerlift.engine.device.memory import trim_host, use_device
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.work import Patch
from layerlift.progress import QUIET, StageProgress
from layerlift.runtime import Runtime
from layerlift.stages.context import gather_context
from layerlift.stages.decoding import decode_windows, decoded_before, kept_pictures, precisely
from layerlift.stages.encoding import Section, Wanted, encode_section, keep_section, kept_sections, read_windows
from layerlift.stages.generation import Job, carry_over, count_tokens, generate_once, window_shelf
from layerlift.stages.schedule import Kind, Schedule, Seat
from layerlift.stages.windows import filed

STAGE = "generate"
# Windows that were read and wait to be encoded, and pictures of a window that were decoded and wait to be taken.
READ_AHEAD, DECODED_AHEAD = 2, 24


class _StoppedError(Exception):
    """Somebody else's work ended, and with it everyone's."""


class _FailedError(Exception):
    """A device had no memory for its work."""

    def __init__(self, seat: int, kind: str) -> None:
        super().__init__(kind)
        self.seat, self.kind = seat, kind


def generate_spread(
    job: Job, frames: Callable[[int], Iterable[Wanted]], frame_count: int, runtime: Runtime, start: int = 0
) -> Iterator[Patch | None]:
    """`generate`, on the runtime's devices.

    A device that has too little memory after all is left out; without the first one, or a second, the first goes on
    alone, with less where that is needed.
    """

    def once(job: Job, start: int) -> Iterator[Patch | None]:
        devices = runtime.devices
        while len(devices) > 1:
            try:
                for patch in _generated(job, frames, frame_count, runtime, devices, start):
                    yield patch
                    start += 1
                return
            except _FailedError as error:
                seat, kind = error.seat, error.kind
            except Exception as error:
                if not ran_out(error):
                    raise
                seat, kind = len(devices) - 1, "decode"  # what is decoded is made to fit the clip there
            left = devices[:seat] + devices[seat + 1 :] if seat else devices[:1]
            runtime.report.note(f"memory ran out on {devices[seat]} in stage {kind}; continuing on {', '.join(left)}")
            devices = left
        yield from generate_once(job, frames, frame_count, runtime, start)

    yield from precisely(once, job, runtime.report, start)


def _generated(
    job: Job,
    frames: Callable[[int], Iterable[Wanted]],
    frame_count: int,
    runtime: Runtime,
    devices: Sequence[str],
    start: int,
) -> Iterator[Patch | None]:
    """`generate_once`, by all of these devices."""
    report, windows = runtime.report, job.windows
    total = 2 * frame_count + job.sampling.steps * len(windows)
    with ExitStack() as stack:
        stack.enter_context(report.stage(STAGE))
        bar = stack.enter_context(runtime.progress.stage(STAGE, total))
        for device in {*devices} - {job.policy.device}:
            stack.enter_context(limit(job.plan.on(device), asked=runtime.memory_bytes is not None))
        crew = _Crew(job, runtime, devices, bar, stack)
        stack.enter_context(crew.at_work(frames, frame_count))

        # 1. and 2. Decoding begins when every window is encoded: only then is it known where the noise stands.
        sections = crew.encoded()
        report.results["tokens"] = count_tokens(crew.schedule.as_encoded(), job)

        # 3. The pictures, in order.
        done = crew.begin_decoding(start)
        runtime.keeper.skip(bar, STAGE, done)
        for index, patch in enumerate(decode_windows(crew.pictures, sections, job, frame_count, done), done):
            bar.advance()
            if index >= start:
                yield patch


class _Crew:
    """Devices at work on one clip; everything they share is guarded by `changed`, which is told of every change."""

    def __init__(
        self, job: Job, runtime: Runtime, devices: Sequence[str], bar: StageProgress, stack: ExitStack
    ) -> None:
        self.job, self.runtime, self.bar = job, runtime, bar
        self.changed = Condition()
        self.schedule = Schedule(job, [Seat(device, number == 0) for number, device in enumerate(devices)])
        self.read: deque[tuple[int, np.ndarray, Section]] = deque()
        self.made: dict[int, deque[Picture]] = {}
        self.error: BaseException | None = None
        self.stopped = False
        self.prompts: Any = None
        self.embedding = Lock()
        self.doing: list[Kind] = ["encode"] * len(devices)
        self.seconds = [defaultdict[str, float](float) for _ in devices]
        meters = {device: stack.enter_context(MemoryMeter(device)) for device in {*devices} - {job.policy.device}}
        stack.callback(self._report, devices, meters)
        names = ("encoded", "denoised", "decoded")
        self.shelves: list[Shelf | None] = [
            stack.enter_context(window_shelf(runtime, job, job.plan, name)) for name in names
        ]

    # --- what the caller asks for ------------------------------------------------------------------------------------

    def at_work(self, frames: Callable[[int], Iterable[Wanted]], frame_count: int) -> ExitStack:
        """Take what was made before, and begin with the rest; at the end of the context nobody works any more."""
        encoded, denoised, _ = self.shelves
        for number, section in enumerate(found := kept_sections(self.job, encoded)):
            self.schedule.encoded(number, section)
            if section is not None and denoised is not None and number in denoised:
                latents, section.unknown, noise = denoised.get(number)
                section.latents = filed(latents)
                self.schedule.denoised(number, noise)
        done = self.job.windows[len(found)].start if len(found) < len(self.job.windows) else frame_count
        made_steps = self.job.sampling.steps * len(self.schedule.done["denoise"])
        self.runtime.keeper.skip(self.bar, STAGE, done + made_steps)

        seats = range(len(self.schedule.seats))
        work: list[tuple[int, Callable[..., None], tuple[Any, ...]]] = [(seat, self._work, (seat,)) for seat in seats]
        work.append((seats[-1], self._read, (frames, frame_count, len(found))))
        threads = [Thread(target=self._guarded, args=each, name="device", daemon=True) for each in work]
        with ExitStack() as ending:
            ending.callback(self._stop, threads)
            for thread in threads:
                thread.start()
            return ending.pop_all()

    def encoded(self) -> list[Section | None]:
        """All windows, as soon as they are encoded."""
        self._wait(lambda: self.schedule.all_encoded)
        return self.schedule.sections

    def begin_decoding(self, start: int) -> int:
        """Have the windows decoded that end after frame `start`; returns how many frames are left out."""
        self._wait(lambda: self.schedule.last_noise is not None)
        noise = self.job.model.noise(self.job.seed)
        with self.changed:
            noise.set_state(self.schedule.last_noise)  # type: ignore[arg-type]
            done = decoded_before(start, self.job, self.schedule.sections, self.shelves[2], noise)
            self.schedule.begin_decoding(done, noise.get_state())
            self.changed.notify_all()
        return done

    def pictures(self, number: int) -> Iterator[Picture]:
        """Of a window's kept frames, as they are decoded."""
        while True:
            self._wait(lambda: bool(self.made.get(number)) or number in self.schedule.done["decode"])
            with self.changed:
                if not self.made[number]:
                    return
                picture = self.made[number].popleft()
                self.changed.notify_all()
            yield picture

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.error is not None or ready())
            if self.error is not None:
                raise self.error

    def _stop(self, threads: Sequence[Thread]) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        for thread in threads:
            thread.join()

    def _report(self, devices: Sequence[str], meters: dict[str, MemoryMeter]) -> None:
        for meter in meters.values():
            meter.sample()
        self.runtime.report.results["devices"] = [
            {
                "device": device,
                "seconds": {kind: round(took, 3) for kind, took in seconds.items()},
                **({"peak_device_bytes": meters[device].device_peak_bytes} if device in meters else {}),
            }
            for device, seconds in zip(devices, self.seconds, strict=True)
        ]

    # --- threads -----------------------------------------------------------------------------------------------------

    def advance(self, steps: int = 1) -> None:
        """As a stage's progress: for what runs in a thread, which ends here if all is to end."""
        if self.stopped:
            raise _StoppedError
        self.bar.advance(steps)

    def _guarded(self, seat: int, work: Callable[..., None], given: Sequence[Any]) -> None:
        try:
            work(*given)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the result is asked for
            with self.changed:
                self.error = self.error or (_FailedError(seat, self.doing[seat]) if ran_out(error) else error)
                self.stopped = True
                self.changed.notify_all()

    def _read(self, frames: Callable[[int], Iterable[Wanted]], frame_count: int, done: int) -> None:
        """Read the clip, and hand its windows to whoever encodes."""
        policy = self.job.policy.on(self.schedule.seats[-1].device)  # the first has the most to do
        use_device(policy.device)
        found = read_windows(frames, self.job, frame_count, policy, done, progress=self)
        for number, window in enumerate(found, done):
            with self.changed:
                if window is None:
                    for shelf in self.shelves[:2]:
                        if shelf is not None:
                            shelf.put(number)
                    self._encoded(number, None)
                else:
                    self.changed.wait_for(lambda: self.stopped or len(self.read) < READ_AHEAD)
                    self.read.append((number, *window))
                    self.schedule.read(number)
                self.changed.notify_all()
            del window
            trim_host()

    def _work(self, number: int) -> None:
        """Do what can be done on a device, until all is done."""
        seat = self.schedule.seats[number]
        use_device(seat.device)
        with ExitStack() as everything:
            parts: dict[Kind, tuple[ExitStack, Any]] = {}
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.stopped or self.schedule.over or self.schedule.choose(seat))
                    if self.stopped or self.schedule.over:
                        return
                    kind, window = self.schedule.take(seat)
                    item = self.read.popleft() if kind == "encode" and window is not None else None
                    self.changed.notify_all()
                began = time.perf_counter()
                self.doing[number] = kind
                for needless in parts.keys() - seat.open:
                    parts.pop(needless)[0].close()
                if kind not in parts:
                    parts[kind] = self._opened(kind, seat.device, everything)
                if window is not None:
                    self._do(kind, parts[kind][1], window, item)
                del item
                self.seconds[number][kind] += time.perf_counter() - began

    def _opened(self, kind: Kind, device: str, everything: ExitStack) -> tuple[ExitStack, Any]:
        """A part of the model on a device, which closes with what is returned, and with `everything`."""
        job, policy = self.job, self.job.policy.on(device)
        own = everything.enter_context(ExitStack())
        if kind == "encode":
            return own, own.enter_context(job.model.encoding(policy))
        if kind == "decode":
            return own, own.enter_context(job.model.decoding(policy))
        speed = job.speed(job.plan, job.sampling.steps * self.schedule.most_denoised)
        other = self.schedule.beside
        more = () if other is None else (job.policy.on(other.device),)
        return own, own.enter_context(job.model.denoising(policy, self._text(), job.sampling, speed, *more))

    def _text(self) -> Any:
        with self.embedding:  # once for all
            if self.prompts is None:
                self.prompts = self.job.model.prompts(self.job.prompts, self.job.policy, self.job.cache, QUIET)
            return self.prompts

    def _do(self, kind: Kind, part: Any, number: int, item: tuple[int, np.ndarray, Section] | None) -> None:
        if kind == "encode":
            assert item is not None
            section = encode_section(part, *item[1:])
            keep_section(self.shelves[0], number, section)
            with self.changed:
                self._encoded(number, section)
        elif kind == "denoise":
            self._denoise(part, number)
        else:
            self._decode(part, number)
        trim_host()

    def _encoded(self, number: int, section: Section | None) -> None:
        before = len(self.schedule.done["denoise"])
        self.schedule.encoded(number, section)
        self.changed.notify_all()
        # Windows with nothing to generate count as denoised.
        self.bar.advance(self.job.sampling.steps * (len(self.schedule.done["denoise"]) - before))

    def _denoise(self, denoise: Any, number: int) -> None:
        job, schedule = self.job, self.schedule
        with self.changed:
            section, before = schedule.sections[number], schedule.sections[number - 1] if number else None
            assert section is not None
            geometry, rate = job.model.geometry, job.model.settings.rate
            if before is not None:
                carry_over(before, section, geometry.space)
            context = gather_context(schedule.sections, number, geometry=geometry, rate=rate, count=job.context)
            noise = self._noise(schedule.noise[number])
        if section.unknown.any():
            section.latents = filed(denoise(section.latents, section.unknown, context, noise, self))
        else:
            self.advance(job.sampling.steps)
        if (shelf := self.shelves[1]) is not None:
            shelf.put(number, section.latents, section.unknown, noise.get_state())
        with self.changed:
            schedule.denoised(number, noise.get_state())
            self.changed.notify_all()

    def _decode(self, decode: Any, number: int) -> None:
        schedule = self.schedule
        with self.changed:
            # Each draws its noise after the one before, whoever is faster.
            self.changed.wait_for(lambda: self.stopped or schedule.turns[0] == number)
            if self.stopped:
                raise _StoppedError
            section = schedule.sections[number]
            assert section is not None
            noise = self._noise(schedule.decoding_noise)
            pictures = kept_pictures(decode, section, noise)
            made = self.made[number] = deque()
            schedule.turns.popleft()
            if not schedule.in_turn:
                schedule.decoding_noise = noise.get_state()
            self.changed.notify_all()
        for picture in pictures:
            with self.changed:
                self.changed.wait_for(lambda: self.stopped or len(made) < DECODED_AHEAD)
                if self.stopped:
                    raise _StoppedError
                made.append(picture)
                self.changed.notify_all()
        if (shelf := self.shelves[2]) is not None:
            shelf.put(number, noise.get_state())
        with self.changed:
            if schedule.in_turn:
                schedule.decoding_noise = noise.get_state()
            schedule.decoded(number)
            self.changed.notify_all()

    def _noise(self, state: np.ndarray) -> Noise:
        noise = self.job.model.noise(self.job.seed)
        noise.set_state(state)
        return noise
