"""What the machine does not do, telling a file's bytes or giving memory, is not blamed on the file that was given."""

import errno
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from layerlift.cli.refusals import refusal
from layerlift.clip import Clip, encode, write_clip
from layerlift.clip import reader as opening
from layerlift.clip import video_frames as reading
from support import layerlift

# A regular file whose first byte no process can read: a real error of input and output.
UNREADABLE = Path("/proc/self/mem")

needs_proc = pytest.mark.skipif(not UNREADABLE.exists(), reason="needs Linux's /proc")


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip, a folder of its frames and a mask, in the current folder."""
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(90, 110, (3, 40, 56, 3), dtype=np.uint8)
    like = Clip.from_array(frames)
    write_clip("walk.mkv", frames, like, lossless=True)
    write_clip("frames", frames, like)
    mask = np.zeros((40, 56), np.uint8)
    mask[10:20, 10:20] = 255
    cv2.imwrite("mask.png", mask)
    return tmp_path


def remove(clip: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = layerlift("remove", clip, "--mask", "mask.png", "--model", "none", "-o", "out.mkv", "--lossless")
    return code, capsys.readouterr().err.splitlines()[-1]


@needs_proc
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Pillow leaves the file to be collected
@pytest.mark.parametrize("name", ["walk.mkv", "frames/00001.png"])
def test_a_file_that_the_disk_does_not_give_is_the_machines_fault(
    name: str, walk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).unlink()
    Path(name).symlink_to(UNREADABLE)
    said = f"layerlift: {name} cannot be used: input/output error; check its disk, or choose another place."
    assert remove(name.split("/", maxsplit=1)[0], capsys) == (1, said)


def test_a_disk_that_fails_within_a_clip_is_told_from_a_damaged_clip(
    walk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg says the same of both, or takes the error for the file's end."""
    data = Path("walk.mkv").read_bytes()
    Path("walk.mkv").write_bytes(data[: len(data) // 2])
    assert remove("walk.mkv", capsys)[0] == 2
    plain = Path.open

    class Pulled:
        def __enter__(self) -> "Pulled":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, size: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    def opened(path: Path, *args: object, **choices: object) -> object:
        whole = choices.get("buffering") == 0 and path.name == "walk.mkv"
        return Pulled() if whole else plain(path, *args, **choices)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", opened)
    code, said = remove("walk.mkv", capsys)
    assert (code, said.partition(";")[0]) == (1, "layerlift: walk.mkv cannot be used: input/output error")


def test_memory_that_ran_out_in_a_decoder_is_no_damage(
    walk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stage:
        def is_damaged(self, packet: object) -> bool:
            raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(reading, "DamageCheck", lambda *_, **__: Stage())
    code, said = remove("walk.mkv", capsys)
    assert code == 1
    assert said.startswith("layerlift: walk.mkv cannot be read, because memory ran out: close other programs")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError("Unable to allocate 3.00 GiB for an array"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        cv2.error("OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 8 bytes"),
        RuntimeError("unable to mmap 1436336 bytes from file <a.safetensors>: Cannot allocate memory (12)"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_ran_out_is_told_in_a_sentence(error: Exception) -> None:
    said = "memory ran out: close other programs, or process smaller or fewer frames at a time."
    assert refusal(error) == said


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")]
)
def test_processes_that_cannot_be_had_are_told_in_a_sentence(error: Exception) -> None:
    assert (refusal(error) or "").startswith("the system gives no further process or thread: close other programs")


def test_a_missing_package_is_not_a_lack_of_memory() -> None:
    assert refusal(ImportError("No module named 'nope'")) is None


def test_an_error_of_reading_says_of_what(
    walk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system names the file when it is opened, and not when it is read."""

    def failing(path: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(opening, "is_cut_short", failing)
    code, said = remove("walk.mkv", capsys)
    assert (code, said.partition(";")[0]) == (1, "layerlift: walk.mkv cannot be used: input/output error")


def test_a_clip_does_not_become_too_large_for_a_format_because_too_many_files_are_open(
    walk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = encode.VideoSink.begin

    def refused(sink: encode.VideoSink) -> None:
        if sink._like.width != 64:
            raise av.error.OSError(errno.EMFILE, "Too many open files", "/dev/null")
        begin(sink)

    monkeypatch.setattr(encode.VideoSink, "begin", refused)
    code, said = remove("walk.mkv", capsys)
    assert (code, said.partition(";")[0]) == (1, "layerlift: /dev/null cannot be opened: too many open files")
