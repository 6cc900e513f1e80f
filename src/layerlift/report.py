"""What a run was and what it cost: settings, versions, seconds and memory per stage, sizes; written as JSON."""

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from layerlift.engine.device import MemoryMeter
from layerlift.places import check_file
from layerlift.whole import whole_file

LIBRARIES = (
    "layerlift",
    "torch",
    "diffusers",
    "transformers",
    "mlx",
    "onnxruntime",
    "safetensors",
    "numpy",
    "av",
    "opencv-python-headless",
    "scipy",
    "pypatchmatch",
    "OpenEXR",
    "pi-heif",
    "sentencepiece",
)


@dataclass(slots=True)
class StageCost:
    """What one stage took: wall-clock seconds, and peaks in bytes (0 where there is no such device)."""

    seconds: float = 0.0
    peak_host_bytes: int = 0
    peak_device_bytes: int = 0


class Report:
    """Collects what a run did. A report costs nothing to make, so a stage that is given none makes its own.

    ``with report.stage("encode"):`` measures a stage; a name used again adds its seconds and keeps the higher peak.

    Attributes:
        command: the command that ran.
        settings: the settings it ran with.
        device: where the run computes ("cpu", "cuda:1", …); set as soon as it is known.
        stages: wall-clock seconds and peak memory in bytes, per stage.
        sizes: width and height in pixels, and frames, of what was processed.
        results: figures that stages found, such as the shares of hidden pixels that were gathered.
        notes: what a reader should know, one sentence each.
    """

    def __init__(self, command: str = "", settings: Mapping[str, Any] | None = None, device: str = "cpu") -> None:
        self.command = command
        self.settings: dict[str, Any] = dict(settings or {})
        self.device = device
        self.stages: dict[str, StageCost] = {}
        self.sizes: dict[str, Any] = {}
        self.results: dict[str, Any] = {}
        self.notes: list[str] = []
        self._began = time.perf_counter()
        self._open: list[MemoryMeter] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block: seconds, peak anonymous host memory of this process, peak memory on the device.

        Stages may lie inside each other: the outer one's figures then contain the inner one's.
        """
        for outer in self._open:
            outer.sample()  # the inner meter starts the device's own high-water mark anew
        cost = self.stages.setdefault(name, StageCost())
        meter = MemoryMeter(self.device)
        began = time.perf_counter()
        try:
            with meter:
                self._open.append(meter)
                try:
                    yield
                finally:
                    self._open.remove(meter)
        finally:
            cost.seconds += time.perf_counter() - began
            cost.peak_host_bytes = max(cost.peak_host_bytes, meter.host_peak_bytes)
            cost.peak_device_bytes = max(cost.peak_device_bytes, meter.device_peak_bytes)

    def note(self, text: str) -> None:
        """Something the reader of the report should know, as one sentence; the same note is kept once."""
        if text not in self.notes:
            self.notes.append(text)

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        stages = {name: asdict(cost) for name, cost in self.stages.items()}
        for cost in stages.values():
            cost["seconds"] = round(cost["seconds"], 3)
        return {
            "command": self.command,
            "settings": _plain(self.settings),
            "versions": versions(),
            "sizes": _plain(self.sizes),
            "results": _plain(self.results),
            "seconds": round(time.perf_counter() - self._began, 3),
            "peak_host_bytes": max((cost.peak_host_bytes for cost in self.stages.values()), default=0),
            "peak_device_bytes": max((cost.peak_device_bytes for cost in self.stages.values()), default=0),
            "stages": stages,
            "notes": self.notes,
        }

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the report as JSON, whole or not at all.

        Raises InputError when `path` is no place for a file, or exists and `overwrite` is not given, and LayerliftError
        when its folder cannot be written to.
        """
        path = check_report(path, overwrite=overwrite)
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"
        with whole_file(path, overwrite=overwrite) as made:
            # What is no text in a path becomes \\udc.., as JSON has it.
            made.write_text(text, "utf-8", "backslashreplace")
        return path


def check_report(path: str | Path, *, overwrite: bool = False) -> Path:
    """`path` as a Path when a report can be written there; asked before the work, not after it.

    Raises as `places.check_file`.
    """
    return check_file(path, "--report", overwrite=overwrite)


def versions() -> dict[str, str]:
    """The versions a result depends on: Python, the platform, and the libraries that are installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _plain(value: Any) -> Any:
    """`value` with tuples, paths, fractions and the like turned into what JSON has."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)
