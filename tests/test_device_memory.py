"""Peaks of memory are seen, and memory-mapped files are not counted."""

import mmap
import threading
from pathlib import Path

import pytest
import torch

from layerlift.engine.device import MemoryMeter, memory
from layerlift.engine.device.memory import host_anonymous_bytes

MIB = 2**20


def taken(mebibytes: int) -> mmap.mmap:
    """So much anonymous memory, from the system itself: an allocator may have some left of what was freed before."""
    block = mmap.mmap(-1, mebibytes * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    return block


def test_peak_that_is_gone_again() -> None:
    with MemoryMeter("cpu") as meter:
        before = host_anonymous_bytes()
        with taken(256):
            meter.sample()
    assert meter.host_peak_bytes - before > 200 * MIB
    assert meter.device_peak_bytes == 0


def test_starts_anew() -> None:
    meter = MemoryMeter("cpu")
    with meter, taken(256):
        meter.sample()
    first = meter.host_peak_bytes
    with meter:
        pass
    assert meter.host_peak_bytes < first - 200 * MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only: elsewhere there is no RssAnon")
def test_mapped_files_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"\1" * 64 * MIB)
    before = host_anonymous_bytes()
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 64 * MIB // mmap.PAGESIZE
        assert host_anonymous_bytes() - before < 8 * MIB


def test_device_peak_is_the_allocators(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([3, 9, 4, *[1] * 10_000])
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: next(held))
    meter = MemoryMeter("mps")
    meter.sample()
    meter.sample()
    meter.sample()
    assert meter.device_peak_bytes == 9


def test_looks_that_take_long_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would slow down what is measured: psutil's on a Mac goes through all of a process's memory."""
    pauses = []

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return len(pauses) == 3

    meter = MemoryMeter("cpu")
    clock = iter([1.0, 1.0001, 2.0, 2.5])
    monkeypatch.setattr(meter._stop, "wait", wait)
    monkeypatch.setattr(memory.time, "perf_counter", lambda: next(clock))
    meter._run()
    assert pauses == [memory.SAMPLE_SECONDS, memory.SAMPLE_SECONDS, 0.5 / memory.SAMPLE_SHARE]


def test_no_peak_is_lost_to_a_thread_that_looked_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread looks while little is taken, and writes what it saw only after another has seen more."""
    looked, more_seen = threading.Event(), threading.Event()

    def bytes_now() -> int:
        if threading.current_thread().name == "early":
            looked.set()
            more_seen.wait(0.2)
            return 100
        return 1000

    monkeypatch.setattr(memory, "host_anonymous_bytes", bytes_now)
    meter = MemoryMeter("cpu")
    early = threading.Thread(target=meter.sample, name="early")
    early.start()
    looked.wait()
    meter.sample()
    more_seen.set()
    early.join()
    assert meter.host_peak_bytes == 1000
