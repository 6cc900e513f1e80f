"""Kill a job at random moments, resume it each time, and tell how much was done again.

    python tools/kills.py --frames 600 --kills 30 --model demo

The job is `layerlift run` on a drawn scene with two objects, over another background: it takes every stage. A row of
the table is a kill: when it came, in which stage, and how many steps of it were made again after that. In the end the
results are compared with those of a run that nobody killed, frame by frame.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from layerlift.clip import open_clip
from layerlift.clip.rgba_reader import open_layer
from layerlift.jobs.job import job_folder
from layerlift.jobs.part import STEPS, read_steps
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene

# Steps of a stage that are one frame's, in the stages whose steps are no frames: see `finder.find` and
# `evidence.tracing`.
PER_FRAME = {"clip": 18, "trace": 6}


def main() -> None:
    """Print the table; exit 1 where results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--size", default="64x48")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_scene(make_scene(given.seed, width, height, given.frames), folder / "scene")
        write_scene(make_scene(given.seed + 1, width, height, given.frames), folder / "onto")
        began = time.monotonic()
        start(folder, "whole", given.model).wait()
        seconds = time.monotonic() - began
        print(f"without a kill: {seconds:.0f} s")
        rng, cost, same = random.Random(given.seed), list[float](), True
        print(f"{'kill':>4} {'after':>7}  stage, and its step when killed; what was made again after the kill before")
        while len(cost) < given.kills:
            cost += kill(folder, given.model, given.kills - len(cost), len(cost), rng=rng, seconds=seconds)
            same &= alike(folder / "whole", folder / "out")
            shutil.rmtree(folder / "out")
    print(f"\nthe results are {'the same' if same else 'DIFFERENT'}; at most {max(cost):.1f} frames were made again")
    sys.exit(not same)


def start(folder: Path, name: str, model: str, *, resume: bool = False) -> subprocess.Popen[bytes]:
    """Start the job."""
    words = ["run", folder / "scene" / "video.mkv", "--onto", folder / "onto" / "video.mkv", "-o", folder / name]
    for mask in sorted((folder / "scene").glob("object_mask_*.mkv"), reverse=True):
        words += ["--object", mask]
    words += ["--model", model, "--lossless", "--steps", 2, "--witnesses", "clip", *(["--resume"] if resume else [])]
    return subprocess.Popen(
        [sys.executable, "-m", "layerlift", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill(folder: Path, model: str, kills: int, before: int, *, rng: random.Random, seconds: float) -> list[float]:
    """Kill one job until it is done, at most so often; returns how many frames' steps each kill cost.

    `before`: kills of other jobs. `seconds`: what the job takes without.
    """
    steps = job_folder(folder / "out") / STEPS
    came: dict[str, int] = {}
    cost: list[float] = []
    killed = 0
    while True:
        process = start(folder, "out", model, resume=bool(came))
        span = rng.uniform(5, 5 + seconds / 6) if killed < kills else 1e9
        began, now = time.time(), dict[str, tuple[int, int]]()
        while process.poll() is None and time.time() - began < span:
            time.sleep(0.2)
            now = steps_since(steps, began) or now
        done = process.poll() is not None
        if not done:
            process.kill()
            process.wait()
            now = steps_since(steps, began)
        # What is found is told bit by bit: it is all told when something new is made.
        again = {name: max(0, came.get(name, 0) - found) for name, (position, found) in now.items() if position > found}
        for name, (position, _) in now.items():
            came[name] = position if name in again else max(position, came.get(name, 0))
        if killed:
            cost.append(max((count / PER_FRAME.get(name.split()[-1], 1) for name, count in again.items()), default=0))
            told = ", ".join(f"{name} {count}" for name, count in again.items() if count) or "nothing"
            print(f"{'':13} again: {told}", flush=True)
        if done:
            return cost
        killed += 1
        stage = next(reversed(now), "start")
        print(f"{before + killed:4} {span:6.1f}s  {stage}, step {now.get(stage, (0, 0))[0]}", flush=True)


def steps_since(folder: Path, began: float) -> dict[str, tuple[int, int]]:
    """By stage, how far it came and how many of these steps were found; stages of this process, the last one last."""
    found = {}
    with suppress(FileNotFoundError):  # the job has ended
        files = [file for file in folder.iterdir() if file.stat().st_mtime >= began]
        for file in sorted(files, key=lambda file: file.stat().st_mtime_ns):
            found[file.name] = read_steps(file)
    return found


def alike(one: Path, other: Path) -> bool:
    """Whether two results hold the same frames."""
    names = sorted(path.name for path in one.glob("*.mkv"))
    if names != sorted(path.name for path in other.glob("*.mkv")):
        return False
    for name in names:
        read = open_layer if name.startswith("layer") else open_clip
        pairs = zip(read(one / name).frames(), read(other / name).frames(), strict=True)
        if not all(np.array_equal(a, b) for a, b in pairs):
            return False
    return True


if __name__ == "__main__":
    main()
