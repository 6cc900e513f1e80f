"""`layerlift compose --latent`: the other way to compose, by arithmetic on latents of clip, plate and background."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.cli import options as common
from layerlift.cli.job import finish, open_input, output_for, settle_outputs, write_result
from layerlift.cli.masks import notes_of, open_objects, open_total
from layerlift.cli.places import read_of, read_of_clip, read_of_model
from layerlift.cli.terminal import say, show_progress
from layerlift.errors import InputError
from layerlift.report import Report

if TYPE_CHECKING:
    import numpy as np

    from layerlift.clip import Clip

INTERMEDIATES = ("latent", "injected")


@dataclass(frozen=True, slots=True)
class LatentWay:
    """What was typed for `--latent`; the defaults are those of the command's flags."""

    background: Path | None = None
    objects: list[Path] | None = None
    total: Path | None = None
    refine_strength: float = 0.3
    refine_steps: int = 10
    no_refine: bool = False
    keep_intermediate: bool = False
    model: str | None = None
    text_encoder: Path | None = None
    no_cache: bool = False
    seed: int = 0
    size: str | None = None
    memory: float | None = None
    device: str | None = None
    dtype: str | None = None
    policy: str | None = None

    def given(self) -> list[str]:
        """The flags that were given, as they are typed."""
        default = LatentWay()
        names = [name for name in self.__slots__ if getattr(self, name) != getattr(default, name)]
        return ["--object" if name == "objects" else f"--{name.replace('_', '-')}" for name in names]


def compose_by_latents(
    clips: list[Path],
    onto: Path,
    way: LatentWay,
    settings: dict[str, Any],
    *,
    output: Path | None,
    report: Path | None,
    lossless: bool,
    overwrite: bool,
    verbose: bool,
    allow_damage: bool,
    deinterlace: bool,
) -> None:
    """Compose CLIP's objects onto another background, from what was typed to the files."""
    # 1. What was typed, before anything slow is imported.
    if len(clips) != 1:
        raise InputError(f"--latent composes one clip, but {len(clips)} were given: give the clip with the object.")
    if way.background is None:
        raise InputError(
            "--latent needs the clean plate of the clip: give --background, as 'layerlift remove' wrote it."
        )
    (clip,) = clips
    pixels = common.parse_size(way.size) if way.size is not None else None

    from layerlift.clip import ClipWriter
    from layerlift.device import choose_policy
    from layerlift.device.budget import check_memory
    from layerlift.stages.choose_model import require_model
    from layerlift.stages.latent_composition import LATENT, LatentCompositionOptions, compose_latent_frames

    # 2. What the paths hold, before any weight is read.
    source, behind = (
        open_input(path, None, allow_damage=allow_damage, deinterlace=deinterlace) for path in (clip, onto)
    )
    if behind.damage is not None:
        say(behind.damage)
    _, masks = open_objects(way.objects or [], clip, source)
    reach = open_total(way.total, clip, source)
    if reach is None:
        raise InputError(
            f"no total mask was given for {clip}: give --total, the object with its shadow and reflection."
        )
    target, kept = settle(clip, onto, way, source, output, report, lossless=lossless, overwrite=overwrite)
    chosen = choose_policy(way.device, way.dtype, way.policy)
    allowed = check_memory(way.memory)
    record = Report("compose", settings, device=chosen.device)

    # 3. The work, frame by frame into the files.
    with show_progress(notes_of(*masks, reach)) as progress, ExitStack() as files:
        writers = {
            name: files.enter_context(ClipWriter(path, source, lossless=lossless, overwrite=overwrite))
            for name, path in kept.items()
        }

        def keep(name: str, frame: "np.ndarray") -> None:
            writers[name].write(frame)

        frames = compose_latent_frames(
            source,
            way.background,
            masks,
            reach,
            behind,
            options=LatentCompositionOptions(
                not way.no_refine, way.refine_strength, way.refine_steps, way.seed, pixels
            ),
            model=require_model(way.model, LATENT, text_encoder=way.text_encoder),
            policy=chosen,
            progress=progress,
            report=record,
            cache=not way.no_cache,
            memory=allowed,
            keep=keep if kept else None,
        )
        write_result(target, frames, source, record, lossless=lossless, overwrite=overwrite)
    said = f"and {', '.join(path.name for path in kept.values())} beside it" if kept else None
    finish(record, report, overwrite=overwrite, verbose=verbose, result=target, said=said)


def settle(
    clip: Path,
    onto: Path,
    way: LatentWay,
    source: "Clip",
    output: Path | None,
    report: Path | None,
    *,
    lossless: bool,
    overwrite: bool,
) -> tuple[Path, dict[str, Path]]:
    """Where the result and the intermediate ones go, checked before any work is done."""
    from layerlift.clip import check_output

    output = output or output_for(source, "compose", lossless=lossless)
    kept = intermediates(output) if way.keep_intermediate else {}
    read = {**read_of_clip(clip), "--onto": read_of(onto), "--background": read_of(way.background)}
    read |= {"--object": read_of(way.objects), "--total": read_of(way.total)}
    read |= read_of_model(way.model, way.text_encoder)
    beside = {"--keep-intermediate": kept.values()}
    target = settle_outputs(
        source, "compose", output, report, read=read, beside=beside, lossless=lossless, overwrite=overwrite
    )
    for path in kept.values():
        check_output(path, lossless=lossless, overwrite=overwrite)
    return target, kept


def intermediates(target: Path) -> dict[str, Path]:
    """Where the intermediate results go: beside the result, in its format."""
    return {name: target.with_name(f"{target.stem}_{name}{target.suffix}") for name in INTERMEDIATES}
