"""What jobs have made: which results a project has, whether they are stale, and their frames as pictures."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from layerlift.app.commands import RESULT, STAGES, Commands
from layerlift.app.confined import existing
from layerlift.app.jobs import is_fresh
from layerlift.app.opening import stamp_of
from layerlift.app.pictures import jpeg, png, scaled, webp
from layerlift.app.projects import OpenProject
from layerlift.app.refusal import RefusalError
from layerlift.app.seen import Seen
from layerlift.app.shapes import Doc
from layerlift.clip import Clip, open_clip
from layerlift.clip.clip import Pixels
from layerlift.masks import Mask, open_mask
from layerlift.small_files import read_record

KEPT = 12  # results that stay open
PRESENT = "present.json"  # where each object is, beside objects.mkv
NOT_THERE = "this result is not there yet: run the job that makes it."
HALF = 127  # values above are masked
LEAST_SHARE = 1e-4  # of a picture: effects of fewer pixels are not shown in a lane
# The source map's colours (red, green, blue), as labels: 0 the clip's own, 1 borrowed, 2 and 3 invented.
SOURCES = {(0, 255, 0): 1, (255, 255, 0): 2, (255, 0, 255): 3}

Spans = dict[str, list[tuple[int, int]]]


class Present(msgspec.Struct):
    """present.json: ids `of` objects by their labels, and spans of frames in which each, or what it causes, is."""

    of: list[int] = []
    objects: Spans = {}
    effects: Spans = {}


class Results:
    """The results of all projects; opened when they are first asked for."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._lock = threading.RLock()
        self._seen = Seen()

    def listing(self, project: OpenProject) -> dict[str, Any]:
        """The results that are there, by name, as the page is told of them."""
        doc, folder = project.saved.doc, project.folder / "results"
        commands = Commands(project.root, project.folder, project.saved.clip, doc)
        stale = {}
        before = False  # what is made of something stale is stale
        for stage in STAGES:
            if stage == "track" and not commands.needs_tracking():
                continue
            try:
                fresh = is_fresh(project, commands.stage(stage, self._options(project, stage)))
            except RefusalError:
                fresh = False
            before = stale[RESULT[stage]] = before or not fresh
        found: dict[str, Any] = {}
        objects = folder / "objects.mkv"
        files = any(thing.file is not None for thing in doc.objects)
        if objects.is_file() or files:
            found["objects"] = {
                "frames": project.opened.facts.frames, "stale": stale.get("objects", False),
                "stamp": self._stamp(project, "objects"), **self._objects(project),
            }  # fmt: skip
        for name in ("effects", "plate", "composite", "source", "forecast"):
            path = folder / f"{name}.mkv"
            if path.is_file():
                of = {"source": "plate", "forecast": "effects"}.get(name, name)
                found[name] = self._about(project, path, stale.get(of, True))
        if "effects" in found:
            found["effects"]["threshold"] = doc.effects.threshold
            found["effects"]["present"] = present = present_in(folder)["effects"]
            for number in present if len(present) > 1 else ():
                found[f"effects_{number}"] = found["effects"]
        of = found.get("objects", {}).get("of", [])
        for number, (name, path) in enumerate(layers_in(folder)):
            found[name] = self._about(project, path, stale.get("layers", True))
            if number < len(of):
                found[name]["object"] = of[number]
        return found

    def picture(
        self, project: OpenProject, name: str, index: int, width: int, kinds: Sequence[str] | None = None
    ) -> bytes:
        """Frame `index` of a result at a width; of effects those of some `kinds`, by default the project's.

        Raises RefusalError (404) where there is none.
        """
        make: dict[str, Callable[[OpenProject, int, int], bytes]] = {
            "objects": self._labels,
            "source": partial(self._sources, "source"),
            "forecast": partial(self._sources, "forecast"),
        }  # fmt: skip
        if name in make:
            return make[name](project, index, width)
        if name == "effects" or name.startswith("effects_"):
            of = name.removeprefix("effects").removeprefix("_") if name != "effects" else None
            return self._sure(project, index, width, of, project.saved.doc.effects.kinds if kinds is None else kinds)
        if name not in ("plate", "composite") and not name.startswith("layer_"):
            raise RefusalError(404, "there is no such result.")
        path = dict(layers_in(project.folder / "results")).get(name, project.folder / "results" / f"{name}.mkv")
        if name.startswith("layer_"):
            layer = self._frame(path, index, "rgba")
            return webp(_premultiplied_scale(layer, min(width, layer.shape[1])))
        frame = self._frame(path, index)
        return jpeg(scaled(frame, min(width, frame.shape[1])))

    def note_made(self, project: OpenProject, stage: str, doc: Doc) -> None:
        """Find out in which frames each object, or what it causes, is, once a stage has run on a document."""
        if stage not in ("track", "effects"):
            return
        folder = project.folder / "results"
        known = present_in(folder)
        ours = [thing.id for thing in doc.objects if thing.file is None]
        order = Commands(project.root, project.folder, project.clip_path, doc).order()
        if stage == "track":
            labels = _stored(self._clip(folder / "objects.mkv"))
            of = [number for number in order if number in ours]
            there = [[bool((frame == number).any()) for number in range(1, len(of) + 1)] for frame in labels]
            known["objects"] = {number: spans_of([row[at] for row in there]) for at, number in enumerate(of)}
            known["of"] = of
        else:
            found = {path.stem.rpartition("_")[2]: path for path in folder.glob("effects_[0-9]*.mkv")}
            own = [found[number] for number in sorted(filter(str.isdecimal, found), key=int)]
            known["effects"] = {
                number: self._beyond_objects(project, path)
                for number, path in zip(order, own or [folder / "effects.mkv"], strict=False)
            }
        (folder / PRESENT).write_bytes(msgspec.json.encode(known))

    def _beyond_objects(self, project: OpenProject, path: Path) -> list[tuple[int, int]]:
        """The spans of frames in which a mask reaches beyond the objects, by more than a few pixels."""
        facts = project.opened.facts
        least = LEAST_SHARE * facts.width * facts.height
        there = []
        for index, frame in enumerate(self._clip(path).frames()):
            mask = frame[..., 0] > HALF
            there.append(bool(np.count_nonzero(mask & (self._label_image(project, index) == 0)) > least))
        return spans_of(there)

    def _options(self, project: OpenProject, stage: str) -> dict[str, Any]:
        onto = project.saved.made.get("onto")
        return {"onto": onto} if stage == "composite" and onto else {}

    def _objects(self, project: OpenProject) -> dict[str, Any]:
        """The ids of the objects by their labels, and the spans of frames in which each is."""
        known = present_in(project.folder / "results")
        there = (project.folder / "results" / "objects.mkv").is_file()
        of: list[int] = list(known["of"]) if there else []
        present = dict(known["objects"]) if there else {}
        for thing in project.saved.doc.objects:
            if thing.file is not None:
                of.append(thing.id)
                present[str(thing.id)] = [(0, project.opened.facts.frames)]
        return {"of": of, "present": present}

    def _about(self, project: OpenProject, path: Path, stale: bool) -> dict[str, Any]:
        return {"frames": self._clip(path).frame_count, "stale": stale, "stamp": stamp_of(path)}

    def _stamp(self, project: OpenProject, name: str) -> str:
        path = project.folder / "results" / f"{name}.mkv"
        files = [project.folder / thing.file for thing in project.saved.doc.objects if thing.file is not None]
        return "".join(stamp_of(file)[:8] for file in (path, *files) if file.exists())

    def _clip(self, path: Path) -> Clip:
        """A result, opened. Raises RefusalError (404) where it is not there."""
        clip: Clip = self._kept(path, "clip", lambda: open_clip(path))
        return clip

    def _frame(self, path: Path, index: int, pixels: Pixels = "rgb24") -> np.ndarray:
        """Frame `index` of a result. Raises RefusalError (404) where there is none."""
        clip = self._clip(path)
        if not 0 <= index < clip.frame_count:
            raise RefusalError(404, f"there is no frame {index}: this result has frames 0 to {clip.frame_count - 1}.")
        with closing(clip.reader(index, index + 1, pixels)) as frames:  # type: ignore[type-var]
            return next(frames)

    def _kept(self, path: Path, what: str, make: Callable[[], Any]) -> Any:
        try:
            stamp = stamp_of(path)
        except OSError as error:
            raise RefusalError(404, NOT_THERE) from error
        key = f"{path}{what}", stamp
        with self._lock:
            if key not in self._open:
                self._open[key] = make()
                while len(self._open) > KEPT:
                    self._open.popitem(last=False)
            self._open.move_to_end(key)
            return self._open[key]

    def _labels(self, project: OpenProject, index: int, width: int) -> bytes:
        """Which object a pixel belongs to: 0, or 1 + its place in `of`."""
        labels = self._label_image(project, index)
        return png(scaled(labels, min(width, labels.shape[1]), nearest=True))

    def _label_image(self, project: OpenProject, index: int) -> np.ndarray:
        """`_labels` at the clip's size, (H, W) uint8."""
        facts, path = project.opened.facts, project.folder / "results" / "objects.mkv"
        labels, ours = np.zeros((facts.height, facts.width), np.uint8), 0
        if path.is_file():
            stored = self._frame(path, index, "stored")
            labels = (stored if stored.ndim == 2 else stored[..., 0]).copy()
            ours = len(present_in(path.parent)["of"])
        files = [project.folder / thing.file for thing in project.saved.doc.objects if thing.file is not None]
        if not (ours or files) or not 0 <= index < facts.frames:
            raise RefusalError(404, NOT_THERE)
        for number, file in enumerate(files, ours + 1):
            with closing(self._mask(project, file).frames(index, index + 1)) as frames:  # type: ignore[type-var]
                labels[next(frames) & (labels == 0)] = number
        return labels

    def _sure(self, project: OpenProject, index: int, width: int, of: str | None, kinds: Sequence[str]) -> bytes:
        """How likely each pixel is an effect, of one object or of any, 0 to 255; of effects without that, the mask."""
        facts, folder = project.opened.facts, project.folder / "results"
        known, path, number = list(present_in(folder)["effects"]), folder / "effects.mkv", None
        if of is not None:
            if of not in known:
                raise RefusalError(404, NOT_THERE)
            number = known.index(of)
            path = folder / f"effects_{number}.mkv" if len(known) > 1 else path
        sure = self._seen.sure_at(project, index, number, kinds)
        if sure is None:
            mask = self._frame(path, index)[..., 0]
            return png(scaled(mask, min(width, mask.shape[1])))
        height = max(1, round(facts.height * width / facts.width))
        return png(cv2.resize(sure, (width, height), interpolation=cv2.INTER_LINEAR))

    def mask_picture(self, project: OpenProject, name: str, index: int, width: int) -> bytes:
        """Frame `index` of an imported mask at a width."""
        mask = self._mask(project, existing(project.folder / "masks", name, "mask"))
        with closing(mask.frames(index, index + 1)) as frames:  # type: ignore[type-var]
            inside = next(frames).astype(np.uint8) * 255
        return png(scaled(inside, min(width, inside.shape[1])))

    def _mask(self, project: OpenProject, file: Path) -> Mask:
        mask: Mask = self._kept(file, "mask", partial(open_mask, file, project.opened.clip))
        return mask

    def _sources(self, name: str, project: OpenProject, index: int, width: int) -> bytes:
        """Where each pixel of the plate comes from, or would, as labels; see SOURCES."""
        colours = self._frame(project.folder / "results" / f"{name}.mkv", index)
        labels: np.ndarray = np.zeros(colours.shape[:2], np.uint8)
        for colour, label in SOURCES.items():
            labels[(colours == colour).all(-1)] = label
        return png(scaled(labels, min(width, labels.shape[1]), nearest=True))


def present_in(folder: Path) -> dict[str, Any]:
    """What is known of where objects and effects are: `of`, and spans of frames by the objects' ids."""
    try:
        known = read_record(folder / PRESENT, Present)
    except (OSError, ValueError):
        known = Present()
    return msgspec.structs.asdict(known)


def layers_in(folder: Path) -> list[tuple[str, Path]]:
    """The layers in a folder, by name: a single one has no number in its own."""
    found = [(path.stem, path) for path in sorted(folder.glob("layer_[0-9]*.mkv"))]
    single = folder / "layer.mkv"
    return [("layer_0", single)] if single.is_file() else found


def spans_of(there: list[bool]) -> list[tuple[int, int]]:
    """The spans (first, end) of what is True."""
    edges = np.flatnonzero(np.diff(np.array([False, *there, False]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _stored(clip: Clip) -> Iterator[np.ndarray]:
    """A label image's frames as they are stored, (H, W) uint8."""
    for frame in clip.reader(0, clip.frame_count, "stored"):
        yield frame if frame.ndim == 2 else frame[..., 0]


def _premultiplied_scale(layer: np.ndarray, width: int) -> np.ndarray:
    """A layer (H, W, 4) uint8 at a width, without what lies under its clear pixels bleeding into its edge."""
    if width == layer.shape[1]:
        return layer
    alpha = layer[..., 3:].astype(np.float32) / 255
    small = scaled(np.dstack([layer[..., :3] * alpha, alpha]), width)
    shown = small[..., :3] / np.maximum(small[..., 3:], 1 / 255)
    return np.dstack([np.clip(shown, 0, 255), small[..., 3:] * 255]).round().astype(np.uint8)
