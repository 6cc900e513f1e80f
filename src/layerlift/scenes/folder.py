"""Scenes as files: the folder layout that users of the earlier systems have, with the truth beside it, lossless."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from layerlift.clip import Clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.scenes import Scene
from layerlift.scenes.rendered import RenderedScene
from layerlift.whole import whole_folder

RATE = 24


def write_scene(scene: Scene, folder: Path, *, overwrite: bool = True) -> None:
    """Write `scene` into `folder`, which is made when it is missing; of files that are there, those of these names
    are replaced, or, without `overwrite`, keep their place: see `whole_folder`.

    video.mkv, object_mask.mkv (the union) and object_mask_0.mkv …, total_mask.mkv; under truth/: background.mkv,
    effects_0.mkv … (masks) and layer_0.mkv … (RGBA, straight alpha), objects counted from back to front. Of a rendered
    scene also truth/strength_0.mkv … (grey: the greatest change of a channel), depth.npy and flow.npy (see
    `RenderedScene`).
    """
    with whole_folder(folder, stays=lambda path: True, overwrite=overwrite) as made:
        (made / "truth").mkdir()
        _write(scene, made)


def check_scene_folder(folder: Path) -> None:
    """Raises InputError when `folder` holds something that a scene's files cannot take the place of."""
    truth = folder / "truth"
    if truth.exists() and not truth.is_dir():
        raise InputError(f"{truth} is a file, but a folder is needed there: choose another folder.")
    for path in (*folder.glob("*.mkv"), *truth.glob("*.mkv"), *truth.glob("*.npy"), *folder.glob("*.png")):
        if path.is_dir():
            raise InputError(f"{path} is a folder, but a file is needed there: choose another folder.")


def _write(scene: Scene, folder: Path) -> None:
    video = Clip.from_array(scene.video, RATE)

    clips = {"video": scene.video, "truth/background": scene.background}
    clips |= {f"truth/layer_{index}": layer for index, layer in enumerate(scene.layers)}
    for name, frames in clips.items():
        write_clip(folder / f"{name}.mkv", frames, video, lossless=True)

    if isinstance(scene, RenderedScene):
        for index, strength in enumerate(scene.strength):
            grey = np.repeat(np.rint(strength * 255).astype(np.uint8)[..., None], 3, -1)
            write_clip(folder / f"truth/strength_{index}.mkv", grey, video, lossless=True)
        np.save(folder / "truth/depth.npy", scene.depth)
        np.save(folder / "truth/flow.npy", scene.flow)

    masks = {"object_mask": scene.object_mask, "total_mask": scene.total_mask}
    masks |= {f"object_mask_{index}": mask for index, mask in enumerate(scene.object_masks)}
    masks |= {f"truth/effects_{index}": mask for index, mask in enumerate(scene.effect_masks)}
    for name, mask in masks.items():
        write_mask(folder / f"{name}.mkv", mask, video)
