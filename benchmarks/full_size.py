"""What a whole removal takes at full size: seconds of its stages, memory, and how far that is from the floor.

    python benchmarks/full_size.py [--device cuda] [--budget SECONDS] [--json FILE]
    python benchmarks/full_size.py --only models            # steps, passes and seconds of every model of the catalogue
    python benchmarks/full_size.py --tiny --device cpu     # the same on a tiny model, to see that it runs

Random weights of LTX-Video 2B and its 0.9.5 VAE, 704×480, 97 frames, 30 steps with guidance: what is computed does not
depend on what the weights are. A job goes from frames in memory to frames in memory, with weights on the device;
"first" is the first call in this process with these settings, "warm" the second, or the only one of a way to run that
compiles nothing. Each row is printed as soon as it is there, the most important ones first; a row that fails prints its
error, and what the budget does not allow is left out.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from layerlift.engine.device import BACKENDS, Policy
from layerlift.engine.device.needs import ModelFacts
from layerlift.engine.model import record
from layerlift.engine.model.attention import apply_policy
from layerlift.engine.model.catalogue import CATALOGUE, DEFAULT
from layerlift.engine.model.checkpoint import Checkpoint, Component, build_module, bundled_config
from layerlift.engine.model.facts import read_facts
from layerlift.engine.model.latents import decode, decode_on_device, encode, unknown_tokens
from layerlift.engine.model.model import Model
from layerlift.engine.model.passes import Loops, open_passes
from layerlift.engine.model.settings import Settings
from layerlift.engine.model.speed import DEFAULT_REFRESH, PLAIN, Speed, full_passes, kept_bytes
from layerlift.engine.model.testing import tiny_transformer_config, tiny_vae_config
from layerlift.engine.model.text import TEXT_LENGTH, TextEmbedding
from layerlift.engine.sampling import Prompts, SamplingSettings, denoise, open_denoising, token_coordinates
from layerlift.engine.schedule import linear_quadratic, model_sigmas
from layerlift.geometry.fit import Fit, Geometry, latent_frames
from layerlift.pixels import arrays as pixels
from layerlift.pixels import tensors as pixels_torch
from layerlift.pixels.paste import ColorMatch, paste
from layerlift.progress import QUIET
from layerlift.report import Report
from layerlift.runtime import Runtime

GIB = 2**30
# Text tokens that are not padding: the default negative prompt, and "Empty", each with its end token.
WORDS = (20, 2)
DILATE = 4  # what removal grows a mask by at this size


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    transformer: dict[str, Any]
    large: dict[str, Any]  # the 13B transformer
    vae: dict[str, Any]
    geometry: Geometry
    size: tuple[int, int]
    frames: int
    steps: int
    dtype: str
    repeats: int


FULL = Scale(
    bundled_config("transformer_2b"), bundled_config("transformer_13b"), bundled_config("vae_0.9.5"),
    Geometry(32, 8, 128), (704, 480), 97, 30, "bfloat16", 5,
)  # fmt: skip
TINY = Scale(
    tiny_transformer_config(), tiny_transformer_config(layers=3), tiny_vae_config(),
    Geometry(16, 4, 8), (128, 96), 9, 6, "float32", 1,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One way to run the job."""

    name: str
    speed: Speed = PLAIN
    share: float = 0.1  # of the tokens, unknown
    together: bool = True
    device_pixels: bool = True
    cudnn: bool = False
    calls: int = 2
    need: float = 8.0  # seconds without which it is not begun


SPARSE = Speed(DEFAULT_REFRESH, hoist=True, graphs=True)
ROWS = (
    Row("dense, hoisted, compiled", Speed(hoist=True, compile=True), need=25),
    Row("sparse 10%, compiled", replace(SPARSE, compile=True), need=25),
    Row("sparse 25%, compiled", replace(SPARSE, compile=True), share=0.25, need=15),
    Row("dense, eager, hoisted", Speed(hoist=True)),
    Row("sparse 10%, eager, recorded", SPARSE),
    Row("sparse 25%, eager, recorded", SPARSE, share=0.25, calls=1),
    Row("dense, eager, batched", PLAIN, calls=1),
    Row("dense, eager, a pass for each prompt, pixels on the CPU", PLAIN, together=False, device_pixels=False, calls=1,
        need=15),
    Row("sparse 10%, eager, not recorded", replace(SPARSE, graphs=False), calls=1),
)  # fmt: skip
CUDNN_ROW = Row("dense, hoisted, compiled, cuDNN attention", Speed(hoist=True, compile=True), cudnn=True, need=30)


@dataclass
class Bench:
    """What all rows share, and what they found."""

    scale: Scale
    device: torch.device
    deadline: float
    transformer: Any = None
    vae: Any = None
    has_large: bool = False
    tflops: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        return self.deadline - time.perf_counter()

    def use_large(self) -> None:
        """Put the 13B transformer in the place of everything else."""
        if self.has_large:
            return
        self.transformer = self.vae = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.transformer = random_module("transformer", self.scale.large, self.scale.dtype, self.device)
        self.has_large = True

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> tuple[float, Any]:
        self.wait()
        began = time.perf_counter()
        made = work()
        self.wait()
        return time.perf_counter() - began, made


# --- what the job needs ----------------------------------------------------------------------------------------------


def random_module(kind: str, config: dict[str, Any], dtype: str, device: torch.device) -> Any:
    """The module with random weights of a scale at which nothing overflows."""
    module = build_module(Component(kind, config, {}))
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in list(module.named_parameters()):
        path, _, last = name.rpartition(".")
        if parameter.dim() > 1:
            values = torch.randn(parameter.shape, generator=generator, device=device, dtype=getattr(torch, dtype))
            values *= (parameter[0].numel()) ** -0.5
        else:
            value = {"bias": 0.0, "timestep_scale_multiplier": 1000.0}.get(last, 1.0)
            values = torch.full(parameter.shape, value, device=device, dtype=getattr(torch, dtype))
        module.get_submodule(path)._parameters[last] = torch.nn.Parameter(values, requires_grad=False)
    for name, buffer in list(module.named_buffers()):
        path, _, last = name.rpartition(".")
        full = torch.full(buffer.shape, 0.0 if "mean" in last else 1.0, device=device)
        module.get_submodule(path)._buffers[last] = full
    if kind == "transformer" and device.type == "cuda":
        apply_policy(module, BACKENDS["cuda"])
    return module.eval()


def make_clip(scale: Scale, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames (F, H, W, 3) uint8 and masks (F, H, W) bool under which about `share` of the tokens is unknown."""
    width, height = scale.size
    space = scale.geometry.space
    rows, columns = height // space, width // space
    # The unknown tokens are a box of a × b of them, of which the outermost are those that the mask has grown by.
    a, b = min(
        ((a, b) for a in range(3, rows + 1) for b in range(3, columns + 1)),
        key=lambda box: (abs(box[0] * box[1] - share * rows * columns), abs(box[0] - box[1])),
    )
    top, left = (rows - a) // 2, (columns - b) // 2
    inset = space + DILATE + 1
    masks = np.zeros((scale.frames, height, width), bool)
    masks[:, top * space + inset : (top + a) * space - inset, left * space + inset : (left + b) * space - inset] = True
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (scale.frames, height // 8, width // 8, 3), dtype=np.uint8)
    return small.repeat(8, 1).repeat(8, 2), masks


def make_prompts(scale: Scale, together: bool) -> Prompts:
    """Negative prompt and prompt: random embeddings, and masks as real ones have them."""
    embeds = torch.randn(2, TEXT_LENGTH, scale.transformer["caption_channels"], generator=torch.manual_seed(0))
    mask = (torch.arange(TEXT_LENGTH) < torch.tensor(WORDS)[:, None]).long()
    return Prompts(embeds, mask, together)


def pass_flops(config: dict[str, Any], tokens: int, context: int) -> float:
    """Of one forward pass over `tokens` tokens that attend to `context` of them: products of matrices alone."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    # Per token and layer: four products with weights in self-attention, two in cross-attention, eight in the MLP.
    return config["num_layers"] * (28 * tokens * width**2 + 4 * tokens * context * width)


# --- the job ---------------------------------------------------------------------------------------------------------


def run_job(bench: Bench, row: Row) -> dict[str, float]:
    """One removal without evidence; seconds of its stages, and bytes at the peak."""
    scale, device = bench.scale, bench.device
    video, masks = make_clip(scale, row.share)
    fit = Fit(scale.size, scale.size, scale.size)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def encode_clip() -> tuple[torch.Tensor, torch.Tensor]:
        pairs = ((frame, pixels.grow(mask, DILATE)) for frame, mask in zip(video, masks, strict=True))
        if row.device_pixels:
            made = list(pixels_torch.fit_frames(pairs, fit, device))
        else:
            made = [(pixels.fill_masked(frame, mask), pixels.fit_mask(mask, fit)) for frame, mask in pairs]
        latents = encode(bench.vae, np.stack([frame for frame, _ in made]))
        return latents, unknown_tokens(np.stack([mask for _, mask in made]), scale.geometry)

    def decode_clip(latents: torch.Tensor) -> np.ndarray:
        given = bench.vae, latents, torch.Generator().manual_seed(0), 0.05, 0.025
        grown = ((frame, pixels.grow(mask, DILATE)) for frame, mask in zip(video, masks, strict=True))
        if row.device_pixels:
            items = ((*pair, new, None) for pair, new in zip(grown, decode_on_device(*given), strict=True))
            return np.stack([frame for frame, _ in pixels_torch.paste_frames(items, DILATE, device)])
        match = ColorMatch()
        return np.stack(
            [
                paste(frame, match(new, frame, mask), mask, DILATE)
                for (frame, mask), new in zip(grown, decode(*given), strict=True)
            ]
        )

    encoding, (latents, unknown) = bench.seconds(encode_clip)
    denoising, made = bench.seconds(
        lambda: denoise(
            bench.transformer,
            latents,
            unknown,
            make_prompts(scale, row.together),
            token_coordinates(latents.shape, scale.geometry, 24),
            settings=SamplingSettings(tuple(linear_quadratic(scale.steps).tolist()), 3.0),
            generator=torch.Generator().manual_seed(0),
            progress=QUIET,
            speed=row.speed,
        )
    )
    decoding, frames = bench.seconds(lambda: decode_clip(made))
    assert frames.shape == video.shape
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {
        "encode": encoding, "denoise": denoising, "decode": decoding, "job": encoding + denoising + decoding,
        "peak": peak, "share": unknown.float().mean().item(),
    }  # fmt: skip


@contextlib.contextmanager
def attention_choice(row: Row) -> Iterator[None]:
    """cuDNN's attention first, where the row asks for it."""
    if not row.cudnn:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch._dynamo.reset()
    order = [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]
    with sdpa_kernel(order, set_priority=True):
        yield


def step_times(bench: Bench, row: Row, transformer: Any = None, profile: bool = False) -> dict[str, float]:
    """Milliseconds of a step over all tokens, and of a sparse one: medians, both branches, nothing but the passes."""
    scale, device = bench.scale, bench.device
    transformer = bench.transformer if transformer is None else transformer
    width, height = scale.size
    shape = (
        1, transformer.config.in_channels, latent_frames(scale.frames, scale.geometry.time),
        height // scale.geometry.space, width // scale.geometry.space,
    )  # fmt: skip
    tokens = torch.randn(1, shape[2] * shape[3] * shape[4], shape[1], device=device)
    _, masks = make_clip(scale, row.share)
    moving = unknown_tokens(masks, scale.geometry).flatten().to(device)
    coordinates = token_coordinates(shape, scale.geometry, 24).to(device)
    # One step over all tokens, then sparse ones.
    sigmas = (1.0, *(0.999 - 1e-6 * i for i in range(100)), 0.0)
    times: dict[str, float] = {}
    batches = make_prompts(scale, row.together).batches(like=transformer.proj_in.weight)
    with (
        torch.no_grad(),
        open_passes(transformer, batches, coordinates, moving, sigmas=sigmas, speed=row.speed) as passes,
    ):
        for kind, step in (("full", 0), ("sparse", 1)):
            if kind == "sparse" and all(passes.plan):
                continue
            passes(tokens, step)
            taken = sorted(bench.seconds(lambda step=step: passes(tokens, step))[0] for _ in range(scale.repeats))
            times[kind] = 1000 * taken[len(taken) // 2]
            if profile and device.type == "cuda":
                print_profile(f"{row.name}, a {kind} step", lambda step=step: passes(tokens, step))
    return times


def print_profile(title: str, work: Callable[[], Any], count: int = 9) -> None:
    """The kernels that take longest."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record_kernels

    with record_kernels(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in events) / 1000
    launches = sum(event.count for event in events)
    print(f"\nKernels of {title}: {total:.1f} ms in {launches} launches")
    for event in events[:count]:
        print(f"  {event.self_device_time_total / 1000:7.2f} ms  {event.count:5d} ×  {event.key[:90]}")


# --- tables ----------------------------------------------------------------------------------------------------------

HEADER = (
    "| | unknown | first: job | warm: encode | denoise | decode | job | full step, ms | sparse step, ms | peak, GiB |"
)


def main_rows(bench: Bench) -> None:
    print(f"\n{HEADER}\n|" + " --- |" * (HEADER.count("|") - 1), flush=True)
    for row in ROWS:
        guarded(bench, row.name, lambda row=row: print_row(bench, row), cells=HEADER.count("|") - 2, need=row.need)
    print_ratios(bench)


def profiles(bench: Bench) -> None:
    for row in ROWS[:2]:
        step_times(bench, row, profile=True)


def cudnn_row(bench: Bench) -> None:
    if bench.device.type == "cuda":
        print_row(bench, CUDNN_ROW)


def print_ratios(bench: Bench) -> None:
    """How much faster the sparse compiled loops are than the dense compiled one."""
    times = {row: bench.found.get(row.name, {}).get("warm", {}).get("denoise") for row in ROWS[:3]}
    dense, *sparse = times
    for row in sparse:
        if times[dense] and times[row]:
            print(f"{row.name}: {times[dense] / times[row]:.2f}× faster than {dense.name}")


def print_row(bench: Bench, row: Row) -> None:
    with attention_choice(row):
        first = run_job(bench, row)
        warm = run_job(bench, row) if row.calls > 1 else first
        steps = step_times(bench, row)
    bench.found[row.name] = {"first": first, "warm": warm, "steps": steps}
    cells = [
        row.name, f"{warm['share']:.0%}", f"{first['job']:.2f}" if row.calls > 1 else "", *(f"{warm[k]:.2f}" for k in
        ("encode", "denoise", "decode", "job")), *(f"{steps[k]:.1f}" if k in steps else "" for k in ("full", "sparse")),
        f"{max(first['peak'], warm['peak']) / GIB:.2f}",
    ]  # fmt: skip
    print("| " + " | ".join(cells) + " |", flush=True)


def guarded(bench: Bench, name: str, work: Callable[[], None], cells: int = 1, need: float = 5.0) -> None:
    """Do it if there is time; an error is printed, and the rest goes on."""
    if bench.left() < need:
        print(f"| {name} | left out: the budget is spent |" + " |" * (cells - 1), flush=True)
        return
    try:
        work()
    except Exception as error:  # noqa: BLE001 - the next row is worth having whatever went wrong in this one
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:300]
        where = f"{Path(last.filename).name}:{last.lineno}"
        print(f"| {name} | {type(error).__name__} at {where}: {text} |" + " |" * (cells - 1), flush=True)
        bench.found[name] = {"error": traceback.format_exc()}
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()


def ceilings(bench: Bench) -> None:
    """What the device can do, and from it the least that the job's passes can take."""
    scale = bench.scale
    count = 8192 if bench.device.type == "cuda" else 512
    dtype = getattr(torch, scale.dtype)
    a, b = (torch.randn(count, count, device=bench.device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    seconds, _ = bench.seconds(lambda: [a @ b for _ in range(10)])
    bench.tflops = 10 * 2 * count**3 / seconds / 1e12
    tokens = count_tokens(scale)
    dense = 2 * scale.steps * pass_flops(scale.transformer, tokens, tokens)
    print(f"{scale.dtype} products of {count}² matrices: {bench.tflops:.3g} TFLOP/s")
    print(f"floor of {2 * scale.steps} dense passes over {tokens} tokens, {dense / 1e12:.3g} TFLOP: "
          f"{dense / bench.tflops / 1e12:.2f} s")  # fmt: skip
    sigmas = linear_quadratic(scale.steps).tolist()
    plan = full_passes(sigmas, DEFAULT_REFRESH)
    for share in (0.1, 0.25):
        fresh = round(share * tokens)
        sparse = sum(2 * pass_flops(scale.transformer, tokens if full else fresh, tokens) for full in plan)
        print(f"floor at {share:.0%} unknown, refresh {DEFAULT_REFRESH}: {sum(plan)} full and "
              f"{len(plan) - sum(plan)} sparse steps: {sparse / bench.tflops / 1e12:.2f} s")  # fmt: skip
    kept = kept_bytes(scale.transformer, tokens, 2, scale.dtype)
    print(f"kept keys and values of both branches: {kept / GIB:.2f} GiB", flush=True)
    bench.found["ceilings"] = {"tflops": bench.tflops, "dense_floor": dense / bench.tflops / 1e12}


def count_tokens(scale: Scale) -> int:
    width, height = scale.size
    geometry = scale.geometry
    return latent_frames(scale.frames, geometry.time) * (width // geometry.space) * (height // geometry.space)


def attention_kernels(bench: Bench) -> None:
    """Self-attention of both branches by each of torch's kernels, for full and for sparse queries."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tokens, config = count_tokens(bench.scale), bench.scale.transformer
    heads, depth = config["num_attention_heads"], config["attention_head_dim"]

    def part(count: int) -> torch.Tensor:
        dtype = getattr(torch, bench.scale.dtype)
        return torch.randn(2, count, heads, depth, device=bench.device, dtype=dtype).transpose(1, 2)

    key, value = part(tokens), part(tokens)
    for queries in (tokens, round(0.1 * tokens), round(0.25 * tokens)):
        query, cells = part(queries), []
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
            try:
                with sdpa_kernel(backend):
                    for _ in range(2):
                        scaled_dot_product_attention(query, key, value)
                    seconds, _ = bench.seconds(
                        lambda query=query: [scaled_dot_product_attention(query, key, value) for _ in range(10)]
                    )
                cells.append(f"{backend.name} {seconds * 100:.3f} ms")
            except RuntimeError:
                cells.append(f"{backend.name} not there")
        print(f"attention, {queries} queries to {tokens} keys: {', '.join(cells)}", flush=True)


def model_rows(bench: Bench) -> None:
    """A row a model: its own noise levels, guidance and way of stepping, every token and with 10% of them unknown."""
    encoding, decoding = vae_seconds(bench)
    print(f"\nencode {encoding:.2f} s and decode {decoding:.2f} s for every model; nothing compiled")
    header = "| model | steps | guidance | passes | dense: loop, s | job | sparse 10%: loop | job | full steps |"
    print(f"{header}\n|" + " --- |" * (header.count("|") - 1), flush=True)
    loops: dict[Any, dict[str, float]] = {}
    for entry in CATALOGUE.values():
        large = "13b" in entry.name

        def measure(large: bool = large, settings: Settings = entry.settings, name: str = entry.name) -> None:
            sigmas = tuple(model_sigmas(settings).tolist())
            # Nothing else makes a difference to what is computed: equals are measured once.
            work = large, sigmas, settings.guidance != 1, settings.stochastic
            if work not in loops:
                if large:
                    bench.use_large()
                loops[work] = {way: loop_seconds(bench, settings, sigmas, speed) for way, speed in WAYS.items()}
            steps, times = len(sigmas) - 1, loops[work]
            whole = {way: encoding + taken + decoding for way, taken in times.items()}
            passes = steps * (1 if settings.guidance == 1 else 2)
            full = sum(full_passes(sigmas, DEFAULT_REFRESH))
            cells = [f"{found[way]:.2f}" for way in WAYS for found in (times, whole)]
            print(f"| {name} | {steps} | {settings.guidance:g} | {passes} | {' | '.join(cells)} | {full} |", flush=True)
            bench.found[f"model {name}"] = {"steps": steps, "passes": passes, "loop": times, "job": whole}

        guarded(bench, entry.name, measure, cells=9, need=30.0 if large else 10.0)


WAYS = {"dense": Speed(hoist=True), "sparse": SPARSE}


def vae_seconds(bench: Bench) -> tuple[float, float]:
    """Seconds of encoding and decoding, warm."""
    taken = bench.found.get(ROWS[0].name, {}).get("warm")
    if taken is None:
        job = Bench(replace(bench.scale, steps=1), bench.device, bench.deadline, bench.transformer, bench.vae)
        taken = [run_job(job, Row("", PLAIN)) for _ in range(2)][-1]
    return taken["encode"], taken["decode"]


def loop_seconds(bench: Bench, settings: Settings, sigmas: tuple[float, ...], speed: Speed) -> float:
    """Seconds of a whole denoising loop as this model wants it, warm."""
    scale = bench.scale
    _, masks = make_clip(scale, 0.1)
    unknown = unknown_tokens(np.stack([pixels.grow(mask, DILATE) for mask in masks]), scale.geometry)
    latents = torch.randn(1, scale.geometry.channels, *unknown.shape, generator=torch.manual_seed(0))
    prompts = make_prompts(scale, True)
    if settings.guidance == 1:
        prompts = Prompts(prompts.embeds[1:], prompts.mask[1:])

    def loop(levels: tuple[float, ...]) -> Any:
        return denoise(
            bench.transformer,
            latents,
            unknown,
            prompts,
            token_coordinates(latents.shape, scale.geometry, settings.rate),
            settings=SamplingSettings(levels, settings.guidance, settings.stochastic),
            generator=torch.Generator().manual_seed(0),
            progress=QUIET,
            speed=speed,
        )

    # Libraries choose kernels for shapes they have not met in the first two steps.
    loop((sigmas[0], sigmas[0] - 0.01, 0.0))
    return bench.seconds(lambda: loop(sigmas))[0]


# --- the stage itself ------------------------------------------------------------------------------------------------


class RandomModel(Model):
    """An opened model whose components are there already, with random weights."""

    def __init__(self, bench: Bench) -> None:
        scale = bench.scale
        self.name = "random"
        longest = DEFAULT.settings.longest if scale is FULL else None
        self.settings = Settings(scale.steps, 3.0, scale.size, scale.frames, 24.0, "none", longest=longest)
        self.geometry = scale.geometry
        self._parts = {"encoder": bench.vae, "transformer": bench.transformer, "decoder": bench.vae}
        self._prompts = make_prompts(scale, True)

        self._checkpoint = Checkpoint(
            Path(), Component("transformer", scale.transformer, {}), Component("vae", scale.vae, {})
        )

    def check_prompts(self, prompts: Any, policy: Policy, cache: bool = True) -> None:
        pass

    def facts(self, prompts: Any, policy: Policy, cache: bool = True) -> ModelFacts:
        return read_facts(self.name, self._checkpoint, self.geometry, None)

    @contextlib.contextmanager
    def _component(self, kind: str, policy: Policy, load: Any) -> Iterator[Any]:
        yield self._parts[kind]

    def text(self, prompts: Any, policy: Policy, cache: bool = True, progress: Any = None) -> list[TextEmbedding]:
        rows = zip(self._prompts.embeds.split(1), self._prompts.mask.split(1), strict=True)
        return [TextEmbedding(embeds, mask) for embeds, mask in rows][-len(prompts) :]


# `remove_frames` as users call it, without evidence: what is chosen, the most important first.
STAGE_ROWS: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("--no-crop --dense --compile: the work of the baseline", {"crop": False, "dense": True, "compile": True}, 28.0),
    ("--no-crop --dense: the work of the baseline", {"crop": False, "dense": True}, 12.0),
    ("--no-crop", {"crop": False}, 8.0),
    ("--crop", {"crop": True}, 8.0),
    ("--no-crop --compile", {"crop": False, "compile": True}, 28.0),
    ("--crop --compile", {"crop": True, "compile": True}, 25.0),
    ("--crop --dense", {"crop": True, "dense": True}, 12.0),
)
# A mask of 1% in a large clip: the picture the model works at, and what is chosen.
CROP_CLIP = (1280, 690, 240)
CROP_SHARE = 0.01
CROP_ROWS: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("--crop", {"crop": True}, 15.0),
    ("--no-crop --size 1280x704", {"crop": False, "size": (1280, 704)}, 45.0),
    ("--no-crop", {"crop": False}, 25.0),
    ("--crop --dense", {"crop": True, "dense": True}, 20.0),
    ("--no-crop --dense", {"crop": False, "dense": True}, 45.0),
)


def stage_rows(bench: Bench) -> None:
    """Whole removals of the clip that all rows have."""
    video, masks = make_clip(bench.scale, 0.1)
    print("\n| remove_frames | first, s | warm, s | warm: stages |\n| --- | --- | --- | --- |", flush=True)
    for name, chosen, need in STAGE_ROWS:
        guarded(
            bench, name, lambda name=name, chosen=chosen: print_removal(bench, name, video, masks, chosen), need=need
        )


def crop_rows(bench: Bench) -> None:
    """Whole removals of a small still thing from a large clip."""
    width, height, count = CROP_CLIP if bench.scale is FULL else (160, 120, 21)
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, height // 10, width // 10, 3), dtype=np.uint8)
    video = small.repeat(10, 1).repeat(10, 2)
    masks = np.zeros((count, height, width), bool)
    side = round((CROP_SHARE * width * height) ** 0.5)
    top, left = (height - side) // 2, (width - side) // 3
    masks[:, top : top + side, left : left + side] = True
    print(f"\n{width}×{height}, {count} frames, {masks.mean():.1%} masked")
    print("| remove_frames | first, s | warm, s | warm: stages |\n| --- | --- | --- | --- |", flush=True)
    for name, chosen, need in CROP_ROWS:
        guarded(
            bench, name, lambda name=name, chosen=chosen: print_removal(bench, name, video, masks, chosen), need=need
        )


def print_removal(bench: Bench, name: str, video: np.ndarray, masks: np.ndarray, chosen: dict[str, Any]) -> None:
    """A removal from frames in memory to frames in memory, twice, with weights on the device."""
    from layerlift.options import RemovalOptions
    from layerlift.stages.removal import remove_frames

    policy = replace(
        BACKENDS["cuda" if bench.device.type == "cuda" else "cpu"], device=str(bench.device), resident=True
    )
    seconds: list[float] = []
    for _ in range(2):
        report = Report(device=str(bench.device))
        frames = remove_frames(
            video, masks, RemovalOptions(evidence="off", **chosen), Runtime(RandomModel(bench), policy, report=report)
        )
        taken, _ = bench.seconds(lambda frames=frames: [None for _ in frames])
        seconds.append(taken)
    stages = ", ".join(f"{stage} {cost.seconds:.2f}" for stage, cost in report.stages.items())
    seen = "×".join(map(str, report.sizes["padded"])) + f", {len(report.sizes['windows'])} windows"
    print(f"| {name} | {seconds[0]:.2f} | {seconds[1]:.2f} | {stages} ({seen}) |", flush=True)
    bench.found[f"remove_frames {name} {video.shape[2]}"] = {"first": seconds[0], "warm": seconds[1]}


def agreement(bench: Bench) -> None:
    """How far the fast ways' latents lie from the plain one's, relative to the largest: a tiny model in float32, two
    windows one after the other, which share what is recorded."""
    transformer = random_module("transformer", TINY.transformer, "float32", bench.device)
    width, height = TINY.size
    space, time_ = TINY.geometry.space, TINY.geometry.time
    shape = 1, TINY.geometry.channels, latent_frames(TINY.frames, time_), height // space, width // space
    settings = SamplingSettings(tuple(linear_quadratic(12).tolist()), 3.0)

    def window(number: int, prompts: Prompts, speed: Speed, loops: Loops | None) -> torch.Tensor:
        unknown = torch.zeros(shape[2:], dtype=torch.bool)
        unknown[number:, 2:4, 2:5] = True
        return denoise(
            transformer, torch.randn(shape, generator=torch.manual_seed(number)), unknown, prompts,
            token_coordinates(shape, TINY.geometry, 24 - number), settings=settings,
            generator=torch.manual_seed(number), progress=QUIET, speed=speed, loops=loops,
        )  # fmt: skip

    def run(speed: Speed, together: bool) -> torch.Tensor:
        prompts = make_prompts(TINY, together)
        if speed in (PLAIN, Speed(DEFAULT_REFRESH)):
            return torch.cat([window(number, prompts, speed, None) for number in range(2)])
        with open_denoising(transformer, prompts, settings, speed) as loops:
            return torch.cat([window(number, prompts, speed, loops) for number in range(2)])

    print(
        "\n| way, float32 on a tiny model | together | against | largest difference, of the largest value |\n|"
        + " --- |" * 4
    )
    dense = {"hoisted": Speed(hoist=True), "hoisted, recorded": Speed(hoist=True, graphs=True)}
    sparse = {"sparse, recorded": Speed(DEFAULT_REFRESH, hoist=True, graphs=True)}
    for together in (False, True):
        for rows, base, name in ((dense, PLAIN, "plain"), (sparse, Speed(DEFAULT_REFRESH), "sparse, plain")):
            expected = run(base, together)
            for way, speed in rows.items():
                off = (run(speed, together) - expected).abs().max() / expected.abs().max()
                print(f"| {way} | {together} | {name} | {off.item():.1e} |", flush=True)


# What can be asked for, in the order in which it is run: the work, and the seconds without which it is not begun.
PARTS: dict[str, tuple[Callable[[Bench], None], float]] = {
    "agreement": (agreement, 3.0),
    "rows": (main_rows, 5.0),
    "profile": (profiles, 5.0),
    "attention": (attention_kernels, 5.0),
    "remove_frames": (stage_rows, 8.0),
    "crop": (crop_rows, 15.0),
    "cudnn": (cudnn_row, CUDNN_ROW.need),
    "models": (model_rows, 8.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and clip, to see that the script runs")
    parser.add_argument("--budget", type=float, default=140.0, help="seconds after which no row is begun")
    parser.add_argument("--only", nargs="*", choices=PARTS, help="these parts instead of all of them")
    parser.add_argument("--json", type=Path, help="everything found, in full")
    arguments = parser.parse_args()
    began = time.perf_counter()
    device = torch.device(arguments.device)
    bench = Bench(TINY if arguments.tiny else FULL, device, began + arguments.budget)
    if arguments.tiny:
        # A real compiler takes a minute on a CPU; that blocks are traced and run compiled is seen without it too.
        record.COMPILE["backend"] = "eager"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    scale = bench.scale
    print(f"{name}, torch {torch.__version__}; {scale.size[0]}×{scale.size[1]}, {scale.frames} frames, "
          f"{scale.steps} steps, guidance 3, {scale.dtype}; weights of all components resident")  # fmt: skip
    print("Earlier system on one H100: 11.8 s, 14.05 GiB; bounds: 4.0 s warm, first call 25 s compiled and 6 s not")
    guarded(bench, "ceilings", lambda: ceilings(bench))

    def build() -> None:
        bench.transformer = random_module("transformer", scale.transformer, scale.dtype, device)
        bench.vae = random_module("vae", scale.vae, scale.dtype, device)
        # Modules of kernels are loaded and libraries started by a step that no row counts.
        warm_up = Bench(replace(scale, steps=1), device, bench.deadline, bench.transformer, bench.vae)
        taken = run_job(warm_up, Row("", PLAIN))
        print(f"very first job of the process, with one step: {taken['job']:.2f} s (encode {taken['encode']:.2f}, "
              f"denoise {taken['denoise']:.2f}, decode {taken['decode']:.2f})")  # fmt: skip

    guarded(bench, "weights", build)
    print(f"ready after {time.perf_counter() - began:.1f} s", flush=True)
    for part, (work, need) in PARTS.items():
        if part in (arguments.only or PARTS):
            guarded(bench, part, lambda work=work: work(bench), need=need)
    print(f"\nall in all {time.perf_counter() - began:.1f} s")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(bench.found, indent=1))


if __name__ == "__main__":
    main()
