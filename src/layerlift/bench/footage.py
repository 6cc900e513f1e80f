"""How clean the plate is on real footage: cases whose hidden pixels are known, see `footage_cases`.

A case is a folder with `video.mkv`, in which the hole is painted over, `mask.mkv`, white where it is, and `truth.mkv`,
which is read for scoring alone. Nothing is held but the frames at hand. The mask is not grown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np

from layerlift.bench.table import CaseTable
from layerlift.clip import Clip, open_clip
from layerlift.engine.model import open_model
from layerlift.engine.model.catalogue import DEMO
from layerlift.errors import InputError
from layerlift.evidence import State
from layerlift.evidence.exemplar import exemplar_fill, exemplars_available
from layerlift.masks import Mask, open_mask
from layerlift.options import RemovalOptions
from layerlift.pixels.arrays import bounds
from layerlift.runtime import Runtime
from layerlift.stages.choose_model import NO_MODEL, choose_model
from layerlift.stages.removal import remove_frames

# What may be measured, by the name that is typed.
ROWS = MappingProxyType({
    "telea": "Telea",
    "patchmatch": "PatchMatch",
    "evidence": "evidence only",
    "demo": "demo",
    "default": "default",
})  # fmt: skip

FILES = ("video.mkv", "mask.mkv", "truth.mkv")
TELEA_RADIUS = 5  # pixels
EXACT = 99.0  # decibels that stand for no error at all
WRONG = 20.0  # levels of 255: what was gathered and is further from the truth than this is not what the frame hides

# Wang, Bovik, Sheikh and Simoncelli, *Image Quality Assessment: From Error Visibility to Structural Similarity* (2004):
# a Gaussian window of 11×11 pixels, and constants that keep the quotients steady where there is no light or structure.
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

# Of a clip and its mask: each frame (H, W, 3) uint8 with the hole filled, and its `State` (H, W) uint8 if there is one.
Way = Callable[[Clip, Mask], Iterator[tuple[np.ndarray, np.ndarray | None]]]


@dataclass(frozen=True, slots=True)
class Case:
    """A clip with a hole, the hole's mask, and the clip as it was; all of one size and length."""

    name: str
    video: Clip
    mask: Mask
    truth: Clip

    def files(self) -> list[Path]:
        """What was opened."""
        return [] if self.video.path is None else [self.video.path.with_name(name) for name in FILES]


@dataclass(slots=True)
class Scores:
    """How far a result is from the truth inside the mask, added up frame by frame.

    Every value is NaN where nothing was masked, or gathered. Pixels beyond the mask count as the truth's own.
    """

    masked: int = 0
    gathered: int = 0
    wrong: int = 0
    has_states: bool = False
    _squares: float = 0.0
    _similar: float = 0.0
    _change: float = 0.0
    _steady: int = 0  # pixels masked in two frames, one after the other
    _before: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    def add(self, result: np.ndarray, truth: np.ndarray, mask: np.ndarray, state: np.ndarray | None) -> None:
        """The next frame: result and truth (H, W, 3) uint8, mask (H, W) bool, `State` (H, W) uint8 or None."""
        error = np.where(mask[..., None], result.astype(np.float32) - truth.astype(np.float32), np.float32(0))
        self.masked += int(np.count_nonzero(mask))
        self._squares += float(np.square(error[mask]).mean(-1).sum(dtype=np.float64))
        self._similar += similarity(result, truth, mask)
        if self._before is not None:
            # (R₁ − R₀) − (G₁ − G₀) = (R₁ − G₁) − (R₀ − G₀): the change of the error is the error of the change.
            both = mask & self._before[1]
            self._change += float(np.abs(error - self._before[0])[both].mean(-1).sum(dtype=np.float64))
            self._steady += int(np.count_nonzero(both))
        self._before = error, mask
        if state is not None:
            taken = mask & (state == State.GATHERED)
            self.has_states = True
            self.gathered += int(np.count_nonzero(taken))
            self.wrong += int(np.count_nonzero(np.abs(error[taken]).mean(-1) > WRONG))

    @property
    def psnr(self) -> float:
        """Decibels, from the mean squared error over all masked pixels of the case and their channels."""
        error = _over(self._squares, self.masked)
        return EXACT if error == 0 else 10 * float(np.log10(255**2 / error))

    @property
    def ssim(self) -> float:
        """The mean of `similarity` over all masked pixels of the case; 1 is the truth."""
        return _over(self._similar, self.masked)

    @property
    def temporal_error(self) -> float:
        """Levels of 255: the mean absolute difference, over pixels that two frames in a row mask and over channels, of
        the change from frame to frame in the result and in the truth."""
        return _over(self._change, self._steady)

    @property
    def calibration(self) -> float:
        """Percent of the gathered pixels whose mean absolute difference from the truth is above `WRONG`."""
        return _over(100 * self.wrong, self.gathered)

    @property
    def gathered_share(self) -> float:
        """Percent of the masked pixels that were gathered; NaN for a way that gathers nothing."""
        return _over(100 * self.gathered, self.masked) if self.has_states else float("nan")


def similarity(result: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """The sum over masked pixels of the structural similarity of two pictures (H, W, 3) uint8; mask (H, W) bool.

    SSIM after Wang et al. (2004), of luma (Rec. 601), pixel by pixel: means, variances and covariance are those of the
    window of 11×11 pixels around it, weighted by a Gaussian of σ = 1.5. Beyond the mask the result is taken to be the
    truth, so that a window over the mask's edge compares what is filled in with how it joins what is around. At the
    picture's border both are mirrored.
    """
    spot = bounds(mask)
    if spot is None:
        return 0.0
    left, top, right, bottom = spot
    reach = SSIM_WINDOW // 2
    box = np.s_[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
    inside, real = mask[box], np.ascontiguousarray(truth[box])
    made = np.where(inside[..., None], result[box], real)
    x, y = (cv2.cvtColor(frame.astype(np.float32), cv2.COLOR_RGB2GRAY).astype(np.float64) for frame in (made, real))

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA, borderType=cv2.BORDER_REFLECT_101)

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, both = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + SSIM_C1) * (2 * both + SSIM_C2)
    alike /= (mean_x**2 + mean_y**2 + SSIM_C1) * (var_x + var_y + SSIM_C2)
    return float(alike[inside].sum())


def _over(total: float, count: int) -> float:
    return total / count if count else float("nan")


def open_cases(folder: Path) -> list[Case]:
    """The cases in a folder: DIR/holes/<case>, DIR/<case>, or DIR itself; in the order of their names.

    Raises InputError where there is none, and for one whose files are not of one size and length.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder: give one with cases, as `layerlift bench footage --make` writes it."
        )
    cases = [_open_case(entry) for entry in case_folders(folder, "holes", FILES)]
    if cases:
        return cases
    raise InputError(
        f"{folder} contains no case: it needs a folder holes with one folder per case, each with {', '.join(FILES)}, "
        "as `layerlift bench footage --make` writes them."
    )


def case_folders(folder: Path, part: str, files: Sequence[str]) -> list[Path]:
    """The folders that hold all of some files: those in DIR/part, in DIR, or DIR itself; sorted by their names."""

    def holds_them(place: Path) -> bool:
        return all((place / name).is_file() for name in files)

    for place in (folder / part, folder):
        found = sorted(entry for entry in (place.iterdir() if place.is_dir() else ()) if holds_them(entry))
        if found:
            return found
    return [folder] if holds_them(folder) else []


def _open_case(folder: Path) -> Case:
    video, truth = open_clip(folder / "video.mkv"), open_clip(folder / "truth.mkv")
    if (video.width, video.height, video.frame_count) != (truth.width, truth.height, truth.frame_count):
        raise InputError(
            f"{folder}: truth.mkv has {truth.frame_count} frames of {truth.width}x{truth.height}, but video.mkv has "
            f"{video.frame_count} of {video.width}x{video.height}; make the case again."
        )
    return Case(folder.absolute().name, video, open_mask(folder / "mask.mkv", video), truth)


def footage_tables(
    cases: Sequence[Case],
    rows: Sequence[str],
    runtime: Runtime,
    *,
    told: Callable[[str], None] = lambda _: None,
) -> list[CaseTable]:
    """Fill every case's hole in every way that `rows` (keys of `ROWS`) names, and compare with the truth.

    "default" runs the runtime's model; where that is none, "default" is "evidence", and run once. `told` is told about
    each case as it is done. The report gets seconds by row, and a note of what could not be measured.

    Returns five tables: PSNR, SSIM, temporal error, calibration and the share gathered, see `Scores`.
    """
    report = runtime.report
    ways = choose_ways(rows, runtime)
    tables = [
        CaseTable("PSNR inside the mask, dB"),
        CaseTable("SSIM inside the mask", 3),
        CaseTable("temporal error"),
        CaseTable("calibration: wrong, % of gathered"),
        CaseTable("gathered, % of the hole"),
    ]
    with runtime.progress.stage("cases", len(cases) * len(ways)) as bar:
        for case in cases:
            said: list[str] = []
            made: dict[Way, Scores] = {}
            for name, way in ways.items():
                with report.stage(name):
                    scores = made.get(way) or score(case, way)
                made[way] = scores
                values = (scores.psnr, scores.ssim, scores.temporal_error)
                for table, value in zip(tables[:3], values, strict=True):
                    table.add(name, case.name, value)
                if scores.has_states:
                    tables[3].add(name, case.name, scores.calibration, scores.gathered)
                    tables[4].add(name, case.name, scores.gathered_share, scores.masked)
                said.append(f"{name} {scores.psnr:.2f} dB / {scores.temporal_error:.1f}")
                bar.advance()
            told(f"{case.name}: {', '.join(said)}")
    return [table for table in tables if table.values]


def choose_ways(rows: Sequence[str], runtime: Runtime) -> dict[str, Way]:
    """The ways to fill a hole by their titles; a way that is there under two names is the same object.

    Raises InputError as `choose_model`, and where nothing is left to measure.
    """
    quiet, report = runtime.quiet(), runtime.report
    evidence = partial(removed, runtime=replace(quiet, model=NO_MODEL))
    model, notes = choose_model(runtime) if "default" in rows else (None, [])
    for note in notes:
        report.note(note)
    ways: dict[str, Way] = {}
    for row in rows:
        if row == "telea":
            ways[ROWS[row]] = telea
        elif row == "patchmatch" and exemplars_available():
            ways[ROWS[row]] = patchmatch
        elif row == "patchmatch":
            report.note("PatchMatch is not measured: the package pypatchmatch is not installed here.")
        elif row == "evidence" or (row == "default" and model is None):
            ways[ROWS[row]] = evidence
        else:
            opened = open_model(DEMO) if row == "demo" else model
            assert opened is not None
            rules = replace(runtime.policy, resident=opened.stays_in_memory(runtime.memory_bytes))
            ways[ROWS[row]] = partial(removed, runtime=replace(quiet, model=opened, policy=rules))
    if ways.get(ROWS["default"]) is evidence:
        report.note("The row default uses evidence alone: it runs no model.")
    if not ways:
        raise InputError("nothing is left to measure: choose other --rows.")
    return ways


def score(case: Case, way: Way) -> Scores:
    """Fill a case's hole and compare, frame by frame."""
    scores = Scores()
    results = way(case.video, case.mask)
    for (result, state), truth, mask in zip(results, case.truth.frames(), case.mask.frames(), strict=True):
        scores.add(result, truth, mask, state)
    return scores


def removed(clip: Clip, mask: Mask, *, runtime: Runtime) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """What removal makes, with the mask as it is."""
    states: deque[np.ndarray] = deque()
    options = RemovalOptions(dilate=0)
    for frame in remove_frames(clip, mask, options, runtime, provenance=states.append):
        yield frame, states.popleft()


def telea(clip: Clip, mask: Mask) -> Iterator[tuple[np.ndarray, None]]:
    """Each frame inpainted on its own, after Telea (2004)."""
    for frame, hole in zip(clip.frames(), mask.frames(), strict=True):
        inpainted = cv2.inpaint(np.ascontiguousarray(frame), hole.astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA)
        yield (inpainted if hole.any() else frame), None


def patchmatch(clip: Clip, mask: Mask) -> Iterator[tuple[np.ndarray, None]]:
    """Each frame filled on its own with exemplars, see `exemplar_fill`."""
    for frame, hole in zip(clip.frames(), mask.frames(), strict=True):
        yield exemplar_fill(frame, hole, seed=0), None
