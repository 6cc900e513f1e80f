"""Masks that were imported, and effects: their tints, the threshold, and what is painted of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser.driving import (
    SHOWN,
    changed,
    drag,
    mask_of,
    open_clip,
    project_of,
    seen,
    size_of,
    wait_saved,
    wait_seen,
)
from layerlift.clip import Clip, write_clip


@pytest.fixture
def found(page: Any, server: Any, scene: Path) -> np.ndarray:
    """A project of two objects with effects: the first one's in the left half, surely and less so, the other's right.

    What the clip looks like without them.
    """
    open_clip(page, server.folder, scene, "effects")
    page.evaluate("document.activeElement.blur()")
    before = seen(page, scene)
    for number in (1, 2):
        page.keyboard.press("n")
        page.wait_for_selector(f"[aria-label='Name of object {number}']")
    wait_saved(page)
    results = server.folder / "effects.layerlift" / "results"
    width, height = size_of(scene)
    sure = np.zeros((3, 9, height, width, 3), np.uint8)
    sure[1, :, :, : width // 4], sure[1, :, :, width // 4 : width // 2], sure[2, :, :, width // 2 :] = 240, 150, 240
    sure[0] = sure[1:].max(0)
    for name, frames in zip(("effects", "effects_0", "effects_1"), sure, strict=True):
        clip = Clip.from_array(frames)
        write_clip(results / f"{name}.mkv", clip.frames(), clip, lossless=True, overwrite=True)
    spans = {str(number): [[0, 9]] for number in (1, 2)}
    (results / "present.json").write_text(json.dumps({"of": [1, 2], "effects": spans}))
    page.reload()
    page.wait_for_selector(SHOWN.format(0))
    return before


def quarters(before: np.ndarray, now: np.ndarray) -> list[bool]:
    """Which quarters of the picture, from left to right, are tinted; the stripes of a tint leave half of it free."""
    return [bool(part.mean() > 0.2) for part in np.array_split(changed(before, now)[8:-8], 4, axis=1)]


def test_the_threshold_is_seen_at_once_and_every_object_has_its_tint(page: Any, scene: Path, found: np.ndarray) -> None:
    slider = page.locator("#threshold")
    assert slider.input_value() == "0.4"
    now = wait_seen(page, scene, lambda now: quarters(found, now) == [True] * 4, "effects are not tinted")
    added = [part.astype(int).mean((0, 1)) for part in np.array_split(now.astype(int) - found, 2, axis=1)]
    assert added[0][0] > added[0][2], "the first object's effects have not its colour"
    assert added[1][2] > added[1][0], "the second object's effects have not its colour"

    slider.fill("0.8")
    wait_seen(page, scene, lambda now: quarters(found, now) == [True, False, True, True], "the threshold does nothing")
    wait_saved(page)
    assert project_of(page, "effects")["doc"]["effects"]["threshold"] == 0.8

    page.get_by_label("Hide Object 2").click()
    wait_seen(page, scene, lambda now: quarters(found, now) == [True, False, False, False], "they are still there")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    wait_seen(page, scene, lambda now: quarters(found, now) == [True] * 4, "undo does not bring them back")


def test_effects_are_painted_and_erased(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "painted")
    before = seen(page, scene)
    page.keyboard.press("n")

    page.keyboard.press("g")
    drag(page, scene, (20, 40), (70, 40))
    page.keyboard.press("Shift+G")
    drag(page, scene, (20, 20), (70, 20))
    page.mouse.move(5, 5)
    page.wait_for_function("() => document.querySelector('#saved').textContent === 'Saved'")

    def both(now: np.ndarray) -> bool:
        rows = changed(before, now)[:, 30:60].mean(1)
        return bool(rows[40] > 0.2 and rows[20] > 0.2 and rows[30] < 0.1 and rows[52] < 0.1)

    wait_seen(page, scene, both, "what was painted is not to be seen")
    wait_saved(page)
    said = project_of(page, "painted")["doc"]["effects"]
    assert [list(said["add"]), list(said["erase"])] == [["0"], ["0"]]
    for path, row in ((said["add"]["0"], 40), (said["erase"]["0"], 20)):
        painted = _picture(server.folder / "painted.layerlift" / path)
        assert (painted[row, 25:65] > 127).all()
        assert (painted[::60] == 0).all()

    page.reload()
    page.wait_for_selector(SHOWN.format(0))
    wait_seen(page, scene, both, "what was painted did not survive a reload")
    page.keyboard.press("Control+z")
    assert "There is nothing to undo" in page.locator("#status").inner_text()


def test_an_imported_video_of_a_mask_is_seen_in_every_frame_at_once(page: Any, server: Any, scene: Path) -> None:
    page.on("filechooser", lambda chooser: None)
    open_clip(page, server.folder, scene, "imported")
    shown = {}
    for key, frame in (("Home", 0), ("End", 8)):
        page.keyboard.press(key)
        page.wait_for_selector(SHOWN.format(frame))
        shown[key, frame] = seen(page, scene)

    page.keyboard.press("n")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("i")
    chooser.value.set_files(next(scene.glob("object_mask*")))
    page.wait_for_selector(".said:has-text('imported mask')")

    for (key, frame), before in shown.items():
        page.keyboard.press(key)
        page.wait_for_selector(SHOWN.format(frame))
        mask = mask_of(scene, frame)

        def there(now: np.ndarray, before: np.ndarray = before, mask: np.ndarray = mask) -> bool:
            now_changed = changed(before, now)
            return bool(now_changed[mask].mean() > 0.8 and now_changed[~mask].mean() < 0.1)

        wait_seen(page, scene, there, f"the mask is not to be seen in frame {frame}")

    page.keyboard.press("b")
    drag(page, scene, (20, 30), (60, 30))
    page.wait_for_selector("#status :text('An imported mask holds as it is')")
    wait_saved(page)
    [thing] = project_of(page, "imported")["doc"]["objects"]
    assert (thing["masks"], thing["file"].startswith("masks/import-1-")) == ({}, True)


def _picture(path: Path) -> np.ndarray:
    import cv2

    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
