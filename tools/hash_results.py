"""Writes hashes of what every command makes, so that two commits can be held against each other.

    python tools/hash_results.py OUT.json [--source CHECKOUT/src] [--clips FOLDER]
    python tools/hash_results.py --compare OLD.json NEW.json

The command lines below run as `python -m layerlift` on four made-up scenes, on the CPU with the demo model or none, and
on two real clips if a folder of them is given. What they write is decoded and hashed: pixels with their shape, type and
time, arrays, and of reports the sizes, results and notes; never a container's bytes, seconds or memory. Hashes hold for
one machine and one set of libraries: run both commits on the same one. Two cores take about four minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from safetensors.numpy import load_file

REPORT_PARTS = ("sizes", "results", "notes")
ARRAYS = ".safetensors"
SOUND = ".mka"
CORES = 2

Hashes = dict[str, str]


@dataclass(frozen=True)
class Group:
    """Commands that run one after the other in a folder of their own, where `clip` links to a clip's folder.

    Each line is a name and a command. Whatever the command writes into the folder of that name, where it finds itself,
    is hashed; it may read what those before it wrote, as ../NAME/…
    """

    name: str
    commands: str
    clip: str = ""  # in the folder of real clips


EVERY_SCENE = """
none: remove ../scene/out --frames 0:12 --model none --lossless -o out.mkv --report report.json
demo: remove ../scene/out --frames 0:12 --model demo --lossless -o out.mkv --report report.json --provenance from.mkv
generated: remove ../scene/out --frames 0:12 --model demo --evidence off --lossless -o out.mkv --report report.json
segment: segment ../scene/out --frames 0:12 --keyframe ../scene/out/object_mask_0.mkv@0 -o out.mkv --report report.json
mask: mask ../scene/out --frames 0:12 --model demo -o out.mkv --report report.json
extract: extract ../scene/out --frames 0:12 --background ../demo/out.mkv -o out.mkv --report report.json
run: run ../scene/out --frames 0:12 --model demo --onto ../scene/out/truth/background.mkv --lossless -o out
"""

GROUPS = (
    Group(
        "still, two objects",
        "scene: scene -o out --seed 24 --size 160x96 --frames 36 --report report.json"
        + EVERY_SCENE
        + """\
one object: remove ../scene/out --frames 0:12 --object ../scene/out/object_mask_1.mkv --model demo --lossless -o out.mkv
both objects: remove ../scene/out --frames 0:12 --object ../scene/out/object_mask_0.mkv \
    --object ../scene/out/object_mask_1.mkv --model demo --lossless -o out.mkv
objects grown: remove ../scene/out --frames 0:12 --object ../scene/out/object_mask_0.mkv --model none --lossless \
    -o out.mkv
mask plate: mask ../scene/out --frames 0:12 --model demo --refine plate -o out/ --save-scores scores.safetensors \
    --preview preview.png --report report.json
extract images: extract ../scene/out --frames 0:12 --background ../demo/out.mkv -o out --format png --bits 8
extract linear: extract ../scene/out --frames 0:12 --background ../demo/out.mkv -o out --format exr
extract total: extract ../scene/out --frames 0:12 --background ../scene/out/truth/background.mkv -o out.mkv --bits 8 \
    --total ../scene/out/total_mask.mkv --edge 2 --noise 3 --premultiplied --report report.json
compose: compose ../extract/out_1.mkv ../extract/out_0.mkv --onto ../scene/out --lossless -o out.mkv \
    --report report.json
compose moved: compose ../extract/out_1.mkv --onto ../scene/out --lossless -o out.mkv --offset 9,-5 --scale 0.7 \
    --start 4 --length background --report report.json
latent: compose ../scene/out --latent --background ../scene/out/truth/background.mkv --onto ../none/out.mkv \
    --model demo --refine-steps 4 --keep-intermediate --lossless -o out.mkv --report report.json
run without a model: run ../scene/out --frames 0:12 --model none --lossless -o out
""",
    ),
    Group(
        "panning, odd size",
        "scene: scene -o out --seed 1 --size 150x90 --frames 36 --report report.json"
        + EVERY_SCENE
        + """\
dense: remove ../scene/out --frames 0:12 --model demo --evidence off --no-crop --dense --lossless -o out.mkv \
    --report report.json
crop: remove ../scene/out --frames 0:12 --model demo --evidence off --crop --lossless -o out.mkv --report report.json
eight bits: remove ../scene/out --frames 0:12 --model demo --evidence off --weights 8bit --memory 2 --lossless \
    -o out.mkv --report report.json
cuda's rules: remove ../scene/out --frames 0:12 --model demo --evidence off --policy cuda --lossless -o out.mkv \
    --report report.json
mask coarse: mask ../scene/out --frames 0:12 --model demo --refine none --sigma 0.3,0.5 --layers all --dilate 2 \
    --temporal-radius 1 --max-distance 20 --threshold 0.4 -o out.mkv --save-scores scores.safetensors \
    --preview preview.mp4 --report report.json
compose: compose ../extract/out.mkv --onto ../scene/out/truth/background.mkv --lossless -o out.mkv
latent: compose ../scene/out --latent --background ../scene/out/truth/background.mkv --onto ../scene/out \
    --model demo --no-refine --lossless -o out.mkv --report report.json
demo command: demo -o out --seed 7 --size 96x64 --frames 9 --lossless
quality: bench quality --seeds 1000:1001 --size 96x64 --frames 9 --report report.json
layers: bench layers --seeds 1000:1001 --size 96x64 --frames 9 --model demo --report report.json
crops: bench crop --seeds 1000:1001 --size 192x128 --frames 9 --report report.json
""",
    ),
    Group(
        "still water",
        "scene: scene -o out --seed 10 --size 160x96 --frames 36 --report report.json"
        + EVERY_SCENE
        + """\
only: remove ../scene/out --frames 0:12 --model demo --evidence only --dilate 5 --feather 2 --lossless -o out.mkv
sampled: remove ../scene/out --frames 0:12 --model demo --evidence off --steps 4 --guidance 3 --prompt objects \
    --negative-prompt Empty --seed 5 --refresh 0.2 --size 128x96 --lossless -o out.mkv --report report.json
reference: reference ../scene/out --frames 0:12 --count 2 -o out --report report.json
pictures: remove ../scene/out --frames 0:12 --model demo --evidence off --seed 9 -o out/
referenced: remove ../scene/out --frames 0:12 --reference ../pictures/out/00005.png@5 --model demo \
    --lossless -o out.mkv --report report.json
run referenced: run ../scene/out --frames 0:12 --reference ../pictures/out/00005.png@5 --model demo \
    --object ../scene/out/object_mask.mkv --total ../scene/out/total_mask.mkv --lossless -o out
effects: bench effects --seeds 1000:1001 --size 96x64 --frames 9 --report report.json
footage made: bench footage out ../scene/out --make --masks ../mask/out.mkv --size 128x64 --frames 9
footage: bench footage "../footage made/out" --rows telea,patchmatch,evidence,demo --report report.json
""",
    ),
    Group(
        "panning water, windows",
        "scene: scene -o out --seed 15 --size 128x64 --frames 36 --report report.json"
        + EVERY_SCENE
        + """\
context: remove ../scene/out --model demo --evidence off --window 17 --lossless -o out.mkv --report report.json
no context: remove ../scene/out --model demo --evidence off --window 17 --context 0 --lossless -o out.mkv \
    --report report.json
windows: remove ../scene/out --model demo --window 17 --lossless -o out.mkv --report report.json
mask windows: mask ../scene/out --model demo -o out.mkv --save-scores scores.safetensors --report report.json
latent windows: compose ../scene/out --latent --background ../scene/out/truth/background.mkv --onto ../scene/out \
    --model demo --refine-steps 2 --lossless -o out.mkv --report report.json
windows measured: bench windows --seeds 1000:1001 --size 96x64 --frames 25 --window 9 --report report.json
""",
    ),
    Group(
        "camel",
        """
none: remove ../clip --frames 0:24 --model none --lossless -o out.mkv --report report.json
mask: mask ../clip --frames 0:24 --model demo -o out.mkv --report report.json
extract: extract ../clip --frames 0:24 --background ../none/out.mkv -o out.mkv --report report.json
compose: compose ../extract/out_1.mkv ../extract/out_0.mkv --onto ../none/out.mkv --lossless -o out.mkv
demo: remove ../clip --frames 0:24 --mask ../clip/object_mask_1.mp4 --model demo --lossless -o out.mkv \
    --report report.json
""",
        clip="camel",
    ),
    Group(
        "cat_reflection",
        """
reference: reference ../clip --frames 0:24 --count 1 -o out --report report.json
generated: remove ../clip --frames 0:24 --model demo --evidence off --lossless -o out.mkv --report report.json
run: run ../clip --frames 0:24 --model demo --lossless -o out
""",
        clip="cat_reflection",
    ),
)


def main() -> None:
    args = parse_arguments()
    if args.compare:
        sys.exit(compare(*(json.loads(path.read_text()) for path in args.compare)))
    with tempfile.TemporaryDirectory() as folder:
        groups = [group for group in GROUPS if args.clips or not group.clip]
        with ThreadPoolExecutor(CORES) as pool:
            made = pool.map(lambda group: run_group(group, Path(folder), args.source, args.clips), groups)
            hashes = {name: value for part in made for name, value in part.items()}
    for name, value in hashes.items():
        print(f"{value[:16]}  {name}")
    args.out.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n")
    failed = [name for name, value in hashes.items() if value.startswith("exit ")]
    sys.exit(f"these failed: {', '.join(failed)}" if failed else 0)


def compare(old: Hashes, new: Hashes) -> int:
    """Print what differs; 1 if anything does, else 0."""
    missing = "not there"
    differing = [name for name in sorted(old | new) if old.get(name, missing) != new.get(name, missing)]
    for name in differing:
        print(f"{name}: {old.get(name, missing)[:16]} → {new.get(name, missing)[:16]}")
    print(f"{len(differing)} of {len(old | new)} hashes differ")
    return bool(differing)


def run_group(group: Group, folder: Path, source: Path, clips: Path | None) -> Hashes:
    """The hashes of what a group's commands wrote, by group, command and file."""
    place = folder / group.name
    place.mkdir()
    if clips is not None and group.clip:
        (place / "clip").symlink_to((clips / group.clip).resolve())
    # One thread each: as many groups run at once as there are cores, and sums come out in the same order.
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "LAYERLIFT_CACHE": str(place)}
    hashes: Hashes = {}
    for line in group.commands.strip().splitlines():
        name, _, command = line.partition(": ")
        inside = place / name
        inside.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "layerlift", *shlex.split(command)],
            cwd=inside,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"{group.name} / {name}", file=sys.stderr, flush=True)
        if done.returncode:
            print(done.stderr, file=sys.stderr, flush=True)
            hashes[f"{group.name}/{name}"] = f"exit {done.returncode}"
        for file in sorted(path for path in inside.rglob("*") if path.is_file() and path.suffix != SOUND):
            for part, value in hashes_of(file):
                hashes[f"{group.name}/{name}/{file.relative_to(inside)}{part}"] = value
    return hashes


def hashes_of(file: Path) -> Iterator[tuple[str, str]]:
    """What a file holds, each with a hash."""
    if file.suffix == ".json":
        report = json.loads(file.read_text())
        tables = report["results"].get("tables", [])
        tables[:] = [table for table in tables if not table["title"].startswith("seconds")]
        for part in REPORT_PARTS:
            yield f" {part}", digest([json.dumps(report[part], sort_keys=True).encode()])
    elif file.suffix == ARRAYS:
        for name, array in load_file(file).items():
            yield f" {name}", digest([f"{array.dtype}{array.shape}".encode(), array.tobytes()])
    else:
        yield "", digest(pictures(file))


def pictures(file: Path) -> Iterator[bytes]:
    """The frames of a video or image as they are stored: time, format and shape, and samples."""
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            samples = samples_of(frame)
            yield f"{frame.time} {frame.format.name} {samples.dtype} {samples.shape}".encode()
            yield samples.tobytes()


def samples_of(frame: av.VideoFrame) -> np.ndarray:
    """A frame's own samples, where PyAV has no array for its format too."""
    if frame.format.name == "gbrapf16le":  # OpenEXR
        planes = [
            np.frombuffer(bytes(plane), np.float16).reshape(plane.height, -1)[:, : plane.width]
            for plane in frame.planes
        ]
        return np.stack(planes)
    if frame.format.name == "bgr0":  # FFV1's RGB: the same samples in another order
        frame = frame.reformat(format="rgb24")
    return frame.to_ndarray()


def digest(parts: Sequence[bytes] | Iterator[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT.json", help="file to write the hashes into")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="SRC",
        default=Path(__file__).resolve().parents[1] / "src",
        help="src folder of the checkout to run (default: this one's)",
    )
    parser.add_argument("--clips", type=Path, metavar="FOLDER", help="folder that holds camel/ and cat_reflection/")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="compare two files of hashes")
    args = parser.parse_args()
    if (args.out is None) == (args.compare is None):
        parser.error("give OUT.json, or --compare OLD NEW")
    args.source = args.source.resolve()
    if not (args.source / "layerlift" / "__init__.py").is_file():
        parser.error(f"--source {args.source} holds no layerlift: give the src folder of a checkout")
    return args


if __name__ == "__main__":
    main()
