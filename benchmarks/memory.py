"""Whole jobs at full size under a hard cap on memory: what they take, beside what the plan said they would.

    python benchmarks/memory.py [--device cuda] [--jobs N] [--budget SECONDS] [--json FILE] [--small]

Random weights of LTX-Video 2B and its 0.9.5 VAE in bfloat16 are written once as safetensors (6.4 GB, deleted at the
end); what is allocated does not depend on what they are, nor on the steps, of which there are two. Each row is a
process of its own; several may run beside each other, which makes no difference to what each takes. Memory is the
device's peak plus the growth of the process's anonymous memory over the idle process with torch imported and the device
initialised; mapped files do not count. The cap is torch's own for the device, where there is one. The text is ready: T5
has a benchmark of its own (t5_stream.py). Each row is printed as soon as it is there; one that fails prints its error,
and what the budget does not allow is left out. --small shrinks model and clips, to try all of it on a CPU.
"""
# ruff: noqa: T201

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch

GIB = 2**30
WEIGHTS_BYTES = 8e9
PROMPTS = ("Empty", "", "worst quality, inconsistent motion, blurry, jittery, distorted")
SMALL_SIZE, LARGE_SIZE = (704, 480, 97), (1280, 704, 121)
# A clip of which a crop, "crop", shows the model a small part of every frame, in one window.
LONG_SIZE = (1280, 690, 240)
# (job, GiB, rules, clip), the longest first.
ROWS = [
    ("remove", 6.0, None, LARGE_SIZE),
    ("remove", 8.0, None, LARGE_SIZE),
    ("remove", 15.6, None, LARGE_SIZE),
    ("remove", 5.0, None, LARGE_SIZE),
    ("remove", 4.0, None, LARGE_SIZE),
    ("remove", 8.0, "mps", LARGE_SIZE),
    ("remove", 5.0, None, SMALL_SIZE),
    ("remove", 4.0, None, SMALL_SIZE),
    ("remove", 2.5, None, SMALL_SIZE),
    ("remove", 5.0, "mps", SMALL_SIZE),
    ("mask", 4.0, None, SMALL_SIZE),
    ("compose", 4.0, None, SMALL_SIZE),
    ("remove", 4.0, "mps", SMALL_SIZE),
    ("remove", 2.5, None, LARGE_SIZE),
    ("remove", 2.5, "mps", SMALL_SIZE),
    ("mask", 5.0, None, SMALL_SIZE),
    ("compose", 5.0, None, SMALL_SIZE),
    ("mask", 2.5, None, SMALL_SIZE),
    ("compose", 2.5, None, SMALL_SIZE),
    ("remove", 8.0, None, SMALL_SIZE),
    ("remove", 6.0, None, SMALL_SIZE),
    ("remove", 15.6, None, SMALL_SIZE),
    ("crop", 2.5, None, LONG_SIZE),
    ("crop", 4.0, None, LONG_SIZE),
    ("crop", 8.0, None, LONG_SIZE),
    ("mask", 5.0, "mps", SMALL_SIZE),
    ("compose", 5.0, "mps", SMALL_SIZE),
]
# For --small: clips and memories that make a difference to a model of 100 M parameters on a CPU.
TINY_SIZE = (320, 256, 33)
TINY_ROWS = [
    ("remove", 4.0, None, TINY_SIZE),
    ("remove", 0.9, None, TINY_SIZE),
    ("remove", 0.7, None, TINY_SIZE),
    ("remove", 1.0, "mps", TINY_SIZE),
    ("mask", 0.9, None, TINY_SIZE),
    ("compose", 0.9, None, TINY_SIZE),
    ("crop", 0.9, None, (960, 512, 65)),
]


# --- the model -------------------------------------------------------------------------------------------------------


def choose_folder() -> Path:
    """A new folder in memory where there is room for the weights, else on disk."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 2 * WEIGHTS_BYTES
    return Path(tempfile.mkdtemp(prefix="layerlift-memory-", dir=shared if roomy else None))


def write_model(folder: Path, small: bool) -> None:
    """Random weights in diffusers' layout, with ready text."""
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    from layerlift.engine.model.checkpoint import bundled_config
    from layerlift.engine.model.text import save_ready_text

    transformer, vae = bundled_config("transformer_2b"), bundled_config("vae_0.9.5")
    if small:
        transformer |= {"num_layers": 10, "num_attention_heads": 16, "cross_attention_dim": 1024}
        vae["block_out_channels"] = [width // 4 for width in vae["block_out_channels"]]
        vae["decoder_block_out_channels"] = [width // 4 for width in vae["decoder_block_out_channels"]]
    for name, cls, config in (
        ("transformer", LTXVideoTransformer3DModel, transformer),
        ("vae", AutoencoderKLLTXVideo, vae),
    ):
        write_component(folder / name, cls, config)
    width = transformer["caption_channels"]
    save_ready_text(
        folder / "text.safetensors", PROMPTS, torch.randn(3, 256, width), torch.ones(3, 256, dtype=torch.bool)
    )
    settings = {
        "steps": 2, "guidance": 3.0, "size": [704, 480], "frames": 97, "longest": 257, "rate": 24.0,
        "licence": "random numbers",
    }  # fmt: skip
    (folder / "layerlift.json").write_text(json.dumps(settings))


def write_component(folder: Path, cls: Any, config: Mapping[str, Any]) -> None:
    """One component as a safetensors file, written by hand: tensors of one shape are the same numbers, drawn once."""
    folder.mkdir(parents=True)
    with torch.device("meta"):
        module = cls.from_config(dict(config))
    # One draw for all: nobody looks at them, and drawing billions of normals takes minutes.
    base = torch.randn(2**24 + 1, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)

    @cache
    def drawn(shape: tuple[int, ...]) -> bytes:
        count = prod(shape)
        scale = max(1, count // shape[0]) ** -0.5 if len(shape) > 1 else 0.02
        values = base.repeat(-(-count // base.numel()))[:count] * scale
        return values.view(torch.int16).numpy().tobytes()

    header, parts, end = {}, [], 0
    for key, value in module.state_dict().items():
        shape = tuple(value.shape)
        if key in ("latents_mean", "latents_std") or key.endswith("timestep_scale_multiplier"):
            kind, data = "F32", torch.ones(shape).numpy().tobytes()
        elif key.endswith(("norm_q.weight", "norm_k.weight")) or "norm3.weight" in key:
            kind, data = "BF16", torch.ones(shape, dtype=torch.bfloat16).view(torch.int16).numpy().tobytes()
        else:
            kind, data = "BF16", drawn(shape)
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + len(data)]}
        parts.append(data)
        end += len(data)
    start = json.dumps(header).encode()
    start += b" " * (-len(start) % 8)
    with (folder / "diffusion_pytorch_model.safetensors").open("wb") as file:
        file.write(len(start).to_bytes(8, "little") + start)
        file.writelines(parts)
    (folder / "config.json").write_text(json.dumps({"_class_name": cls.__name__, **config}))


# --- a row, in a process of its own ----------------------------------------------------------------------------------


def run_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One job in this process: what was planned and what it took, in bytes and seconds."""
    from layerlift.engine.device.memory import host_anonymous_bytes

    device, memory = row["device"], int(row["memory"] * GIB)
    if device.startswith("cuda"):
        torch.zeros(1, device=device)
    idle = host_anonymous_bytes()
    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory / total), torch.device(device).index or 0)
        if row["rules"] == "mps":
            # What a Mac has: no fused kernel.
            torch.backends.cuda.enable_flash_sdp(False)
            torch.backends.cuda.enable_mem_efficient_sdp(False)
            torch.backends.cuda.enable_cudnn_sdp(False)

    from layerlift.engine.device import choose_policy
    from layerlift.report import Report

    class MeasuredReport(Report):
        """Notes as well what the allocator took from the device, which is what the cap holds down."""

        def __init__(self) -> None:
            super().__init__(row["job"], device=device)
            self.reserved: dict[str, int] = {}

        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            with super().stage(name):
                yield
            if device.startswith("cuda"):
                self.reserved[name] = max(self.reserved.get(name, 0), torch.cuda.max_memory_reserved(device))

    report = MeasuredReport()
    policy = choose_policy(device, force=row["rules"])
    began = time.perf_counter()
    job = {"remove": start_remove, "crop": start_crop, "mask": start_mask, "compose": start_compose}[row["job"]]
    planned, frames = job(row, policy, report, memory)
    count = sum(1 for _ in frames)
    stages = {
        name: {
            "device": cost.peak_device_bytes,
            "reserved": report.reserved.get(name, 0),
            "host": cost.peak_host_bytes - idle,
            "seconds": cost.seconds,
        }
        for name, cost in report.stages.items()
    }
    return {
        "frames": count,
        "seconds": time.perf_counter() - began,
        "stages": stages,
        "planned": {
            need.stage: {"weights": need.weights, "activations": need.activations, "host": need.host}
            for need in planned.needs
        },
        "choices": planned.differences(policy),
        "notes": report.notes,
        "idle": idle,
        "left": host_anonymous_bytes() - idle,
    }


def start_remove(row: Mapping[str, Any], policy: Any, report: Any, memory: int) -> tuple[Any, Iterator[Any]]:
    from layerlift.options import RemovalOptions
    from layerlift.runtime import Runtime
    from layerlift.stages.removal import plan_removal, run_removal

    clip, hidden, size = make_inputs(row)
    options = RemovalOptions(evidence="off", size=size, crop=False)
    plan = plan_removal(clip, hidden, options, Runtime(row["model"], policy, memory_bytes=memory, report=report))
    assert plan.job is not None
    return plan.job.plan, run_removal(plan)


def start_crop(row: Mapping[str, Any], policy: Any, report: Any, memory: int) -> tuple[Any, Iterator[Any]]:
    from layerlift.evidence.unsearched import Unsearched
    from layerlift.options import RemovalOptions
    from layerlift.runtime import Runtime
    from layerlift.stages.removal import narrow, plan_removal, run_removal

    clip, hidden, _ = make_inputs(row)
    options = RemovalOptions(evidence="off", crop=True)
    plan = plan_removal(clip, hidden, options, Runtime(row["model"], policy, memory_bytes=memory, report=report))
    assert plan.job is not None
    near = narrow(plan.job, Unsearched(clip, plan.mask, plan.margin.dilate).hidden(), plan.margin.feather)
    return near.plan, run_removal(plan)


def start_mask(row: Mapping[str, Any], policy: Any, report: Any, memory: int) -> tuple[Any, Iterator[Any]]:
    from layerlift.options import EffectOptions
    from layerlift.runtime import Runtime
    from layerlift.stages.effects import plan_effects, run_effects

    clip, hidden, size = make_inputs(row)
    runtime = Runtime(row["model"], policy, memory_bytes=memory, report=report)
    plan = plan_effects(clip, [hidden], EffectOptions(size=size, prompt=""), runtime)
    return plan.memory, run_effects(plan)


def start_compose(row: Mapping[str, Any], policy: Any, report: Any, memory: int) -> tuple[Any, Iterator[Any]]:
    from layerlift.options import LatentCompositionOptions
    from layerlift.runtime import Runtime
    from layerlift.stages.composition.latent import plan_latent_composition, run_latent_composition

    clip, hidden, size = make_inputs(row)
    options = LatentCompositionOptions(steps=2, size=size)
    runtime = Runtime(row["model"], policy, memory_bytes=memory, report=report)
    plan = plan_latent_composition(clip, clip, [hidden], hidden, clip, options, runtime)
    return plan.job.plan, run_latent_composition(plan)


def make_inputs(row: Mapping[str, Any]) -> tuple[Any, Any, tuple[int, int]]:
    """A smooth picture that moves, of which no frame lies in memory before it is asked for; a box, for a crop a small
    one; their size."""
    import numpy as np

    from layerlift.clip import Clip
    from layerlift.masks import Mask

    width, height, frames = row["size"]
    rows, columns = np.mgrid[:height, :width].astype(np.uint16)

    def read(start: int, stop: int, pixels: str) -> Iterator[Any]:
        assert pixels == "rgb24"
        for frame in range(start, stop):
            picture = [(columns + 2 * frame) % 256, (rows + frame) % 256, np.full_like(rows, frame % 256)]
            yield np.stack(picture, axis=-1).astype(np.uint8)

    hidden = np.zeros((height, width), bool)
    right = width // 3 + height // 7 if row["job"] == "crop" else width * 2 // 3
    hidden[height // 3 : height // 2, width // 3 : right] = True
    like = Clip.from_array(np.zeros((1, height, width, 3), np.uint8))
    return Clip(width, height, frames, like.rate, read), Mask.from_array(hidden), (width, height)


# --- the table -------------------------------------------------------------------------------------------------------


def describe(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """A row of the table."""
    took = {name: cost["device"] + cost["host"] for name, cost in found["stages"].items()}
    # The mask's look is one pass of what denoising takes many of.
    names = {"look": "denoise", "draw": "encode"}
    planned = {name: sum(found["planned"][names.get(name, name)].values()) for name in took}
    stages = "; ".join(
        f"{name} {planned[name] / GIB:.2f} → {took[name] / GIB:.2f} ({found['stages'][name]['device'] / GIB:.2f}+"
        f"{found['stages'][name]['host'] / GIB:.2f})"
        for name in took
    )
    most, peak = max(sum(need.values()) for need in found["planned"].values()), max(took.values())
    cells = [
        f"{most / GIB:.2f}", f"{peak / GIB:.2f}", f"{most / peak - 1:+.0%}", f"{found['seconds']:.1f}", stages,
        "; ".join(found["notes"]),
    ]  # fmt: skip
    return " | ".join(cells)


def measure(row: Mapping[str, Any], deadline: float, threads: int, found: list[dict[str, Any]]) -> None:
    """A row in a process of its own, with so many threads, printed and added to `found`."""
    name = f"| {row['job']} | {row['memory']:g} | {row['rules'] or ''} | {'×'.join(map(str, row['size']))} |"
    left = deadline - time.perf_counter()
    if left < 5:
        print(f"{name} left out: the budget is spent |", flush=True)
        return
    command = [sys.executable, __file__, "--row", json.dumps(row)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=left, env=environment)
    except subprocess.TimeoutExpired:
        print(f"{name} stopped: the budget is spent |", flush=True)
        return
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        found.append({**row, "error": done.stderr[-4000:]})
        print(f"{name} {last[:300]} |", flush=True)
        return
    result = json.loads(lines[-1])
    found.append({**row, **result})
    print(f"{name} {describe(row, result)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", nargs="*", type=float, help="only rows with these memories, in GiB")
    parser.add_argument("--only", nargs="*", help="only these jobs: remove, crop, mask, compose")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds after which all is over")
    parser.add_argument("--jobs", type=int, default=1, help="rows that run at a time")
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="keep the model here, and use it if it is there")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        print(json.dumps(run_row(json.loads(arguments.row))))
        return
    began = time.perf_counter()
    folder = arguments.folder or choose_folder()
    try:
        if not (folder / "layerlift.json").is_file():
            write_model(folder, arguments.small)
        rows = [
            {
                "job": job, "memory": memory, "rules": rules, "size": size, "model": str(folder),
                "device": arguments.device,
            }
            for job, memory, rules, size in (TINY_ROWS if arguments.small else ROWS)
            if (not arguments.rows or memory in arguments.rows) and (not arguments.only or job in arguments.only)
        ]  # fmt: skip
        name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device
        written = time.perf_counter() - began
        print(f"{name}, torch {torch.__version__}, {arguments.jobs} at a time; written after {written:.0f} s\n")
        columns = "job|may take, GiB|rules|clip|planned|took|plan/took − 1|s|stages: planned → took (device+host)|notes"
        header = f"| {columns.replace('|', ' | ')} |"
        print(f"{header}\n|" + " --- |" * (header.count("|") - 1), flush=True)
        found: list[dict[str, Any]] = []
        with ThreadPoolExecutor(arguments.jobs) as pool:
            deadline, threads = began + arguments.budget, max(1, (os.cpu_count() or 1) // arguments.jobs)
            for done in [pool.submit(measure, row, deadline, threads, found) for row in rows]:
                done.result()
        if arguments.json is not None:
            arguments.json.write_text(json.dumps({"device": name, "torch": torch.__version__, "rows": found}) + "\n")
        print(f"\nall after {time.perf_counter() - began:.0f} s")
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
