"""The page as a person uses it: see, click, run, compare, save."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from browser.driving import (
    DONE,
    SHOWN,
    changed,
    choose_classic,
    click,
    difference,
    drag,
    middle,
    open_clip,
    place,
    project_of,
    seen,
    size_of,
    wait_saved,
    wait_seen,
)

DROP = """([name, bytes]) => {
  const data = Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


MOVE = "(bar, to) => { bar.value = to; bar.dispatchEvent(new Event('input')); }"
KEYS = "async () => (await import('/static/keys.js')).KEYS.flatMap(([, all]) => all.flatMap((one) => one[0]))"


def wiped(now: np.ndarray, clip: np.ndarray, plate: np.ndarray, share: float) -> bool:
    """Left of the wipe is the clip, right of it the clean plate; names of both and the handle are left out."""
    height, width = now.shape[:2]
    edge, rows = int(width * share), slice(14, height // 2 - 8)
    left, right = (rows, slice(4, edge - 4)), (rows, slice(edge + 4, width - 4))
    return difference(now[left], clip[left]) < 1.5 and difference(now[right], plate[right]) < 1.5


def test_a_dropped_clip_opens_with_its_facts(page: Any, scene: Path) -> None:
    name = "<img src=x onerror=alert(1)>.mkv"
    page.evaluate(DROP, [name, base64.b64encode((scene / "video.mkv").read_bytes()).decode()])

    page.wait_for_selector(SHOWN.format(0))

    facts = page.locator("#facts").inner_text()
    assert "96 × 64" in facts
    assert "9 frames" in facts
    assert page.locator("img").count() == 0, "a file's name became an element"


def test_a_file_that_is_no_clip_is_refused_in_words(page: Any, faults: Any) -> None:
    faults.expected = ("Failed to load resource",)

    page.evaluate(DROP, ["notes.mkv", base64.b64encode(b"these are notes").decode()])

    page.wait_for_selector("#alerts .toast")
    assert "notes" in page.locator("#alerts").inner_text()
    assert page.locator("body[data-screen=home]").count() == 1


def test_every_frame_is_shown_by_its_number(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "scrub")
    capture = cv2.VideoCapture(str(scene / "video.mkv"))
    truth = [capture.read()[1][..., ::-1] for _ in range(9)]
    capture.release()

    steps = [("End", 8), ("ArrowLeft", 7), (",", 6), (".", 7), ("Home", 0), ("Shift+ArrowRight", 8), ("Home", 0)]
    for key, frame in steps:
        page.keyboard.press(key)
        page.wait_for_selector(SHOWN.format(frame))
        errors = [difference(seen(page, scene), one) for one in truth]
        assert int(np.argmin(errors)) == frame, f"{key} shows another frame than {frame}"


def test_playing_goes_round_between_the_marks(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "play")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("[")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("]")
    wait_saved(page)
    assert project_of(page, "play")["doc"]["marks"] == [2, 5]

    frames = page.evaluate(
        """async () => {
          const shown = new Set();
          const stage = document.getElementById("stage");
          const watch = new MutationObserver(() => shown.add(Number(stage.dataset.frame)));
          watch.observe(stage, { attributes: true, attributeFilter: ["data-frame"] });
          document.getElementById("play").click();
          await new Promise((resolve) => setTimeout(resolve, 1500));
          document.getElementById("play").click();
          return [...shown].sort();
        }"""
    )

    assert frames == [2, 3, 4]


def test_clicks_make_masks_and_undo_takes_them_back(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "clicks")
    before = seen(page, scene)
    at = middle(scene)

    page.mouse.move(*place(page, scene, at))
    page.keyboard.down("Shift")
    page.wait_for_selector("#stage[data-preview]")
    page.keyboard.up("Shift")
    wait_saved(page)
    assert project_of(page, "clicks")["doc"]["objects"] == [], "a preview is no click"

    page.mouse.click(*place(page, scene, at))
    page.wait_for_selector(".object")
    page.mouse.click(*place(page, scene, (2, 2)), button="right")
    page.wait_for_selector("#whisper:has-text('Mask found')", state="attached")
    page.mouse.move(5, 5)
    wait_saved(page)
    [made] = project_of(page, "clicks")["doc"]["objects"]
    assert [one[2] for one in made["prompts"]["0"]["points"]] == [True, False]
    wait_seen(page, scene, lambda now: difference(before, now) > 0.5, "the mask is not to be seen")

    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.wait_for_selector(".object", state="detached")
    wait_saved(page)
    assert project_of(page, "clicks")["doc"]["objects"] == []
    wait_seen(page, scene, lambda now: difference(before, now) < 0.2, "the mask is still to be seen")

    page.keyboard.press("Control+y")
    page.wait_for_selector(".object")


def test_a_drag_is_a_box(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "box")

    drag(page, scene, (10, 12), (40, 30))

    page.wait_for_selector(".object")
    wait_saved(page)
    box = project_of(page, "box")["doc"]["objects"][0]["prompts"]["0"]["box"]
    assert np.abs(np.subtract(box, [10.5, 12.5, 40.5, 30.5])).max() <= 1


def test_brush_and_eraser_paint_masks_that_survive_a_reload(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "brush")
    before = seen(page, scene)

    page.keyboard.press("b")
    drag(page, scene, (20, 50), (70, 50))
    page.wait_for_selector(".said:has-text('painted in 1 frame')")
    page.keyboard.press("e")
    drag(page, scene, (45, 40), (45, 60))
    wait_saved(page)

    page.reload()
    page.wait_for_selector(SHOWN.format(0))
    page.wait_for_selector(".said:has-text('painted in 1 frame')")
    now = wait_seen(page, scene, lambda now: changed(before, now)[50, 25], "what was painted is gone")
    assert changed(before, now)[50, 65]
    assert not changed(before, now)[50, 45], "the eraser took nothing away"
    assert not changed(before, now)[20, 25]

    clear = page.get_by_role("button", name="Clear frame")
    for key, frame in (("End", 8), ("Home", 0)):
        page.keyboard.press(key)
        page.wait_for_selector(SHOWN.format(frame))
        assert clear.is_enabled() == (frame == 0), f"frame {frame} has nothing that can be cleared"


def test_run_compare_and_save(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "whole")
    clip = seen(page, scene)
    choose_classic(page)
    click(page, scene, middle(scene))

    page.get_by_role("button", name="Track", exact=True).click()
    page.wait_for_selector(DONE.format("track"))
    page.get_by_role("button", name="Find effects").click()
    page.wait_for_selector(DONE.format("effects"))
    page.get_by_role("button", name="Plan", exact=True).click()
    page.wait_for_selector(".plan-facts")
    page.get_by_role("button", name="Run everything").click()
    page.wait_for_selector(DONE.format("run"))

    page.get_by_role("button", name="Clean plate", exact=True).click()
    x, y = (int(one) for one in middle(scene))
    page.wait_for_selector("#stage[data-source=plate]")
    plate = wait_seen(page, scene, lambda now: changed(clip, now)[y, x], "the object is still there")

    page.keyboard.press("m")
    page.keyboard.press("w")
    for share in (0.25, 0.75):
        page.locator("#wipe").evaluate(MOVE, 100 * share)
        wait_seen(page, scene, lambda now, at=share: wiped(now, clip, plate, at), f"the wipe is not at {share}")

    page.get_by_role("button", name="Save", exact=True).click()
    with page.expect_download() as download:
        page.locator(".exports a").first.click()
    assert download.value.path().stat().st_size > 0
    page.wait_for_selector(DONE.format("export"))
    newest = page.locator("#queue > li").evaluate_all("all => all.slice(0, 4).map((one) => one.dataset.kind)")
    assert newest == ["export", "run", "effects", "track"]
    icons = page.locator("#queue use").evaluate_all("all => all.map((one) => one.getBoundingClientRect().width > 0)")
    assert all(icons), "icons were lost when rows moved"


def test_a_job_is_cancelled_and_the_page_survives_a_reload_in_the_middle(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "stopped")
    choose_classic(page)
    click(page, scene, middle(scene))

    page.get_by_role("button", name="Track", exact=True).click()
    page.locator("#left").get_by_role("button", name="Cancel: Track objects").click()
    page.wait_for_selector("#queue [data-kind=track][data-state=cancelled]")

    page.get_by_role("button", name="Track", exact=True).click()
    page.wait_for_selector("#queue [data-kind=track]:not([data-state=cancelled])")
    page.reload()
    page.wait_for_selector(".object")
    page.wait_for_selector(DONE.format("track"))
    page.wait_for_selector(".mark:has-text('Tracked')")
    assert project_of(page, "stopped")["results"]["objects"]["frames"] == 9


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_can_be_read(browser: Any, server: Any, scene: Path, page: Any, scheme: str) -> None:
    open_clip(page, server.folder, scene, f"read-{scheme}")
    page.keyboard.press("n")
    page.emulate_media(color_scheme=scheme)

    poor = page.evaluate(
        """() => {
          const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
          const part = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
          const light = ([r, g, b]) => 0.2126 * part(r / 255) + 0.7152 * part(g / 255) + 0.0722 * part(b / 255);
          const ground = (element) => {
            for (let one = element; one; one = one.parentElement) {
              const colour = rgb(getComputedStyle(one).backgroundColor);
              if (colour.length === 3 || colour[3] > 0.9) return colour;
            }
            return [255, 255, 255];
          };
          const poor = [];
          for (const element of document.querySelectorAll("body *")) {
            const own = [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
            if (!own || !element.checkVisibility() || element.closest(":disabled, .visually-hidden, option")) continue;
            const [one, other] = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
            const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
            if (ratio < 4.5) poor.push(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
          }
          return poor;
        }"""
    )

    assert poor == []


def test_controls_have_names(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "names")
    page.keyboard.press("n")
    page.get_by_role("button", name="Settings").click()

    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role], dialog")].filter((one) => {
          const label = one.labels?.length || one.getAttribute("aria-label") || one.getAttribute("aria-labelledby");
          const status = ["status", "alert"].includes(one.getAttribute("role"));
          return !(label || status || (one.tagName === "BUTTON" && one.textContent.trim()));
        }).map((one) => one.outerHTML)"""
    )

    assert nameless == []


def test_settings_are_the_command_lines_words(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "words")
    page.keyboard.press("n")
    page.mouse.click(*place(page, scene, middle(scene)))
    page.get_by_role("button", name="Settings").click()

    page.get_by_label("Find a setting").fill("dilate")
    page.locator("[id='setting--dilate']").fill("5")
    page.keyboard.press("Enter")

    page.wait_for_selector("#command:has-text('--dilate=5')")
    assert "layerlift remove " in page.locator("#command").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    wait_saved(page)
    assert project_of(page, "words")["doc"]["settings"] == {}


def test_no_key_means_two_things(page: Any) -> None:
    keys = page.evaluate(
        "async () => (await import('/static/keys.js')).KEYS.flatMap(([, all]) => all.flatMap((one) => one[0]))"
    )

    assert len(keys) > 60
    assert sorted(set(keys)) == sorted(keys)


def test_after_a_click_on_a_button_space_still_plays(page: Any, server: Any, scene: Path) -> None:
    open_clip(page, server.folder, scene, "space")
    page.locator("#toggle-masks").click()
    page.wait_for_timeout(100)

    page.keyboard.press("Space")

    page.wait_for_selector("#play[aria-label=Pause]")
    assert page.locator("#toggle-masks").get_attribute("aria-pressed") == "false"


def test_a_mask_of_a_paint_program_is_imported(page: Any, server: Any, scene: Path, tmp_path: Path) -> None:
    # From now on: a browser that learns of it together with the key may open a dialog of its own.
    page.on("filechooser", lambda chooser: None)
    open_clip(page, server.folder, scene, "import")
    before = seen(page, scene)
    mask = np.zeros(size_of(scene)[::-1], np.uint8)
    mask[40:60, 10:30] = 255
    cv2.imwrite(str(tmp_path / "painted.png"), mask)

    page.keyboard.press("n")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("i")
    chooser.value.set_files(tmp_path / "painted.png")

    page.wait_for_selector(".said:has-text('painted in 1 frame')")
    inside = (slice(42, 58), slice(12, 28))
    now = wait_seen(page, scene, lambda now: changed(before, now)[inside].mean() > 0.9, "the mask is not to be seen")
    assert changed(before, now)[5:35].mean() < 0.05
