"""A real browser on a real server: Debian's chromium, driven by Playwright's Python package."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import layerlift

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TOKEN = "browser-tests"
# Generous: other tests run beside these. Nothing here is about how long something takes.
PATIENCE_MS = 90_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("there is no browser on this machine: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    pytest.importorskip("starlette", reason="needs `pip install layerlift[app]`")
    pytest.importorskip("uvicorn", reason="needs `pip install layerlift[app]`")
    # Playwright waits for the driver's loop, which asks for a loop that pytest's process may have closed.
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


class Server:
    """`layerlift app` in a folder of its own; `more` is added to its environment."""

    def __init__(self, folder: Path, port: int = 0, **more: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "layerlift", "app", str(folder), "--no-open", "--token", TOKEN]
        self.process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, **more}
        )
        self.address = self._address()
        self.port = int(re.search(r":(\d+)/", self.address)[1])  # type: ignore[index]

    def _address(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://\S+", line):
                return found[0]
        raise AssertionError(f"`layerlift app` ended with {self.process.wait()}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn scene: a clip of 9 frames, 96 × 64, with its masks."""
    folder = tmp_path_factory.mktemp("scene") / "scene"
    assert layerlift("scene", "-o", folder, "--size", "96x64", "--frames", 9) == 0
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("work"))
    yield started
    started.stop()


class Faults(list[str]):
    """What the browser complained about; what a test provokes on purpose is not counted."""

    expected: tuple[str, ...] = ()

    def add(self, text: str) -> None:
        if not any(one in text for one in self.expected):
            self.append(text)


@pytest.fixture
def faults() -> Iterator[Faults]:
    heard = Faults()
    yield heard
    assert heard == []


def watch(page: Any, faults: Faults) -> Any:
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda message: message.type in ("error", "warning") and faults.add(message.text))
    page.on("pageerror", lambda error: faults.add(str(error)))
    return page


@pytest.fixture
def page(browser: Any, server: Server, faults: Faults) -> Iterator[Any]:
    """The first screen of the page, at the size of a small notebook."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    opened = watch(context.new_page(), faults)
    opened.goto(server.address)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    context.close()
