"""Progress: occasional plain lines where there is no terminal, a bar with the stage's name where there is one."""

import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from layerlift.cli import terminal
from layerlift.cli.interrupts import catch_interrupts, interrupted_by_user
from layerlift.cli.terminal import DownloadLines, LineProgress, print_costs, show_downloads, show_progress
from layerlift.progress import QUIET, CancelledError
from layerlift.report import Report
from support import layerlift


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(terminal.time, "monotonic", clock.monotonic)
    return clock


def test_lines_come_now_and_then_with_the_time_that_is_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress().stage("denoise", 10) as bar:
        for _ in range(10):
            clock.now += 10
            bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "denoise: 2/10, about 80 s left",
        "denoise: 4/10, about 60 s left",
        "denoise: 6/10, about 40 s left",
        "denoise: 8/10, about 20 s left",
        "denoise: 10/10, about 0 s left",
        "denoise: done in 100.0 s",
    ]


def test_stage_that_fails_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), LineProgress().stage("denoise", None) as bar:
        bar.advance(1 // 0)
    assert capsys.readouterr().err == ""


@pytest.fixture
def caught() -> Iterator[None]:
    """Ctrl-C is caught as the command line does."""
    with catch_interrupts():
        yield


@pytest.mark.usefixtures("caught")
@pytest.mark.parametrize("on_terminal", [False, True], ids=["lines", "bars"])
def test_a_ctrl_c_that_was_lost_ends_the_work_at_the_next_step(
    on_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_one() -> None:
        with suppress(KeyboardInterrupt):  # as Python does while it finalises something
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress() as progress, show_downloads() as told:
        with progress.stage("denoise", 2) as bar:
            bar.advance()
        lose_one()
        with pytest.raises(CancelledError):
            bar.advance()
        with pytest.raises(CancelledError), progress.stage("write", 2):
            pass
        with pytest.raises(CancelledError):
            told("file", 0, 10)


@pytest.mark.usefixtures("caught")
def test_a_ctrl_c_that_was_lost_is_still_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def working() -> dict[str, str]:
        with show_progress() as progress, progress.stage("denoise", 2) as bar:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            bar.advance()
        raise AssertionError("the work went on")

    monkeypatch.setattr("layerlift.report.versions", working)
    assert layerlift("doctor") == 130
    assert capsys.readouterr().err == "layerlift: interrupted.\n"


@pytest.mark.usefixtures("caught")
def test_a_ctrl_c_that_was_lost_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    Finalised()  # gone at once
    assert interrupted_by_user().cancelled
    assert capsys.readouterr().err == ""


def test_no_terminal_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as progress, progress.stage("encode", 2) as bar:
        bar.advance(2)
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("encode: done in ")
    assert "\x1b" not in streams.err


def test_terminal_gets_a_bar_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress() as progress, progress.stage("encode", 4) as bar:
        bar.advance(3)
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "encode" in streams.err
    assert "3/4" in streams.err


def test_downloads_are_said_when_whole_and_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    told = DownloadLines()
    for done in (0, 1, 2, 3):
        clock.now += 10
        told("weights.safetensors", done * 10**9, 3 * 10**9)
    assert capsys.readouterr().err.splitlines() == [
        "weights.safetensors: 1.00 of 3.00 GB",
        "weights.safetensors: 3.00 of 3.00 GB",
    ]


def test_downloads_on_a_terminal_show_a_bar_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with show_downloads() as told:
        told("weights.safetensors", 0, 0)
        told("weights.safetensors", 10**6, 2 * 10**6)
    assert "1.0/2.0 MB" in capsys.readouterr().err


def test_costs_are_printed_stage_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    with report.stage("encode"):
        pass
    report.stages["encode"].seconds = 0.0
    report.stages["encode"].peak_host_bytes = 5 * 2**20
    report.stages["encode"].peak_device_bytes = 7 * 2**20
    print_costs(report)
    assert capsys.readouterr().err == "encode: 0.00 s, host 5 MiB, device 7 MiB\n"


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with QUIET.stage("encode", 3) as bar:
        bar.advance()
    streams = capsys.readouterr()
    assert streams.out + streams.err == ""
