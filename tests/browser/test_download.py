"""A model is downloaded from the page: from a little hub on this machine, for nothing here uses the network."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Server, watch
from browser.driving import DONE, open_clip
from hub_server import Hub, hub
from layerlift.engine.model.catalogue import DEFAULT, HUB_REPO
from layerlift.engine.model.hub import TEXT_FILES, TEXT_INDEX

MIB = 2**20
# huggingface_hub writes 10 MB at a time, and tells of that.
SIZE, STOPS = 24 * MIB, 12 * MIB
STATE = "#queue [data-kind=download][data-state={}]"


@pytest.fixture(scope="module")
def our_hub() -> Iterator[Hub]:
    """The default model's repository; its weights are not weights."""
    index = json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}).encode()
    text = dict.fromkeys((*TEXT_FILES, "text_encoder/model-00001-of-00001.safetensors"), b"{}")
    files = {DEFAULT.file: bytes(SIZE), TEXT_INDEX: index, **text}
    with hub({f"{HUB_REPO}/{name}": data for name, data in files.items()}) as started:
        yield started


@pytest.fixture(scope="module")
def server(our_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = str(tmp_path_factory.mktemp("home"))
    more = {"HF_ENDPOINT": our_hub.address, "HF_HOME": home, "HF_HUB_OFFLINE": "0", "XDG_CACHE_HOME": home}
    started = Server(tmp_path_factory.mktemp("work"), **more)
    yield started
    started.stop()


def test_a_model_is_downloaded(page: Any, server: Server, scene: Path, our_hub: Hub, faults: Any) -> None:
    """What goes wrong is said, progress is shown, what is cancelled can be had again, and in the end it is there."""
    open_clip(page, server.folder, scene, "model")
    page.locator("#model").select_option(DEFAULT.name)
    download = page.get_by_role("button", name="Download 25 GB")
    failed = page.locator(STATE.format("failed"))

    # 1. The hub does not have it.
    weights = our_hub.files.pop(f"{HUB_REPO}/{DEFAULT.file}")
    download.click()
    failed.get_by_text("the hub has no such file").wait_for()
    our_hub.files[f"{HUB_REPO}/{DEFAULT.file}"] = weights

    # 2. The disk takes no more, which is what a limit on the size of files looks like.
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
    download.click()
    failed.get_by_text("file too large").wait_for()
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)

    # 3. It is cancelled in the middle, while nothing comes from the network.
    our_hub.most = STOPS
    download.click()
    running = page.locator(STATE.format("running"))
    running.get_by_text(DEFAULT.file).wait_for()
    running.get_by_text("10 MB of 25 MB").wait_for()
    assert download.is_disabled()
    other = watch(page.context.new_page(), faults)
    other.goto(page.url)
    other.locator(STATE.format("running")).get_by_text("10 MB of 25 MB").wait_for()
    other.close()
    page.get_by_role("button", name="Cancel: Download").first.click()
    page.wait_for_selector(STATE.format("cancelled"))
    our_hub.goes_on.set()

    # 4. It comes.
    download.click()
    page.wait_for_selector(DONE.format("download"))
    download.wait_for(state="detached")
    chosen = page.locator(f"#model option[value='{DEFAULT.name}']")
    assert "to download" not in chosen.text_content()
