"""`layerlift demo`: the whole job once, on a clip whose truth is known, with the model in the package."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli.flags import Default, Typed, Without, with_flags
from layerlift.cli.folder import check_run_folder
from layerlift.cli.job import settle, settle_folder, write_report
from layerlift.cli.options import OutputFlags
from layerlift.cli.places import read_of_model
from layerlift.cli.scene import SIZE, Folder, check_scene, parse_scene_size
from layerlift.cli.terminal import print_costs, show_progress
from layerlift.errors import InputError
from layerlift.flags import flag
from layerlift.limits import MOST_FRAMES
from layerlift.options import EffectOptions, RemovalOptions, RunOptions, RuntimeOptions
from layerlift.report import Report
from layerlift.whole import whole_folder

if TYPE_CHECKING:
    from layerlift.stages.run import Inputs


@dataclass(frozen=True, slots=True)
class DemoFlags:
    """What is taken apart: the clip in the package, or a scene drawn from a seed."""

    seed: int | None = flag(
        None,
        "Draw a flat scene from this seed (default: the clip in the package).",
        metavar="S",
        least=0,
        most=2**32 - 1,
    )
    size: tuple[int, int] | None = flag(
        None, "Width and height of a drawn scene in pixels (default: 288x192).", metavar="WxH", takes=str,
        parse=parse_scene_size,
    )  # fmt: skip
    frames: int | None = flag(
        None, "Number of frames of a drawn scene (default: 33).", metavar="N", least=1, most=MOST_FRAMES
    )

    def check(self) -> None:
        """Raises InputError where a scene is described that no seed draws."""
        for name in ("size", "frames"):
            if self.seed is None and getattr(self, name) is not None:
                raise InputError(f"--{name} applies to a drawn scene, and none was asked for: add --seed.")
        check_scene(self.size or SIZE, self.frames or 1)

    def room(self) -> int:
        """Bytes that the clip takes at least."""
        from layerlift.room import LOSSLESS
        from layerlift.scenes.demo_clip import FOLDER

        if self.seed is None:
            return sum(path.stat().st_size for path in FOLDER.rglob("*.mkv"))
        width, height = self.size or SIZE
        return round(width * height * (self.frames or 33) * LOSSLESS)


@with_flags
def demo(
    *,
    output: Folder = Path("demo"),
    which: DemoFlags,
    options: Annotated[RemovalOptions, Without("seed", "size", "references")],
    running: Annotated[RuntimeOptions, Default(model="demo")],
    writing: OutputFlags,
    typed: Typed,
) -> None:
    """Run the whole pipeline on the clip in the package, and compare every result with the truth in one picture."""
    from layerlift.room import check_room
    from layerlift.runtime import open_runtime
    from layerlift.scenes.folder import check_scene_folder
    from layerlift.stages.choose_model import require_model
    from layerlift.stages.run import plan_run, run_stages

    which.check()
    settle({"-o": output}, read_of_model(running), writing)
    settle_folder(output, overwrite=writing.overwrite)
    check_scene_folder(output)
    result = output / "result"
    if result.exists():
        check_run_folder(result, overwrite=writing.overwrite)
    check_room({output: which.room()})
    seed = which.seed or 0
    chosen = RunOptions(replace(options, seed=seed), EffectOptions(seed=seed), lossless=writing.lossless)
    record = Report("demo", typed)
    with show_progress() as progress:
        runtime = open_runtime(running, progress=progress, report=record)
        runtime = replace(runtime, model=require_model(runtime, "the demo"))
        # All of it takes its place when it is whole; in a folder that is there, other files than the demo's stay.
        with whole_folder(output, stays=lambda path: path.parts[0] != "result", overwrite=writing.overwrite) as folder:
            # 1. The clip, and of its masks those of the objects alone.
            with progress.stage("scene", 1) as bar, record.stage("scene"):
                inputs = laid_out(folder, which)
                bar.advance()

            # 2. Everything that `layerlift run` does.
            plan = plan_run(inputs, chosen, runtime)
            (folder / "result").mkdir()
            made = run_stages(plan, folder / "result")
            record.write(folder / "result" / "report.json")

            # 3. Where one looks first.
            sheet = output / made.contact_sheet.replace(folder / made.contact_sheet.name).name
    write_report(record, writing)
    if writing.verbose:
        print_costs(record)
    typer.echo(f"wrote {output}: look at {sheet}")


def laid_out(output: Path, which: DemoFlags) -> "Inputs":
    """A scene as files in `output`: from then on it is a clip like any other, but that the truth is known."""
    from layerlift.clip import open_clip
    from layerlift.stages.run import open_inputs

    if which.seed is None:
        from layerlift.scenes.demo_clip import write_demo_clip

        objects = write_demo_clip(output)
    else:
        from layerlift.scenes import make_scene
        from layerlift.scenes.folder import write_scene

        truth = make_scene(which.seed, *(which.size or SIZE), which.frames or 33)
        write_scene(truth, output)
        objects = len(truth.object_masks)
    numbers = range(objects)[::-1]  # scenes count from the back
    masks = [output / f"object_mask_{number}.mkv" for number in numbers]
    inputs = open_inputs(open_clip(output / "video.mkv"), masks, numbers=numbers)
    return replace(inputs, truth=open_clip(output / "truth" / "background.mkv"))
