"""Weights onto the device: tensor by tensor, cast on the CPU, one component at a time.

The module is built without memory (meta), then each tensor is read from its memory-mapped file, cast, moved and put
in place before the next one is read: at no time is there a second copy of more than one tensor.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.model.checkpoint import Component, build_module
from layerlift.model.headers import TensorSpec

if TYPE_CHECKING:
    import torch

# Statistics that latents are normalised by: a handful of numbers, kept exact.
FLOAT32_KEYS = ("latents_mean", "latents_std")

# The axes of a video convolution's weight: (out, in, time, height, width).
CONVOLUTION_AXES = 5


def load_vae_half(component: Component, half: str, dtype: str, device: str, storage: str | None = None) -> Any:
    """The VAE with only its "encoder" or its "decoder"; the other half is None and none of its weights is read.

    `storage`: the dtype of the convolutions' weights, for those who cast them (`vae_stream`); None: `dtype`.
    """
    module = build_module(component)
    other = {"encoder": "decoder", "decoder": "encoder"}[half]
    setattr(module, other, None)
    tensors = {key: spec for key, spec in component.tensors.items() if not key.startswith(f"{other}.")}
    if storage is None:
        return fill(module, tensors, dtype, device)
    large = {key: spec for key, spec in tensors.items() if len(spec.shape) == CONVOLUTION_AXES}
    put(module, large, storage, device)
    return fill(module, {key: spec for key, spec in tensors.items() if key not in large}, dtype, device)


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
    from safetensors import safe_open

    with ExitStack() as stack:
        open_files: dict[Path, Any] = {}

        def read(spec: TensorSpec) -> torch.Tensor:
            if spec.file not in open_files:
                open_files[spec.file] = stack.enter_context(safe_open(spec.file, framework="pt", device="cpu"))
            tensor: torch.Tensor = open_files[spec.file].get_tensor(spec.key)
            return tensor

        for key, spec in tensors.items():
            tensor = read(spec)
            target = torch.float32 if key in FLOAT32_KEYS else dtype
            if spec.scale is not None:
                # int8 times its output channel's scale, in float32 because the product of two halves is not exact
                tensor = tensor.to(torch.float32) * read(spec.scale).to(torch.float32)
            # copy: what stays must not point into the mapped file, whose pages would stay mapped with it
            yield key, tensor.to(target, copy=True)


def part(tensors: Mapping[str, TensorSpec], prefix: str) -> dict[str, TensorSpec]:
    """The tensors of one submodule, keyed as in its own state dict."""
    return {key.removeprefix(prefix): spec for key, spec in tensors.items() if key.startswith(prefix)}


def open_tensor(spec: TensorSpec) -> "torch.Tensor":
    """One tensor as it lies on disk, memory-mapped: what is never touched is never read."""
    from safetensors import safe_open

    with safe_open(spec.file, framework="pt", device="cpu") as stored:
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
