"""`layerlift save`: a finished clip in another format."""

from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli.flags import Typed, with_flags
from layerlift.cli.job import finish, open_source, settle, settle_outputs, write_result
from layerlift.cli.mask_outputs import is_exact, mask_writer
from layerlift.cli.options import ClipFlags, Output, OutputFlags
from layerlift.cli.places import read_of_clip
from layerlift.cli.terminal import show_progress
from layerlift.options import OUTPUT
from layerlift.report import Report


@with_flags
def save(
    *,
    result: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT",
            help="A finished clip: a clean plate, a composite, or a mask.",
            show_default=False,
        ),
    ],
    output: Output = None,
    mask: Annotated[
        bool,
        typer.Option(
            "--mask",
            help="RESULT is a mask: write it without sound, and exactly in .mkv and PNG.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    reading: ClipFlags,
    writing: OutputFlags,
    typed: Typed,
) -> None:
    """Write a finished clip in another format; for layers, see `layerlift extract`."""
    from layerlift.clip import check_output
    from layerlift.room import check_room, clip_room, mask_room

    # 1. What the paths hold.
    source = open_source(result, reading)
    read = read_of_clip(result)
    if mask:
        target = output or Path(f"{source.name}_mask.mkv")
        settle({"-o": target}, read, writing)
        check_output(target, writing.lossless or is_exact(target), writing.overwrite, source, version=False)
        check_room({target: mask_room(source)})
    else:
        target = settle_outputs(source, "saved", output, writing, read=read)
        check_room({target: clip_room(target, source, lossless=writing.lossless)})
    record = Report("save", typed)

    # 2. The work, frame by frame into the file.
    with show_progress() as progress, progress.stage("save", source.frame_count) as bar:

        def frames():  # type: ignore[no-untyped-def]
            for frame in source.rgba_frames() if source.has_alpha and not mask else source.frames():
                yield frame
                bar.advance()

        if mask:
            with mask_writer(target, source, overwrite=writing.overwrite) as writer:
                for frame in frames():
                    writer.write(frame)
        else:
            write_result(target, frames(), source, record, writing)
    finish(record, writing, result=target)
