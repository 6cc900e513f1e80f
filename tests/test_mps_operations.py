"""Every operation that a job runs by the rules of MPS is one that torch has for Metal.

torch itself says which it has: the table its kernels are generated from is a part of the package.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchgen
from torch.utils._python_dispatch import TorchDispatchMode

from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.options import EffectOptions, LatentCompositionOptions, RemovalOptions
from layerlift.runtime import Runtime
from layerlift.stages.composition.latent import compose_latent_frames
from layerlift.stages.effects import find_effects
from layerlift.stages.removal import remove_frames
from tiny_model import write_tiny_model

MPS = choose_policy("cpu", force="mps")

# Attention picks a kernel by device: this is the CPU's, Metal has its own. Latents wait in files of the host's.
ELSEWHERE = {"aten._scaled_dot_product_flash_attention_for_cpu.default", "aten.from_file.default"}


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    file = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    return {entry["func"].split("(")[0]: entry for entry in yaml.safe_load(file.read_text())}


def there(table: dict[str, Any], operation: str) -> bool:
    """Whether "aten.name.overload" has a kernel for MPS, or is made of others whatever the device."""
    name = operation.removeprefix("aten.")
    entry = table.get(name) or table.get(name.removesuffix(".default"))
    if entry is None:
        return False
    entry = table[entry["structured_delegate"]] if "structured_delegate" in entry else entry
    kinds = ", ".join(entry.get("dispatch", {"CompositeImplicitAutograd": ""}))
    return any(kind.startswith(("MPS", "Composite")) for kind in kinds.split(", "))


class Operations(TorchDispatchMode):
    """The names of all that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def test_the_table_tells_what_is_missing(table: dict[str, Any]) -> None:
    for name in (
        "aten.add.Tensor",
        "aten.convolution.default",
        "aten.slice.Tensor",
        "aten.upsample_bilinear2d.default",
    ):
        assert there(table, name), name
    for name in ("aten.linalg_eig.default", "aten.slow_conv3d_forward.default", "aten.nothing.default", *ELSEWHERE):
        assert not there(table, name), name


def inputs() -> tuple[np.ndarray, np.ndarray]:
    frames = np.random.default_rng(0).integers(0, 256, (9, 50, 70, 3), dtype=np.uint8)
    hidden = np.zeros((50, 70), bool)
    hidden[16:32, 16:32] = True
    return frames, hidden


def run_remove(model: Model) -> Iterator[object]:
    frames, hidden = inputs()
    return remove_frames(
        frames, hidden, RemovalOptions(evidence="off", guidance=3.0, steps=3), runtime=Runtime(model=model, policy=MPS)
    )


def run_mask(model: Model) -> Iterator[object]:
    frames, hidden = inputs()
    return find_effects(
        frames, [hidden], EffectOptions(prompt="", witnesses="model"), runtime=Runtime(model=model, policy=MPS)
    )


def run_compose(model: Model) -> Iterator[object]:
    frames, hidden = inputs()
    options = LatentCompositionOptions(steps=2)
    return compose_latent_frames(
        frames, frames, hidden, hidden, frames, options=options, runtime=Runtime(model=model, policy=MPS)
    )


@pytest.mark.parametrize("start", [run_remove, run_mask, run_compose])
def test_metal_has_all_of_it(
    tmp_path: Path, table: dict[str, Any], monkeypatch: pytest.MonkeyPatch, start: Callable[[Model], Iterator[object]]
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # the CPU's own way to convolve
    model = open_model(write_tiny_model(tmp_path))
    with Operations() as run:
        assert len(list(start(model))) == 9
    assert "aten.convolution.default" in run.names
    aten = {name for name in run.names if name.startswith("aten.")} - ELSEWHERE
    assert len(aten) > 40
    assert not {name for name in aten if not there(table, name)}
