"""What lies in folders of projects, jobs and batches, where anybody may have put something else: never waited for, and
never more than a thing that cannot be read."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from layerlift.app.events import Events
from layerlift.app.projects import Projects, read_saved
from layerlift.app.refusal import RefusalError
from layerlift.app.results import PRESENT, present_in
from layerlift.batch.ledger import FOLDER, Ledger, key_of
from layerlift.jobs.job import read_numbers
from layerlift.jobs.manifest import Manifest
from layerlift.jobs.part import read_steps
from layerlift.small_files import read_small

DEEP = b'{"made":' + b"[" * 100_000
NO_UTF8 = b'{"clip":"\xff","of":"\xff","name":"\xff","command":"\xff"}'


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A reader that waits for something would wait for ever."""

    def ended(*_: object) -> None:
        raise AssertionError("waited for a pipe that nobody writes to")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def records(path: Path) -> Any:
    return Ledger(path.parents[2]).records()


def saved(path: Path) -> Any:
    with pytest.raises(RefusalError, match="cannot be read"):
        read_saved(path.parent)


# Where each lies in a folder, what reads it, and what it says where that cannot be read.
READERS: list[tuple[str, Callable[[Path], Any], Any]] = [
    ("dog.layerlift/project.json", saved, None),
    (PRESENT, lambda path: present_in(path.parent), {"of": [], "objects": {}, "effects": {}}),
    (f"{FOLDER}/clips/dog.json", records, {}),
    ("report.json", lambda path: key_of(path.parent), None),
    ("settled.json", read_numbers, None),
    ("manifest.json", Manifest.read, None),
    ("steps", read_steps, (0, 0)),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
@pytest.mark.parametrize(("name", "read", "nothing"), READERS, ids=[name for name, *_ in READERS])
@pytest.mark.parametrize("content", ["pipe", DEEP, NO_UTF8], ids=["pipe", "nested without end", "not UTF-8"])
def test_what_cannot_be_read_is_not_there(
    tmp_path: Path, name: str, read: Callable[[Path], Any], nothing: Any, content: bytes | str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        os.mkfifo(path)
    assert read(path) == nothing


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_a_pipe_is_no_file_whatever_is_written_to_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settled.json")
    pipe = os.open(tmp_path / "settled.json", os.O_RDWR)
    try:
        os.write(pipe, b'{"memory": 1}')
        with pytest.raises(OSError, match="not a file"):
            read_small(tmp_path / "settled.json")
    finally:
        os.close(pipe)


def test_a_number_that_is_infinite_is_none(tmp_path: Path) -> None:
    (tmp_path / "settled.json").write_text('{"memory": 1e999}')
    assert read_numbers(tmp_path / "settled.json") is None


@pytest.mark.parametrize("known", ['{"of": 1}', '{"objects": [1]}', '{"effects": {"1": [[1]]}}', "[]", '{"of": ["a"]}'])
def test_places_that_are_none_are_not_known(tmp_path: Path, known: str) -> None:
    (tmp_path / PRESENT).write_text(known)
    assert present_in(tmp_path) == {"of": [], "objects": {}, "effects": {}}


@pytest.mark.parametrize("took", ["a", [1], {"plate": "x"}, {"plate": [1]}, {"plate": -1}, {"plate": 1e300}])
def test_times_that_are_none_are_not_known(tmp_path: Path, took: Any) -> None:
    (tmp_path / "dog.layerlift").mkdir()
    (tmp_path / "dog.layerlift" / "project.json").write_text(json.dumps({"clip": "dog.mp4", "made": {"took": took}}))
    assert Projects(tmp_path, Events()).took() == {}


def test_a_record_is_not_of_a_result_elsewhere(tmp_path: Path) -> None:
    told = {"name": "../../victim", "clip": "a.mp4", "turn": 0, "line": "1", "order": 0, "state": "failed"}
    (tmp_path / FOLDER / "clips").mkdir(parents=True)
    (tmp_path / FOLDER / "clips" / "a.json").write_text(json.dumps(told))
    assert Ledger(tmp_path).records() == {}
