"""`layerlift bench batch`: how much faster several devices are than one."""

from dataclasses import asdict
from typing import Annotated

import typer

from layerlift.cli.bench_jobs import ClipOf, Rows, Running, Writing, described
from layerlift.cli.bench_speed import Random, model_to_measure
from layerlift.cli.flags import Typed, with_flags
from layerlift.cli.job import settle, write_report
from layerlift.cli.places import read_of_model
from layerlift.limits import MOST_FRAMES, MOST_REPEATS
from layerlift.report import Report


@with_flags
def batch(
    *,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, max=256, metavar="N", help="The first N GPUs: --devices 0,1,….")
    ] = None,
    devices: Annotated[
        str, typer.Option("--devices", metavar="0,1,…|cpu|auto", help="Devices to compare with the first of them.")
    ] = "auto",
    clips: Annotated[
        int,
        typer.Option(
            "--clips",
            min=0,
            max=MOST_REPEATS,
            metavar="N",
            help="Clips to share out, each to one device; 0 skips them.",
        ),
    ] = 16,
    long: Annotated[
        int,
        typer.Option(
            "--long", min=0, max=MOST_FRAMES, metavar="N", help="Frames of one clip that all devices share; 0 skips it."
        ),
    ] = 480,
    dense: Annotated[
        bool, typer.Option("--dense", help="Denoise all tokens of the shared clip in every step.")
    ] = False,
    random: Random = None,
    clip: ClipOf,
    running: Running,
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how long clips in memory take on one device and on several, and how busy these are; and one long clip."""
    from layerlift.batch.devices import parse_devices
    from layerlift.bench import spread
    from layerlift.bench.batch import HEADER, time_batches
    from layerlift.engine.device.several import choose_devices

    settle({}, read_of_model(running), writing)
    named = devices if gpus is None else ",".join(map(str, range(gpus)))
    shared, sharing = parse_devices(named), choose_devices(named)
    record = Report("bench batch", typed)
    with model_to_measure(running, random, record) as (model, runtime):
        made = clip.of(model)
        if clips:
            rows = Rows(f"{model.name}, {runtime.policy.device}, {described(**made)}", HEADER, record)
            for found in time_batches(shared, clips, {"model": str(model.path), **made}):
                rows.add(found.cells(), asdict(found))
        if long and sharing:
            made |= {"frames": long}
            more = Rows(f"\n{model.name}, one clip, {described(**made)}", spread.HEADER, record)
            for each in spread.time_shared(sharing, model.path, **made, dense=dense):
                more.add(each.cells(), asdict(each))
    write_report(record, writing)
