"""Between the host's arrays and MLX's."""

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

if TYPE_CHECKING:
    import torch

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}


def from_torch(tensor: "torch.Tensor") -> Any:
    """A tensor on the CPU as MLX's, with a copy of its numbers; half precision comes as float32."""
    return mx.array((tensor if tensor.dtype.itemsize > 2 else tensor.float()).numpy())


def to_numpy(array: Any) -> np.ndarray:
    """As numpy's float32, with a copy of the numbers."""
    return np.array(array.astype(mx.float32))


def all_finite(array: Any) -> bool:
    """Whether there is neither NaN nor infinity."""
    return bool(mx.isfinite(array).all().item())
