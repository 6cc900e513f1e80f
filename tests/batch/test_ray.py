"""A batch on a real Ray cluster of two nodes, one of which is killed. Ray is not in the lock."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene

cluster_utils = pytest.importorskip("ray.cluster_utils")
COUNT = 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_that_is_killed_takes_no_clip_with_it(tmp_path: Path) -> None:
    rows = []
    for number in range(COUNT):
        write_scene(make_scene(number % 2, 48, 32, 5), tmp_path / f"s{number}")
        places = {"clip": "video.mkv", "object": "object_mask.mkv", "total": "total_mask.mkv"}
        rows.append(json.dumps({name: f"s{number}/{file}" for name, file in places.items()}))
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    out = tmp_path / "out"
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        command = ["batch", tmp_path / "m.jsonl", "-o", out, "--model", "none", "--lossless"]
        more = ["--executor", "ray", "--address", cluster.address, "--devices", "cpu,cpu"]
        process = subprocess.Popen(
            [sys.executable, "-m", "layerlift", *map(str, [*command, *more])], stderr=subprocess.PIPE, text=True
        )
        while not [*out.glob("s*/report.json")] and process.poll() is None:
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)
        said = process.communicate()[1]
    finally:
        cluster.shutdown()
    assert process.returncode == 0, said
    told = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert sorted((line["name"], line["state"]) for line in told) == [(f"s{n}", "done") for n in range(COUNT)]
    assert "its node or its actor is gone" in said
