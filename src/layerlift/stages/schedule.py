"""Which window is worked on next, and where: a clip's windows on several devices. Arithmetic alone, no threads.

A window is denoised after the one before it only if both have tokens in common that are generated there. Where the
noise stands before each is known beforehand, since what each draws is, unless windows are shown context of each other.

Passes over all tokens take longer than all else, so the second device runs a half of each, that of one of the prompts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from layerlift.stages.context import CONTEXT_REACH
from layerlift.stages.encoding import Section
from layerlift.stages.generation import Job, shared_tokens

Kind = Literal["encode", "denoise", "decode"]


@dataclass(slots=True)
class Seat:
    """A device: whether it denoises before all else, and which parts of the model it has open."""

    device: str
    first: bool = False
    open: set[Kind] = field(default_factory=set)


class Schedule:
    """How far each window is, and what can be done next.

    Attributes:
        sections: the windows that are encoded.
        done: numbers of windows, by what was done.
        noise: where the noise stands before a window is denoised, by its number, as far as that is known.
        decoding_noise: where it stands before the next window is decoded, which is the first of `turns`.
        beside: the device that runs a half of each pass, if one does; it does nothing else meanwhile.
        in_turn: whether a window can only be decoded after the one before it, because what it draws is not known.
    """

    def __init__(self, job: Job, seats: list[Seat]) -> None:
        self.job, self.seats = job, seats
        count = len(job.windows)
        self.sections: list[Section | None] = [None] * count
        self.done: dict[Kind, set[int]] = {"encode": set(), "denoise": set(), "decode": set()}
        self.noise = {0: job.model.noise(job.seed).get_state()}
        self.decoding_noise = self.noise[0]
        self.in_turn = job.model.draws_while_decoding()
        self._waiting: deque[int] = deque()  # read and not begun to be encoded
        self._wanted: dict[int, bool] = {}  # of the windows that were read, whether anything is to be generated
        self._masks: dict[int, np.ndarray] = {}  # what was unknown before anything was generated
        self._follows: dict[int, bool] = {}  # whether a window needs the one before it
        self._settled = 0  # so many windows are encoded without a gap
        self._begun: set[int] = set()  # denoised, or about to be
        dense = job.speed(job.plan, job.sampling.steps).refresh is None
        shared = dense and len(job.prompts) > 1 and len(seats) > 1 and self._room({"encode", "denoise"})
        self.beside = seats[1] if shared else None
        self._to_decode: deque[int] | None = None
        self.turns: deque[int] = deque()
        self._decoding: set[int] = set()

    # --- what has happened -------------------------------------------------------------------------------------------

    def read(self, number: int) -> None:
        """A window was read, and waits to be encoded."""
        self._waiting.append(number)
        self._wanted[number] = True

    def encoded(self, number: int, section: Section | None) -> None:
        """A window is encoded; None: nothing is to be generated in it."""
        self.sections[number] = section
        self._wanted[number] = section is not None
        if section is not None:
            self._masks[number] = section.unknown.copy()
        self.done["encode"].add(number)
        while self._settled in self.done["encode"]:
            self._settle(self._settled)
            self._settled += 1
        self._skip_empty()

    def denoised(self, number: int, noise: np.ndarray) -> None:
        """A window is denoised; the noise stands there afterwards."""
        self._begun.add(number)
        self.done["denoise"].add(number)
        self.noise[number + 1] = noise
        self._skip_empty()

    def begin_decoding(self, done: int, noise: np.ndarray) -> None:
        """Windows may be decoded from here on, but for those that end with the first `done` frames."""
        self.decoding_noise = noise
        self._to_decode = deque(
            number
            for number, section in enumerate(self.sections)
            if section is not None and section.shown and self.job.windows[number].keep_stop > done
        )
        self.turns.extend(self._to_decode)

    def decoded(self, number: int) -> None:
        """A window is decoded."""
        self._decoding.discard(number)
        self.done["decode"].add(number)

    def as_encoded(self) -> list[Section | None]:
        """The windows, all of them encoded, with the tokens that were unknown before any was generated."""
        return [
            section and replace(section, unknown=self._masks[number]) for number, section in enumerate(self.sections)
        ]

    # --- how far it is -----------------------------------------------------------------------------------------------

    @property
    def all_encoded(self) -> bool:
        return self._settled == len(self.sections)

    @property
    def last_noise(self) -> np.ndarray | None:
        """Where the noise stands after the last window; None while that is not known."""
        return self.noise.get(len(self.sections)) if self.all_encoded else None

    @property
    def over(self) -> bool:
        """Whether nothing is left to be done."""
        return self._to_decode is not None and not self._to_decode and not self._decoding

    @property
    def most_denoised(self) -> int:
        """Windows with something to generate, at most."""
        return sum(self._wanted.values()) + len(self.sections) - len(self._wanted)

    # --- what is next ------------------------------------------------------------------------------------------------

    def choose(self, seat: Seat) -> tuple[Kind, int | None] | None:
        """What a device does next, and with which window; without one it only opens that part of the model.

        It opens a part if more windows wait for it than devices have it, so that a chain of windows stays where it is.
        The first device opens the transformer before there is anything to denoise.
        """
        if seat.first and "denoise" not in seat.open and not self._all_denoised and self._speed_is_known:
            return "denoise", None
        if seat is self.beside and not self._all_denoised and (self.all_encoded or len(self.seats) > 2):
            return None
        order: tuple[Kind, ...] = ("denoise", "encode", "decode") if seat.first else ("encode", "denoise", "decode")
        for kind in order:
            waiting = self._ready(kind)
            if not waiting or (kind == "denoise" and self.beside is not None and not seat.first):
                continue
            if kind in seat.open:
                return kind, waiting[0]
            if len(waiting) > sum(kind in other.open for other in self.seats) and self._fits(seat, kind):
                return kind, waiting[0]
        return None

    def take(self, seat: Seat) -> tuple[Kind, int | None]:
        """`choose`, and it has begun: the parts that the device has open are those that it needs from here on."""
        chosen = self.choose(seat)
        assert chosen is not None
        kind, number = chosen
        seat.open = self._still(seat) | {kind}
        if number is None:
            return chosen
        if kind == "encode":
            self._waiting.popleft()
        elif kind == "denoise":
            self._begun.add(number)
        else:
            assert self._to_decode is not None
            self._to_decode.popleft()
            self._decoding.add(number)
        return chosen

    def _ready(self, kind: Kind) -> list[int]:
        if kind == "encode":
            return [*self._waiting]
        if kind == "denoise":
            lent = self.beside is None or self.all_encoded or len(self.seats) > 2
            if not self._speed_is_known or not lent:
                return []
            return [number for number in range(self._settled) if number not in self._begun and self._may(number)]
        found: list[int] = []
        for number in self._to_decode or ():
            if number not in self.done["denoise"]:
                break
            found.append(number)
        return found[: 0 if self._decoding else 1] if self.in_turn else found

    def _may(self, number: int) -> bool:
        """Whether a window has all it needs to be denoised."""
        if self._follows[number] and number - 1 not in self.done["denoise"]:
            return False
        if not self.job.context:
            return True
        window = self.job.windows[number]
        reach = window.stop + CONTEXT_REACH * window.frame_count
        return all(other.start >= reach for other in self.job.windows[self._settled :])

    @property
    def _all_denoised(self) -> bool:
        return len(self.done["denoise"]) == len(self.sections)

    @property
    def _speed_is_known(self) -> bool:
        """Whether the windows that are not read yet change nothing about how passes run."""
        least, most, steps = sum(self._wanted.values()), self.most_denoised, self.job.sampling.steps
        return least > 0 and self.job.speed(self.job.plan, least * steps) == self.job.speed(self.job.plan, most * steps)

    def _still(self, seat: Seat) -> set[Kind]:
        """The parts that a device has open and that are needed still."""
        over: set[Kind] = set()
        if self.all_encoded:
            over.add("encode")
        if self._all_denoised:
            over.add("denoise")
        return seat.open - over

    def _fits(self, seat: Seat, kind: Kind) -> bool:
        """Whether a device has room for another part beside those that it needs."""
        kinds = self._still(seat) | {kind}
        if seat.first and not self._all_denoised:
            kinds.add("denoise")
        return self._room(kinds)

    def _room(self, kinds: set[Kind]) -> bool:
        """Whether parts of the model may be open on a device at once: one of them works at a time."""
        plan = self.job.plan
        needs = [plan.need(kind) for kind in kinds]
        weights = sum(need.weights for need in needs)
        return weights + max(need.total - need.weights for need in needs) <= plan.request.memory

    # --- what follows from what has happened -------------------------------------------------------------------------

    def _settle(self, number: int) -> None:
        """Whether a window needs the one before it, and where the noise stands after it."""
        job, section = self.job, self.sections[number]
        before = self.sections[number - 1] if number else None
        if job.context:
            self._follows[number] = number > 0
            return
        self._follows[number] = False
        noise = job.model.noise(job.seed)
        noise.set_state(self.noise[number])
        if section is not None:
            unknown = self._masks[number].copy()
            shared = None if before is None else shared_tokens(before, section, job.model.geometry.space)
            if shared is not None:
                there, here = shared
                unknown[here] = False
                # What was carried over into the one before may lie there, too.
                carried = job.windows[number - 1].carried > section.window.shift
                self._follows[number] = carried or bool(self._masks[number - 1][there].any())
            if unknown.any():
                job.model.draw(noise, section.latents, job.sampling)
        self.noise[number + 1] = noise.get_state()

    def _skip_empty(self) -> None:
        """Windows with nothing to generate count as denoised in their turn."""
        done = self.done["denoise"]
        for number in range(self._settled):
            if self.sections[number] is not None or number in done:
                continue
            if not self.job.context or number == 0 or number - 1 in done:
                self._begun.add(number)
                done.add(number)
                self.noise.setdefault(number + 1, self.noise[number])
