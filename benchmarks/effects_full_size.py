"""What looking for effects takes at full size: seconds from frames to mask frames, and memory beyond encoding.

    python benchmarks/effects_full_size.py [--device cuda] [--objects N] [--json FILE]
    python benchmarks/effects_full_size.py --tiny --device cpu     # the same on a tiny model, to see that it runs

Random weights of LTX-Video 2B and its 0.9.5 VAE in bfloat16, on the device beforehand; 704×480, 97 frames as 8-bit
pixels in host memory, text embeddings ready. What is computed does not depend on what the weights are. "peak" is the
allocator's highest mark during the call, weights included, "beyond encoding" that less the highest mark while the clip
is encoded. LTX checkpoints come without fitted head weights, so what their users get is "even heads": the rows in bold
count, those with fitted heads (which look twice a layer) show what such weights would cost.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch
from safetensors.torch import save_file

from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.model import Model
from layerlift.engine.model.attention import apply_policy
from layerlift.engine.model.checkpoint import Checkpoint, Component, build_module, bundled_config
from layerlift.engine.model.effect_score import (
    COLUMNS,
    HEADS_FILE,
    RELATIVE_THRESHOLD,
    Scorer,
    choose_scorer,
    cover_tokens,
    frame_scores,
    score_tokens,
)
from layerlift.engine.model.latents import encode_on_device
from layerlift.engine.model.probe import KINDS
from layerlift.engine.model.settings import Settings
from layerlift.engine.model.testing import tiny_transformer_config, tiny_vae_config
from layerlift.engine.model.text import TEXT_LENGTH, TextEmbedding
from layerlift.engine.model.vae_stream import set_frames_at_once
from layerlift.engine.sampling import token_coordinates
from layerlift.geometry.fit import Geometry
from layerlift.options import DEFAULT_SIGMAS, EffectOptions
from layerlift.pixels.effects import Decision, draw_effects
from layerlift.runtime import Runtime
from layerlift.stages.effects import find_effects

GIB = 2**30
ENCODING = "encoding alone"

# The rows that are what users of LTX-Video get, and what was asked of them.
COUNTING = ("find_effects, even heads",)
BOUND_SECONDS, BOUND_GIB = 1.0, 0.2


@dataclass(frozen=True)
class Scale:
    """How large the clip is."""

    width: int
    height: int
    frames: int


@dataclass
class Bench:
    """What all rows share, and what they found."""

    device: str
    repeats: int
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def note(self, name: str, run: Callable[[], Any]) -> Any:
        """Measure a row; an error is printed, and the other rows go on. Returns what the last call returned."""
        try:
            row, result = measure(run, self.device, self.repeats)
        except Exception:  # noqa: BLE001 - the next row is worth having whatever went wrong in this one
            print(f"{name} failed:\n{traceback.format_exc()}", flush=True)
            self.failed.append(name)
            return None
        if ENCODING in self.rows:
            row["beyond_gib"] = round(row["peak_gib"] - self.rows[ENCODING]["peak_gib"], 4)
        self.rows[name] = row
        print(f"{name}: {row}", flush=True)
        return result


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        run(args, Path(folder))


def run(args: argparse.Namespace, folder: Path) -> None:
    torch.manual_seed(0)
    policy = replace(choose_policy(args.device, "float32" if args.tiny else None), resident=True)
    device = policy.device
    scale = Scale(128, 96, 9) if args.tiny else Scale(704, 480, 97)
    began = time.perf_counter()
    model = RandomModel(folder, scale, args.tiny, policy)
    frames, objects = make_clip(scale, args.objects)
    bench = Bench(device, args.repeats)
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    title = (
        f"{name}, torch {torch.__version__}; {scale.width}×{scale.height}, {scale.frames} frames, objects: "
        f"{args.objects}, {policy.transformer_dtype}; weights resident"
    )
    print(f"{title} (made in {time.perf_counter() - began:.1f} s)", flush=True)

    # 1. What the stage is measured against: encoding alone, and a pass of the transformer that nobody watches.
    latents = bench.note(ENCODING, lambda: encode_on_device(model.vae, frames))
    bench.note("a pass of the transformer alone", lambda: plain_pass(model, latents))

    # 2. The stage as users call it, and its core in a window that lies on the device all along.
    for scorer_name in ("even heads", "fitted heads"):
        if scorer_name == "fitted heads":
            model.bring_weights()
        options = EffectOptions(size=(scale.width, scale.height))
        found = bench.note(
            f"find_effects, {scorer_name}",
            lambda options=options: list(
                find_effects(frames, list(objects), options, runtime=Runtime(model=model, policy=policy, cache=False))
            ),
        )
        if found is not None:
            check(np.stack([frame.effects for frame in found], 1), objects)
            print(f"  effects cover {np.mean([frame.effects.any(0).mean() for frame in found]):.0%} of the picture")
        scorer = choose_scorer(model, "auto")
        # 3. Its parts.
        masks = torch.from_numpy(objects).to(device)
        scores = bench.note(
            f"... the look, {scorer_name}", lambda scorer=scorer, m=masks: look_once(model, latents, m, scorer, policy)
        )
    pixels = torch.from_numpy(frames).to(device)
    side = (float(model.geometry.space),) * 2
    bench.note("... drawing", lambda: draw_effects(pixels, masks, scores, Decision(RELATIVE_THRESHOLD), side=side))

    print("\n" + markdown(title, bench))
    if args.json is not None:
        args.json.write_text(json.dumps({"title": title, "rows": bench.rows, "failed": bench.failed}, indent=1) + "\n")
    if args.profile:
        profile(
            lambda: list(
                find_effects(frames, list(objects), options, runtime=Runtime(model=model, policy=policy, cache=False))
            )
        )
    if bench.failed:
        sys.exit(f"failed: {', '.join(bench.failed)}")


def check(effects: np.ndarray, objects: np.ndarray) -> None:
    assert effects.shape == objects.shape
    assert not (effects & objects.any(0)).any()
    assert effects.sum(0).max() <= 1


def plain_pass(model: RandomModel, latents: torch.Tensor) -> torch.Tensor:
    """One forward pass as `summed_logs` makes it, without a probe."""
    embeds, mask = model.embedding
    weight = model.net.proj_in.weight
    tokens = latents.flatten(2).transpose(1, 2).to(weight.dtype)
    with torch.no_grad():
        made: torch.Tensor = model.net(
            hidden_states=tokens,
            encoder_hidden_states=embeds.to(weight),
            timestep=torch.full(tokens.shape[:2], 400.0, device=weight.device),
            encoder_attention_mask=mask.to(weight),
            video_coords=token_coordinates(latents.shape, model.geometry, model.settings.rate).to(weight.device),
            return_dict=False,
        )[0]
    return made


def look_once(
    model: RandomModel, latents: torch.Tensor, masks: torch.Tensor, scorer: Scorer, policy: Policy
) -> torch.Tensor:
    with torch.no_grad():
        coverage, time = cover_tokens(masks, model.geometry), model.geometry.time
        places = token_coordinates(latents.shape, model.geometry, model.settings.rate)
        scores = score_tokens(
            model.net, latents, coverage, model.embedding, places, scorer=scorer, sigmas=DEFAULT_SIGMAS,
            generator=torch.Generator().manual_seed(0), policy=policy,
        )  # fmt: skip
        return frame_scores(scores, coverage, time)


def markdown(title: str, bench: Bench) -> str:
    """The table for docs/effects.md: seconds and memory, and which bounds are kept."""
    lines = [
        title,
        "",
        "| | seconds, warm | slowest | first | peak, GiB | beyond encoding, GiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in bench.rows.items():
        shown = f"**{name}**" if name in COUNTING else name
        beyond = f"{row['beyond_gib']:.3f}" if "beyond_gib" in row else ""
        lines.append(
            f"| {shown} | {row['seconds']:.3f} | {row['slowest']:.3f} | {row['first']:.3f} | {row['peak_gib']:.2f} | "
            f"{beyond} |"
        )
    for name in COUNTING:
        row = bench.rows.get(name)
        if row is not None:
            kept = row["seconds"] <= BOUND_SECONDS and row["beyond_gib"] <= BOUND_GIB
            lines += [
                "",
                f"{name}: at most {BOUND_SECONDS} s and {BOUND_GIB} GiB were asked: {'kept' if kept else 'MISSED'}",
            ]
    return "\n".join(lines)


def profile(run: Callable[[], Any]) -> None:
    """Where one call spends its time: on the host, and in kernels."""
    import cProfile
    import pstats

    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record_kernels

    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with record_kernels(activities=activities) as kernels:
        run()
    order = "self_device_time_total" if cuda else "self_cpu_time_total"
    print(kernels.key_averages().table(sort_by=order, row_limit=14, max_name_column_width=60))
    host = cProfile.Profile()
    host.runcall(run)
    pstats.Stats(host).sort_stats("tottime").print_stats(18)


class RandomModel(Model):
    """An opened model whose components lie on the device, with random weights; prompts have random embeddings."""

    def __init__(self, folder: Path, scale: Scale, tiny: bool, policy: Policy) -> None:
        parts = (
            Component("transformer", tiny_transformer_config() if tiny else bundled_config("transformer_2b"), {}),
            Component("vae", tiny_vae_config() if tiny else bundled_config("vae_0.9.5"), {}),
        )
        self.net, self.vae = map(build_module, parts)
        self.vae.decoder = None
        for module in (self.net, self.vae):
            fill_randomly(module, policy.device, getattr(torch, policy.transformer_dtype))
        apply_policy(self.net, policy)
        vae, config = self.vae, self.net.config
        geometry = Geometry(
            int(vae.spatial_compression_ratio), int(vae.temporal_compression_ratio), int(vae.config.latent_channels)
        )
        settings = Settings(30, 3.0, (scale.width, scale.height), scale.frames, 24.0, "none")
        generator = torch.Generator().manual_seed(0)
        self.embedding = (
            torch.randn(1, TEXT_LENGTH, config.caption_channels, generator=generator),
            torch.ones(1, TEXT_LENGTH),
        )
        super().__init__("random", Checkpoint(folder, *parts), settings, geometry, RandomText(*self.embedding))

    def bring_weights(self) -> None:
        """From now on the model carries (random) weights for its heads."""
        layers, heads = self.attention_heads
        weights = torch.randn(len(KINDS), COLUMNS, layers, heads, generator=torch.Generator().manual_seed(0)) / 100
        save_file({"weights": weights}, self.path / HEADS_FILE, {"bias": "0", "threshold": "0.25"})

    @contextmanager
    def vae_encoder(self, policy: Policy) -> Iterator[Any]:
        set_frames_at_once(self.vae, policy.vae_frames)
        yield self.vae

    @contextmanager
    def transformer(self, policy: Policy) -> Iterator[Any]:
        yield self.net


class RandomText:
    """In a text source's place: every prompt has the same embedding, which is there already."""

    known_prompts = None

    def __init__(self, embeds: torch.Tensor, mask: torch.Tensor) -> None:
        self._embedding = TextEmbedding(embeds, mask.bool())

    def check(self, prompts: Sequence[str], policy: Policy, cache: bool) -> None:
        pass

    def embed(self, prompts: Sequence[str], policy: Policy, cache: bool, progress: Any = None) -> list[TextEmbedding]:
        return [self._embedding for _ in prompts]

    def encoder_to_run(self, prompts: Sequence[str], policy: Policy, cache: bool) -> None:
        return None


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


def make_clip(scale: Scale, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Textured frames (F, H, W, 3) uint8 and moving boxes (n, F, H, W) bool."""
    width, height, frame_count = scale.width, scale.height, scale.frames
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


def measure(run: Callable[[], Any], device: str, repeats: int) -> tuple[dict[str, float], Any]:
    """Seconds of the first call here and the median of the others, the allocator's peak over them; what came last."""
    cuda = device.startswith("cuda")
    seconds = []
    peak = 0
    result = None
    for _ in range(1 + repeats):
        result = None
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        result = run()
        if cuda:
            torch.cuda.synchronize()
            peak = max(peak, torch.cuda.max_memory_allocated())
        seconds.append(time.perf_counter() - began)
    row = {
        "seconds": round(statistics.median(seconds[1:]), 4),
        "slowest": round(max(seconds[1:]), 4),
        "first": round(seconds[0], 4),
        "peak_gib": round(peak / GIB, 4),
    }
    return row, result


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default=None)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print where a call of the stage spends its time")
    parser.add_argument("--json", type=Path, help="every row, in full")
    return parser.parse_args()


if __name__ == "__main__":
    main()
