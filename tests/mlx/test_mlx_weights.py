"""Weights into MLX, whatever a file holds."""

from __future__ import annotations

import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerlift.engine.mlx.weights import read_arrays
from layerlift.engine.model.headers import read_header
from layerlift.errors import InputError


def test_files_that_mlx_cannot_read_are_read_all_the_same(tmp_path: Path) -> None:
    """It takes no file in which anything has a type that it does not know."""
    whole = {"a": torch.randn(2, 3), "b": torch.randn(4).double(), "c": torch.randn(2, 2).to(torch.float8_e5m2)}
    save_file(whole, tmp_path / "w.safetensors")
    found = dict(read_arrays(read_header(tmp_path / "w.safetensors")[0], "float32"))
    assert {key: array.dtype for key, array in found.items()} == dict.fromkeys("abc", mx.float32)
    for key, tensor in whole.items():
        np.testing.assert_array_equal(np.array(found[key]), tensor.float().numpy())


def test_a_file_that_is_cut_off_meanwhile_is_told(tmp_path: Path) -> None:
    """Before it is opened, and while it is read."""
    file = tmp_path / "w.safetensors"
    save_file({"a": torch.randn(2, 3), "b": torch.randn(900)}, file)
    reading = read_arrays(read_header(file)[0], "bfloat16")
    assert next(reading)[0] == "a"
    specs = read_header(file)[0]
    os.truncate(file, 400)
    with pytest.raises(InputError, match=r"w\.safetensors cannot be read to its end .*; fetch it again"):
        next(reading)
    with pytest.raises(InputError, match=r"w\.safetensors .*; fetch it again"):
        list(read_arrays(specs, "bfloat16"))
