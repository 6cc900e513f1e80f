"""Scenes as files: the folder layout that users of the earlier systems have, with the truth beside it, lossless."""

from __future__ import annotations

from pathlib import Path

from layerlift.clip import Clip, write_clip, write_mask
from layerlift.scenes import Scene

RATE = 24


def write_scene(scene: Scene, folder: Path) -> None:
    """Write `scene` into `folder`, which is made when it is missing; files of these names are replaced.

    video.mkv, object_mask.mkv (the union) and object_mask_0.mkv …, total_mask.mkv; under truth/: background.mkv,
    effects_0.mkv … (masks) and layer_0.mkv … (RGBA, straight alpha), objects counted from back to front.
    """
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    video = Clip.from_array(scene.video, RATE)

    clips = {"video": scene.video, "truth/background": scene.background}
    clips |= {f"truth/layer_{index}": layer for index, layer in enumerate(scene.layers)}
    for name, frames in clips.items():
        write_clip(folder / f"{name}.mkv", frames, video, lossless=True, overwrite=True)

    masks = {"object_mask": scene.object_mask, "total_mask": scene.total_mask}
    masks |= {f"object_mask_{index}": mask for index, mask in enumerate(scene.object_masks)}
    masks |= {f"truth/effects_{index}": mask for index, mask in enumerate(scene.effect_masks)}
    for name, mask in masks.items():
        write_mask(folder / f"{name}.mkv", mask, video, overwrite=True)
