"""A run's figures: printed, and kept as JSON lines."""

from __future__ import annotations

import json
import time
from pathlib import Path


class Log:
    """Prints a row and appends it to `log-PART.jsonl` in the run's folder; numbers to six digits."""

    def __init__(self, out: Path, part: str) -> None:
        self.path, self.part, self.start = out / f"log-{part}.jsonl", part, time.monotonic()

    def __call__(self, **values: object) -> None:
        row = {"run": self.part, "seconds": round(time.monotonic() - self.start, 1)}
        row |= {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
