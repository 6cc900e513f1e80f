"""From attention to a score: how likely each token shows an effect of each object.

Two ways to weigh what `AttentionProbe` sees. A model that carries `effects.safetensors` brings a weight for every head,
fitted on clips whose effects are known (the demo model does, see tools/fit_effect_heads.py). For any other model all
heads of the chosen layers count alike, and the clip itself is the yardstick: 0 is its usual token, 1 its object's.
docs/effects.md has what was tried, with figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from layerlift.engine.model.headers import open_weights, read_header
from layerlift.engine.model.probe import KINDS, AttentionProbe, Kind
from layerlift.engine.model.schema import HeadNumbers, checked
from layerlift.engine.model.text import NUMBERS
from layerlift.engine.sampling import TRAIN_TIMESTEPS
from layerlift.errors import InputError
from layerlift.pixels.effects import scores_of_frames

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

    from layerlift.engine.device import Policy
    from layerlift.engine.model import Model
    from layerlift.geometry.fit import Geometry

HEADS_FILE = "effects.safetensors"
OBJECTS_PROMPT = "objects"

# Two indicators an object: every token it touches, and its core. Tokens at the rim are half background, and draw the
# attention of background around them; the core does not, but says less about whose an effect is.
COLUMNS = 2
TOUCHED, CORE = range(COLUMNS)
CORE_SHARE = 0.9

# Relative mass below which heads do not differ: their logarithm would be noise.
LEAST_MASS = 1e-3

# Share of a token that counts as visible beside an object at least: what is less cannot be told.
LEAST_VISIBLE = 0.1

# Where an effect begins on the scale of even heads, and from where on it is a clear one; chosen on scenes 2200 … 2215.
RELATIVE_THRESHOLD, RELATIVE_CLEAR = 0.24, 0.5

# The same for fitted heads, whose threshold comes with the weights; chosen on scenes 2200 … 2231.
FITTED_CLEAR = 0.8


@dataclass(frozen=True, slots=True)
class FittedHeads:
    """A weight for every head, fitted so that the logistic of the sum is the share of a token that shows an effect.

    Attributes:
        weights: (kinds, COLUMNS, layers, heads) float32.
        bias: added to the sum.
        threshold: scores from here on are taken for effects, unless the user says otherwise.
        clear: an effect with such scores is seen in full; fainter ones are lifted there before they are drawn.
    """

    weights: torch.Tensor
    bias: float
    threshold: float
    clear: float = FITTED_CLEAR

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return KINDS

    @property
    def layers(self) -> None:
        return None

    def weigh(self, logs: torch.Tensor, kind: Kind, layer: int) -> torch.Tensor:
        """Sum over heads and columns: logarithms of relative mass (H, S, n, COLUMNS) → (S, n)."""
        weights = self.weights[KINDS.index(kind), :, layer].to(logs)  # (COLUMNS, H)
        return torch.einsum("hsnc,ch->sn", logs, weights)

    def finish(self, summed: torch.Tensor, coverage: Coverage) -> torch.Tensor:
        """Sums over layers and kinds (n, f, h, w) → scores in [0, 1]."""
        there = coverage.own.flatten(1).amax(1) > 0
        return torch.sigmoid(summed + self.bias) * there[:, None, None, None]


@dataclass(frozen=True, slots=True)
class EvenHeads:
    """All heads of some layers alike, by the attention before the rotary embedding.

    Masses are averaged geometrically, over heads and layers: a head that looks elsewhere counts against a token as much
    as one that looks at the object counts for it, where an ordinary mean would hear the loudest heads only.

    Attributes:
        layers: which ones, counted from 0.
        threshold, clear: see `FittedHeads`.
    """

    layers: Sequence[int]
    threshold: float = RELATIVE_THRESHOLD
    clear: float = RELATIVE_CLEAR

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return ("content",)

    def weigh(self, logs: torch.Tensor, kind: Kind, layer: int) -> torch.Tensor:
        """As `FittedHeads.weigh`, but for each column: (H, S, n, COLUMNS) → (S, n, COLUMNS)."""
        return logs.mean(0)

    def finish(self, summed: torch.Tensor, coverage: Coverage) -> torch.Tensor:
        """Sums over layers (n, f, h, w, COLUMNS) → scores in [0, 1].

        0 is the median token without an object, 1 the median of the object's core. A token that shows some of the
        object looks at it for that alone, so what lies beside the object in it has the rest of the score. Where several
        objects are looked at, the one whose touched tokens get most of it owns the effect.
        """
        logs = summed / len(self.layers)
        scores = relative_masses(logs.mean(-1), coverage)
        scores = ((scores - coverage.own) / (1 - coverage.own).clamp(min=LEAST_VISIBLE)).clamp(0, 1)
        touched = relative_masses(logs[..., TOUCHED], coverage)
        return scores * (touched == touched.amax(0))


def relative_masses(logs: torch.Tensor, coverage: Coverage) -> torch.Tensor:
    """Logarithms of mass (n, f, h, w) → mass, 0 at the usual token and 1 at the object; 0 where either is missing."""
    free = coverage.hidden == 0
    relative = []
    for values, core in zip(logs.exp(), core_of(coverage.own) > 0, strict=True):
        if not free.any() or not core.any():
            relative.append(torch.zeros_like(values))
            continue
        usual, own = values[free].median(), values[core].median()
        relative.append((values - usual) / (own - usual).clamp(min=LEAST_MASS))
    return torch.stack(relative)


Scorer = FittedHeads | EvenHeads


def choose_scorer(model: Model, layers: str | Sequence[int]) -> Scorer:
    """The scorer for "auto", "all" or a list of layers.

    "auto" is the model's fitted heads where it brings them, else all layers but the first, which knows of a token
    little more than its colours, and the last, which is about noise. Raises InputError for a layer that the model does
    not have or weights that do not fit it.
    """
    count, heads = model.attention_heads
    if layers == "auto":
        fitted = read_heads(model.path)
        if fitted is None:
            return EvenHeads(tuple(range(count))[1:-1] if count > 2 else tuple(range(count)))
        if fitted.weights.shape != (len(KINDS), COLUMNS, count, heads):
            raise InputError(
                f"{model.path / HEADS_FILE} has head weights of shape {tuple(fitted.weights.shape)}, but the model "
                f"has {count} layers of {heads} heads: remove the file or fit it again."
            )
        return fitted
    if layers == "all":
        return EvenHeads(tuple(range(count)))
    chosen = sorted(set(layers)) if not isinstance(layers, str) else []
    if not chosen or not all(isinstance(layer, int) and 0 <= layer < count for layer in chosen):
        raise InputError(f"--layers {layers!r} cannot be used: give auto, all, or numbers from 0 to {count - 1}.")
    return EvenHeads(tuple(chosen))


def read_heads(path: Path) -> FittedHeads | None:
    """The fitted heads a model folder carries; None for a folder without them and for single files.

    Raises InputError for a file that has not what it takes.
    """
    file = path / HEADS_FILE
    if not path.is_dir() or not file.is_file():
        return None
    specs, about = read_header(file)
    if "weights" not in specs or specs["weights"].dtype not in NUMBERS:
        raise InputError(f"{file} has no head weights: remove the file or fit it again.")
    numbers = checked(about, HeadNumbers, str(file), strict=False)  # metadata is text
    with open_weights(file) as data:
        weights = data.get_tensor("weights").float()
    if not bool(weights.isfinite().all()):
        raise InputError(f"{file} has head weights that are no numbers: remove the file or fit it again.")
    return FittedHeads(weights, numbers.bias, numbers.threshold)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What objects cover of each token; n objects.

    Attributes:
        own: (n, f, h, w) float32, the share of its pixels that are this object's and no other's. Where masks overlap
            one object hides the other, and the token shows nobody knows whose looks.
        hidden: (f, h, w) float32, the share of its pixels that any object covers.
    """

    own: torch.Tensor
    hidden: torch.Tensor

    def to(self, device: torch.device) -> Coverage:
        return Coverage(self.own.to(device), self.hidden.to(device))


def cover_tokens(objects: torch.Tensor, geometry: Geometry) -> Coverage:
    """Coverage of a window by its objects, (n, F, H, W) bool, 1 + k·time frames, sides in whole tokens."""
    if len(objects) == 1:
        own = token_shares(objects, geometry)
        return Coverage(own, own[0])
    alone = objects & (objects.sum(0, dtype=torch.uint8) == 1)
    # An object that others hide all along is taken as it is given: better its neighbour's looks than none.
    lost = ~alone.flatten(1).any(1)
    alone = torch.where(lost[:, None, None, None], objects, alone)
    return Coverage(token_shares(alone, geometry), token_shares(objects.any(0, keepdim=True), geometry)[0])


def token_shares(masks: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Which share of each token's pixels is masked: (n, F, H, W) bool → (n, f, h, w) float32, 1 + k·time frames."""
    n, _, height, width = masks.shape
    space, time = geometry.space, geometry.time
    # Counted byte by byte, along rows and then across them: as floats, masks would be as large as the clip itself.
    rows = masks.view(torch.uint8).view(n, -1, height // space, space, width // space, space).sum(5, dtype=torch.uint8)
    cells = rows.sum(3, dtype=torch.int32) / space**2  # (n, F, h, w)
    later = cells[:, 1:].unflatten(1, (-1, time)).mean(2)
    return torch.cat([cells[:, :1], later], 1)


def core_of(own: torch.Tensor) -> torch.Tensor:
    """Tokens that an object fills about as far as it fills any: (n, f, h, w) → the same, float32 0 or 1."""
    most = own.flatten(1).amax(1)[:, None, None, None]
    return ((own >= CORE_SHARE * most) & (own > 0)).float()


def object_columns(own: torch.Tensor) -> torch.Tensor:
    """The probe's indicators: (n, f, h, w) → (1, S, n·COLUMNS), each object's touched tokens, then its core."""
    pairs = torch.stack([(own > 0).float(), core_of(own)], 1)  # (n, COLUMNS, f, h, w)
    return pairs.flatten(2).flatten(0, 1).T[None]


@torch.no_grad()
def score_tokens(
    transformer: LTXVideoTransformer3DModel,
    latents: torch.Tensor,
    coverage: Coverage,
    text: tuple[torch.Tensor, torch.Tensor],
    coordinates: torch.Tensor,
    *,
    scorer: Scorer,
    sigmas: Sequence[float],
    generator: torch.Generator,
    policy: Policy,
) -> torch.Tensor:
    """How much each token looks at each object, in one forward pass for every sigma.

    Args:
        transformer: its weights decide device and dtype.
        latents: (1, C, f, h, w), normalised, of the clip with its objects.
        coverage: of the objects, n of them.
        text: embeddings (1, L, D) and mask (1, L) of the prompt.
        coordinates: (1, 3, S), see `layerlift.engine.sampling.token_coordinates`.
        scorer: how heads are weighed.
        sigmas: noise levels in [0, 1]; the passes are averaged.
        generator: on the CPU.
        policy: how attention is run.

    Returns:
        (n, f, h, w) float32 in [0, 1], on the transformer's device.
    """
    summed = torch.stack(
        [
            summed_logs(
                transformer,
                latents,
                coverage,
                text,
                coordinates,
                scorer=scorer,
                sigma=sigma,
                generator=generator,
                policy=policy,
            )
            for sigma in sigmas
        ]
    )
    return scorer.finish(summed.mean(0), coverage.to(summed.device))


def summed_logs(
    transformer: LTXVideoTransformer3DModel,
    latents: torch.Tensor,
    coverage: Coverage,
    text: tuple[torch.Tensor, torch.Tensor],
    coordinates: torch.Tensor,
    *,
    scorer: Scorer,
    sigma: float,
    generator: torch.Generator,
    policy: Policy,
) -> torch.Tensor:
    """One pass of `score_tokens`: what the scorer adds up over layers and kinds, (n, f, h, w, …) float32."""
    weight = transformer.proj_in.weight
    device = weight.device
    noise = torch.randn(latents.shape, generator=generator).to(device)
    noisy = (1 - sigma) * latents.to(device) + sigma * noise
    columns = object_columns(coverage.own.to(device))  # (1, S, n·COLUMNS)
    share = columns.mean(1).clamp(min=1 / columns.shape[1])[0]  # (n·COLUMNS,)

    def reduce(mass: torch.Tensor, kind: Kind, layer: int) -> torch.Tensor:
        logs = (mass[0] / share + LEAST_MASS).log()  # (H, S, n·COLUMNS)
        return scorer.weigh(logs.unflatten(2, (-1, COLUMNS)), kind, layer)

    embeds, mask = text
    with AttentionProbe(transformer, columns, policy, kinds=scorer.kinds, layers=scorer.layers, reduce=reduce) as probe:
        transformer(
            hidden_states=noisy.flatten(2).transpose(1, 2).to(weight.dtype),  # (1, C, f, h, w) → (1, S, C)
            encoder_hidden_states=embeds.to(weight),
            timestep=torch.full((1, columns.shape[1]), TRAIN_TIMESTEPS * sigma, device=device),
            encoder_attention_mask=mask.to(weight),
            video_coords=coordinates.to(device),
            return_dict=False,
        )
    summed = torch.stack([probe.stacked(kind).sum(0) for kind in scorer.kinds]).sum(0)  # (S, n, …)
    return summed.transpose(0, 1).unflatten(1, tuple(latents.shape[2:]))


def frame_scores(scores: torch.Tensor, coverage: Coverage, time: int) -> torch.Tensor:
    """Scores of tokens (n, f, h, w) as those of a window's frames, (n, F, h, w) float32."""
    return scores_of_frames(scores, coverage.hidden.to(scores.device), 1 + time * (scores.shape[1] - 1), time)


def cells_of_frames(objects: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Cells that each object touches: (n, F, H, W) bool, sides in whole tokens → (n, F, h, w) bool."""
    n, frames, height, width = objects.shape
    space = geometry.space
    return objects.view(n, frames, height // space, space, width // space, space).any(5).any(3)


def choose_prompt(model: Model) -> str:
    """What the clip shows, as far as it matters: the demo model has a word for it, any other is told nothing."""
    known = model.known_prompts
    if known is None:
        return ""
    return next((prompt for prompt in (OBJECTS_PROMPT, "") if prompt in known), known[0])
