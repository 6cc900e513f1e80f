"""Renders the scene that `layerlift demo` takes apart, and puts it into the package.

    python tools/demo_clip.py --seed 11

It writes src/layerlift/scenes/demo_clip/: the clip and its plate as H.264, and the masks, lossless. Rendering needs
layerlift[render] and takes a quarter of an hour; frames that are in the cache are not rendered again.
"""

from __future__ import annotations

import argparse
import shutil

from layerlift.clip import Clip, write_clip, write_mask
from layerlift.scenes.demo_clip import FOLDER
from layerlift.scenes.folder import RATE
from layerlift.scenes.rendered import rendered_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=11)
    scene = rendered_scene(parser.parse_args().seed)
    like = Clip.from_array(scene.video, RATE)
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "truth").mkdir(parents=True)
    write_clip(FOLDER / "video.mkv", scene.video, like)
    write_clip(FOLDER / "truth" / "background.mkv", scene.background, like)
    masks = {"object_mask": scene.object_mask, "total_mask": scene.total_mask}
    masks |= {f"object_mask_{number}": mask for number, mask in enumerate(scene.object_masks)}
    for name, mask in masks.items():
        write_mask(FOLDER / f"{name}.mkv", mask, like)
    files = sorted(path for path in FOLDER.rglob("*") if path.is_file())
    print(*(f"{path.stat().st_size:9,} {path.relative_to(FOLDER)}" for path in files), sep="\n")


if __name__ == "__main__":
    main()
