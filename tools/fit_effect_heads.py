"""Fits a weight for every attention head of a model, so that their sum tells tokens that show an effect.

    python tools/fit_effect_heads.py --model demo --to src/layerlift/engine/model/demo/effects.safetensors

A logistic regression on scenes whose effects are known: its inputs are the logarithms of each head's attention mass on
an object, before and after the rotary embedding, its target is the share of a token's visible background that an effect
covers. Seeds from 2000 up, so that those of the benchmark (1000 … 1031) are never seen; the last eighth of the scenes
is held out and only measured. A CPU is enough: a quarter of an hour.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from layerlift.engine.device import choose_policy
from layerlift.engine.model import open_model
from layerlift.engine.model.effect_score import (
    COLUMNS,
    Coverage,
    choose_prompt,
    cover_tokens,
    summed_logs,
    token_shares,
)
from layerlift.engine.model.latents import encode
from layerlift.engine.model.probe import KINDS, Kind
from layerlift.engine.sampling import token_coordinates
from layerlift.geometry.fit import Geometry
from layerlift.metrics import area_under_curve
from layerlift.scenes import Scene, make_scene

FIRST_SEED = 2000
WIDTH, HEIGHT = 288, 192
FRAMES = (17, 17, 17, 33)
SIGMAS = (0.4, 0.4, 0.25, 0.55)
THRESHOLD = 0.25  # where held-out scenes lose as few effects as they can without taking in much else
DECAY = 1e-3
NEAR = 5.0  # weight of a token near the object over one that is far: there the two are hard to tell apart
NEAR_CELLS = 2


@dataclass(slots=True)
class Recorder:
    """In a scorer's place: keeps every head's logarithms instead of weighing them."""

    kinds: tuple[Kind, ...] = KINDS
    layers: None = None
    logs: dict[Kind, list[torch.Tensor]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def weigh(self, logs: torch.Tensor, kind: Kind, layer: int) -> torch.Tensor:
        self.logs[kind].append(logs)
        return logs[..., 0].mean(0)

    def stacked(self) -> torch.Tensor:
        """(n, S, kinds, COLUMNS, layers, heads)."""
        logs = torch.stack([torch.stack(self.logs[kind]) for kind in KINDS])  # (kinds, layers, H, S, n, COLUMNS)
        return logs.permute(4, 3, 0, 5, 1, 2)


@dataclass(frozen=True, slots=True)
class Sample:
    """One object of a scene, a row a token: inputs (S, d), target and weight (S,), which are free of objects."""

    inputs: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    free: torch.Tensor
    far: torch.Tensor


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(0)
    samples = [sample for part in gather(args) for sample in part]
    held = max(1, len(samples) // 8)
    weights, bias = fit(samples[:-held])
    for name, part in (("fitted", samples[:-held]), ("held out", samples[-held:])):
        print(name, len(part), "objects", measure(part, weights, bias))
    model = open_model(args.model)
    layers, heads = model.attention_heads
    shaped = weights.view(len(KINDS), COLUMNS, layers, heads).float().contiguous()
    save_file({"weights": shaped}, args.to, {"bias": str(bias), "threshold": str(THRESHOLD)})
    print("wrote", args.to)


def gather(args: argparse.Namespace) -> list[list[Sample]]:
    """Render, encode and look, scene after scene."""
    model, policy = open_model(args.model), choose_policy(args.device)
    text = model.text([choose_prompt(model)], policy)[0]
    found = []
    with model.vae_encoder(policy) as vae, model.transformer(policy) as transformer:
        for i in range(args.scenes):
            scene = make_scene(FIRST_SEED + i, WIDTH, HEIGHT, FRAMES[i // 4 % len(FRAMES)])
            latents = encode(vae, scene.video)
            coverage = cover_tokens(torch.from_numpy(scene.object_masks), model.geometry)
            recorder = Recorder()
            with torch.no_grad():
                summed_logs(
                    transformer,
                    latents,
                    coverage,
                    (text.embeds, text.mask),
                    token_coordinates(latents.shape, model.geometry, model.settings.rate),
                    scorer=recorder,  # type: ignore[arg-type]
                    sigma=SIGMAS[i % len(SIGMAS)],
                    generator=torch.Generator().manual_seed(i),
                    policy=policy,
                )
            found.append(samples_of(scene, recorder.stacked(), coverage, model.geometry))
            print(f"{i + 1} of {args.scenes}", flush=True)
        del vae, transformer
    return found


def samples_of(scene: Scene, logs: torch.Tensor, coverage: Coverage, geometry: Geometry) -> list[Sample]:
    """A sample an object."""
    effects = token_shares(torch.from_numpy(scene.effect_masks), geometry)
    hidden = coverage.hidden
    seen = 1 - hidden
    made = []
    for own, effect, covered in zip(logs, effects, coverage.own, strict=True):
        size = 2 * NEAR_CELLS + 1
        near = F.max_pool2d((covered > 0).float()[:, None], size, stride=1, padding=NEAR_CELLS)[:, 0] > 0
        weight = seen * (seen > 0.1) * torch.where(near, NEAR, 1.0)
        target = (effect / seen.clamp(min=0.05)).clamp(0, 1)
        made.append(
            Sample(own.flatten(1), target.flatten(), weight.flatten(), (hidden == 0).flatten(), ~near.flatten())
        )
    return made


def fit(samples: list[Sample]) -> tuple[torch.Tensor, float]:
    """Logistic regression with decay on standardised inputs; returns weights (d,) and bias for inputs as they are."""
    inputs = torch.cat([sample.inputs for sample in samples])
    target = torch.cat([sample.target for sample in samples])
    weight = torch.cat([sample.weight for sample in samples])
    mean, deviation = inputs.mean(0), inputs.std(0)
    inputs = (inputs - mean) / deviation
    beta = torch.zeros(inputs.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([beta], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = inputs @ beta[:-1] + beta[-1]
        loss = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).sum() / weight.sum()
        loss = loss + DECAY * beta[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    beta = beta.detach()
    weights = beta[:-1] / deviation
    return weights, float(beta[-1] - (weights * mean).sum())


def measure(samples: list[Sample], weights: torch.Tensor, bias: float) -> str:
    """Ranking of effect tokens over the others, everywhere and near the object, and the fit's own loss."""
    everywhere: list[float] = []
    near: list[float] = []
    losses: list[float] = []
    for sample in samples:
        logits = sample.inputs @ weights + bias
        losses.append(F.binary_cross_entropy_with_logits(logits, sample.target, sample.weight).item())
        effect = sample.target > 0.3
        for name, where in ((everywhere, sample.free), (near, sample.free & ~sample.far)):
            if (effect & where).sum() >= 3:
                name.append(area_under_curve(logits[effect & where].numpy(), logits[~effect & where].numpy()))
    means = [sum(part) / max(1, len(part)) for part in (everywhere, near, losses)]
    return "AUC {:.4f}, near the object {:.4f}, loss {:.4f}".format(*means)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=112)
    parser.add_argument("--device", default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
