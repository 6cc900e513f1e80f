"""How much memory a run takes: device peak and host anonymous peak, together what unified memory has to hold."""

import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

# Host memory has no resettable high-water mark for anonymous pages alone, so it is sampled.
SAMPLE_SECONDS = 0.02


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
    the device's allocator held (0 on the CPU). Can be entered again; each time it starts anew.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.host_peak_bytes = 0
        self.device_peak_bytes = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.host_peak_bytes = 0
        self.device_peak_bytes = 0
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
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
        self.host_peak_bytes = max(self.host_peak_bytes, host_anonymous_bytes())
        self.device_peak_bytes = max(self.device_peak_bytes, self._device_bytes())

    def _device_bytes(self) -> int:
        if self.device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_allocated(self.device))
        if self.device.startswith("mps"):
            import torch

            return int(torch.mps.driver_allocated_memory())
        return 0

    def _run(self) -> None:
        has_mark = self.device.startswith("cuda")  # and asking for it takes a millisecond from everyone else
        while not self._stop.wait(SAMPLE_SECONDS):
            self.host_peak_bytes = max(self.host_peak_bytes, host_anonymous_bytes())
            if not has_mark:
                self.device_peak_bytes = max(self.device_peak_bytes, self._device_bytes())


def free_device(device: str) -> None:
    """Give back what the device's allocator and the host's keep, after the last reference to a component is gone."""
    import gc

    import torch

    gc.collect()
    trim_host()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device.startswith("mps"):
        torch.mps.synchronize()
        torch.mps.empty_cache()


def trim_host() -> None:
    """Give back what the host's allocator keeps of freed memory: glibc keeps all that lies between things still used,
    four times the weights after making them smaller one by one. Elsewhere the allocator does this by itself."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)
