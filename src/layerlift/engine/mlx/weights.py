"""Weights into MLX from the very files that torch reads: nothing is converted beforehand.

MLX reads a tensor from its file when it is evaluated, so whoever wants little memory evaluates one after the other.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from layerlift.engine.mlx.arrays import DTYPES, from_torch
from layerlift.engine.model.headers import TensorSpec
from layerlift.engine.model.weights import CONVOLUTION_AXES, FLOAT32_KEYS, WeightFiles
from layerlift.errors import InputError

# The file format's words for what MLX reads as it is. Eight-bit numbers go through torch, which multiplies them by
# their scales.
DIRECT = ("F32", "F16", "BF16")


class ArrayFiles:
    """Weight files, opened when first asked for. What is read is not in memory before it is evaluated."""

    def __init__(self) -> None:
        self._open: dict[Path, dict[str, Any]] = {}
        self._others = WeightFiles()

    def read(self, spec: TensorSpec, dtype: str) -> Any:
        """One tensor, in `dtype`. The weight of a video convolution comes as MLX wants it: (out, time, height, width,
        in)."""
        # `pop` forgets the array: a second reading opens the file anew, and what is done with is freed.
        tensors = self._tensors(spec) if spec.dtype in DIRECT else {}
        array = tensors.pop(spec.key) if tensors else from_torch(self._others.read(spec))
        if len(spec.shape) == CONVOLUTION_AXES:
            # Before the cast, which may make it larger: there are two copies of it for a moment.
            array = mx.contiguous(mx.moveaxis(array, 1, -1))
        return array.astype(DTYPES[dtype])

    def _tensors(self, spec: TensorSpec) -> dict[str, Any]:
        """What is in a tensor's file, of what was not read yet; nothing where MLX does not know a type in it."""
        found = self._open.get(spec.file)
        if found is None or (found and spec.key not in found):
            try:
                loaded: Any = mx.load(str(spec.file))
            except RuntimeError:  # its word for a type that it does not know, such as F64 and F8_E5M2
                loaded = {}
            found = self._open[spec.file] = dict(loaded)
        return found


def evaluate(array: Any, spec: TensorSpec) -> None:
    """Have a tensor in memory. Raises InputError where its file cannot be read, be it that it was changed meanwhile."""
    try:
        mx.eval(array)
    except RuntimeError as error:
        if not str(error).startswith("[read]"):
            raise
        raise InputError(f"{spec.file} cannot be read to its end ({error}); fetch it again.") from error


def read_arrays(tensors: Mapping[str, TensorSpec], dtype: str) -> Iterator[tuple[str, Any]]:
    """Each tensor in memory, in `dtype`, in the order of the files. One tensor's memory at a time if the caller lets
    go."""
    files = ArrayFiles()
    for key, spec in tensors.items():
        array = files.read(spec, "float32" if key in FLOAT32_KEYS else dtype)
        evaluate(array, spec)
        yield key, array
        del array
