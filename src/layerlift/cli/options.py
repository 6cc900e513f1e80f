"""Options that several commands share, so that each is named, explained and checked in one place."""

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from layerlift.errors import InputError

# Generators take seeds up to this; anything larger would be an overflow deep inside.
_LARGEST_SEED = 2**63 - 1
FASTEST = 1000  # frames a second; more is a typing error

_MODEL = "Models"
_SAMPLING = "Sampling"
_DEVICE = "Device"
_OUTPUT = "Output"

ClipArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CLIP",
        help="A video, a folder of images, or a folder that holds video and masks (video.mp4, total_mask.mp4, …).",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="OUT", help="Where to write; else ./<clip>_<stage>.mp4.", rich_help_panel=_OUTPUT
    ),
]
Lossless = Annotated[bool, typer.Option("--lossless", help="Write FFV1 in .mkv, bit for bit.", rich_help_panel=_OUTPUT)]
Deinterlace = Annotated[
    bool,
    typer.Option(
        "--deinterlace",
        help="Make progressive frames of an interlaced clip; else its fields are worked on, and woven again.",
    ),
]
Rate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="FPS",
        help="Frames per second of a CLIP that states no rate, such as a folder of images (default: 24) or a raw "
        "stream (default: 25).",
    ),
]
AllowDamage = Annotated[
    bool,
    typer.Option(
        "--allow-damage",
        help="Go on with what can be decoded of a clip that is damaged or cut short, and say what was lost.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist already.", rich_help_panel=_OUTPUT)
]
ReportPath = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="REPORT.json",
        help="Write settings, versions, seconds and peak memory per stage.",
        rich_help_panel=_OUTPUT,
    ),
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Print what every stage took and what the libraries say.")
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="demo|NAME|PATH|HUB-ID",
        help="Which model; else the LTX-Video checkpoint that is on this machine.",
        rich_help_panel=_MODEL,
    ),
]
FillModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="none|demo|NAME|PATH|HUB-ID",
        help="Model that generates what no frame shows (default: the installed LTX-Video checkpoint, or none).",
        rich_help_panel=_MODEL,
    ),
]
TextEncoder = Annotated[
    Path | None,
    typer.Option(
        "--text-encoder",
        metavar="PATH",
        help="Folder with text_encoder/ and tokenizer/, for checkpoints that bring none.",
        rich_help_panel=_MODEL,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Neither read nor keep prompt embeddings on disk.", rich_help_panel=_MODEL),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Denoising steps; else the model's own.", rich_help_panel=_SAMPLING),
]
Guidance = Annotated[
    float | None,
    typer.Option(metavar="G", help="Guidance scale, 1 = none; else the model's own.", rich_help_panel=_SAMPLING),
]
Seed = Annotated[
    int, typer.Option(min=0, max=_LARGEST_SEED, metavar="S", help="Seed of the noise.", rich_help_panel=_SAMPLING)
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="WxH", help="The size the model works at; else the model's own.", rich_help_panel=_SAMPLING
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        "--window",
        min=1,
        metavar="N",
        help="Frames that are denoised in one go, at most; else the model's own, and more where what it sees is small.",
        rich_help_panel=_SAMPLING,
        show_default=False,
    ),
]
Refresh = Annotated[
    float | None,
    typer.Option(
        "--refresh",
        metavar="R",
        help="How far sigma may move (0 to 1) before every token is run again and not the unknown ones alone.",
        rich_help_panel="Speed",
        show_default=False,
    ),
]
Dense = Annotated[
    bool, typer.Option("--dense", help="Run every token in every step: slower, exact.", rich_help_panel="Speed")
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the transformer's blocks; else where the clip is long enough to win back the time.",
        rich_help_panel="Speed",
        show_default=False,
    ),
]
Frames = Annotated[
    str | None,
    typer.Option("--frames", metavar="START:END", help="Only these frames: from START up to, not including, END."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="cpu|cuda|mps", help="Where to compute; else the best there is.", rich_help_panel=_DEVICE
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="float32|bfloat16|float16",
        help="The transformer's number format; else what suits the device.",
        rich_help_panel=_DEVICE,
    ),
]
Memory = Annotated[
    float | None,
    typer.Option(
        "--memory",
        metavar="GB",
        help="GiB that may be taken, host and device together; else what the machine reports as usable.",
        rich_help_panel=_DEVICE,
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="auto|8bit|full",
        help="Keep the transformer's weights in 8 bits, which takes half the memory, or as they are; auto takes 8 bits "
        "only where memory is short.",
        rich_help_panel=_DEVICE,
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="cpu|cuda|mps",
        help="Follow another backend's rules on this device (to try them out).",
        rich_help_panel=_DEVICE,
    ),
]

References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        metavar="PICTURE@FRAME|DIR",
        help="A cleaned frame, by its frame's number in CLIP (from 0; two fields are one frame), or a folder of them "
        "(012.png for frame 12), as `layerlift reference` writes it. Repeat per picture.",
        rich_help_panel="Evidence",
        show_default=False,
    ),
]


def parse_references(texts: list[str] | None) -> dict[int, Path]:
    """``clean.png@12`` and folders of ``012.png`` → pictures by their frames' numbers, whether they exist or not.

    Raises InputError for text without a frame, two pictures for one frame, and as `pictures_of`.
    """
    found: dict[int, Path] = {}
    if not texts:
        return found
    from layerlift.evidence.reference import pictures_of, two_for_one

    for text in texts:
        for frame, picture in (pictures_of(text) if Path(text).is_dir() else _parse_reference(text)).items():
            if frame in found:
                raise two_for_one(frame, found[frame], picture)
            found[frame] = picture
    return found


def _parse_reference(text: str) -> dict[int, Path]:
    name, _, number = text.rpartition("@")
    if not name or not re.fullmatch(r"[0-9]{1,9}", number):
        raise InputError(
            f"--reference {text!r} names no frame: give PICTURE@FRAME, such as clean.png@12, or a folder of pictures "
            "such as 012.png."
        )
    return {int(number): Path(name)}


def parse_size(text: str, flag: str = "--size") -> tuple[int, int]:
    """``704x480`` → (704, 480): width, height in pixels. Raises InputError for anything else."""
    match = re.fullmatch(r"(\d{1,6})\s*[x×X]\s*(\d{1,6})", text.strip())
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 1:
        raise InputError(f"{flag} {text!r} is not a size: give width and height in pixels, such as 704x480.")
    return size


def parse_frames(text: str) -> tuple[int, int | None]:
    """``12:48`` → (12, 48), ``12:`` → (12, None), ``:48`` → (0, 48). Raises InputError for anything else."""
    match = re.fullmatch(r"(\d{0,9}):(\d{0,9})", text.strip())
    if match is None or text.strip() == ":":
        raise InputError(f"--frames {text!r} is not START:END: give frame numbers counted from 0, such as 0:48 or 24:.")
    start = int(match[1] or 0)
    stop = int(match[2]) if match[2] else None
    if stop is not None and stop <= start:
        raise InputError(f"--frames {text!r} holds no frame: END must be larger than START.")
    return start, stop


def parse_rate(text: str) -> Fraction:
    """``24``, ``30000/1001`` or ``23.976`` → frames a second, the last of these as 24000/1001.

    Raises InputError for anything else.
    """
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(?:/(\d{1,6}))?", text.strip())
    rate = Fraction(match[1]) / int(match[2] or 1) if match and int(match[2] or 1) else Fraction(0)
    if not 0 < rate <= FASTEST:
        raise InputError(
            f"--rate {text!r} is no rate: give frames a second, such as 24, 23.976 or 30000/1001, up to {FASTEST}."
        )
    broadcast = Fraction(1000 * math.ceil(rate), 1001)
    return broadcast if rate.denominator > 1 and abs(rate - broadcast) < Fraction(1, 200) else rate


def check_guidance(value: float | None) -> float | None:
    """Guidance as given. Raises InputError unless it is a finite number of at least 1."""
    if value is not None and not (math.isfinite(value) and value >= 1):
        raise InputError(f"--guidance {value} cannot be used: give a number of at least 1 (1 = no guidance).")
    return value


def default_output(clip_name: str, stage: str, *, lossless: bool) -> Path:
    """Where a result goes when the user does not say: the current folder, the clip's name, the stage's."""
    return Path(f"{clip_name}_{stage}{'.mkv' if lossless else '.mp4'}")
