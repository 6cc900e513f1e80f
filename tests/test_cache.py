"""The cache of large files keeps to its bounds, and nothing goes that is in use."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from layerlift import cache
from layerlift.cache import DAY, Bounds, cache_folder, kept_sizes, prune, reading
from layerlift.hidden import hidden_name
from layerlift.names import at_home


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of a kind which may have 100 bytes, and no file that was not used for ten days."""
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path))
    monkeypatch.setitem(cache.BOUNDS, "packed", Bounds(100, days=10))
    made = cache_folder("packed")
    made.mkdir()
    return made


def keep(folder: Path, name: str, size: int, days: float) -> Path:
    """A file that was used so many days ago."""
    path = folder / name
    path.write_bytes(b"0" * size)
    used = time.time() - days * DAY
    os.utime(path, (used, used))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_unused_for_the_longest_goes_first(folder: Path) -> None:
    for name, days in (("a", 3), ("b", 1), ("c", 2)):
        keep(folder, name, 30, days)
    assert prune(folder / "new", 40) == 30
    assert names(folder) == {"b", "c"}


def test_a_smaller_one_stays_where_a_larger_one_has_to_go(folder: Path) -> None:
    keep(folder, "large", 90, 1)
    keep(folder, "small", 20, 2)
    assert prune(folder / "new", 40) == 90
    assert names(folder) == {"small"}


def test_what_nobody_used_for_long_goes(folder: Path) -> None:
    keep(folder, "old", 1, 11)
    keep(folder, "young", 1, 9)
    assert prune(folder / "new", 1) == 1
    assert names(folder) == {"young"}


def test_what_is_used_stays_whatever_its_size_and_age(folder: Path) -> None:
    mine = keep(folder, "mine", 300, 20)
    assert prune(mine, 300) == 0
    assert names(folder) == {"mine"}


def test_reading_counts_as_use(folder: Path) -> None:
    path = keep(folder, "a", 60, 5)
    keep(folder, "b", 60, 4)
    with reading(path) as there:
        assert there
    prune(folder / "new", 1)
    assert names(folder) == {"a"}


def test_what_somebody_reads_stays(folder: Path) -> None:
    path = keep(folder, "a", 200, 5)
    with reading(path):
        assert prune(folder / "new", 1) == 0
    assert prune(folder / "new", 1) == 200


def test_what_is_not_there_is_not_read(folder: Path) -> None:
    with reading(folder / "a") as there:
        assert not there


def test_a_file_that_went_while_its_reader_came_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keep(folder, "a", 1, 1)

    def locked(descriptor: int, *, exclusive: bool) -> bool:
        path.unlink()
        return True

    monkeypatch.setattr(cache, "locked", locked)
    with reading(path) as there:
        assert not there


def test_unfinished_files_go_when_whoever_made_them_is_gone(folder: Path) -> None:
    mine = hidden_name(folder / "a")
    mine.write_bytes(b"")
    host, number, began = mine.name.removeprefix(".layerlift-").split("-")[1:4]
    gone = mine.with_name(mine.name.replace(f"{host}-{number}-{began}", f"{host}-{number}-00000000"))
    gone.write_bytes(b"")
    prune(folder / "new", 1)
    assert names(folder) == {mine.name}


def test_a_folder_that_is_not_there_needs_nothing(folder: Path) -> None:
    folder.rmdir()
    assert prune(folder / "new", 1) == 0
    assert kept_sizes() == {}


def test_what_lies_in_the_cache(folder: Path) -> None:
    keep(folder, "a", 3, 0)
    (cache_folder("scenes") / "one").mkdir(parents=True)
    keep(cache_folder("scenes") / "one", "b", 4, 0)
    keep(cache_folder("scenes"), "c", 5, 0)
    assert kept_sizes() == {"packed": (1, 3), "scenes": (2, 9)}


@pytest.mark.parametrize("given", [None, "~nobody-has-this-name/cache"])
def test_a_user_without_a_home_has_a_cache_that_holds_nothing(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that was started with the number of a user whom nobody has entered."""
    if given is None:
        monkeypatch.delenv("LAYERLIFT_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    else:
        monkeypatch.setenv("LAYERLIFT_CACHE", given)
    monkeypatch.chdir(tmp_path)
    folder = cache_folder("packed")
    assert kept_sizes() == {}
    with reading(folder / "a") as there:
        assert not there
    with pytest.raises(OSError, match=r"(?i)not a directory|exists"):
        folder.mkdir(parents=True, exist_ok=True)
    assert at_home("~nobody-has-this-name/model") == Path("~nobody-has-this-name/model")
