"""How quick the page of `layerlift app` is in a real browser, and what its server takes of memory when idle.

Read `measure` from top to bottom. Playwright drives an installed Chromium.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerlift.bench.made_up import made_up_clip
from layerlift.bench.table import aligned
from layerlift.clip import write_clip
from layerlift.errors import InputError, LayerliftError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKEN = "layerlift-bench"
MIB = 2**20
PATIENCE = 120_000  # milliseconds that anything may take
SCRUBS, UNCACHED, CLICKS = 20, 8, 5
PLAYED = 3.0  # seconds

# A key is pressed, and the stage shows another frame: milliseconds between.
PRESS = """async (key) => {
  const stage = document.querySelector("#stage"), before = stage.dataset.frame, began = performance.now();
  const shown = new Promise((done) => {
    const watch = new MutationObserver(() => {
      if (stage.dataset.frame !== before) { watch.disconnect(); done(performance.now() - began); }
    });
    watch.observe(stage, { attributes: true });
  });
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  return shown;
}"""
# A frame is fetched anew: milliseconds until all of it is there.
FETCH = """async (address) => {
  const began = performance.now();
  await (await fetch(address, { cache: "no-store" })).arrayBuffer();
  return performance.now() - began;
}"""
# Frames that the stage shows in so many milliseconds.
COUNT = """async (span) => {
  const stage = document.querySelector("#stage");
  let shown = 0;
  const watch = new MutationObserver(() => { shown += 1; });
  watch.observe(stage, { attributes: true, attributeFilter: ["data-frame"] });
  await new Promise((done) => setTimeout(done, span));
  watch.disconnect();
  return shown;
}"""
DROP = """([name, bytes]) => {
  const data = Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure: `value` in `unit`, which should be at most `bound`, or at least where `more` is better."""

    name: str
    value: float
    unit: str
    bound: float
    more: bool = False

    @property
    def kept(self) -> bool:
        """Whether the bound is kept."""
        return self.value >= self.bound if self.more else self.value <= self.bound


def find_browser(given: Path | None) -> Path:
    """The browser to drive. Raises InputError where there is none, or Playwright is missing."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError as error:
        raise InputError("`layerlift bench app` needs Playwright: run `pip install playwright`.") from error
    if given is not None and not given.is_file():
        raise InputError(f"--browser {given} does not exist: give the path of Chromium.")
    found = given or next((Path(path) for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise InputError("no browser was found: install Chromium, or give its path with --browser.")
    return found


def measure(folder: Path, browser: Path, size: tuple[int, int], frames: int, long: int) -> list[Measured]:
    """Measure everything in an empty folder, on made-up clips of `frames` and of `long` frames.

    Raises LayerliftError where the page does not do what it should.
    """
    from playwright.sync_api import Error, sync_playwright

    hidden = max(2, size[0] // 8), max(2, size[1] // 6)
    clip, long_clip = folder / "bench.mp4", folder / "long.mp4"
    for path, count in ((clip, frames), (long_clip, long)):
        source, _ = made_up_clip(size, count, hidden)
        write_clip(path, source.frames(), source)
    work = folder / "work"
    work.mkdir()
    shutil.copy(clip, work / "first.mp4")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(browser), args=["--no-sandbox"])
        try:
            page = started.new_page(viewport={"width": 1600, "height": 1000})
            page.set_default_timeout(PATIENCE)
            found = list(_measure(page, work, clip, size, frames))
            found.append(_memory(folder, long_clip, long))
        except Error as error:
            raise LayerliftError(f"the page did not do what was asked: {str(error).splitlines()[0]}") from error
        finally:
            started.close()
    return found


def _measure(page: Any, work: Path, clip: Path, size: tuple[int, int], frames: int) -> Iterator[Measured]:
    # 1. From nothing to the first click that is answered.
    began = time.perf_counter()
    with _served(work) as (address, _):
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        with page.expect_response(lambda answer: answer.url.endswith("/api/projects") and answer.ok):
            page.get_by_role("button", name="first.mp4").first.click()
        yield Measured("process start to the first answered click", time.perf_counter() - began, "s", 2)

        # 2. A clip is dropped.
        page.goto(address.partition("?")[0])
        page.wait_for_selector("body[data-ready]")
        content = base64.b64encode(clip.read_bytes()).decode()
        with page.expect_response(lambda answer: "/api/clips/" in answer.url and answer.ok):
            page.evaluate(DROP, ["bench.mp4", content])
        began = time.perf_counter()
        page.wait_for_selector("#stage[data-frame='0']")
        yield Measured("first frame after the upload", time.perf_counter() - began, "s", 0.5)
        name = "bench"

        # 3. Clicks on the object, the first of which looks at the frame.
        x, y = _middle_of_box(page, size)
        page.keyboard.press("n")
        took = []
        for number in range(CLICKS):
            began = time.perf_counter()
            with page.expect_response(lambda answer: "/predict" in answer.url and answer.ok):
                page.mouse.click(x + 3 * number, y)
            took.append(time.perf_counter() - began)
        yield Measured("click to mask, first on a frame", took[0], "s", 4)
        yield Measured("click to mask, afterwards", max(took[1:]), "s", 0.6)

        # 4. Scrub and play, once every frame is ready.
        project = f"/api/projects/{name}"
        whole = f"async (address) => (await (await fetch(address)).json()).ready[0]?.[1] === {frames}"
        page.wait_for_function(f"({whole})('{project}/frames')", polling=500)
        scrubs = [page.evaluate(PRESS, key) for key in ["End", "Home", *["ArrowRight"] * (SCRUBS - 2)]]
        yield Measured("scrub to a cached frame", float(np.median(scrubs)), "ms", 50)
        yield Measured("scrub to a cached frame, slowest", max(scrubs), "ms", 50)
        page.keyboard.press("Home")
        page.keyboard.press("Space")
        yield Measured(
            "frames shown a second while playing", page.evaluate(COUNT, PLAYED * 1000) / PLAYED, "", 22, True
        )
        page.keyboard.press("Space")
        cached = next(iter((work / f"{name}.layerlift" / "frames").glob("*/*")))
        uncached = []
        for index in np.linspace(frames - 1, 1, UNCACHED).astype(int).tolist():
            (cached / f"{index:06d}.jpg").unlink()
            uncached.append(page.evaluate(FETCH, f"{project}/frames/{index}?w={size[0]}"))
        yield Measured("uncached frame, slowest", max(uncached), "ms", 300)

        # 5. All is there again.
        page.wait_for_selector("#saved:text-is('Saved')")
        began = time.perf_counter()
        page.reload()
        page.wait_for_selector("#stage[data-frame]")
        page.wait_for_selector(".object")
        yield Measured("reload until clip and object are back", time.perf_counter() - began, "s", 2)


def _middle_of_box(page: Any, size: tuple[int, int]) -> tuple[float, float]:
    """Where the made-up clip's box is on the page, with the clip fitted into the stage."""
    box = page.locator("#stage").bounding_box()
    scale = min((box["width"] - 24) / size[0], (box["height"] - 24) / size[1])
    across = max(2, size[0] // 8)
    middle = (size[0] - across) * 0.4625 + across / 2
    return box["x"] + box["width"] / 2 + (middle - size[0] / 2) * scale, box["y"] + box["height"] / 2


def _memory(folder: Path, clip: Path, count: int) -> Measured:
    """The server's memory with a long clip open, after a click, when nothing is asked for."""
    import urllib.request

    import psutil  # type: ignore[import-untyped]

    work = folder / "memory"
    work.mkdir()
    shutil.move(clip, work / "long.mp4")
    with _served(work) as (address, process):
        base = address.partition("/?")[0]

        def ask(path: str, body: bytes | None = None) -> bytes:
            request = urllib.request.Request(f"{base}{path}", body, {"Authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(request) as answer:
                return bytes(answer.read())

        ask("/api/projects", b'{"clip": "long.mp4"}')
        for index in (0, count // 2):
            ask("/api/projects/long/predict", b'{"frame": %d, "points": [[600, 360, true]]}' % index)
        before = -1
        while (now := len(list((work / "long.layerlift" / "frames").glob("*/*/*.jpg")))) != before:
            before = now
            time.sleep(3)
        used = psutil.Process(process.pid).memory_info().rss
    return Measured(f"memory of the server, {count} frames open", used / MIB, "MiB", 600)


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`layerlift app` in a folder: its address and its process."""
    command = [sys.executable, "-m", "layerlift", "app", str(folder), "--no-open", "--token", TOKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = next((at for line in process.stdout if (at := re.search(r"http://\S+", line))), None)
            if found is None:
                raise LayerliftError(f"`layerlift app` ended with code {process.wait()}: run it by hand to see why.")
            yield found[0], process
        finally:
            process.terminate()


def table(found: list[Measured]) -> str:
    """The figures as Markdown."""
    lines = [["measured in Chromium", "found", "bound", "kept"]]
    for one in found:
        unit = f" {one.unit}" if one.unit else ""
        sign = "≥" if one.more else "≤"
        lines.append([one.name, f"{one.value:.3g}{unit}", f"{sign} {one.bound:g}{unit}", "yes" if one.kept else "no"])
    return aligned(lines)
