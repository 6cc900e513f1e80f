"""A batch as an array job of a real Slurm: a clip that fails, and a task that is put into the queue again."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene


def asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def there_is_slurm() -> bool:
    return (
        shutil.which("sinfo") is not None
        and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not there_is_slurm(), reason="there is no Slurm here")
def test_a_clip_that_fails_is_told_and_a_task_that_is_requeued_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    rows = []
    for number in range(3):
        write_scene(make_scene(number, 96, 64, 17), tmp_path / f"s{number}")
        places = {"clip": "video.mkv", "object": "object_mask.mkv", "total": "total_mask.mkv"}
        rows.append(json.dumps({name: f"s{number}/{file}" for name, file in places.items()}))
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    out = tmp_path / "out"
    # Where its job would be lies something else, which its check does not look at.
    (out / ".s1.layerlift-job" / "theirs").mkdir(parents=True)
    words = ["batch", tmp_path / "m.jsonl", "-o", out, "--model", "none", "--devices", "cpu", "--executor", "slurm"]
    more = ["--shards", "2", "--slurm", "cpus_per_task=1", "--slurm", "mem_gb=2"]
    process = subprocess.Popen([sys.executable, "-m", "layerlift", *map(str, words), *more])
    while not (out / ".s0.layerlift-job" / "manifest.json").exists() and process.poll() is None:
        time.sleep(0.1)
    running = [line.split() for line in asked("squeue", "-h", "-r", "-o", "%i %T %j").splitlines()]
    (first,) = [
        job for job, state, name in running if job.endswith("_0") and state == "RUNNING" and name == "layerlift"
    ]
    asked("scontrol", "requeue", first)
    assert process.wait() == 1
    told = {line["name"]: line for line in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    assert {name: line["state"] for name, line in told.items()} == {"s0": "done", "s1": "failed", "s2": "done"}
    assert "holds something else" in told["s1"]["message"]
    log = (out / ".layerlift-batch" / "logs" / "s0.log").read_text()
    assert log.count("wrote ") == 1
    assert "layerlift: interrupted." in log
    # It was put into the queue again by Slurm, and by nobody else.
    assert len([*(out / ".layerlift-batch" / "slurm").glob("*_submission.sh")]) == 1
