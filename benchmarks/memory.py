"""Whole removals at full size under a hard cap on memory: what they take, beside what the plan said they would.

    python benchmarks/memory.py [--device cuda] [--rows 5 2.5 …] [--budget SECONDS] [--small]

Random weights of LTX-Video 2B and its 0.9.5 VAE in bfloat16 are written once as safetensors (6.4 GB, deleted at the
end); what is allocated does not depend on what they are, nor on the steps, of which there are two. Each row is a
process of its own. Memory is the device's peak plus the growth of the process's anonymous memory over the idle process
with torch imported and the device initialised; mapped files do not count. The cap is torch's own for the device, where
there is one, and the text is ready: T5 has a benchmark of its own (t5_stream.py). Each row is printed as soon as it is
there; one that fails prints its error. --small shrinks model and clip, to try all of it on a CPU.
"""
# ruff: noqa: T201

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

GIB = 2**30
PROMPTS = ("Empty", "", "worst quality, inconsistent motion, blurry, jittery, distorted")
STAGES = ("encode", "text", "denoise", "decode")
SMALL_SIZE, LARGE_SIZE = (704, 480, 97), (1280, 704, 121)
# (GiB, rules, clip), the most telling first.
ROWS = [
    (5.0, None, SMALL_SIZE),
    (2.5, None, SMALL_SIZE),
    (4.0, None, SMALL_SIZE),
    (5.0, "mps", SMALL_SIZE),
    (6.0, None, LARGE_SIZE),
    (8.0, None, SMALL_SIZE),
    (4.0, None, LARGE_SIZE),
    (15.6, None, LARGE_SIZE),
    (8.0, None, LARGE_SIZE),
    (6.0, None, SMALL_SIZE),
    (15.6, None, SMALL_SIZE),
    (2.5, None, LARGE_SIZE),
    (4.0, "mps", SMALL_SIZE),
    (8.0, "mps", LARGE_SIZE),
]
# For --small: a clip and memories that make a difference to a model of 100 M parameters on a CPU.
TINY_CLIP = (320, 256, 33)
TINY_ROWS = [(4.0, None, TINY_CLIP), (0.9, None, TINY_CLIP), (0.7, None, TINY_CLIP), (1.0, "mps", TINY_CLIP)]


def write_model(folder: Path, small: bool) -> Path:
    """Random weights in diffusers' layout, with ready text."""
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    from layerlift.model.checkpoint import bundled_config
    from layerlift.model.text import save_ready_text

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
        "steps": 2, "guidance": 3.0, "size": [704, 480], "frames": 97, "rate": 24.0, "licence": "random numbers",
    }  # fmt: skip
    (folder / "layerlift.json").write_text(json.dumps(settings))
    return folder


def write_component(folder: Path, cls: Any, config: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    with torch.device("meta"):
        module = cls.from_config(dict(config))
    # One draw for all: nobody looks at them, and drawing billions of normals takes minutes.
    base = torch.randn(2**24 + 1, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    tensors = {}
    for key, value in module.state_dict().items():
        count = value.numel()
        fan_in = max(1, count // value.shape[0]) if value.dim() > 1 else 1
        drawn = base.repeat(-(-count // base.numel()))[:count].view(value.shape)
        if key in ("latents_mean", "latents_std") or key.endswith("timestep_scale_multiplier"):
            tensors[key] = torch.ones(value.shape)
        elif key.endswith("norm_q.weight") or key.endswith("norm_k.weight") or "norm3.weight" in key:
            tensors[key] = torch.ones(value.shape, dtype=torch.bfloat16)
        else:
            tensors[key] = (drawn * (fan_in**-0.5 if value.dim() > 1 else 0.02)).contiguous()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps({"_class_name": cls.__name__, **config}))


def write_clip_file(path: Path, size: tuple[int, int, int]) -> Path:
    """A smooth picture that moves, as a file, so that no frame lies in memory before it is asked for."""
    import numpy as np

    from layerlift.clip import Clip, write_clip

    width, height, frames = size
    rows, columns = np.mgrid[:height, :width]

    def made() -> Any:
        for frame in range(frames):
            picture = [(columns + 2 * frame) % 256, (rows + frame) % 256, np.full_like(rows, frame % 256)]
            yield np.stack(picture, axis=-1).astype(np.uint8)

    like = Clip.from_array(np.broadcast_to(np.zeros(3, np.uint8), (frames, height, width, 3)))
    return write_clip(path, made(), like, overwrite=True)


def run_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One removal in this process: what was planned and what it took, in bytes and seconds."""
    import numpy as np

    from layerlift.device.memory import host_anonymous_bytes

    device = row["device"]
    if device.startswith("cuda"):
        torch.zeros(1, device=device)
    idle = host_anonymous_bytes()

    from layerlift.clip import open_clip
    from layerlift.device import choose_policy
    from layerlift.masks import Mask
    from layerlift.report import Report
    from layerlift.stages.removal import RemovalOptions, remove_frames

    if row["rules"] == "mps" and device.startswith("cuda"):
        # What a Mac has: no fused kernel.
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
    width, height, _ = row["size"]
    mask = np.zeros((height, width), bool)
    mask[height // 3 : height // 2, width // 3 : width * 2 // 3] = True
    report = Report("remove", device=device)
    began = time.perf_counter()
    frames = remove_frames(
        open_clip(row["clip"]),
        Mask.from_array(mask),
        RemovalOptions(evidence="off", size=(width, height)),
        model=row["model"],
        policy=choose_policy(device, force=row["rules"]),
        report=report,
        memory=int(row["memory"] * GIB),
    )
    count = sum(1 for _ in frames)
    seconds = time.perf_counter() - began
    stages = {
        name: {"device": cost.peak_device_bytes, "host": cost.peak_host_bytes - idle, "seconds": cost.seconds}
        for name, cost in report.stages.items()
    }
    planned = report.results["planned_bytes"]
    return {"frames": count, "seconds": seconds, "stages": stages, "planned": planned, "notes": report.notes}


def print_row(row: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    took = {name: cost["device"] + cost["host"] for name, cost in found["stages"].items()}
    planned = max(found["planned"].values())
    stages = "; ".join(
        f"{name} {found['planned'][name] / GIB:.2f} → {took[name] / GIB:.2f} "
        f"({found['stages'][name]['device'] / GIB:.2f} + {found['stages'][name]['host'] / GIB:.2f})"
        for name in STAGES
    )
    peak = max(took.values())
    cells = [
        f"{row['memory']:g}",
        row["rules"] or "",
        "×".join(str(length) for length in row["size"]),
        f"{planned / GIB:.2f}",
        f"{peak / GIB:.2f}",
        f"{planned / peak - 1:+.0%}",
        f"{found['seconds']:.1f}",
        stages,
        "; ".join(found["notes"]),
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def measure(row: Mapping[str, Any], limit: float) -> None:
    """A row in a process of its own, printed."""
    name = f"| {row['memory']:g} | {row['rules'] or ''} | {'×'.join(map(str, row['size']))} |"
    command = [sys.executable, __file__, "--row", json.dumps(row)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"{name} not done within {limit:.0f} s |", flush=True)
        return
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"{name} {last[:400]} |", flush=True)
        return
    print_row(row, json.loads(lines[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", nargs="*", type=float, help="only rows with these memories, in GiB")
    parser.add_argument("--budget", type=float, default=600.0, help="start no row after this many seconds")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="keep model and clips here, and use them if there")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row is not None:
        print(json.dumps(run_row(json.loads(arguments.row))))
        return
    began = time.perf_counter()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="layerlift-memory-"))
    try:
        if not (folder / "layerlift.json").is_file():
            write_model(folder, arguments.small)
        rows = [
            row for row in (TINY_ROWS if arguments.small else ROWS) if not arguments.rows or row[0] in arguments.rows
        ]
        clips = {size: write_clip_file(folder / f"{size[0]}.mp4", size) for size in {row[2] for row in rows}}
        name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device
        print(f"{name}, torch {torch.__version__}; written after {time.perf_counter() - began:.0f} s\n")
        columns = "may take, GiB|rules|clip|planned|took|plan − took|s|stages: planned → took (device + host)|notes"
        header = f"| {columns.replace('|', ' | ')} |"
        print(f"{header}\n|" + " --- |" * (header.count("|") - 1), flush=True)
        for memory, rules, size in rows:
            if time.perf_counter() - began > arguments.budget:
                print(f"| {memory:g} | {rules or ''} | {size} | left out: the budget is spent |", flush=True)
                continue
            row = {
                "memory": memory, "rules": rules, "size": size, "clip": str(clips[size]), "model": str(folder),
                "device": arguments.device,
            }  # fmt: skip
            measure(row, limit=max(60.0, arguments.budget - (time.perf_counter() - began)))
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
