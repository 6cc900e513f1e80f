"""What every stage's command does around its stage: open the clip, settle where results go, report at the end."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from layerlift.cli.inputs import watch_inputs
from layerlift.cli.options import ClipFlags, OutputFlags, default_output
from layerlift.cli.resume import OUTPUTS
from layerlift.cli.terminal import print_costs, say
from layerlift.errors import InputError
from layerlift.hidden import OLD, leftovers
from layerlift.names import HIDDEN, check_name
from layerlift.places import Given, check_writable, flat, settle_places
from layerlift.report import Report, check_report

if TYPE_CHECKING:
    import numpy as np

    from layerlift.bench.table import CaseTable, Table
    from layerlift.clip import Clip


def open_source(path: Path, reading: ClipFlags) -> "Clip":
    """The clip at `path`, or the part of it that ``--frames`` names; see `open_clip`."""
    from layerlift.clip import open_clip

    clip = open_clip(path, allow_damage=reading.allow_damage, deinterlace=reading.deinterlace, rate=reading.rate)
    if clip.rate_assumed and clip.frame_count > 1 and path.is_file():
        shown = clip.rate if clip.field_order is None else clip.rate / 2
        say(
            f"{path} does not state its frame rate: {shown} frames a second are assumed; if that is wrong, give --rate."
        )
    if clip.field_order is not None:
        say(f"{path} is interlaced: each field is processed on its own; --deinterlace makes progressive frames first.")
    elif clip.deinterlaced and not reading.deinterlace:
        say(
            f"{path} is interlaced, but its fields cannot be kept, because the picture is rotated or the fields "
            "differ in height: the result has progressive frames."
        )
    elif clip.deinterlaced:
        say(f"{path} is interlaced and was converted: the result has progressive frames.")
    if reading.frames is None:
        return clip
    start, stop = reading.frames
    if clip.field_order is not None:  # frames are numbered as they are in the file
        start, stop = 2 * start, None if stop is None else 2 * stop
    return clip.cut(start, clip.frame_count if stop is None else stop)


def settle(places: Mapping[str, Given], read: Mapping[str, Given], writing: OutputFlags) -> None:
    """Hold where a command writes, its report included, against itself and what is `read`, before any work is done.

    The user is told of what killed runs left there, and inputs are watched from now on. Both map flags to paths.

    Raises as `settle_places` and `check_report`.
    """
    outputs = {**places, "--report": writing.report}
    settle_places(outputs, read)
    if writing.report is not None:
        check_report(writing.report, overwrite=writing.overwrite)
    watch_inputs(read)
    OUTPUTS.set(tuple(path for _, path in flat(outputs)))
    for _, path in flat(outputs):
        for left in leftovers(path):
            there = [] if left.parent == Path.cwd() else [str(left.parent)]
            clean = shlex.join(["layerlift", "jobs", *there, "--clean"])
            what, way = "was left by an earlier run", f"`{clean}` removes it"
            if left.name.endswith(OLD):
                what, way = "is what was to be replaced by an earlier run", "move it back, or delete it"
            say(f"{left} {what} for {path} that was killed: {way}.")


def settle_outputs(
    clip: "Clip",
    stage: str,
    output: Path | None,
    writing: OutputFlags,
    *,
    read: Mapping[str, Given],
    beside: Mapping[str, Given] | None = None,
) -> Path:
    """Where the result goes, checked before any work is done, with outputs `beside` it; see `settle`."""
    from layerlift.clip import check_output

    output = output or output_for(clip, stage, lossless=writing.lossless)
    settle({"-o": output, **(beside or {})}, read, writing)
    return check_output(output, lossless=writing.lossless, overwrite=writing.overwrite, like=clip)


def output_for(clip: "Clip", stage: str, *, lossless: bool) -> Path:
    """Where a result goes when the user does not say."""
    from layerlift.clip.writer import keeps_alpha

    output = default_output(clip.name, stage, lossless=lossless)
    # MP4 holds no alpha.
    return output.with_suffix(".mov") if output.suffix == ".mp4" and keeps_alpha(clip) else output


def settle_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises InputError when `folder` is a file, or holds something and `overwrite` is not given.

    Raises LayerliftError when it, or what it is to be made in, cannot be written to.
    """
    check_name(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder.")
    if folder.exists() and any(not path.name.startswith(HIDDEN) for path in folder.iterdir()) and not overwrite:
        raise InputError(f"{folder} is not empty: choose another folder or add --overwrite.")
    check_writable(folder, str(folder))


def write_result(
    path: Path, frames: Iterable["np.ndarray"], clip: "Clip", report: Report, writing: OutputFlags
) -> None:
    """Write `frames` (each (H, W, 3) or (H, W, 4) uint8) as they come, with `clip`'s timing, colours and sound."""
    from layerlift.stages.writing import write_frames

    write_frames(path, frames, clip, told_by(report), lossless=writing.lossless, overwrite=writing.overwrite)


def told_by(report: Report) -> Callable[[str], None]:
    """Says a sentence, and keeps it in the report."""

    def told(note: str) -> None:
        report.note(note)
        say(note)

    return told


def describe_evidence(report: Report, *, model: bool) -> str | None:
    """How much of what was hidden other frames showed, as a phrase; None where they were not asked.

    `model`: whether one generated the rest.
    """
    from layerlift.stages.removal.provenance import describe_shares

    shares = report.results.get("evidence")
    return None if shares is None else describe_shares(shares["gathered"], shares["unknown"], model=model)


def write_report(report: Report, writing: OutputFlags) -> None:
    """Write the report where one is wanted."""
    if writing.report is not None:
        report.write(writing.report, overwrite=writing.overwrite)


def finish(report: Report, writing: OutputFlags, *, result: Path, said: str | None = None) -> None:
    """Write the report where one is wanted, print the costs under -v, and say where the result is, and what of it.

    What each reference frame covered is told before that.
    """
    write_report(report, writing)
    if writing.verbose:
        print_costs(report)
    if "references" in report.results:
        from layerlift.stages.removal.provenance import describe_references

        for line in describe_references(report.results["references"]):
            typer.echo(line)
    typer.echo(f"wrote {result}" + (f" ({said})" if said else ""))


def print_tables(tables: "Sequence[Table | CaseTable]", record: Report, writing: OutputFlags) -> None:
    """Print what was measured, and write it with every value where a report is wanted."""
    for table in tables:
        typer.echo(f"{table.markdown()}\n")
    record.results["tables"] = [asdict(table) for table in tables]
    write_report(record, writing)
