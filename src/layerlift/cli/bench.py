"""`layerlift bench`: tables measured on scenes whose truth is known."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli import bench_footage, bench_speed
from layerlift.cli import options as common
from layerlift.cli.job import print_tables, settle_report
from layerlift.cli.places import read_of_model
from layerlift.cli.scene import SceneSize, parse_scene_size
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.model import Model

app = typer.Typer(no_args_is_help=True, help="Measure against a truth that is known.")

Seeds = Annotated[
    str, typer.Option("--seeds", metavar="START:END", help="Scenes: from START up to, not including, END.")
]
BenchFrames = Annotated[int, typer.Option("--frames", min=1, metavar="N", help="Frames of each scene.")]


app.command("speed")(bench_speed.speed)
app.command("footage")(bench_footage.footage)


@app.callback()
def _bench() -> None:
    pass  # with a callback `quality` stays a subcommand although it is the only one


@app.command("quality")
def quality(
    model: common.ModelName = "demo",
    text_encoder: common.TextEncoder = None,
    seeds: Seeds = "1000:1032",
    size: SceneSize = "288x192",
    frames: BenchFrames = 17,
    steps: common.Steps = None,
    guidance: common.Guidance = None,
    seed: common.Seed = 0,
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
) -> None:
    """Print how close removal comes to the truth, per kind of scene, beside what needs no model."""
    pixels = parse_scene_size(size)
    span = parse_seeds(seeds)
    settle_report(report, read_of_model(model, text_encoder), overwrite=overwrite)

    from layerlift.bench.quality import quality_tables
    from layerlift.device import choose_policy
    from layerlift.model import open_model
    from layerlift.stages.removal import RemovalOptions

    # Resident: every scene needs all parts of the same model again.
    chosen = choose_policy(device, dtype, policy, resident=True)
    opened = open_model(model, text_encoder=text_encoder)
    check_whole_tokens(opened, pixels, frames)

    record = Report("bench quality", {"model": model, "seeds": seeds, "size": size, "frames": frames, "steps": steps})
    record.device = chosen.device
    with show_progress() as progress, record.stage("quality"):
        tables = quality_tables(
            span, opened, chosen, size=pixels, frames=frames, options=RemovalOptions(steps=steps), progress=progress
        )
    print_tables(tables, record, report, overwrite=overwrite)


@app.command("layers")
def layers(
    seeds: Seeds = "1000:1032",
    size: SceneSize = "288x192",
    frames: BenchFrames = 17,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="demo|NAME|PATH|HUB-ID",
            help="Also go the whole way with this model, from the object masks alone and with the true total mask, "
            "beside latent arithmetic.",
        ),
    ] = None,
    text_encoder: common.TextEncoder = None,
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
) -> None:
    """Print how true extracted layers are, with the true plate and masks: composites, and alpha itself."""
    pixels = parse_scene_size(size)
    span = parse_seeds(seeds)
    settle_report(report, read_of_model(model, text_encoder), overwrite=overwrite)

    from layerlift.bench.layers import layer_tables
    from layerlift.device import choose_policy
    from layerlift.model import open_model

    chosen = choose_policy(device, dtype, policy, resident=True)
    opened = None if model is None else open_model(model, text_encoder=text_encoder)
    record = Report("bench layers", {"seeds": seeds, "size": size, "frames": frames, "model": model})
    with show_progress() as progress:
        with record.stage("layers"):
            tables = layer_tables(span, size=pixels, frames=frames, progress=progress)
        if opened is not None:
            from layerlift.bench.end_to_end import end_to_end_tables

            record.device = chosen.device
            with record.stage("end to end"):
                tables += end_to_end_tables(span, opened, chosen, size=pixels, frames=frames, progress=progress)
    print_tables(tables, record, report, overwrite=overwrite)


@app.command("crop")
def crop(
    model: common.ModelName = "demo",
    text_encoder: common.TextEncoder = None,
    seeds: Seeds = "1000:1016",
    size: SceneSize = "576x384",
    frames: BenchFrames = 17,
    steps: common.Steps = None,
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
) -> None:
    """Print what looking only around a small mask does to the result, on scenes larger than the model's own size."""
    pixels = parse_scene_size(size)
    span = parse_seeds(seeds)
    settle_report(report, read_of_model(model, text_encoder), overwrite=overwrite)

    from layerlift.bench.crop import crop_tables
    from layerlift.device import choose_policy
    from layerlift.model import open_model
    from layerlift.stages.removal import RemovalOptions

    chosen = choose_policy(device, dtype, policy, resident=True)
    opened = open_model(model, text_encoder=text_encoder)
    record = Report("bench crop", {"model": model, "seeds": seeds, "size": size, "frames": frames, "steps": steps})
    record.device = chosen.device
    with show_progress() as progress, record.stage("crop"):
        tables = crop_tables(
            span, opened, chosen, size=pixels, frames=frames, options=RemovalOptions(steps=steps), progress=progress
        )
    print_tables(tables, record, report, overwrite=overwrite)


@app.command("effects")
def effects(
    model: common.ModelName = "demo",
    text_encoder: common.TextEncoder = None,
    seeds: Seeds = "1000:1032",
    size: SceneSize = "288x192",
    frames: BenchFrames = 17,
    layers: Annotated[
        str, typer.Option(metavar="auto|all|LIST", help="Whose attention counts, see `layerlift mask`.")
    ] = "auto",
    sigma: Annotated[str | None, typer.Option(metavar="S[,S…]", help="Noise level, see `layerlift mask`.")] = None,
    threshold: Annotated[float | None, typer.Option(metavar="T", help="Scores from T on are effects.")] = None,
    refine: Annotated[
        str, typer.Option(metavar="edges,plate,none", help="Which refinements to measure.")
    ] = "edges,plate",
    removal: Annotated[
        bool, typer.Option("--removal/--no-removal", help="Also remove with the mask that was found.")
    ] = True,
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
) -> None:
    """Print how well shadows and reflections are found, per kind of scene, and how well removal does with that."""
    pixels = parse_scene_size(size)
    span = parse_seeds(seeds)
    settle_report(report, read_of_model(model, text_encoder), overwrite=overwrite)

    from layerlift.bench.effects import effect_tables
    from layerlift.cli.mask import parse_layers, parse_sigmas
    from layerlift.device import choose_policy
    from layerlift.model import open_model
    from layerlift.stages.effects import DEFAULT_SIGMAS, EffectOptions

    chosen = choose_policy(device, dtype, policy, resident=True)
    opened = open_model(model, text_encoder=text_encoder)
    check_whole_tokens(opened, pixels, frames)
    options = EffectOptions(
        threshold=threshold,
        sigmas=DEFAULT_SIGMAS if sigma is None else parse_sigmas(sigma),
        layers=parse_layers(layers),
    )
    record = Report("bench effects", {"model": model, "seeds": seeds, "size": size, "frames": frames, "layers": layers})
    record.device = chosen.device
    with show_progress() as progress, record.stage("effects"):
        tables = effect_tables(
            span,
            opened,
            chosen,
            size=pixels,
            frames=frames,
            options=options,
            refinements=refine.split(","),
            removal=removal,
            progress=progress,
        )
    print_tables(tables, record, report, overwrite=overwrite)


@app.command("windows")
def windows(
    model: common.ModelName = "demo",
    text_encoder: common.TextEncoder = None,
    seeds: Seeds = "1000:1008",
    size: SceneSize = "288x192",
    frames: BenchFrames = 129,
    window: Annotated[
        int | None, typer.Option("--window", min=1, metavar="N", help="Frames of a window; else the model's own.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", min=0, metavar="N", help="Latent frames of other windows that each is shown."),
    ] = None,
    steps: common.Steps = None,
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
) -> None:
    """Print what cutting a long clip into windows costs, and whether it shows where they meet; without evidence."""
    pixels = parse_scene_size(size)
    span = parse_seeds(seeds)
    settle_report(report, read_of_model(model, text_encoder), overwrite=overwrite)

    from layerlift.bench.windows import window_tables
    from layerlift.device import choose_policy
    from layerlift.model import open_model
    from layerlift.stages.removal import RemovalOptions

    chosen = choose_policy(device, dtype, policy, resident=True)
    opened = open_model(model, text_encoder=text_encoder)
    window = opened.settings.frames if window is None else window
    settings = {"model": model, "seeds": seeds, "size": size, "frames": frames, "window": window}
    record = Report("bench windows", settings, device=chosen.device)
    options = RemovalOptions(steps=steps, context=context, window=window)
    with show_progress() as progress, record.stage("windows"):
        tables = window_tables(span, opened, chosen, size=pixels, frames=frames, options=options, progress=progress)
    print_tables(tables, record, report, overwrite=overwrite)


def check_whole_tokens(model: "Model", size: tuple[int, int], frames: int) -> None:
    """Raises InputError where scenes do not fill whole tokens of the model: padding would be measured with them."""
    space, time = model.geometry.space, model.geometry.time
    if size[0] % space or size[1] % space or (frames - 1) % time:
        raise InputError(
            f"scenes of {size[0]}x{size[1]} and {frames} frames do not fill whole tokens of {model.name}: give "
            f"multiples of {space} pixels and a number of frames that is 1 more than a multiple of {time}."
        )


def parse_seeds(text: str) -> range:
    """``1000:1032`` → range(1000, 1032). Raises InputError for anything else and for an empty range."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text.strip())
    if match is None or int(match[2]) <= int(match[1]):
        raise InputError(f"--seeds {text!r} is not START:END with START below END: give them as in 1000:1032.")
    return range(int(match[1]), int(match[2]))
