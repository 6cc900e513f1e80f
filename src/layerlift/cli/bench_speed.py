"""`layerlift bench speed`: how fast a model is here, in a form that fits a bug report."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli import options as common
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError

if TYPE_CHECKING:
    from layerlift.device import Policy
    from layerlift.model import Model


def speed(
    model: common.ModelName = "demo",
    text_encoder: common.TextEncoder = None,
    random: Annotated[
        str | None,
        typer.Option(
            "--random",
            metavar="NAME",
            help="Instead of a checkpoint random weights of this model of the table, written to the temporary folder.",
        ),
    ] = None,
    size: common.Size = None,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, metavar="N", help="Frames of the window; else the model's own.")
    ] = None,
    steps: common.Steps = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, metavar="N", help="Warm calls of which the median counts.")
    ] = 3,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help="Also run compiled; else where the device can.", show_default=False
        ),
    ] = None,
    memory: common.Memory = None,
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
) -> None:
    """Print how fast a model is on this machine: seconds of each stage, memory, and what each optimisation brings."""
    pixels = common.parse_size(size) if size is not None else None

    from layerlift.device import choose_policy
    from layerlift.device.budget import check_memory
    from layerlift.model import open_model
    from layerlift.model.catalogue import CATALOGUE

    given = check_memory(memory)
    chosen = choose_policy(device, dtype, policy)
    if compile and not chosen.can_compile:
        raise InputError(f"--compile is not supported on {chosen.backend}: leave it out.")
    if random is None:
        opened = open_model(model, text_encoder=text_encoder)
        _measure(opened, chosen, pixels, frames, steps, given, repeats, compile, random=False)
        return
    if random not in CATALOGUE:
        raise InputError(f"--random {random!r} is no model of the table: give one of {', '.join(CATALOGUE)}.")

    from layerlift.model.random import write_random_model
    from layerlift.stages.removal import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT

    with tempfile.TemporaryDirectory(prefix="layerlift-random-") as folder:
        prompts = (DEFAULT_PROMPT, DEFAULT_NEGATIVE_PROMPT)
        opened = open_model(write_random_model(Path(folder) / random, CATALOGUE[random], prompts))
        _measure(opened, chosen, pixels, frames, steps, given, repeats, compile, random=True)


def _measure(
    opened: "Model",
    chosen: "Policy",
    size: tuple[int, int] | None,
    frames: int | None,
    steps: int | None,
    memory: int | None,
    repeats: int,
    compile: bool | None,
    *,
    random: bool,
) -> None:
    """Run it and print it."""
    from layerlift.bench.speed import measure_speed
    from layerlift.bench.speed_report import speed_report
    from layerlift.stages.removal import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT

    width, height = size or opened.settings.size
    count, geometry = frames or opened.settings.frames, opened.geometry
    if width % geometry.space or height % geometry.space or (count - 1) % geometry.time:
        raise InputError(
            f"{width}x{height} and {count} frames are not whole tokens of {opened.name}: give multiples of "
            f"{geometry.space} pixels and a number of frames that is 1 more than a multiple of {geometry.time}."
        )
    prompts = [DEFAULT_PROMPT] if opened.settings.guidance == 1 else [DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT]
    opened.check_prompts(prompts, chosen, True)
    with show_progress() as progress:
        found = measure_speed(
            opened, chosen, prompts, size=(width, height), frames=count, steps=steps, memory=memory, repeats=repeats,
            compile=compile, progress=progress,
        )  # fmt: skip
    machine = describe_machine(chosen.device, found.plan.request.memory)
    text = speed_report(found, opened, machine, size=(width, height), frames=count, random=random)
    typer.echo(text)


def describe_machine(device: str, memory: float) -> dict[str, str]:
    """Device, memory and versions, for whoever reads the figures elsewhere."""
    import os

    import torch

    from layerlift.device.budget import total_ram
    from layerlift.device.needs import GIB
    from layerlift.report import versions

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    rows = {
        "device": f"{device}: {name}",
        "cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads",
        "RAM": f"{total_ram() / GIB:.1f} GiB",
    }
    if device.startswith("cuda"):
        rows["on the card"] = f"{torch.cuda.get_device_properties(device).total_memory / GIB:.1f} GiB"
    rows["may be taken"] = f"{memory / GIB:.1f} GiB"
    return rows | versions()


def _processor() -> str:
    """What the processor calls itself; on Apple Silicon that names the GPU as well."""
    import platform
    import subprocess
    import sys

    if sys.platform == "darwin":
        said = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return said.stdout.strip() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
