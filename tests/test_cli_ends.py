"""How commands end that do not end by themselves: signals, streams that take nothing, disks without room."""

import errno
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from layerlift import temporary
from layerlift.cli import interrupts, job
from layerlift.cli.inputs import changed_inputs, forget_inputs, watch_inputs
from layerlift.cli.interrupts import catch_interrupts
from layerlift.cli.streams import forgiving_streams
from layerlift.clip import Clip, open_clip, write_clip
from layerlift.clip.writer import ClipWriter
from layerlift.errors import LayerliftError
from layerlift.jobs.shelf import Shelf
from layerlift.places import Given
from layerlift.room import check_room
from support import files, layerlift, left_by_a_killed_run

COUNT, HEIGHT, WIDTH = 3, 40, 56
REMOVE = ("remove", "walk.mkv", "--mask", "mask.png", "--model", "none", "-o", "out.mkv", "--lossless")


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A clip and a mask in the current folder; what lies there."""
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(90, 110, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_clip("walk.mkv", frames, Clip.from_array(frames), lossless=True)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:20, 16:26] = 255
    cv2.imwrite("mask.png", mask)
    Path("layer").mkdir()
    cv2.imwrite("layer/0.png", np.full((HEIGHT, WIDTH, 4), 100, np.uint8))
    return files()


# --- signals ----------------------------------------------------------------------------------------------------------

# A command in whose midst a library works for hours and leaves no time for Python.
BUSY = """
import hashlib, sys
from layerlift.cli import main
import layerlift.report
from layerlift.whole import whole_folder

def busy():
    with whole_folder("out") as made:
        (made / "half").write_text("half")
        print("busy", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

layerlift.report.versions = busy
main(["doctor"])
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_command_that_is_in_a_long_call(number: signal.Signals, code: int, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "busy\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, said) == (code, "layerlift: interrupted.\n")
    assert files(tmp_path) == []


def test_a_process_ends_whatever_its_last_words_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> str:
        raise RuntimeError("dictionary changed size during iteration")

    codes = list[int]()
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(interrupts, "last_words", [wrong])
    ended = threading.Event()
    with pytest.raises(RuntimeError):
        interrupts._end(ended, 143)
    ended.set()
    interrupts._end(ended, 143)
    assert codes == [143]


# A removal that is busy in the same way when some of its frames are done.
BUSY_JOB = """
import hashlib, sys
from layerlift.cli import main
from layerlift.clip import ClipWriter

def busy(self, frame, write=ClipWriter.write, done=[]):
    write(self, frame)
    done.append(1)
    if len(done) == 2:
        print("busy", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

ClipWriter.write = busy
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_command_in_a_long_call_says_how_it_goes_on(inputs: list[str]) -> None:
    words = [sys.executable, "-c", BUSY_JOB, *REMOVE]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "busy\n"
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143
    *_, kept, last = said.splitlines()
    assert kept == f"What is done so far is kept. To go on: layerlift {' '.join(REMOVE)} --resume"
    assert last == "layerlift: interrupted."
    assert files() == sorted([*inputs, ".out.mkv.layerlift-job"])
    assert layerlift(*REMOVE, "--resume") == 0


def test_a_signal_while_a_command_is_imported_is_told_in_a_line() -> None:
    script = (
        "import builtins, signal, sys\nreal = builtins.__import__\n"
        "def imported(name, *rest):\n"
        "    if name == 'layerlift.cli.app':\n        signal.raise_signal(signal.SIGTERM)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = imported\nfrom layerlift.cli import main\nmain(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "layerlift: interrupted.\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_have_their_exit_codes_and_leave_nothing(
    number: signal.Signals,
    code: int,
    inputs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = ClipWriter.write

    def interrupted(self: ClipWriter, frame: np.ndarray) -> None:
        write(self, frame)
        signal.raise_signal(number)

    monkeypatch.setattr(ClipWriter, "write", interrupted)
    before = {at: signal.getsignal(at) for at in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    assert layerlift(*REMOVE) == code
    *_, kept, said = capsys.readouterr().err.splitlines()
    assert said == "layerlift: interrupted."
    assert kept.endswith("--resume"), "what is done so far waits in the job's folder"
    assert files() == sorted([*inputs, ".out.mkv.layerlift-job"])
    assert {at: signal.getsignal(at) for at in before} == before


def test_the_first_signal_counts_and_ignored_ones_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with catch_interrupts() as caught:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)  # while files are being removed
            assert caught.cancelled
            assert caught.code == 143
            assert interrupts.interrupted_by_user() is caught
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_a_killed_run_left_is_named(inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    left = left_by_a_killed_run("out.mkv")
    left.write_bytes(b"half")
    older = left_by_a_killed_run("out.mkv", ".old")
    older.write_bytes(b"whole")
    Path("sub").mkdir()
    other = left_by_a_killed_run("sub/report.json")
    other.write_bytes(b"half")
    assert layerlift(*REMOVE, "--report", "sub/report.json") == 0
    said = capsys.readouterr().err.splitlines()
    run = "an earlier run for out.mkv that was killed"
    assert f"{left} was left by {run}: `layerlift jobs --clean` removes it." in said
    assert f"{older} is what was to be replaced by {run}: move it back, or delete it." in said
    assert f"`layerlift jobs {shlex.quote(str(other.parent))} --clean` removes it." in "\n".join(said)
    assert files() == sorted([*inputs, left.name, older.name, "out.mkv", "sub"])

    assert layerlift("jobs", "--clean") == 0
    assert files() == sorted([*inputs, older.name, "out.mkv", "sub"])
    assert files("sub") == ["report.json"]


# --- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["walk.mkv", "mask.png"])
def test_an_input_that_changes_is_noticed(
    given: str, inputs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = ClipWriter.write

    def changing(self: ClipWriter, frame: np.ndarray) -> None:
        write(self, frame)
        os.utime(given, ns=(1, 1))

    monkeypatch.setattr(ClipWriter, "write", changing)
    assert layerlift(*REMOVE) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"layerlift: {given} changed while it was read, so the result may mix both: run this again."
    )
    assert open_clip("out.mkv").frame_count == COUNT


def test_hidden_files_are_no_inputs(tmp_path: Path) -> None:
    for name in ("0.png", "1.png", "2.png", ".DS_Store"):
        (tmp_path / name).write_text("one")
    (tmp_path / "0a.png").symlink_to("nowhere")
    forget_inputs()
    watch_inputs({"CLIP": tmp_path})
    (tmp_path / ".DS_Store").write_text("where a window is")
    (tmp_path / ".other").write_text("another's")
    assert changed_inputs() == []
    for name in ("0.png", "1.png", "2.png"):
        (tmp_path / name).write_text("another")
        assert changed_inputs() == [tmp_path], name
        forget_inputs()
        watch_inputs({"CLIP": tmp_path})
    forget_inputs()


# --- streams ----------------------------------------------------------------------------------------------------------


def python(*arguments: str, shell: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = " ".join(f"'{word}'" for word in (sys.executable, "-m", "layerlift", *arguments))
    line = f"{words} {shell}; exit ${{PIPESTATUS[0]}}"
    # Standard output waits for a full buffer, as it does wherever nobody sets this.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    "command", ["--version", "--help", pytest.param("scene -o s --size 16x16 --frames 1", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        pytest.param(
            ">/dev/full",
            1,
            "layerlift: standard output cannot be written: no space left on device.\n",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"),
        ),
        (">&-", 0, ""),
        ("| exec true", 0, ""),
        (">&- 2>&-", 0, ""),
    ],
)
def test_standard_output_that_takes_nothing(command: str, shell: str, code: int, said: str, tmp_path: Path) -> None:
    done = python(*command.split(), shell=shell, folder=tmp_path)
    lines = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith("scene: done")]
    assert (done.returncode, "".join(lines)) == (code, said)
    assert files(tmp_path) == (["s"] if "scene" in command else [])


def test_a_terminal_that_is_gone_does_not_end_the_work(inputs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    assert layerlift(*REMOVE, "-v") == 0
    assert open_clip("out.mkv").frame_count == COUNT


# --- room -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        REMOVE,
        ("mask", "walk.mkv", "--object", "mask.png", "--model", "none", "-o", "out.mkv"),
        ("extract", "walk.mkv", "--object", "mask.png", "--background", "walk.mkv", "-o", "out.mov"),
        ("compose", "layer", "--onto", "walk.mkv", "-o", "out.mp4"),
        ("segment", "walk.mkv", "--point", "20,15", "--segmenter", "classic", "-o", "out.mkv"),
        ("run", "walk.mkv", "--object", "mask.png", "--model", "none", "-o", "out", "--onto", "walk.mkv"),
        ("scene", "-o", "out", "--size", "32x32", "--frames", "2"),
        ("demo", "-o", "out"),
        ("reference", "walk.mkv", "--mask", "mask.png", "-o", "out"),
    ],
    ids=lambda command: command[0],
)
def test_a_disk_without_room_is_found_before_the_work(
    command: tuple[str, ...], inputs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1))
    assert layerlift(*command) == 1
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("layerlift: ")
    assert "at least 0." in said
    assert "but only 0.0 MB are free there: free some space, or choose a place on another disk" in said
    assert files() == inputs


def test_room_is_counted_disk_by_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.setattr("layerlift.room._disk", lambda place: int("other" in str(place)))
    monkeypatch.setattr("layerlift.room.folder", lambda: str(tmp_path / "other"))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=3_000_000_000))
    check_room({tmp_path / "a.mkv": 2_000_000_000, tmp_path / "b.mkv": 1_000_000_000}, 3_000_000_000)
    with pytest.raises(
        LayerliftError, match=r"^.*/a\.mkv and .*/b\.mkv will take at least 4\.0 GB, but only 3\.0 GB are free"
    ):
        check_room({tmp_path / "a.mkv": 2_000_000_000, tmp_path / "b.mkv": 2_000_000_000})
    with pytest.raises(
        LayerliftError, match=r"^temporary files in .*/other will take at least 4\.0 GB.*\(TMPDIR for temporary"
    ):
        check_room({tmp_path / "a.mkv": 2_000_000_000}, 4_000_000_000)
    with pytest.raises(LayerliftError, match=r"^.*/a\.mkv will take at least .* on another disk\.$"):
        check_room({tmp_path / "a.mkv": 4_000_000_000}, 1_000_000_000)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files get no room."""

    def refused(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refused)
    monkeypatch.setattr(os, "posix_fallocate", refused, raising=False)


@pytest.mark.parametrize("fallocate", [True, False])
@pytest.mark.usefixtures("full")
def test_mapped_files_have_their_room_before_they_are_mapped(fallocate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    said = r"no temporary file can be written in .*: no space left on device"
    with temporary.temporary_file("x") as file, pytest.raises(LayerliftError, match=said):
        temporary.reserve(file.fileno(), 5_000_000)


def test_room_is_taken_where_the_system_has_no_call_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with temporary.temporary_file("x") as file:
        temporary.reserve(file.fileno(), 2_500_000)
        assert os.fstat(file.fileno()).st_size == 2_500_000
        assert os.fstat(file.fileno()).st_blocks * 512 >= 2_500_000


def test_room_is_taken_to_the_last_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data[:300_000], place))  # a part of it
    with temporary.temporary_file("x") as file:
        temporary.reserve(file.fileno(), 2_500_000)
        assert os.fstat(file.fileno()).st_size == 2_500_000


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left on device; free some space there, or set TMPDIR to a folder on another disk."),
        (errno.EIO, "input/output error; set TMPDIR to a folder on another disk."),
    ],
)
def test_space_is_to_be_freed_where_it_is_missing(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refused)
    with temporary.temporary_file("x") as file:
        with pytest.raises(LayerliftError) as error:
            temporary.write_at(file.fileno(), 0, b"data")
        assert str(error.value) == f"no temporary file can be written in {temporary.folder()}: {said}"
        with pytest.raises(LayerliftError) as error:
            temporary.write_at(file.fileno(), 0, b"data", tmp_path / "shelf")
        assert str(error.value).startswith(f"the work cannot be kept in {tmp_path}: ")
        assert ("free some space" in str(error.value)) == (number == errno.ENOSPC)


@pytest.mark.parametrize(("call", "said"), [("pread", "kept in HERE cannot be read"), ("ftruncate", "be kept in HERE")])
def test_work_that_a_disk_does_not_give_back_is_told_with_its_place(
    call: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Shelf(tmp_path / "shelf") as shelf:
        shelf.put(0, np.zeros(3))
    monkeypatch.setattr(os, call, refused)
    with pytest.raises(LayerliftError, match=f"{said.replace('HERE', str(tmp_path))}: input/output error; choose a"):
        Shelf(tmp_path / "shelf")


def test_the_folder_of_temporary_files_is_the_one_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    assert Path(temporary.folder()).is_dir()

    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert temporary.folder() == str(tmp_path / "nowhere")


def test_no_folder_of_temporary_files_is_told_in_a_sentence(
    inputs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = tempfile.TemporaryFile

    def refused(*rest: object, prefix: str, **more: object) -> object:
        if prefix.startswith("layerlift-"):
            raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
        return real(*rest, prefix=prefix, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    assert layerlift(*["reference", "walk.mkv", "--mask", "mask.png", "-o", "refs"]) == 1
    *_, said = capsys.readouterr().err.splitlines()
    assert "no temporary file can be written in" in said
    assert "no usable temporary directory found" in said
    assert files() == inputs


@pytest.mark.parametrize("command", ["remove a.mkv --mask m.png", "jobs"])
def test_a_current_folder_that_was_deleted(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Intel's library, which torch has, ends the process there with words of its own."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert layerlift(*command.split()) == 1
    assert capsys.readouterr().err == "layerlift: the current folder was deleted: change to one that exists.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(
    ("number", "where", "how", "code", "said"),
    [
        ("SIGTERM", "layerlift.cli.ends", "{}", 143, "layerlift: interrupted.\n"),
        ("SIGHUP", "typer", "{}", 129, "layerlift: interrupted.\n"),
        ("SIGTERM", "layerlift.cli.ends", "exec({!r})", 143, "layerlift: interrupted.\n"),
        ("SIGINT", "layerlift.cli.ends", "{}", 130, "layerlift: interrupted.\n"),
        # Nothing was begun yet: it ends as any program does.
        ("SIGINT", "layerlift.cli.interrupts", "{}", -signal.SIGINT, ""),
    ],
)
def test_a_signal_while_a_command_is_imported(number: str, where: str, how: str, code: int, said: str) -> None:
    """It came in the first tenths of a second: a sentence and its exit code, as at any other time."""
    send = how.format(f"os.kill(os.getpid(), signal.{number})")
    program = f"""
import os, signal, sys
class Importing:
    def find_spec(self, name, path=None, target=None):
        if name == {where!r}:
            {send}
sys.meta_path.insert(0, Importing())
sys.argv = ["layerlift", "jobs"]
from layerlift.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"\\xfc \\udcff \\u2026"),
        ("latin-1", b"\xfc \\udcff \\u2026"),
        ("utf-8", "ü ".encode() + b"\xff \xe2\x80\xa6"),
    ],
)
def test_what_a_stream_cannot_encode_is_written_all_the_same(
    encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is no text, an umlaut: `layerlift --help` has characters beyond ASCII, too."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, "strict")
    monkeypatch.setattr(sys, "stdout", stream)
    with forgiving_streams():
        sys.stdout.write("ü \udcff …")
    assert raw.getvalue() == written
    assert stream.errors == "strict"


@pytest.mark.parametrize("missing", ["thread", "file"])
def test_where_nothing_can_watch_for_signals_their_handlers_do(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread") if missing == "thread" else OSError(errno.EMFILE, "Too many")

    if missing == "thread":
        monkeypatch.setattr(threading.Thread, "start", refused)
    else:
        monkeypatch.setattr(interrupts.socket, "socketpair", refused)
    with catch_interrupts() as caught, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert caught.code == 130


def test_an_input_that_is_gone_in_the_middle_is_not_the_users_mistake(
    inputs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when a disk is pulled out: what was typed was right."""

    def pulled_out(read: Mapping[str, Given]) -> None:
        watch_inputs(read)
        Path("walk.mkv").unlink()

    monkeypatch.setattr(job, "watch_inputs", pulled_out)
    assert layerlift(*REMOVE) == 1
    said = "layerlift: walk.mkv was changed, moved or deleted while it was read: put it back."
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_what_may_not_be_read_is_the_machines_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # as to any user but root
    assert layerlift("jobs", str(tmp_path)) == 1
    said = f"layerlift: Invalid value for 'FOLDER': path '{tmp_path}' is not readable: check its permissions.\n"
    assert capsys.readouterr().err == said


def test_a_name_with_escape_sequences_is_told_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("save", "a\x1b]0;title\x07\x1b[31mé 犬\u200d.mkv", "-o", "b.mkv") == 2
    said = capsys.readouterr().err
    assert "a\ufffd]0;title\ufffd\ufffd[31mé 犬\u200d.mkv does not exist" in said
