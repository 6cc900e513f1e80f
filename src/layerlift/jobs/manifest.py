"""What a job belongs to: what it reads, bit for bit, and everything that was chosen. Only that very job goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from layerlift.names import naming
from layerlift.small_files import read_small
from layerlift.whole import whole_file

# Of a model's file so many bytes at either end are looked at, and its size: all of them would take too long.
_END = 2**20
_AT_ONCE = 2**20
# Under what names a manifest says how a device computes, and which versions of what compute.
DEVICE, VERSION = "how this device computes", "the version of "
# Settings of where a job runs.
_RUNNING = ("--device", "--devices", "--memory")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a job is, as text that can be compared.

    Attributes:
        command: of layerlift.
        target: what it makes, a path.
        typed: the command line.
        contents: by what was given ("CLIP", "--mask", "the model" …), a digest of it.
        settings: by flag or name, the value.
    """

    command: str
    target: str
    typed: str
    contents: dict[str, str]
    settings: dict[str, str]

    def difference(self, other: Manifest) -> str | None:
        """What makes `other` a different job from this older one, as a phrase; None where it is the same job."""
        if self.command != other.command:
            return f"it is of `layerlift {self.command}`"
        same_device = self.contents.get(DEVICE) == other.contents.get(DEVICE)
        for name in (*self.settings, *other.settings):
            if name == "--device" and same_device:  # whether it was typed or found
                continue
            was, now = self.settings.get(name, "not given"), other.settings.get(name, "not given")
            if was != now:
                return f"{name} was {was} and is {now}"
        for name in (*self.contents, *other.contents):
            if self.contents.get(name) != other.contents.get(name):
                return f"{name} has changed"
        return None

    def key(self) -> str:
        """A digest of what the result is made from: the inputs, by what they hold, and the options.

        Where inputs lie counts as little as the device, its memory and the versions that make the result.
        """
        aside = {*_RUNNING, *(name for name in self.settings if name.startswith(VERSION))}
        settings = {name: value for name, value in self.settings.items() if name not in aside}
        contents = {name: digest for name, digest in self.contents.items() if name != DEVICE}
        told = json.dumps([self.command, settings, contents], sort_keys=True)
        return hashlib.blake2b(told.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        with whole_file(path, overwrite=True, own=True) as made:
            made.write_text(json.dumps(asdict(self), indent=1), "utf-8")

    @staticmethod
    def read(path: Path) -> Manifest | None:
        """What a file says; None where there is none, or it is no manifest."""
        try:
            told = json.loads(read_small(path))
            texts = [str(told[name]) for name in ("command", "target", "typed")]
            tables = [{str(k): str(v) for k, v in told[name].items()} for name in ("contents", "settings")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return Manifest(texts[0], texts[1], texts[2], tables[0], tables[1])


def digest_of(paths: Iterable[Path]) -> str:
    """A digest of what files hold, whole, and of every file in folders."""
    found = hashlib.blake2b(digest_size=16)
    for path in paths:
        for file in _files_in(path):
            with naming(file), file.open("rb") as opened:
                while part := opened.read(_AT_ONCE):
                    found.update(part)
            found.update(f"\0{file.name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        found.update(b"\1")
    return found.hexdigest()


def digest_of_model(path: Path) -> str:
    """A digest of a model's file or folder: of each file its size and what stands at its ends."""
    found = hashlib.blake2b(digest_size=16)
    for file in _files_in(path):
        size = file.stat().st_size
        with naming(file), file.open("rb") as opened:
            found.update(opened.read(_END))
            opened.seek(max(0, size - _END))
            found.update(opened.read(_END))
        found.update(f"\0{file.name}\0{size}\0".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def digest_of_text(*parts: object) -> str:
    """A short name for a state of things that is told in text."""
    return hashlib.blake2b("\0".join(map(repr, parts)).encode(), digest_size=6).hexdigest()


def settings_of(
    typed: Mapping[str, object],
    without: Iterable[str],
    flags: Mapping[str, str] | None = None,
    files: Iterable[str] = (),
) -> dict[str, str]:
    """What was typed, by flag; what was not given is left out. `flags`: of names that are not their flags.

    `files`: flags of files, which count by what they hold. Where they lie is no setting, but which object of a mask is
    meant is one, and for which frame a picture is.
    """
    left_out, known, by_content = {*without}, flags or {}, {*files}
    settings = {}
    for name, value in typed.items():
        if name not in left_out and value is not None and value != []:
            flag = known.get(name, f"--{name.replace('_', '-')}")
            settings[flag] = _without_folders(value) if flag in by_content else str(value)
    return settings


def _without_folders(value: object) -> str:
    """A path as it is typed, or several, without the folders: ``dog=masks/1.png@3`` → ``dog=1.png@3``."""
    if isinstance(value, list):
        return str([_without_folders(each) for each in value])
    folders, _, name = str(value).rstrip("/").rpartition("/")
    named, equals, _ = folders.partition("=")
    return f"{named}={name}" if equals else name


def _files_in(path: Path) -> list[Path]:
    """The file, or the files in a folder at any depth: none that is hidden, and no link that leads nowhere."""
    if not path.is_dir():
        return [path] if path.exists() else []
    found = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    seen = (file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))
    return sorted(file for file in seen if file.is_file())
