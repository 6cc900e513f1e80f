"""Folders that commands keep things in and read again, manifests, requests, and a segmenter, as they should be."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

COUNT, PIXEL = 5, 2**15


def make_folders(folder: Path) -> list[Any]:
    """Write them below `folder`; returns their seeds."""
    from seeds import Seed

    folder.mkdir(parents=True)
    _manifests(folder)
    segmenter, work, batch, jobs = (folder / name for name in ("sam2", "work", "batch", "jobs"))
    _segmenter(segmenter)
    _project(work)
    _batch(batch)
    _job(jobs)
    own, kept = work / "toy.layerlift", jobs / ".out.mkv.layerlift-job"
    plain = [
        ("segmenters", segmenter, segmenter / "config.json", "json", "segmenter"),
        ("segmenters", segmenter, segmenter / "model.safetensors", "header", "segmenter"),
        *(("manifests", path, path, "bytes", "manifest") for path in sorted(folder.glob("clips.*"))),
        ("results of batches", batch, batch / ".layerlift-batch/clips/dog.json", "json", "results"),
        ("results of batches", batch, batch / "dog/report.json", "json", "results"),
        ("projects", work, own / "project.json", "json", "project"),
        ("projects", work, own / "project.json", "bytes", "project"),
        ("projects", work, own / "results/present.json", "json", "project"),
        ("projects", work, own / "jobs/a.json", "json", "project"),
        *(("requests", path, path, "json", "request") for path in sorted(folder.glob("asked-*.json"))),
        ("requests", folder / "asked-doc.json", folder / "asked-doc.json", "bytes", "request"),
        ("jobs", jobs, kept / "manifest.json", "json", "job"),
        ("jobs", jobs, kept / "settled.json", "json", "job"),
        ("jobs", jobs, kept / "shelves/frames", "bytes", "job"),
        ("jobs", jobs, kept / "steps/remove", "bytes", "job"),
        ("jobs", jobs, kept / "lock", "bytes", "job"),
    ]
    return [Seed(*row) for row in plain]


def _manifests(folder: Path) -> None:
    (folder / "clips.csv").write_text("clip,object,seed,dense,name\na.mp4,m.png|n.png:2,3,yes,first\n/b.mp4,,,no,\n")
    told = {"clip": "a.mp4", "object": ["m.png", "n.png:2"], "seed": 3, "dense": True, "name": "first"}
    (folder / "clips.jsonl").write_text(json.dumps(told) + "\n" + json.dumps({"clip": "s3://b/a.mp4"}) + "\n")
    (folder / "clips.yaml").write_text(
        "- &a {clip: a.mp4, object: [m.png, 'n.png:2'], seed: 3, steps: !!int 4}\n- {<<: *a, clip: b, dense: no}\n"
    )


def _segmenter(folder: Path) -> None:
    from tiny_sam2 import write_tiny_sam2

    write_tiny_sam2(folder)


def _doc() -> dict[str, Any]:
    thing = {
        "id": 1, "name": "square", "colour": "#ff8800", "masks": {"3": "masks/a.png"},
        "prompts": {"0": {"points": [[16, 24, True]], "box": [8, 16, 24, 32]}},
    }  # fmt: skip
    effects = {"add": {"0": "masks/a.png"}, "threshold": 0.5, "kinds": ["shadow"]}
    return {"objects": [thing], "effects": effects, "marks": [0, 3], "model": "demo", "settings": {"--seed": 3}}


def _project(folder: Path) -> None:
    from PIL import Image
    from seeds import frames, masks

    from layerlift.clip import Clip, write_clip

    own = folder / "toy.layerlift"
    for part in ("masks", "results", "jobs", "exports"):
        (own / part).mkdir(parents=True)
    write_clip(folder / "toy.mkv", frames(), Clip.from_array(frames()), lossless=True)
    Image.fromarray(masks()[0]).save(own / "masks" / "a.png")
    made = {"took": {"plate": 0.5}, "objects": "0", "plate": "1"}
    (own / "project.json").write_text(json.dumps({"clip": "toy.mkv", "rev": 2, "doc": _doc(), "made": made}))
    there = {"of": ["x"], "objects": {"1": [[0, 3]]}, "effects": {"1": [[0, 3]]}}
    (own / "results" / "present.json").write_text(json.dumps(there))
    for name in ("objects", "effects", "plate"):
        write_clip(own / "results" / f"{name}.mkv", frames(), Clip.from_array(frames()), lossless=True)
    work = {"id": "a", "project": "toy", "kind": "run", "state": "interrupted", "resumable": True}
    (own / "jobs" / "a.json").write_text(json.dumps({"job": work, "doc": _doc(), "options": {"onto": "x"}}))
    asked = {
        "doc": {"rev": 2, "doc": _doc()},
        "click": {"frame": 0, "points": [[16, 24, True]], "box": [8, 16, 24, 32], "request": 1},
        "work": {"kind": "export", "options": {"preset": "mp4", "of": "plate"}},
    }
    for name, said in asked.items():
        (folder.parent / f"asked-{name}.json").write_text(json.dumps(said))


def _batch(folder: Path) -> None:
    from layerlift.batch.ledger import Ledger, Record

    record = Record(
        "dog",
        "/a/dog.mp4",
        0,
        "clips.csv, line 2",
        0,
        "done",
        key="1",
        argv=("/a/dog.mp4",),
        read={"/a/dog.mp4": [1, 2]},
    )
    Ledger(folder).write(record)
    told = asdict(record)
    (folder / ".layerlift-batch" / "clips" / "dog.json").write_text(json.dumps(told))
    (folder / "dog").mkdir()
    (folder / "dog" / "report.json").write_text(json.dumps({"results": {"key": "1"}, "stages": []}))


def _job(folder: Path) -> None:
    from layerlift.jobs.job import Job, job_folder
    from layerlift.jobs.manifest import Manifest

    folder.mkdir()
    made = Job(job_folder(folder / "out.mkv"))
    made.settled("memory", PIXEL)
    made.begin(Manifest("remove", str(folder / "out.mkv"), "layerlift remove", {"CLIP": "0"}, {"--seed": "0"}))
    with made.keeper.shelf("frames") as shelf:
        for index in range(COUNT):
            shelf.put(index, np.full((4, 6, 3), index, np.uint8), np.arange(6, dtype=np.float32))
    steps = made.folder / "steps"
    steps.mkdir()
    (steps / "remove").write_bytes(bytes(16))
    made.leave()
