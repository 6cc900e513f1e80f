"""Whether memory grows with a clip's length, and time faster than it: removal from a short and a long clip.

    python benchmarks/length.py [--ways none model] [--frames 200 2000] [--size 96x64] [--steps 1] [--write]
    python benchmarks/length.py --full --device cuda --ways model      # LTX-Video 2B with random weights, 704×480
    python benchmarks/length.py --tiny                                 # small pictures, to see that it runs

Clips of 704×480 whose frames are made as they are read, so that nothing of them lies in memory; a masked box crosses
them. "none" is evidence and inpainting without a model, "model" the model alone without evidence. What comes out is
counted and thrown away, or with --write goes through the encoder into a file. Each row is a process of its own; memory
is the highest anonymous memory of the process over what it had with everything imported, plus the device's peak. Mapped
files do not count, and the share of each stage is printed.
"""
# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

MIB = 2**20
SIZE, TINY_SIZE = (704, 480), (176, 120)
# The masked box: a share of the picture's height, and the frames it takes to cross the picture and come again.
BOX_SHARE = 0.15
CROSSING = 100


def make_inputs(size: tuple[int, int], frames: int, masked: float) -> tuple[Any, Any]:
    """A clip of a picture that pans, with noise that changes, and a mask of a box that crosses it again and again, of
    which it is there in the first `masked` of the time."""
    from fractions import Fraction

    import cv2
    import numpy as np

    from layerlift.clip import Clip
    from layerlift.masks import Mask

    width, height = size
    rng = np.random.default_rng(0)
    # Blobs of several sizes, twice as wide as the picture, for the camera to pan over.
    wall = np.zeros((height, 2 * width, 3), np.float32)
    for cells in (8, 32, 128):
        drawn = rng.normal(128, 50, (cells, 3 * cells, 3)).astype(np.float32)
        wall += cv2.resize(drawn, (2 * width, height), interpolation=cv2.INTER_CUBIC) / 3
    wall = np.clip(wall, 0, 255).astype(np.uint8)
    noise = rng.integers(0, 4, (16, height, width, 3), dtype=np.uint8)
    side = round(BOX_SHARE * height)

    def place(frame: int) -> tuple[int, int]:
        return round((width - side) * (frame % CROSSING) / CROSSING), (height - side) // 2

    def there(frame: int) -> bool:
        return frame % CROSSING < masked * CROSSING

    def read(start: int, stop: int, pixels: str) -> Iterator[np.ndarray]:
        for frame in range(start, stop):
            # To and fro, three pixels in four frames.
            shift = int(abs((frame * 0.75) % (2 * width) - width))
            picture = wall[:, shift : shift + width] // 2 + 60 + noise[frame % len(noise)]
            if there(frame):
                left, top = place(frame)
                picture[top : top + side, left : left + side] = (200, 40, 40)
            yield picture

    def read_mask(start: int, stop: int) -> Iterator[np.ndarray]:
        for frame in range(start, stop):
            mask = np.zeros((height, width), bool)
            if there(frame):
                left, top = place(frame)
                mask[top : top + side, left : left + side] = True
            yield mask

    return Clip(width, height, frames, Fraction(24), read, name="made"), Mask(width, height, frames, read_mask)


def run_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One removal in this process: seconds, and bytes over the idle process, in all and by stage."""
    from layerlift.engine.device import choose_policy, memory
    from layerlift.engine.device.memory import MemoryMeter, host_anonymous_bytes
    from layerlift.engine.model import open_model
    from layerlift.options import RemovalOptions
    from layerlift.report import Report
    from layerlift.runtime import Runtime
    from layerlift.stages.removal import remove_frames

    # A short clip has few moments at its peak: they must not be missed.
    memory.SAMPLE_SECONDS = 0.002
    clip, mask = make_inputs(tuple(row["clip"]), row["frames"], row["masked"])
    policy = choose_policy(row["device"])
    without = row["way"] == "none"
    size = None if row["size"] is None else tuple(row["size"])
    options = RemovalOptions(steps=row["steps"], evidence="only" if without else "off", size=size)
    model = "none" if without else open_model(row["model"])
    for _ in clip.frames(0, 1):
        pass
    if policy.device != "cpu":
        import torch

        torch.zeros(1, device=policy.device)
    report = Report("length", device=policy.device)
    idle = host_anonymous_bytes()
    began, used = time.perf_counter(), time.process_time()
    with MemoryMeter(policy.device) as meter:
        made = remove_frames(clip, mask, options, runtime=Runtime(model=model, policy=policy, report=report))
        count = consume(made, clip, row["write"])
    assert count == row["frames"]
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - used,
        "host": meter.host_peak_bytes - idle,
        "device": max([meter.device_peak_bytes, *(cost.peak_device_bytes for cost in report.stages.values())]),
        "stages": {
            name: [cost.seconds, cost.peak_host_bytes - idle, cost.peak_device_bytes]
            for name, cost in report.stages.items()
        },
        "windows": len(report.sizes.get("windows", [])),
        "notes": report.notes,
    }


def consume(frames: Iterator[Any], clip: Any, write: bool) -> int:
    """Take every frame, into a file if it is to be written; how many there were."""
    if not write:
        return sum(1 for _ in frames)
    from layerlift.clip import ClipWriter

    count = 0
    with (
        tempfile.TemporaryDirectory(prefix="layerlift-length-") as folder,
        ClipWriter(Path(folder) / "plate.mp4", clip) as writer,
    ):
        for frame in frames:
            writer.write(frame)
            count += 1
    return count


def measure(row: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """A row in a process of its own. Raises RuntimeError with the last line of what it said when it failed."""
    command = [sys.executable, __file__, "--row", json.dumps(row)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1][:400])
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def print_row(row: Mapping[str, Any], found: Mapping[str, Any], first: tuple[Any, Any] | None) -> None:
    memory = found["host"] + found["device"]
    cells = [
        row["way"], f"{row['frames']}", f"{found['windows']}", f"{memory / MIB:.1f}", f"{found['seconds']:.1f}",
        f"{found['cpu']:.1f}",
    ]  # fmt: skip
    if first is None:
        cells += ["", ""]
    else:
        shorter, its = first
        length = row["frames"] / shorter["frames"]
        cells += [
            f"{memory / (its['host'] + its['device']) - 1:+.1%}",
            f"{found['seconds'] / its['seconds'] / length:.2f} ({found['cpu'] / its['cpu'] / length:.2f})",
        ]
    cells.append("; ".join(
        f"{name} {seconds:.1f} s, {(host + device) / MIB:.0f} MiB"
        for name, (seconds, host, device) in found["stages"].items()
    ))  # fmt: skip
    print("| " + " | ".join([*cells, "; ".join(found["notes"])]) + " |", flush=True)


def write_full_model(folder: Path) -> Path:
    """LTX-Video 2B with random weights; see memory.py."""
    sys.path.insert(0, str(Path(__file__).parent))
    from memory import write_model

    if not (folder / "layerlift.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder, False)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ways", nargs="*", choices=("none", "model"), default=("model", "none"))
    parser.add_argument("--frames", nargs="*", type=int, default=(200, 2000))
    parser.add_argument("--size", default="96x64", help="what the model works at, WxH; with --full its own")
    parser.add_argument("--masked", type=float, default=0.2, help="share of the frames in which the box is there")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="encode what comes out into a file (needs PyAV)")
    parser.add_argument("--full", action="store_true", help="LTX-Video 2B with random weights at its own size")
    parser.add_argument("--tiny", action="store_true", help="small pictures")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds that a row may take")
    parser.add_argument("--folder", type=Path, help="where the random model is kept, and looked for")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        print(json.dumps(run_row(json.loads(arguments.row))))
        return
    with tempfile.TemporaryDirectory(prefix="layerlift-length-") as temporary:
        model = "demo"
        if arguments.full and "model" in arguments.ways:
            model = str(write_full_model(arguments.folder or Path(temporary) / "model"))
        size = None if arguments.full else [int(length) for length in arguments.size.split("x")]
        clip = TINY_SIZE if arguments.tiny else SIZE
        print(f"{clip[0]}×{clip[1]}, model at {'its own size' if size is None else arguments.size}, "
              f"{arguments.steps} step(s), {arguments.masked:.0%} of the frames masked, {arguments.device}, "
              f"{os.cpu_count()} cores\n")  # fmt: skip
        columns = (
            "way|frames|windows|memory over idle, MiB|s|CPU s|memory, over the shorter's|time (CPU) a frame, over the "
            "shorter's|stages|notes"
        )
        print(f"| {columns.replace('|', ' | ')} |\n|" + " --- |" * (columns.count("|") + 1), flush=True)
        for way in arguments.ways:
            first = None
            for frames in arguments.frames:
                row = {
                    "way": way, "frames": frames, "clip": clip, "size": size, "steps": arguments.steps, "model": model,
                    "device": arguments.device, "write": arguments.write,
                    "masked": arguments.masked,
                }  # fmt: skip
                try:
                    found = measure(row, arguments.limit)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    print(f"| {way} | {frames} | {error} |", flush=True)
                    continue
                print_row(row, found, first)
                first = first or (row, found)


if __name__ == "__main__":
    main()
