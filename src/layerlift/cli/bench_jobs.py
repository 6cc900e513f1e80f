"""`layerlift bench jobs`, `memory` and `length`: whole jobs on a made-up clip, and what they take."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer

from layerlift.cli.bench_speed import Random, model_to_measure
from layerlift.cli.flags import Default, Only, Typed, Without, with_flags
from layerlift.cli.job import settle, write_report
from layerlift.cli.options import OutputFlags
from layerlift.cli.places import read_of_model
from layerlift.errors import InputError
from layerlift.flags import flag
from layerlift.limits import MOST_FRAMES, MOST_MEMORY, MOST_REPEATS
from layerlift.options import RemovalOptions, RuntimeOptions
from layerlift.parse import parse_size
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.bench.alone import Case, Found
    from layerlift.engine.model import Model

T = TypeVar("T", int, float)
MIB, GIB = 2**20, 2**30
TEXT = "text"  # a job that is measured only where it is asked for: a random encoder takes 9.5 GB of disk
BOX_SHARE = 0.15  # of the picture's height: the box that crosses it
MEMORY_HEADER = ("job", "limit, GiB", "planned", "took", "plan/took − 1", "s", "stages: planned → took", "notes")
LENGTH_HEADER = (
    "clip", "frames", "windows", "memory over idle, MiB", "s", "CPU s", "memory, over the first's",
    "time (CPU) a frame, over the first's", "stages", "notes",
)  # fmt: skip
Running = Annotated[RuntimeOptions, Default(model="demo")]
Writing = Annotated[OutputFlags, Without("lossless", "verbose")]


def numbers(text: str, kind: Callable[[str], T], name: str, most: float) -> list[T]:
    """``2.5,4`` → [2.5, 4.0]. Raises InputError for what is no number above 0, or above `most`, naming the flag."""
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(number > 0 for number in found):
        raise InputError(f"{name} {text!r} is not a list of numbers above 0: separate them by commas, as in 200,2000.")
    if max(found) > most:
        raise InputError(f"{name} has {max(found)}: give {most:.15g} or less.")
    return found


@dataclass(frozen=True, slots=True)
class ClipOf:
    """The made-up clip: its (width, height) in pixels and that of the masked box, and how many frames."""

    size: tuple[int, int] | None = flag(
        None, "Size of the clip in pixels (default: the model's own).", metavar="WxH", takes=str, parse=parse_size
    )
    frames: int | None = flag(
        None, "Frames of the clip (default: the model's own).", metavar="N", least=1, most=MOST_FRAMES
    )
    hidden: tuple[int, int] | None = flag(
        None,
        "Size of the masked box in pixels (default: a wide box that hides a tenth of the model's tokens).",
        metavar="WxH",
        takes=str,
        parse=lambda text: parse_size(text, "--hidden"),
    )

    def of(self, model: "Model") -> dict[str, Any]:
        """What `made_up_clip` takes, with the model's own size and length where none was given.

        Raises InputError where the box does not fit into the clip.
        """
        width, height = size = self.size or model.settings.size
        hidden = self.hidden or (max(1, round(0.395 * width)), max(1, round(0.0458 * height)))
        if hidden[0] > width or hidden[1] > height:
            raise InputError(
                f"--hidden {hidden[0]}x{hidden[1]} does not fit into a clip of {width}x{height}: give a smaller box."
            )
        return {"size": size, "frames": self.frames or model.settings.frames, "hidden": hidden}


def chosen_of(given: Sequence[str] | None, known: Sequence[Any], default: Sequence[Any]) -> list[Any]:
    """What --only names. Raises InputError for what is unknown."""
    unknown = [name for name in given or () if name not in known]
    if unknown:
        raise InputError(f"unknown --only {unknown[0]!r}: choose from {'; '.join(known)}.")
    return [name for name in known if name in (given or default)]


OnlyJobs = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="JOB", help="Measure only this job. Repeat for more (default: all)."),
]


class Rows:
    """A table that is printed as it is measured, and goes into the report."""

    def __init__(self, title: str, header: Sequence[str], record: Report) -> None:
        from layerlift.bench.speed_report import table

        self._record = record
        record.results.setdefault("rows", [])
        typer.echo("\n".join([title, "", *table(header, [])]))

    def add(self, cells: Sequence[str], values: dict[str, Any]) -> None:
        """Print a row, and keep what it was made of."""
        from layerlift.bench.speed_report import table_row

        typer.echo(table_row(cells))
        self._record.results["rows"].append(values)

    def failed(self, cells: Sequence[str], error: Exception) -> None:
        """Print why there is no such row."""
        said = " ".join(str(error).split()) or type(error).__name__
        self.add([*cells, said], {"row": list(cells), "error": said})

    def measure(self, case: "Case", cells: Sequence[str], others: "Callable[[Found], list[str]]") -> "Found | None":
        """A case in a process of its own, as a row; None where it failed."""
        from layerlift.bench.alone import measure

        try:
            found = measure(case)
        except Exception as error:  # noqa: BLE001 - the next row is worth having whatever went wrong in this one
            self.failed(cells, error)
            return None
        self.add([*cells, *others(found)], {"row": list(cells), **asdict(found)})
        return found


def described(size: tuple[int, int], frames: int, hidden: tuple[int, int]) -> str:
    """A made-up clip, as a phrase."""
    return f"{size[0]}×{size[1]}, {frames} frames, {hidden[0]}×{hidden[1]} masked"


@with_flags
def jobs(
    *,
    random: Random = None,
    only: OnlyJobs = None,
    clip: ClipOf,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=MOST_REPEATS, metavar="N", help="Runs after the first.")
    ] = 1,
    running: Running,
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how long whole removals and searches for effects take, with the model's weights already in memory."""
    settle({}, read_of_model(running), writing)

    from layerlift.bench.jobs import HEADER, JOBS, time_jobs

    wanted = chosen_of(only, JOBS, JOBS)
    record = Report("bench jobs", typed)
    with model_to_measure(running, random, record) as (model, runtime):
        made = clip.of(model)
        rows = Rows(f"{model.name}, {runtime.policy.device}, {described(**made)}", HEADER, record)
        for found in time_jobs(wanted, model, runtime, **made, repeats=repeats, random=random is not None):
            if isinstance(found, tuple):
                rows.failed(found[:1], found[1])
            else:
                rows.add(found.cells(), asdict(found))
    write_report(record, writing)


@with_flags
def memory(
    *,
    random: Random = None,
    only: OnlyJobs = None,
    clip: ClipOf,
    limits: Annotated[
        str, typer.Option("--limits", metavar="GB,…", help="Memory limits to run each job with, in GiB.")
    ] = "2.5,4,5,6,8,15.6",
    beside: Annotated[
        int, typer.Option("--jobs", min=1, max=1024, metavar="N", help="Jobs to run at the same time.")
    ] = 1,
    running: Annotated[
        RuntimeOptions, Default(model="demo"), Only("model", "text_encoder", "device", "dtype", "backend")
    ],
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how much memory whole jobs take, each in its own process, next to what was planned."""
    memories = numbers(limits, float, "--limits", MOST_MEMORY)
    settle({}, read_of_model(running), writing)

    import os

    from layerlift.bench.alone import Case, JobName
    from layerlift.engine.model.random import write_random_encoder

    names = get_args(JobName)
    wanted = chosen_of(only, names, [name for name in names if name != TEXT])
    record = Report("bench memory", typed)
    with TemporaryDirectory(prefix="layerlift-text-") as folder, model_to_measure(running, random, record) as found:
        model, runtime = found
        made, threads = clip.of(model), max(1, (os.cpu_count() or 1) // beside)
        options: dict[str, dict[str, Any]] = {
            "remove": {"evidence": "off", "size": made["size"], "crop": False, "steps": 2},
            "crop": {"evidence": "off", "crop": True, "steps": 2},
            "mask": {"size": made["size"], "prompt": ""},
            "compose": {"size": made["size"], "steps": 2},
        }
        given = Case("remove", str(model.path), runtime.policy, **made, threads=threads)
        cases = [
            replace(given, job=name, options=options[name], memory=round(most * GIB))
            for name in wanted
            if name != TEXT
            for most in memories
        ]
        if TEXT in wanted:
            own = running.text_encoder
            encoder = write_random_encoder(Path(folder)) if own is None else own / "text_encoder"
            cases.append(replace(given, job="text", model=str(encoder)))
        rows = Rows(f"{model.name}, {runtime.policy.device}, {described(**made)}", MEMORY_HEADER, record)
        with ThreadPoolExecutor(beside) as pool:
            list(pool.map(lambda case: rows.measure(case, [case.job, amount(case.memory)], memory_cells), cases))
    write_report(record, writing)


def memory_cells(found: "Found") -> list[str]:
    """The other cells of a row of `memory`."""
    stages = {name: found.over(found.idle, name) for name in found.stages if name != "all"}
    # The mask's look is one pass of what denoising takes many of.
    planned = {name: found.planned.get({"look": "denoise", "draw": "encode"}.get(name, name)) for name in stages}
    most, peak = max(found.planned.values(), default=None), max(stages.values())
    shown = (f"{name} {amount(planned[name])} → {amount(stages[name])}" for name in stages)
    over = "" if most is None else f"{most / peak - 1:+.0%}"
    return [amount(most), amount(peak), over, f"{found.seconds:.1f}", "; ".join(shown), "; ".join(found.notes)]


def amount(taken: int | None) -> str:
    """Bytes as GiB; nothing where there is no such number."""
    return "" if taken is None else f"{taken / GIB:.2f}"


@with_flags
def length(
    *,
    clip: Annotated[
        Path | None,
        typer.Argument(metavar="[CLIP]", help="Your own clip, instead of made-up ones.", show_default=False),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", metavar="MASK", help="Mask for CLIP (default: total_mask in CLIP's folder)."),
    ] = None,
    random: Random = None,
    lengths: Annotated[
        str,
        typer.Option("--lengths", metavar="N,…", help="Lengths of the made-up clips in frames, the shortest first."),
    ] = "200,2000",
    clip_size: Annotated[
        str, typer.Option("--clip-size", metavar="WxH", help="Size of the made-up clips in pixels.")
    ] = "704x480",
    there: Annotated[
        float,
        typer.Option(
            "--masked", min=0.01, max=1, metavar="SHARE", help="Share of the made-up clips' frames that have a mask."
        ),
    ] = 0.2,
    write: Annotated[bool, typer.Option("--write", help="Also encode the result into a file.")] = False,
    options: Annotated[RemovalOptions, Only("size", "steps")],
    running: Annotated[RuntimeOptions, Default(model="demo"), Only("model", "device", "dtype", "backend")],
    writing: Writing,
    typed: Typed,
) -> None:
    """Print whether a removal's memory grows with the clip's length, and whether its time grows faster than the length.

    Runs without evidence, or, with --model none, on evidence alone.
    """
    frames, size = numbers(lengths, int, "--lengths", MOST_FRAMES), parse_size(clip_size, "--clip-size")
    settle({}, read_of_model(running), writing)

    from layerlift.bench.alone import Case
    from layerlift.engine.device import choose_policy
    from layerlift.stages.choose_model import NO_MODEL

    if clip is not None:
        mask = checked_mask(mask, clip)
    without = running.model == NO_MODEL and random is None
    record = Report("bench length", typed)
    with nullcontext(None) if without else model_to_measure(running, random, record) as opened:
        side = round(BOX_SHARE * size[1])
        model = NO_MODEL if opened is None else str(opened[0].path)
        policy = choose_policy(running.device, running.dtype, running.backend)
        chosen = {"size": options.size, "steps": options.steps, "evidence": "only" if without else "off"}
        case = Case("remove", model, policy, size, 0, (side, side), there, clip, mask, chosen, write=write)
        name = f"{size[0]}×{size[1]}" if clip is None else clip.name
        rows = Rows(f"{running.model if random is None else random}, {policy.device}", LENGTH_HEADER, record)
        first: Found | None = None
        for count in frames if clip is None else [0]:
            found = rows.measure(replace(case, frames=count), [name], partial(length_cells, first))
            first = first or found
    write_report(record, writing)


def checked_mask(mask: Path | None, clip: Path) -> Path:
    """The mask given for the clip at a path, or the total mask beside it; raises InputError unless both can be used."""
    from layerlift.clip import layout_masks, open_clip
    from layerlift.masks import open_mask

    opened = open_clip(clip)
    mask = mask or layout_masks(clip).total_mask
    if mask is None:
        raise InputError(
            f"no mask was given for {clip}: add --mask, or give a folder with total_mask beside its video."
        )
    open_mask(mask, opened)
    return mask


def length_cells(first: "Found | None", found: "Found") -> list[str]:
    """The other cells of a row of `length`; `first` is what the shortest clip took."""
    memory, ratios = found.over(found.ready), ["", ""]
    if first is not None:
        times = found.frames / first.frames
        ratios = [
            f"{memory / first.over(first.ready) - 1:+.1%}",
            f"{found.seconds / first.seconds / times:.2f} ({found.cpu / first.cpu / times:.2f})",
        ]
    stages = (
        f"{name} {cost.seconds:.1f} s, {found.over(found.ready, name) / MIB:.0f} MiB"
        for name, cost in found.stages.items()
        if name != "all"
    )
    return [
        str(found.frames), str(found.windows), f"{memory / MIB:.1f}", f"{found.seconds:.1f}", f"{found.cpu:.1f}",
        *ratios, "; ".join(stages), "; ".join(found.notes),
    ]  # fmt: skip
