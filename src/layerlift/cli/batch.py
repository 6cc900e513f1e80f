"""`layerlift batch`: many clips on many devices."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from layerlift.cli.batch_executors import check_choices, slurm_jobs, who_checks
from layerlift.cli.batch_options import ASIDE, flat_words, options_of_run, with_options_of, words_of
from layerlift.cli.job import settle_folder
from layerlift.cli.resume import COMMAND_LINE, told_how_to_go_on
from layerlift.cli.run import run
from layerlift.cli.terminal import say
from layerlift.errors import InputError
from layerlift.options import DEVICE, OUTPUT
from layerlift.parse import whole_number

if TYPE_CHECKING:
    from layerlift.batch.ledger import Ledger, Record
    from layerlift.batch.tasks import Event
    from layerlift.batch.work import Clip

# Tasks of an array job, where nobody says how many.
MOST_SHARDS = 64
GROUP = "Batch"


@with_options_of(run, *ASIDE)
def batch(
    *,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST|FOLDER",
            help="A .csv, .jsonl or .yaml file with a line for each clip (clip, object, and any option of `run`), or a "
            "folder of clips with masks. Paths in a manifest are relative to it.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="Folder for the results, each as `run` makes it, with results.jsonl and index.html.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ],
    devices: Annotated[
        str,
        typer.Option(
            metavar="0,1,…|cpu|auto",
            help="Devices of this machine, a worker for each: numbers of GPUs, or cpu, once or more often (cpu,cpu).",
            rich_help_panel=DEVICE,
        ),
    ] = "auto",
    executor: Annotated[
        Literal["local", "ray", "slurm"],
        typer.Option(
            help="Who does the work: workers of this machine, actors of a Ray cluster, or an array job of Slurm.",
            rich_help_panel=GROUP,
        ),
    ] = "local",
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="The Ray cluster (default: the one of this machine).", rich_help_panel=GROUP
        ),
    ] = "auto",
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            metavar="N",
            help="Tasks of the array job (default: one for each clip, at most 64).",
            rich_help_panel=GROUP,
        ),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A parameter of the array job, as submitit calls it, such as gpus_per_node=1, timeout_min=600 or "
            "slurm_partition=gpu. Repeat for more.",
            rich_help_panel=GROUP,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only every N-th clip, from the I-th on, for N machines with one OUT.",
            rich_help_panel=GROUP,
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            min=0, max=100, metavar="N", help="Tries after the first of a clip that fails.", rich_help_panel=GROUP
        ),
    ] = 2,
    plan: Annotated[
        bool, typer.Option("--plan", help="Check every clip, show who would get what, and stop.", rich_help_panel=GROUP)
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue clips that were interrupted where they ended. Finished ones are skipped in any case.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Make results again that were made from other inputs or options.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    **options: Any,
) -> None:
    """Run the whole pipeline on many clips.

    Options of `run` hold for every clip that does not say otherwise. Every clip is checked before the first one begins.
    """
    from layerlift.batch.devices import parse_devices
    from layerlift.batch.ledger import Ledger
    from layerlift.batch.manifest import read_lines
    from layerlift.batch.names import repeated
    from layerlift.batch.shards import run_shards
    from layerlift.batch.work import Choices, check_clips, name_clips, run_clips
    from layerlift.cli.batch_board import board_of, print_end, print_plan

    # 1. What the manifest says.
    part = parse_shard(shard)
    check_choices(executor, devices, address, shards, slurm, shard)
    shared = parse_devices(devices)
    check_output(output)
    words = words_of(options)
    lines, wrong = read_lines(source, options_of_run(), words)
    count = len(lines) + len(wrong)
    ledger = Ledger(output.absolute())
    choices = Choices(retries, resume, overwrite, shared[0].argv)
    clips, clashes = name_clips(lines, ledger, choices)
    for sentence in repeated(lines, [clip.name for clip in clips]):
        say(sentence)
    mine = clips[part[0] - 1 :: part[1]]

    with who_checks(executor, shared, devices, address) as checker:
        # 2. What the clips are; every plan is made on the device that runs it, where it can be reached from here.
        with board_of(checker.places, [clip.name for clip in mine if not clip.done], "check") as board:
            checked, unusable = check_clips(mine, checker, choices, board.told, elsewhere=executor == "slurm")
        # Whoever mends a manifest is told of all of it at once.
        refuse(source, [*wrong, *clashes, *unusable], count)
        if plan:
            print_plan(checked, checker.places)
            return
        # 3. The work.
        by_slurm = executor == "slurm" and not all(clip.done for clip in checked)
        if not by_slurm:
            failed = work(
                checked, ledger, checker.places, lambda told: run_clips(checked, checker, ledger, choices, told)
            )
    if by_slurm:
        tasks = shards or min(len(mine), MOST_SHARDS)
        argv = ["batch", str(source.absolute()), "-o", str(ledger.folder), *flat_words(words), "--devices", devices]
        argv += ["--retries", str(retries), "--resume", *(["--overwrite"] if overwrite else [])]
        with slurm_jobs(ledger, slurm or []) as jobs:
            failed = work(checked, ledger, [], lambda told: run_shards(checked, argv, tasks, jobs, ledger, told=told))
    print_end(ledger, checked)
    if failed:
        raise typer.Exit(1)


def work(
    clips: "Sequence[Clip]",
    ledger: "Ledger",
    places: Sequence[str],
    begin: "Callable[[Callable[[Event], None]], Iterable[Record]]",
) -> int:
    """Have the clips done, and write down what becomes of them; returns how many failed.

    `begin` is given whom to tell what happens, and yields the record of each clip at its end.
    """
    from layerlift.batch.page import write_page
    from layerlift.batch.work import estimates
    from layerlift.cli.batch_board import board_of
    from layerlift.room import check_room

    check_room({ledger.folder: sum(clip.facts["room"] for clip in clips if clip.facts and not clip.done)})
    ledger.folder.mkdir(exist_ok=True)
    failed = 0
    try:
        seconds = {clip.name: took for clip, took in zip(clips, estimates(clips), strict=True)}
        words = COMMAND_LINE.get() or ("batch",)
        with told_how_to_go_on(words, lambda: True), board_of(places, seconds, "batch") as board:
            for record in begin(board.told):
                board.ended(record)
                failed += record.state == "failed"
    finally:
        # However it ends, what has been done is told.
        ledger.write_results()
        records = ledger.records()
        write_page(ledger.folder, [*records.values()], sum(clip.name not in records for clip in clips))
    return failed


def parse_shard(text: str | None) -> tuple[int, int]:
    """``2/8`` → (2, 8). Raises InputError for what is no part of a whole."""
    if text is None:
        return 1, 1
    one, between, several = text.partition("/")
    number, count = whole_number(one), whole_number(several)
    if between and number is not None and count is not None and 1 <= number <= count <= 10**6:
        return number, count
    raise InputError(f"--shard {text!r} is no part of a whole: give the first of four as 1/4.")


def check_output(folder: Path) -> None:
    """Raises InputError unless results can be put into a folder, which may have some."""
    settle_folder(folder, overwrite=True)
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder} is in a folder that does not exist: create {folder.absolute().parent} first.")


def refuse(source: Path, wrong: Sequence[str], count: int) -> None:
    """Say everything that is wrong. Raises InputError if anything is."""
    for sentence in wrong:
        say(sentence)
    if wrong:
        raise InputError(
            f"{len(wrong)} of {count} lines of {source} cannot be used, so nothing was started: see above."
            if len(wrong) > 1
            else f"a line of {source} cannot be used, so nothing was started: see above."
        )
