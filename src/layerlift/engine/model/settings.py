"""How a checkpoint wants to be sampled, as published with it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Annotated, Any

from msgspec import Meta

from layerlift.engine.model.schema import checked
from layerlift.errors import InputError
from layerlift.limits import FASTEST, LONGEST_SIDE, MOST_CONTEXT, MOST_GUIDANCE, MOST_STEPS, MOST_WINDOW

_Side = Annotated[int, Meta(ge=1, le=LONGEST_SIDE)]
_Frames = Annotated[int, Meta(ge=1, le=MOST_WINDOW)]
_Level = Annotated[float, Meta(gt=0, le=1)]


@dataclass(frozen=True, slots=True)
class Settings:
    """A checkpoint's own settings; the command line may override some."""

    steps: Annotated[int, Meta(ge=1, le=MOST_STEPS)]
    """Denoising steps."""
    guidance: Annotated[float, Meta(ge=1, le=MOST_GUIDANCE)]
    """Classifier-free guidance; 1 means none, and then the negative prompt is not run."""
    size: tuple[_Side, _Side]
    """The picture the model works at: width, height in pixels."""
    frames: _Frames
    """Frames the model works at in one window."""
    rate: Annotated[float, Meta(gt=0, le=FASTEST)]
    """Frames per second the model was trained to expect."""
    licence: Annotated[str, Meta(max_length=1000)]
    sigmas: Annotated[tuple[_Level, ...], Meta(min_length=1, max_length=MOST_STEPS)] | None = None
    """Noise levels the steps start from, falling, without the final 0; None: a schedule for any number of steps."""
    shift: Annotated[float, Meta(gt=0, le=1000)] | None = None
    """Even noise levels, shifted by this towards noise; None: the linear-quadratic schedule. Without `sigmas` only."""
    stochastic: bool = False
    """Draw fresh noise after every step, as consistency-like distilled checkpoints are sampled."""
    longest: _Frames | None = None
    """Frames that a window may have at the most where the picture is so small that they make no more tokens than
    `frames` at `size`: up to how many the model was trained on. None: `frames`."""
    decode_timestep: Annotated[float, Meta(ge=0, le=1)] = 0.05
    """Timestep in [0, 1] given to a VAE decoder that is conditioned on one."""
    decode_noise: Annotated[float, Meta(ge=0, le=1)] = 0.025
    """Share of noise in [0, 1] mixed into the latents before such a decoder."""
    context: Annotated[int, Meta(ge=0, le=MOST_CONTEXT)] = 0
    """Latent frames of other windows that each window of a long clip is shown, at most. They cost time and memory: 0
    where it has not been measured that the model understands tokens from that far away."""
    any_scale: bool = True
    """Whether the model knows things at any scale; else a crop shows them no larger than the whole picture would."""
    random: bool = False
    """Whether its weights are random numbers, as for measuring speed: what they make is nonsense, and is let pass."""
    fill_depth: Annotated[float, Meta(ge=0, le=LONGEST_SIDE)] = 4.0
    """Holes in the evidence that are nowhere deeper than this, in pixels of the size the model works at, are inpainted:
    a model's own detail ends far above that, and a seam around a sliver costs more than it brings."""

    def __post_init__(self) -> None:
        """Raises ValueError where the noise levels do not fall."""
        if self.sigmas is not None and any(a <= b for a, b in pairwise(self.sigmas)):
            raise ValueError(f"sigmas {list(self.sigmas)} do not fall")

    @staticmethod
    def from_json(values: Mapping[str, Any], where: str) -> "Settings":
        """Settings from a JSON object with exactly these names. Raises InputError naming `where` and what is wrong."""
        known = {field.name for field in fields(Settings)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"{where} has unknown settings: {', '.join(unknown)}; remove them.")
        return checked(dict(values), Settings, f"the settings of {where}")
