"""`layerlift plan`: how a clip would be run in the memory there is, without running it."""

from typing import TYPE_CHECKING

import typer

from layerlift.cli import options as common
from layerlift.cli.job import open_input

if TYPE_CHECKING:
    from layerlift.device.plan import Plan


def plan(
    clip: common.ClipArgument,
    model: common.ModelName = None,
    text_encoder: common.TextEncoder = None,
    no_cache: common.NoCache = False,
    guidance: common.Guidance = None,
    size: common.Size = None,
    frames: common.Frames = None,
    window: common.Window = None,
    memory: common.Memory = None,
    weights: common.Weights = "auto",
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
) -> None:
    """Say how remove would run CLIP: precision, pieces, what stays in memory, and what each stage takes."""
    pixels = common.parse_size(size) if size is not None else None
    span = common.parse_frames(frames) if frames is not None else None
    common.check_guidance(guidance)

    from layerlift.device import choose_policy
    from layerlift.device.budget import check_memory
    from layerlift.fit import choose_box, fit_size
    from layerlift.stages.choose_model import require_model
    from layerlift.stages.planning import plan_clip
    from layerlift.stages.removal import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT

    given = check_memory(memory)
    source = open_input(clip, span)
    chosen = choose_policy(device, dtype, policy, weights=weights)
    opened = require_model(model, "a plan", text_encoder=text_encoder)
    strength = opened.settings.guidance if guidance is None else guidance
    prompts = [DEFAULT_PROMPT] if strength == 1 else [DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT]
    opened.check_prompts(prompts, chosen, not no_cache)
    native = (source.width, source.height)
    geometry = opened.geometry
    fit = fit_size(native, choose_box(native, opened.settings.size, pixels, geometry.space), geometry.space)
    windows, made = plan_clip(
        opened, fit, source.frame_count, prompts, chosen, window=window, memory=given,
        context=opened.settings.context, cache=not no_cache,
    )  # fmt: skip

    lines = [
        f"clip       {source.width}x{source.height}, {source.frame_count} frames",
        f"model      {opened.name} on {chosen.device}",
        f"works at   {fit.padded[0]}x{fit.padded[1]}, {_count(len(windows), 'window')} of up to "
        f"{made.request.frames} frames, {made.request.tokens} tokens",
    ]
    typer.echo("\n".join([*lines, *describe(made)]))


def describe(made: "Plan") -> list[str]:
    """A plan in lines: memory, every stage's part of it, and how it runs."""
    from layerlift.device.needs import GIB

    request, policy = made.request, made.policy
    lines = [f"memory     {request.memory / GIB:.1f} GiB may be taken, {made.peak / GIB:.2f} are planned", ""]
    lines.append(f"{'GiB':10} {'weights':>8} {'arrays':>8} {'host':>8} {'in all':>8}")
    for need in made.needs:
        parts = (need.weights, need.activations, need.host, need.total)
        lines.append(f"{need.stage:10}" + "".join(f" {part / GIB:8.2f}" for part in parts))
    limit = policy.attention_limit_bytes
    layers = request.facts.layers
    weights = "8 bits in the blocks" if policy.int8 else policy.transformer_dtype
    there = layers - policy.streamed_blocks
    kept = f", weights kept in {policy.vae_storage}" if policy.vae_storage else ""
    if policy.vae_streamed:
        kept = ", weights read from disk for every piece"
    rows = {
        "transformer": f"{weights}, {'all' if there == layers else there or 'none'} of its {layers} blocks stay in "
        + ("memory" if there == layers else "memory, the others are read in every pass"),
        "guidance": "none" if request.branches == 1 else "in one pass" if policy.batched_guidance else "in two passes",
        "passes": "over unknown tokens alone where that pays" if made.sparse else "over all tokens",
        "attention": "at once" if limit is None else f"in pieces of at most {limit / 2**20:.0f} MiB",
        "VAE": f"{policy.vae_dtype}, {policy.vae_frames or 'all'} frames at a time{kept}",
        "text": "ready" if request.facts.text_block is None else "block by block" if policy.text_stream else "at once",
    }
    return [*lines, "", *(f"{name:12} {value}" for name, value in rows.items())]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
