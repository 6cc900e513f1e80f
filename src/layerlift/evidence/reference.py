"""Reference frames: frames that a user cleaned by hand or with an image model. Read `open_references` first.

Inside its frame's grown mask nothing outranks a reference. It is brought to the frame's place and colours by what both
show around the mask; then the frame counts as one that shows what it hid, and gathering carries it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index as whole_number
from pathlib import Path

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.clip.clip import Pixels
from layerlift.clip.images import image_files, read_picture
from layerlift.errors import InputError
from layerlift.evidence.align import exposure
from layerlift.evidence.join import EDGE, join
from layerlift.evidence.register import LEAST_POINTS, Sight, Template, largest_shift
from layerlift.evidence.state import State
from layerlift.masks import ASPECT_SLACK, Mask
from layerlift.pixels.arrays import bounds, distance_to, grow

# A file's path, or pixels (H, W, 3) or (H, W, 4) uint8.
Picture = np.ndarray | str | Path
# Pictures by their frames' numbers in the clip, or a folder of pictures that are named by them.
GivenReferences = Mapping[int, Picture] | str | Path

# What `layerlift reference` paints over what has to be painted, and how far an encoder may move it.
MARK = (255, 0, 255)
MARK_SLACK = 8
# A picture of whose hole more than this share is still marked has not been edited, or not everywhere.
LEFT_SHARE = 0.005
# Ending of the masks that `layerlift reference` writes beside its pictures, for image models.
MASK_ENDING = "_mask"

# Pictures are compared this far around the hole: a share of its longer side, at least so many pixels.
CONTEXT = 0.5
CONTEXT_LEAST = 64
# Colours are compared within this share of the picture's shorter side, at least so many pixels.
RING_SHARE = 1 / 16
RING_LEAST = 24
# Colours are compared after this blur (pixels): what an encoder or an image model does to detail averages out.
SMOOTH = 4.0
POINTS = 1200
# Shift, zoom and turn; an editor crops and scales, it does not shear.
MOVES = (2, 4)
# The pictures' sizes at which the shift is looked for, before the full one.
SCALES = (1 / 8, 1 / 4, 1 / 2)
SMALLEST = 32  # pixels of the shorter side below which nothing is compared
# A picture is moved by no more than this share of the frame's longer side, and only where that explains it so much
# better.
SHIFT_SHARE = 1 / 16
GAIN = 0.85
# Pictures whose detail around the hole correlates less show something else.
SAME_FRAME = 0.2
# A hole shows what the clip shows where the two differ hardly more than around it: by so many times that and so many
# levels of 255.
SAME_FACTOR, SAME_LEVELS = 1.5, 1.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture of what a frame hides, in the frame's place and colours.

    Attributes:
        index: of the frame in the clip, counted from the clip's own first frame.
        frame: its number, counted from the first frame of the clip it was cut from; what users call it.
        box: left, top, right, bottom of the hole: the grown mask.
        hole: (h, w) bool, the grown mask in the box.
        known: (h, w) bool, what of the hole the picture shows.
        pixels: (h, w, 3) uint8.
    """

    index: int
    frame: int
    box: tuple[int, int, int, int]
    hole: np.ndarray
    known: np.ndarray
    pixels: np.ndarray

    def lay_into(self, frame: np.ndarray) -> np.ndarray:
        """A copy of the frame (H, W, 3 or 4) uint8 with the picture in the hole."""
        left, top, right, bottom = self.box
        out = frame.copy()
        out[top:bottom, left:right, :3][self.known] = self.pixels[self.known]
        return out

    def shows(self, shape: tuple[int, ...]) -> np.ndarray:
        """What of the hole the picture shows, (H, W) bool of this shape."""
        left, top, right, bottom = self.box
        out = np.zeros(shape, bool)
        out[top:bottom, left:right] = self.known
        return out

    def left_hidden(self, shape: tuple[int, ...]) -> np.ndarray:
        """What of the hole the picture does not show, as a mask (H, W) bool of this shape."""
        left, top, right, bottom = self.box
        out = np.zeros(shape, bool)
        out[top:bottom, left:right] = self.hole & ~self.known
        return out

    def tell(self, state: np.ndarray) -> np.ndarray:
        """`State` (H, W) uint8 of the frame with what the picture shows of the hole as GATHERED."""
        left, top, right, bottom = self.box
        out = state.copy()
        part = out[top:bottom, left:right]
        part[self.known & (part == State.ORIGINAL)] = State.GATHERED
        return out


def open_references(given: GivenReferences | None, clip: Clip, mask: Mask, dilate: int) -> list[Reference]:
    """Read the pictures, check them and bring each to its frame; `dilate` is how far the mask will be grown.

    Frames are numbered as in the clip that `clip` was cut from. Of an interlaced clip, whose frames here are fields,
    the file's frames count: the picture is taken for the first field of one. A picture of another size is scaled to the
    frame's.

    Raises InputError, each with its own sentence, for a picture that cannot be read, has another aspect ratio, belongs
    to no frame of the clip or to one where nothing is masked, shows another scene, or was not edited; and for a folder
    without pictures.
    """
    named = {} if given is None else named_pictures(given)
    ours = {frame: _hidden_at(frame, _name(picture, frame), clip, mask) for frame, picture in sorted(named.items())}
    return [_open(frame, named[frame], clip, masked, grow(masked, dilate)) for frame, masked in ours.items()]


def apply_references(clip: Clip, mask: Mask, references: Sequence[Reference]) -> tuple[Clip, Mask]:
    """The clip with the references in their frames' holes, and the mask without these holes; both are read as needed.

    To whoever gathers, a reference is a frame that shows what it hid. Without references both come back as they are.
    """
    if not references:
        return clip, mask
    at = {reference.index: reference for reference in references}
    frames, masks = clip.reader, mask.reader

    def laid(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
        for number, frame in enumerate(frames(start, stop, pixels), start):
            yield at[number].lay_into(frame) if number in at else frame

    def hidden(start: int, stop: int) -> Iterator[np.ndarray]:
        for number, masked in enumerate(masks(start, stop), start):
            yield at[number].left_hidden(masked.shape) if number in at else masked

    return replace(clip, reader=laid), replace(mask, reader=hidden, still=False)


def told_references(
    references: Sequence[Reference], provenance: Callable[[np.ndarray], None] | None
) -> Callable[[np.ndarray], None] | None:
    """`provenance`, called once a frame in order with `State` (H, W) uint8, told of references as GATHERED pixels."""
    if provenance is None or not references:
        return provenance
    at = {reference.index: reference for reference in references}
    count = 0

    def tell(state: np.ndarray) -> None:
        nonlocal count
        provenance(at[count].tell(state) if count in at else state)
        count += 1

    return tell


def shares_with(references: Sequence[Reference], shares: dict[str, float]) -> dict[str, float]:
    """`Evidence.shares` with the references' pixels as hidden ones that were gathered."""
    given = sum(int(np.count_nonzero(reference.known)) for reference in references)
    if not given:
        return shares
    hidden = shares["hidden"] + given
    return {
        "hidden": hidden,
        "gathered": (shares["gathered"] * shares["hidden"] + given) / hidden,
        "unknown": shares["unknown"] * shares["hidden"] / hidden,
    }


def named_pictures(given: GivenReferences) -> dict[int, Picture]:
    """Pictures by their frames' numbers, from such a mapping or from a folder.

    Raises InputError as `pictures_of`, and for a number below 0.
    """
    if isinstance(given, str | Path):
        return dict(pictures_of(given))
    numbered = {whole_number(frame): picture for frame, picture in given.items()}
    for frame, picture in numbered.items():
        if frame < 0:
            raise InputError(f"{_name(picture, frame)} is given for frame {frame}: frames are counted from 0.")
    return numbered


def pictures_of(folder: str | Path) -> dict[int, Path]:
    """The pictures of a folder by their names' numbers: 012.png is for frame 12, 012_mask.png beside it is ignored.

    Raises InputError for a folder without pictures, a picture with another name, and two for one frame.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder of reference frames: give one that contains pictures such as 012.png."
        )
    found: dict[int, Path] = {}
    for file in image_files(folder):
        number = file.stem.removesuffix(MASK_ENDING)
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise InputError(
                f"{file} is not named after a frame: rename it to its frame's number, such as 012.png, or move it "
                "elsewhere."
            )
        if number != file.stem:
            continue
        if int(number) in found:
            raise two_for_one(int(number), found[int(number)], file)
        found[int(number)] = file
    if not found:
        raise InputError(
            f"{folder} contains no reference frame: give a folder with pictures such as 012.png for frame 12."
        )
    return found


def two_for_one(frame: int, one: Path, other: Path) -> InputError:
    """What to say of two pictures for the same frame."""
    return InputError(f"both {one} and {other} are given for frame {frame}: give one reference for each frame.")


def _hidden_at(frame: int, name: str, clip: Clip, mask: Mask) -> np.ndarray:
    """The mask (H, W) bool of the frame a picture is given for. Raises InputError where there is no such, or none."""
    index = clip.index_of(frame)
    if not 0 <= index < clip.frame_count:
        part = "" if clip.source_frame_count is None else "in this part of the clip "
        raise InputError(
            f"{name} is given for frame {frame}, but the frames {part}are {clip.number_of(0)} to "
            f"{clip.number_of(clip.frame_count - 1)}: give one of these."
        )
    masked = next(mask.frames(index, index + 1))
    if not masked.any():
        raise InputError(
            f"{name} is given for frame {frame}, where nothing is masked: give a frame that hides something."
        )
    return masked


def _open(frame: int, picture: Picture, clip: Clip, masked: np.ndarray, hidden: np.ndarray) -> Reference:
    """A picture for a frame of the clip whose mask is `masked`, and `hidden` when grown, both (H, W) bool."""
    name = _name(picture, frame)
    index = clip.index_of(frame)
    shown, left = _read(picture, name, clip)
    if np.count_nonzero(left & hidden) > LEFT_SHARE * np.count_nonzero(hidden):
        raise InputError(
            f"{name} is still magenta or transparent in places inside the mask: paint over all of them, or leave the "
            "picture out."
        )
    truth = next(clip.frames(index, index + 1))
    box = bounds(hidden)
    assert box is not None  # something is masked

    # What lies around the hole tells how the picture lies to the frame, and how its colours do.
    around = _around(box, hidden.shape)
    matrix = _align(truth, shown, hidden, around)
    if matrix is None:
        raise InputError(
            f"{name} does not match frame {frame} around the mask: check the frame number, counted from 0."
        )
    corner = np.array([[1, 0, around[0]], [0, 1, around[1]], [0, 0, 1.0]])
    columns, rows = around[2] - around[0], around[3] - around[1]
    window = np.s_[around[1] : around[3], around[0] : around[2]]
    truth, hole, left = truth[window], hidden[window], left[window]
    if np.array_equal(matrix, np.eye(3)):
        moved = shown[window]
    else:
        moved = cv2.warpPerspective(
            shown, matrix @ corner, (columns, rows), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
    away = distance_to(hole)
    ring = ~hole & (away <= max(RING_LEAST, round(RING_SHARE * min(hidden.shape))))
    gain, bias = exposure(_smooth(moved, ~hole), _smooth(truth, ~hole), ring)
    values = moved * gain + bias
    if _is_unedited(values, truth, masked[window], ring):
        raise InputError(f"{name} is the same as frame {frame} of the clip inside the mask: clean it first.")
    values = join(values.astype(np.float32), truth, hole, ~hole & (away <= EDGE))

    inner = np.s_[box[1] - around[1] : box[3] - around[1], box[0] - around[0] : box[2] - around[0]]
    pixels = np.clip(np.rint(values[inner]), 0, 255).astype(np.uint8)
    return Reference(index, frame, box, hole[inner], (hole & ~left)[inner], pixels)


def _read(picture: Picture, name: str, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """A picture at the clip's size (H, W, 3) uint8, and which of its pixels are still marked or transparent (H, W)."""
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] not in (3, 4) or picture.dtype != np.uint8 or 0 in picture.shape:
            raise InputError(
                f"{name} is an array of shape {picture.shape} and type {picture.dtype}: give (H, W, 3) or (H, W, 4), "
                "uint8."
            )
        pixels = picture
    else:
        pixels = read_picture(Path(picture))
    height, width = pixels.shape[:2]
    off = min(abs(width - clip.width * height / clip.height), abs(height - clip.height * width / clip.width))
    if off > ASPECT_SLACK:
        raise InputError(
            f"{name} is {width}x{height}, which does not match the shape of the clip, {clip.width}x{clip.height}: "
            "give a picture of the whole frame."
        )
    shown = np.ascontiguousarray(pixels[..., :3])
    left = np.asarray((np.abs(shown.astype(np.int16) - np.array(MARK, np.int16)) <= MARK_SLACK).all(2))
    if pixels.shape[2] == 4:
        left |= pixels[..., 3] < 128
    if (width, height) != (clip.width, clip.height):
        size = clip.width, clip.height
        smaller = clip.width < width
        shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        left = cv2.resize(left.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return shown, left


def _align(
    truth: np.ndarray,
    shown: np.ndarray,
    hidden: np.ndarray,
    box: tuple[int, int, int, int],
) -> np.ndarray | None:
    """Where a frame's pixels lie in a picture of it, (3, 3), as told by a box around the hole; identity by default.

    None where the two do not show the same.
    """
    window = np.s_[box[1] : box[3], box[0] : box[2]]
    ours, theirs = (Sight(picture, hidden).cut(box) for picture in (truth, shown))
    template = Template(ours, POINTS)
    matrix = np.eye(3)
    if len(template) < LEAST_POINTS:
        return matrix  # nothing to compare
    stays = template.judge(theirs, matrix)
    if stays is not None:
        found = template.fit(theirs, _search(truth[window], shown[window], hidden[window], box[:2]), MOVES)
        near = template.fit(theirs, stays, MOVES)
        for other in (near, found):
            if other is not None and other.cost < GAIN * stays.cost:
                far = largest_shift(other.matrix, (float(box[0]), float(box[1]), box[2] - 1.0, box[3] - 1.0))
                if far <= SHIFT_SHARE * max(hidden.shape):
                    matrix, stays = other.matrix, other
    return matrix if template.agreement(theirs, matrix) >= SAME_FRAME else None


def _search(truth: np.ndarray, shown: np.ndarray, hidden: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """A first guess of where a part (h, w) of a frame lies in the picture, from coarse to fine: (3, 3)."""
    matrix = np.eye(3)
    height, width = hidden.shape
    for scale in SCALES:
        size = round(width * scale), round(height * scale)
        if min(size) < SMALLEST:
            continue
        sx, sy = size[0] / width, size[1] / height
        # Pixel centres: full-size x lies at (x + ½)·scale - ½.
        reduce = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
        covered = cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        ours, theirs = (Sight(cv2.resize(part, size, interpolation=cv2.INTER_AREA), covered) for part in (truth, shown))
        start = reduce @ matrix @ np.linalg.inv(reduce)
        found = Template(ours, POINTS).fit(theirs, start, MOVES)
        if found is not None:
            matrix = np.linalg.inv(reduce) @ found.matrix @ reduce
    offset = np.array([[1, 0, corner[0]], [0, 1, corner[1]], [0, 0, 1.0]])
    return offset @ matrix @ np.linalg.inv(offset)


def _smooth(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) blurred, each pixel from those `where` (h, w) bool alone: (h, w, 3) float32."""
    weights = where.astype(np.float32)[..., None]
    mass = cv2.GaussianBlur(weights, (0, 0), SMOOTH)[..., None]
    return np.asarray(cv2.GaussianBlur(picture * weights, (0, 0), SMOOTH) / np.maximum(mass, 1e-6), np.float32)


def _is_unedited(values: np.ndarray, truth: np.ndarray, masked: np.ndarray, ring: np.ndarray) -> bool:
    """Whether a picture (h, w, 3) shows in the mask (h, w) bool just what the frame shows there."""
    off = values.astype(np.float32) - truth
    # An encoder's errors average out, an object's absence does not.
    for apart in (off, cv2.GaussianBlur(off, (0, 0), SMOOTH)):
        distance = np.abs(apart).mean(2)
        around = float(distance[ring].mean()) if ring.any() else 0.0
        if float(distance[masked].mean()) > SAME_FACTOR * around + SAME_LEVELS:
            return False
    return True


def _around(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    margin = max(CONTEXT_LEAST, round(CONTEXT * max(right - left, bottom - top)))
    return max(0, left - margin), max(0, top - margin), min(shape[1], right + margin), min(shape[0], bottom + margin)


def _name(picture: Picture, frame: int) -> str:
    return f"the reference for frame {frame}" if isinstance(picture, np.ndarray) else str(picture)
