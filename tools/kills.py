"""Kill a job at random moments, resume it each time, and tell how much was done again.

    python tools/kills.py --frames 600 --kills 30 --model demo
    python tools/kills.py --frames 600 --kills 30 --segment classic

The job is `layerlift run` on a drawn scene, over another background: it takes every stage. With --segment it is
`layerlift segment`, by that segmenter, from boxes around the scene's objects. It runs once without a kill,
which tells its stages and their steps. Then every kill comes at a random step of a random stage. A row of the table is
a kill, with the steps that were made again after it. In the end the results are compared, frame by frame.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from layerlift.clip import Clip, open_clip
from layerlift.clip.rgba import LayerClip
from layerlift.clip.rgba_reader import open_layer
from layerlift.jobs.job import job_folder
from layerlift.jobs.part import STEPS, read_steps
from layerlift.pixels.arrays import bounds
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene
from layerlift.stages.segment.survey import EVERY

# Steps of a stage that are one frame's, in the stages whose steps are no frames: see `finder.find`,
# `evidence.tracing` and `segment.survey`.
PER_FRAME = {"clip": 18, "trace": 6, "objects look": 1 / EVERY, "objects follow": 1 / EVERY}


def main() -> None:
    """Print the table; exit 1 where results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--size", default="64x48")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--evidence", default="auto", help="off generates all that is hidden")
    parser.add_argument("--segment", metavar="SEGMENTER", help="kill `layerlift segment` by this segmenter instead")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_scene(make_scene(given.seed, width, height, given.frames), folder / "scene")
        write_scene(make_scene(given.seed + 1, width, height, given.frames), folder / "onto")
        if given.segment is None:
            job = run_of(folder, given.model, given.evidence)
        else:
            job = segment_of(folder, given.segment)
        began = time.monotonic()
        stages = watch(start(job, folder / "whole"), folder / "whole")
        print(f"without a kill: {time.monotonic() - began:.0f} s")
        rng, order = random.Random(given.seed), [name for name, (steps, _) in stages.items() if steps]
        chosen = [(number, rng.random()) for number in (rng.randrange(len(order)) for _ in range(given.kills))]
        moments = [(order[number], 1 + int(share * stages[order[number]][0])) for number, share in sorted(chosen)]
        worst = kill(job, folder / "out", moments, order)
        same = alike(folder / "whole", folder / "out")
    print(f"\nthe results are {'the same' if same else 'DIFFERENT'}; at most {worst:.1f} frames were made again")
    sys.exit(not same)


def run_of(folder: Path, model: str, evidence: str) -> list[str]:
    """`layerlift run` on the scenes in a folder."""
    words: list[object] = ["run", folder / "scene" / "video.mkv", "--onto", folder / "onto" / "video.mkv"]
    for mask in sorted((folder / "scene").glob("object_mask_*.mkv"), reverse=True):
        words += ["--object", mask]
    words += ["--model", model, "--evidence", evidence, "--lossless", "--steps", 2, "--witnesses", "clip"]
    return [*map(str, words)]


def segment_of(folder: Path, segmenter: str) -> list[str]:
    """`layerlift segment` on the scene in a folder, into a folder of label images."""
    words = ["segment", str(folder / "scene" / "video.mkv"), "--segmenter", segmenter, "--labels"]
    for path in sorted((folder / "scene").glob("object_mask_*.mkv")):
        for index, frame in enumerate(open_clip(path).frames()):
            box = bounds(frame[..., 0] > 127)
            if box is not None:
                words += ["--object", f"{path.stem}={','.join(map(str, box))}@{index}"]
                break
    return words


def start(job: list[str], target: Path, *, resume: bool = False) -> subprocess.Popen[bytes]:
    """Start the job."""
    words = [sys.executable, "-m", "layerlift", *job, "-o", str(target), *(["--resume"] if resume else [])]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill(job: list[str], target: Path, moments: list[tuple[str, int]], order: list[str]) -> float:
    """Kill the job at these steps of stages, one after another; returns how many frames a kill cost at most.

    Where all of a stage was found, the kill comes as soon as a later one of the `order` has begun.
    """
    came: dict[str, int] = {}
    worst = 0.0
    print(f"{'kill':>4}  {'at':32}  made again after it: steps, and frames of the stage where most was")
    for number, moment in enumerate([*moments, None], 1):
        later = [] if moment is None else order[order.index(moment[0]) + 1 :]
        now = watch(start(job, target, resume=bool(came)), target, moment, later)
        # What is found is told bit by bit: it is all told when something new is made.
        again = {name: max(0, came.get(name, 0) - found) for name, (position, found) in now.items() if position > found}
        for name, (position, _) in now.items():
            came[name] = position if name in again else max(position, came.get(name, 0))
        if number > 1:
            cost = max(
                (count / PER_FRAME.get(name, PER_FRAME.get(name.split()[-1], 1)) for name, count in again.items()),
                default=0,
            )
            worst = max(worst, cost)
            told = ", ".join(f"{name} {count}" for name, count in again.items() if count) or "nothing"
            print(f"  {told}; {cost:.1f}", flush=True)
        if moment is not None:
            if not {moment[0], *later} & {*now}:
                sys.exit(f"the job ended before {moment[0]}, step {moment[1]}")
            name = moment[0] if moment[0] in now else [*now][-1]
            print(f"{number:4}  {name + ', step ' + str(now[name][0]):32}", end="", flush=True)
    return worst


def watch(
    process: subprocess.Popen[bytes],
    target: Path,
    moment: tuple[str, int] | None = None,
    later: Sequence[str] = (),
) -> dict[str, tuple[int, int]]:
    """Wait for a process, and kill it at a step of a stage, or in a later one; returns how far its stages came, see
    `steps_since`."""
    folder, began = job_folder(target) / STEPS, time.time()
    now: dict[str, tuple[int, int]] = {}
    while process.poll() is None:
        time.sleep(0.05)
        now |= steps_since(folder, began)
        if moment is not None and (now.get(moment[0], (0, 0))[0] >= moment[1] or {*later} & {*now}):
            process.kill()
            process.wait()
    return now | steps_since(folder, began)


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
    pairs: list[tuple[Clip | LayerClip, Clip | LayerClip]] = [(open_clip(one), open_clip(other))] if not names else []
    for name in names:
        read = open_layer if name.startswith("layer") else open_clip
        pairs.append((read(one / name), read(other / name)))
    return all(np.array_equal(a, b) for pair in pairs for a, b in zip(*(clip.frames() for clip in pair), strict=True))


if __name__ == "__main__":
    main()
