"""Take a video apart: clean plates without objects and their effects, from a pre-trained video diffusion model.

The public Python API. Each job has one function that does it (`remove`), one that yields the result frame by frame
(`remove_frames`), and the two that both are made of: `plan_removal` checks everything and reads no weight, and
`run_removal` does the work. The option classes hold the user's choices; `Runtime` holds what the work runs with. Each
name is imported only when it is used, so ``import layerlift`` costs nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlift.clip import Clip, open_clip, write_clip
    from layerlift.clip.rgba import LayerClip
    from layerlift.clip.rgba_reader import open_layer
    from layerlift.clip.rgba_writer import write_layer
    from layerlift.engine.model import open_model
    from layerlift.errors import InputError, LayerliftError
    from layerlift.masks import Mask, open_mask
    from layerlift.options import (
        CompositionOptions,
        EffectOptions,
        ExtractionOptions,
        LatentCompositionOptions,
        ReferenceOptions,
        RemovalOptions,
        RunOptions,
        RuntimeOptions,
        SegmentationOptions,
    )
    from layerlift.progress import Cancellation, CancelledError, Progress, StageProgress
    from layerlift.report import Report
    from layerlift.runtime import Runtime, open_runtime
    from layerlift.stages.composition import compose, compose_frames, plan_composition, run_composition
    from layerlift.stages.composition.latent import (
        compose_latent,
        compose_latent_frames,
        plan_latent_composition,
        run_latent_composition,
    )
    from layerlift.stages.effects import find_effects, mask, plan_effects, run_effects
    from layerlift.stages.layers import extract, extract_frames, plan_extraction, run_extraction
    from layerlift.stages.reference import plan_references, run_references, suggest_references
    from layerlift.stages.removal import plan_removal, remove, remove_frames, run_removal
    from layerlift.stages.run import open_inputs, plan_run, run, run_stages
    from layerlift.stages.segment import (
        Embeddings,
        Prediction,
        Prompts,
        Target,
        open_segmenter,
        plan_segmentation,
        run_segmentation,
        segment,
    )

# Metal lacks an operation now and then: computed on the CPU instead of ending the run. Read when torch is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
# From the M5 on, MLX multiplies float32 with 10 bits of precision by itself, a thousand times coarser (mlx #3860). What
# is computed in float32 here, the VAE and the sums over attention, is so for its precision. Read at the first product.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

__version__ = "0.2.0"

_NAMES = {
    "layerlift.clip": ("Clip", "open_clip", "write_clip"),
    "layerlift.clip.rgba": ("LayerClip",),
    "layerlift.clip.rgba_reader": ("open_layer",),
    "layerlift.clip.rgba_writer": ("write_layer",),
    "layerlift.errors": ("InputError", "LayerliftError"),
    "layerlift.masks": ("Mask", "open_mask"),
    "layerlift.engine.model": ("open_model",),
    "layerlift.options": (
        "CompositionOptions",
        "EffectOptions",
        "ExtractionOptions",
        "LatentCompositionOptions",
        "ReferenceOptions",
        "RemovalOptions",
        "RunOptions",
        "RuntimeOptions",
        "SegmentationOptions",
    ),
    "layerlift.progress": ("Cancellation", "CancelledError", "Progress", "StageProgress"),
    "layerlift.report": ("Report",),
    "layerlift.runtime": ("Runtime", "open_runtime"),
    "layerlift.stages.composition": ("compose", "compose_frames", "plan_composition", "run_composition"),
    "layerlift.stages.effects": ("find_effects", "mask", "plan_effects", "run_effects"),
    "layerlift.stages.composition.latent": (
        "compose_latent",
        "compose_latent_frames",
        "plan_latent_composition",
        "run_latent_composition",
    ),
    "layerlift.stages.layers": ("extract", "extract_frames", "plan_extraction", "run_extraction"),
    "layerlift.stages.reference": ("plan_references", "run_references", "suggest_references"),
    "layerlift.stages.removal": ("plan_removal", "remove", "remove_frames", "run_removal"),
    "layerlift.stages.run": ("open_inputs", "plan_run", "run", "run_stages"),
    "layerlift.stages.segment": (
        "Embeddings",
        "Prediction",
        "Prompts",
        "Target",
        "open_segmenter",
        "plan_segmentation",
        "run_segmentation",
        "segment",
    ),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = [
    "Cancellation",
    "CancelledError",
    "Clip",
    "CompositionOptions",
    "EffectOptions",
    "Embeddings",
    "ExtractionOptions",
    "InputError",
    "LatentCompositionOptions",
    "LayerClip",
    "LayerliftError",
    "Mask",
    "Prediction",
    "Progress",
    "Prompts",
    "ReferenceOptions",
    "RemovalOptions",
    "Report",
    "RunOptions",
    "Runtime",
    "RuntimeOptions",
    "SegmentationOptions",
    "StageProgress",
    "Target",
    "__version__",
    "compose",
    "compose_frames",
    "compose_latent",
    "compose_latent_frames",
    "extract",
    "extract_frames",
    "find_effects",
    "mask",
    "open_clip",
    "open_inputs",
    "open_layer",
    "open_mask",
    "open_model",
    "open_runtime",
    "open_segmenter",
    "plan_composition",
    "plan_effects",
    "plan_extraction",
    "plan_latent_composition",
    "plan_references",
    "plan_removal",
    "plan_run",
    "plan_segmentation",
    "remove",
    "remove_frames",
    "run",
    "run_composition",
    "run_effects",
    "run_extraction",
    "run_latent_composition",
    "run_references",
    "run_removal",
    "run_segmentation",
    "run_stages",
    "segment",
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
