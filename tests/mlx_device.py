"""Where the tests run the MLX engine: on Metal where there is one; in float32, in which it is compared with torch."""

from __future__ import annotations

from typing import Any

from layerlift.engine.device.mlx import has_metal

DEVICE = "mps" if has_metal() else "cpu"
# As choices of a job, and as flags of a command.
MLX: dict[str, Any] = {"engine": "mlx", "device": DEVICE, "dtype": "float32"}
FLAGS = tuple(part for name, value in MLX.items() for part in (f"--{name}", value))
