"""Render clips for the finder to train on, on all cores, for so many seconds. Needs Mitsuba: layerlift[render].

python tools/render_for_finder.py OUT --seconds 500
"""

from __future__ import annotations

import argparse
import os
import time
from multiprocessing import get_context
from pathlib import Path

from finder_training.rendered import SEED, render


def alone() -> None:
    """Every process has one core."""
    import drjit
    import mitsuba

    mitsuba.set_variant("scalar_rgb")
    drjit.set_thread_count(1)


def render_one(given: tuple[int, Path, float]) -> int:
    """Render the clip of a seed; returns the seed."""
    seed, folder, until = given
    path = folder / f"{seed}.npz"
    if time.time() < until and not path.exists():
        render(seed, path, until)
    return seed


def main() -> None:
    """Read the command line and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    until = time.time() + given.seconds
    cores = os.cpu_count() or 1
    with get_context("spawn").Pool(cores, alone) as workers:
        jobs = ((given.seed + number, given.out, until) for number in range(400))
        for seed in workers.imap_unordered(render_one, jobs):
            if time.time() < until:
                print(f"{given.seconds - until + time.time():.0f} s: {seed}", flush=True)


if __name__ == "__main__":
    main()
