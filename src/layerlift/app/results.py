"""What jobs have made: which results a project has, whether they are stale, and their frames as pictures."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from layerlift.app.commands import RESULT, STAGES, Commands
from layerlift.app.jobs import is_fresh
from layerlift.app.opening import stamp_of
from layerlift.app.pictures import jpeg, png, scaled, webp
from layerlift.app.projects import OpenProject
from layerlift.app.refusal import RefusalError
from layerlift.app.seen import sure_at
from layerlift.clip import Clip, open_clip
from layerlift.masks import Mask, open_mask

KEPT = 12  # results that stay open
PRESENT = "present.json"  # where each object is, beside objects.mkv
# The source map's colours (red, green, blue), as labels: 0 the clip's own, 1 borrowed, 2 and 3 invented.
SOURCES = {(0, 255, 0): 1, (255, 255, 0): 2, (255, 0, 255): 3}


class Results:
    """The results of all projects; opened when they are first asked for."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._lock = threading.RLock()

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
        for name in ("effects", "plate", "composite", "source"):
            path = folder / f"{name}.mkv"
            if path.is_file():
                found[name] = self._about(project, path, stale.get("plate" if name == "source" else name, True))
        if "effects" in found:
            found["effects"]["threshold"] = doc.effects.threshold
        for name, path in layers_in(folder):
            found[name] = self._about(project, path, stale.get("layers", True))
        return found

    def picture(self, project: OpenProject, name: str, index: int, width: int) -> bytes:
        """Frame `index` of a result at a width. Raises RefusalError (404) where there is none."""
        make: dict[str, Callable[[OpenProject, int, int], bytes]] = {
            "objects": self._labels, "effects": self._sure, "source": self._sources,
        }  # fmt: skip
        if name in make:
            return make[name](project, index, width)
        if name not in ("plate", "composite") and not name.startswith("layer_"):
            raise RefusalError(404, "there is no such result.")
        path = dict(layers_in(project.folder / "results")).get(name, project.folder / "results" / f"{name}.mkv")
        clip = self._clip(path)
        if not 0 <= index < clip.frame_count:
            raise RefusalError(404, f"this result has frames 0 to {clip.frame_count - 1}.")
        width = min(width, clip.width)
        if name.startswith("layer_"):
            with closing(clip.rgba_frames(index, index + 1)) as frames:  # type: ignore[type-var]
                return webp(_premultiplied_scale(next(frames), width))
        with closing(clip.frames(index, index + 1)) as frames:  # type: ignore[type-var]
            return jpeg(scaled(next(frames), width))

    def note_tracked(self, project: OpenProject) -> None:
        """Find out where each object is, after tracking."""
        path = project.folder / "results" / "objects.mkv"
        clip = self._clip(path)
        count = sum(thing.file is None for thing in project.saved.doc.objects)
        there = [[bool((labels == number).any()) for number in range(1, count + 1)] for labels in _stored(clip)]
        spans = [spans_of([frame[number] for frame in there]) for number in range(count)]
        order = [number for number in Commands(project.root, project.folder, project.saved.clip,
                 project.saved.doc).order() if self._is_ours(project, number)]  # fmt: skip
        known = {"of": order, "spans": spans, "stamp": stamp_of(path)}
        (path.with_name(PRESENT)).write_bytes(msgspec.json.encode(known))

    def _is_ours(self, project: OpenProject, number: int) -> bool:
        return any(thing.id == number and thing.file is None for thing in project.saved.doc.objects)

    def _options(self, project: OpenProject, stage: str) -> dict[str, Any]:
        onto = project.saved.made.get("onto")
        return {"onto": onto} if stage == "composite" and onto else {}

    def _objects(self, project: OpenProject) -> dict[str, Any]:
        """The ids of the objects by their labels, and the spans of frames in which each is."""
        of, present = list[int](), dict[str, list[tuple[int, int]]]()
        path = project.folder / "results" / PRESENT
        if path.is_file() and (project.folder / "results" / "objects.mkv").is_file():
            known = msgspec.json.decode(path.read_bytes())
            of = [int(number) for number in known["of"]]
            present = {str(number): spans for number, spans in zip(of, known["spans"], strict=False)}
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

    def _kept(self, path: Path, what: str, make: Callable[[], Any]) -> Any:
        try:
            stamp = stamp_of(path)
        except OSError as error:
            raise RefusalError(404, "this result is not there yet: run the job that makes it.") from error
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
        facts, folder = project.opened.facts, project.folder
        labels = np.zeros((facts.height, facts.width), np.uint8)
        path = folder / "results" / "objects.mkv"
        ours = 0
        if path.is_file():
            clip = self._clip(path)
            labels = next(_stored(clip, index, index + 1)).copy()
            ours = len(self._objects(project)["of"])
        files = [thing.file for thing in project.saved.doc.objects if thing.file is not None]
        for number, file in enumerate(files, max(0, ours - len(files)) + 1):
            mask: Mask = self._kept(folder / file, "mask", partial(open_mask, folder / file, project.opened.clip))
            with closing(mask.frames(index, index + 1)) as frames:  # type: ignore[type-var]
                labels[next(frames) & (labels == 0)] = number
        return png(scaled(labels, min(width, labels.shape[1]), nearest=True))

    def _sure(self, project: OpenProject, index: int, width: int) -> bytes:
        """How likely each pixel is an effect, 0 to 255; of effects without that, the mask."""
        facts = project.opened.facts
        sure = sure_at(project, index)
        if sure is None:
            clip = self._clip(project.folder / "results" / "effects.mkv")
            with closing(clip.frames(index, index + 1)) as frames:  # type: ignore[type-var]
                return png(scaled(next(frames)[..., 0], min(width, clip.width)))
        height = max(1, round(facts.height * width / facts.width))
        return png(cv2.resize(sure, (width, height), interpolation=cv2.INTER_LINEAR))

    def _sources(self, project: OpenProject, index: int, width: int) -> bytes:
        """Where each pixel of the plate comes from, as labels; see SOURCES."""
        clip = self._clip(project.folder / "results" / "source.mkv")
        with closing(clip.frames(index, index + 1)) as frames:  # type: ignore[type-var]
            colours = next(frames)
        labels = np.zeros(colours.shape[:2], np.uint8)
        for colour, label in SOURCES.items():
            labels[(colours == colour).all(-1)] = label
        return png(scaled(labels, min(width, clip.width), nearest=True))


def layers_in(folder: Path) -> list[tuple[str, Path]]:
    """The layers in a folder, by name: a single one has no number in its own."""
    found = [(path.stem, path) for path in sorted(folder.glob("layer_[0-9]*.mkv"))]
    single = folder / "layer.mkv"
    return [("layer_0", single)] if single.is_file() else found


def spans_of(there: list[bool]) -> list[tuple[int, int]]:
    """The spans (first, end) of what is True."""
    edges = np.flatnonzero(np.diff(np.array([False, *there, False]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _stored(clip: Clip, start: int = 0, stop: int | None = None):  # type: ignore[no-untyped-def]
    """Label images as they are stored, (H, W) uint8."""
    for frame in clip.reader(start, clip.frame_count if stop is None else stop, "stored"):
        yield frame if frame.ndim == 2 else frame[..., 0]


def _premultiplied_scale(layer: np.ndarray, width: int) -> np.ndarray:
    """A layer (H, W, 4) uint8 at a width, without what lies under its clear pixels bleeding into its edge."""
    if width == layer.shape[1]:
        return layer
    alpha = layer[..., 3:].astype(np.float32) / 255
    small = scaled(np.dstack([layer[..., :3] * alpha, alpha]), width)
    shown = small[..., :3] / np.maximum(small[..., 3:], 1 / 255)
    return np.dstack([np.clip(shown, 0, 255), small[..., 3:] * 255]).round().astype(np.uint8)
