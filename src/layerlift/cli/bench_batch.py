"""`layerlift bench batch`: how much faster several devices are than one."""

from dataclasses import asdict
from typing import Annotated

import typer

from layerlift.cli.bench_jobs import ClipOf, Rows, Running, Writing, described
from layerlift.cli.bench_speed import Random, model_to_measure
from layerlift.cli.flags import Typed, with_flags
from layerlift.cli.job import settle, write_report
from layerlift.cli.places import read_of_model
from layerlift.limits import MOST_REPEATS
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
        int, typer.Option("--clips", min=1, max=MOST_REPEATS, metavar="N", help="Clips to remove something from.")
    ] = 16,
    random: Random = None,
    clip: ClipOf,
    running: Running,
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how long clips in memory take on one device and on several, and how busy these are."""
    from layerlift.batch.devices import parse_devices
    from layerlift.bench.batch import HEADER, time_batches

    settle({}, read_of_model(running), writing)
    shared = parse_devices(devices if gpus is None else ",".join(map(str, range(gpus))))
    record = Report("bench batch", typed)
    with model_to_measure(running, random, record) as (model, runtime):
        made = clip.of(model)
        rows = Rows(f"{model.name}, {runtime.policy.device}, {described(**made)}", HEADER, record)
        for found in time_batches(shared, clips, {"model": str(model.path), **made}):
            rows.add(found.cells(), asdict(found))
    write_report(record, writing)
