"""`layerlift batch`: many clips on many devices."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from layerlift.batch.executors.local import LocalExecutor
from layerlift.cli.job import settle_folder
from layerlift.cli.run import run
from layerlift.cli.terminal import say
from layerlift.errors import InputError
from layerlift.options import DEVICE, OUTPUT

if TYPE_CHECKING:
    from layerlift.batch.executors.base import Executor
    from layerlift.batch.line import Options, Words
    from layerlift.batch.work import Clip

# Flags of `run` that are none of a line's: a batch has its own, or says them itself.
_ASIDE = ("clip", "output", "report", "overwrite", "verbose", "resume", "device")
# Of `run`, what may be a path, and what is one with more.
_MAYBE, _MORE = ("model",), ("reference",)
GROUP = "Batch"


def with_options_of(
    command: Callable[..., None], *without: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of another one, after its own; its function gets what was typed by name."""

    def made(function: Callable[..., None]) -> Callable[..., None]:
        own = [given for given in signature(function).parameters.values() if given.kind is not Parameter.VAR_KEYWORD]
        more = [given for name, given in signature(command).parameters.items() if name not in without]
        function.__signature__ = Signature([*own, *more])  # type: ignore[attr-defined]
        function.__annotations__ = {given.name: given.annotation for given in (*own, *more)}
        return function

    return made


@with_options_of(run, *_ASIDE)
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
    from layerlift.batch.work import Choices, check_clips, name_clips
    from layerlift.cli.batch_board import board_of, print_end, print_plan

    # 1. What the manifest says.
    part = parse_shard(shard)
    shared = parse_devices(devices)
    check_output(output)
    known = options_of_run()
    lines, wrong = read_lines(source, known, words_of(options))
    ledger = Ledger(output.absolute())
    choices = Choices(retries, resume, overwrite, shared[0].argv)
    clips, clashes = name_clips(lines, ledger, choices)
    refuse(source, [*wrong, *clashes], len(lines) + len(wrong))
    mine = clips[part[0] - 1 :: part[1]]

    with workers(shared) as executor:
        # 2. What the clips are; every plan is made on the device that runs it.
        with board_of(executor.places, [clip.name for clip in mine if not clip.done], "check") as board:
            checked, wrong = check_clips(mine, executor, choices, board.told)
        refuse(source, wrong, len(mine))
        if plan:
            print_plan(checked, executor.places)
            return
        # 3. The work.
        failed = work(checked, executor, ledger, choices)
    print_end(ledger, checked)
    if failed:
        raise typer.Exit(1)


def work(mine: "Sequence[Clip]", executor: "Executor", ledger: Any, choices: Any) -> int:
    """Have the clips done, and write down what becomes of them; returns how many failed."""
    from layerlift.batch.page import write_page
    from layerlift.batch.work import estimates, run_clips
    from layerlift.cli.batch_board import board_of
    from layerlift.room import check_room

    check_room({ledger.folder: sum(clip.facts["room"] for clip in mine if clip.facts and not clip.done)})
    ledger.folder.mkdir(exist_ok=True)
    failed = 0
    try:
        seconds = {clip.name: took for clip, took in zip(mine, estimates(mine), strict=True) if not clip.done}
        with board_of(executor.places, seconds, "batch") as board:
            for record in run_clips(mine, executor, ledger, choices, board.told):
                board.ended(record)
                failed += record.state == "failed"
    finally:
        # However it ends, what has been done is told.
        ledger.write_results()
        records = ledger.records()
        write_page(ledger.folder, [*records.values()], sum(clip.name not in records for clip in mine))
    return failed


@contextmanager
def workers(devices: Any) -> "Iterator[Executor]":
    """Who does the work; workers end with the block."""
    executor = LocalExecutor(devices)
    try:
        yield executor
    finally:
        executor.close()


def parse_shard(text: str | None) -> tuple[int, int]:
    """``2/8`` → (2, 8). Raises InputError for what is no part of a whole."""
    if text is None:
        return 1, 1
    one, between, several = text.partition("/")
    if between and one.isdecimal() and several.isdecimal() and 1 <= int(one) <= int(several) <= 10**6:
        return int(one), int(several)
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


def options_of_run() -> "Options":
    """What a line may say: the options of `run`."""
    from layerlift.batch.line import Option, Options

    def place(parameter: Any) -> Literal["no", "path", "maybe"]:
        kind = parameter.type_descriptor.annotation
        if kind is Path or Path in get_args(kind) or parameter.name in _MORE:
            return "path"
        return "maybe" if parameter.name in _MAYBE else "no"

    return Options(
        Option(
            parameter.name,
            parameter.opts[-1],
            next(iter(parameter.secondary_opts), None),
            parameter.is_flag,
            parameter.multiple,
            place(parameter),
        )
        for parameter in _parameters()
    )


def words_of(typed: dict[str, Any]) -> "Words":
    """The words of the options that were typed, with paths as absolute ones."""
    known = options_of_run()
    found: Words = {}
    for parameter in _parameters():
        value = typed[parameter.name]
        if value in (None, [], (), parameter.default):
            continue
        several = [str(one) for one in value] if parameter.multiple else value if parameter.is_flag else str(value)
        found |= known.words({parameter.opts[-1]: several}, Path.cwd())
    return found


def _parameters() -> list[Any]:
    """The options of `run` that are a line's, as typer has them."""
    from typer.main import get_command

    from layerlift.cli.app import app

    command = get_command(app).commands["run"]  # type: ignore[attr-defined]
    return [parameter for parameter in command.params if parameter.name not in _ASIDE]
