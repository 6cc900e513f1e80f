"""What looking for effects takes at full size: seconds from frames to mask frames, and memory beyond encoding.

    python benchmarks/effects_full_size.py [--device cuda] [--objects N] [--json FILE]
    python benchmarks/effects_full_size.py --tiny --device cpu     # the same on a tiny model, to see that it runs

Random weights of LTX-Video 2B and its 0.9.5 VAE in bfloat16, on the device beforehand; 704×480, 97 frames as 8-bit
pixels in host memory, text embeddings ready. What is computed does not depend on what the weights are. "peak" is the
allocator's highest mark during the call, "beyond encoding" that less the highest mark while the clip is encoded.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch

from layerlift.device import choose_policy
from layerlift.fit import Geometry
from layerlift.model.checkpoint import Component, build_module, bundled_config
from layerlift.model.latents import encode_on_device
from layerlift.model.probe import KINDS
from layerlift.model.testing import tiny_transformer_config, tiny_vae_config
from layerlift.stages.effect_pixels import Decision, draw_effects
from layerlift.stages.effect_score import EvenHeads, FittedHeads, cover_tokens
from layerlift.stages.effect_window import Look, find_in_window, score_frames

GIB = 2**30
RATE = 24.0
TEXT_LENGTH = 128


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(0)
    policy = choose_policy(args.device, "float32" if args.tiny else None)
    device = policy.device
    dtype = getattr(torch, policy.transformer_dtype)
    transformer, vae, geometry = build(args.tiny, device, dtype)
    width, height, frame_count = (128, 96, 9) if args.tiny else (704, 480, 97)
    frames, objects = make_clip(width, height, frame_count, args.objects)
    config = transformer.config
    text = (torch.randn(1, TEXT_LENGTH, config.caption_channels), torch.ones(1, TEXT_LENGTH))
    fitted = torch.randn(len(KINDS), 2, config.num_layers, config.num_attention_heads) / 100

    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "torch": torch.__version__,
        "clip": [width, height, frame_count],
        "objects": args.objects,
        "dtype": str(dtype),
        "rows": {},
    }
    print(json.dumps({name: value for name, value in results.items() if name != "rows"}))

    def note(name: str, run: Callable[[], Any]) -> dict[str, float]:
        results["rows"][name] = row = measure(run, device, args.repeats)
        print(
            f"{name:32} {row['seconds']:7.3f} s  first {row['first']:7.3f} s  peak {row['peak_gib']:6.2f} GiB",
            flush=True,
        )
        return row

    # 1. Encoding alone, and a pass of the transformer without a probe: what the stage is measured against.
    latents = encode_on_device(vae, frames)
    encoding = note("encode alone", lambda: encode_on_device(vae, frames))

    # 2. The whole stage, as any model gets it and with fitted weights, which look twice a layer.
    found = {}
    for name, scorer in (("even heads", EvenHeads()), ("fitted heads", FittedHeads(fitted, 0.0, 0.25))):
        look = Look(scorer, (0.4,), text, geometry, RATE, policy)

        def whole(look: Look = look) -> np.ndarray:
            return find_in_window(
                vae, transformer, frames, objects, look=look, decision=Decision(0.3), temporal_radius=geometry.time // 2
            )

        found[name] = whole()
        row = note(f"frames to masks, {name}", whole)
        row["beyond_encoding_gib"] = row["peak_gib"] - encoding["peak_gib"]
        print(f"{'':32} peak beyond encoding {row['beyond_encoding_gib']:.3f} GiB")

        # 3. Its parts.
        masks = torch.from_numpy(objects).to(device)
        coverage = cover_tokens(masks, geometry)

        def part(look: Look = look, coverage: Any = coverage) -> torch.Tensor:
            with torch.no_grad():
                return score_frames(transformer, latents, coverage, look, torch.Generator().manual_seed(0))

        note(f"  look, {name}", part)
        scores = part()
    pixels = torch.from_numpy(frames).to(device)
    side = (float(geometry.space),) * 2
    note("  draw", lambda: draw_effects(pixels, masks, scores, Decision(0.3), side=side))

    for effects in found.values():
        assert effects.shape == objects.shape
        assert not (effects & objects.any(0)).any()
    results["effect share"] = {name: float(effects.mean()) for name, effects in found.items()}
    print("effect share of the picture (random weights)", results["effect share"])
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def build(tiny: bool, device: str, dtype: torch.dtype) -> tuple[Any, Any, Geometry]:
    """Transformer and VAE encoder with random weights, made where they stay, in their dtype."""
    transformer_config = tiny_transformer_config() if tiny else bundled_config("transformer_2b")
    vae_config = tiny_vae_config() if tiny else bundled_config("vae_0.9.5")
    transformer = build_module(Component("transformer", transformer_config, {}))
    vae = build_module(Component("vae", vae_config, {}))
    vae.decoder = None
    for module in (transformer, vae):
        fill_randomly(module, device, dtype)
    geometry = Geometry(
        int(vae.spatial_compression_ratio), int(vae.temporal_compression_ratio), int(vae.config.latent_channels)
    )
    return transformer, vae, geometry


def fill_randomly(module: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    """Give a meta module random weights of a scale at which nothing overflows; statistics stay in float32."""
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in list(module.named_parameters()):
        path, _, last = name.rpartition(".")
        if parameter.dim() > 1:
            values = torch.randn(parameter.shape, generator=generator, device=device, dtype=dtype)
            values *= parameter[0].numel() ** -0.5
        else:
            value = {"bias": 0.0, "timestep_scale_multiplier": 1000.0}.get(last, 1.0)
            values = torch.full(parameter.shape, value, device=device, dtype=dtype)
        module.get_submodule(path)._parameters[last] = torch.nn.Parameter(values, requires_grad=False)
    for name, buffer in list(module.named_buffers()):
        path, _, last = name.rpartition(".")
        full = torch.full(buffer.shape, 0.0 if "mean" in last else 1.0, device=device)
        module.get_submodule(path)._buffers[last] = full
    module.eval()


def make_clip(width: int, height: int, frame_count: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Textured frames (F, H, W, 3) uint8 and moving boxes (n, F, H, W) bool."""
    generator = np.random.default_rng(0)
    still = np.kron(generator.integers(60, 200, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frames = np.repeat(still[None], frame_count, 0)
    objects = np.zeros((count, frame_count, height, width), bool)
    for number in range(count):
        top = height * (number + 1) // (count + 2)
        for index in range(frame_count):
            left = width // 8 + (width // 2) * index // frame_count
            where = np.s_[number, index, top : top + height // 5, left : left + width // 6]
            objects[where] = True
            frames[where[1:]] = 40 * (number + 1)
    return frames, objects


def measure(run: Callable[[], Any], device: str, repeats: int) -> dict[str, float]:
    """Seconds of the first call here and the median of the others; the allocator's peak over them."""
    cuda = device.startswith("cuda")
    seconds = []
    peak = 0
    for _ in range(1 + repeats):
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        result = run()
        if cuda:
            torch.cuda.synchronize()
            peak = max(peak, torch.cuda.max_memory_allocated())
        seconds.append(time.perf_counter() - began)
        del result
    return {
        "seconds": round(statistics.median(seconds[1:]), 4),
        "slowest": round(max(seconds[1:]), 4),
        "first": round(seconds[0], 4),
        "peak_gib": round(peak / GIB, 4),
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default=None)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
