"""Functions for workers of tests."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from layerlift.workers.told import Told


def double(told: Told, number: int) -> int:
    os.write(1, b"this is no answer\n")
    return 2 * number


def fail(told: Told, code: int = 1, said: str = "it failed") -> dict[str, Any]:
    return {"code": code, "message": said}


def bug(told: Told) -> None:
    raise ZeroDivisionError("a bug")


def die(told: Told, before: int, count: str) -> str:
    """Be killed, after a step more each time, until it was called often enough."""
    path = Path(count)
    calls = len(path.read_text()) if path.exists() else 0
    path.write_text("." * (calls + 1))
    with told.stage("work", before) as bar:
        bar.advance(calls + 1)
        if calls < before:
            os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die_at_once(told: Told) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def who(told: Told) -> list[Any]:
    return [os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")]


def wait(told: Told, path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)
