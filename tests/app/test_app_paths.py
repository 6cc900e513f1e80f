"""Paths that requests name stay below the folder, and files that are sent are taken whole, or not at all."""

import asyncio
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import cv2
import numpy as np
import pytest
import uvicorn
from starlette.testclient import TestClient

from app_server import FRAMES, HEIGHT, WIDTH, doc_with, save, write_mask
from layerlift.app import uploads
from layerlift.app.confined import clean_name, inside
from layerlift.app.context import Context
from layerlift.app.demo import lay_out_demo
from layerlift.app.refusal import RefusalError
from layerlift.app.serve import _Server, serve
from layerlift.app.server import make_app
from layerlift.app.uploads import receive
from layerlift.cli.interrupts import catch_interrupts
from layerlift.errors import InputError, LayerliftError

ESCAPES = [
    "../secret.mkv", "..", ".", "", "/etc/passwd", "a/../../secret.mkv", "a//b", "..\\secret.mkv", "a\\b", "c:/x",
    "a\0b", ".hidden", "a/.hidden/b", "link/secret.mkv", "file-link.mkv", "a\nb", "x" * 300, "%2e%2e/secret.mkv/..",
]  # fmt: skip


@pytest.fixture
def outside(root: Path) -> Path:
    """What lies beside the folder, and links in the folder that lead there."""
    beside = root.parent / "beside"
    beside.mkdir()
    shutil.copy(root / "toy.mkv", beside / "secret.mkv")
    shutil.copy(root / "toy.mkv", root.parent / "secret.mkv")
    (root / "link").symlink_to(beside)
    (root / "file-link.mkv").symlink_to(beside / "secret.mkv")
    return beside


@pytest.mark.parametrize("given", ESCAPES)
def test_no_path_leads_out_of_the_folder(given: str, root: Path, outside: Path) -> None:
    with pytest.raises(RefusalError) as caught:
        inside(root, given)
    assert caught.value.status == 400


def test_a_link_within_the_folder_is_followed(root: Path) -> None:
    (root / "same.mkv").symlink_to(root / "toy.mkv")
    assert inside(root, "same.mkv").read_bytes() == (root / "toy.mkv").read_bytes()


@pytest.mark.parametrize("given", ESCAPES)
def test_no_project_is_opened_for_a_clip_out_of_the_folder(given: str, client: TestClient, outside: Path) -> None:
    answer = client.post("/api/projects", json={"clip": given})
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/json")
    assert not list(outside.parent.rglob("*.layerlift"))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static/%2fetc%2fpasswd",
        "/static/.hidden", "/static//etc/passwd", "/api/projects/..%2fbeside/facts", "/api/projects/%2e%2e/facts",
        "/api/projects/toy/masks/..%2fproject.json", "/api/projects/toy/masks/%2e%2e%2f%2e%2e%2ftoy.mkv",
        "/api/projects/toy/exports/..%2fproject.json", "/api/projects/toy/exports/%2fetc%2fpasswd",
        "/api/projects/toy/results/..%2f..%2ftoy/0", "/api/projects/toy/results/objects/0",
        "/api/projects/toy/results/layer_0%2f..%2f..%2f..%2ftoy/0",
    ],
)  # fmt: skip
def test_no_address_leads_out_of_the_folder(path: str, client: TestClient, project: dict, root: Path) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404), answer.content[:200]
    assert b"root:" not in answer.content
    assert b'"rev"' not in answer.content


def test_an_export_that_is_a_link_is_not_handed_out(
    client: TestClient, project: dict, root: Path, outside: Path
) -> None:
    (root / "toy.layerlift/exports/out.mkv").symlink_to(outside / "secret.mkv")
    assert client.get("/api/projects/toy/exports/out.mkv").status_code == 400
    (root / "toy.layerlift/exports/good file<b>.txt").write_text("good")
    answer = client.get("/api/projects/toy/exports/good file<b>.txt")
    assert (answer.status_code, answer.text) == (200, "good")
    assert answer.headers["content-disposition"] == 'attachment; filename="good_file_b_.txt"'
    assert answer.headers["content-type"] == "application/octet-stream"


def test_masks_and_settings_of_a_document_name_nothing_out_of_the_project(client: TestClient, project: dict) -> None:
    for path in ("masks/../project.json", "../x.png", "/etc/passwd", "masks/a/b.png", "masks/.x", "masks/a\\b"):
        doc = doc_with(project)
        doc["objects"][0]["file"] = path
        answer = client.put("/api/projects/toy", json={"rev": project["rev"], "doc": doc})
        assert answer.status_code == 400, path
    doc = doc_with(project, settings={"--report": "/tmp/x"})
    doc["objects"][0]["prompts"] = {"0": {"points": [[12, 20, True]]}}
    save(client, project, doc)
    answer = client.post("/api/projects/toy/jobs", json={"kind": "track"})
    assert (answer.status_code, "--report is no setting" in answer.text) == (400, True)
    save(client, project, doc_with(project, model="/etc/passwd", settings={}))
    assert client.post("/api/projects/toy/jobs", json={"kind": "effects"}).status_code == 400


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("dog.mp4", "dog.mp4"), ("../../x.mp4", "x.mp4"), ("a\\b\\c.mov", "c.mov"), (".hidden.mp4", "hidden.mp4"),
        ("-rf.mp4", "rf.mp4"), ("<img src=x>.mp4", "img src_x_.mp4"), ("a\0\n.mp4", "a_.mp4"),
        ("日本.mp4", "日本.mp4"),
        ("x" * 500 + ".mp4", "x" * 116 + ".mp4"), ("日" * 99 + ".mp4", "日" * 66 + ".mp4"),
    ],
)  # fmt: skip
def test_an_uploaded_file_gets_a_clean_name(given: str, name: str) -> None:
    assert clean_name(given) == name


@pytest.mark.parametrize("given", ["", ".", "..", "mp4", ".mp4", "a.", "/"])
def test_a_name_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(RefusalError):
        clean_name(given)


def test_a_clip_with_the_longest_name_has_a_project(client: TestClient, root: Path) -> None:
    name = "a" * 251 + ".mkv"
    (root / "toy.mkv").rename(root / name)
    assert client.post("/api/projects", json={"clip": name}).json()["name"] == "a" * 200


@pytest.mark.parametrize("path", ["clips/x.mp4", "projects"])
def test_who_goes_in_the_middle_is_no_fault(context: Context, path: str) -> None:
    """Starlette would tell of it as of a bug, with a traceback in the terminal."""
    sent = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])
    answers = []

    async def receive() -> dict:
        return next(sent)

    async def send(message: dict) -> None:
        answers.append(message.get("status"))

    scope = {
        "type": "http", "method": "PUT" if "x" in path else "POST", "path": f"/api/{path}", "query_string": b"",
        "headers": [], "path_params": {},
    }  # fmt: skip
    anyio.run(make_app(context), scope, receive, send)
    assert answers[0] == 400


def test_a_clip_is_taken_whole_and_takes_no_other_ones_place(client: TestClient, root: Path) -> None:
    content = (root / "toy.mkv").read_bytes()
    for name in ("toy_2.mkv", "toy_3.mkv"):
        answer = client.put("/api/clips/toy.mkv", content=content)
        assert answer.json() == {"path": name}
        assert (root / name).read_bytes() == content
    answer = client.post("/api/projects", json={"clip": "toy_3.mkv"})
    assert answer.json()["facts"]["frames"] == FRAMES
    client.put("/api/clips/bad.mkv", content=b"no clip at all")
    answer = client.post("/api/projects", json={"clip": "bad.mkv"})
    assert (answer.status_code, "cannot be read as a video" in answer.text) == (400, True)
    assert not (root / "bad.layerlift").exists()


def parts(*chunks: bytes, torn: bool = False) -> AsyncIterator[bytes]:
    async def come() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
        if torn:
            raise ConnectionResetError

    return come()


@pytest.mark.parametrize(
    ("chunks", "said", "status"),
    [
        (parts(b"x" * 60, b"x" * 60), None, 413),
        (parts(b"x"), "101", 413),
        (parts(), "0", 400),
        (parts(b"x" * 10), "20", 400),
        (parts(b"x", torn=True), None, 507),
    ],
)
def test_what_is_too_large_or_torn_leaves_nothing(
    chunks: AsyncIterator[bytes], said: str | None, status: int, tmp_path: Path
) -> None:
    with pytest.raises(RefusalError) as caught:
        asyncio.run(receive(chunks, said, tmp_path / "a.mkv", most=100))
    assert caught.value.status == status
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_finds_no_room_is_refused_before_it_is_written(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda path: usage._replace(free=uploads.STAYS_FREE + 9))
    before = sorted(root.iterdir())
    answer = client.put("/api/clips/a.mkv", content=b"ten bytes.")
    assert (answer.status_code, "no room" in answer.json()["error"]) == (507, True)
    assert sorted(root.iterdir()) == before
    assert client.put("/api/clips/a.mkv", content=b"nine byte").status_code == 200


def test_an_upload_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    largest = 0

    async def come() -> AsyncIterator[bytes]:
        nonlocal largest
        for number in range(50):
            yield bytes([number]) * 1000
            written = [path.stat().st_size for path in tmp_path.iterdir()]
            largest = max(largest, (number + 1) * 1000 - sum(written))

    asyncio.run(receive(come(), None, tmp_path / "a.mkv", most=10**6))
    assert (tmp_path / "a.mkv").stat().st_size == 50_000
    assert largest <= 2**17  # what Python buffers of a file, at most


def png_bomb() -> bytes:
    """A small PNG that says it has 9,000 x 9,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def test_a_picture_that_would_fill_the_memory_is_refused(client: TestClient, project: dict, root: Path) -> None:
    answer = client.put("/api/projects/toy/masks/bomb.png", content=png_bomb())
    assert (answer.status_code, "9000x9000" in answer.json()["error"]) == (400, True), answer.text
    assert list((root / "toy.layerlift/masks").iterdir()) == []
    client.put("/api/clips/bomb.png", content=png_bomb())
    assert client.post("/api/projects", json={"clip": "bomb.png"}).status_code == 400


def test_masks_are_taken_that_fit_the_clip_and_no_others(client: TestClient, project: dict, root: Path) -> None:
    painted = np.zeros((HEIGHT, WIDTH), np.uint8)
    painted[10:20, 10:20] = 255
    done, data = cv2.imencode(".png", painted)
    assert done
    answer = client.put("/api/projects/toy/masks/k0.png", content=data.tobytes())
    assert (answer.status_code, answer.json()["path"], answer.json()["frames"]) == (200, "masks/k0.png", 1)
    assert client.get("/api/projects/toy/masks/k0.png").content == data.tobytes()
    moving = write_mask(root.parent / "moving.mkv").read_bytes()
    assert client.put("/api/projects/toy/masks/m.mkv", content=moving).json()["frames"] == FRAMES
    for index in (0, 7):  # a page cannot read a video, and is shown its frames
        answer = client.get(f"/api/projects/toy/masks/m.mkv/{index}?w=640")
        shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), 0)
        assert (shown[16:32, 8 + index : 24 + index] == 255).all()
        assert np.count_nonzero(shown) == 16 * 16
    for path in ("m.mkv/12", "m.mkv/-1", "none.mkv/0"):
        assert client.get(f"/api/projects/toy/masks/{path}").status_code == 404
    short = write_mask(root.parent / "short.mkv", 5).read_bytes()
    for name in ("short.mkv", "m.mkv"):
        answer = client.put(f"/api/projects/toy/masks/{name}", content=short)
        assert (answer.status_code, "has 5 frames" in answer.json()["error"]) == (400, True)
    assert sorted(path.name for path in (root / "toy.layerlift/masks").iterdir()) == ["k0.png", "m.mkv"]


def test_a_server_that_cannot_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        sockets[0].close()
        raise SystemExit(3)  # as uvicorn does where the application does not begin

    monkeypatch.setattr(uvicorn.Server, "run", failing)
    with pytest.raises(LayerliftError, match=r"^the server of the page could not start: see above\.$"):
        serve(tmp_path, say=lambda said: None, show=False)


@pytest.mark.parametrize(("folder", "refused"), [("/proc/demo", LayerliftError), ("a.txt/demo", InputError)])
def test_a_folder_that_cannot_be_made_for_the_demo(
    folder: str, refused: type[LayerliftError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").touch()
    with pytest.raises(LayerliftError) as told:
        lay_out_demo(Path(folder))
    assert type(told.value) is refused


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_ends_the_server_at_its_next_step(name: str, code: int) -> None:
    """uvicorn knows two of them; what the third raised came out of the midst of its loop, as a traceback."""
    told: Any = SimpleNamespace(events=SimpleNamespace(end_soon=lambda: None))
    server = _Server(uvicorn.Config("nothing"), told)
    went_on = False
    with catch_interrupts() as caught, suppress(KeyboardInterrupt), server.capture_signals():
        signal.raise_signal(getattr(signal, name))
        went_on = True
    assert went_on
    assert server.should_exit
    assert caught.code == code


@pytest.mark.parametrize("part", ["masks", "exports", "results/effects.mkv", "frames"])
def test_a_project_with_a_link_out_of_the_folder_is_not_opened(
    client: TestClient, root: Path, project: dict, tmp_path: Path, part: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.png").write_text("secret")
    path = root.joinpath("other.layerlift", part)
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    (root / "other.layerlift" / "project.json").write_text('{"clip": "toy.mkv"}')
    for address in ("", "/masks/secret.png", "/exports/secret.png", "/exports"):
        answer = client.get(f"/api/projects/other{address}")
        assert answer.status_code == 409
        assert answer.json()["error"].startswith(f"other.layerlift/{part} is a link that leads out of the folder")
    path.unlink()
    path.symlink_to(root / "toy.mkv")
    assert client.get("/api/projects/toy").status_code == 200


def test_a_number_of_thousands_of_digits_is_no_address(client: TestClient, project: dict) -> None:
    assert client.get(f"/api/projects/toy/frames/{'9' * 5000}").status_code == 414
    assert client.get(f"/api/projects/toy/frames/{'9' * 3000}").status_code == 404
    assert client.get(f"/static/{'a' * 300}").status_code == 404
