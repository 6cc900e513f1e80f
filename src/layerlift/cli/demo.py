"""`layerlift demo`: the whole job once, on a scene whose truth is known, with the model in the package."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from layerlift.cli import options as common
from layerlift.cli.folder import check_run_folder, whole_folder
from layerlift.cli.job import settle_folder
from layerlift.cli.places import read_of_model
from layerlift.cli.scene import Folder, SceneFrames, SceneSeed, SceneSize, parse_scene_size
from layerlift.cli.terminal import print_costs, show_progress
from layerlift.places import settle_places
from layerlift.report import Report, check_report

if TYPE_CHECKING:
    from layerlift.stages.run import Inputs


def demo(
    output: Folder = Path("demo"),
    seed: SceneSeed = 7,
    size: SceneSize = "288x192",
    frames: SceneFrames = 33,
    model: common.ModelName = "demo",
    text_encoder: common.TextEncoder = None,
    steps: common.Steps = None,
    memory: common.Memory = None,
    device: common.Device = None,
    lossless: common.Lossless = False,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
    verbose: common.Verbose = False,
) -> None:
    """Render a scene, take it apart by its object's mask alone, and show it all beside the truth in one picture."""
    # 1. What was typed, before anything slow is imported.
    settings = {name: value for name, value in locals().items() if name not in ("overwrite", "verbose")}
    width, height = parse_scene_size(size)

    from dataclasses import replace

    from layerlift.device import choose_policy
    from layerlift.device.budget import check_memory
    from layerlift.model import open_model
    from layerlift.scenes.folder import check_scene_folder
    from layerlift.stages.effects import EffectOptions
    from layerlift.stages.removal import RemovalOptions
    from layerlift.stages.run import RunOptions, run_stages, stays_in_memory

    settle_places({"-o": output, "--report": report}, read_of_model(model, text_encoder))
    settle_folder(output, overwrite=overwrite)
    check_scene_folder(output)
    result = output / "result"
    if result.exists():
        check_run_folder(result, overwrite=overwrite)
    if report is not None:
        check_report(report, overwrite=overwrite)
    policy = choose_policy(device)
    allowed = check_memory(memory)
    opened = open_model(model, text_encoder=text_encoder)
    if stays_in_memory(opened, allowed):
        policy = replace(policy, resident=True)
    options = RunOptions(RemovalOptions(steps=steps, seed=seed), EffectOptions(seed=seed), lossless)
    record = Report("demo", settings, device=policy.device)
    try:
        with show_progress() as progress:
            # 2. The scene, and of its masks those of the objects alone.
            with progress.stage("scene", 1) as bar, record.stage("scene"):
                inputs = render(output, seed, (width, height), frames)
                bar.advance()

            # 3. Everything that `layerlift run` does.
            with whole_folder(result, overwrite=overwrite) as folder:
                made = run_stages(
                    inputs,
                    folder,
                    options,
                    model=opened,
                    policy=policy,
                    progress=progress,
                    report=record,
                    memory=allowed,
                )
                record.write(folder / "report.json")
    finally:
        opened.close()
    if report is not None:
        record.write(report, overwrite=overwrite)

    # 4. Where one looks first.
    sheet = (result / made.contact_sheet.name).replace(output / made.contact_sheet.name)
    if verbose:
        print_costs(record)
    typer.echo(f"wrote {output}: look at {sheet}")


def render(output: Path, seed: int, size: tuple[int, int], frames: int) -> "Inputs":
    """A scene as files in `output`: from then on it is a clip like any other, but that the truth is known."""
    from dataclasses import replace

    from layerlift.clip import open_clip
    from layerlift.scenes import make_scene
    from layerlift.scenes.folder import write_scene
    from layerlift.stages.run import open_inputs

    truth = make_scene(seed, *size, frames)
    write_scene(truth, output)
    numbers = range(len(truth.object_masks))[::-1]  # scenes count from the back
    masks = [output / f"object_mask_{number}.mkv" for number in numbers]
    inputs = open_inputs(open_clip(output), masks, numbers=numbers)
    return replace(inputs, truth=open_clip(output / "truth" / "background.mkv"))
