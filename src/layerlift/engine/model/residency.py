"""How much of the transformer is in memory: all of it, its blocks in 8 bits, or some of them only while they run."""

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

from layerlift.engine.device.memory import trim_host
from layerlift.engine.model.checkpoint import Component, build_module
from layerlift.engine.model.weights import check_filled, fill, part, put, read_tensors, release

if TYPE_CHECKING:
    from layerlift.engine.device import Policy

BLOCKS = "transformer_blocks."
# Levels of an 8-bit weight on either side of 0.
LEVELS = 127


class Int8Linear(torch.nn.Module):
    """A linear layer whose weight (out, in) is kept as int8 with one float32 scale for each output.

    The weight is made whole again, in the dtype of the input, for the time of the product: of all of the layers only
    one at a time. Scaling the weight and not the product keeps sums of float16 in its range.
    """

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, like: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = like.in_features, like.out_features
        self.register_buffer("weight", torch.empty(like.weight.shape, dtype=torch.int8, device="meta"))
        self.register_buffer("scale", torch.empty(like.out_features, 1, device="meta"))
        self.bias = like.bias

    def quantise(self, weight: torch.Tensor, device: str) -> None:
        """Take over a weight (out, in): the largest of every output becomes 127 steps."""
        weight = weight.float()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LEVELS
        self.weight = (weight / scale).round_().to(torch.int8).to(device)
        self.scale = scale.to(device)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        weight = self.weight.to(states.dtype) * self.scale.to(states.dtype)
        return linear(states, weight, self.bias)


def load_transformer(component: Component, policy: "Policy") -> Any:
    """The transformer with its weights as the policy wants them kept, in eval mode."""
    module = build_module(component)
    tensors = dict(component.tensors)
    if policy.int8:
        quantised = _make_int8(module)
        for name, layer in quantised.items():
            key = f"{name}.weight"
            for _, weight in read_tensors({key: tensors.pop(key)}, torch.float32):
                layer.quantise(weight, policy.device)
                del weight
            trim_host()
    count = len(module.transformer_blocks)
    streamed = range(count - min(policy.streamed_blocks, count), count)
    for index in streamed:
        prefix = f"{BLOCKS}{index}."
        _stream(module.transformer_blocks[index], part(tensors, prefix), policy)
        tensors = {key: spec for key, spec in tensors.items() if not key.startswith(prefix)}
    put(module, tensors, policy.transformer_dtype, policy.device)
    check_filled(module, except_in=tuple(f"{BLOCKS}{index}." for index in streamed))
    return module.eval().requires_grad_(False)


def _make_int8(module: Any) -> dict[str, Int8Linear]:
    """Put 8-bit layers, still empty, in place of the linear layers of the blocks, and return them by name.

    What comes before and after the blocks stays: it is 3% of the weights, and errors there reach everything.
    """
    made = {}
    for name, layer in list(module.named_modules()):
        if name.startswith(BLOCKS) and isinstance(layer, torch.nn.Linear):
            path, _, last = name.rpartition(".")
            made[name] = Int8Linear(layer)
            setattr(module.get_submodule(path), last, made[name])
    return made


def _stream(block: Any, tensors: Any, policy: "Policy") -> None:
    """Read this block's weights from their mapped file before every pass and let go of them after it.

    Not diffusers' group offloading: its offloading to disk writes a second copy there, and to write it needs the whole
    component in memory once, which is what there is no room for.
    """

    def read(*_: Any) -> None:
        fill(block, tensors, policy.transformer_dtype, policy.device)

    def forget(*_: Any) -> None:
        release(block)

    block.register_forward_pre_hook(read)
    block.register_forward_hook(forget, always_call=True)
