"""A command line of `layerlift run`, checked and planned without running it."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from layerlift.cli.flags import gathered
from layerlift.cli.resume import manifest_of
from layerlift.cli.run import check_choices, models_of, open_run, read_of_run, room_for, run
from layerlift.options import RunOptions
from layerlift.places import Given, flat, settle_places

if TYPE_CHECKING:
    from layerlift.stages.run import RunPlan


def check_run(argv: Sequence[str], *, key: bool) -> dict[str, Any]:
    """What `layerlift run` would do with the words after its name: everything is opened and planned as it would be.

    Returns, in types that JSON has: the clip's width, height, frames and objects, the model's name, its windows and
    the work that it has ("flops", as far as it can be told beforehand), bytes that are planned at the peak and that may
    be taken ("peak", "memory"), on which device, bytes of the result ("room"), every file that is read, with its stamp
    ("read"), and with `key` the digest of inputs and options that the report of the run will have.

    Raises what the command would, before its work.
    """
    from layerlift.engine.device.budget import usable_memory
    from layerlift.runtime import open_runtime

    given = gathered(run, _typed(argv))
    clip, output, objects, total, onto = (given[name] for name in ("clip", "output", "objects", "total", "onto"))
    clicks, segmentation, effects, removal = (given[name] for name in ("clicks", "segmentation", "effects", "removal"))
    extraction, composition, writing = (given[name] for name in ("extraction", "composition", "writing"))
    check_choices(objects, clicks, segmentation, total, effects, onto, composition)
    read = read_of_run(clip, objects, total, onto, removal, given["running"])
    settle_places({"-o": output}, read)
    options = RunOptions(removal, effects, extraction, composition, writing.lossless)
    opened = open_run(clip, objects, clicks, segmentation, total, onto, given["reading"], options)
    runtime = open_runtime(given["running"])
    found, plan = opened.plan(runtime)
    source = opened.inputs.clip
    facts = {
        "width": source.width,
        "height": source.height,
        "frames": source.frame_count,
        "objects": len(opened.inputs.objects),
        "device": runtime.policy.device,
        "memory": runtime.memory_bytes or usable_memory(runtime.policy),
        **_work(plan),
        "room": sum(room_for(opened.inputs, output, lossless=writing.lossless).values()),
        "read": stamps(read),
    }
    if key:
        models = models_of(plan)
        segmenter = None if found is None else found.segmenter
        job = manifest_of("run", output, given["typed"], read, runtime=runtime, models=models, segmenter=segmenter)
        facts["key"] = job.key()
    return facts


def stamps(read: Mapping[str, Given]) -> dict[str, list[int]]:
    """Size and time of the last change, in nanoseconds, of every file that is given, and of those in folders."""
    found = {}
    for _, path in flat(read):
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                told = file.stat()
                found[str(file.absolute())] = [told.st_size, told.st_mtime_ns]
    return found


def _typed(argv: Sequence[str]) -> dict[str, Any]:
    """The words after `layerlift run`, as typer reads them. Raises TyperException for what it cannot read."""
    from typer import Typer

    found: dict[str, Any] = {}

    def take(**typed: Any) -> None:
        found.update(typed)

    take.__signature__ = signature(run)  # type: ignore[attr-defined]
    take.__annotations__ = run.__annotations__
    command = Typer(add_completion=False)
    command.command()(take)
    command([*argv], prog_name="layerlift run", standalone_mode=False)
    return found


def _work(plan: "RunPlan") -> dict[str, Any]:
    """The model's part of a run."""
    job = plan.removal.job
    if job is None:
        return {"model": None, "windows": 0, "flops": 0, "peak": 0}
    request = job.plan.request
    tokens = request.tokens * request.branches * job.sampling.steps * len(job.windows)
    weights = request.facts.block * request.facts.layers + request.facts.outside
    return {
        "model": job.model.name,
        "windows": len(job.windows),
        "flops": 2 * weights * tokens,
        "peak": round(job.plan.peak),
    }
