"""Whole or nothing: a result is in its place, or what was there before is, and nothing half-made is left."""

import errno
import os
import re
import secrets
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from layerlift import whole
from layerlift.errors import InputError, LayerliftError
from layerlift.hidden import hidden_name, leftovers
from layerlift.processes import owner, state_of
from layerlift.whole import KeptAsideError, whole_file, whole_folder
from support import files, left_by_a_killed_run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def contents(folder: str = "out") -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in Path(folder).rglob("*") if path.is_file()}


def fill(folder: Path, **texts: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


def write_new(*, overwrite: bool = True) -> None:
    with whole_folder("out", overwrite=overwrite) as made:
        fill(made, a="new a", b="new b")


OLD, NEW = {"a": "old a", "c": "old c"}, {"a": "new a", "b": "new b"}


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_there_when_it_is_whole() -> None:
    Path("a.txt").write_text("old")
    with pytest.raises(IsADirectoryError), whole_file("a.txt", overwrite=True) as made:
        made.write_text(str(made.parent.read_bytes()))
    assert contents(".") == {"a.txt": "old"}
    with whole_file("a.txt", overwrite=True) as made:
        made.write_text("new")
        assert Path("a.txt").read_text() == "old"
    assert contents(".") == {"a.txt": "new"}
    assert Path("a.txt").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_planted_link_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda size: "known")  # as if the name could be guessed
    Path("victim").write_text("mine")
    hidden_name(Path("a.txt")).symlink_to("victim")
    with pytest.raises(FileExistsError), whole_file("a.txt", overwrite=True) as made:
        made.write_text("new")
    with pytest.raises(FileExistsError), whole_folder("a.txt") as made:
        pass
    assert Path("victim").read_text() == "mine"


def test_names_of_hidden_files_are_new_each_time() -> None:
    names = {hidden_name(Path("a.txt")).name for _ in range(20)}
    assert len(names) == 20
    assert all(len(name) > 40 for name in names)  # 64 bits of chance among that


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_appears_meanwhile_stays_and_the_result_is_kept(links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:  # as file systems without them answer

        def refused(self: Path, target: Path) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refused)
    Path("a-2.txt").write_text("there already")
    said = r"a\.txt could not take .* there by now: it is in .*/a-3\.txt\.$"
    with pytest.raises(KeptAsideError, match=said) as kept, whole_file("a.txt") as made:
        fill(made.parent, **{made.name: "new", "a.txt": "theirs"})
    assert contents(".") == {"a.txt": "theirs", "a-2.txt": "there already", "a-3.txt": "new"}
    assert kept.value.path == Path("a-3.txt").absolute()


def test_a_result_whose_place_is_refused_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, target: Path) -> Path:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", refused)
    said = r"because input/output error: it is in .*/a-2\.txt"
    with pytest.raises(KeptAsideError, match=said), whole_file("a.txt", overwrite=True) as made:
        made.write_text("new")
    assert contents(".") == {"a-2.txt": "new"}


def test_a_place_where_nothing_can_be_tried_any_more_costs_no_result() -> None:
    def full() -> None:
        raise LayerliftError("a.txt cannot be written: no space left on device.")

    with whole_file("a.txt", full) as made:
        made.write_text("new")
    assert contents(".") == {"a.txt": "new"}


@pytest.mark.parametrize("folder", [False, True])
def test_where_a_result_is_kept_is_said_though_a_signal_came_meanwhile(
    folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def taken() -> None:
        signal.raise_signal(signal.SIGINT)
        raise InputError("out already exists")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        kind = whole_folder if folder else whole_file
        with pytest.raises(KeptAsideError, match="out-2"), kind("out", taken):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert files() == ["out-2"]


def test_what_is_renamed_is_on_the_disk_before(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename
    opened = Path("/proc/self/fd")
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(str((opened / str(file)).readlink())), fsync(file)))
    monkeypatch.setattr(Path, "rename", lambda self, target: (done.append("rename"), rename(self, target)))
    if not opened.is_dir():
        pytest.skip("needs /proc")
    with whole_folder("out") as made:
        fill(made, a="new a")
    assert done == [str(made / "a"), str(made), "rename", str(Path().absolute())]


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_takes_the_place_of_another() -> None:
    write_new()
    assert contents() == NEW
    fill(Path("out"), c="old c")
    write_new()
    assert contents() == NEW
    assert files() == ["out"]
    with pytest.raises(KeptAsideError, match="out-2"):
        write_new(overwrite=False)
    assert contents("out-2") == NEW
    assert files() == ["out", "out-2"]


@pytest.fixture(params=["in one step", "in two", "file by file"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways in which a folder is replaced; the last is that of a mount point."""
    fill(Path("out"), **OLD)
    if request.param == "in two":
        monkeypatch.setattr(whole, "_exchange", lambda one, other: False)
    if request.param == "file by file":
        mount = Path("out").absolute()
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == mount)
    return str(request.param)


def test_folders_are_replaced(way: str) -> None:
    before = Path("out").stat().st_ino
    write_new()
    assert contents() == NEW
    assert files() == ["out"]
    assert (Path("out").stat().st_ino == before) == (way == "file by file")


def renames(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Have `act` called before every rename, with its number."""
    rename, number = Path.rename, 0

    def renamed(self: Path, target: Path) -> Path:
        nonlocal number
        number += 1
        act(number)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("came", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_a_folder_is_replaced(
    way: str, number: int, came: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def send(at: int) -> None:
        if at == number:
            signal.raise_signal(came)

    if way == "in one step":
        exchange = whole._exchange
        monkeypatch.setattr(whole, "_exchange", lambda one, other: (send(number), exchange(one, other))[1])
    renames(monkeypatch, send)
    before = signal.signal(came, interrupt)
    try:
        if way == "in two" and number == 4:
            write_new()  # it has three renames
        else:
            with pytest.raises(KeyboardInterrupt):
                write_new()
        assert signal.getsignal(came) == interrupt
    finally:
        signal.signal(came, before)
    assert contents() == NEW
    assert files() == ["out"]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_folder_that_cannot_be_replaced_is_as_it_was_and_the_result_is_kept(
    way: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "in one step":
        pytest.skip("one step is made, or not")

    def fail(at: int) -> None:
        if at == number:
            raise OSError(errno.EIO, "Input/output error")

    renames(monkeypatch, fail)
    if way == "in two" and number > 2:
        return
    with pytest.raises(KeptAsideError, match=r"input/output error: it is in .*/out-2\.$"):
        write_new()
    assert contents() == OLD
    assert contents("out-2") == NEW
    assert (files(), files("out")) == (["out", "out-2"], sorted(OLD))


def test_files_of_other_names_stay_where_they_may() -> None:
    fill(Path("out"), **OLD, d="mine")
    Path("out/sub").mkdir()
    Path("out/sub/e").write_text("mine")
    with whole_folder("out", stays=lambda path: path != Path("c"), overwrite=True) as made:
        fill(made, **NEW)
        fill(made / "sub", f="new f")
    assert contents() == NEW | {"d": "mine", "sub/e": "mine", "sub/f": "new f"}
    with pytest.raises(KeptAsideError, match="out-2"), whole_folder("out", stays=lambda path: True) as made:
        fill(made, d="new d")
    assert contents()["d"] == "mine"


def test_a_folder_that_appears_meanwhile_keeps_its_other_files() -> None:
    with whole_folder("out", stays=lambda path: True, overwrite=True) as made:
        fill(made, **NEW)
        fill(Path("out"), d="mine")
    assert contents() == NEW | {"d": "mine"}


def test_a_result_that_a_disk_of_its_own_does_not_take_is_kept_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Path("out"), **OLD)
    mount = Path("out").absolute()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == mount)
    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        if (mount in self.parents) != (mount in target.parents):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(KeptAsideError, match=r"by now: it is in .*/out/out-2\.$"):
        write_new(overwrite=False)
    assert contents("out/out-2") == NEW
    assert (files(), files("out")) == (["out"], ["a", "c", "out-2"])


def test_a_file_that_appears_while_files_change_places_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Path("out"))
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == Path("out").absolute())
    named = whole.hidden_name

    def appears(place: Path, ending: str = "") -> Path:
        if ending:  # the folder has been looked through
            fill(Path("out"), b="theirs")
        return named(place, ending)

    monkeypatch.setattr(whole, "hidden_name", appears)
    with pytest.raises(KeptAsideError, match="something else is there by now"):
        write_new(overwrite=False)
    assert contents() == {"b": "theirs"}
    assert contents("out-2") == NEW
    assert files("out") == ["b"]


def test_a_link_to_a_folder_is_followed_and_the_current_one_is_written_through(monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Path("real"), **OLD)
    Path("out").symlink_to("real")
    write_new()
    assert Path("out").is_symlink()
    assert contents("real") == NEW
    monkeypatch.chdir("real")
    for place in (".", ""):
        with whole_folder(place, overwrite=True) as made:
            fill(made, z="new z")
        assert contents(".") == {"z": "new z"}  # the folder that is the current one still is
    assert files("..") == ["out", "real"]


def test_a_folder_in_one_that_takes_no_file_is_written_through(monkeypatch: pytest.MonkeyPatch) -> None:
    fill(Path("out"), **OLD)
    parent = Path().absolute()
    monkeypatch.setattr(whole, "_writable", lambda folder: folder != parent)
    write_new()
    assert contents() == NEW
    assert files("out") == ["a", "b"]


# --- whose they are ---------------------------------------------------------------------------------------------------


def test_processes_are_told_apart() -> None:
    assert state_of(owner()) == "running"
    host, number, began = owner().split("-")
    assert state_of(f"{host}-{number}-00000000") == "gone"  # an earlier process of the same number
    assert state_of(f"{host}-7fffffff-{began}") == "gone"
    assert state_of(f"00000000-{number}-{began}") == "unknown"  # another machine's
    for nobody in ("", "x-y", owner() + "-", f"{host}-{'f' * 22}-{began}"):
        assert state_of(nobody) == "gone"


def test_what_killed_runs_left_is_found() -> None:
    fill(Path("out"))
    mine = [left_by_a_killed_run("a.mkv"), left_by_a_killed_run("out"), left_by_a_killed_run("out/x")]
    others = [hidden_name(Path("a.mkv")), left_by_a_killed_run("b.mkv"), Path(".layerlift-x").absolute()]
    for path in (*mine, *others):
        path.write_text("half")
    assert leftovers("a.mkv") == [mine[0]]
    assert leftovers("out") == sorted(mine[1:])
    Path("link").symlink_to("out")
    assert leftovers("link") == sorted(mine[1:])
    assert leftovers("nowhere/a.mkv") == []


def test_what_other_runs_have_in_a_folder_stays() -> None:
    fill(Path("out"))
    other = hidden_name(Path("out/x"))
    other.write_text("half")
    write_new(overwrite=False)
    assert contents() == NEW | {other.name: "half"}
    write_new()
    assert contents() == NEW | {other.name: "half"}


def test_a_process_that_ends_removes_what_it_has_not_finished() -> None:
    with whole_folder("out") as made:
        fill(made, **NEW)
        assert files() == [made.name]
        whole.remove_unfinished()
        assert files() == []
        made.mkdir()


def test_no_result_gets_its_place_while_a_process_ends() -> None:
    free = list[bool]()

    def ask() -> None:
        free.append(whole._swapping.acquire(blocking=False))
        if free[-1]:
            whole._swapping.release()

    def look() -> None:
        asker = threading.Thread(target=ask)
        asker.start()
        asker.join()

    whole.remove_unfinished(then=look)
    look()  # a process that did not end after all goes on
    assert free == [False, True]


def test_errors_of_the_system_name_the_place_and_not_the_hidden_file() -> None:
    with pytest.raises(OSError, match="No space") as error, whole_file("a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(Path("a.txt").absolute())
    with pytest.raises(OSError, match="No space") as error, whole_folder("out") as made:
        raise OSError(errno.ENOSPC, "No space left on device", str(made / "b.mkv"))
    assert error.value.filename == str(Path("out/b.mkv").absolute())
    with pytest.raises(RuntimeError, match="anything"), whole_file("a.txt"):
        raise RuntimeError("anything else")
    with pytest.raises(OSError, match="quota") as error, whole_file("a.exr"):
        raise RuntimeError("Cannot write it. Disk quota exceeded")
    assert error.value.errno == errno.EDQUOT


def test_what_is_layerlift_s_own_is_not_kept_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.EIO, "Input/output error", str(self))

    job = tmp_path / ".out.layerlift-job"
    job.mkdir()
    monkeypatch.setattr(Path, "replace", refuse)
    for place, own in ((tmp_path / "kept.json", True), (job / "plate.mkv", False)):
        with pytest.raises(OSError, match=re.escape(f"Input/output error: '{place}'")):  # noqa: SIM117
            with whole_file(place, overwrite=True, own=own) as made:
                made.write_text("whole")
    assert files(tmp_path) == [".out.layerlift-job"]
    assert files(job) == []
