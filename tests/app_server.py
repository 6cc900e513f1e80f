"""What the tests of `layerlift app` share: a small clip, documents, and waiting for jobs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from starlette.testclient import TestClient

from layerlift.app import jobs
from layerlift.app.context import Context
from layerlift.clip import Clip, write_clip

T = TypeVar("T")

TOKEN, PORT = "secret-token", 8123
WIDTH, HEIGHT, FRAMES = 64, 48, 12


def frames_of(count: int = FRAMES) -> np.ndarray:
    """(F, H, W, 3) uint8: every frame has its own grey level, and a white square that moves."""
    frames = np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[:] = 8 + 12 * index
        frame[16:32, 8 + index : 24 + index] = 255
    return frames


def write_frames(path: Path, frames: np.ndarray) -> Path:
    source = Clip.from_array(frames)
    return write_clip(path, source.frames(), source, lossless=True)


def write_mask(path: Path, count: int = FRAMES) -> Path:
    """The square of `frames_of`, in white."""
    mask = np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    for index, frame in enumerate(mask):
        frame[16:32, 8 + index : 24 + index] = 255
    return write_frames(path, mask)


def doc_with(project: dict, **more: object) -> dict:
    """A project's document with one object, and other things."""
    thing = {"id": 1, "name": "square", "colour": "#ff8800"}
    return {**project["doc"], "objects": [thing], **more}


def save(client: TestClient, project: dict, doc: dict) -> int:
    answer = client.put("/api/projects/toy", json={"rev": project["rev"], "doc": doc})
    assert answer.status_code == 200, answer.text
    project["rev"] = answer.json()["rev"]
    return project["rev"]


def ended(context: Context, name: str) -> jobs.Job:
    """Wait for a job's end."""
    return until(lambda: next(job for job in context.jobs.all() if job.id == name), lambda job: job.state in jobs.ENDED)


def until(look: Callable[[], T], good: Callable[[T], bool] = bool) -> T:
    """Wait until something is so."""
    while not good(found := look()):
        time.sleep(0.02)
    return found
