"""Remove an object from a clip, and keep it as a layer with alpha.

    python examples/clean_plate.py clip.mp4 mask.mp4 dog.mp4 results/

mask.mp4 covers the object, its shadow and its reflection; dog.mp4 covers the object alone. Writes results/plate.mp4 and
results/layer.mov.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import layerlift


class Lines:
    """Prints the name of each stage. This is all that layerlift asks of a progress bar."""

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator["Lines"]:
        print(f"{name} …")
        yield self

    def advance(self, steps: int = 1) -> None:
        pass


def main(clip_path: str, total_mask: str, object_mask: str, folder: str) -> None:
    results = Path(folder)
    results.mkdir(parents=True, exist_ok=True)
    clip = layerlift.open_clip(clip_path)

    # model="none" gathers from other frames and fills in the rest. With LTX-Video: model="ltx-2b-0.9.5".
    runtime = layerlift.open_runtime(layerlift.RuntimeOptions(model="none"), progress=Lines())
    plate = layerlift.remove(clip, total_mask, runtime=runtime)
    layerlift.write_clip(results / "plate.mp4", plate.frames(), clip)

    (layer,) = layerlift.extract(clip, plate, object_mask, total_mask)
    layerlift.write_layer(results / "layer.mov", layer.frames(), layer.clip)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:5])
    except layerlift.InputError as error:
        sys.exit(str(error))
