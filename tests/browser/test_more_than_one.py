"""Two tabs, no mouse, and a server that dies."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from browser.conftest import Server, watch
from browser.driving import DONE, SHOWN, choose_classic, middle, open_clip, place, project_of, size_of, wait_saved


def test_two_tabs_show_the_same_project(page: Any, server: Any, scene: Path, faults: Any) -> None:
    open_clip(page, server.folder, scene, "tabs")
    other = watch(page.context.new_page(), faults)
    other.goto(page.url)
    other.wait_for_selector(SHOWN.format(0))

    page.keyboard.press("n")
    name = page.get_by_label("Name of object 1")
    name.fill("Dog")
    name.press("Enter")

    other.wait_for_selector("#left input[value='Dog']")


def test_a_tab_that_was_too_late_loses_nothing(page: Any, server: Any, scene: Path, faults: Any) -> None:
    faults.expected = ("409 (Conflict)", "ERR_FAILED")
    open_clip(page, server.folder, scene, "late")
    deaf = watch(page.context.new_page(), faults)
    deaf.route("**/api/events", lambda route: route.abort())
    deaf.goto(page.url)
    deaf.wait_for_selector(SHOWN.format(0))

    page.keyboard.press("n")
    wait_saved(page)
    deaf.keyboard.press("]")

    deaf.wait_for_selector("#toasts :text('Another tab changed this project')")
    deaf.wait_for_selector(".object")
    doc = project_of(page, "late")["doc"]
    assert (len(doc["objects"]), doc["marks"]) == (1, None), "the later tab wrote over the earlier one"

    deaf.keyboard.press("Control+z")
    deaf.wait_for_selector(".object", state="detached")
    page.wait_for_selector(".object", state="detached")
    wait_saved(deaf)
    assert project_of(page, "late")["doc"]["marks"] == [0, 1], "undo does not bring back what was too late"


def test_what_cannot_be_saved_says_why(page: Any, server: Any, scene: Path, faults: Any) -> None:
    """Here the clip is away for a while; no server is called lost that answers."""
    faults.expected = ("410 (Gone)",)
    open_clip(page, server.folder, scene, "away")
    clip = server.folder / "away.mkv"
    clip.rename(clip.with_suffix(".bak"))
    page.keyboard.press("n")
    page.wait_for_selector("#saved:has-text('Not saved: away.mkv'):has-text('is gone: put it back into the folder')")
    clip.with_suffix(".bak").rename(clip)
    wait_saved(page)
    assert len(project_of(page, "away")["doc"]["objects"]) == 1


def test_a_click_that_the_server_missed_is_asked_for_again(page: Any, server: Any, scene: Path, faults: Any) -> None:
    faults.expected = ("ERR_FAILED",)
    missed: list[Any] = []

    def miss(route: Any) -> None:
        missed.append(route)
        if len(missed) == 1:
            route.abort()
        else:
            route.continue_()

    open_clip(page, server.folder, scene, "missed")
    page.route("**/predict?*", miss)
    page.mouse.click(*place(page, scene, middle(scene)))
    page.wait_for_selector("#whisper:has-text('Mask found in frame 0')", state="attached")


def test_all_is_done_without_a_mouse(page: Any, server: Any, scene: Path) -> None:
    keys = page.keyboard
    open_clip(page, server.folder, scene, "keys")
    choose_classic(page)
    width, height = size_of(scene)
    x, y = middle(scene)

    keys.press("Tab")
    keys.press("Alt+ArrowRight")
    keys.press("Alt+ArrowLeft")
    step = max(1, height / 100)
    sideways, down = round((x - width / 2) / (2 * step)), round((y - height / 2) / (2 * step))
    for _ in range(abs(sideways)):
        keys.press("Alt+ArrowRight" if sideways > 0 else "Alt+ArrowLeft")
    for _ in range(abs(down)):
        keys.press("Alt+ArrowDown" if down > 0 else "Alt+ArrowUp")
    page.evaluate("document.activeElement.blur()")
    keys.press("Enter")
    page.wait_for_selector(".object")
    wait_saved(page)
    [[at_x, at_y, inside]] = project_of(page, "keys")["doc"]["objects"][0]["prompts"]["0"]["points"]
    assert inside
    assert abs(at_x - x) <= 2
    assert abs(at_y - y) <= 2

    keys.press("o")
    keys.press("Alt+ArrowRight")
    keys.press("Alt+ArrowDown")
    keys.press("o")
    wait_saved(page)
    assert project_of(page, "keys")["doc"]["objects"][0]["prompts"]["0"]["box"] is not None
    keys.press("Control+z")

    keys.press("t")
    page.wait_for_selector(DONE.format("track"))
    keys.press("?")
    page.wait_for_selector("dialog#help[open]")
    keys.press("Escape")
    page.wait_for_selector("dialog#help", state="hidden")
    keys.press("h")
    page.wait_for_selector("[aria-label='Show Object 1']")
    keys.press("Shift+Delete")
    page.wait_for_selector(".object", state="detached")


def test_a_killed_server_loses_nothing(browser: Any, scene: Path, tmp_path: Path, faults: Any) -> None:
    faults.expected = ("Failed to load resource", "ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_NETWORK")
    server = Server(tmp_path)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = watch(context.new_page(), faults)
        page.goto(server.address)
        page.wait_for_selector("body[data-ready]")
        open_clip(page, tmp_path, scene, "lost")
        page.keyboard.press("n")
        wait_saved(page)

        server.stop(signal.SIGKILL)
        page.wait_for_selector("#offline:not([hidden])")
        page.keyboard.press("n")
        page.wait_for_selector("#saved:has-text('Not saved')")

        server = Server(tmp_path, server.port)
        page.wait_for_selector("#offline", state="hidden")
        wait_saved(page)
        assert len(project_of(page, "lost")["doc"]["objects"]) == 2
    finally:
        context.close()
        server.stop()
