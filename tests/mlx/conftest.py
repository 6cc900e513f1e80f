"""What the tests of the MLX engine share. They are skipped where MLX is not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.device.mlx import set_mlx_device, why_not_mlx
from layerlift.engine.model.checkpoint import Component
from layerlift.engine.model.headers import read_header
from mlx_device import MLX

MISSING = why_not_mlx()
collect_ignore_glob = [] if MISSING is None else ["test_*.py"]


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The rules that MLX follows here, in float32."""
    return choose_policy(**MLX)


@pytest.fixture(autouse=True)
def _where_the_rules_say(policy: Policy) -> None:
    """Parts that a test opens itself run there, too, whatever the test before did."""
    set_mlx_device(policy.device)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packed weights are kept: never in the home of whoever runs the tests, which may not even be writable."""
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mlx"


@pytest.fixture(scope="session")
def off() -> Callable[[Any, Any], float]:
    """max |a − b| / max |a| of torch's `a` and MLX's (or numpy's) `b`."""

    def measure(theirs: Any, ours: Any) -> float:
        from layerlift.engine.mlx.arrays import to_numpy

        a = theirs.detach().float().numpy()
        b = ours if isinstance(ours, np.ndarray) else to_numpy(ours)
        assert a.shape == b.shape
        return float(np.abs(a - b).max() / np.abs(a).max())

    return measure


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Component]:
    """A diffusers module as a component on disk."""

    def write(kind: str, module: Any) -> Component:
        from safetensors.torch import save_file

        file: Path = tmp_path_factory.mktemp(kind) / f"{kind}.safetensors"
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, file)
        config = {key: value for key, value in module.config.items() if not key.startswith("_")}
        return Component(kind, config, read_header(file)[0])

    return write
