"""What a person does on the page, and what they see there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SHOWN = "#stage[data-frame='{}']"
DONE = "#queue [data-kind={}][data-state=done]"


def open_clip(page: Any, folder: Path, scene: Path, name: str) -> None:
    """Lay a copy of the scene's clip into the server's folder and open it from the first screen."""
    shutil.copyfile(scene / "video.mkv", folder / f"{name}.mkv")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.get_by_role("button", name=f"{name}.mkv").click()
    page.wait_for_selector(SHOWN.format(0))


def size_of(scene: Path) -> tuple[int, int]:
    """Width and height of a scene."""
    mask = mask_of(scene)
    return mask.shape[1], mask.shape[0]


def mask_of(scene: Path, frame: int = 0) -> np.ndarray:
    """The true mask of the scene's object, (H, W) bool."""
    capture = cv2.VideoCapture(str(next(scene.glob("object_mask*"))))
    for _ in range(frame + 1):
        read, picture = capture.read()
        assert read
    capture.release()
    return picture[..., 0] > 127


def middle(scene: Path) -> tuple[float, float]:
    """A pixel of the object, far from its edge, in the first frame."""
    inside = cv2.distanceTransform(mask_of(scene).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return float(x), float(y)


def place(page: Any, scene: Path, at: tuple[float, float]) -> tuple[float, float]:
    """Where a pixel of the fitted clip is on the page."""
    box = page.locator("#stage").bounding_box()
    width, height = size_of(scene)
    scale = min((box["width"] - 24) / width, (box["height"] - 24) / height)
    x = box["x"] + box["width"] / 2 + (at[0] + 0.5 - width / 2) * scale
    return x, box["y"] + box["height"] / 2 + (at[1] + 0.5 - height / 2) * scale


def seen(page: Any, scene: Path) -> np.ndarray:
    """The clip as it is on the screen now, in its own size: (H, W, 3) uint8 RGB."""
    width, height = size_of(scene)
    left, top = place(page, scene, (-0.5, -0.5))
    right, bottom = place(page, scene, (width - 0.5, height - 0.5))
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    picture = cv2.imdecode(np.frombuffer(page.screenshot(clip=clip), np.uint8), cv2.IMREAD_COLOR)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1]


def wait_seen(page: Any, scene: Path, holds: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
    """Look at the clip on the screen until something holds of it, however slow the machine is."""
    for _ in range(200):
        picture = seen(page, scene)
        if holds(picture):
            return picture
        page.wait_for_timeout(300)
    raise AssertionError(what)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, in levels."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def changed(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """(H, W) bool: where two pictures differ by more than noise."""
    return np.abs(now.astype(int) - before).max(-1) > 20


def drag(page: Any, scene: Path, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a line with the button held."""
    page.mouse.move(*place(page, scene, start))
    page.mouse.down()
    page.mouse.move(*place(page, scene, end), steps=6)
    page.mouse.up()


def click(page: Any, scene: Path, at: tuple[float, float], **more: Any) -> None:
    """Click on a pixel of the clip, and wait for the mask of it."""
    asked = "predict"
    with page.expect_response(lambda answer: asked in answer.url and answer.ok):
        page.mouse.click(*place(page, scene, at), **more)


def project_of(page: Any, name: str) -> dict[str, Any]:
    """What the server has of a project."""
    return page.evaluate("name => fetch(`/api/projects/${name}`).then((answer) => answer.json())", name)


def wait_saved(page: Any) -> None:
    page.wait_for_selector("#saved:text-is('Saved')")


def choose_classic(page: Any) -> None:
    """Colours alone find the objects: quick, and enough for a drawn scene."""
    page.get_by_role("button", name="Settings").click()
    page.locator("[id='setting--segmenter']").select_option("classic")
    page.keyboard.press("Escape")
    wait_saved(page)
