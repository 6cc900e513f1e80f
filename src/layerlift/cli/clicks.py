"""Clicks, boxes and known masks, as they are typed: made into the targets of a segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.errors import InputError
from layerlift.flags import flag
from layerlift.names import exists
from layerlift.options import MASK
from layerlift.parse import Click, parse_boxes, parse_named, parse_negatives, parse_points

if TYPE_CHECKING:
    import numpy as np

    from layerlift.clip import Clip
    from layerlift.stages.segment import Target

# An object that is not given a name.
UNNAMED = "object"


@dataclass(frozen=True, slots=True)
class ClickFlags:
    """Clicks on one object: pixels of the picture, each with the number of its frame or None for the first.

    Attributes:
        points: inside the object.
        negatives: outside it.
        boxes: around it.
    """

    points: tuple[Click, ...] = flag(
        (),
        "A pixel of the object, and the frame it is in (default: the first). The object is then found in every frame. "
        "Repeat for more.",
        "--point",
        metavar="X,Y[@FRAME]",
        group=MASK,
        takes=list[str],
        parse=parse_points,
    )
    negatives: tuple[Click, ...] = flag(
        (),
        "A pixel that is not of the object. Repeat for more.",
        "--negative",
        metavar="X,Y[@FRAME]",
        group=MASK,
        takes=list[str],
        parse=parse_negatives,
    )
    boxes: tuple[Click, ...] = flag(
        (),
        "A box around the object: left, top, right and bottom side. Repeat for other frames.",
        "--box",
        metavar="X0,Y0,X1,Y1[@FRAME]",
        group=MASK,
        takes=list[str],
        parse=parse_boxes,
    )

    def given(self) -> bool:
        """Whether anything was typed."""
        return bool(self.points or self.negatives or self.boxes)


@dataclass(frozen=True, slots=True)
class NamedClicks:
    """What is said of one object."""

    name: str
    clicks: ClickFlags


def named_clicks(clicks: ClickFlags, objects: Sequence[str]) -> list[NamedClicks]:
    """The object that is clicked on without a name, if any, then those of --object, as they are typed.

    Raises InputError for two objects of one name.
    """
    found = [NamedClicks(UNNAMED, clicks)] if clicks.given() else []
    for text in objects:
        name, *said = parse_named(text)
        if any(name == other.name for other in found):
            raise InputError(f"two objects are called {name}: give each --object a name of its own.")
        found.append(NamedClicks(name, ClickFlags(*said)))
    return found


def keyframe_of(text: str, names: Sequence[str]) -> tuple[str, Path, int]:
    """``dog=mask.png@12`` → the object's name, the mask and the frame; the name may be left out where there is one.

    A name that no click has is another object.

    Raises InputError for a text that names no frame, or not which of several objects is meant.
    """
    head, equals, rest = text.partition("=")
    # An object may be known by its masks alone; a file's name may hold an equals sign, too.
    named = bool(equals) and (head.strip() in names or (bool(head.strip()) and not exists(text.rpartition("@")[0])))
    path, at, number = (rest if named else text).rpartition("@")
    if not (at and path and number.isascii() and number.isdigit() and len(number) < 10):
        raise InputError(f"--keyframe {text!r} names no frame: give MASK@FRAME, such as mask.png@12.")
    if not named and len(names) > 1:
        raise InputError(
            f"--keyframe {text!r} does not say which object it shows: put {' or '.join(f'{name}=' for name in names)} "
            "before the mask."
        )
    return (head.strip() if named else names[0] if names else UNNAMED), Path(path), int(number)


def make_targets(
    said: Sequence[NamedClicks], keyframes: Sequence[tuple[str, Path, int]], clip: "Clip"
) -> "list[Target]":
    """The targets of a segmentation, with frames as they are numbered in `clip`; masks are read.

    Raises InputError for two boxes or masks in one frame, and for a mask that cannot be read.
    """
    from layerlift.stages.segment import Target

    masks: dict[str, dict[int, np.ndarray]] = {}
    for name, path, number in keyframes:
        known = masks.setdefault(name, {})
        index = clip.index_of(number)
        if index in known:
            raise InputError(f"two masks of {name} are given for frame {number}: leave one of them out.")
        known[index] = read_keyframe(path, clip, index, number)
    clicks = {one.name: one.clicks for one in said}
    return [
        Target(name, prompts_by_frame(name, clicks.get(name, ClickFlags()), clip), masks.get(name, {}))
        for name in dict.fromkeys([*clicks, *masks])
    ]


def prompts_by_frame(name: str, clicks: ClickFlags, clip: "Clip") -> dict:
    """What is said of an object, `Prompts` by the frames' numbers in `clip`."""
    import numpy as np

    from layerlift.stages.segment import Prompts

    # Users see whole frames; of an interlaced clip, the clip's frames are fields of half the height.
    tall = 1 if clip.field_order is None else 2

    def index_of(number: int | None) -> int:
        return 0 if number is None else clip.index_of(number)

    points: dict[int, list[tuple[float, float, bool]]] = {}
    for given, inside in ((clicks.points, True), (clicks.negatives, False)):
        for (x, y), number in given:
            points.setdefault(index_of(number), []).append((x, y / tall, inside))
    boxes: dict[int, tuple[float, float, float, float]] = {}
    for (left, top, right, bottom), number in clicks.boxes:
        index = index_of(number)
        if index in boxes:
            raise InputError(
                f"two boxes are given for {name} in frame {clip.number_of(index)}: give every object its own --object."
            )
        boxes[index] = left, top / tall, right, bottom / tall
    found = {}
    for index in sorted({*points, *boxes}):
        at = np.array(points.get(index, []), np.float32).reshape(-1, 3)
        found[index] = Prompts(at[:, :2], at[:, 2] > 0, boxes.get(index))
    return found


def read_keyframe(path: Path, clip: "Clip", index: int, number: int) -> "np.ndarray":
    """A known mask, (H, W) bool: a still, or that frame of a mask of the whole clip.

    Raises InputError where it cannot be read, or the clip has no such frame.
    """
    from layerlift.masks import open_mask

    if not 0 <= index < clip.frame_count:
        first, last = clip.number_of(0), clip.number_of(clip.frame_count - 1)
        raise InputError(
            f"--keyframe {path} is for frame {number}, but {clip.name} has frames {first} to {last}: give one of them."
        )
    return next(open_mask(path, clip).frames(index, index + 1))
