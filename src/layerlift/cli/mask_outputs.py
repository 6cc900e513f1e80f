"""What `layerlift mask` writes beside its masks: pictures of what was found, scores, and how opaque it is."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.cli.options import OutputFlags
from layerlift.errors import InputError
from layerlift.places import check_file
from layerlift.report import Report
from layerlift.whole import whole_file

if TYPE_CHECKING:
    from layerlift.clip import Clip, ClipWriter
    from layerlift.stages.effects import FrameEffects
    from layerlift.stages.effects.plan import EffectPlan

ROWS = 4  # frames in a preview picture


@dataclass(frozen=True, slots=True)
class Beside:
    """Files to be written beside the masks; None where they are not wanted."""

    preview: Path | None
    save_scores: Path | None
    soft: Path | None
    explain: Path | None

    def files(self) -> dict[str, Path | None]:
        """The files by their flags."""
        return {
            "--preview": self.preview,
            "--save-scores": self.save_scores,
            "--soft": self.soft,
            "--explain": self.explain,
        }

    def check_endings(self) -> None:
        """Raises InputError when a file's ending is not one of what it will hold."""
        if self.explain is not None and self.explain.suffix.lower() != ".png":
            raise InputError(f"--explain {self.explain} does not end in .png: give it that extension.")
        if self.preview is not None and self.preview.suffix.lower() not in (".png", ".mp4"):
            raise InputError(f"--preview {self.preview} is neither .png nor .mp4: use one of these extensions.")
        if self.save_scores is not None and self.save_scores.suffix != ".safetensors":
            raise InputError(f"--save-scores {self.save_scores} does not end in .safetensors: give it that extension.")

    def check(self, source: "Clip", writing: OutputFlags) -> None:
        """Raises InputError for a file that cannot be written."""
        from layerlift.clip import check_output

        if self.preview is not None and self.preview.suffix.lower() == ".mp4":
            check_output(self.preview, overwrite=writing.overwrite, like=clip_twice_as_wide(source))
        if self.soft is not None:
            check_output(self.soft, is_exact(self.soft), writing.overwrite, source, version=False)
        for flag, file in self.files().items():
            if file is not None and flag != "--soft":
                check_file(file, flag, overwrite=writing.overwrite)

    def check_plan(self, plan: "EffectPlan") -> None:
        """Raises InputError for a file that would have nothing to hold."""
        if self.save_scores is not None and plan.attention is None:
            raise InputError(
                "--save-scores needs a model, but none is asked for effects: leave it out, or choose a --model."
            )
        if self.soft is not None and not plan.in_clip:
            raise InputError("--soft needs the clip's own witness: leave --witnesses out.")

    def tapped(
        self,
        found: "Iterator[FrameEffects]",
        plan: "EffectPlan",
        files: ExitStack,
        report: Report,
        *,
        overwrite: bool,
    ) -> "Iterator[FrameEffects]":
        """Hand frames on, and write every file on the way; `files` closes those that are open."""
        if self.soft is not None:
            found = write_soft(found, files.enter_context(mask_writer(self.soft, plan.clip, overwrite=overwrite)))
        if self.explain is not None:
            found = explained(found, plan, self.explain, overwrite=overwrite)
        if self.save_scores is not None:
            found = keep_scores(found, self.save_scores, report, overwrite=overwrite)
        if self.preview is not None:
            found = with_preview(found, plan, self.preview, overwrite=overwrite)
        return found


def is_exact(path: Path) -> bool:
    """Whether a mask, or a map of where pixels come from, is written bit for bit whatever else was asked for."""
    return path.suffix.lower() == ".mkv"


def mask_writer(path: Path, clip: "Clip", *, overwrite: bool) -> "ClipWriter":
    """A writer of masks and of maps of pixels: lossless in .mkv and PNGs, without sound."""
    from layerlift.clip import ClipWriter

    return ClipWriter(path, clip, lossless=is_exact(path), overwrite=overwrite, sound=False)


def write_soft(found: "Iterable[FrameEffects]", writer: "ClipWriter") -> "Iterator[FrameEffects]":
    """Hand frames on, and write how opaque objects and effects are, in grey."""
    import numpy as np

    for frame in found:
        grey = np.rint(255 * frame.soft().max(0)).astype(np.uint8)
        writer.write(np.repeat(grey[..., None], 3, -1))
        yield frame


def explained(
    found: "Iterable[FrameEffects]", plan: "EffectPlan", path: Path, *, overwrite: bool
) -> "Iterator[FrameEffects]":
    """Hand frames on, and draw what each witness says of a few of them."""
    import numpy as np

    from layerlift.contact_sheet import contact_sheet, evenly, write_png
    from layerlift.stages.effects.preview import thumbnail, witness_pictures

    clip, rows = plan.clip, []
    chosen = evenly(clip.frame_count, ROWS)
    for index, (frame, effects) in enumerate(zip(clip.frames(), found, strict=True)):
        if index in chosen:
            rows.append({name: thumbnail(part) for name, part in witness_pictures(frame, effects, plan).items()})
        yield effects
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    write_png(path, contact_sheet(columns, range(len(rows))), overwrite=overwrite)


def keep_scores(
    found: "Iterable[FrameEffects]", path: Path, report: Report, *, overwrite: bool
) -> "Iterator[FrameEffects]":
    """Hand frames on, and write their scores when the last has passed."""
    import numpy as np
    from safetensors.numpy import save_file

    scores = list[np.ndarray]()
    for frame in found:
        assert frame.attention is not None
        scores.append(frame.attention)
        yield frame
    about = {"threshold": str(report.results["threshold"]), "axes": "object, frame, row, column"}
    with whole_file(path, overwrite=overwrite) as made:
        save_file({"scores": np.ascontiguousarray(np.stack(scores, 1))}, made, about)


def with_preview(
    found: "Iterable[FrameEffects]", plan: "EffectPlan", path: Path, *, overwrite: bool
) -> "Iterator[FrameEffects]":
    """Hand frames on, and lay what they hold over the clip's."""
    import numpy as np

    from layerlift.clip import ClipWriter
    from layerlift.contact_sheet import contact_sheet, evenly, write_png
    from layerlift.stages.effects.preview import preview_pair, thumbnail

    clip, side = plan.clip, plan.side
    if path.suffix.lower() == ".mp4":
        with ClipWriter(path, clip_twice_as_wide(clip), lossless=False, overwrite=overwrite) as writer:
            for frame, effects in zip(clip.frames(), found, strict=True):
                writer.write(np.concatenate(preview_pair(frame, effects, side), 1))
                yield effects
        return
    chosen = evenly(clip.frame_count, ROWS)
    rows = []
    for index, (frame, effects) in enumerate(zip(clip.frames(), found, strict=True)):
        if index in chosen:
            rows.append(tuple(thumbnail(part) for part in (frame, *preview_pair(frame, effects, side))))
        yield effects
    columns = dict(zip(("input", "objects and effects", "scores"), map(np.stack, zip(*rows, strict=True)), strict=True))
    write_png(path, contact_sheet(columns, range(len(rows))), overwrite=overwrite)


def clip_twice_as_wide(clip: "Clip") -> "Clip":
    """What a writer needs to know of a clip whose frames lie two side by side; a clip's alpha is not among that."""
    return replace(clip, width=2 * clip.width, has_alpha=False)
