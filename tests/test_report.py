"""Reports: what is measured, what is written, and what is refused before the work begins."""

import json
import mmap
import os
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from layerlift.engine.device.memory import host_anonymous_bytes
from layerlift.errors import InputError
from layerlift.report import Report, check_report


def test_stage_sees_memory_that_was_given_back_inside_it() -> None:
    report = Report("remove")
    with report.stage("encode"):
        before = host_anonymous_bytes()
        # Not by malloc, which may give memory that was freed before and is the process's still.
        block = mmap.mmap(-1, 60_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(block, np.uint8)[:] = 1
        report._open[0].sample()  # the sampler's own thread may not have looked yet
        block.close()
    assert report.stages["encode"].peak_host_bytes > before + 40_000_000
    assert report.stages["encode"].seconds > 0


def test_stage_used_again_adds_its_seconds_and_survives_an_exception() -> None:
    report = Report()
    with pytest.raises(ZeroDivisionError), report.stage("denoise"):
        _ = 1 / 0
    first = report.stages["denoise"].seconds
    with report.stage("denoise"), report.stage("write"):
        pass
    assert report.stages["denoise"].seconds > first > 0
    assert set(report.stages) == {"denoise", "write"}


def test_written_report_is_json_with_everything(tmp_path: Path) -> None:
    report = Report("remove", {"size": (704, 480), "rate": Fraction(30000, 1001), "model": None, "out": tmp_path})
    report.sizes["clip"] = {"frames": 33}
    report.note("Sound was left out.")
    report.note("Sound was left out.")
    path = report.write(tmp_path / "report.json")
    written = json.loads(path.read_text())
    assert written["settings"] == {"size": [704, 480], "rate": "30000/1001", "model": None, "out": str(tmp_path)}
    assert written["notes"] == ["Sound was left out."]
    assert written["sizes"] == {"clip": {"frames": 33}}
    assert {"python", "torch", "layerlift"} <= set(written["versions"])
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_path_that_is_no_text_is_no_reason_to_lose_a_report(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"gr\xfcn.mkv"))
    report = Report("remove", {"clip": path})
    report.note(f"{path} is interlaced.")
    told = json.loads(report.write(tmp_path / "r.json").read_text("utf-8"))
    assert (told["settings"]["clip"], told["notes"]) == (str(path), [f"{path} is interlaced."])


def test_report_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", broken)
    with pytest.raises(OSError, match="disk full"):
        Report().write(tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_report_paths_are_refused_early(tmp_path: Path) -> None:
    taken = tmp_path / "report.json"
    taken.write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        check_report(taken)
    with pytest.raises(InputError, match="is a folder"):
        check_report(tmp_path)
    with pytest.raises(InputError, match="is in a folder that does not exist"):
        check_report(tmp_path / "nowhere" / "report.json")
    assert check_report(taken, overwrite=True) == taken


def test_outer_stage_keeps_the_device_peak_it_had_before_an_inner_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        """As CUDA counts: one high-water mark, started anew by whoever begins to measure."""

        held = high = 0

        def hold(self, size: int) -> None:
            self.held, self.high = size, max(self.high, size)

    device = Device()

    class Meter:
        def __init__(self, _: str) -> None:
            self.host_peak_bytes = self.device_peak_bytes = 0

        def __enter__(self) -> None:
            device.high = device.held

        def __exit__(self, *_: object) -> None:
            self.sample()

        def sample(self) -> None:
            self.device_peak_bytes = max(self.device_peak_bytes, device.high)

    monkeypatch.setattr("layerlift.report.MemoryMeter", Meter)
    report = Report()
    with report.stage("outer"):
        device.hold(100)
        device.hold(10)
        with report.stage("inner"):
            device.hold(40)
    assert report.stages["outer"].peak_device_bytes == 100
    assert report.stages["inner"].peak_device_bytes == 40


def test_a_stage_that_gets_no_thread_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="new thread"), Report().stage("clip"):
        pass


def test_a_name_that_is_no_text_does_not_cost_the_report(tmp_path: Path) -> None:
    """Names of files are bytes; those that are no UTF-8 have surrogates in Python, which JSON can write as escapes."""
    report = Report("remove")
    report.note("b\udcff.mkv is damaged.")
    path = report.write(tmp_path / "r.json")
    assert json.loads(path.read_text("utf-8"))["notes"] == ["b\udcff.mkv is damaged."]
