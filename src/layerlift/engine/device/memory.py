"""How much memory a run takes: device peak and host anonymous peak, together what unified memory has to hold."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from layerlift.engine.device.mlx import mlx_peak_bytes, reset_mlx_peak

# Host memory has no resettable high-water mark for anonymous pages alone, so it is sampled: so often, and in no more
# than this share of the time. Outside Linux a look goes through all of a process's memory, and may take long.
SAMPLE_SECONDS = 0.02
SAMPLE_SHARE = 0.05
# What a block is from which on glibc keeps it out of its heap, where it is told so (malloc.h).
APART_BYTES = 2**22
M_MMAP_THRESHOLD = -3
DEFAULT_MMAP_THRESHOLD_MAX = 2**25
# Held while a thread records a CUDA graph, and while one gives memory back: torch's allocator bears one at a time.
recording = threading.Lock()


def host_anonymous_bytes() -> int:
    """Anonymous memory resident now: without memory-mapped files, which the system may drop at any time.

    Linux: what /proc/self/statm has as resident, less what of it is shared: RssAnon of /proc/self/status, which takes
    longer to read. Elsewhere psutil's unique set size, the nearest thing there is.
    """
    pages = Path("/proc/self/statm")
    if pages.exists():
        _, resident, shared, *_ = pages.read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    import psutil  # type: ignore[import-untyped]

    return int(psutil.Process().memory_full_info().uss)


class MemoryMeter:
    """Measures peaks between entering and leaving.

    `host_peak_bytes` is the highest anonymous memory of this process sampled so far, `device_peak_bytes` the highest
    the device's allocator held (0 on the CPU). Can be entered again; each time it starts anew. `device`: torch's name
    for it, or "mlx" where MLX runs the model.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.host_peak_bytes = 0
        self.device_peak_bytes = 0
        self._stop = threading.Event()
        self._updating = threading.Lock()  # or a slow thread writes an older peak over a higher one
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.host_peak_bytes = 0
        self.device_peak_bytes = 0
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device == "mlx":
            reset_mlx_peak()
        self._stop.clear()
        self.sample()
        self._thread = threading.Thread(target=self._run, name="memory-meter", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.sample()

    def sample(self) -> None:
        """Look now; what has no high-water mark of its own is looked at every few hundredths of a second anyway."""
        self._look(device=True)

    def _look(self, *, device: bool) -> None:
        with self._updating:
            self.host_peak_bytes = max(self.host_peak_bytes, host_anonymous_bytes())
            if device:
                self.device_peak_bytes = max(self.device_peak_bytes, self._device_bytes())

    def _device_bytes(self) -> int:
        if self.device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_allocated(self.device))
        if self.device.startswith("mps"):
            import torch

            return int(torch.mps.driver_allocated_memory())
        return mlx_peak_bytes() if self.device == "mlx" else 0

    def _run(self) -> None:
        has_mark = self.device.startswith(("cuda", "mlx"))  # and asking for it takes a millisecond from everyone else
        pause = SAMPLE_SECONDS
        while not self._stop.wait(pause):
            began = time.perf_counter()
            self._look(device=not has_mark)
            pause = max(SAMPLE_SECONDS, (time.perf_counter() - began) / SAMPLE_SHARE)


def free_device(device: str) -> None:
    """Give back what the device's allocator and the host's keep, after the last reference to a component is gone."""
    import gc

    import torch

    gc.collect()
    trim_host()
    if device.startswith("cuda"):
        with recording:
            torch.cuda.empty_cache()
    elif device.startswith("mps"):
        torch.mps.synchronize()
        torch.mps.empty_cache()


def use_device(device: str) -> None:
    """What this thread does on a CUDA card without saying on which, it does on this one."""
    if device.startswith("cuda:"):
        import torch

        torch.cuda.set_device(device)


def trim_host() -> None:
    """Give back what the host's allocator keeps of freed memory: glibc keeps all that lies between things still used,
    four times the weights after making them smaller one by one. Elsewhere the allocator does this by itself."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def keep_blocks_apart(apart: bool) -> None:
    """Whether glibc takes every block of `APART_BYTES` from the system and gives it back at once when it is freed.

    Else it comes to do so for those of 32 MiB alone, and smaller ones leave gaps in its heap: 0.5 to 1 GiB of a removal
    at full size on the CPU. Taking blocks from the system costs some time.
    """
    choose = _glibc("mallopt")
    if choose is not None:
        choose(M_MMAP_THRESHOLD, APART_BYTES if apart else DEFAULT_MMAP_THRESHOLD_MAX)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the host's C library, where that is glibc: musl and others have none of these."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
