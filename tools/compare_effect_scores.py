"""Prints how well ways to score tokens tell effects, on scenes whose effects are known: a row a way.

    python tools/compare_effect_scores.py [--seeds 2200:2232] [--sigmas 0.4] [--keep looks.pt]

Every head's attention mass on the objects is recorded in a pass a scene and sigma, then each way joins the same heads.
"AUC" ranks effect tokens over the others among tokens without any object. The other figures count every token of which
at least a tenth is visible beside objects: "precision" is that of the threshold at which 90% of the visible effect is
found, over all scenes at once; "no effects" is, at that threshold, objects and what is taken for effects over the
objects, on scenes that have no effects; "wrong object" the share of effect tokens that score higher for the other
object. With `--keep` what was recorded is kept in a file, and read from there if it exists. A CPU takes 5 s a scene.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from fit_effect_heads import HEIGHT, WIDTH, Recorder
from layerlift.bench.effects import EFFECT_SHARE, LEAST_TOKENS
from layerlift.cli.bench import parse_seeds
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.engine.model.effect_score import (
    CORE,
    LEAST_MASS,
    TOUCHED,
    Coverage,
    EvenHeads,
    choose_prompt,
    choose_scorer,
    cover_tokens,
    relative_masses,
    summed_logs,
    token_shares,
)
from layerlift.engine.model.latents import encode
from layerlift.engine.sampling import token_coordinates
from layerlift.metrics import area_under_curve
from layerlift.parse import parse_sigmas
from layerlift.scenes import make_scene

FRAMES = 17
CONTENT, POSITIONAL = 0, 1
VISIBLE = 0.1
FOUND = 0.9
NOTHING = 0.02  # a smaller share of a token is no effect

# Logarithms of mass (n, S, kinds, COLUMNS, layers, heads) → scores of tokens (n, S), before they are made relative.
Join = Callable[[torch.Tensor], torch.Tensor]
Looks = dict[int, dict[float, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Truth:
    """What a scene's tokens show."""

    coverage: Coverage
    effects: torch.Tensor  # (n, f, h, w)


def main() -> None:
    args = parse_arguments()
    model = open_model("demo")
    seeds, sigmas = parse_seeds(args.seeds), parse_sigmas(args.sigmas)
    looks: Looks = (
        torch.load(args.keep) if args.keep is not None and args.keep.is_file() else look(model, seeds, sigmas)
    )
    if args.keep is not None:
        torch.save(looks, args.keep)
    truths = {seed: truth_of(model, seed) for seed in seeds}
    print("| sigma | way | AUC | precision | no effects | wrong object |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for sigma in sigmas:
        logs = [looks[seed][sigma] for seed in seeds]
        for name, score in ways(model):
            scores = [score(own, truth.coverage) for own, truth in zip(logs, truths.values(), strict=True)]
            print(f"| {sigma} | {name} | {measure(scores, list(truths.values()))} |", flush=True)


def look(model: Model, seeds: Sequence[int], sigmas: Sequence[float]) -> Looks:
    """Every head's logarithm of relative mass for every scene and sigma."""
    policy = choose_policy("cpu")
    text = model.text([choose_prompt(model)], policy)[0]
    looks: Looks = {}
    with model.vae_encoder(policy) as vae, model.transformer(policy) as transformer:
        for seed in seeds:
            scene = make_scene(seed, WIDTH, HEIGHT, FRAMES)
            latents = encode(vae, scene.video)
            coordinates = token_coordinates(latents.shape, model.geometry, model.settings.rate)
            coverage = cover_tokens(torch.from_numpy(scene.object_masks), model.geometry)
            looks[seed] = {}
            for sigma in sigmas:
                recorder = Recorder()
                with torch.no_grad():
                    summed_logs(
                        transformer,
                        latents,
                        coverage,
                        (text.embeds, text.mask),
                        coordinates,
                        scorer=recorder,  # type: ignore[arg-type]
                        sigma=sigma,
                        generator=torch.Generator().manual_seed(0),
                        policy=policy,
                    )
                looks[seed][sigma] = recorder.stacked()
        del vae, transformer
    return looks


def truth_of(model: Model, seed: int) -> Truth:
    scene = make_scene(seed, WIDTH, HEIGHT, FRAMES)
    objects, effects = torch.from_numpy(scene.object_masks), torch.from_numpy(scene.effect_masks)
    return Truth(cover_tokens(objects, model.geometry), token_shares(effects, model.geometry))


def ways(model: Model) -> Iterator[tuple[str, Callable[[torch.Tensor, Coverage], torch.Tensor]]]:
    """Name, and what makes scores (n, f, h, w) of logs and coverage."""
    count, _ = model.attention_heads
    inner = slice(1, count - 1)

    def geometric(logs: torch.Tensor, kind: int, column: int, layers: slice = slice(None)) -> torch.Tensor:
        return logs[:, :, kind, column, layers].mean((2, 3))

    def loudest(logs: torch.Tensor) -> torch.Tensor:
        return masses(logs[:, :, CONTENT, TOUCHED]).amax(3).mean(2).log()

    def arithmetic(logs: torch.Tensor) -> torch.Tensor:
        return masses(logs[:, :, CONTENT, TOUCHED]).mean((2, 3)).log()

    def both_kinds(logs: torch.Tensor) -> torch.Tensor:
        return logs[:, :, :, TOUCHED].mean((2, 3, 4))

    joins: dict[str, Join] = {
        "content, touched tokens, geometric mean": partial(geometric, kind=CONTENT, column=TOUCHED),
        "content, core, geometric mean": partial(geometric, kind=CONTENT, column=CORE),
        "positional, touched tokens, geometric mean": partial(geometric, kind=POSITIONAL, column=TOUCHED),
        "positional, core, geometric mean": partial(geometric, kind=POSITIONAL, column=CORE),
        "content and positional, touched tokens": both_kinds,
        "content, touched, maximum over heads, mean over layers": loudest,
        "content, touched, mean over heads and layers": arithmetic,
        "content, touched, geometric, first layer": partial(
            geometric, kind=CONTENT, column=TOUCHED, layers=slice(0, 1)
        ),
        "content, touched, geometric, last layer": partial(
            geometric, kind=CONTENT, column=TOUCHED, layers=slice(count - 1, count)
        ),
        "content, touched, geometric, without first and last layer": partial(
            geometric, kind=CONTENT, column=TOUCHED, layers=inner
        ),
    }
    for name, join in joins.items():
        yield name, partial(relative, join)
    even = EvenHeads(tuple(range(count))[inner])
    yield (
        "**even heads**: touched and core, less the object's share, owner by touched",
        lambda logs, coverage: even.finish(shaped(logs[:, :, CONTENT, :, inner].mean(4).sum(3), coverage), coverage),
    )
    fitted = choose_scorer(model, "auto")
    assert not isinstance(fitted, EvenHeads)
    yield (
        "**fitted heads**: all of it, a weight a head",
        lambda logs, coverage: fitted.finish(
            shaped(torch.einsum("nskclh,kclh->ns", logs, fitted.weights), coverage), coverage
        ),
    )


def relative(join: Join, logs: torch.Tensor, coverage: Coverage) -> torch.Tensor:
    """0 at the usual token, 1 at the object's core."""
    return relative_masses(shaped(join(logs), coverage), coverage)


def masses(logs: torch.Tensor) -> torch.Tensor:
    return (logs.exp() - LEAST_MASS).clamp(min=0) + LEAST_MASS


def shaped(values: torch.Tensor, coverage: Coverage) -> torch.Tensor:
    """(n, S, …) → (n, f, h, w, …)."""
    return values.unflatten(1, tuple(coverage.hidden.shape))


def measure(scores: Sequence[torch.Tensor], truths: Sequence[Truth]) -> str:
    """The figures of a row; scores (n, f, h, w) a scene."""
    areas: list[float] = []
    found: list[tuple[torch.Tensor, torch.Tensor]] = []  # scores and visible shares of effect tokens
    others: list[tuple[torch.Tensor, torch.Tensor]] = []
    clean: list[tuple[torch.Tensor, torch.Tensor, float]] = []
    wrong = counted = 0
    for own, truth in zip(scores, truths, strict=True):
        hidden, best, effect = truth.coverage.hidden, own.amax(0), truth.effects.amax(0)
        free, visible = hidden == 0, 1 - hidden
        shown = visible > VISIBLE
        positive = (effect / visible.clamp(min=VISIBLE) > EFFECT_SHARE) & shown
        negative = (effect < NOTHING) & shown
        if (positive & free).sum() >= LEAST_TOKENS:
            seen, unseen = best[(effect > EFFECT_SHARE) & free], best[(effect <= EFFECT_SHARE) & free]
            areas.append(area_under_curve(seen.numpy(), unseen.numpy()))
        found.append((best[positive], visible[positive]))
        others.append((best[negative], visible[negative]))
        if not truth.effects.any():
            clean.append((best[negative], visible[negative], float(hidden.sum())))
        for i in range(len(own)) if len(own) == 2 else ():
            mine = (truth.effects[i] > EFFECT_SHARE) & (truth.effects[1 - i] < NOTHING) & shown
            wrong += int((own[1 - i] > own[i])[mine].sum())
            counted += int(mine.sum())
    values, weights = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = values.argsort()
    lost = weights[order].cumsum(0) / weights.sum()
    threshold = values[order][int((lost < 1 - FOUND).sum())]
    hits = weights[values >= threshold].sum()
    false = sum(share[score >= threshold].sum() for score, share in others)
    larger = [1 + float(share[score >= threshold].sum()) / size for score, share, size in clean]
    figures = (
        f"{sum(areas) / max(1, len(areas)):.4f}",
        f"{float(hits / (hits + false)):.2f}",
        f"{sum(larger) / len(larger):.2f}" if larger else "–",
        f"{wrong / counted:.3f}" if counted else "–",
    )
    return " | ".join(figures)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", default="2200:2232")
    parser.add_argument("--sigmas", default="0.4")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep what was recorded, or read it from there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
