"""A folder with a small clip, and a server for it in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app_server import PORT, TOKEN, frames_of, write_frames
from layerlift.app.context import Context
from layerlift.app.server import guarded


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    write_frames(folder / "toy.mkv", frames_of())
    return folder


@pytest.fixture
def context(root: Path) -> Iterator[Context]:
    made = Context.of(root)
    yield made
    made.close()


@pytest.fixture
def plain(context: Context) -> Iterator[TestClient]:
    """A client that has no token."""
    app = guarded(context, TOKEN, PORT, ["127.0.0.1", "localhost", "::1"])
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False) as client:
        yield client


@pytest.fixture
def client(plain: TestClient) -> TestClient:
    """A client that has it."""
    plain.headers["authorization"] = f"Bearer {TOKEN}"
    return plain


@pytest.fixture
def project(client: TestClient) -> dict:
    answer = client.post("/api/projects", json={"clip": "toy.mkv"})
    assert answer.status_code == 200, answer.text
    return answer.json()
