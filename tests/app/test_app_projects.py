"""Projects: what is kept, what survives, and what two pages do to each other."""

import errno
import json
import re
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import av
import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

import layerlift
from app_server import FRAMES, HEIGHT, WIDTH, doc_with, frames_of, save, until, write_frames
from layerlift.app import frames as frames_module
from layerlift.app import projects
from layerlift.app.context import Context
from layerlift.app.frames import FrameStore
from layerlift.app.openapi import document, ways
from layerlift.app.opening import Opened, open_for_page
from layerlift.app.pictures import view_width
from layerlift.app.server import make_app
from layerlift.cli.app import app as command_line
from layerlift.progress import Cancellation, CancelledError


def test_a_clip_s_facts_are_told(client: TestClient, project: dict) -> None:
    facts = project["facts"]
    assert (facts["width"], facts["height"], facts["frames"], facts["rate"]) == (WIDTH, HEIGHT, FRAMES, [24, 1])
    assert (facts["seconds"], facts["sound"], facts["codec"]) == (0.5, False, "ffv1")
    assert client.get("/api/projects/toy/facts").json() == facts


def test_every_frame_is_the_one_that_was_asked_for(client: TestClient, project: dict) -> None:
    for index in (11, 0, 5, 6, 3):
        answer = client.get(f"/api/projects/toy/frames/{index}?w=320&v={project['facts']['stamp']}")
        assert answer.headers["content-type"] == "image/jpeg"
        assert "immutable" in answer.headers["cache-control"]
        shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert shown.shape == (HEIGHT, WIDTH, 3)
        assert abs(int(shown[2, 2].mean()) - (8 + 12 * index)) <= 2
        assert abs(int(shown[24, 9 + index].mean()) - 255) <= 8
    assert client.get("/api/projects/toy/frames/0?v=old").headers["cache-control"] == "no-store"
    for path in ("12", "-1", "999999", "0?w=0x1", "0?w=", "0?w=1e3"):
        assert client.get(f"/api/projects/toy/frames/{path}").status_code in (400, 404), path


def test_frames_are_sent_at_a_few_widths_and_never_enlarged() -> None:
    assert [view_width(asked, 1000) for asked in (1, 320, 321, 700, 961, 5000)] == [320, 320, 640, 960, 1000, 1000]
    assert view_width(1281, 8000) == 1920


def test_frames_are_made_ahead_and_kept_within_bounds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_for_page(root / "toy.mkv")
    told: list[tuple[int, int]] = []
    store = FrameStore(opened, tmp_path / "a", lambda first, end: told.append((first, end)))
    store.start()
    until(store.ready, lambda ready: ready == [(0, FRAMES)])
    until(lambda: told, lambda spans: sum(end - first for first, end in spans) == FRAMES)
    size = sum(path.stat().st_size for path in (tmp_path / "a").rglob("*.jpg"))
    monkeypatch.setattr(frames_module, "KEPT_BYTES", size // 2)
    small = FrameStore(opened, tmp_path / "b")
    for index in range(FRAMES):
        assert small.jpeg(index, WIDTH) == store.jpeg(index, WIDTH)
        assert small.ready()[-1][1] == index + 1  # what is looked at is kept, and what is farthest goes
    kept = sum(path.stat().st_size for path in (tmp_path / "b").rglob("*.jpg"))
    assert 0 < kept <= size // 2
    small.start()
    small.jpeg(2, WIDTH)
    until(small.ready, lambda ready: ready[0][0] == 2 and ready[0][1] >= 5)
    assert sum(path.stat().st_size for path in (tmp_path / "b").rglob("*.jpg")) <= size // 2


def test_frames_are_made_ahead_at_the_width_that_is_asked_for(root: Path, tmp_path: Path) -> None:
    wide = np.zeros((6, 64, 1000, 3), np.uint8)
    store = FrameStore(open_for_page(write_frames(root / "wide.mkv", wide)), tmp_path / "frames")
    store.start()
    until(store.ready, lambda ready: ready == [(0, 6)])
    store.jpeg(2, 640)
    until(store.ready, lambda ready: ready == [(0, 6)])
    store.jpeg(2, 320)
    assert store.ahead == 640
    assert sorted(path.name for path in (tmp_path / "frames").glob("*/*")) == ["1000", "320", "640"]
    assert store.ready(320) == [(2, 3)]


def test_a_project_whose_clip_is_gone_says_so(client: TestClient, root: Path, project: dict) -> None:
    (root / "toy.mkv").unlink()
    answer = client.put("/api/projects/toy", json={"rev": project["rev"], "doc": project["doc"]})
    assert answer.status_code == 410
    assert answer.json()["error"] == "toy.mkv, this project's clip, is gone: put it back into the folder."


def test_the_clip_of_the_project_that_was_opened_last_is_decoded_ahead(client: TestClient, root: Path) -> None:
    """Also where it was opened before, and another one since."""
    for name in ("one", "other"):
        write_frames(root / f"{name}.mkv", frames_of())
        client.post("/api/projects", json={"clip": f"{name}.mkv"})
        until(lambda name=name: client.get(f"/api/projects/{name}/frames").json()["ready"], [[0, FRAMES]].__eq__)
    for path in (root / "one.layerlift" / "frames").glob("*/*/*.jpg"):
        path.unlink()
    client.get("/api/projects/one/frames/3")
    client.get("/api/projects/one")
    until(lambda: client.get("/api/projects/one/frames").json()["ready"], [[0, FRAMES]].__eq__)


def test_decoders_are_parked_along_a_long_group_of_pictures(tmp_path: Path) -> None:
    """So that a frame near its end costs a few frames, not all before it; not where one is asked for, or closed."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"g": "300", "preset": "ultrafast"})
        stream.width, stream.height = WIDTH, HEIGHT
        for frame in np.repeat(frames_of(), 20, axis=0):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    opened = open_for_page(path)
    store = FrameStore(opened, tmp_path / "frames")
    assert opened.decoders.empty(239) == [60, 120, 180]

    def cost(index: int) -> int:
        packets: list[None] = []
        opened.frame(index, lambda: packets.append(None))
        return len(packets)

    assert cost(170) > 150
    store.start()
    until(lambda: opened.decoders.empty(0), [].__eq__)
    until(store.ready, [(0, 240)].__eq__)
    assert cost(239) <= 61
    next(iter((tmp_path / "frames").rglob("000200.jpg"))).unlink()
    store.jpeg(200, WIDTH)
    until(lambda: opened.decoders.empty(0), [].__eq__)  # and again, once the page rests
    assert cost(100) < 45
    store.close()
    assert cost(239) > 200
    assert opened.decoders.empty(0) == []


def ask_in_the_middle(store: FrameStore, index: int, runs: Event, looked: Event) -> None:
    """Ask for a frame while one is made ahead, which goes on then: the answer must not take a minute."""
    store.start()
    runs.wait()
    asked = Thread(target=store.jpeg, args=(index, WIDTH))
    asked.start()
    asked.join(0.1)
    looked.set()
    asked.join(20)
    assert not asked.is_alive()
    store.close()


def test_a_run_does_not_rest_while_one_of_its_next_frames_is_waited_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames_module, "PATIENCE", 60.0)
    monkeypatch.setattr(frames_module, "REST", 60.0)
    store, runs, looked = FrameStore(open_for_page(root / "toy.mkv"), tmp_path / "frames"), Event(), Event()
    keep = FrameStore._keep

    def hold(self: FrameStore, path: Path, frame: np.ndarray, width: int) -> bytes:
        runs.set()
        looked.wait(60)
        return keep(self, path, frame, width)

    monkeypatch.setattr(FrameStore, "_keep", hold)
    ask_in_the_middle(store, 8, runs, looked)


def test_nobody_waits_for_a_run_that_has_ended(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decodes ahead is broken off where the user looks elsewhere: who waited for it decodes for themselves."""
    monkeypatch.setattr(frames_module, "PATIENCE", 60.0)
    store, runs, looked = FrameStore(open_for_page(root / "toy.mkv"), tmp_path / "frames"), Event(), Event()

    def run(self: FrameStore, start: int) -> bool:
        self._decoding = start
        runs.set()
        return not looked.wait(60)

    monkeypatch.setattr(FrameStore, "_run_from", run)
    ask_in_the_middle(store, 5, runs, looked)


def test_a_frame_that_nobody_waits_for_any_more_is_given_up(root: Path, tmp_path: Path) -> None:
    store = FrameStore(open_for_page(root / "toy.mkv"), tmp_path / "frames")
    gone = Cancellation()
    gone.cancel()
    with pytest.raises(CancelledError):
        store.jpeg(5, WIDTH, gone)
    assert store.ready() == []
    assert store.jpeg(5, WIDTH)


def test_frames_that_are_stepped_back_to_come_together(root: Path, tmp_path: Path) -> None:
    store = FrameStore(open_for_page(root / "toy.mkv"), tmp_path / "frames")
    store.jpeg(11, WIDTH)
    assert store.ready() == [(11, 12)]
    store.jpeg(10, WIDTH)
    assert store.ready() == [(3, 12)]
    store.jpeg(1, WIDTH)
    assert store.ready() == [(0, 2), (3, 12)]


def test_a_smaller_picture_is_made_of_a_larger_one(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = np.zeros((2, 64, 1000, 3), np.uint8)
    wide[1, :, 500:] = 200
    store = FrameStore(open_for_page(write_frames(root / "wide.mkv", wide)), tmp_path / "frames")
    store.jpeg(1, 1000)
    monkeypatch.setattr(Opened, "frames", None)
    small = cv2.imdecode(np.frombuffer(store.jpeg(1, 320), np.uint8), 0)
    assert small.shape == (20, 320)
    assert np.abs(small[:, [10, 310]].astype(int) - (0, 200)).max() <= 3
    with pytest.raises(TypeError):
        store.jpeg(0, 320)


def test_the_server_never_imports_torch(root: Path) -> None:
    code = (
        "import sys, pathlib; from layerlift.app.context import Context;"
        "from layerlift.app import serve, openapi, machine;"
        "from layerlift.app.shapes import Predict; context = Context.of(pathlib.Path(sys.argv[1]));"
        "project = context.projects.create('toy.mkv'); machine.models(); openapi.document();"
        "context.predictor.ask(project, Predict(0, [(15, 23, True)]), 'a'); context.results.listing(project);"
        "print('torch' in sys.modules); context.close()"
    )
    found = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("False\n", 0), found.stderr


def test_a_clip_that_changed_has_other_frames(client: TestClient, project: dict, root: Path) -> None:
    client.get("/api/projects/toy/frames/3")
    write_frames(root / "other.mkv", 255 - frames_of(5)).replace(root / "toy.mkv")
    again = client.get("/api/projects/toy").json()
    assert (again["facts"]["frames"], again["facts"]["stamp"] != project["facts"]["stamp"]) == (5, True)
    shown = cv2.imdecode(np.frombuffer(client.get("/api/projects/toy/frames/3").content, np.uint8), 0)
    assert abs(int(shown[2, 2]) - (255 - 44)) <= 2


def test_what_is_saved_is_there_for_another_server(client: TestClient, project: dict, root: Path) -> None:
    doc = doc_with(project, marks=[2, 9], view={"frame": 7})
    doc["objects"][0] |= {"name": "<b>dog</b>", "prompts": {"3": {"points": [[5, 6.5, False]], "box": [1, 2, 30, 40]}}}
    rev = save(client, project, doc)
    other = Context.of(root)
    saved = other.projects.get("toy").saved
    assert (saved.rev, saved.doc.marks, saved.doc.view.frame) == (rev, (2, 9), 7)
    assert saved.doc.objects[0].prompts["3"].points == [(5, 6.5, False)]
    assert [recent.name for recent in other.projects.recent()] == ["toy"]
    other.close()
    again = client.post("/api/projects", json={"clip": "toy.mkv"}).json()
    assert (again["name"], again["rev"], again["doc"]["objects"][0]["name"]) == ("toy", rev, "<b>dog</b>")


def test_the_slower_of_two_pages_gets_what_the_faster_one_saved(client: TestClient, project: dict) -> None:
    rev = save(client, {**project}, doc_with(project, view={"frame": 4}))
    answer = client.put("/api/projects/toy", json={"rev": project["rev"], "doc": doc_with(project, view={"frame": 9})})
    assert answer.status_code == 409
    assert (answer.json()["rev"], answer.json()["doc"]["view"]["frame"]) == (rev, 4)
    assert client.get("/api/projects/toy").json()["doc"]["view"]["frame"] == 4


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1}, {"objects": [{"id": 0, "name": "a", "colour": "#ffffff"}]},
        {"objects": [{"id": 1, "name": "", "colour": "#ffffff"}]},
        {"objects": [{"id": 1, "name": "a", "colour": "red;}"}]},
        {"objects": [{"id": 1, "name": "a", "colour": "#ffffff", "prompts": {"x": {"points": []}}}]},
        {"objects": [{"id": 1, "name": "a", "colour": "#ffffff", "prompts": {"0": {"points": [[1, 2]]}}}]},
        {"objects": [{"id": n, "name": "a", "colour": "#ffffff"} for n in range(1, 40)]},
        {"effects": {"threshold": 2}}, {"settings": {"rm -rf": 1}}, {"marks": [1]}, {"view": {"frame": -1}},
        {"effects": {"kinds": ["ghost"]}}, {"settings": {"--steps": [1]}},
    ],
)  # fmt: skip
def test_a_document_that_is_none_is_refused(change: dict, client: TestClient, project: dict) -> None:
    answer = client.put("/api/projects/toy", json={"rev": project["rev"], "doc": {**project["doc"], **change}})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("this request cannot be read")
    assert client.get("/api/projects/toy").json()["rev"] == project["rev"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"clip": 5}', b"[" * 100_000, b'{"clip":"a","x":1}'])
def test_a_body_that_is_no_request_is_refused(body: bytes, client: TestClient) -> None:
    assert client.post("/api/projects", content=body).status_code == 400


def test_too_much_json_is_refused(client: TestClient) -> None:
    assert client.post("/api/projects", content=b'"' + b"x" * (9 << 20) + b'"').status_code == 413


def test_a_project_goes_and_its_clip_stays(client: TestClient, project: dict, root: Path) -> None:
    assert client.delete("/api/projects/toy").status_code == 200
    assert sorted(path.name for path in root.iterdir()) == ["toy.mkv"]
    assert client.get("/api/projects/toy").status_code == 404
    assert client.delete("/api/projects/toy").status_code == 404


def test_a_damaged_project_says_so_and_is_left_alone(client: TestClient, project: dict, root: Path) -> None:
    file = root / "toy.layerlift/project.json"
    file.write_text("{")
    client.app.state = None  # type: ignore[attr-defined]
    other = Context.of(root)
    with TestClient(make_app(other)) as fresh:
        answer = fresh.get("/api/projects/toy")
        assert (answer.status_code, "project.json cannot be read" in answer.text) == (409, True)
        assert fresh.post("/api/projects", json={"clip": "toy.mkv"}).json()["name"] == "toy_2"
        assert [recent["name"] for recent in fresh.get("/api/state").json()["projects"]] == ["toy_2"]
    assert file.read_text() == "{"


def test_what_was_clicked_on_is_found(client: TestClient, project: dict) -> None:
    answer = client.post("/api/projects/toy/predict?tab=a", json={"frame": 0, "points": [[15, 23, True]], "request": 7})
    assert (answer.status_code, answer.headers["x-request"]) == (200, "7")
    mask = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    truth = frames_of()[0, ..., 0] == 255
    assert mask.shape == truth.shape
    assert ((mask > 127) & truth).sum() / ((mask > 127) | truth).sum() > 0.8
    for body in ({"frame": 0}, {"frame": 99, "points": [[1, 1, True]]}, {"frame": 0, "points": [[500, 1, True]]}):
        assert client.post("/api/projects/toy/predict", json=body).status_code in (400, 404), body


def test_state_offers_what_can_be_chosen_in_the_words_of_the_command_line(client: TestClient, project: dict) -> None:
    import typer.main

    state = client.get("/api/state").json()
    assert [clip["path"] for clip in state["clips"]] == ["toy.mkv"]
    assert state["version"] == layerlift.__version__
    assert {"none", "demo", "ltx-2b-0.9.5"} <= {model["name"] for model in state["models"]}
    assert sum(model["default"] for model in state["models"]) == 1
    commands = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]
    known = {
        flag
        for command in commands.values()
        for param in command.params
        for flag in (*param.opts, *param.secondary_opts)
    }
    offered = {option["flag"] for group in state["options"] for option in group["options"]}
    assert len(offered) > 25
    assert offered <= known
    assert not offered & {"--report", "--text-encoder", "--reference", "--overwrite"}


def test_the_api_is_described(client: TestClient) -> None:
    found = client.get("/api").json()
    assert found == json.loads(json.dumps(document()))
    assert found["components"]["schemas"]["Thing"]["properties"]["colour"]["pattern"]
    served = set()
    for route in make_app(Context.of(Path())).routes:
        path = re.sub(r":\w+}", "}", route.path)  # type: ignore[attr-defined]
        served |= {(method.lower(), path) for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    assert ways() == {way for way in served if way[1].startswith("/api")}


def test_a_project_that_a_full_disk_does_not_take_leaves_nothing(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, saved: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(projects, "write_saved", full)
        answer = client.post("/api/projects", json={"clip": "toy.mkv"})
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "no space left on device: look at the folder and its disk."},
    )
    assert not list(root.glob("*.layerlift"))
    assert client.post("/api/projects", json={"clip": "toy.mkv"}).json()["name"] == "toy"
