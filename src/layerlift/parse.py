"""What is typed, made into values. Each function raises InputError, saying what was given and what to give instead."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from layerlift.errors import InputError
from layerlift.limits import FASTEST, LONGEST_SIDE, MAX_PIXELS, MOST_GUIDANCE, MOST_SIGMAS
from layerlift.names import exists

# x, y (or left, top, right, bottom) in pixels, and the number of the frame, where one is given.
Click = tuple[tuple[float, ...], int | None]


# What an object may cause, as the finder tells it apart.
EFFECT_KINDS = ("shadow", "reflection", "light", "smoke")


def whole_number(text: str) -> int | None:
    """The number that one to nine digits say; None for anything else: ``²`` is a digit to Python, and no number, and
    neither are a thousand of them."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def parse_size(text: str, flag: str = "--size") -> tuple[int, int]:
    """``704x480`` → (704, 480): width, height in pixels."""
    match = re.fullmatch(r"(\d{1,6})\s*[x×X]\s*(\d{1,6})", text.strip())
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 1:
        raise InputError(f"{flag} {text!r} is not a size: give width and height in pixels, such as 704x480.")
    if max(size) > LONGEST_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise InputError(
            f"{flag} {text} is more than layerlift makes: give at most {MAX_PIXELS} pixels in all, and {LONGEST_SIDE} "
            "a side."
        )
    return size


def parse_frames(text: str) -> tuple[int, int | None]:
    """``12:48`` → (12, 48), ``12:`` → (12, None), ``:48`` → (0, 48)."""
    match = re.fullmatch(r"(\d{0,9}):(\d{0,9})", text.strip())
    if match is None or text.strip() == ":":
        raise InputError(f"--frames {text!r} is not START:END: give frame numbers counted from 0, such as 0:48 or 24:.")
    start = int(match[1] or 0)
    stop = int(match[2]) if match[2] else None
    if stop is not None and stop <= start:
        raise InputError(f"--frames {text!r} selects no frame: END must be larger than START.")
    return start, stop


def parse_rate(text: str) -> Fraction:
    """``24``, ``30000/1001`` or ``23.976`` → frames a second, the last of these as 24000/1001."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(?:/(\d{1,6}))?", text.strip())
    rate = Fraction(match[1]) / int(match[2] or 1) if match and int(match[2] or 1) else Fraction(0)
    if not 0 < rate <= FASTEST:
        raise InputError(
            f"--rate {text!r} is not a rate: give frames a second, such as 24, 23.976 or 30000/1001, up to {FASTEST}."
        )
    broadcast = Fraction(1000 * math.ceil(rate), 1001)
    return broadcast if rate.denominator > 1 and abs(rate - broadcast) < Fraction(1, 200) else rate


def parse_offset(text: str) -> tuple[int, int]:
    """``12,-40`` → (12, -40): pixels right and down."""
    match = re.fullmatch(r"([+-]?\d{1,6})\s*,\s*([+-]?\d{1,6})", text.strip())
    if match is None:
        raise InputError(f"--offset {text!r} is not X,Y: give pixels right and down, such as 120,-40.")
    return int(match[1]), int(match[2])


def parse_guidance(value: float) -> float:
    """The number itself, when it is a guidance scale."""
    if not (math.isfinite(value) and value >= 1):
        raise InputError(f"--guidance is {value}: give at least 1 (1 = no guidance).")
    if value > MOST_GUIDANCE:
        raise InputError(f"--guidance is {value}: give {MOST_GUIDANCE:g} or less.")
    return value


def parse_sigmas(text: str) -> tuple[float, ...]:
    """``0.3,0.5`` → (0.3, 0.5)."""
    try:
        sigmas = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--sigma {text!r} cannot be read: give one number or several separated by commas, such as 0.4 or 0.3,0.5."
        ) from error
    if len(sigmas) > MOST_SIGMAS:
        raise InputError(f"--sigma has {len(sigmas)} numbers: give {MOST_SIGMAS} or fewer.")
    return sigmas


def parse_layers(text: str) -> str | tuple[int, ...]:
    """``auto`` and ``all`` as they are, ``3,5-8`` → (3, 5, 6, 7, 8)."""
    if text in ("auto", "all"):
        return text
    layers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if match is None:
            raise InputError(f"--layers {text!r} cannot be read: give auto, all, or numbers such as 3,5-8.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"--layers {text!r} counts down from {first} to {last}: give the smaller number first.")
        layers.extend(range(first, last + 1))
    return tuple(layers)


def parse_references(texts: Sequence[str]) -> dict[int, Path]:
    """``clean.png@12`` and folders of ``012.png`` → pictures by their frames' numbers, whether they exist or not.

    Raises InputError also for two pictures for one frame.
    """
    found: dict[int, Path] = {}
    if not texts:
        return found
    from layerlift.evidence.reference import pictures_of, two_for_one

    for text in texts:
        named = pictures_of(text) if exists(text) and Path(text).is_dir() else _parse_reference(text)
        for frame, picture in named.items():
            if frame in found:
                raise two_for_one(frame, found[frame], picture)
            found[frame] = picture
    return found


def _parse_reference(text: str) -> dict[int, Path]:
    name, _, number = text.rpartition("@")
    if not name or not re.fullmatch(r"[0-9]{1,9}", number):
        raise InputError(
            f"--reference {text!r} names no frame: give PICTURE@FRAME, such as clean.png@12, or a folder of pictures "
            "such as 012.png."
        )
    return {int(number): Path(name)}


def parse_kinds(text: str) -> tuple[str, ...]:
    """``shadow,light`` → ("shadow", "light"). Raises InputError for a kind that is none, and for no kind."""
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [kind for kind in kinds if kind not in EFFECT_KINDS]
    if unknown or not kinds:
        raise InputError(f"unknown --kinds {text!r}: choose from {', '.join(EFFECT_KINDS)}, separated by commas.")
    return kinds


def parse_brush(text: str) -> tuple[Path, int | None]:
    """``mask.png@12`` → its path and the frame; without a frame it is for all of them."""
    name, _, number = text.rpartition("@")
    if name and re.fullmatch(r"[0-9]{1,9}", number) and not exists(text):
        return Path(name), int(number)
    return Path(text), None


def parse_points(texts: Sequence[str], flag: str = "--point") -> tuple[Click, ...]:
    """``120,80@12`` → ((120, 80), 12), for each text; without a frame, None in its place."""
    found = [_numbers(text, 2) for text in texts]
    for text, click in zip(texts, found, strict=True):
        if click is None:
            raise InputError(
                f"{flag} {text!r} is not X,Y or X,Y@FRAME: give pixels from the top left corner, such as 320,180@0."
            )
    return tuple(click for click in found if click is not None)


def parse_negatives(texts: Sequence[str]) -> tuple[Click, ...]:
    """As `parse_points`, for points that are not in the object."""
    return parse_points(texts, "--negative")


def parse_boxes(texts: Sequence[str], flag: str = "--box") -> tuple[Click, ...]:
    """``10,20,200,220@12`` → ((10, 20, 200, 220), 12), for each text. Raises InputError for a box without area, too."""
    found = list[Click]()
    for text in texts:
        click = _numbers(text, 4)
        if click is None:
            raise InputError(
                f"{flag} {text!r} is not X0,Y0,X1,Y1 or X0,Y0,X1,Y1@FRAME: give the left, top, right and bottom side "
                "in pixels, such as 10,20,200,220@0."
            )
        left, top, right, bottom = click[0]
        if not (left < right and top < bottom):
            raise InputError(f"{flag} {text!r} has no area: give the left, top, right and bottom side, in this order.")
        found.append(click)
    return tuple(found)


def parse_named(text: str) -> tuple[str, tuple[Click, ...], tuple[Click, ...], tuple[Click, ...]]:
    """``dog=120,80 not:90,40@3 10,20,200,220`` → its name, points, points that are not in it, and boxes."""
    name, equals, rest = text.partition("=")
    if not equals or not name.strip() or not rest.split():
        raise InputError(
            f"--object {text!r} is not NAME=…: give a name and clicks, such as 'dog=120,80 not:90,40@3'; masks go to "
            "--keyframe."
        )
    points, negatives, boxes = list[str](), list[str](), list[str]()
    for part in rest.split():
        if part.startswith("not:"):
            negatives.append(part.removeprefix("not:"))
        else:
            (boxes if part.count(",") > 1 else points).append(part)
    flag = f"--object {name.strip()}="
    return name.strip(), parse_points(points, flag), parse_points(negatives, flag), parse_boxes(boxes, flag)


def _numbers(text: str, count: int) -> Click | None:
    number = r"(-?\d{1,6}(?:\.\d{1,3})?)"
    match = re.fullmatch(r"\s*,\s*".join([number] * count) + r"(?:@(\d{1,9}))?", text.strip())
    if match is None:
        return None
    *values, frame = match.groups()
    return tuple(float(value) for value in values), None if frame is None else int(frame)
