"""Networks in ONNX files, run by onnxruntime: on which device, with how many threads, and how one is stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from threading import Event, Thread
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlift.engine.device.policy import Backend
from layerlift.parse import whole_number
from layerlift.progress import Cancellation

if TYPE_CHECKING:
    import onnxruntime

# What runs a network on each backend, the first that this onnxruntime has, with its options. The CPU takes whatever
# another provider cannot do.
PROVIDERS: Mapping[Backend, tuple[tuple[str, Mapping[str, str]], ...]] = {
    # The default algorithm instead of the fastest in a trial: the same one in every run.
    "cuda": (("CUDAExecutionProvider", {"cudnn_conv_algo_search": "DEFAULT"}), ("CPUExecutionProvider", {})),
    "mps": (("CoreMLExecutionProvider", {"ModelFormat": "MLProgram"}), ("CPUExecutionProvider", {})),
    "cpu": (("CPUExecutionProvider", {}),),
}
MOST_THREADS = 1024
ASKED_EVERY = 0.02  # seconds between two looks whether a run was cancelled
_QUIET = 3  # onnxruntime's level of errors: it warns of what a provider leaves to the CPU


def library() -> ModuleType:
    """onnxruntime, without its telemetry.

    Since 1.29 its builds for Linux and macOS send what they run to their maker, and write an identifier into the
    user's cache, unless this variable says otherwise before it is imported.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def threads() -> int:
    """How many threads a network runs on: the cores that this process may use, or OMP_NUM_THREADS, as torch has it."""
    asked = whole_number(os.environ.get("OMP_NUM_THREADS", ""))
    if asked:
        return min(asked, MOST_THREADS)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def providers(backend: Backend) -> list[tuple[str, dict[str, str]]]:
    """What runs a network on a backend with the onnxruntime that is installed, the first choice first."""
    known = library().get_available_providers()
    return [(name, dict(settings)) for name, settings in PROVIDERS[backend] if name in known]


def open_network(package: str, file: str, backend: Backend = "cpu") -> onnxruntime.InferenceSession:
    """The network of a file in a package, ready to run."""
    ort = library()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
    options.use_deterministic_compute = True
    options.log_severity_level = _QUIET
    return ort.InferenceSession((files(package) / file).read_bytes(), options, providers=providers(backend))


def run(
    network: onnxruntime.InferenceSession, given: Mapping[str, np.ndarray], cancellation: Cancellation | None = None
) -> list[np.ndarray]:
    """What a network makes of its inputs. Raises CancelledError soon after that was asked for, in the middle of it."""
    if cancellation is None:
        return network.run(None, given)
    cancellation.check()
    how = library().RunOptions()
    if network.get_providers() == ["CPUExecutionProvider"]:
        # Whoever can be cancelled waits for its next question: what this one took, 0.4 GB, is not to be held meanwhile.
        how.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    try:
        with _ending(how, cancellation):
            made = network.run(None, given, how)
    except Exception:  # onnxruntime's own, of no class of its own, where it was told to end
        cancellation.check()
        raise
    cancellation.check()
    return made


@contextmanager
def _ending(how: Any, cancellation: Cancellation) -> Iterator[None]:
    """A thread beside the block that tells its run to end once that is asked for."""
    done = Event()

    def watch() -> None:
        while not done.wait(ASKED_EVERY):
            if cancellation.cancelled:
                how.terminate = True
                return

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
