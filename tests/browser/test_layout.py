"""Everything can be reached in a narrow window, and with long names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from browser.driving import open_clip

# Elements that stick out of the window, or out of what they are in, where that does not scroll.
OUTSIDE = """() => [...document.querySelectorAll("button, input, select, a")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (!box.width || !one.checkVisibility() || one.matches(".skip")) return false;
  return box.left < -1 || box.right > innerWidth + 1;
}).map((one) => one.id || one.textContent || one.outerHTML)"""


@pytest.mark.parametrize("width", [480, 700, 900, 1280])
def test_nothing_sticks_out(page: Any, server: Any, scene: Path, width: int) -> None:
    shutil.copyfile(scene / "video.mkv", server.folder / f"{'long_name_' * 12}.mkv")
    open_clip(page, server.folder, scene, f"narrow{width}")
    page.set_viewport_size({"width": width, "height": 700})
    page.keyboard.press("n")
    page.wait_for_selector(".object")
    assert page.evaluate(OUTSIDE) == []
    middle = page.locator("#middle").bounding_box()
    bar = page.locator("#bar").bounding_box()
    assert bar["x"] >= middle["x"]
    assert bar["width"] <= middle["width"]
    assert page.evaluate("document.querySelector('#bar').scrollWidth <= document.querySelector('#bar').clientWidth")

    page.goto(f"{page.url.partition('#')[0]}#")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.evaluate(OUTSIDE) == []
