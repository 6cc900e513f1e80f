"""`layerlift demo`: the whole way once, on a scene whose truth is known, with the model in the package."""

from pathlib import Path

import typer

from layerlift.cli import options as common
from layerlift.cli.job import settle_folder
from layerlift.cli.scene import Folder, SceneFrames, SceneSeed, SceneSize, parse_scene_size
from layerlift.cli.terminal import print_costs, show_progress
from layerlift.report import Report

ROWS = 4  # frames in the contact sheet


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
    """Render a scene, remove its object, and lay input, mask, result and truth side by side in contact_sheet.png."""
    width, height = parse_scene_size(size)

    from layerlift.clip import open_clip, write_clip
    from layerlift.contact_sheet import contact_sheet, evenly, tinted, write_png
    from layerlift.device import choose_policy
    from layerlift.masks import open_mask
    from layerlift.model import open_model
    from layerlift.scenes import make_scene
    from layerlift.scenes.folder import write_scene
    from layerlift.stages.removal import RemovalOptions, remove_frames

    settle_folder(output, overwrite=overwrite)
    policy = choose_policy(device)
    model = open_model("demo")
    report = Report("demo", device=policy.device)
    with show_progress() as progress:
        # 1. The scene, as files: from then on it is a clip like any other.
        with progress.stage("scene", 1) as bar, report.stage("scene"):
            truth = make_scene(seed, width, height, frames)
            write_scene(truth, output)
            bar.advance()
        clip = open_clip(output)
        mask = open_mask(output / "total_mask.mkv", clip)

        # 2. Removal into a file, read back for the picture.
        plate = remove_frames(
            clip, mask, RemovalOptions(steps=steps), model=model, policy=policy, progress=progress, report=report
        )
        target = write_clip(output / "clean_plate.mkv", plate, clip, lossless=True, overwrite=True)

    # 3. Beside the truth.
    result = open_clip(target).numpy()
    columns = {
        "input": truth.video,
        "mask": tinted(truth.video, truth.total_mask),
        "result": result,
        "truth": truth.background,
    }
    sheet = write_png(output / "contact_sheet.png", contact_sheet(columns, evenly(frames, ROWS)))
    if verbose:
        print_costs(report)
    typer.echo(f"wrote {output}: look at {sheet}")
