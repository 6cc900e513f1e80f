"""Names of files: whether the file system takes them, and how the names of hidden ones begin."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerlift.errors import InputError

# What nearly every file system takes, for those that do not say: bytes of a name, and of a path.
_NAME, _PATH = 255, 4096
# What hidden names (`hidden.hidden_name`) and the images of a folder add to a path.
_ROOM = 96
# How the names of files and folders that are not finished begin.
HIDDEN = ".layerlift-"
# How the names of jobs' folders end.
JOB = ".layerlift-job"


def check_name(path: str | Path, flag: str = "") -> None:
    """Raises InputError when the file system cannot hold a file of this name; `flag` is what it was given with.

    Asked before anything else about a path: the system answers any question about too long a name with an error.
    """
    place = Path(path).absolute()
    said = f"{flag} {path}" if flag else f"{path}"
    longest = _limit(place.parent, "PC_NAME_MAX", _NAME)
    for part in place.parts[1:]:
        if (length := len(os.fsencode(part))) > longest:
            name = "has a name" if part == place.name else "is in a folder with a name"
            raise InputError(f"{said} {name} of {length} bytes, but at most {longest} fit; give a shorter one.")
    if (length := len(os.fsencode(place))) + _ROOM > _limit(place.parent, "PC_PATH_MAX", _PATH):
        raise InputError(f"{said} is a path of {length} bytes, which is too long; give a shorter one.")


def at_home(path: str | Path) -> Path:
    """A path whose ~ is a user's home; where there is no such user, or none with a home, it stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an error of the system that the block raises say the path, where it says none: one of reading says none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def exists(path: str | Path) -> bool:
    """Whether a file or folder is there; no file has a name that is too long.

    Raises OSError where the system does not say, as in a folder that may not be searched.
    """
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:  # a null character
        return False
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return False
        raise
    return True


def _limit(folder: Path, name: str, otherwise: int) -> int:
    """What the file system of a folder says of itself."""
    try:
        return os.pathconf(folder, name)
    except (AttributeError, OSError, ValueError):  # Windows has no pathconf; the folder may not be there
        return otherwise
