"""Weights onto the device: tensor by tensor, cast on the CPU, one component at a time.

The module is built without memory (meta), then each tensor is read from its memory-mapped file, cast, moved and put
in place before the next one is read: at no time is there a second copy of more than one tensor.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.engine.model.checkpoint import Component, build_module
from layerlift.engine.model.headers import TensorSpec, open_weights

if TYPE_CHECKING:
    import torch

# Statistics that latents are normalised by: a handful of numbers, kept exact.
FLOAT32_KEYS = ("latents_mean", "latents_std")

# Attribute of a module whose weight was left on disk: a function that reads it.
ON_DISK = "layerlift_read"

# The axes of a video convolution's weight: (out, in, time, height, width).
CONVOLUTION_AXES = 5


def load_vae_half(
    component: Component, half: str, dtype: str, device: str, storage: str | None = None, *, streamed: bool = False
) -> Any:
    """The VAE with only its "encoder" or its "decoder"; the other half is None and none of its weights is read.

    `storage`: the dtype of the convolutions' weights, for those who cast them (`vae_stream`); None: `dtype`.
    `streamed`: leave these weights on disk, for those who read them as they are used (`weight_of`).
    """
    module = build_module(component)
    other = {"encoder": "decoder", "decoder": "encoder"}[half]
    setattr(module, other, None)
    tensors = {key: spec for key, spec in component.tensors.items() if not key.startswith(f"{other}.")}
    if storage is None and not streamed:
        return fill(module, tensors, dtype, device)
    large = {key: spec for key, spec in tensors.items() if len(spec.shape) == CONVOLUTION_AXES}
    put(module, {key: spec for key, spec in tensors.items() if key not in large}, dtype, device)
    if streamed:
        _leave_on_disk(module, large)
    else:
        put(module, large, storage or dtype, device)
    check_filled(module, except_in=tuple(large) if streamed else ())
    return module.eval().requires_grad_(False)


def _leave_on_disk(module: Any, tensors: Mapping[str, TensorSpec]) -> None:
    """Tell each of the modules whose weights these are where its own lies."""
    files = WeightFiles()
    for key, spec in tensors.items():
        path, _, name = key.rpartition(".")
        if name != "weight":
            raise RuntimeError(f"{key} is left on disk, but only weights are looked for there")
        setattr(module.get_submodule(path), ON_DISK, partial(files.read, spec))


def weight_of(module: Any, dtype: "torch.dtype", device: "torch.device") -> "torch.Tensor":
    """A module's weight in `dtype` on `device`; where it was left on disk it is read, for as long as the caller has it.

    Cast on the CPU, and copied there only where the cast needs it.
    """
    read = getattr(module, ON_DISK, None)
    stored: torch.Tensor = module.weight if read is None else read()
    return stored.to(dtype).to(device, non_blocking=False)


def fill(module: Any, tensors: Mapping[str, TensorSpec], dtype: str, device: str) -> Any:
    """Give a meta module its tensors, in `dtype` on `device`, and return it in eval mode, without gradients.

    Every tensor of the module must be in `tensors`; that was checked when the checkpoint was opened.
    """
    put(module, tensors, dtype, device)
    check_filled(module)
    return module.eval().requires_grad_(False)


def check_filled(module: Any, except_in: tuple[str, ...] = ()) -> None:
    """Raises RuntimeError when a tensor was left on the meta device, but for names that begin with one of those."""
    left = [
        name
        for named in (module.named_parameters(), module.named_buffers())
        for name, value in named
        if value.device.type == "meta" and not name.startswith(except_in)
    ]
    if left:
        raise RuntimeError(f"{type(module).__name__} was left without weights for {left[:3]}")


def put(module: Any, tensors: Mapping[str, TensorSpec], dtype: str, device: str) -> None:
    """Give a module some of its tensors, in `dtype` on `device`, one after the other."""
    import torch

    for key, tensor in read_tensors(tensors, getattr(torch, dtype)):
        on_device = tensor.to(device, non_blocking=False)
        _assign(module, key, on_device)
        del tensor, on_device


def release(module: Any) -> None:
    """Let go of a module's weights, whoever still refers to it: it is left on the meta device and cannot be run."""
    import torch

    torch.nn.Module.to(module, "meta")


def read_tensors(tensors: Mapping[str, TensorSpec], dtype: "torch.dtype") -> Iterable[tuple[str, "torch.Tensor"]]:
    """Each tensor on the CPU, cast, in the order of the files. One tensor's memory at a time if the caller lets go."""
    import torch

    files = WeightFiles()
    for key, spec in tensors.items():
        # copy: what stays must not point into the mapped file, whose pages would stay mapped with it
        yield key, files.read(spec).to(torch.float32 if key in FLOAT32_KEYS else dtype, copy=True)


class WeightFiles:
    """Weight files, mapped when first asked for and for as long as this is there."""

    def __init__(self) -> None:
        self._open: dict[Path, Any] = {}

    def read(self, spec: TensorSpec) -> "torch.Tensor":
        """One tensor as the file has it, memory-mapped; one with a scale multiplied by it, in float32."""
        import torch

        tensor = self._get(spec)
        if spec.scale is not None:
            # int8 times its output channel's scale, in float32 because the product of two halves is not exact
            tensor = tensor.to(torch.float32) * self._get(spec.scale).to(torch.float32)
        return tensor

    def _get(self, spec: TensorSpec) -> "torch.Tensor":
        if spec.file not in self._open:
            self._open[spec.file] = open_weights(spec.file)
        tensor: torch.Tensor = self._open[spec.file].get_tensor(spec.key)
        return tensor


def part(tensors: Mapping[str, TensorSpec], prefix: str) -> dict[str, TensorSpec]:
    """The tensors of one submodule, keyed as in its own state dict."""
    return {key.removeprefix(prefix): spec for key, spec in tensors.items() if key.startswith(prefix)}


def open_tensor(spec: TensorSpec) -> "torch.Tensor":
    """One tensor as it lies on disk, memory-mapped: what is never touched is never read."""
    with open_weights(spec.file) as stored:
        tensor: torch.Tensor = stored.get_tensor(spec.key)
    return tensor


def _assign(module: Any, key: str, value: "torch.Tensor") -> None:
    import torch

    path, _, name = key.rpartition(".")
    owner = module.get_submodule(path)
    if name in owner._parameters:
        owner._parameters[name] = torch.nn.Parameter(value, requires_grad=False)
    else:
        owner._buffers[name] = value
