"""Projects: folders beside their clips, with what the user says in project.json, which is written whole or not at all.

`FOLDER/<clip's name>.layerlift/` holds project.json, masks/, results/, exports/, jobs/ and frames/.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec

from layerlift.app.confined import inside, shortened, shown
from layerlift.app.events import Events
from layerlift.app.frames import FrameStore
from layerlift.app.opening import Opened, open_for_page, stamp_of
from layerlift.app.refusal import RefusalError
from layerlift.app.shapes import Doc, Project, Recent, Saved
from layerlift.small_files import read_record
from layerlift.whole import whole_file

ENDING = ".layerlift"
FILE = "project.json"
FOLDERS = ("masks", "results", "exports", "jobs")
MOST_JSON = 8 * 2**20  # bytes of a document
MOST_RATE = 1e6  # seconds for a million pixels


class ConflictError(RefusalError):
    """Another page was faster; `project` is what it saved."""

    def __init__(self, rev: int, doc: Doc) -> None:
        super().__init__(409, "this project was changed in another window: its newer state was loaded.")
        self.rev, self.doc = rev, doc


class OpenProject:
    """A project that is open: its document, its clip, and its frames."""

    def __init__(self, name: str, folder: Path, saved: Saved, opened: Opened, events: Events) -> None:
        self.name, self.folder, self.root = name, folder, folder.parent
        self.saved, self.opened = saved, opened
        self.lock = threading.RLock()
        self.frames = FrameStore(opened, folder / "frames", lambda a, b: self._ready(events, a, b))

    @property
    def clip_path(self) -> str:
        """The clip's path below the folder."""
        return self.saved.clip

    def save(self, rev: int, doc: Doc) -> int:
        """Keep a document that was made from a revision; returns the new one. Raises ConflictError."""
        with self.lock:
            if rev != self.saved.rev:
                raise ConflictError(self.saved.rev, self.saved.doc)
            self._write(msgspec.structs.replace(self.saved, rev=rev + 1, doc=doc))
            return rev + 1

    def note_made(self, made: dict[str, Any]) -> None:
        """Keep what a result was made from; `made` is added to what is known."""
        with self.lock:
            self._write(msgspec.structs.replace(self.saved, made={**self.saved.made, **made}))

    def close(self) -> None:
        """Let go of the clip."""
        self.frames.close()

    def _write(self, saved: Saved) -> None:
        write_saved(self.folder, saved)
        self.saved = saved

    def _ready(self, events: Events, first: int, end: int) -> None:
        events.tell("cache", {"name": self.name, "from": first, "to": end, "width": self.frames.ahead})


class Projects:
    """All projects of a folder; those that were asked for are open."""

    def __init__(self, root: Path, events: Events) -> None:
        self.root, self.events = root, events
        self._open: dict[str, OpenProject] = {}
        self._lock = threading.RLock()

    def recent(self) -> list[Recent]:
        """The projects in the folder, the newest first."""
        found = []
        for path in self.root.glob(f"*{ENDING}/{FILE}"):
            try:
                saved, changed = read_saved(path.parent), path.stat().st_mtime
            except (RefusalError, OSError):
                continue
            name = path.parent.name.removesuffix(ENDING)
            found.append(Recent(name, saved.clip, changed, len(saved.doc.objects)))
        return sorted(found, key=lambda recent: -recent.changed)

    def took(self) -> dict[str, float]:
        """Seconds that each stage took for a million pixels, in the projects of this folder; the newest tells."""
        found: dict[str, float] = {}
        for recent in reversed(self.recent()):
            saved = read_saved(self.root / f"{recent.name}{ENDING}")
            found |= _rates(saved.made.get("took"))
        return found

    def create(self, clip: str) -> OpenProject:
        """The project of a clip, a path below the folder; it is made where there is none.

        Raises RefusalError for a path that is not allowed, InputError for what is no clip.
        """
        path = inside(self.root, clip)
        with self._lock:
            stem = shortened(path.stem if path.is_file() or path.suffix else path.name)
            name, number = stem, 2
            while (folder := self.root / f"{name}{ENDING}").is_dir():
                try:
                    if read_saved(folder).clip == clip:
                        return self.get(name)
                except RefusalError:
                    pass
                name, number = f"{stem}_{number}", number + 1
            opened = open_for_page(path)  # first: nothing is made for what is no clip
            folder.mkdir()
            saved = Saved(clip)
            try:
                for part in FOLDERS:
                    (folder / part).mkdir()
                write_saved(folder, saved)
            except BaseException:  # a full disk: without its file the folder is no project, and has its name
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return self._add(name, folder, saved, opened)

    def get(self, name: str) -> OpenProject:
        """A project by its name. Raises RefusalError: 404 where there is none, 410 where its clip is gone."""
        with self._lock:
            folder = inside(self.root, f"{name}{ENDING}")
            found = self._open.get(name)
            if found is not None:
                if (folder / FILE).exists() and self._is_same(found):
                    return found
                self._open.pop(name).close()
            if "/" in name or not folder.is_dir():
                raise RefusalError(404, f"there is no project {shown(name)} in this folder.")
            saved = read_saved(folder)
            check_links(folder, self.root)
            path = inside(self.root, saved.clip)
            if not path.exists():
                raise RefusalError(410, f"{saved.clip}, this project's clip, is gone: put it back into the folder.")
            for part in FOLDERS:
                (folder / part).mkdir(exist_ok=True)
            return self._add(name, folder, saved, open_for_page(path))

    def delete(self, name: str) -> None:
        """Remove a project's folder, never its clip. Raises RefusalError (404) where there is none."""
        with self._lock:
            folder = inside(self.root, f"{name}{ENDING}")
            if "/" in name or not (folder / FILE).is_file():
                raise RefusalError(404, f"there is no project {shown(name)} in this folder.")
            found = self._open.pop(name, None)
            if found is not None:
                found.close()
            shutil.rmtree(folder)

    def decode_ahead(self, project: OpenProject) -> None:
        """Make this project's frames ahead, and no other's: it was opened last."""
        with self._lock:
            for other in self.all_open():
                if other is not project:
                    other.frames.close()
            project.frames.start()

    def all_open(self) -> list[OpenProject]:
        """The projects that are open."""
        with self._lock:
            return list(self._open.values())

    def close(self) -> None:
        """Close all."""
        for project in self.all_open():
            project.close()

    def _is_same(self, project: OpenProject) -> bool:
        try:
            return stamp_of(project.opened.path) == project.opened.facts.stamp
        except OSError:
            return False

    def _add(self, name: str, folder: Path, saved: Saved, opened: Opened) -> OpenProject:
        self._open[name] = project = OpenProject(name, folder, saved, opened, self.events)
        self.decode_ahead(project)
        return project


def check_links(folder: Path, root: Path) -> None:
    """Raises RefusalError (409) for a link in a project's folder that leads out of `root`: what it leads to would be
    read, and written, as if it were the project's."""
    place = Path(os.path.realpath(root))
    for within, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(within, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(place):
                raise RefusalError(
                    409, f"{path.relative_to(root)} is a link that leads out of the folder: remove it, or copy it here."
                )


def _rates(took: Any) -> dict[str, float]:
    """The numbers among what a file says that stages took."""
    if not isinstance(took, dict):
        return {}
    return {
        stage: float(rate)
        for stage, rate in took.items()
        if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 <= rate < MOST_RATE
    }


def read_saved(folder: Path) -> Saved:
    """What project.json holds. Raises RefusalError (409) where it cannot be read."""
    path = folder / FILE
    try:
        return read_record(path, Saved, MOST_JSON)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise RefusalError(
            409, f"{folder.name}/{FILE} cannot be read ({said}): repair it, or remove the project's folder."
        ) from error


def write_saved(folder: Path, saved: Saved) -> None:
    """Put project.json in its place, whole, and on the disk. Raises OSError, as for a full disk."""
    text = msgspec.json.format(msgspec.json.encode(saved), indent=1)
    with whole_file(folder / FILE, overwrite=True, own=True) as made:
        made.write_bytes(text)


def as_project(project: OpenProject, results: dict[str, Any]) -> Project:
    """A project as the page is told of it."""
    saved = project.saved
    return Project(project.name, saved.clip, saved.rev, saved.doc, project.opened.facts, results)
