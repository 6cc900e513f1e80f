"""A table of figures, one column a group of scenes, printed for people and written for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from layerlift.progress import Progress
    from layerlift.scenes import Scene


@dataclass(slots=True)
class Table:
    """Values by row and scene, averaged over the scenes of each column; NaN where a scene has no value."""

    title: str
    columns: dict[str, list[int]]  # name → seeds
    rows: dict[str, dict[int, float]] = field(default_factory=dict)  # name → seed → value
    digits: int = 1

    def add(self, row: str, seed: int, value: float) -> None:
        """Record `value` of one scene."""
        self.rows.setdefault(row, {})[seed] = value

    def mean(self, row: str, column: str) -> float:
        """The mean over a column's scenes, of those that have a value; NaN when none has."""
        values = [self.rows[row][seed] for seed in self.columns[column] if seed in self.rows[row]]
        values = [value for value in values if not np.isnan(value)]
        return float(np.mean(values)) if values else float("nan")

    def markdown(self) -> str:
        """The table as Markdown, aligned to be read as it stands."""
        header = [self.title, *(f"{name} ({len(seeds)})" for name, seeds in self.columns.items())]
        lines = [header]
        for row in self.rows:
            means = [self.mean(row, column) for column in self.columns]
            lines.append([row, *("–" if np.isnan(mean) else f"{mean:.{self.digits}f}" for mean in means)])
        return aligned(lines)


@dataclass(slots=True)
class CaseTable:
    """Values by way and case, a line for each case: cases have names, and a user may have any number of them.

    NaN where a case has no value. Below the cases is their mean and, where `weights` has how many pixels a value is of,
    what it is over all pixels.
    """

    title: str
    digits: int = 2
    values: dict[str, dict[str, float]] = field(default_factory=dict)  # way → case → value
    weights: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, way: str, case: str, value: float, weight: float | None = None) -> None:
        """Record `value` of one case."""
        self.values.setdefault(way, {})[case] = value
        if weight is not None:
            self.weights.setdefault(way, {})[case] = weight

    def mean(self, way: str) -> float:
        """The mean over the cases that have a value; NaN when none has."""
        values = [value for value in self.values[way].values() if not np.isnan(value)]
        return float(np.mean(values)) if values else float("nan")

    def pooled(self, way: str) -> float:
        """The mean over all pixels of all cases; NaN where there are none."""
        pairs = [(value, self.weights[way][case]) for case, value in self.values[way].items() if not np.isnan(value)]
        total = sum(weight for _, weight in pairs)
        return sum(value * weight for value, weight in pairs) / total if total else float("nan")

    def markdown(self) -> str:
        """The table as Markdown, aligned to be read as it stands."""
        cases = list(dict.fromkeys(case for values in self.values.values() for case in values))
        lines = [
            [case, *(self._cell(values.get(case, float("nan"))) for values in self.values.values())] for case in cases
        ]
        lines.append([f"mean of {len(cases)}", *(self._cell(self.mean(way)) for way in self.values)])
        if self.weights:
            lines.append(["all pixels", *(self._cell(self.pooled(way)) for way in self.values)])
        return aligned([[self.title, *self.values], *lines])

    def _cell(self, value: float) -> str:
        return "–" if np.isnan(value) else f"{value:.{self.digits}f}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table of a header and lines: the first column to the left, figures to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [_pad(line, widths) for line in (lines[0], rule, *lines[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


@dataclass(frozen=True, slots=True)
class Source:
    """Where scenes come from, and the groups that tables average them in."""

    scene: Callable[[int, int, int, int], Scene]  # of a seed, width, height and a number of frames
    columns: Callable[[Sequence[int]], dict[str, list[int]]]  # of seeds
    other: Callable[[int], int]  # a seed's, whose plate its layers are laid over, too


def made_up() -> Source:
    """Scenes drawn flat: quick, and the same on every machine."""
    from layerlift.scenes import make_scene

    return Source(make_scene, scene_columns, lambda seed: seed + 1)


def rendered(progress: Progress, *, film: bool) -> Source:
    """Scenes rendered in 3-D, or read from the cache; `film` adds what a camera adds."""
    from functools import partial

    from layerlift.scenes.rendered import next_place, rendered_scene

    return Source(partial(rendered_scene, film=film, progress=progress), rendered_columns, next_place)


def rendered_columns(seeds: Sequence[int]) -> dict[str, list[int]]:
    """All scenes, then those of still and of moving cameras, then each place."""
    from layerlift.scenes.rendered import draw_world

    worlds = {seed: draw_world(seed) for seed in seeds}
    columns = {"all": list(seeds)}
    columns["still camera"] = [seed for seed, world in worlds.items() if not world.moves]
    columns["moving camera"] = [seed for seed, world in worlds.items() if world.moves]
    for seed, world in worlds.items():
        columns.setdefault(world.place, []).append(seed)
    return {name: seeds for name, seeds in columns.items() if seeds}


def scene_columns(seeds: Sequence[int]) -> dict[str, list[int]]:
    """All scenes, then each kind, then two objects, then no effects; empty groups are left out."""
    from layerlift.scenes import Kind, draw

    specs = [draw(seed) for seed in seeds]
    columns = {"all": list(seeds)}
    columns |= {kind.value: [spec.seed for spec in specs if spec.kind == kind] for kind in Kind}
    columns["two objects"] = [spec.seed for spec in specs if spec.object_count == 2]
    columns["no effects"] = [spec.seed for spec in specs if not spec.has_effects]
    return {name: seeds for name, seeds in columns.items() if seeds}


def each_scene(
    seeds: Sequence[int], size: tuple[int, int], frames: int, progress: Progress, source: Source | None = None
) -> Iterator[tuple[int, Scene]]:
    """Every seed with its scene, made up by default, one after the other; `progress` is told of each that is done."""
    source = source or made_up()
    with progress.stage("scenes", len(seeds)) as bar:
        for seed in seeds:
            yield seed, source.scene(seed, *size, frames)
            bar.advance()


def _pad(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return [first, *rest]
