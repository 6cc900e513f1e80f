"""How quick the page of `layerlift app` is in a real browser, and what its server takes of memory when idle.

Read `measure` from top to bottom. Playwright drives an installed Chromium; times are taken by the page itself, from the
event of the mouse or the key until what it leads to is painted, so that none of them is Playwright's.
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
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from layerlift.bench.made_up import made_up_clip
from layerlift.bench.table import aligned
from layerlift.clip import Clip
from layerlift.errors import InputError, LayerliftError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKEN = "layerlift-bench"
MIB = 2**20
PATIENCE = 120_000  # milliseconds that anything may take
SCRUBS, UNCACHED, CLICKS = 20, 8, 5
PLAYED = 4.0  # seconds
APART = 20  # pixels between two clicks: one on another takes it away
RATE = 30  # frames a second of the clips
# Frames between two keyframes: what cameras and sites write, about two seconds, and the longest that x264 leaves.
USUAL, LONGEST = 60, 250
CALM = 1.0  # seconds in which nothing new is asked for

# Told in every page before its own scripts run: `bench.shown` are frames that were painted, with their times, and
# `bench.masked` is when the newest mask was. A message comes after the frame in which it was sent is painted.
WATCH = """(() => {
  const bench = (window.bench = { shown: [], began: 0, masked: 0, uploaded: 0 });
  const painted = (then) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => then(performance.now());
    channel.port2.postMessage(0);
  };
  for (const kind of ["pointerdown", "keydown"]) {
    addEventListener(kind, (event) => { bench.began = event.timeStamp; bench.shown = []; bench.masked = 0; }, true);
  }
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (body) {
    this.upload.addEventListener("load", () => { bench.uploaded = performance.now(); });
    return send.call(this, body);
  };
  new MutationObserver((all) => {
    for (const { target, oldValue } of all) {
      if (target.id !== "stage" || target.dataset.frame === oldValue) continue;
      painted((now) => bench.shown.push(now));
    }
  }).observe(document, {
    subtree: true, attributes: true, attributeFilter: ["data-frame"], attributeOldValue: true,
  });
  document.addEventListener("DOMContentLoaded", () => {
    // It is whispered that a mask has come; the next frame shows it.
    new MutationObserver(() => requestAnimationFrame(() => painted((now) => { bench.masked = now; }))).observe(
      document.getElementById("whisper"), { childList: true });
  });
})();"""
# The first clip in the list is clicked on as soon as it is there, and that is answered when its screen is.
FIRST = """new MutationObserver((all, watch) => {
  const { ready, screen } = document.body?.dataset ?? {};
  if (screen === "work") { window.bench.answered ??= Date.now(); watch.disconnect(); }
  else if (ready && !window.bench.clicked) { window.bench.clicked = true; document.querySelector(".entry").click(); }
}).observe(document, { subtree: true, childList: true, attributes: true });"""
# A frame is fetched anew: milliseconds until all of it is there.
FETCH = """async (address) => {
  const began = performance.now();
  await (await fetch(address, { cache: "no-store" })).arrayBuffer();
  return performance.now() - began;
}"""
READY = "async (address) => (await (await fetch(address)).json()).ready"
SHOWN = (
    "async () => { while (!bench.shown.length) await new Promise((go) => setTimeout(go, 5)); return bench.shown[0]; }"
)
MASKED = "async () => { while (!bench.masked) await new Promise((go) => setTimeout(go, 5)); return bench.masked; }"
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
        _write(path, made_up_clip(size, count, hidden)[0], USUAL)
    work = folder / "work"
    work.mkdir()
    shutil.copy(clip, work / "first.mp4")
    with sync_playwright() as playwright:
        # Without a graphics card: this is about what two cores do.
        args = ["--no-sandbox", "--disable-gpu"]
        started = playwright.chromium.launch(executable_path=str(browser), args=args)
        try:
            found = list(_measure(started, work, clip, size, frames))
            found.append(_memory(folder, long_clip, long))
        except Error as error:
            raise LayerliftError(f"the page did not do what was asked: {str(error).splitlines()[0]}") from error
        finally:
            started.close()
    return found


def _write(path: Path, clip: Clip, keyframes: int) -> None:
    """A clip as H.264, with a keyframe in so many frames."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "18", "g": str(keyframes)})
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        for frame in clip.frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _measure(browser: Any, work: Path, clip: Path, size: tuple[int, int], frames: int) -> Iterator[Measured]:
    # 1. From nothing to the first click that is answered.
    began = time.time()
    with _served(work) as (address, _):
        first = _page(browser, FIRST)
        first.goto(address)
        first.wait_for_selector("body[data-screen=work]")
        first.wait_for_selector("#stage[data-frame='0']")
        yield Measured(
            "process start to the first answered click", first.evaluate("bench.answered") / 1e3 - began, "s", 2
        )
        first.close()

        # 2. A clip is dropped.
        page = _page(browser, "")
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        page.evaluate(DROP, ["bench.mp4", base64.b64encode(clip.read_bytes()).decode()])
        took = page.evaluate(SHOWN) - page.evaluate("bench.uploaded")
        yield Measured("first frame after the upload", took / 1e3, "s", 0.5)

        # 3. Clicks on the object, the first of which looks at the frame.
        x, y = _middle_of_box(page, size)
        page.keyboard.press("n")
        clicks = []
        for number in range(CLICKS):
            page.mouse.click(x + APART * (number - CLICKS // 2), y)
            clicks.append((page.evaluate(MASKED) - page.evaluate("bench.began")) / 1e3)
        yield Measured("click to mask, first on a frame", clicks[0], "s", 4)
        yield Measured("click to mask, afterwards", max(clicks[1:]), "s", 0.6)

        # 4. Scrub and play, once every frame is ready.
        _wait_ready(page, "bench", frames)
        scrubs = list(_scrubs(page, frames))
        yield Measured("scrub to a cached frame", float(np.median(scrubs)), "ms", 50)
        yield Measured("scrub to a cached frame, slowest", max(scrubs), "ms", 50)
        page.keyboard.press("Home")
        time.sleep(CALM)
        page.keyboard.press("Space")
        time.sleep(PLAYED)
        shown = page.evaluate("bench.shown")
        page.keyboard.press("Space")
        time.sleep(CALM)
        yield Measured("frames a second while playing", 1e3 * (len(shown) - 1) / (shown[-1] - shown[0]), "", 24, True)
        yield Measured("uncached frame, slowest", _uncached(page, work, "bench", size[0], frames), "ms", 300)

        # 5. All is there again.
        page.wait_for_selector("#saved:text-is('Saved')")
        page.reload()
        page.wait_for_selector(".object")
        yield Measured("reload until clip and object are back", page.evaluate(SHOWN) / 1e3, "s", 2)

        # 6. What a file with few keyframes costs.
        yield _few_keyframes(page, address.partition("?")[0], work, size, frames)


def _few_keyframes(page: Any, address: str, work: Path, size: tuple[int, int], frames: int) -> Measured:
    """A frame that is not cached, of a clip with the fewest keyframes that x264 writes by itself."""
    _write(work / "rare.mp4", made_up_clip(size, frames, (size[0] // 8, size[1] // 6))[0], LONGEST)
    page.goto(f"{address}#")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.get_by_role("button", name="rare.mp4").first.click()
    _wait_ready(page, "rare", frames)
    name = f"uncached frame, slowest, {min(LONGEST, frames)} frames from one keyframe to the next"
    return Measured(name, _uncached(page, work, "rare", size[0], frames), "ms", 300)


def _wait_ready(page: Any, project: str, frames: int) -> None:
    """Wait until every frame is on the disk, and the page has fetched what it wants."""
    while page.evaluate(READY, f"/api/projects/{project}/frames") != [[0, frames]]:
        time.sleep(CALM)
    time.sleep(CALM)


def _page(browser: Any, script: str) -> Any:
    """A new page that watches itself."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(PATIENCE)
    page.add_init_script(WATCH + script)
    return page


def _scrubs(page: Any, frames: int) -> Iterator[float]:
    """Milliseconds until a frame is there, of keys, and of clicks on the timeline."""
    box = page.locator("#scrubber").bounding_box()
    for key in ("End", "Home", *["ArrowRight"] * (SCRUBS // 2)):
        page.keyboard.press(key)
        yield page.evaluate(SHOWN) - page.evaluate("bench.began")
    for share in np.random.default_rng(0).permutation(SCRUBS // 2) / (SCRUBS // 2):
        page.mouse.click(box["x"] + (0.05 + 0.9 * share) * box["width"], box["y"] + 10)
        yield page.evaluate(SHOWN) - page.evaluate("bench.began")


def _uncached(page: Any, work: Path, name: str, width: int, frames: int) -> float:
    """Milliseconds of the slowest of some frames that are not on the disk any more, and far from each other."""
    found = []
    for index in np.linspace(frames - 1, 1, UNCACHED).astype(int).tolist():
        for file in (work / f"{name}.layerlift" / "frames").glob(f"*/*/{index:06d}.jpg"):
            file.unlink()
        found.append(page.evaluate(FETCH, f"/api/projects/{name}/frames/{index}?w={width}"))
        time.sleep(CALM / 2)
    return max(found)


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
