"""How a checkpoint wants to be sampled, as published with it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from layerlift.errors import InputError


@dataclass(frozen=True, slots=True)
class Settings:
    """A checkpoint's own settings; the command line may override some."""

    steps: int
    """Denoising steps."""
    guidance: float
    """Classifier-free guidance; 1 means none, and then the negative prompt is not run."""
    size: tuple[int, int]
    """The picture the model works at: width, height in pixels."""
    frames: int
    """Frames the model works at in one window."""
    rate: float
    """Frames per second the model was trained to expect."""
    licence: str
    sigmas: tuple[float, ...] | None = None
    """Noise levels the steps start from, falling, without the final 0; None: a schedule for any number of steps."""
    shift: float | None = None
    """Even noise levels, shifted by this towards noise; None: the linear-quadratic schedule. Without `sigmas` only."""
    stochastic: bool = False
    """Draw fresh noise after every step, as consistency-like distilled checkpoints are sampled."""
    longest: int | None = None
    """Frames that a window may have at the most where the picture is so small that they make no more tokens than
    `frames` at `size`: up to how many the model was trained on. None: `frames`."""
    decode_timestep: float = 0.05
    """Timestep in [0, 1] given to a VAE decoder that is conditioned on one."""
    decode_noise: float = 0.025
    """Share of noise in [0, 1] mixed into the latents before such a decoder."""
    context: int = 0
    """Latent frames of other windows that each window of a long clip is shown, at most. They cost time and memory: 0
    where it has not been measured that the model understands tokens from that far away."""
    any_scale: bool = True
    """Whether the model knows things at any scale; else a crop shows them no larger than the whole picture would."""
    fill_depth: float = 4.0
    """Holes in the evidence that are nowhere deeper than this, in pixels of the size the model works at, are inpainted:
    a model's own detail ends far above that, and a seam around a sliver costs more than it brings."""

    @staticmethod
    def from_json(values: Mapping[str, Any], where: str) -> "Settings":
        """Settings from a JSON object with exactly these names. Raises InputError naming `where` and what is wrong."""
        known = {field.name for field in fields(Settings)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"{where} has unknown settings: {', '.join(unknown)}; remove them.")
        given = dict(values)
        try:
            if given.get("sigmas") is not None:
                given["sigmas"] = tuple(float(sigma) for sigma in given["sigmas"])
            width, height = given["size"]
            given["size"] = (int(width), int(height))
            return Settings(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{where} has incomplete settings ({error}); it needs {', '.join(sorted(known))}."
            ) from error
