"""Options that several commands share, so that each is named, explained and checked in one place."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from layerlift.flags import flag
from layerlift.options import DEVICE, MASK, OUTPUT
from layerlift.parse import parse_frames, parse_rate


@dataclass(frozen=True, slots=True)
class ClipFlags:
    """How a clip is read.

    Attributes:
        frames: the first, counted from 0, and the one after the last (None: to the end); None is the whole clip.
        deinterlace: make progressive frames of an interlaced clip.
        allow_damage: read what can be decoded of a damaged clip.
        rate: frames a second of a clip that states none.
    """

    frames: tuple[int, int | None] | None = flag(
        None,
        "Use only the frames from START up to, but not including, END.",
        metavar="START:END",
        takes=str,
        parse=parse_frames,
    )
    deinterlace: bool = flag(
        False,
        "Convert an interlaced clip to progressive frames (default: process each field, then weave the fields again).",
    )
    allow_damage: bool = flag(
        False, "Use what can be decoded of a damaged or truncated clip, and report what was lost."
    )
    rate: Fraction | None = flag(
        None,
        "Frames per second of a CLIP that states no rate (default: 24 for a folder of images, 25 for a raw stream).",
        metavar="FPS",
        takes=str,
        parse=parse_rate,
    )


@dataclass(frozen=True, slots=True)
class OutputFlags:
    """How results are written, and what is said of them.

    Attributes:
        lossless: write FFV1 in .mkv.
        report: where to write the run's report.
        overwrite: replace files that exist.
        verbose: print what every stage took.
    """

    lossless: bool = flag(False, "Write lossless FFV1 in .mkv.", group=OUTPUT)
    report: Path | None = flag(
        None,
        "Write a report: settings, versions, and the time and peak memory of each stage.",
        metavar="REPORT.json",
        group=OUTPUT,
    )
    overwrite: bool = flag(False, "Replace existing files.", group=OUTPUT)
    verbose: bool = flag(
        False, "Print the time and memory of each stage, and messages from libraries.", "-v", "--verbose"
    )


@dataclass(frozen=True, slots=True)
class JobFlags:
    """What becomes of an interrupted job.

    Attributes:
        resume: go on where it ended.
    """

    resume: bool = flag(
        False,
        "Continue this very command where it was interrupted; the result is the same as without the interruption.",
        group=OUTPUT,
    )


@dataclass(frozen=True, slots=True)
class SharingFlags:
    """Who works on one clip.

    Attributes:
        devices: several devices, which share its windows; see `RuntimeOptions`.
    """

    devices: str | None = flag(
        None,
        "Devices that share the clip's windows: numbers of GPUs, or auto for all of them (default: --device alone).",
        metavar="0,1,…|auto",
        group=DEVICE,
    )


ClipArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CLIP",
        help="A video, a folder of images, or a folder with a video and its masks (video.mp4, total_mask.mp4, …).",
        show_default=False,
    ),
]
Objects = Annotated[
    list[Path] | None,
    typer.Option(
        "--object",
        metavar="MASK[:ID]",
        help="Mask of one object, in white: a video, a folder of images, or one still for all frames. Repeat per "
        "object, the frontmost first. A mask with IDs or flat colours holds several objects; add an ID to use "
        "only one (m.png:2, m.png:#FF0000). (default: the masks in CLIP's folder, where object_mask_0 is at the "
        "back)",
        rich_help_panel=MASK,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="Video to write, or a folder of PNGs (default: ./<clip>_<stage>.mp4).",
        rich_help_panel=OUTPUT,
    ),
]


def default_output(clip_name: str, stage: str, *, lossless: bool) -> Path:
    """Where a result goes when the user does not say: the current folder, the clip's name, the stage's."""
    return Path(f"{clip_name}_{stage}{'.mkv' if lossless else '.mp4'}")
