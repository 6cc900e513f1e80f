"""Trains the network that finds effects. docs/notes/finder.md says with what, and how long.

    train_finder.py gather PICTURES PLATES --seconds 3600     makes clips and gathers their plates, on every core
    train_finder.py fit PICTURES PLATES OUT --seconds 330     trains on them, and on clips whose plate tells nothing

PICTURES holds `photos/`, `objects/` (cut out, with alpha), and `rendered/`, what render_for_finder.py made.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from eight_bits import quantise
from finder_training.composites import Chances
from finder_training.fit import fit, judged
from finder_training.rendered import TAKE, TAKES, first_take, is_rendered
from finder_training.samples import Sample, clip_of, gathered, samples_of, unlooked
from finder_training.store import read_plates, write_plates

HELD_BACK = 12  # one clip in so many judges
# Clips whose plate tells nothing, their frames, and how many of these are taken.
LOOKS, LOOK_FRAMES, LOOK_SAMPLES = 1400, 12, 4
LOOK_SEED = 5_000_000
# Where a plate tells nothing objects mostly stand. What stirs behind them, water or leaves, is not smoke.
LOOK_CHANCES = Chances(stirs=0.6, stands=0.5)
_PICTURES: dict[str, list[np.ndarray]] = {}
_RENDERED: list[Path] = []


def read_pictures(folder: Path) -> None:
    """Read photographs and cut-outs, once in every process."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)

    def read(name: str, code: int) -> list[np.ndarray]:
        paths = sorted((folder / name).iterdir())
        pictures = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
        return [np.ascontiguousarray(cv2.cvtColor(picture, code)) for picture in pictures if picture is not None]

    _RENDERED[:] = [folder / "rendered"]
    _PICTURES["photos"] = read("photos", cv2.COLOR_BGR2RGB)
    _PICTURES["objects"] = read("objects", cv2.COLOR_BGRA2RGBA)


def gather_one(given: tuple[int, Path]) -> int:
    """Make the clip of a seed, gather its plates and keep them; returns the seed."""
    seed, folder = given
    path = folder / f"{seed}.npz"
    if not path.exists():
        clip, rng = clip_of(seed, _PICTURES["photos"], _PICTURES["objects"], folder=_RENDERED[0])
        if clip.objects.any():
            write_plates(path, clip, gathered(clip, rng))
    return seed


def samples_from(given: tuple[int, Path | None]) -> tuple[int, list[Sample]]:
    """The samples of a clip: with its plates in a file, or without any."""
    seed, path = given
    pictures = _PICTURES["photos"], _PICTURES["objects"]
    if path is None:
        clip, rng = clip_of(seed, *pictures, LOOK_FRAMES, chances=LOOK_CHANCES)
        return seed, samples_of(clip, unlooked(clip), rng, LOOK_SAMPLES)
    clip, rng = clip_of(seed, *pictures, folder=_RENDERED[0])
    return seed, samples_of(clip, read_plates(path, clip), rng)


def gather(pictures: Path, plates: Path, seconds: float, first: int) -> None:
    """Gather plates on all cores for so many seconds: of clips from a seed on, or of all that were rendered."""
    plates.mkdir(parents=True, exist_ok=True)
    began = time.time()
    seeds: Iterable[int] = range(first, first + 100_000)
    if is_rendered(first):
        clips = sorted(int(path.stem) for path in (pictures / "rendered").glob("*.npz"))
        seeds = [seed + TAKE * take for take in range(TAKES) for seed in clips]
    jobs = ((seed, plates) for seed in seeds)
    with get_context("spawn").Pool(os.cpu_count(), read_pictures, (pictures,)) as workers:
        for count, _ in enumerate(workers.imap(gather_one, jobs), 1):
            if time.time() - began > seconds:
                print(f"{count} clips in {time.time() - began:.0f} s", flush=True)
                return


def made(pictures: Path, jobs: list[tuple[int, Path | None]]) -> Iterator[tuple[int, list[Sample]]]:
    """The samples of all clips, made on all cores."""
    with get_context("spawn").Pool(os.cpu_count(), read_pictures, (pictures,)) as workers:
        yield from workers.imap_unordered(samples_from, jobs, chunksize=4)


def train(pictures: Path, plates: Path, out: Path, seconds: float, start: Path | None) -> None:
    """Train, and write the weights and how they did on what was held back."""
    began = time.time()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    jobs: list[tuple[int, Path | None]] = [(int(path.stem), path) for path in sorted(plates.glob("*.npz"))]
    jobs += [(LOOK_SEED + number, None) for number in range(LOOKS)]
    seeds: list[int] = []
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for seed, samples in made(pictures, jobs):
        for sample in samples:
            seeds.append(seed)
            for part, value in zip(parts, sample, strict=True):
                part.append(value)
    order = np.argsort(seeds, kind="stable")  # the same whichever core was first
    numbers = np.array(seeds)[order]
    look = (numbers >= LOOK_SEED) & (numbers < LOOK_SEED + LOOKS)
    # All takes of a clip judge, or none.
    held = (np.array([first_take(seed) for seed in numbers.tolist()]) % HELD_BACK == 0) & ~look
    tensors = [torch.from_numpy(np.stack([part[at] for at in order])).to(device) for part in parts]
    mine = tuple(part[torch.from_numpy(~held).to(device)] for part in tensors)
    judges = tuple(part[torch.from_numpy(held).to(device)] for part in tensors)
    looks = torch.from_numpy(look[~held]).to(device)
    print(f"{time.time() - began:.0f} s: {len(mine[0])} samples, {int(looks.sum())} without plates; {held.sum()} judge")
    weights = None if start is None else {name: value.float() for name, value in load_file(start).items()}
    net = fit(mine, looks, seconds, seed=1, start=weights)
    figures = judged(net, judges)
    print(json.dumps(figures, indent=1), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().cpu().contiguous() for name, value in net.state_dict().items()}
    save_file(weights, out / "finder.safetensors")
    save_file(quantise(weights), out / "packed.safetensors")
    about = {"clips": len(np.unique(numbers)), "samples": len(numbers), "seconds": seconds, **figures}
    (out / "finder.json").write_text(json.dumps(about, indent=1))


def main() -> None:
    """Read the command line and do one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    for name, takes in (("gather", ("pictures", "plates")), ("fit", ("pictures", "plates", "out"))):
        step = steps.add_parser(name)
        for argument in takes:
            step.add_argument(argument, type=Path)
        step.add_argument("--seconds", type=float, default=330)
        if name == "gather":
            step.add_argument("--seed", type=int, default=3_000_000)
        else:
            step.add_argument("--start", type=Path, help="weights to go on from")
    given = parser.parse_args()
    if given.step == "gather":
        gather(given.pictures, given.plates, given.seconds, given.seed)
    else:
        train(given.pictures, given.plates, given.out, given.seconds, given.start)


if __name__ == "__main__":
    main()
