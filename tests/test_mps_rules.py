"""Apple's GPUs, trap by trap: where each is kept off, for those that no other test of this folder is about.

Contiguous queries, chunks and float32 in attention: test_model_attention. Dtypes, generator, autocast, float64 and
old torch: test_device_policy. Limits of arrays and axes in the VAE: test_plan. NaN and single colours: test_latents and
test_sampling. Masked rows: test_model_text. Watermarks: test_budget.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from layerlift.device import BACKENDS, choose_policy
from layerlift.model import open_model, weights
from layerlift.model.testing import write_tiny_model

MPS = choose_policy("cpu", force="mps")


@pytest.mark.parametrize("changes", [{}, {"int8": True}, {"streamed_blocks": 2}])
def test_casts_are_done_before_a_tensor_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int]
) -> None:
    """float8 is unknown there, and copies that do not wait corrupt: blocking, tensor by tensor, cast on the CPU."""
    folder = write_tiny_model(tmp_path)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({key: value.to(torch.float8_e4m3fn) for key, value in load_file(file).items()}, file)
    moved: list[torch.dtype] = []
    real = torch.Tensor.to

    def watched(self: torch.Tensor, *given: object, **named: object) -> torch.Tensor:
        if "cpu" in given:  # to the policy's device, which stands in for "mps" here
            assert named.get("non_blocking", False) is False
            assert len(given) == 1
            moved.append(self.dtype)
        return real(self, *given, **named)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch.Tensor, "to", watched)
    with open_model(folder).transformer(replace(MPS, **changes)) as transformer:
        block = transformer.transformer_blocks[0]
        for read in block._forward_pre_hooks.values():  # blocks that are streamed
            read(block, ())
    assert moved
    assert set(moved) <= {torch.float16, torch.float32, torch.int8}


def test_a_component_is_never_placed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Module.to would move half a copy at a time, with copies that do not wait."""
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *given: pytest.fail(f"Module.to{given}"))
    monkeypatch.setattr(weights, "release", lambda module: None)  # it goes to meta by just that
    model = open_model(write_tiny_model(tmp_path))
    for manager in (model.transformer, model.vae_encoder, model.vae_decoder):
        with manager(MPS):
            pass


def test_memory_is_capped_and_pieces_are_small() -> None:
    assert BACKENDS["mps"].cap_memory
    assert BACKENDS["mps"].vae_frames == 8


def test_missing_operations_fall_back_to_the_cpu() -> None:
    script = (
        "import os, sys\nfrom layerlift.cli import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit:\n    pass\n"
        "print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 False"  # set before torch looks
