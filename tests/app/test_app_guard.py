"""Who may ask the server: token, host, origin, and the headers of every answer."""

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app_server import PORT, TOKEN
from layerlift.app.context import Context
from layerlift.app.guard import CSP
from layerlift.app.server import guarded
from layerlift.cli import main

BEARER = {"authorization": f"Bearer {TOKEN}"}


def test_nothing_is_served_without_the_token(plain: TestClient) -> None:
    for path in ("/", "/static/app.js", "/api", "/api/state", "/api/events", "/api/projects/toy", "/nowhere"):
        answer = plain.get(path)
        assert answer.status_code == 401, path
        assert "token" in answer.json()["error"]
    assert plain.get("/api/state", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert plain.get("/api/state", headers={"cookie": f"layerlift-{PORT}=wrong"}).status_code == 401
    assert plain.get("/api/state", headers={"cookie": f"layerlift-{PORT + 1}={TOKEN}"}).status_code == 401
    assert plain.get("/api/state", headers=BEARER).status_code == 200


def test_the_token_in_the_address_becomes_a_cookie_that_scripts_cannot_read(plain: TestClient) -> None:
    assert plain.get("/?token=wrong").status_code == 401
    answer = plain.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"layerlift-{PORT}={TOKEN};")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert plain.get("/api/state").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1.evil.example:{PORT}", "",
             f"user@127.0.0.1:{PORT}", f"10.0.0.1:{PORT}", "127.0.0.1:", f"[::2]:{PORT}"],
)  # fmt: skip
def test_other_hosts_are_refused_so_that_a_name_cannot_be_made_to_lead_here(plain: TestClient, host: str) -> None:
    assert plain.get("/api/state", headers={**BEARER, "host": host}).status_code == 403
    assert plain.get(f"/?token={TOKEN}", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", [f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}", f"127.0.0.1:{PORT}"])
def test_our_own_names_are_taken(plain: TestClient, host: str) -> None:
    assert plain.get("/api/state", headers={**BEARER, "host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1", "http://127.0.0.1",
               f"http://127.0.0.1:{PORT}/x", "file://", "http://[", f"http://[::1:{PORT}", f"http://[x]:{PORT}", "http://",
               f"http://user@127.0.0.1:{PORT}", f"http://127.0.0.1:{PORT}?", f"http://127.0.0.1:{PORT}#"],
)  # fmt: skip
def test_other_origins_are_refused(plain: TestClient, origin: str) -> None:
    assert plain.get("/api/state", headers={**BEARER, "origin": origin}).status_code == 403
    assert plain.post("/api/projects", json={}, headers={**BEARER, "origin": origin}).status_code == 403


def test_a_page_of_another_port_of_this_machine_is_refused_though_its_cookie_is_sent(plain: TestClient) -> None:
    cookie = {"cookie": f"layerlift-{PORT}={TOKEN}"}
    for site in ("cross-site", "same-site"):
        assert plain.get("/api/state", headers={**cookie, "sec-fetch-site": site}).status_code == 403
    for site in ("same-origin", "none"):
        assert plain.get("/api/state", headers={**cookie, "sec-fetch-site": site}).status_code == 200


def test_a_change_needs_an_origin_or_a_token_in_its_head(plain: TestClient) -> None:
    cookie = {"cookie": f"layerlift-{PORT}={TOKEN}"}
    body = {"clip": "toy.mkv"}
    assert plain.post("/api/projects", json=body, headers=cookie).status_code == 403
    assert plain.put("/api/clips/a.mkv", content=b"x", headers=cookie).status_code == 403
    assert plain.delete("/api/projects/toy", headers=cookie).status_code == 403
    ours = {**cookie, "origin": f"http://127.0.0.1:{PORT}"}
    assert plain.post("/api/projects", json=body, headers=ours).status_code == 200


def test_every_answer_has_the_headers_and_none_lets_other_sites_read_it(plain: TestClient) -> None:
    answers = [
        plain.get("/"),
        plain.get(f"/?token={TOKEN}"),
        plain.get("/api/state"),
        plain.get("/nowhere", headers=BEARER),
        plain.get("/api/state", headers={**BEARER, "host": "evil.example"}),
        plain.options("/api/state", headers={**BEARER, "origin": f"http://127.0.0.1:{PORT}"}),
    ]
    for answer in answers:
        assert answer.headers["content-security-policy"] == CSP
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "unsafe" not in CSP
    assert "script-src 'self'" in CSP
    assert plain.get("/api/state").headers["cache-control"] == "no-store"


def test_a_server_for_other_machines_takes_addresses_but_no_foreign_names(context: Context) -> None:
    app = guarded(context, TOKEN, PORT, ["127.0.0.1", "studio"], any_address=True)
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}") as client:
        for host, status in (("192.168.0.7", 200), ("studio", 200), ("evil.example", 403)):
            assert client.get("/api/state", headers={**BEARER, "host": f"{host}:{PORT}"}).status_code == status


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines in, without encryption: add --token"),
        (["--host", "0.0.0.0", "--token", "short"], "--token is too short"),
        (["--token", "has a space in it"], "--token is too short or has other characters"),
        (["nowhere"], "nowhere does not exist: give a folder, or a clip."),
    ],
)
def test_the_command_refuses(
    words: list[str], said: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as caught:
        main(["app", "--no-open", *words])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_real_server_listens_to_this_machine_alone_with_a_random_token_and_ends_on_a_signal(root: Path) -> None:
    import psutil

    command = [sys.executable, "-m", "layerlift", "app", str(root), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(line.strip() for line in server.stdout if line.startswith("http"))
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{32,})", address)
            assert found is not None, address
            head = {"Authorization": f"Bearer {found[2]}"}
            events = urllib.request.urlopen(
                urllib.request.Request(f"http://127.0.0.1:{found[1]}/api/events", None, head)
            )
            assert events.readline() == b"retry: 1000\n"
            listening = [at.laddr for at in psutil.Process(server.pid).net_connections() if at.status == "LISTEN"]
            assert [(at.ip, at.port) for at in listening] == [("127.0.0.1", int(found[1]))]
        finally:
            server.send_signal(signal.SIGTERM)
            _, err = server.communicate()
    events.close()
    assert (server.returncode, err) == (143, "layerlift: interrupted.\n")
