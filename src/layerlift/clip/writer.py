"""Writing clips: whole or not at all, see `whole.py`."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from layerlift.clip.clip import Clip
from layerlift.clip.picture_notes import VP9, chroma_note, colour_note, fields_note, shape_note
from layerlift.errors import InputError
from layerlift.names import HIDDEN, check_name
from layerlift.places import check_writable
from layerlift.whole import KeptAsideError, Unfinished, cannot_be_renamed

if TYPE_CHECKING:
    from layerlift.clip.coding import Coding

# Output endings and FFmpeg's names of their containers.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# Those whose codecs here can hold alpha.
ALPHA_ENDINGS = frozenset([".mov", ".mkv", ".webm"])

_OUR_IMAGES = re.compile(r"\d{5,}\.png")


class OutputWarning(UserWarning):
    """Something of the input is not in the output, because the output's container cannot hold it."""


class FrameSink(Protocol):
    """Where a writer's frames go; `finish` makes the temporary whole, `abandon` only lets go of it."""

    def write(self, frame: np.ndarray) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


def check_output(
    path: str | Path,
    lossless: bool = False,
    overwrite: bool = False,
    like: Clip | None = None,
    *,
    version: bool = True,
) -> Path:
    """Check, before any work begins, that a result can be written to `path`; returns it as a Path.

    A path without an ending, or one that ends in a slash, is a folder of PNGs.
    Raises InputError for an ending that cannot be written, `lossless` with another ending than .mkv, a missing folder,
    a name that is too long, and an existing output without `overwrite`; for an ending whose codec does not take the
    size of `like`, and for a `version` of it (a mask is none) one whose codec does not hold its alpha or its bits.
    Raises LayerliftError for a folder that cannot be written to.
    """
    alpha = version and like is not None and not is_folder_output(path) and keeps_alpha(like)
    if version and like is not None:
        _check_depth(path, like)
    path = _check_path(path, lossless, overwrite, alpha=alpha)
    if like is not None:
        check_clip_size(path, like if version else bare(like), lossless=lossless, alpha=alpha)
    return path


def _check_depth(path: str | Path, like: Clip) -> None:
    if Path(path).suffix.lower() == ".webm" and like.samples is not None and like.samples.deep:
        raise InputError(
            f"cannot write {path}: {like.name} has {like.samples.bits} bits, but .webm is written with 8; use .mov or "
            ".mkv."
        )


def bare(like: Clip) -> Clip:
    """A clip of which nothing but its size and timing counts."""
    return replace(like, samples=None, pictures=None, field_order=None)


def check_clip_size(path: str | Path, like: Clip, *, lossless: bool, alpha: bool) -> None:
    """`check_size` for a version of a clip, with or without alpha."""
    from layerlift.clip.coding import clip_coding

    endings = [ending for ending in (".mov", ".mkv", ".mp4") if not alpha or ending in ALPHA_ENDINGS]
    check_size(
        path, like, lambda ending: clip_coding(like, ending, lossless=lossless, alpha=alpha),
        [] if lossless else endings,
    )  # fmt: skip


def check_size(path: str | Path, like: Clip, coding: Callable[[str], Coding], others: Iterable[str]) -> None:
    """Raises InputError where an output does not take a clip's size, with one of the `others` among endings that does.

    `coding`: how the clip is coded in a file with an ending.
    """
    from layerlift.clip.encode import takes_size

    ending = Path(path).suffix.lower()
    if is_folder_output(path) or takes_size(like, CONTAINERS[ending], coding(ending)):
        return
    better = next((other for other in others if takes_size(like, CONTAINERS[other], coding(other))), None)
    raise InputError(
        f"cannot write {path}: a clip of {like.width}x{like.height} pixels does not go into this kind of {ending}; use "
        f"{better or 'a folder of PNGs (a path without an extension)'}."
    )


def _check_path(path: str | Path, lossless: bool, overwrite: bool, *, alpha: bool) -> Path:
    """As `check_output`, for a clip of which it is known whether it is to keep alpha."""
    folder = is_folder_output(path)
    text, path = str(path), Path(path)
    ending = path.suffix.lower()
    if not folder and (ending not in CONTAINERS or (ending == ".webm" and not alpha)):
        only = " (.webm is for clips with alpha)" if ending == ".webm" else ""
        raise InputError(
            f"cannot write {text}: layerlift writes .mp4, .m4v, .mov, .mkv or a folder of PNGs (a path without an "
            f"extension){only}; change the extension."
        )
    if not folder and lossless and ending != ".mkv":
        raise InputError(f"cannot write {text} losslessly: lossless clips are .mkv; change the extension to .mkv.")
    if not folder and alpha and ending not in ALPHA_ENDINGS:
        raise no_alpha_in(path)
    check_place(text, folder, overwrite, _OUR_IMAGES)
    return path


def no_alpha_in(path: str | Path) -> InputError:
    """What is said of an output without alpha for a clip that has it."""
    return InputError(
        f"cannot write {path}: {Path(path).suffix} cannot hold the clip's transparency; use .mov, .mkv or a folder of "
        "PNGs."
    )


def keeps_alpha(like: Clip) -> bool:
    """Whether any pixel of a clip is transparent, so that what is made of it has alpha, too."""
    if not like.has_alpha or like.pictures is None:
        return False
    return any(bool((frame[..., 3] < 255).any()) for frame in like.rgba_frames())


def check_place(text: str, folder: bool, overwrite: bool, ours: re.Pattern[str]) -> None:
    """Raises InputError unless an output, a folder of images or a file, can be put where `text` says.

    A folder is replaced only when every file in it has a name that is `ours`. Raises LayerliftError for a place that
    cannot be written to.
    """
    check_name(text)
    path = Path(text)
    parent = _place(path, folder).parent
    if not parent.is_dir():
        raise InputError(f"cannot write {text}: the folder {parent} does not exist; create it first.")
    if path.is_dir() != folder and path.exists():
        kind = "a folder" if path.is_dir() else "a file"
        raise InputError(f"cannot write {text}: {kind} of that name exists; choose another name.")
    if path.exists() and not path.is_dir() and not path.is_file():
        raise InputError(f"cannot write {text}: it is a device or a pipe; choose another name.")
    inside = [f.name for f in path.iterdir() if not f.name.startswith(HIDDEN)] if folder and path.is_dir() else None
    empty = inside == []
    there = path.exists() if folder else os.path.lexists(path)  # a link that leads nowhere is replaced like any file
    if there and not empty and not overwrite:
        raise InputError(f"{text} already exists; choose another output or add --overwrite.")
    if inside and not all(map(ours.fullmatch, inside)):
        raise InputError(
            f"{text} contains files other than numbered images, so it will not be replaced; choose another folder."
        )
    if path.is_dir():
        check_writable(path, text)  # what it holds is removed
    if not (path.is_dir() and cannot_be_renamed(_place(path, folder))):
        check_writable(parent, text)


def _place(path: Path, folder: bool) -> Path:
    """Where an output is put: a link to a folder is followed, as what is wanted there may be another disk."""
    return Path(os.path.realpath(path)) if folder else path.absolute()


def is_folder_output(path: str | Path) -> bool:
    """Whether an output path stands for a folder of PNGs."""
    return str(path).endswith(("/", os.sep)) or Path(path).suffix == ""


def output_notes(path: str | Path, like: Clip, *, lossless: bool = False, alpha: bool = False) -> list[str]:
    """What of `like` an output at `path` will not hold, each a sentence; `alpha` says that it is written with alpha.

    That is what its container has no place for, the shape of its pixels, where its chroma lies, and that its fields
    share frames.
    """
    from layerlift.clip.coding import clip_coding

    folder, ending = is_folder_output(path), Path(path).suffix.lower()
    notes = stream_notes(path, like, lossless=lossless)
    if folder:
        return [*notes, *shape_note(like), *colour_note(like), *fields_note(like, "a folder of images")]
    notes += chroma_note(like, clip_coding(like, ending, lossless=lossless, alpha=alpha), ending)
    return [*notes, *(fields_note(like, VP9) if ending == ".webm" else [])]


def stream_notes(path: str | Path, like: Clip, *, lossless: bool = False, sound_beside: bool = False) -> list[str]:
    """What of the file of `like` an output at `path` has no place for, in one sentence, and sound that it recodes.

    `sound_beside` says that the sound of a folder lies in a file of its own.
    """
    from layerlift.clip.coding import clip_codec
    from layerlift.clip.streams import IMAGES, dropped_streams

    folder, ending = is_folder_output(path), Path(path).suffix.lower()
    dropped = dropped_streams(like, IMAGES if folder else CONTAINERS[ending])
    if sound_beside:
        dropped.pop("sound", None)
    if like.hdr is not None:
        lost = like.hdr.names(codec=None if folder else clip_codec(like, path, lossless=lossless))
        dropped |= {"HDR metadata": lost} if lost else {}
    notes = []
    if ending == ".webm" and "sound" in dropped:
        notes.append(f"The sound of {like.path} ({', '.join(dropped.pop('sound'))}) is coded as Opus.")
    if not dropped:
        return notes
    listed = ", ".join(f"{kind} ({', '.join(dict.fromkeys(codecs))})" for kind, codecs in dropped.items())
    if folder:
        reason = "images cannot hold it"
    elif set(dropped) == {"another video track"}:
        reason = "only one is processed"
    else:
        kept = set(dropped) - set(dropped_streams(like, "matroska"))
        holder = f"lossless {ending}" if lossless else ending
        reason = f"{holder} cannot hold it{', .mkv can' if kept and ending != '.mkv' else ''}"
    return [*notes, f"Left out of {like.path}: {listed}; {reason}."]


class ClipWriter:
    """A context manager that takes frames one by one and leaves a whole output or none.

    Frames are (H, W, 3) uint8 RGB, (H, W, 4) uint8 RGBA with straight alpha, or (H, W) bool or uint8, all alike. They
    are taken for versions of `like`'s own: where a frame shows what `like` shows, the samples of `like` are written at
    all their bits, and its alpha is kept. Size, rate, timestamps, colour tags and sound are those of `like`.
    `coding.clip_coding` says which codec an ending stands for. `sound` is False for what is no version of the clip,
    such as a mask: then neither its sound nor its samples are used.
    `notes` says what could not be kept. Leaving the block by an exception removes what was written.

    Raises InputError as `check_output` does, ValueError for frames that are not those of `like` in size or number.
    """

    def __init__(
        self, path: str | Path, like: Clip, *, lossless: bool = False, overwrite: bool = False, sound: bool = True
    ) -> None:
        self.path = Path(path)
        self.like = like
        self.count = 0
        self._lossless, self._overwrite, self._sound = lossless, overwrite, sound
        self._folder = is_folder_output(path)
        self._alpha = sound and keeps_alpha(like)
        if sound:
            _check_depth(path, like)
        self._check()
        self._check_size()
        self.notes: list[str] = [*([like.damage] if like.damage else []), *self._notes()] if sound else []
        self._made: Unfinished | None = None
        self._sink: FrameSink | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one frame."""
        if frame.shape[:2] != (self.like.height, self.like.width):
            raise ValueError(f"frame of {frame.shape[:2]} for a clip of {(self.like.height, self.like.width)} (H, W)")
        if self.count >= self.like.frame_count:
            raise ValueError(f"more than the {self.like.frame_count} frames of {self.like.name}")
        frame = self._prepare(frame)
        if self._sink is None:
            self._made = Unfinished(self.path, self._check, folder=self._folder, overwrite=self._overwrite)
            with self._made.blamed():
                self._sink = self._open(frame, self._made.path)
        assert self._made is not None
        with self._made.blamed():
            self._sink.write(np.ascontiguousarray(frame))
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # That another result had to be kept aside is no reason to lose this one.
            if kind is None or (isinstance(error, KeptAsideError) and self.count == self.like.frame_count):
                self._finish()
            elif self._sink is not None:
                with suppress(OSError):  # of a full disk, which has been told
                    self._sink.abandon()
        except KeptAsideError as other:
            raise other if error is None else KeptAsideError(f"{error} {other}", other.path) from None
        finally:
            if self._made is not None:
                self._made.discard()

    def _check(self) -> None:
        """Raises InputError when the output cannot be put in its place; asked before the work and again after it."""
        alpha = self._alpha or (self.like.has_alpha and self.path.suffix.lower() == ".webm")
        _check_path(f"{self.path}/" if self._folder else self.path, self._lossless, self._overwrite, alpha=alpha)

    def _check_size(self) -> None:
        like = self.like if self._sound else bare(self.like)
        check_clip_size(
            f"{self.path}/" if self._folder else self.path, like, lossless=self._lossless, alpha=self._alpha
        )

    def _notes(self) -> list[str]:
        path = f"{self.path}/" if self._folder else self.path
        return output_notes(path, self.like, lossless=self._lossless, alpha=self._alpha)

    def _prepare(self, frame: np.ndarray) -> np.ndarray:
        if frame.dtype == np.bool_:
            frame = frame.astype(np.uint8) * np.uint8(255)
        if frame.dtype != np.uint8:
            raise ValueError(f"frame of type {frame.dtype}, expected uint8 or bool")
        return frame

    def _open(self, frame: np.ndarray, path: Path) -> FrameSink:
        from layerlift.clip.coding import clip_coding
        from layerlift.clip.encode import ImageSink, VideoSink

        alpha = self._alpha or (frame.ndim == 3 and frame.shape[2] == 4)
        like = self.like if self._sound else bare(self.like)
        if self._folder:
            return ImageSink(path, like, alpha=alpha)
        ending = self.path.suffix.lower()
        if alpha and ending not in ALPHA_ENDINGS:
            raise no_alpha_in(self.path)
        container = CONTAINERS[ending]
        coding = clip_coding(like, ending, lossless=self._lossless, alpha=alpha, grey=frame.ndim == 2)
        return VideoSink(path, container, self.like, coding, sound=self._sound)

    def _finish(self) -> None:
        if self._sink is None or self._made is None or self.count != self.like.frame_count:
            if self._sink is not None:
                self._sink.abandon()
            raise ValueError(f"{self.count} frames were written for the {self.like.frame_count} of {self.like.name}")
        with self._made.blamed():
            self._sink.finish()
            self._commit(self._made)

    def _commit(self, made: Unfinished) -> None:
        made.commit()


def write_clip(
    path: str | Path, frames: Iterable[np.ndarray], like: Clip, *, lossless: bool = False, overwrite: bool = False
) -> Path:
    """Write frames, (H, W, 3) uint8 RGB each, with the rate, timestamps, colour tags and sound of `like`.

    See `ClipWriter`. An OutputWarning names what cannot be kept. Returns the path.
    """
    with ClipWriter(path, like, lossless=lossless, overwrite=overwrite) as writer:
        for note in writer.notes:
            warnings.warn(note, OutputWarning, stacklevel=2)
        for frame in frames:
            writer.write(frame)
    return writer.path


def write_mask(path: str | Path, frames: Iterable[np.ndarray], like: Clip, *, overwrite: bool = False) -> Path:
    """Write mask frames, (H, W) bool each, white = masked, with the timing of `like` and no sound.

    .mkv and folders of PNGs are lossless, other endings H.264.
    """
    lossless = Path(path).suffix.lower() == ".mkv"
    with ClipWriter(path, like, lossless=lossless, overwrite=overwrite, sound=False) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.path
