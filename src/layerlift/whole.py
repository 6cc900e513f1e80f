"""Whole or nothing: results are made under hidden names beside their places, and take these when they are finished.

See `Unfinished` for files and folders, and `hidden.py` for the names.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from layerlift.errors import InputError, LayerliftError, reason_of
from layerlift.exhausted import FULL
from layerlift.hidden import OLD, hidden_name
from layerlift.names import HIDDEN, JOB
from layerlift.temporary import NO_LINK

# What ends a program, where the system has it.
ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# Held while a result is put in its place: whoever ends the process in another way waits for it.
_swapping = threading.RLock()
# Hidden files and folders that this process has made and not yet put in their places.
_unfinished: set[Path] = set()


class KeptAsideError(LayerliftError):
    """A finished result could not be put in its place; `path` is where it is."""

    def __init__(self, said: str, path: Path) -> None:
        super().__init__(said)
        self.path = path


class Unfinished:
    """A new file or folder of a hidden name, to be written at `path`; `commit` puts it in its place, whole.

    A folder takes the place of another one in one step where the system can do that. What cannot be renamed, a mount
    point, the current folder, and a folder in one that takes no file, is written through: the hidden folder lies inside
    of it, and the files change places while signals are held off.

    Attributes:
        place: where the result goes. A link to a folder is followed; one to a file is replaced.
        path: what to write to: an empty file, or an empty folder.
    """

    def __init__(
        self,
        place: str | Path,
        check: Callable[[], object] | None = None,
        *,
        folder: bool = False,
        stays: Callable[[Path], bool] | None = None,
        overwrite: bool = False,
        own: bool = False,
    ) -> None:
        """Make the file or folder.

        Args:
            place: where the result goes.
            check: asked again when the result is finished; raises InputError where it may no longer be put there.
            folder: make a folder.
            stays: of a folder: whether an older file, by its path in the folder, stays when no new one has its name;
                None stands for none.
            overwrite: replace what is there.
            own: it is layerlift's own, no result of the user's, as is all that lies in a job's folder: it is not kept
                under another name, where it would be found by nobody, or be one result too many.

        Raises OSError when nothing can be made there.
        """
        self.place = Path(os.path.realpath(place)) if folder else Path(place).absolute()
        self._check, self._folder, self._stays, self._overwrite = check, folder, stays, overwrite
        self._own = own or any(part.endswith(JOB) for part in self.place.parts)
        inside = folder and cannot_be_renamed(self.place)
        self._beside = self.place / self.place.name if inside else self.place
        self.path = hidden_name(self._beside)
        try:
            with held():
                if folder:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self.path.mkdir()
                else:
                    os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o666))
                _unfinished.add(self.path)
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Put the result in its place, on the disk and not only in the system's memory.

        Raises KeptAsideError when that cannot be done, because something else is there by now or because the system
        refuses; the result then has another name, which the message says. Raises OSError instead for what is
        layerlift's own.
        """
        _to_disk(self.path)
        kept: KeptAsideError | None = None
        try:
            with held():
                try:
                    self._put()
                except OSError as error:
                    if self._own:
                        raise
                    taken = isinstance(error, FileExistsError)
                    kept = self._kept("something else is there by now" if taken else reason_of(error))
        finally:
            if kept is not None:  # said even where a signal came meanwhile
                raise kept

    def discard(self) -> None:
        """Remove what is still under the hidden name: an unfinished result, or what the result took the place of."""
        with held():
            if self.path in _unfinished:
                _remove(self.path)
                _unfinished.discard(self.path)

    @contextmanager
    def blamed(self, *, unnamed: bool = True) -> Iterator[None]:
        """Let an error of the system name the result's place, where it says the hidden name.

        `unnamed`: where it says no name at all, too.
        """
        try:
            yield
        except Exception as error:
            said = getattr(error, "filename", None) or (self.path if unnamed else "")
            if (number := error_number(error)) is None or str(self.path) not in os.fsdecode(said):
                raise
            named = os.fsdecode(said).replace(str(self.path), str(self.place))
            raise OSError(number, os.strerror(number), named) from error

    def _put(self) -> None:
        """Put the result in its place. Raises FileExistsError when something else is there by now."""
        try:
            if self._check is not None:
                self._check()
        except InputError:
            raise FileExistsError from None
        except LayerliftError:  # no room to try anything in: whether the name can be taken is yet to be seen
            pass
        if self.place.is_dir() and self._through():
            self._move_in()
        elif self._folder:
            self._swap()
        elif self._overwrite:
            self.path.replace(self.place)
        else:
            _claim(self.path, self.place)
        _flush(self.place.parent)

    def _through(self) -> bool:
        """Whether the files of a folder change places, and not the folder: something in it stays, or all of it."""
        others = any(path.name.startswith(HIDDEN) for path in self.place.iterdir())  # made by other runs
        return self._folder and (others or self._stays is not None or cannot_be_renamed(self.place))

    def _swap(self) -> None:
        """A folder for a folder; the old one has the hidden name afterwards."""
        if not self.place.exists() or not any(self.place.iterdir()):
            self.path.rename(self.place)
        elif not self._overwrite:
            raise FileExistsError
        elif not _exchange(self.path, self.place):
            aside = hidden_name(self.place, OLD)
            self.place.rename(aside)
            try:
                self.path.rename(self.place)
            except BaseException:
                aside.rename(self.place)
                raise
            aside.rename(self.path)

    def _move_in(self) -> None:
        """Every file to its place in the folder that is there, and what it replaces into the hidden one."""
        new = _files(self.path)
        there = [path for path in _files(self.place) if not path.parts[0].startswith(HIDDEN)]
        old = [path for path in there if path in new or self._stays is None or not self._stays(path)]
        if old and not self._overwrite:
            raise FileExistsError
        aside = hidden_name(self._beside, OLD)
        done: list[tuple[Path, Path]] = []
        try:
            for paths, source, target in ((old, self.place, aside), (new, self.path, self.place)):
                for path in paths:
                    (target / path).parent.mkdir(parents=True, exist_ok=True)
                    if self._overwrite:
                        (source / path).rename(target / path)
                    else:
                        _claim(source / path, target / path)
                    done.append((source / path, target / path))
        except BaseException:
            for source, target in reversed(done):
                target.rename(source)
            _remove(aside)  # it has no files any more
            raise
        _unfinished.add(aside)  # not before: until here it holds what may be the only copy
        for folder in {(self.place / path).parent for path in new}:
            _flush(folder)
        _remove(aside)
        _unfinished.discard(aside)

    def _kept(self, reason: str) -> KeptAsideError:
        """The error that says where the result is."""
        # Beside the place; in it, where that is a disk of its own; or where it is, where no name can be given any more.
        other = _claim_another(self.path, self.place) or _claim_another(self.path, self._beside) or self.path
        _unfinished.discard(self.path)
        said = f"{self.place} could not take the finished result, because {reason}: it is in {other}."
        return KeptAsideError(said, other)


@contextmanager
def whole_file(
    place: str | Path, check: Callable[[], object] | None = None, *, overwrite: bool = False, own: bool = False
) -> Iterator[Path]:
    """An empty hidden file to write to, which takes its place when the block ends; an exception removes it.

    See `Unfinished`, which raises what this does.
    """
    with _finished(Unfinished(place, check, overwrite=overwrite, own=own)) as path:
        yield path


@contextmanager
def whole_folder(
    place: str | Path,
    check: Callable[[], object] | None = None,
    *,
    stays: Callable[[Path], bool] | None = None,
    overwrite: bool = False,
) -> Iterator[Path]:
    """A hidden folder to write into, which takes its place when the block ends; an exception removes it.

    See `Unfinished`, which raises what this does.
    """
    with _finished(Unfinished(place, check, folder=True, stays=stays, overwrite=overwrite)) as path:
        yield path


@contextmanager
def _finished(made: Unfinished) -> Iterator[Path]:
    try:
        # In a folder much is done that has nothing to do with it.
        with made.blamed(unnamed=not made.path.is_dir()):
            yield made.path
            made.commit()
    finally:
        made.discard()


@contextmanager
def held() -> Iterator[None]:
    """Hold off the signals that end a program: those that come while the block runs take effect after it."""
    with _swapping:
        if threading.current_thread() is not threading.main_thread():
            yield  # handlers of signals run in the main thread
            return
        came: list[int] = []
        handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
        handlers = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}
        try:
            for number in handlers:
                signal.signal(number, lambda number, frame: came.append(number))
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if came:
                signal.raise_signal(came[0])


def remove_unfinished(then: Callable[[], object] | None = None) -> None:
    """Remove every hidden file and folder of this process, after a result that is being put in its place has it.

    No result is put in its place until `then`, which is called after that, returns: the process may end there.
    """
    with _swapping:
        for path in [*_unfinished]:
            _remove(path)
            _unfinished.discard(path)
        if then is not None:
            then()


# --- the system -------------------------------------------------------------------------------------------------------


def error_number(error: Exception) -> int | None:
    """The system's number of an error: OpenEXR and safetensors pass on in words alone that a disk is full."""
    if isinstance(error, OSError):
        return error.errno
    return next((number for number in sorted(FULL) if os.strerror(number) in str(error)), None)


def cannot_be_renamed(folder: Path) -> bool:
    """Whether a folder that exists has to stay where it is, so that only what is in it can be replaced."""
    return folder.is_dir() and (
        os.path.ismount(folder) or os.path.realpath(folder) == os.path.realpath(".") or not _writable(folder.parent)
    )


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _files(folder: Path) -> list[Path]:
    """Everything in a folder but folders, at any depth, relative to it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _claim(path: Path, place: Path) -> None:
    """Rename a file or folder to a name that nothing has. Raises FileExistsError when something has it."""
    if path.is_dir():
        place.mkdir()  # only one can make it
        try:
            path.rename(place)
        except OSError:
            with suppress(OSError):
                place.rmdir()
            raise
        return
    try:
        place.hardlink_to(path)
    except OSError as error:  # a file system without such links, too
        if isinstance(error, FileExistsError) or os.path.lexists(place):
            raise FileExistsError from None
        path.rename(place)
    with suppress(OSError):  # it has its place
        path.unlink(missing_ok=True)


def _claim_another(path: Path, place: Path) -> Path | None:
    """Rename a file or folder to a new name like that of `place`, and beside it; None where the system refuses."""
    for number in count(2):
        other = place.with_name(f"{place.stem}-{number}{place.suffix}")
        try:
            _claim(path, other)
        except FileExistsError:
            continue
        except OSError:
            break
        return other
    return None


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system cannot."""
    libc, names, here = ctypes.CDLL(None), (os.fsencode(one), os.fsencode(other)), -100  # AT_FDCWD
    with suppress(AttributeError):  # a system without
        if sys.platform == "darwin":
            return bool(libc.renamex_np(*names, 2) == 0)  # RENAME_SWAP
        return bool(libc.renameat2(here, names[0], here, names[1], 2) == 0)  # RENAME_EXCHANGE
    return False


def _to_disk(path: Path) -> None:
    """Have the system write a file, or a folder with all that is in it, to the disk.

    Raises OSError when the disk is full, or fails.
    """
    for part in [*path.rglob("*"), path] if path.is_dir() else [path]:
        if part.is_dir():
            _flush(part)
            continue
        with part.open("rb") as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
                    error.filename = str(part)
                    raise


def _flush(folder: Path) -> None:
    """Have the system write the names in a folder to the disk; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def erase(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it. Raises OSError where the system refuses."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Whatever is there, as far as that can be; files that other threads add meanwhile are removed, too."""
    for _ in range(3):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
