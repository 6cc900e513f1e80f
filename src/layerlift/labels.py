"""How a mask file is to be read: as a label image, whose numbers say which object a pixel belongs to, or as a matte."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from layerlift.clip.clip import Clip
from layerlift.clip.container import open_input, video_stream
from layerlift.clip.decode import first_frame, side_data
from layerlift.clip.images import image_files
from layerlift.clip.layout import is_layout, layout_masks
from layerlift.clip.stills import picture_kind
from layerlift.names import naming
from layerlift.parse import whole_number

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# A label image has at most so many grey values or colours, and no grey value above the half of 8 bits.
MOST_LABELS = 32
BRIGHTEST_LABEL = 127
MOST_ENTRIES = 256  # of a palette

OPAQUE = 127  # alpha above this is opaque
TRANSPARENT = -1

_UUID = 16  # bytes before what an encoder says of itself
_GREY = 0x010101  # times a grey value: that grey as 0xRRGGBB

Kind = Literal["index", "grey", "colour", "alpha", "brightness"]


@dataclass(frozen=True, slots=True)
class Label:
    """An object in a label image.

    Attributes:
        code: its number: palette index, grey value, or colour as 0xRRGGBB.
        name: what a user calls it.
        colour: as 0xRRGGBB, which names it too.
        seen: whether it is in one of the frames asked for.
    """

    code: int
    name: str
    colour: int
    seen: bool

    def is_called(self, name: str) -> bool:
        """Whether a user who says `name` means this one: ``2``, ``#ff0000``."""
        if name.startswith("#"):
            return name.lower() == f"#{self.colour:06x}"
        return whole_number(name) is not None and whole_number(name) == whole_number(self.name)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a mask is read.

    Attributes:
        kind: which of its numbers count: palette indices, grey values or colours of a label image; of a matte, alpha or
            brightness.
        labels: the objects of a label image, in order of their numbers.
        see_through: whether its alpha varies: what is transparent is no object then.
    """

    kind: Kind
    labels: tuple[Label, ...] = ()
    see_through: bool = False

    def codes(self, stored: np.ndarray) -> np.ndarray:
        """The numbers of a label image's frame as it is stored, (H, W) int32; TRANSPARENT where nothing is."""
        if self.kind == "index":
            codes = stored[..., 4].astype(np.int32)
        elif self.kind == "grey":
            codes = (stored if stored.ndim == 2 else stored[..., 0]).astype(np.int32)
        else:
            codes = _grey_colours(stored) if stored.ndim == 2 else _colours(stored)
        if self.see_through and stored.ndim == 3 and stored.shape[2] > 3:
            codes[stored[..., 3] <= OPAQUE] = TRANSPARENT
        return codes


def read_labels(path: Path, source: Clip, start: int, stop: int) -> Reading:
    """Find out how a mask is to be read; every frame is looked at, `start` … `stop` - 1 for the objects in them.

    A label image is one with a palette; or lossless grey of at most 32 values, none above 127; or lossless colour of at
    most 32 colours, black the background. In a palette, the first entry is the background unless another is black and
    it is not. A palette of more than 32 greys is a matte, and so is every other picture: brightness decides, or alpha
    where that varies.
    """
    files = _files(path)
    kinds = {kind.demuxer if (kind := picture_kind(file)) is not None else None for file in files}
    table = _gif_table(files[0]) if kinds == {"gif"} else None
    seen = _Seen(MOST_LABELS if table is None else MOST_ENTRIES)
    lossless = all(_is_lossless(file) for file in files)
    for index, frame in enumerate(source.reader(0, source.frame_count, "stored")):
        seen.look_through(frame)
        if lossless and not seen.is_matte:
            seen.look(frame, within=start <= index < stop)
        # Grey stays grey in one file, but a folder's next picture may be of another kind.
        bright = frame.ndim == 2 and len(files) == 1 and max(seen.greys, default=0) > BRIGHTEST_LABEL
        if (seen.see_through or not source.has_alpha) and (not lossless or seen.is_matte or bright):
            break
    matte = Reading("alpha", see_through=True) if seen.see_through else Reading("brightness")
    if not lossless or seen.is_matte:
        return matte
    if table is not None or (seen.indexed and not (kinds == {"bmp_pipe"} and seen.is_ramp)):
        return _of_palette(seen, matte, table)  # BMPs have a palette of all greys where other formats are grey
    return _of_values(seen, matte)


def _of_palette(seen: _Seen, matte: Reading, table: list[int] | None) -> Reading:
    """The objects of an indexed image; a GIF's pictures come as colours, whose indices are in its `table`."""
    if table is None:
        used, within = seen.palette, seen.palette_within
    else:
        used, within = {colour: colour for colour in seen.colours}, seen.colours_within
    brightest = max((colour & 255 for colour in used.values()), default=0)
    if seen.is_grey and len(used) > MOST_LABELS and brightest > BRIGHTEST_LABEL:
        return matte
    first = table[0] if table else 0
    black = {code for code, colour in used.items() if colour == 0}
    background = {first} if used.get(first) == 0 or not black else black
    objects = used.keys() - (set() if matte.see_through else background)
    if table is None:
        return _labelled(
            "index", (Label(code, str(code), used[code], code in within) for code in sorted(objects)), matte
        )
    labels = (Label(c, str(table.index(c)) if c in table else f"#{c:06X}", c, c in within) for c in sorted(objects))
    return _labelled("colour", sorted(labels, key=lambda label: (len(label.name), label.name)), matte)


def _of_values(seen: _Seen, matte: Reading) -> Reading:
    """The objects of a lossless picture without a palette: its grey values, or its colours."""
    if seen.is_grey and not matte.see_through:
        if len(seen.greys) > MOST_LABELS or max(seen.greys, default=0) > BRIGHTEST_LABEL:
            return matte
        greys = sorted(seen.greys - {0})
        return _labelled("grey", (Label(g, str(g), g * _GREY, g in seen.greys_within) for g in greys), matte)
    colours = sorted(seen.colours - (set() if matte.see_through else {0}))
    if matte.see_through and len(colours) == 1:
        return matte  # one colour with a soft edge
    return _labelled("colour", (Label(c, f"#{c:06X}", c, c in seen.colours_within) for c in colours), matte)


def _labelled(kind: Kind, labels: Iterable[Label], matte: Reading) -> Reading:
    found = tuple(labels)
    return Reading(kind, found, matte.see_through) if found else matte


@dataclass(slots=True)
class _Seen:
    """What the frames of a mask hold; `within` are the frames asked for."""

    most: int  # colours that a label image without a palette may have
    indexed: bool = True  # every frame has a palette, and an index has one colour in all of them
    is_grey: bool = True
    see_through: bool = False
    palette: dict[int, int] = field(default_factory=dict)  # index to colour
    palette_within: set[int] = field(default_factory=set)
    greys: set[int] = field(default_factory=set)
    greys_within: set[int] = field(default_factory=set)
    colours: set[int] = field(default_factory=set)
    colours_within: set[int] = field(default_factory=set)
    _alpha: set[int] = field(default_factory=set)
    _known: np.ndarray | None = None  # (2**24,) bool: the colours met so far

    @property
    def is_matte(self) -> bool:
        """Whether there are more values than a label image has, and no palette."""
        return not self.indexed and max(len(self.colours), len(self.greys)) > self.most

    @property
    def is_ramp(self) -> bool:
        """Whether every index stands for the grey of its own value."""
        return all(colour == index * _GREY for index, colour in self.palette.items())

    def look_through(self, frame: np.ndarray) -> None:
        """Note the alpha of a frame as it is stored."""
        if not self.see_through:
            alpha = frame[..., 3] if frame.ndim == 3 and frame.shape[2] > 3 else np.array([255])
            self._alpha |= {int(alpha.min()), int(alpha.max())}
            self.see_through = len(self._alpha) > 1

    def look(self, frame: np.ndarray, *, within: bool) -> None:
        """Note the numbers in a frame as it is stored, (H, W) or (H, W, 3 … 5)."""
        if frame.ndim == 2:
            values = np.flatnonzero(np.bincount(frame.ravel())).astype(frame.dtype)
            self.indexed = False
            self._add(values.tolist(), _grey_colours(values).tolist(), within)
            return
        opaque = frame.reshape(-1, frame.shape[2])
        if frame.shape[2] > 3:
            opaque = opaque[opaque[:, 3] > OPAQUE]
        if frame.shape[2] == 5:
            indices, places = np.unique(opaque[:, 4], return_index=True)
            colours = _colours(opaque[places]).tolist()
            for index, colour in zip(indices.tolist(), colours, strict=True):
                self.indexed = self.indexed and self.palette.setdefault(index, colour) == colour
            self.palette_within.update(indices.tolist() if within else ())
        else:
            self.indexed = False
            red, green, blue = opaque[:, 0], opaque[:, 1], opaque[:, 2]
            if (red == green).all() and (green == blue).all():  # most masks: counted much faster than colours
                colours = _grey_colours(np.flatnonzero(np.bincount(red)).astype(np.uint8)).tolist()
            else:
                colours = self._distinct(_colours(opaque))
        greys = [colour & 255 for colour in colours]
        self.is_grey = self.is_grey and [grey * _GREY for grey in greys] == colours
        self._add(greys, colours, within)

    def _add(self, greys: list[int], colours: list[int], within: bool) -> None:
        self.greys.update(greys)
        self.colours.update(colours)
        if within:
            self.greys_within.update(greys)
            self.colours_within.update(colours)

    def _distinct(self, codes: np.ndarray) -> list[int]:
        """The colours among (N,) pixels, found without sorting all of them."""
        if self._known is None:
            self._known = np.zeros(1 << 24, np.bool_)
        new = np.unique(codes[~self._known[codes]])
        if len(new) > self.most:
            return [int(code) for code in new]  # no label image: which of the others are there does not matter
        self._known[new] = True
        known = np.array(sorted(self.colours | set(new.tolist())), np.int32)
        counts = np.bincount(np.searchsorted(known, codes), minlength=len(known))
        return [int(code) for code in known[counts > 0]]


def _colours(stored: np.ndarray) -> np.ndarray:
    """(…, 3 or more) uint8, red, green and blue first → (…) int32, 0xRRGGBB."""
    red, green, blue = (stored[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _grey_colours(values: np.ndarray) -> np.ndarray:
    """Grey, uint8 or uint16 → int32, 0xRRGGBB."""
    return (values if values.dtype == np.uint8 else values >> 8).astype(np.int32) * _GREY


def _files(path: Path) -> list[Path]:
    """The images of a mask's folder, or its one file."""
    if is_layout(path):
        path = layout_masks(path).video
    return image_files(path) if path.is_dir() else [path]


def _is_lossless(file: Path) -> bool:
    """Whether flat colours survive in a file for certain."""
    kind = picture_kind(file)
    if kind is not None:
        return not kind.lossy
    with open_input(file) as container:
        codec = video_stream(container, file).codec_context.codec
        return bool(codec.lossless and not codec.lossy) or _says_lossless(first_frame(file)[0])


def _says_lossless(frame: VideoFrame) -> bool:
    """Whether x264 or x265 wrote with a frame, among its settings, that nothing was lost."""
    from av.sidedata.sidedata import Type

    kinds: Any = Type  # PyAV's stubs take this enumeration for a dictionary
    found = side_data(frame, kinds.SEI_UNREGISTERED)
    words = [] if found is None else bytes(found)[_UUID:].decode("latin-1").rstrip("\0").split()
    if words[:1] == ["x264"]:
        return "rc=cqp" in words and "qp=0" in words and frame.format.components[0].bits == 8
    return words[:1] == ["x265"] and "lossless" in words


def _gif_table(file: Path) -> list[int]:
    """The colours of a GIF's global table, as 0xRRGGBB; nothing where it has none."""
    with naming(file), file.open("rb") as opened:
        head = opened.read(13)
        if not head[10] & 0x80:
            return []
        return _colours(np.frombuffer(opened.read(3 << (head[10] & 7) + 1), np.uint8).reshape(-1, 3)).tolist()
