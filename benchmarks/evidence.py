"""Time `layerlift remove --model none` on a made-up clip of N and of 2N frames, and on clips of yours.

    python benchmarks/evidence.py [--frames N] [--size WxH] [--clip PATH [--mask PATH]] …

The made-up clip is a textured world under a camera that pans, with a mask over a tenth of the picture that wanders
across it. Every run is a process of its own; printed are its wall-clock seconds, its seconds of CPU time, its peak of
resident memory, and that peak beyond what a process holds that has only imported what the run needs. Clips are
streamed: their frames are part of these figures only as far as they are in reach.
"""

# ruff: noqa: T201

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from layerlift.clip import Clip, write_clip, write_mask

MIB = 2**20
IDLE = "import layerlift.cli, layerlift.clip.writer, layerlift.stages.removal, av, cv2"
SHARE = 0.1  # of the picture is hidden


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process: wall-clock seconds, seconds of CPU time, peak resident bytes."""

    seconds: float
    cpu: float
    peak: int


def measure(command: Sequence[str]) -> Cost:
    """Run a command to its end; raises CalledProcessError when it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if platform.system() == "Darwin" else 1024
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def write_made_up(folder: Path, frames: int, width: int, height: int) -> None:
    """A clip and its mask, frame by frame."""
    rng = np.random.default_rng(0)
    world = np.full((height + 80, width + 400, 3), 120, np.float32)
    for blur, contrast in ((2, 12), (8, 18), (40, 25)):
        small = world.shape[1] // blur, world.shape[0] // blur
        noise = rng.normal(size=(small[1], small[0], 3)).astype(np.float32)
        world += contrast * cv2.resize(noise, (world.shape[1], world.shape[0]), interpolation=cv2.INTER_CUBIC)
    world = np.clip(world, 0, 255).astype(np.uint8)
    radius = round((SHARE * width * height / np.pi) ** 0.5)
    grain = rng.normal(0, 1.5, (height, width, 3)).astype(np.float32)

    def places() -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        for index in range(frames):
            turn = 2 * np.pi * index / 240
            matrix = np.array([[1, 0, 200 + 180 * np.sin(turn)], [0, 1, 40 + 30 * np.cos(1.3 * turn)]])
            yield matrix, (round(width * (0.5 + 0.35 * np.sin(2.1 * turn))), round(height * 0.5))

    def pictures() -> Iterator[np.ndarray]:
        for index, (matrix, centre) in enumerate(places()):
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            picture = cv2.warpAffine(world, matrix, (width, height), flags=flags)
            cv2.circle(picture, centre, radius, (200, 60, 30), -1)
            yield np.clip(picture + np.roll(grain, 37 * index, 1), 0, 255).astype(np.uint8)

    def masks() -> Iterator[np.ndarray]:
        for _, centre in places():
            mask = np.zeros((height, width), np.uint8)
            cv2.circle(mask, centre, radius, 1, -1)
            yield mask > 0

    like = Clip.from_array(np.zeros((1, height, width, 3), np.uint8), 24)
    like = Clip(**{name: getattr(like, name) for name in like.__dataclass_fields__} | {"frame_count": frames})
    write_clip(folder / "video.mp4", pictures(), like, overwrite=True)
    write_mask(folder / "total_mask.mkv", masks(), like, overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=120, help="N of the made-up clip; 0 leaves it out")
    parser.add_argument("--size", default="1280x690", help="of the made-up clip")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a clip of yours; may be given again")
    parser.add_argument("--mask", type=Path, action="append", default=[], help="for each --clip that is no folder")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    masks = iter(given.mask)
    with tempfile.TemporaryDirectory(prefix="layerlift-evidence-") as folder:
        jobs: list[tuple[str, list[str]]] = []
        for count in (given.frames, 2 * given.frames) if given.frames else ():
            place = Path(folder) / str(count)
            place.mkdir()
            write_made_up(place, count, width, height)
            jobs.append((f"made up, {width}×{height}, {count} frames", [str(place)]))
        for clip in given.clip:
            masked = [] if clip.is_dir() else ["--mask", str(next(masks))]
            jobs.append((clip.name, [str(clip), *masked]))
        idle = measure([sys.executable, "-c", IDLE])
        print(f"{platform.machine()}, {os.cpu_count()} cores; idle process: {idle.peak / MIB:.0f} MiB resident\n")
        print("| clip | seconds | CPU seconds | peak resident | beyond an idle process |")
        print("| --- | ---: | ---: | ---: | ---: |", flush=True)
        for name, inputs in jobs:
            out = str(Path(folder) / "plate.mkv")
            ours = [sys.executable, "-m", "layerlift", "remove", *inputs, "--model", "none", "--lossless"]
            cost = measure([*ours, "-o", out, "--overwrite"])
            peak, beyond = cost.peak / MIB, (cost.peak - idle.peak) / MIB
            print(f"| {name} | {cost.seconds:.0f} | {cost.cpu:.0f} | {peak:.0f} MiB | {beyond:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
