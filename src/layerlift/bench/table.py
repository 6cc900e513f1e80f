"""A table of figures, one column a group of scenes, printed for people and written for programs."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


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
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
        return "\n".join("| " + " | ".join(_pad(line, widths)) + " |" for line in lines)


def scene_columns(seeds: Sequence[int]) -> dict[str, list[int]]:
    """All scenes, then each kind, then two objects, then no effects; empty groups are left out."""
    from layerlift.scenes import Kind, draw

    specs = [draw(seed) for seed in seeds]
    columns = {"all": list(seeds)}
    columns |= {kind.value: [spec.seed for spec in specs if spec.kind == kind] for kind in Kind}
    columns["two objects"] = [spec.seed for spec in specs if spec.object_count == 2]
    columns["no effects"] = [spec.seed for spec in specs if not spec.has_effects]
    return {name: seeds for name, seeds in columns.items() if seeds}


def write_json(path: Path, tables: Sequence[Table], settings: dict[str, Any]) -> None:
    """Every scene's value and what they were measured with."""
    content = {
        "settings": settings,
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "tables": [{"title": t.title, "columns": t.columns, "rows": t.rows} for t in tables],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _pad(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return [first, *rest]
