"""Take a video apart: clean plates without objects and their effects, from a pre-trained video diffusion model.

The public Python API is the stages' functions and what they need; each name is imported only when it is used, so
that ``import layerlift`` costs nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlift.clip import Clip, open_clip, write_clip
    from layerlift.clip.rgba import LayerClip
    from layerlift.clip.rgba_reader import open_layer
    from layerlift.clip.rgba_writer import write_layer
    from layerlift.errors import InputError, LayerliftError
    from layerlift.masks import Mask, open_mask
    from layerlift.model import open_model
    from layerlift.stages.composition import compose
    from layerlift.stages.effects import mask
    from layerlift.stages.latent_composition import compose_latent
    from layerlift.stages.layers import extract
    from layerlift.stages.reference import suggest_references
    from layerlift.stages.removal import remove

# Metal lacks an operation now and then: computed on the CPU instead of ending the run. Read when torch is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

__version__ = "0.1.0"

_HOMES = {
    "Clip": "layerlift.clip",
    "open_clip": "layerlift.clip",
    "write_clip": "layerlift.clip",
    "LayerClip": "layerlift.clip.rgba",
    "open_layer": "layerlift.clip.rgba_reader",
    "write_layer": "layerlift.clip.rgba_writer",
    "Mask": "layerlift.masks",
    "open_mask": "layerlift.masks",
    "InputError": "layerlift.errors",
    "LayerliftError": "layerlift.errors",
    "open_model": "layerlift.model",
    "compose": "layerlift.stages.composition",
    "compose_latent": "layerlift.stages.latent_composition",
    "extract": "layerlift.stages.layers",
    "mask": "layerlift.stages.effects",
    "remove": "layerlift.stages.removal",
    "suggest_references": "layerlift.stages.reference",
}

__all__ = [
    "Clip",
    "InputError",
    "LayerClip",
    "LayerliftError",
    "Mask",
    "__version__",
    "compose",
    "compose_latent",
    "extract",
    "mask",
    "open_clip",
    "open_layer",
    "open_mask",
    "open_model",
    "remove",
    "suggest_references",
    "write_clip",
    "write_layer",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
