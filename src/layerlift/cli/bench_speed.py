"""`layerlift bench speed`: how fast a model is here, in a form that fits a bug report."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerlift.cli.flags import Default, Only, with_flags
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.limits import MOST_REPEATS, MOST_WINDOW
from layerlift.options import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT, RemovalOptions, RuntimeOptions
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.engine.model import Model
    from layerlift.runtime import Runtime


Random = Annotated[
    str | None,
    typer.Option(
        "--random",
        metavar="NAME",
        help="Use random weights for this model instead of a checkpoint. They are written to the temporary folder.",
    ),
]


@contextmanager
def model_to_measure(running: RuntimeOptions, random: str | None, record: Report) -> "Iterator[tuple[Model, Runtime]]":
    """The model whose speed or memory is measured, opened: the user's, or one of `random` weights; and the runtime.

    Raises InputError for an unknown name and where there is no model, and as `open_runtime` and `write_random_model`.
    """
    from layerlift.engine.model import Model
    from layerlift.engine.model.catalogue import CATALOGUE
    from layerlift.runtime import open_runtime
    from layerlift.stages.choose_model import require_model, run_by

    if random is not None and random not in CATALOGUE:
        raise InputError(f"unknown --random {random!r}: choose one of {', '.join(CATALOGUE)}.")
    with show_progress() as progress, tempfile.TemporaryDirectory(prefix="layerlift-random-") as folder:
        runtime = open_runtime(running, progress=progress, report=record)
        if random is None:
            opened = require_model(runtime, record.command)
            assert isinstance(opened, Model)  # what is measured are its parts
            yield opened, runtime
            return
        from layerlift.engine.model import open_model
        from layerlift.engine.model.random import write_random_model

        made = run_by(open_model(write_random_model(Path(folder) / random, CATALOGUE[random])), runtime.policy.engine)
        assert isinstance(made, Model)
        yield made, runtime


@with_flags
def speed(
    *,
    random: Random = None,
    options: Annotated[RemovalOptions, Only("size", "steps")],
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", min=1, max=MOST_WINDOW, metavar="N", help="Frames per window (default: the model's own)."
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats", min=1, max=MOST_REPEATS, metavar="N", help="Timed runs after the first; the median is printed."
        ),
    ] = 3,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Also measure compiled (default: if the device supports it).",
            show_default=False,
        ),
    ] = None,
    unknown: Annotated[
        float, typer.Option("--unknown", min=0.01, max=1, metavar="SHARE", help="Share of the tokens that are unknown.")
    ] = 0.1,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Also run a step on the CPU in float32, and compare the results.")
    ] = False,
    running: Annotated[RuntimeOptions, Default(model="demo")],
) -> None:
    """Print how fast a model is on this machine: time per stage, memory, what each optimisation gains, and how near the
    device's limit it comes."""
    with model_to_measure(running, random, Report("bench speed")) as (opened, runtime):
        if compile and not runtime.policy.can_compile:
            raise InputError(f"--compile is not supported on {runtime.policy.backend}: leave it out.")
        how = {"repeats": repeats, "compile": compile, "share": unknown, "cpu": cpu}
        text = _measure(opened, runtime, options, frames, random=random is not None, **how)
    typer.echo(text)


def _measure(
    opened: "Model",
    runtime: "Runtime",
    options: RemovalOptions,
    frames: int | None,
    *,
    random: bool,
    **how: Any,
) -> str:
    """Run it as `measure_speed` is told; what was found, as Markdown."""
    from layerlift.bench.speed import measure_speed
    from layerlift.bench.speed_report import describe_machine, speed_report

    width, height = options.size or opened.settings.size
    count, geometry = frames or opened.settings.frames, opened.geometry
    if width % geometry.space or height % geometry.space or (count - 1) % geometry.time:
        raise InputError(
            f"{width}x{height} and {count} frames are not whole tokens of {opened.name}: give multiples of "
            f"{geometry.space} pixels and a number of frames that is 1 more than a multiple of {geometry.time}."
        )
    prompts = [DEFAULT_PROMPT] if opened.settings.guidance == 1 else [DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT]
    opened.check_prompts(prompts, runtime.policy, runtime.cache)
    found = measure_speed(
        opened, runtime.policy, prompts, size=(width, height), frames=count, steps=options.steps,
        memory=runtime.memory_bytes, progress=runtime.progress, **how,
    )  # fmt: skip
    machine = describe_machine(runtime.policy, found.plan.request.memory)
    return speed_report(found, opened, machine, size=(width, height), frames=count, random=random)
