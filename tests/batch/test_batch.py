"""`layerlift batch`, whole: results that are there once, whatever happens, and what is told of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batch.inline import Inline
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene
from layerlift.workers import commands
from support import files, layerlift

FLAGS = ("--model", "none", "--lossless")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(3):
        write_scene(make_scene(number, 48, 32, 5), folder / f"scene_{number}")
    return folder


@pytest.fixture
def folder(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three clips with their masks and a manifest in the current folder."""
    shutil.copytree(scenes, tmp_path / "clips")
    rows = [
        {"clip": f"scene_{n}/video.mkv", "object": f"scene_{n}/object_mask.mkv", "total": f"scene_{n}/total_mask.mkv"}
        for n in range(3)
    ]
    (tmp_path / "clips" / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are done in this process, which has imported already what a worker would import."""
    from layerlift.cli import batch_executors

    monkeypatch.setattr(batch_executors, "LocalExecutor", lambda devices: Inline())


def results(out: str | Path = "out") -> list[dict]:
    return [json.loads(line) for line in (Path(out) / "results.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_every_clip_has_its_result_once_however_often_the_batch_is_run(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu") == 0
    assert files("out") == [".layerlift-batch", "index.html", "results.jsonl", "scene_0", "scene_1", "scene_2"]
    first = results()
    assert [(line["name"], line["state"], line["frames"], line["tries"]) for line in first] == [
        (f"scene_{n}", "done", 5, 1) for n in range(3)
    ]
    report = json.loads(Path("out/scene_1/report.json").read_text())
    assert report["results"]["key"] == first[1]["key"]
    page = Path("out/index.html").read_text()
    assert [f'src="scene_{n}/contact_sheet.png"' in page for n in range(3)] == [True] * 3
    capsys.readouterr()

    # Again: nothing is made, and no line is added, also where the records are lost.
    made = {path: path.stat().st_mtime_ns for path in Path("out").glob("scene_*/*")}
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu") == 0
    shutil.rmtree("out/.layerlift-batch")
    Path("out/results.jsonl").unlink()
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu") == 0
    assert {path: path.stat().st_mtime_ns for path in Path("out").glob("scene_*/*")} == made
    assert [line["key"] for line in results()] == [line["key"] for line in first]

    # A clip that changes, and an option: its result is not replaced unasked, and then it alone.
    before = Path("clips/m.jsonl").read_text()
    Path("clips/m.jsonl").write_text(before.replace('{"clip": "scene_1', '{"feather": 1, "clip": "scene_1'))
    capsys.readouterr()
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu") == 2
    assert "m.jsonl, line 2: " in (said := capsys.readouterr().err)
    assert "add --overwrite" in said
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu", "--overwrite") == 0
    changed = {path.parent.name for path, when in made.items() if path.stat().st_mtime_ns != when}
    assert changed == {"scene_1"}
    assert [line["key"] == old["key"] for line, old in zip(results(), first, strict=True)] == [True, False, True]


@pytest.mark.usefixtures("inline")
def test_a_clip_that_fails_is_set_aside_and_the_rest_are_done(folder: Path, capsys: pytest.CaptureFixture) -> None:
    # Where its job would be lies something else, which its check does not look at.
    theirs = Path("out/.scene_1.layerlift-job/theirs")
    theirs.mkdir(parents=True)
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu", "--retries", "1") == 1
    told = {line["name"]: line for line in results()}
    assert {name: line["state"] for name, line in told.items()} == {
        "scene_0": "done",
        "scene_1": "failed",
        "scene_2": "done",
    }
    assert told["scene_1"]["message"]
    said = capsys.readouterr()
    assert "holds something else than a job" in said.err
    assert "scene_1 " in said.out
    assert "scene_1: failed" in Path("out/index.html").read_text()
    theirs.rmdir()
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu") == 0
    assert [line["state"] for line in results()] == ["done"] * 3


@pytest.mark.usefixtures("inline")
def test_every_wrong_line_is_told_and_nothing_is_started(folder: Path, capsys: pytest.CaptureFixture) -> None:
    rows = Path("clips/m.jsonl").read_text().splitlines()
    rows[1] = '{"clip": "nothing.mp4", "object": "scene_1/object_mask.mkv"}'
    rows += ['{"clip": "scene_2/video.mkv", "object": "scene_2/object_mask.mkv", "feather": 9, "dilate": 3}']
    Path("clips/m.jsonl").write_text("\n".join(rows))
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu") == 2
    said = capsys.readouterr().err
    assert "m.jsonl, line 2: " in said
    assert "m.jsonl, line 4: --feather is 9" in said
    assert "2 of 4 lines" in said
    assert not Path("out").exists()
    # What no line can be is told before any clip is looked at.
    Path("clips/m.jsonl").write_text("\n".join([*rows, '{"clip": "a", "name": "b"}', '{"clip": "a", "name": "B"}']))
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu") == 2
    assert "name 'B' is that of m.jsonl, line 5, too" in capsys.readouterr().err


@pytest.mark.usefixtures("inline")
def test_a_plan_says_who_gets_what_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu", "--plan") == 0
    said = capsys.readouterr().out
    assert "48x32" in said
    assert "3 clips, 15 frames" in said
    assert "on 1 worker" in said
    assert not Path("out").exists()


@pytest.mark.usefixtures("inline")
def test_shards_do_each_its_own_part_of_one_whole(folder: Path) -> None:
    command = ["batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu"]
    assert layerlift(*command, "--shard", "2/2") == 0
    assert [line["name"] for line in results()] == ["scene_1"]
    assert layerlift(*command, "--shard", "1/2") == 0
    assert [line["name"] for line in results()] == ["scene_0", "scene_1", "scene_2"]
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0"):
        assert layerlift(*command, "--shard", wrong) == 2


def works_since(began: float) -> bool:
    """Whether a clip has been begun."""
    return any(path.stat().st_mtime > began for path in Path("out").glob(".scene_*.layerlift-job/steps/*"))


@pytest.mark.slow
def test_a_batch_that_is_killed_goes_on(folder: Path) -> None:
    command = [sys.executable, "-m", "layerlift", "batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu,cpu"]
    for number in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen([*command, "--resume"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        began = time.time()
        while not works_since(began) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait() in (-signal.SIGKILL, 130, 0)
    done = subprocess.run([*command, "--resume"], check=False, env={**os.environ})
    assert done.returncode == 0
    assert [(line["name"], line["state"]) for line in results()] == [(f"scene_{n}", "done") for n in range(3)]
    assert files("out") == [".layerlift-batch", "index.html", "results.jsonl", "scene_0", "scene_1", "scene_2"]


def test_a_job_of_a_machine_that_is_gone_is_taken_over_by_another_try(folder: Path) -> None:
    (call,) = Path("clips").glob("scene_0/video.mkv")
    lock = Path(".out.layerlift-job/lock")
    lock.parent.mkdir()
    lock.write_text("01234567-1-01234567")  # of a host that is not this one
    masks = ["--object", "clips/scene_0/object_mask.mkv", "--total", "clips/scene_0/total_mask.mkv"]
    given = {"argv": ["run", str(call), *masks, *FLAGS, "-o", "out"], "log": "log"}
    assert commands.run(Inline(), **given)["code"] == 2
    assert commands.run(Inline(), **given, again="out")["code"] == 0
    assert Path("out/report.json").exists()
