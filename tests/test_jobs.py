"""Job folders: what is kept in them survives a torn end, belongs to one job, and is one process's at a time."""

import errno
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from layerlift import processes
from layerlift.cli.resume import told_how_to_go_on
from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.contact_sheet import write_png
from layerlift.errors import InputError, LayerliftError
from layerlift.hidden import hidden_name
from layerlift.jobs.job import Job, job_folder, usage
from layerlift.jobs.listing import find_jobs
from layerlift.jobs.lock import Lock
from layerlift.jobs.manifest import Manifest, digest_of
from layerlift.jobs.shelf import Shelf
from layerlift.processes import owner
from layerlift.progress import QUIET
from layerlift.report import Report
from layerlift.stages import removal
from layerlift.whole import Unfinished
from support import files, layerlift, left_by_a_killed_run

FRAMES, HEIGHT, WIDTH = 12, 40, 56
GOING_ON = "layerlift.stages.removal.going_on.run_removal"
JOB = ".out.mkv.layerlift-job"
REMOVE = ["remove", "walk.mkv", "--mask", "mask.mkv", "--model", "none", "--lossless", "-o", "out.mkv"]


def arrays(number: int) -> list[np.ndarray]:
    return [np.full((3, number + 1), number, np.float32), np.arange(number) % 2 > 0, np.array(number)]


@pytest.mark.parametrize("packed", [True, False])
def test_a_kept_shelf_is_there_again(packed: bool, tmp_path: Path) -> None:
    for first in (0, 3):
        with Shelf(tmp_path / "shelf", packed=packed) as shelf:
            assert len(shelf) == first
            for number in range(first, first + 3):
                shelf.put(number, *arrays(number))
    with Shelf(tmp_path / "shelf", packed=packed) as shelf:
        assert (len(shelf), shelf.last(4), shelf.last(99)) == (6, 4, 5)
        for number in range(6):
            for given, found in zip(arrays(number), shelf.get(number), strict=True):
                assert (found.dtype, found.shape) == (given.dtype, given.shape)
                np.testing.assert_array_equal(found, given)
        shelf.drop()
    assert files(tmp_path) == []


def test_whatever_is_torn_off_a_shelf_whole_records_stay(tmp_path: Path) -> None:
    ends = []
    with Shelf(tmp_path / "shelf") as shelf:
        for number in range(3):
            shelf.put(number, *arrays(number))
            ends.append((tmp_path / "shelf").stat().st_size)
    whole = (tmp_path / "shelf").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "torn").write_bytes(whole[:length])
        with Shelf(tmp_path / "torn") as shelf:
            there = sum(end <= length for end in ends)
            assert len(shelf) == there
            shelf.put(there, *arrays(there))
        with Shelf(tmp_path / "torn") as shelf:
            assert len(shelf) == there + 1
            assert shelf.get(there)[0].tolist() == arrays(there)[0].tolist()


def test_a_damaged_shelf_ends_before_the_damage(tmp_path: Path) -> None:
    with Shelf(tmp_path / "shelf") as shelf:
        for number in range(3):
            shelf.put(number, *arrays(number))
    whole = (tmp_path / "shelf").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "bad").write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        with Shelf(tmp_path / "bad") as shelf:
            for number in range(len(shelf)):
                np.testing.assert_array_equal(shelf.get(number)[0], arrays(number)[0])
            assert len(shelf) < 3


def test_a_lock_is_free_when_its_process_is_gone(tmp_path: Path) -> None:
    host, number, began = owner().split("-")
    for told, held in (
        (f"{host}-{number}-00000000", False),  # the number was given to another process
        (f"{host}-7fffffff-{began}", False),
        (f"00000000-{number}-{began}", True),  # of another machine: nobody here can tell
        ("none", False),
    ):
        (tmp_path / "lock").write_text(told)
        assert Lock(tmp_path / "lock").is_held() is held, told
        lock = Lock(tmp_path / "lock")
        assert lock.take() is not held, told
        if not held:
            assert not Lock(tmp_path / "lock").take(), "by this process"
            assert Lock(tmp_path / "lock").is_held()
        lock.leave()
    assert not Lock(tmp_path / "none").is_held()


def test_a_lock_is_free_as_soon_as_its_process_is_killed(tmp_path: Path) -> None:
    take = (
        f"from pathlib import Path; from layerlift.jobs.lock import Lock; print(Lock(Path({str(tmp_path)!r}, 'lock'))"
    )
    words = [sys.executable, "-c", f"{take}.take(), flush=True); input()"]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    lock = Lock(tmp_path / "lock")
    assert lock.is_held()
    assert not lock.take()
    child.kill()
    child.stdout.read()  # it ends with the process, which nobody has waited for
    for _ in range(0 if sys.platform == "linux" else 500):  # elsewhere it closes its files a moment before it is gone
        if not lock.is_held():
            break
        time.sleep(0.01)
    assert not lock.is_held()
    assert lock.take()
    lock.leave()
    child.communicate()


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="macOS has it from Python 3.13 on")
def test_a_killed_process_is_gone_on_other_systems_too() -> None:
    """Although nobody has asked for its end, and psutil still tells when it began."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert processes._began_elsewhere(child.pid) == processes._began_elsewhere(child.pid) is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes._began_elsewhere(child.pid) is None
    child.communicate()
    assert processes._began_elsewhere(child.pid) is None


def test_a_process_is_the_same_after_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a Mac's sleep: psutil's time of its beginning moves along."""
    began = processes._began_elsewhere(os.getpid())
    usual = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: usual(process) + 5)
    assert processes._began_elsewhere(os.getpid()) == began is not None


def test_a_mac_in_another_network_is_the_same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def host(system: str, name: str) -> str:
        processes._host.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "platform", system)
            patched.setattr(platform, "node", lambda: name)
            return processes._host()

    try:
        assert host("darwin", "mac.local") == host("darwin", "mac.home") != host("darwin", "other.local")
        assert host("linux", "node.a") != host("linux", "node.b")
    finally:
        processes._host.cache_clear()


@pytest.mark.parametrize("disk", ["same", "another"])
def test_finished_results_stay_until_the_job_is_finished(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another disk is that of a folder that is a mount point."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    job = Job(tmp_path / JOB)
    job.folder.mkdir()
    (job.made / "plate.mkv").write_bytes(b"plate")
    (job.made / "frames").mkdir()
    (job.made / "frames" / "0.png").write_bytes(b"frame")
    out = tmp_path / "out"
    out.mkdir()
    if disk == "another":
        monkeypatch.setattr(os, "rename", refuse)
        monkeypatch.setattr(os, "link", refuse)
    job.copy_made(out)
    for folder in (out, job.made):
        assert (files(folder), files(folder / "frames")) == (["frames", "plate.mkv"], ["0.png"])
        assert (folder / "plate.mkv").read_bytes() == b"plate"
    same = (out / "plate.mkv").samefile(job.made / "plate.mkv")
    assert same == (disk == "same"), "a copy takes room"


def test_a_signal_waits_until_the_job_of_a_result_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(tmp_path / JOB)
    job.folder.mkdir()
    (job.made / "plate.mkv").write_bytes(b"plate")

    def removed(path: Path, rmtree: Callable[[Path], None] = shutil.rmtree) -> None:
        signal.raise_signal(signal.SIGINT)
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", removed)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            job.finish()
    finally:
        signal.signal(signal.SIGINT, former)
    assert not job.folder.exists()


def test_jobs_lie_beside_what_they_make(tmp_path: Path) -> None:
    assert job_folder(tmp_path / "a" / "out") == tmp_path / "a" / ".out.layerlift-job"
    (tmp_path / "link").symlink_to(tmp_path / "a" / "out")
    assert job_folder(tmp_path / "link") == tmp_path / "a" / ".out.layerlift-job"
    long = job_folder(tmp_path / ("ä" * 120 + ".mp4"))
    assert len(os.fsencode(long.name)) <= 255
    assert long != job_folder(tmp_path / ("ä" * 120 + ".mkv"))


def test_a_folder_in_one_that_takes_nothing_has_its_job_inside(
    walk: None, interrupt: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a disk at /media/me/disk, where /media/me is the system's."""
    out = Path("out").absolute()
    out.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != out.parent and access(path, mode))
    command = [word.replace("out.mkv", "out/") for word in REMOVE]
    interrupt(7)
    assert layerlift(*command) == 130
    assert files(out) == [".layerlift-job"]
    assert layerlift("jobs") == 0
    assert capsys.readouterr().out.splitlines()[-1].rstrip().endswith("interrupted")
    assert layerlift(*command, "--resume") == 0
    assert "Resuming the job" in capsys.readouterr().err
    assert len(files(out)) == FRAMES
    assert files() == ["mask.mkv", "out", "walk.mkv"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    job = Job(tmp_path / JOB)
    job.folder.mkdir()
    (job.folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        job.begin(Manifest("remove", "out.mkv", "", {}, {}))
    assert files(job.folder) == ["thesis.txt"]
    assert find_jobs(tmp_path) == []
    target = tmp_path / "elsewhere"
    target.mkdir()
    link = Job(tmp_path / ".b.layerlift-job")
    link.folder.symlink_to(target)
    with pytest.raises(InputError, match="something else"):
        link.begin(Manifest("remove", "b", "", {}, {}))
    file = Job(tmp_path / ".c.layerlift-job")
    file.folder.write_text("mine")
    planted = Job(tmp_path / ".d.layerlift-job")
    planted.folder.mkdir()
    (planted.folder / "shelves").symlink_to(target)
    for other in (file, planted):
        with pytest.raises(InputError, match="something else"):
            other.begin(Manifest("remove", "c", "", {}, {}))


def test_a_job_that_is_finished_while_another_begins_is_out_of_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Job(tmp_path / JOB), Job(tmp_path / JOB)
    manifest = Manifest("remove", "out.mkv", "", {}, {})
    first.begin(manifest)
    take = Lock.take

    def late(self: Lock) -> bool:
        monkeypatch.setattr(Lock, "take", take)
        first.finish()
        return take(self)

    monkeypatch.setattr(Lock, "take", late)
    second.begin(manifest)
    assert files(second.folder) == ["lock", "manifest.json", "settled.json"]


def test_what_is_left_of_a_finished_job_is_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(tmp_path / JOB)
    job.begin(Manifest("remove", "out.mkv", "", {}, {}))

    def refuse(path: Path) -> None:  # as if the process were killed
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    said = job.finish()
    (left,) = files(tmp_path)
    assert said is not None
    assert f"{tmp_path / left}, could not be removed (input/output error)" in said
    assert left.startswith(hidden_name(tmp_path / "out.mkv").name.partition(owner())[0])  # the next run will name it


@pytest.mark.parametrize("how", ["finished", "cleaned"])
def test_no_file_of_a_job_is_open_when_its_folder_goes(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS keeps files that are open under another name, and so the folder could not be removed."""
    remove = shutil.rmtree

    def on_nfs(path: Path) -> None:
        if any(Path(path) in Path(file.path).parents for file in psutil.Process().open_files()):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        remove(path)

    job = Job(tmp_path / JOB)
    job.begin(Manifest("remove", "out.mkv", "", {}, {}))
    (job.made / "a.mkv").write_bytes(b"a")
    monkeypatch.setattr(shutil, "rmtree", on_nfs)
    if how == "finished":
        assert job.finish() is None
    else:
        job.leave()
        assert layerlift("jobs", str(tmp_path), "--clean") == 0
    assert files(tmp_path) == []


def test_a_shelf_whose_disk_is_full_when_it_is_closed_says_where_it_is(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    os.close(shelf._file.fileno())  # whatever closing it says
    with pytest.raises(OSError, match="Bad file descriptor") as refused:
        shelf.close()
    assert refused.value.filename == str(tmp_path / "shelf")


def test_a_lock_that_cannot_be_written_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left") as refused:
        Lock(tmp_path / "lock").take()
    assert refused.value.filename == str(tmp_path / "lock")


def test_a_finished_job_that_stays_is_named(
    walk: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rmtree = shutil.rmtree

    def refuse(path: Path, *, ignore_errors: bool = False) -> None:
        if (path / "manifest.json").exists():
            raise PermissionError(errno.EACCES, "Permission denied")
        rmtree(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        assert layerlift(*REMOVE) == 0
    (left,) = [name for name in files() if name.startswith(".")]
    assert f"{left}, could not be removed (permission denied): delete it." in capsys.readouterr().err


def test_a_folder_that_goes_while_it_is_measured_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_bytes(bytes(2000))
    scan = os.scandir

    def gone(path: Any) -> Any:
        if Path(path).name == "sub":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert usage(tmp_path).size == 2000


def test_no_room_for_the_steps_is_told_with_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(tmp_path / JOB)
    job.folder.mkdir()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        pytest.raises(LayerliftError, match=rf"kept in .*{JOB}/steps: no space left on device; free some space"),
        job.keeper.watched(QUIET).stage("look", 3),
    ):
        pass


def test_a_shelf_that_is_damaged_while_it_is_used_is_told(tmp_path: Path) -> None:
    with Shelf(tmp_path / "shelf") as shelf:
        shelf.put(0, *arrays(9))
        at = shelf._places[0][0]
        (tmp_path / "shelf").write_bytes(b"x" * 2 * at)
        with pytest.raises(OSError, match="does not hold what it says"):
            shelf.get(0)
        place, size, _ = shelf._places[0]
        shelf._places[0] = place, size, [(np.dtype("f4"), (2**31, 2**31))]  # as a crafted record says
        with pytest.raises(OSError, match="does not hold what it says"):
            shelf.get(0)


def test_what_a_system_puts_into_a_folder_makes_no_other_job(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"frame")
    before = digest_of([tmp_path])
    (tmp_path / ".DS_Store").write_bytes(b"a window's place")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "0.png").write_bytes(b"old")
    (tmp_path / "lost.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert digest_of([tmp_path]) == before
    (tmp_path / "1.png").write_bytes(b"frame")
    assert digest_of([tmp_path]) != before


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip and a mask in the current folder."""
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(90, 110, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for index in range(FRAMES):
        mask[index, 10:20, 5 + 3 * index : 12 + 3 * index] = True
    frames[mask] = (220, 30, 30)
    write_clip("walk.mkv", frames, Clip.from_array(frames, 30), lossless=True)
    write_mask("mask.mkv", mask, Clip.from_array(frames, 30))


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the next removal end with Ctrl-C at a frame."""

    def at(frame: int) -> None:
        def run(plan: Any, tell: Any, start: int) -> Iterator[np.ndarray]:
            for index, made in enumerate(removal.run_removal(plan, tell, start), start):
                if index == frame:
                    monkeypatch.setattr(GOING_ON, removal.run_removal)
                    raise KeyboardInterrupt
                yield made

        monkeypatch.setattr(GOING_ON, run)

    return at


def test_an_interrupted_command_says_how_it_goes_on(
    walk: None, interrupt: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert layerlift(*REMOVE, "--source-map", "map.mkv") == 0
    whole, sources = open_clip("out.mkv").numpy(), open_clip("map.mkv").numpy()
    Path("out.mkv").unlink()
    Path("map.mkv").unlink()
    assert [name for name in files() if name.startswith(".")] == []

    interrupt(7)
    assert layerlift(*REMOVE, "--source-map", "map.mkv") == 130
    said = capsys.readouterr().err
    line = f"To go on: layerlift {' '.join(REMOVE)} --source-map map.mkv --resume"
    assert line in said
    assert files() == [JOB, "mask.mkv", "walk.mkv"]

    assert layerlift(*REMOVE, "--source-map", "map.mkv", "--resume", "--report", "report.json") == 0
    assert "Resuming the job that was interrupted less than a minute ago." in capsys.readouterr().err
    np.testing.assert_array_equal(open_clip("out.mkv").numpy(), whole)
    np.testing.assert_array_equal(open_clip("map.mkv").numpy(), sources)
    assert [name for name in files() if name.startswith(".")] == []
    resumed = json.loads(Path("report.json").read_text())["results"]["resumed"]
    assert resumed["removal gather"] == {"found": FRAMES, "again": 0}


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        ("remove a.mkv", "remove a.mkv --resume"),
        ("remove a.mkv --resume -v", "remove a.mkv --resume -v"),
        ("remove --model none -- -a.mkv", "remove --model none --resume -- -a.mkv"),
        ("remove 'my clip.mkv'", "remove 'my clip.mkv' --resume"),
    ],
)
def test_the_line_that_goes_on_can_be_copied(typed: str, again: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), told_how_to_go_on(shlex.split(typed), lambda: True):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == f"What is done so far is kept. To go on: layerlift {again}\n"


def test_what_has_its_place_by_then_may_be_replaced_to_go_on(
    walk: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = Unfinished.commit

    def interrupted(self: Unfinished) -> None:
        commit(self)
        if self.place.name == "out.mkv":
            monkeypatch.setattr(Unfinished, "commit", commit)
            raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "commit", interrupted)
    assert layerlift(*REMOVE, "--source-map", "map.mkv") == 130
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "To go on: " in line]
    again = shlex.split(line.partition("To go on: ")[2])
    assert again == ["layerlift", *REMOVE, "--source-map", "map.mkv", "--resume", "--overwrite"]
    assert layerlift(*again[1:], "--report", "report.json") == 0
    assert files() == ["map.mkv", "mask.mkv", "out.mkv", "report.json", "walk.mkv"]
    resumed = json.loads(Path("report.json").read_text())["results"]["resumed"]
    assert resumed["removal gather"] == {"found": FRAMES, "again": 0}


def test_a_result_that_is_kept_under_another_name_needs_no_job(
    walk: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = Unfinished.commit

    def late(self: Unfinished) -> None:
        if self.place.name == "out.mkv":
            Path("out.mkv").write_text("theirs")
        commit(self)

    monkeypatch.setattr(Unfinished, "commit", late)
    assert layerlift(*REMOVE) == 1
    said = capsys.readouterr().err
    assert said.rstrip().endswith("out-2.mkv.")
    assert "To go on" not in said
    assert files() == ["mask.mkv", "out-2.mkv", "out.mkv", "walk.mkv"]


def test_a_part_that_cannot_take_its_name_in_the_job_is_made_again(
    walk: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "walk.mkv", "--object", "mask.mkv", "--total", "mask.mkv", "--model", "none", "-o", "out"]
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if Path(target).name == "contact_sheet.png":
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        assert layerlift(*command) == 1
    said = capsys.readouterr().err
    assert "made/contact_sheet.png cannot be written: no space left on device" in said
    assert "To go on: " in said
    assert not [name for name in files(".out.layerlift-job/made") if "-2" in name]
    assert layerlift(*command, "--resume") == 0
    assert "contact_sheet.png" in files("out")
    assert not [name for name in files("out") if "-2" in name]


def test_a_finished_file_that_is_damaged_is_made_again(
    walk: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "walk.mkv", "--object", "mask.mkv", "--total", "mask.mkv", "--onto", "walk.mkv"]
    command += ["--model", "none", "-o", "out"]
    whole = {}

    def interrupt(*_: object) -> None:
        whole.update({path.name: path.read_bytes() for path in Path(".out.layerlift-job/made").iterdir()})
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("layerlift.stages.run.sheet_columns", interrupt)
        assert layerlift(*command) == 130
    assert sorted(whole) == ["background.mp4", "composite.mp4", "layer_0.mov", "total_mask.mkv"]
    for path, damage in zip(sorted(Path(".out.layerlift-job/made").iterdir()), ("", "cut", "bit", "gone"), strict=True):
        held = bytearray(path.read_bytes())
        held[len(held) // 2] ^= 1
        path.write_bytes(held if damage == "bit" else held[: len(held) // 2 if damage == "cut" else 0])
        if damage == "gone":
            path.unlink()
    assert layerlift(*command, "--resume") == 0
    assert {name: Path("out", name).read_bytes() for name in whole} == whole


def test_a_folder_that_does_not_get_its_place_costs_no_finished_result(
    walk: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "walk.mkv", "--object", "mask.mkv", "--total", "mask.mkv", "--model", "none", "-o", "out"]
    write = Report.write

    def full(self: Report, path: Path, *, overwrite: bool = False) -> None:
        monkeypatch.setattr(Report, "write", write)
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Report, "write", full)
    assert layerlift(*command) == 1
    assert "To go on: " in capsys.readouterr().err
    assert files() == [".out.layerlift-job", "mask.mkv", "walk.mkv"]
    assert layerlift(*command, "--resume") == 0
    report = json.loads(Path("out/report.json").read_text())
    assert set(report["stages"]).isdisjoint({"gather", "extract"})
    assert files() == ["mask.mkv", "out", "walk.mkv"]


def another_clip() -> None:
    clip = open_clip("walk.mkv")
    frames = clip.numpy()
    frames[3, 0, 0] += 1
    write_clip("walk.mkv", frames, clip, lossless=True, overwrite=True)


def another_mask() -> None:
    clip = open_clip("walk.mkv")
    masks = open_clip("mask.mkv").numpy()[..., 0] > 127
    masks[3, 30, 30] = True
    write_mask("mask.mkv", masks, clip, overwrite=True)


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        (another_clip, [], "CLIP has changed"),
        (another_mask, [], "--mask has changed"),
        (lambda: None, ["--dilate", "3"], "--dilate was not given and is 3"),
        (lambda: None, ["--model", "demo"], "--model was none and is demo"),
    ],
)
def test_another_job_never_goes_on_from_this_one(
    change: Callable[[], None],
    flags: list[str],
    said: str,
    *,
    walk: None,
    interrupt: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt(7)
    assert layerlift(*REMOVE) == 130
    change()
    assert layerlift(*REMOVE, *flags, "--resume") == 2
    told = capsys.readouterr().err
    assert "cannot go on, because" in told
    assert said in told
    assert JOB in files()


def test_a_job_of_another_version_never_goes_on(
    walk: None,
    interrupt: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt(7)
    assert layerlift(*REMOVE) == 130
    path = Path(JOB, "manifest.json")
    told = json.loads(path.read_text())
    told["settings"]["the version of layerlift"] = "0.0.1"
    path.write_text(json.dumps(told))
    assert layerlift(*REMOVE, "--resume") == 2
    assert "the version of layerlift was 0.0.1 and is" in capsys.readouterr().err


@pytest.fixture
def asked(walk: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Manifest]:
    """Has a command end where its job would begin, and tells what job it is."""

    def of(*words: str) -> Manifest:
        said: list[Manifest] = []

        def begin(job: Job, manifest: Manifest) -> None:
            said.append(manifest)
            raise InputError("seen.")

        monkeypatch.setattr(Job, "begin", begin)
        assert layerlift(*words) == 2
        return said[0]

    return of


def test_the_layers_that_are_looked_at_make_another_job(asked: Callable[..., Manifest]) -> None:
    """`compose` calls what it is given layers, too."""
    mask = ("mask", "walk.mkv", "--object", "mask.mkv", "--witnesses", "model", "--model", "demo")
    one, other = asked(*mask), asked(*mask, "--layers", "1")
    assert one.difference(other) == "--layers was auto and is 1"
    assert one.key() != other.key()


def test_where_files_lie_makes_no_other_job(asked: Callable[..., Manifest], tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    shutil.copyfile("mask.mkv", "masks/mask.mkv")
    one = asked(*REMOVE)
    for mask in (str(tmp_path / "mask.mkv"), "./mask.mkv", "masks/mask.mkv"):
        other = asked(*[mask if word == "mask.mkv" else word for word in REMOVE])
        assert one.difference(other) is None, mask
        assert one.key() == other.key(), mask


def test_which_object_of_a_mask_is_meant_makes_another_job(asked: Callable[..., Manifest]) -> None:
    labels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    labels[10:20, 5:12], labels[10:20, 30:40] = 1, 2
    write_png(Path("ids.png"), labels)
    one, other = (asked("mask", "walk.mkv", "--object", f"ids.png:{n}", "--model", "none") for n in (1, 2))
    assert one.difference(other) == "--object was ['ids.png:1'] and is ['ids.png:2']"
    assert one.key() != other.key()


def test_the_device_that_would_be_found_may_be_typed(asked: Callable[..., Manifest]) -> None:
    assert asked(*REMOVE).difference(asked(*REMOVE, "--device", "cpu")) is None


def test_a_library_that_was_installed_meanwhile_makes_another_job(
    asked: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note of the removal says that areas are filled smoothly without pypatchmatch."""

    def without(name: str) -> str:
        if name == "pypatchmatch":
            raise PackageNotFoundError(name)
        return "1.0"

    def with_it(name: str) -> str:
        return "1.0"

    jobs = []
    for found in (without, with_it):
        monkeypatch.setattr("layerlift.report.version", found)
        jobs.append(asked(*REMOVE))
    assert jobs[0].difference(jobs[1]) == "the version of pypatchmatch was not given and is 1.0"


def test_with_nothing_to_resume_it_begins(walk: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift(*REMOVE, "--resume") == 0
    assert "There is no interrupted job of out.mkv to resume: starting from the beginning." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "holds"), [("manifest.json", "{}"), ("settled.json", ""), ("settled.json", "[1]"), ("settled.json", None)]
)
def test_a_job_of_which_it_is_not_known_how_it_was_planned_begins_anew(
    name: str, holds: str | None, tmp_path: Path
) -> None:
    """Its frames may have been made by another plan than those to come."""
    manifest = Manifest("remove", "out.mkv", "", {}, {})
    job = Job(tmp_path / "job")
    assert job.settled("memory", 5) == 5
    job.begin(manifest)
    with job.keeper.shelf("plate") as shelf:
        shelf.put(0, np.arange(999))
    job.leave()
    path = job.folder / name
    path.unlink() if holds is None else path.write_text(holds)
    job = Job(tmp_path / "job", resume=True)
    memory = job.settled("memory", 3)
    assert job.begin(manifest) == "What was kept of the job of out.mkv is damaged: starting from the beginning."
    assert not (job.folder / "shelves").exists()
    job.leave()
    assert not job.folder.exists(), "nothing is kept yet"
    assert memory == (5 if name == "manifest.json" else 3)


def test_without_resume_an_old_job_is_named_and_replaced(
    walk: None, interrupt: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(7)
    assert layerlift(*REMOVE) == 130
    assert layerlift(*REMOVE, "--dilate", "3") == 0
    assert "An interrupted job of out.mkv, from less than a minute ago, is replaced" in capsys.readouterr().err
    assert files() == ["mask.mkv", "out.mkv", "walk.mkv"]


def test_a_running_job_is_never_taken(
    walk: None, interrupt: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(7)
    assert layerlift(*REMOVE) == 130
    lock = Lock(Path(JOB, "lock"))
    assert lock.take()
    for flags in ([], ["--resume"]):
        assert layerlift(*REMOVE, *flags) == 2
        assert "is being made by another layerlift process" in capsys.readouterr().err
    assert layerlift("jobs", "--clean") == 0
    assert "running" in capsys.readouterr().out
    assert JOB in files()
    lock.leave()
    assert layerlift(*REMOVE, "--resume") == 0


def test_a_job_that_another_machine_may_be_doing_can_be_freed(
    walk: None, interrupt: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(7)
    assert layerlift(*REMOVE) == 130
    lock = Path(JOB, "lock")
    lock.write_text(f"00000000-{owner().partition('-')[2]}")
    capsys.readouterr()
    assert layerlift(*REMOVE, "--resume") == 2
    said = capsys.readouterr().err
    assert "out.mkv may be being made on another machine" in said
    assert f"or delete {lock.absolute()} if nobody works on it any more." in said
    assert layerlift("jobs", "--clean") == 0
    _, row, more = capsys.readouterr().out.splitlines()
    assert row.rstrip().endswith("unknown")
    assert "another machine" in more
    lock.unlink()
    assert layerlift(*REMOVE, "--resume") == 0


def test_jobs_are_listed_and_removed(
    walk: None, interrupt: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert layerlift("jobs") == 0
    assert "There are no jobs" in capsys.readouterr().out
    interrupt(7)
    assert layerlift(*REMOVE) == 130
    capsys.readouterr()
    for place in (Path(), Path("sub")):
        place.mkdir(exist_ok=True)
        Path(JOB).rename(place / JOB)
        assert layerlift("jobs") == 0
        head, row = capsys.readouterr().out.splitlines()
        assert head.split() == ["target", "command", "size", "age", "state"]
        assert row.split()[:2] == ["out.mkv", "remove"]
        assert row.split()[-1] == "interrupted"
        (place / JOB).rename(JOB)
    assert layerlift("jobs", "--clean") == 0
    assert "removed" in capsys.readouterr().out
    assert files() == ["mask.mkv", "sub", "walk.mkv"]
    assert layerlift("jobs", "nowhere") == 2


def a_job(name: str, **told: str) -> Path:
    """A folder such as an interrupted job leaves."""
    folder = job_folder(Path(name))
    folder.mkdir()
    Manifest(**{"command": "remove", "target": name, "typed": "", **told}, contents={}, settings={}).write(
        folder / "manifest.json"
    )
    return folder


def test_whatever_a_job_is_called_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    a_job("a\nb.mkv")
    a_job("c.mkv", target="\x1b]0;title\x07c.mkv", command="re\x1b[31mmove")
    assert layerlift("jobs") == 0
    _, one, other = capsys.readouterr().out.splitlines()
    assert one.startswith("a\ufffdb.mkv")
    assert other.startswith("\ufffd]0;title\ufffdc.mkv  re\ufffd[31mmove")
    assert layerlift("jobs", "--clean") == 0
    assert files() == []


def test_a_pipe_in_a_job_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("manifest.json", "settled.json", "steps/removal"):
        folder = a_job("a.mkv")
        (folder / "settled.json").write_text("{}")
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        # Whoever waits for a writer gets one, and nothing to read.
        writer = threading.Timer(30, lambda path=path: os.close(os.open(path, os.O_WRONLY)))
        writer.start()
        assert layerlift("jobs") == 0
        assert "interrupted" in capsys.readouterr().out
        job = Job(folder, resume=True)
        assert job.settled("memory", 7) == 7
        job.begin(Manifest("remove", "a.mkv", "", {}, {}))
        assert writer.is_alive(), name
        writer.cancel()
        job.finish()


def test_a_job_that_cannot_be_removed_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kept, gone = a_job("a.mkv"), a_job("b.mkv")
    takes = Lock.take

    def take(lock: Lock) -> bool:
        if lock.path.parent.name == kept.name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(lock.path))
        return takes(lock)

    monkeypatch.setattr(Lock, "take", take)
    assert layerlift("jobs", "--clean") == 1
    said = capsys.readouterr()
    assert [row.split()[-1] for row in said.out.splitlines()[1:]] == ["interrupted", "removed"]
    assert "permission denied" in said.err
    assert files() == [kept.name]
    assert not gone.exists()


def test_what_killed_runs_left_is_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half, older = left_by_a_killed_run(tmp_path / "a.mkv"), left_by_a_killed_run(tmp_path / "out", ".old")
    ours = hidden_name(tmp_path / "b.mkv")
    elsewhere = half.with_name(half.name.replace(owner().partition("-")[0], "00000000"))
    link = left_by_a_killed_run(tmp_path / "c.mkv")
    kept = tmp_path / "kept"
    for folder in (half, older, kept):
        folder.mkdir()
        (folder / "file").write_bytes(bytes(2000))
    for file in (ours, elsewhere):
        file.write_bytes(bytes(10))
    link.symlink_to(kept)
    everything = files(tmp_path)
    assert layerlift("jobs", tmp_path) == 0
    _, *rows = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    told = {str(path): row for path in (half, older, elsewhere, link) for row in rows[:4] if row.startswith(str(path))}
    assert "2.0 kB" in told[str(half)]
    assert told[str(half)].endswith("left over")
    assert told[str(link)].endswith("left over")
    assert told[str(older)].endswith("replaced")
    assert told[str(elsewhere)].endswith("unknown")
    assert "may be the only copy" in rows[4]
    assert "another machine" in rows[5]
    assert files(tmp_path) == everything

    assert layerlift("jobs", tmp_path, "--clean") == 0
    assert files(tmp_path) == sorted({*everything} - {half.name, link.name})
    assert files(kept) == ["file"]


def test_the_age_of_a_job_is_that_of_its_last_step(
    walk: None, interrupt: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(7)
    assert layerlift(*REMOVE) == 130
    for path in (Path(JOB), *Path(JOB).rglob("*")):
        os.utime(path, (0, 0))
    now = time.time()
    os.utime(Path(JOB, "shelves", "removal", "plate"), (now - 7200, now - 7200))
    assert layerlift(*REMOVE, "--resume") == 0
    assert "Resuming the job that was interrupted 2 hours ago." in capsys.readouterr().err


def test_a_finished_result_is_something_to_go_on_from(tmp_path: Path) -> None:
    job = Job(tmp_path / JOB)
    manifest = Manifest("run", "out", "", {}, {})
    job.begin(manifest)
    assert job.made.is_dir()
    assert not job.leave()
    assert files(tmp_path) == []
    job.begin(manifest)
    (job.made / "object_mask_0.mkv").write_bytes(b"whole")
    (job.made / left_by_a_killed_run("total_mask.mkv").name).write_bytes(b"half")
    assert job.leave()
    again = Job(tmp_path / JOB, resume=True)
    again.begin(manifest)
    assert files(again.made) == ["object_mask_0.mkv"]
    again.finish()


@pytest.mark.slow
def test_a_job_that_is_killed_at_random_moments_makes_the_same_files() -> None:
    tool = Path(__file__).parents[1] / "tools" / "kills.py"
    flags = ["--frames", "60", "--kills", "5", "--model", "none"]
    done = subprocess.run([sys.executable, tool, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    worst = float(done.stdout.split("at most ")[1].split()[0])
    assert worst <= 60 + 100, "at most one window, and 100 frames"
