"""Tensors that lie in temporary files, so that a clip's length costs no memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from layerlift.temporary import reserve


def mapped(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor on the CPU whose memory is a temporary file's: the system may drop it and read it again.

    The file has no name, and goes when the tensor does. Raises LayerliftError when the disk has no room for it.
    """
    if tensor.numel() == 0:
        return tensor.clone()
    descriptor, name = tempfile.mkstemp(prefix="layerlift-latents-")
    try:
        reserve(descriptor, tensor.nbytes)
        flat = torch.from_file(name, shared=True, size=tensor.numel(), dtype=tensor.dtype)
    finally:
        os.close(descriptor)
        # The mapping keeps the file until it is let go of.
        Path(name).unlink()
    copy = flat.view(tensor.shape)
    copy.copy_(tensor)
    return copy
