"""Jobs: the queue, what is told of progress, and what becomes of jobs that are stopped, crash, or lose their server."""

import os
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from starlette.testclient import TestClient

from app_server import FRAMES, HEIGHT, WIDTH, doc_with, ended, frames_of, save, until, write_frames, write_mask
from layerlift.app import child
from layerlift.app.commands import Commands
from layerlift.app.context import Context
from layerlift.app.results import spans_of
from layerlift.app.seen import Seen
from layerlift.app.settings import words_of
from layerlift.app.shapes import Doc
from layerlift.cli.app import app as command_line

# In place of `layerlift`: does what the file `orders` says, tells of two steps, and notes what it was called with.
STAND_IN = """
    import json, os, pathlib, signal, sys, time
    here = pathlib.Path(sys.argv[1])
    words = sys.argv[2:]
    orders = (here / "orders").read_text()
    with (here / "calls").open("a") as calls:
        calls.write(json.dumps(words) + "\\n")
    pipe = int(os.environ["LAYERLIFT_PROGRESS"])
    tell = lambda **what: os.write(pipe, json.dumps(what).encode() + b"\\n")
    tell(stage="look", total=2)
    tell(done=1)
    (here / "pid").write_text(str(os.getpid()))
    if "wait" in orders:
        sys.stdin.read()
        sys.exit(143)
    if "crash" in orders:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "memory" in orders:
        os.kill(os.getpid(), signal.SIGKILL)
    if "refuse" in orders:
        print("layerlift: the threshold is <b>wrong</b>.", file=sys.stderr)
        sys.exit(2)
    print("a note", file=sys.stderr)
    tell(done=2)
    target = pathlib.Path(words[words.index("-o") + 1])
    target.parent.mkdir(exist_ok=True)
    target.write_bytes((here / "made").read_bytes())
    print(f"wrote {target}")
"""


@pytest.fixture
def stand_in(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "stand_in"
    folder.mkdir()
    (folder / "program.py").write_text(textwrap.dedent(STAND_IN))
    (folder / "orders").write_text("")
    (folder / "made").write_bytes(write_mask(tmp_path / "mask.mkv").read_bytes())
    monkeypatch.setattr(child, "PROGRAM", (sys.executable, str(folder / "program.py"), str(folder)))
    return folder


@pytest.fixture
def clicked(client: TestClient, project: dict) -> dict:
    """A project with a click on its square."""
    doc = doc_with(project)
    doc["objects"][0]["prompts"] = {"0": {"points": [[15.04, 23, True], [60, 40, False]]}}
    save(client, project, doc)
    return {**project, "doc": doc}


def start(client: TestClient, kind: str, **options: object) -> dict:
    answer = client.post("/api/projects/toy/jobs", json={"kind": kind, "options": options})
    assert answer.status_code == 201, answer.text
    return answer.json()


def calls(stand_in: Path) -> list[list[str]]:
    import json

    return [json.loads(line) for line in (stand_in / "calls").read_text().splitlines()]


def running(context: Context, job: dict, stand_in: Path) -> int:
    """Wait until a job's command is at its second step; returns the number of its process."""
    until(lambda: next(j for j in context.jobs.all() if j.id == job["id"]), lambda j: j.done == 1)
    until((stand_in / "pid").exists)
    return int(until((stand_in / "pid").read_text))


def test_a_job_runs_the_command_that_can_be_copied(
    client: TestClient, context: Context, clicked: dict, stand_in: Path, root: Path
) -> None:
    shown = client.get("/api/projects/toy/command?kind=track").json()["command"].splitlines()
    assert shlex.split(shown[0]) == ["cd", str(root)]
    job = start(client, "track")
    done = ended(context, job["id"])
    assert (done.state, done.stage, done.stages) == ("done", "look", ["track: look"])
    assert (done.message, done.notes, done.made) == (
        "wrote toy.layerlift/results/objects.mkv", ["a note"], ["toy.layerlift/results/objects.mkv"]
    )  # fmt: skip
    assert ["layerlift", *calls(stand_in)[0]] == shlex.split(shown[1])
    assert job["command"] == shown[1]
    assert calls(stand_in)[0] == [
        "segment", "toy.mkv", "--object", "square=15,23@0 not:60,40@0", "-o", "toy.layerlift/results/objects.mkv",
        "--labels", "--overwrite",
    ]  # fmt: skip
    results = client.get("/api/projects/toy").json()["results"]
    assert (results["objects"]["stale"], results["objects"]["of"]) == (False, [1])


def test_every_command_is_one_that_the_command_line_takes(client: TestClient, clicked: dict, root: Path) -> None:
    import typer.main

    settings = {"--segmenter": "classic", "--evidence": "only", "--no-cache": True, "--crop": False, "--edge": 3,
                "--offset": "4,-2", "--max-distance": 30}  # fmt: skip
    save(client, clicked, {**clicked["doc"], "settings": settings, "model": "none"})
    lines = client.get("/api/projects/toy/command?kind=run").json()["command"].splitlines()[1:]
    commands = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]
    for line in lines:
        words = shlex.split(line)[1:]
        with commands[words[0]].make_context(words[0], words[1:], resilient_parsing=False) as parsed:
            assert parsed.params
    assert [shlex.split(line)[1] for line in lines] == ["segment", "mask", "remove", "extract", "compose"]
    assert "--no-crop" in lines[2]
    assert "--offset=4,-2" in lines[4]


def test_every_result_is_saved_in_every_format_by_a_command_that_the_command_line_takes(
    client: TestClient, clicked: dict, root: Path
) -> None:
    import typer.main

    results = root / "toy.layerlift/results"
    for name in ("plate", "composite", "effects", "layer"):
        (results / f"{name}.mkv").touch()
    commands = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]
    presets = client.get("/api/state").json()["presets"]
    assert {one["for"] for one in presets} == {"layers", "plate", "composite", "mask"}
    for one in presets:
        answer = client.get(f"/api/projects/toy/command?kind=export&preset={one['name']}&of={one['for']}&all=0")
        words = shlex.split(answer.json()["command"].splitlines()[-1])[1:]
        assert f"exports/toy_{one['for'].removesuffix('s')}" in words[words.index("-o") + 1]
        with commands[words[0]].make_context(words[0], words[1:], resilient_parsing=False) as parsed:
            assert parsed.params


def test_a_stage_runs_again_only_when_what_it_is_made_of_changed(
    client: TestClient, context: Context, clicked: dict, stand_in: Path
) -> None:
    ended(context, start(client, "effects")["id"])
    assert [words[0] for words in calls(stand_in)] == ["segment", "mask"]
    save(client, clicked, {**clicked["doc"], "effects": {"threshold": 0.5}})
    assert client.get("/api/projects/toy/results").json()["effects"]["stale"]
    ended(context, start(client, "effects")["id"])
    assert [words[0] for words in calls(stand_in)] == ["segment", "mask", "mask"]
    assert "--threshold=0.5" in calls(stand_in)[2]
    assert not client.get("/api/projects/toy/results").json()["effects"]["stale"]
    clicked["doc"]["objects"][0]["prompts"]["0"]["points"][0][0] = 16
    save(client, clicked, clicked["doc"])
    stale = client.get("/api/projects/toy/results").json()
    assert (stale["objects"]["stale"], stale["effects"]["stale"]) == (True, True)


def test_a_cancelled_job_ends_within_a_step_and_goes_on(
    client: TestClient, context: Context, clicked: dict, stand_in: Path, root: Path
) -> None:
    ended(context, start(client, "track")["id"])
    (stand_in / "orders").write_text("wait")
    (stand_in / "pid").unlink()
    job = start(client, "effects")
    pid = running(context, job, stand_in)
    assert client.post(f"/api/jobs/{job['id']}/resume").status_code == 409
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 409
    assert client.delete("/api/projects/toy").status_code == 409
    client.post(f"/api/jobs/{job['id']}/cancel")
    done = ended(context, job["id"])
    assert (done.state, done.resumable) == ("cancelled", True)
    assert not psutil.pid_exists(pid)
    assert client.post(f"/api/jobs/{job['id']}/cancel").status_code == 409
    (stand_in / "orders").write_text("")
    again = client.post(f"/api/jobs/{job['id']}/resume").json()
    assert again["state"] in ("waiting", "running", "done"), again["message"]
    assert ended(context, job["id"]).state == "done"
    assert calls(stand_in)[-1] == [*calls(stand_in)[-2], "--resume"]


@pytest.mark.parametrize(
    "ending",
    [
        ("crash", f"it crashed (signal {int(signal.SIGSEGV)}); what is done so far is kept."),
        ("memory", "the system ended it, most likely because memory ran out: give it less with --memory."),
        ("refuse", "the threshold is <b>wrong</b>."),
    ],
)
def test_a_command_that_fails_is_told_and_the_next_one_runs(
    ending: tuple[str, str], client: TestClient, context: Context, clicked: dict, stand_in: Path
) -> None:
    order, said = ending
    (stand_in / "orders").write_text(order)
    done = ended(context, start(client, "track")["id"])
    assert (done.state, done.message, done.resumable) == ("failed", said, True)
    (stand_in / "orders").write_text("")
    assert ended(context, start(client, "track")["id"]).state == "done"


def test_what_computes_does_not_wait_for_a_download(
    client: TestClient, context: Context, clicked: dict, stand_in: Path
) -> None:
    (stand_in / "orders").write_text("wait")
    download = start(client, "download", model="sam2-tiny")
    until(lambda: client.get("/api/jobs").json()[0]["done"])
    (stand_in / "orders").write_text("")
    other = start(client, "download", model="sam2-small")
    assert ended(context, start(client, "track")["id"]).state == "done"
    assert [job["state"] for job in client.get("/api/jobs").json()] == ["running", "waiting", "done"]
    client.post(f"/api/jobs/{other['id']}/cancel")
    client.post(f"/api/jobs/{download['id']}/cancel")
    assert ended(context, download["id"]).state == "cancelled"


def test_jobs_wait_for_each_other_and_one_that_waits_is_cancelled_at_once(
    client: TestClient, context: Context, clicked: dict, stand_in: Path, root: Path
) -> None:
    (stand_in / "orders").write_text("wait")
    first, second, third = (start(client, "track") for _ in range(3))
    running(context, first, stand_in)
    states = {job["id"]: job["state"] for job in client.get("/api/jobs").json()}
    assert [states[job["id"]] for job in (first, second, third)] == ["running", "waiting", "waiting"]
    assert client.post(f"/api/jobs/{second['id']}/cancel").json()["state"] == "cancelled"
    (stand_in / "orders").write_text("")
    client.post(f"/api/jobs/{first['id']}/cancel")
    assert ended(context, third["id"]).state == "done"
    assert len(calls(stand_in)) == 2
    kept = [root / f"toy.layerlift/results/.{name}.mkv.layerlift-job" for name in ("objects", "layer_0", "composite")]
    for folder in kept:
        folder.mkdir()
    assert client.delete(f"/api/jobs/{second['id']}").status_code == 200
    assert not any(folder.exists() for folder in kept)
    assert second["id"] not in {job["id"] for job in client.get("/api/jobs").json()}


def test_jobs_of_a_server_that_was_killed_are_interrupted_and_go_on(
    client: TestClient, context: Context, clicked: dict, stand_in: Path, root: Path
) -> None:
    ended(context, start(client, "track")["id"])
    (stand_in / "orders").write_text("wait")
    (stand_in / "pid").unlink()
    job = start(client, "effects")
    waiting = start(client, "plate")
    running(context, job, stand_in)
    other = Context.of(root)  # what the files say is all that is left of a server that was killed
    found = {known.id: known for known in other.jobs.all()}
    assert (found[job["id"]].state, found[job["id"]].resumable) == ("interrupted", True)
    assert (found[waiting["id"]].state, found[waiting["id"]].resumable) == ("interrupted", True)
    context.jobs.close()
    (stand_in / "orders").write_text("")
    other.jobs.resume(job["id"])
    assert ended(other, job["id"]).state == "done"
    assert calls(stand_in)[-1][-1] == "--resume"
    other.close()


def test_the_end_of_the_server_ends_the_command_that_runs(
    client: TestClient, context: Context, clicked: dict, stand_in: Path
) -> None:
    (stand_in / "orders").write_text("wait")
    job = start(client, "track")
    pid = running(context, job, stand_in)
    context.jobs.close()
    done = ended(context, job["id"])
    assert (done.state, done.resumable) == ("interrupted", True)
    assert not psutil.pid_exists(pid)


STARTED = """
    import time
    from layerlift.cli.interrupts import catch_interrupts
    from layerlift.cli.terminal import show_progress
    with catch_interrupts():
        with show_progress() as progress, progress.stage("work", None) as bar:
            while True:
                bar.advance()
                time.sleep(0.01)
"""


@pytest.mark.parametrize("lost", ["standard input", "pipe"])
def test_a_real_command_ends_when_whoever_started_it_is_gone(lost: str) -> None:
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STARTED)], stdin=subprocess.PIPE, pass_fds=[write],
        env={**os.environ, child.PIPE: str(write)}, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(write)
        assert os.read(read, 100).startswith(b'{"stage": "work", "total": null}')
        if lost == "pipe":
            os.close(read)
        else:
            process.stdin.close()  # type: ignore[union-attr]
            process.stdin = None
        process.communicate()
    assert process.returncode != 0
    if lost != "pipe":
        os.close(read)


def test_a_real_job_saves_a_result_in_another_format(
    client: TestClient, context: Context, project: dict, root: Path
) -> None:
    write_frames(root / "toy.layerlift/results/plate.mkv", frames_of())
    job = start(client, "export", preset="plate-png")
    done = ended(context, job["id"])
    assert (done.state, done.message) == ("done", "wrote toy.layerlift/exports/toy_plate")
    assert done.stages == ["export: save"]
    saved = sorted((root / "toy.layerlift/exports/toy_plate").iterdir())
    assert len(saved) == FRAMES
    assert np.array_equal(cv2.imread(str(saved[3]))[..., ::-1], frames_of()[3])
    assert [(at["file"], at["folder"]) for at in client.get("/api/projects/toy/exports").json()] == [
        ("toy_plate", True)
    ]
    packed = client.get("/api/projects/toy/exports/toy_plate")
    assert (packed.content[:2], packed.headers["content-type"]) == (b"PK", "application/zip")
    for options in ({"preset": "nothing"}, {"preset": "plate-mp4", "of": "../../toy"}, {"preset": "mask-png"}):
        assert client.post("/api/projects/toy/jobs", json={"kind": "export", "options": options}).status_code in (
            400,
            404,
        )


def test_results_are_shown_as_the_pictures_that_they_are(
    client: TestClient, context: Context, clicked: dict, root: Path
) -> None:
    results = root / "toy.layerlift/results"
    labels = np.repeat((frames_of() == 255).any(-1, keepdims=True), 3, -1).astype(np.uint8)
    write_frames(results / "objects.mkv", labels)
    colours = np.zeros_like(labels)
    colours[:, :8, :8], colours[:, 8:16, :8], colours[:, 16:24, :8] = (0, 255, 0), (255, 0, 255), (255, 255, 0)
    write_frames(results / "source.mkv", colours)
    write_mask(results / "effects.mkv")
    doc = context.projects.get("toy").saved.doc
    for stage in ("track", "effects"):
        context.results.note_made(context.projects.get("toy"), stage, doc)

    def shown(name: str, index: int) -> np.ndarray:
        answer = client.get(f"/api/projects/toy/results/{name}/{index}?v=1")
        assert answer.status_code == 200, answer.text
        return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)

    assert np.array_equal(shown("objects", 4), labels[4, ..., 0])
    assert [int(shown("source", 2)[row, 3]) for row in (3, 11, 19, 40)] == [1, 3, 2, 0]
    assert np.array_equal(shown("effects", 5) > 127, labels[5, ..., 0] > 0)
    listed = client.get("/api/projects/toy/results").json()
    assert listed["objects"]["present"] == {"1": [[0, FRAMES]]}
    assert listed["effects"]["present"] == {"1": []}
    assert client.get("/api/projects/toy/results/plate/0").status_code == 404
    assert client.get("/api/projects/toy/results/source/99").status_code == 404


def test_every_object_has_its_own_effects_and_layer(
    client: TestClient, context: Context, project: dict, root: Path
) -> None:
    doc = doc_with(project)
    doc["objects"] = [
        {**doc["objects"][0], "id": number, "prompts": {"0": {"points": [[5, 5, True]]}}} for number in (4, 2)
    ]
    save(client, project, doc)
    results = root / "toy.layerlift/results"
    labels = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    labels[:, :20], labels[:, 30:] = 1, 2
    write_frames(results / "objects.mkv", labels)
    for name, row in (("effects", 24), ("effects_0", 22), ("effects_1", 26)):
        mask = np.zeros_like(labels)
        mask[:, row] = 255
        write_frames(results / f"{name}.mkv", mask)
    for name in ("layer_0", "layer_1"):
        write_frames(results / f"{name}.mkv", labels)
    for stage in ("track", "effects"):
        context.results.note_made(context.projects.get("toy"), stage, context.projects.get("toy").saved.doc)

    listed = client.get("/api/projects/toy/results").json()
    assert [listed[f"layer_{number}"]["object"] for number in (0, 1)] == [4, 2]
    assert {"effects_4", "effects_2"} <= set(listed)
    for name, row in (("effects", 24), ("effects_4", 22), ("effects_2", 26)):
        answer = client.get(f"/api/projects/toy/results/{name}/3?v=1")
        found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), 0)
        assert np.flatnonzero(found.any(1)).tolist() == [row], name
    for name in ("effects_9", "effects_", "effects_x"):
        assert client.get(f"/api/projects/toy/results/{name}/3").status_code == 404


def test_any_threshold_is_drawn_from_what_was_seen_of_an_object(
    client: TestClient, context: Context, project: dict, root: Path
) -> None:
    from layerlift.finder.decide import wanted
    from layerlift.jobs.shelf import Shelf

    likely = (
        np.random.default_rng(0).dirichlet(np.ones(5), (2, FRAMES, 6, 8)).transpose(0, 1, 4, 2, 3).astype(np.float16)
    )
    with Shelf(root / "toy.layerlift/results/seen/made/seen-0") as shelf:
        shelf.put(0, likely[:, :, 0] > 2, likely)
    opened, seen = context.projects.get("toy"), Seen()
    for kinds in ([], ["shadow"], ["light", "smoke"]):
        truth = 255 * wanted(likely, kinds or ("shadow", "reflection", "light", "smoke"))
        for number in (0, 1):
            assert np.abs(seen.sure_at(opened, 7, number, kinds) - truth[number, 7]).max() <= 0.51
        assert np.abs(seen.sure_at(opened, 7, None, kinds) - truth[:, 7].max(0)).max() <= 0.51
        address = f"/api/projects/toy/results/effects/7?w=64&kinds={','.join(kinds)}"
        shown = cv2.imdecode(np.frombuffer(client.get(address).content, np.uint8), 0)
        sure = seen.sure_at(opened, 7, None, kinds)
        assert sure is not None
        assert np.array_equal(shown, cv2.resize(sure, (WIDTH, HEIGHT)))
    assert seen.sure_at(opened, 7, 2, []) is None


def test_objects_are_named_so_that_a_command_line_takes_them(root: Path) -> None:
    things = [
        {"id": 1, "name": "my dog", "colour": "#ffffff",
         "prompts": {"0": {"points": [[1, 2, True]], "box": [1, 2, 3, 4]}}},
        {"id": 2, "name": "--report=x", "colour": "#ffffff", "masks": {"3": "masks/k.png"}},
        {"id": 3, "name": "my dog", "colour": "#ffffff", "file": "masks/f.mkv"},
        {"id": 4, "name": "=@'", "colour": "#ffffff", "prompts": {"2": {"points": [[5, 6, True]]}}},
        {"id": 5, "name": "my_dog_6", "colour": "#ffffff", "prompts": {"2": {"points": [[7, 8, True]]}}},
        {"id": 6, "name": "my dog", "colour": "#ffffff", "prompts": {"2": {"points": [[9, 0, True]]}}},
    ]  # fmt: skip
    import msgspec

    folder = root / "toy.layerlift"
    (folder / "masks").mkdir(parents=True)
    (folder / "masks/k.png").write_bytes(b"")
    (folder / "masks/f.mkv").write_bytes(b"")
    commands = Commands(root, folder, "toy.mkv", msgspec.convert({"objects": things}, Doc))
    words = list(commands.stage("track", {}).words)
    assert words[2:12] == [
        "--object", "my_dog=1,2@0 1,2,3,4@0", "--object", "object_4=5,6@2", "--object", "my_dog_6=7,8@2",
        "--object", "my_dog_6_6=9,0@2", "--keyframe", "--reportx=toy.layerlift/masks/k.png@3",
    ]  # fmt: skip
    assert commands.order() == [1, 4, 5, 6, 2, 3]
    assert commands.stage("effects", {}).words[2:6] == (
        "--object", "toy.layerlift/results/objects.mkv", "--object", "toy.layerlift/masks/f.mkv"
    )  # fmt: skip


def test_a_clip_whose_name_looks_like_a_flag(root: Path) -> None:
    import msgspec

    doc = msgspec.convert({"objects": [{"id": 1, "name": "a", "colour": "#ffffff"}]}, Doc)
    folder = root / "-o.layerlift"
    (folder / "results").mkdir(parents=True)
    (folder / "results/plate.mkv").write_bytes(b"")
    commands = Commands(root, folder, "-o.mkv", doc)
    for step in (commands.stage("composite", {}), commands.export({"preset": "plate-mp4"})):
        assert [word for word in step.words if word.startswith("-o.")] == []
        assert step.makes is not None
        assert (root / step.makes).is_relative_to(folder)


def test_settings_become_words_and_wrong_ones_are_refused() -> None:
    given = {"--steps": 4, "--crop": True, "--no-cache": False, "--memory": 2.5, "--refine": "none", "--dense": True}
    assert words_of("remove", given) == ["--steps=4", "--crop", "--memory=2.5", "--dense"]
    assert words_of("mask", given) == ["--memory=2.5", "--refine=none"]
    for flag, value in (("--steps", "4; rm"), ("--steps", True), ("--refine", "x"), ("--layers", "a\nb"), ("--x", 1)):
        with pytest.raises(Exception, match=f"{flag} is"):
            words_of("remove", {flag: value})


def test_spans_are_first_and_end() -> None:
    assert spans_of([False, True, True, False, True]) == [(1, 3), (4, 5)]
    assert spans_of([]) == []
