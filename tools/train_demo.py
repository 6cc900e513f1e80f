"""Trains the demo model: a small VAE and a small transformer of LTX-Video's own classes, on procedural scenes only.

    python tools/train_demo.py vae --out RUN --seconds 1120 --freeze-after 390
    python tools/train_demo.py transformer --out RUN --seconds 720 --wait-for-vae
    python tools/train_demo.py pack --out RUN --to src/layerlift/engine/model/demo

`vae` trains encoder and decoder together, freezes the encoder after `--freeze-after` seconds and goes on with the
decoder alone; `transformer` may run beside it on another GPU and starts as soon as the encoder is frozen. `--init`
continues from a run's file or a packed folder. Figures go to `RUN/log-*.jsonl`; take a new folder for every run. Scenes
of training have seeds from 1,000,000 up, so those of the benchmark (1000 … 1031) are never seen.
docs/notes/demo-model.md has more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from demo_training.architecture import DEMO, FIRST_SEED, HEIGHT, WIDTH, Architecture, TransformerRun, VaeRun
from demo_training.transformer import train_transformer
from demo_training.vae import train_vae
from demo_training.weights import pack_model
from layerlift.errors import InputError


def main(arguments: Sequence[str] | None = None, architecture: Architecture = DEMO) -> None:
    parser = make_parser()
    args = parser.parse_args(arguments)
    try:
        if args.what == "pack":
            pack_model(args.out, args.to, architecture)
        else:
            train(args, parser, architecture)
    except InputError as error:
        sys.exit(f"error: {error}")


def train(args: argparse.Namespace, parser: argparse.ArgumentParser, architecture: Architecture) -> None:
    space = architecture.geometry.space
    sizes = (args.size, args.crop) if args.what == "vae" else (args.size, *args.crops)
    if any(side % space for size in sizes for side in size):
        parser.error(f"sizes are multiples of {space}: {', '.join('x'.join(map(str, size)) for size in sizes)}")
    if args.first_seed < FIRST_SEED:
        parser.error(f"seeds of training begin at {FIRST_SEED}, so that the benchmark's scenes are never among them")
    if args.what == "vae" and not (args.crop[0] <= args.size[0] and args.crop[1] <= args.size[1]):
        parser.error("the crop has to lie inside the scene")
    if args.what == "transformer":
        args.crops = tuple(args.crops)
        if any(part[axis] > args.size[axis] for part in args.crops for axis in (0, 1)) or args.crop_scale < 1:
            parser.error("parts have to lie inside the scene, and its scale is at least 1")
    if args.what == "vae" and not 0 <= args.freeze_after < args.seconds:
        parser.error("--freeze-after has to lie before the end (--seconds)")

    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    options: dict[str, Any] = {key: value for key, value in vars(args).items() if key != "what"}
    if args.what == "vae":
        train_vae(VaeRun(architecture=architecture, **options))
    else:
        train_transformer(TransformerRun(architecture=architecture, **options))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="what", required=True)

    vae = parts.add_parser("vae", help="train encoder and decoder")
    add_common(vae, batch=16)
    vae.add_argument("--freeze-after", type=float, default=400, help="seconds until the encoder is frozen; 0: at once")
    vae.add_argument("--pool", type=positive, default=512, help="clips kept for crops")
    vae.add_argument("--crop", type=size, default=(192, 128), metavar="WxH", help="size of what is trained on")

    transformer = parts.add_parser("transformer", help="train the transformer on the VAE's latents")
    add_common(transformer, batch=40)
    transformer.add_argument("--pool", type=positive, default=1024, help="encoded scenes kept, of each length")
    transformer.add_argument("--fresh", type=positive, default=8, help="new scenes a step")
    transformer.add_argument(
        "--vae", type=Path, help="a finished VAE, a run's file or a packed folder; else RUN's, waiting for its encoder"
    )
    transformer.add_argument(
        "--crops", type=size, nargs="*", default=(), metavar="WxH", help="parts of scenes that every other batch shows"
    )
    transformer.add_argument("--crop-scale", type=float, default=1.0, help="out of scenes of up to this times the size")
    transformer.add_argument("--wait-for-vae", action="store_true", help="evaluate with RUN's finished decoder")

    pack = parts.add_parser("pack", help="write what the run trained as a model folder: int8, files under 16 MB")
    pack.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    pack.add_argument("--to", type=Path, required=True, help="the model folder; parts the run lacks stay as they are")
    return parser


def add_common(part: argparse.ArgumentParser, batch: int) -> None:
    part.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    part.add_argument("--init", type=Path, help="continue from these weights: a run's file or a packed folder")
    part.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    part.add_argument("--seconds", type=float, default=720, help="of training, without compiling the transformer")
    part.add_argument("--max-steps", type=positive, help="end each phase after so many steps, to try the tool out")
    part.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    part.add_argument("--batch", type=positive, default=batch)
    part.add_argument("--scenes", type=positive, default=32, help="benchmark scenes to evaluate on")
    part.add_argument("--size", type=size, default=(WIDTH, HEIGHT), metavar="WxH", help="size of the scenes")
    part.add_argument("--first-seed", type=int, default=FIRST_SEED, help="another one continues with other scenes")
    part.add_argument("--no-compile", dest="compile", action="store_false")


def size(text: str) -> tuple[int, int]:
    """Width and height from "288x192"."""
    width, height = (positive(number) for number in text.split("x"))
    return width, height


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    main()
