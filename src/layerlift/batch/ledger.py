"""What is written down of a batch: of every clip one file, and all of them together in results.jsonl."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from layerlift.batch.names import TAKEN
from layerlift.jobs.lock import Lock
from layerlift.names import HIDDEN
from layerlift.small_files import read_small
from layerlift.whole import whole_file

FOLDER = f"{HIDDEN}batch"
RESULTS, PAGE = TAKEN
# Seconds between two times that results.jsonl is written while clips end, and that one waits for another to write it.
EVERY, PATIENCE = 5.0, 20.0
MOST_REPORT = 64 * 2**20  # bytes of a result's report


@dataclass(frozen=True, slots=True)
class Record:
    """A clip at its end.

    Attributes:
        name: of its result.
        clip: its path.
        turn: how many lines before it have the same clip.
        line: where the manifest names it, for the user.
        order: its place in the manifest, from 0.
        state: "done", or "failed".
        message: why it failed; empty when it is done.
        key: the digest of inputs and options, which the report of the result has, too; empty when it failed.
        argv: its words after `layerlift run`.
        read: files that were read, by path with size and time of change; see `run_check.stamps`.
        tries: how often it was begun, in the run of the batch that ended it.
        seconds: of its last try.
        device: where that was.
        frames, width, height: of the clip.
        estimated: seconds that it was estimated to take, before measuring others; see `estimate`.
    """

    name: str
    clip: str
    turn: int
    line: str
    order: int
    state: Literal["done", "failed"]
    message: str = ""
    key: str = ""
    argv: tuple[str, ...] = ()
    read: dict[str, list[int]] | None = None
    tries: int = 1
    seconds: float = 0.0
    device: str = ""
    frames: int = 0
    width: int = 0
    height: int = 0
    estimated: float = 0.0

    def result(self) -> dict[str, Any]:
        """Its line in results.jsonl."""
        aside = ("turn", "order", "read", "estimated", "argv")
        told = {key: value for key, value in asdict(self).items() if key not in aside}
        return {**told, "seconds": round(self.seconds, 2), "options": list(self.argv)}


class Ledger:
    """The records of a folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clips = folder / FOLDER / "clips"
        self.logs = folder / FOLDER / "logs"
        self.inputs = folder / FOLDER / "inputs"  # copies of those that lie elsewhere
        self._written = 0.0

    def log_of(self, name: str) -> Path:
        """Where what is printed about a clip goes."""
        return self.logs / f"{name}.log"

    def records(self) -> dict[str, Record]:
        """Every record by its name, in the manifest's order; one that cannot be read is none, and neither is one that
        is not called as its file: results have their places by it."""
        found = []
        for path in self._clips.glob("*.json") if self._clips.is_dir() else ():
            with suppress(OSError, ValueError, RecursionError):  # msgspec's are ValueErrors
                # Its own reader of JSON takes no name that is no text.
                record = msgspec.convert(json.loads(read_small(path)), Record)
                if record.name == path.stem:
                    found.append(record)
        return {record.name: record for record in sorted(found, key=lambda record: (record.order, record.name))}

    def write(self, record: Record) -> None:
        """Write a record down, and now and then all of them. Raises LayerliftError when that cannot be done."""
        self._clips.mkdir(parents=True, exist_ok=True)
        with whole_file(self._clips / f"{record.name}.json", overwrite=True) as made:
            made.write_text(json.dumps(asdict(record)), "utf-8")
        if time.monotonic() - self._written >= EVERY:
            self.write_results()

    def write_results(self) -> None:
        """Write results.jsonl: one line a clip, of all that have ended in this folder, whoever ended them."""
        self._written = time.monotonic()
        (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
        lock = Lock(self.folder / FOLDER / "lock")
        until = time.monotonic() + PATIENCE
        # Of several shards one writes at a time: who read the records first could else be the last to write.
        while not lock.take() and time.monotonic() < until:
            time.sleep(0.1)
        try:
            lines = [json.dumps(record.result(), ensure_ascii=False) for record in self.records().values()]
            with whole_file(self.folder / RESULTS, overwrite=True) as made:
                made.write_text("".join(f"{line}\n" for line in lines), "utf-8", "backslashreplace")
        finally:
            lock.leave()


def key_of(result: Path) -> str | None:
    """The digest of inputs and options of a finished result, as its report has it; None where it is none of a run."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        key = json.loads(read_small(result / "report.json", MOST_REPORT))["results"]["key"]
        return key if isinstance(key, str) else None
    return None


def unchanged(read: Mapping[str, list[int]] | None) -> bool:
    """Whether files are as they were when they were read."""
    if not read:
        return False
    for path, (size, changed) in read.items():
        try:
            told = os.stat(path)  # noqa: PTH116 - as text, of thousands of files
        except OSError:
            return False
        if (told.st_size, told.st_mtime_ns) != (size, changed):
            return False
    return True
