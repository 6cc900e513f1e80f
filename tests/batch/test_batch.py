"""`layerlift batch`, whole: results that are there once, whatever happens, and what is told of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from batch.inline import Inline
from layerlift.batch.ledger import Ledger, Record
from layerlift.batch.page import write_page
from layerlift.cli.batch_board import Board
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene
from layerlift.stages.choose_model import OPEN
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
    # So is what can be no line, and names that clash: all of it at once.
    rows += ['{"clip": "a", "name": "b"}', '{"clip": "a", "name": "B"}', '{"clip": "a", "sead": 3}']
    Path("clips/m.jsonl").write_text("\n".join(rows))
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu") == 2
    said = capsys.readouterr().err
    for line in (
        "line 2: ",
        "line 4: --feather is 9",
        "line 6: name 'B' is that of m.jsonl, line 5, too",
        "line 7: 'sead'",
    ):
        assert f"m.jsonl, {line}" in said
    assert not Path("out").exists()


def test_a_manifest_that_is_not_there_says_what_to_give(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("nothing.csv", "nothing"):
        assert layerlift("batch", name, "-o", "out", "--devices", "cpu") == 2
        assert f"{name} does not exist: give a manifest" in capsys.readouterr().err


@pytest.mark.usefixtures("inline")
def test_a_clip_is_the_same_whichever_way_one_comes_to_it(folder: Path, capsys: pytest.CaptureFixture) -> None:
    Path("link").symlink_to("clips")
    Path("clips/again.yaml").write_text(
        "- clip: ../link/scene_0/../scene_1/video.mkv\n  object: scene_1/object_mask.mkv\n"
    )
    Path("clips/m.yaml").write_text("- {clip: scene_1/video.mkv, object: ../link/scene_1/object_mask.mkv}\n")
    for manifest in ("clips/m.yaml", "link/m.yaml", "link/again.yaml"):
        assert layerlift("batch", manifest, "-o", "out", *FLAGS, "--devices", "cpu", "--plan") == 0
        assert layerlift("batch", manifest, "-o", "out", *FLAGS, "--devices", "cpu") == 0
    assert "1 is done already" in capsys.readouterr().out
    assert [line["name"] for line in results()] == ["scene_1"]
    # One that is said twice is told.
    Path("clips/m.yaml").write_text("- clip: scene_1/video.mkv\n- {clip: ../link/scene_1/video.mkv, seed: 2}\n")
    layerlift("batch", "link/m.yaml", "-o", "out2", *FLAGS, "--devices", "cpu", "--plan")
    assert "scene_1/video.mkv is the clip of m.yaml, line 1, too; this result is scene_1_2" in capsys.readouterr().err


@pytest.mark.usefixtures("inline")
def test_an_interrupted_batch_says_how_it_goes_on(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("layerlift.batch.work.run_clips", interrupted)
    command = ["batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu"]
    for words in (command, [*command, "--resume"]):
        assert layerlift(*words) == 130
        said = capsys.readouterr().err
        assert f"To go on: layerlift {' '.join(command)} --resume" in said


def test_the_whole_counts_what_was_done_before(capsys: pytest.CaptureFixture) -> None:
    board = Board(["cpu"], {"a": 0.0, "b": 3.0}, "batch")
    board.ended(Record("a", "a.mp4", 0, "line 1", 0, "done"))
    assert board.whole() == "batch: 1/2"


@pytest.mark.usefixtures("inline")
def test_a_plan_says_who_gets_what_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert layerlift("batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu", "--plan") == 0
    said = capsys.readouterr().out
    assert "48x32" in said
    assert "3 clips, 15 frames" in said
    assert "on cpu" in said
    assert not Path("out").exists()


@pytest.mark.usefixtures("inline")
def test_shards_do_each_its_own_part_of_one_whole(folder: Path) -> None:
    command = ["batch", "clips/m.jsonl", "-o", "out", *FLAGS, "--devices", "cpu"]
    assert layerlift(*command, "--shard", "2/2") == 0
    assert [line["name"] for line in results()] == ["scene_1"]
    assert layerlift(*command, "--shard", "1/2") == 0
    assert [line["name"] for line in results()] == ["scene_0", "scene_1", "scene_2"]
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0", "1/" + "9" * 5000):
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
    opening = OPEN.get()
    assert commands.run(Inline(), **given, again="out")["code"] == 0
    assert Path("out/report.json").exists()
    assert OPEN.get() == opening, "what is done here next opens its own models"


def test_a_clip_whose_name_is_no_text_is_written_down(tmp_path: Path) -> None:
    name = os.fsdecode(b"gr\xfcn.mkv")
    record = Record("gr-n", name, 0, name, 0, "done", read={name: [1, 2]}, argv=(name,))
    ledger = Ledger(tmp_path)
    ledger.write(record)
    (tmp_path / ".layerlift-batch" / "clips" / "torn.json").write_text('{"name": "to')
    assert ledger.records() == {"gr-n": record}
    assert json.loads((tmp_path / "results.jsonl").read_text("utf-8"))["clip"] == name
    assert "gr" in write_page(tmp_path, [record], 0).read_text("utf-8")
