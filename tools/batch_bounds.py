"""Kill random workers of a batch, and hold its results against those of a batch that nobody disturbed.

    python tools/batch_bounds.py --clips 200 --model none --every 20
    python tools/batch_bounds.py --clips 50 --model demo --every 20

Clips are drawn scenes, each with its own background. With --truth their total masks are given, which leaves out the
search for effects. Every result has to be there once, in results.jsonl, too, and to hold the same frames.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]

from layerlift.clip import open_clip
from layerlift.clip.rgba_reader import open_layer
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene


def main() -> None:
    """Print what happened; exit 1 where a result is missing, there twice, or different."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--size", default="96x64")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--model", default="none")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two kills")
    parser.add_argument("--truth", action="store_true", help="give the total masks")
    parser.add_argument("--scenes", type=int, default=40, help="how many are drawn; the other clips are copies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work, and to keep everything")
    parser.add_argument("flags", nargs="*", help="further flags of `layerlift batch`, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        manifest = draw(folder, given)
        flags = ["--model", given.model, "--devices", ",".join(["cpu"] * given.workers), *given.flags]
        took, _ = run(manifest, folder / "whole", flags, None)
        print(f"without kills: {took:.0f} s", flush=True)
        took, kills = run(manifest, folder / "out", flags, random.Random(given.seed), given.every)
        print(f"with {kills} kills: {took:.0f} s", flush=True)
        wrong = compare(folder / "whole", folder / "out", given.clips)
    print("\n".join(wrong) or f"each of {given.clips} results is there once, and the same")
    sys.exit(bool(wrong))


def draw(folder: Path, given: argparse.Namespace) -> Path:
    """Write the clips that are not there, and their manifest."""
    width, height = map(int, given.size.split("x"))
    lines = []
    for number in range(given.clips):
        scene = folder / "clips" / f"scene_{number:03}"
        if (scene / "video.mkv").exists():
            pass
        elif number < given.scenes:
            write_scene(make_scene(given.seed + number, width, height, given.frames), scene)
        else:
            shutil.copytree(folder / "clips" / f"scene_{number % given.scenes:03}", scene)
        line = {"clip": f"clips/{scene.name}/video.mkv", "object": f"clips/{scene.name}/object_mask.mkv"}
        lines.append(json.dumps(line | ({"total": f"clips/{scene.name}/total_mask.mkv"} if given.truth else {})))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(lines), "utf-8")
    return manifest


def run(
    manifest: Path, out: Path, flags: list[str], rng: random.Random | None, every: float = 0.0
) -> tuple[float, int]:
    """Run the batch, killing a random worker now and then; returns seconds and kills. Exits where it fails."""
    began, kills = time.monotonic(), 0
    command = [sys.executable, "-m", "layerlift", "batch", str(manifest), "-o", str(out), "--lossless", *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    next_kill = began + every
    while process.poll() is None:
        time.sleep(0.2)
        if rng is None or time.monotonic() < next_kill:
            continue
        next_kill += every
        if workers := workers_of(process.pid):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                kills += 1
    if process.returncode:
        sys.exit(f"the batch ended with exit code {process.returncode}")
    return time.monotonic() - began, kills


def workers_of(pid: int) -> list[int]:
    """The processes of a batch's workers."""
    found = []
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                if "layerlift.workers" in child.cmdline():
                    found.append(child.pid)
    return found


def compare(whole: Path, out: Path, count: int) -> list[str]:
    """What is wrong with the results, a sentence each."""
    told = [json.loads(line) for line in (out / "results.jsonl").read_text("utf-8").splitlines()]
    counts = Counter(line["name"] for line in told if line["state"] == "done")
    wrong = [f"{name} has {number} lines in results.jsonl" for name, number in counts.items() if number != 1]
    names = sorted(path.name for path in whole.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) != count or sorted(counts) != names:
        wrong.append(f"{len(names)} results without kills and {len(counts)} with, of {count}")
    left = [path.name for path in out.iterdir() if path.name.startswith(".") and path.name != ".layerlift-batch"]
    wrong += [f"{name} is left" for name in left]
    return wrong + [f"{name} is different" for name in names if not alike(whole / name, out / name)]


def alike(one: Path, other: Path) -> bool:
    """Whether two results hold the same files, and their clips the same frames."""
    if not other.is_dir():
        return False
    names = sorted(path.name for path in one.iterdir())
    if names != sorted(path.name for path in other.iterdir()):
        return False
    for name in names:
        if name.endswith(".mkv"):
            read = open_layer if name.startswith("layer") else open_clip
            pairs = zip(read(one / name).frames(), read(other / name).frames(), strict=True)
            if not all(np.array_equal(a, b) for a, b in pairs):
                return False
    return True


if __name__ == "__main__":
    main()
