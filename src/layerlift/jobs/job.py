"""A job's folder: beside what it makes, hidden, and gone when that is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from layerlift.errors import InputError, reason_of
from layerlift.hidden import hidden_name
from layerlift.jobs.lock import Lock
from layerlift.jobs.manifest import Manifest
from layerlift.jobs.part import SHELVES, STEPS, Part, read_steps
from layerlift.names import HIDDEN, JOB
from layerlift.small_files import read_small
from layerlift.whole import erase, held, whole_file

MANIFEST, SETTLED, FINISHED, LOCK = "manifest.json", "settled.json", "finished.json", "lock"
MADE = "made"
_OURS = {MANIFEST, SETTLED, FINISHED, LOCK, SHELVES, STEPS, MADE}
# Bytes of a name that every file system takes.
_NAME = 255
# A shelf of no more bytes holds nothing.
_EMPTY = 100
_AT_ONCE = 2**20


def job_folder(target: Path) -> Path:
    """Where the job lies that makes a file or a folder; a link's lies where the link leads to.

    It lies beside that, or in it where it is a folder in one that takes nothing, as a disk of one's own often is.
    """
    place = Path(os.path.realpath(target))
    if place.is_dir() and not os.access(place.parent, os.W_OK | os.X_OK):
        return place / JOB
    name = place.name
    room = _NAME - len(JOB) - 1
    if len(os.fsencode(name)) > room:
        short = os.fsencode(name)[: room - 18].decode("utf-8", "ignore")
        name = f"{short}-{hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()}"
    return place.with_name(f".{name}{JOB}")


@dataclass(slots=True)
class Job:
    """One job.

    Attributes:
        folder: its folder.
        resume: whether it is to go on from what lies there.
        came: by stage, how many steps an earlier process made.
        found: by stage, steps that need not be made because what they made was found, and steps made again.
    """

    folder: Path
    resume: bool = False
    found: dict[str, dict[str, int]] = field(default_factory=dict)
    came: dict[str, int] = field(default_factory=dict)
    _settled: dict[str, int] | None = None
    _lock: Lock | None = None

    def settled(self, name: str, now: int) -> int:
        """See `Keeper`; asked for before the job begins, because it belongs to its plans."""
        if self._settled is None:
            self._settled = (read_numbers(self.folder / SETTLED) if self.resume else None) or {}
        return self._settled.setdefault(name, now)

    @property
    def made(self) -> Path:
        """A folder for finished results."""
        path = self.folder / MADE
        path.mkdir(exist_ok=True)
        return path

    def note(self, path: Path) -> None:
        """See `Keeper`."""
        known = read_numbers(self.folder / FINISHED) or {}
        write_numbers(self.folder / FINISHED, {**known, path.name: checksum(path)})

    def has(self, path: Path) -> bool:
        """See `Keeper`."""
        known = read_numbers(self.folder / FINISHED) or {}
        if path.is_file() and known.get(path.name) == checksum(path):
            return True
        erase(path)
        return False

    def copy_made(self, folder: Path) -> None:
        """Put the finished results into a folder, too, which may be on another disk: should that folder not get its
        place, they are still here."""
        for path in self.made.iterdir():
            if path.name.startswith(HIDDEN):
                continue
            if path.is_dir():
                shutil.copytree(path, folder / path.name, copy_function=_copy)
            else:
                _copy(path, folder / path.name)

    def begin(self, manifest: Manifest) -> str | None:
        """Take the folder for this process, with all that is in it when it is to go on, else empty.

        Returns what to tell the user, a sentence, or None.

        Raises InputError when a process that runs is at work there, and when what is there belongs to another job.
        """
        if os.path.lexists(self.folder) and not is_ours(self.folder):
            raise InputError(f"{self.folder} holds something else than a job of layerlift: move it away.")
        before = usage(self.folder).changed
        try:
            self.folder.mkdir()
            made = True
        except FileExistsError:
            made = False
        try:
            return self._taken(manifest, before)
        except OSError:
            if made:
                shutil.rmtree(self.folder, ignore_errors=True)
            elif not self.folder.exists():  # whoever was at work here has just finished
                return self.begin(manifest)
            raise

    def _taken(self, manifest: Manifest, ended: float) -> str | None:
        """`begin`, in a folder that is there now; the job before `ended` then, in seconds since 1970."""
        lock = Lock(self.folder / LOCK)
        if not lock.take():
            said = "is being made by another layerlift process: wait for it, or choose another output."
            if lock.holder() == "unknown":  # or this machine had another name then
                said = (
                    "may be being made on another machine, or by another user: wait for it, choose another output, or "
                    f"delete {lock.path} if nobody works on it any more."
                )
            raise InputError(f"{manifest.target} {said}")
        self._lock = lock
        try:
            return self._begin(manifest, _ago(ended))
        except BaseException:
            self._unlock()
            raise

    def _begin(self, manifest: Manifest, ago: str) -> str | None:
        path = self.folder / MANIFEST
        before, said = Manifest.read(path), None
        damaged = self.resume and path.exists() and (before is None or read_numbers(self.folder / SETTLED) is None)
        if damaged:
            self._empty()
            said = f"What was kept of the job of {manifest.target} is damaged: starting from the beginning."
        elif self.resume and before is not None:
            different = before.difference(manifest)
            if different is not None:
                raise InputError(
                    f"the interrupted job of {manifest.target} cannot go on, because {different}: repeat its command, "
                    f"{before.typed}, or leave --resume out to begin anew."
                )
            for file in filter(Path.is_file, (self.folder / STEPS).glob("*")):
                self.came[file.name] = came = read_steps(file)[0]
                self.found[file.name] = {"found": came, "again": 0}
            self._tidy()
            said = f"Resuming the job that was interrupted {ago}."
        elif self.resume:
            self._empty()
            said = f"There is no interrupted job of {manifest.target} to resume: starting from the beginning."
        else:
            if before is not None:
                said = (
                    f"An interrupted job of {manifest.target}, from {ago}, is replaced; --resume would have continued "
                    "it."
                )
            self._empty()
        if not (self.folder / MANIFEST).exists():
            write_numbers(self.folder / SETTLED, self._settled or {})
            manifest.write(path)
        return said

    def keeps(self) -> bool:
        """Whether there is anything to go on from: something on a shelf, or a finished result."""
        shelves = usage(self.folder / SHELVES).largest > _EMPTY
        return shelves or any(not path.name.startswith(HIDDEN) for path in (self.folder / MADE).glob("*"))

    def leave(self) -> bool:
        """Let go of the folder; it stays if there is anything to go on from. Returns whether it does."""
        keeps = self.keeps()
        if keeps:
            self._unlock()
        else:
            self.finish()
        return keeps

    def finish(self) -> str | None:
        """The result is in its place: the folder goes, and a signal waits for that.

        Returns a sentence for the user where the system does not let it go, else None.
        """
        said = None
        with held():
            try:
                take_away(self.folder, self._unlock)
            except OSError as error:
                why = reason_of(error)
                said = f"The job is done, but its folder, {error.filename}, could not be removed ({why}): delete it."
        self._unlock()
        return said

    @property
    def keeper(self) -> Part:
        """Where the stages keep what they have made."""
        return Part(self, "")

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.leave()

    def _empty(self) -> None:
        for path in self.folder.iterdir():
            if path.name != LOCK:
                erase(path)

    def _tidy(self) -> None:
        """Remove what an earlier process was writing when it was killed."""
        for path in (*self.folder.glob(f"{HIDDEN}*"), *(self.folder / MADE).glob(f"{HIDDEN}*")):
            erase(path)


def take_away(folder: Path, unlock: Callable[[], None]) -> None:
    """Remove a job's folder, which this process has locked. Raises OSError, with what is left as its file name."""
    with suppress(OSError):  # under a hidden name it is no job: nobody takes up what is left of it meanwhile
        folder = folder.rename(hidden_name(folder.with_name(folder.name[1:].removesuffix(JOB))))
        unlock()  # NFS keeps a file that is open, and its folder with it
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def read_numbers(path: Path) -> dict[str, int] | None:
    """The numbers by name in a file of JSON; None where it is not there, or holds something else."""
    try:
        return {str(name): int(number) for name, number in json.loads(read_small(path)).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def write_numbers(path: Path, numbers: Mapping[str, int]) -> None:
    """Write numbers by name as JSON, whole or not at all."""
    with whole_file(path, overwrite=True, own=True) as made:
        made.write_text(json.dumps(numbers), "utf-8")


def checksum(path: Path) -> int:
    """A number that tells a file from one of other bytes, unless that was made for it."""
    found = 0
    with path.open("rb") as file:
        while part := file.read(_AT_ONCE):
            found = zlib.crc32(part, found)
        return file.tell() << 32 | found


def _copy(file: str | Path, other: str | Path) -> None:
    """A second name of a file; a copy on another disk, or on one without such links."""
    try:
        os.link(file, other)
    except OSError:
        shutil.copyfile(file, other)


def is_ours(folder: Path) -> bool:
    """Whether something is a folder, and holds nothing but what a job does, and no links."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(
        (path.name in _OURS or path.name.startswith(HIDDEN)) and not path.is_symlink() for path in folder.iterdir()
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a folder holds: bytes in all and of the largest file, and when it was written to last, in seconds since
    1970."""

    size: int
    largest: int
    changed: float


def usage(path: Path) -> Usage:
    """What lies in a folder, at any depth, or of one file; as far as it is to be seen."""
    stats = []
    inside = (Path(folder, name) for folder, *several in os.walk(path) for names in several for name in names)
    for part in (path, *([] if path.is_symlink() else inside)):
        with suppress(OSError):  # whoever works there removes files
            stats.append(part.lstat())
    sizes = [found.st_size for found in stats if not stat.S_ISDIR(found.st_mode)]
    return Usage(sum(sizes), max(sizes, default=0), max((found.st_mtime for found in stats), default=0.0))


def _ago(moment: float) -> str:
    return f"{age(time.time() - moment)} ago"


def age(seconds: float) -> str:
    """A time span in words."""
    for length, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count} {word}{'' if count == 1 else 's'}"
    return "less than a minute"
