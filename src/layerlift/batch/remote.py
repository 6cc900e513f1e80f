"""Inputs that lie elsewhere, such as ``s3://bucket/shot.mp4``: workers read copies in the folder of the results."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from layerlift.batch.line import is_remote
from layerlift.errors import InputError, LayerliftError
from layerlift.whole import whole_file

# A place, and what may stand after it: which object of a mask, or the frame of a picture.
_PLACE = re.compile(r"(?P<url>.+?)(?P<more>:\d+|:#[0-9a-fA-F]{6}|@\d+)?")
_AT_ONCE = 2**22


def localise(words: Iterable[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    """A command line with the paths of copies in `folder` in place of remote inputs, and which copies are of what."""
    copies: dict[str, str] = {}

    def local(word: str) -> str:
        found = _PLACE.fullmatch(word) if is_remote(word) else None
        if found is None:
            return word
        url = found["url"]
        key = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
        copies[url] = str(folder / key / (PurePosixPath(url).name or "input"))
        return copies[url] + (found["more"] or "")

    return [local(word) for word in words], copies


def fetch(copies: Mapping[str, str]) -> None:
    """Make the copies that are not there, or whose originals have changed since.

    Raises InputError where fsspec is not installed, or does not know such places; LayerliftError where one cannot be
    read.
    """
    for url, path in copies.items():
        try:
            import fsspec
        except ImportError as error:
            raise InputError(f"{url} needs fsspec: install layerlift[ray], and what fsspec asks for.") from error
        try:
            files, place = fsspec.core.url_to_fs(url)
            if not files.isfile(place):
                raise InputError(f"{url} is no file: give one, or a path that this machine can read as it is.")
            _copy(files, place, Path(path))
        except (ImportError, ValueError) as error:
            raise InputError(f"{url} cannot be read by fsspec: {' '.join(str(error).split())}.") from error
        except OSError as error:
            raise LayerliftError(f"{url} cannot be read: {' '.join(str(error).split())}.") from error


def _copy(files: Any, place: str, path: Path) -> None:
    stamp = str(files.ukey(place))
    told = path.with_name("original.txt")
    if path.exists() and told.exists() and told.read_text("utf-8") == stamp:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, overwrite=True) as made, made.open("wb") as copy, files.open(place, "rb") as original:
        while part := original.read(_AT_ONCE):
            copy.write(part)
    with whole_file(told, overwrite=True) as made:
        made.write_text(stamp, "utf-8")
