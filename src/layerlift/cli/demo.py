"""`layerlift demo`: the whole job once, on a scene whose truth is known, with the model in the package."""

from pathlib import Path

import typer

from layerlift.cli import options as common
from layerlift.cli.folder import check_run_folder, whole_folder
from layerlift.cli.job import settle_folder
from layerlift.cli.scene import Folder, SceneFrames, SceneSeed, SceneSize, parse_scene_size
from layerlift.cli.terminal import print_costs, show_progress
from layerlift.report import Report


def demo(
    output: Folder = Path("demo"),
    seed: SceneSeed = 7,
    size: SceneSize = "288x192",
    frames: SceneFrames = 33,
    steps: common.Steps = None,
    device: common.Device = None,
    overwrite: common.Overwrite = False,
    verbose: common.Verbose = False,
) -> None:
    """Render a scene, take it apart by its object's mask alone, and show it all beside the truth in one picture."""
    width, height = parse_scene_size(size)

    from dataclasses import replace

    from layerlift.clip import open_clip
    from layerlift.device import choose_policy
    from layerlift.model import open_model
    from layerlift.scenes import make_scene
    from layerlift.scenes.folder import write_scene
    from layerlift.stages.removal import RemovalOptions
    from layerlift.stages.run import RunOptions, open_inputs, run_stages

    settle_folder(output, overwrite=overwrite)
    result = output / "result"
    if result.exists():
        check_run_folder(result, overwrite=overwrite)
    policy = choose_policy(device, resident=True)
    model = open_model("demo")
    report = Report("demo", {"seed": seed, "size": size, "frames": frames, "steps": steps}, device=policy.device)
    with show_progress() as progress:
        # 1. The scene, as files: from then on it is a clip like any other.
        with progress.stage("scene", 1) as bar, report.stage("scene"):
            truth = make_scene(seed, width, height, frames)
            write_scene(truth, output)
            bar.advance()
        numbers = range(len(truth.object_masks))[::-1]  # scenes count from the back
        masks = [output / f"object_mask_{number}.mkv" for number in numbers]
        inputs = open_inputs(open_clip(output), masks, output / "total_mask.mkv", numbers=numbers)
        inputs = replace(inputs, truth=open_clip(output / "truth" / "background.mkv"))

        # 2. Everything that `layerlift run` does.
        options = RunOptions(RemovalOptions(steps=steps))
        with whole_folder(result, overwrite=overwrite) as folder:
            made = run_stages(inputs, folder, options, model=model, policy=policy, progress=progress, report=report)
            report.write(folder / "report.json")
    model.close()

    # 3. Where one looks first.
    sheet = (result / made.contact_sheet.name).replace(output / made.contact_sheet.name)
    if verbose:
        print_costs(report)
    typer.echo(f"wrote {output}: look at {sheet}")
