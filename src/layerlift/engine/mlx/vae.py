"""One half of a VAE in MLX: its weights by name, and its convolutions in time.

The architecture is read off diffusers' `AutoencoderKLLTXVideo` (Apache-2.0), built without memory. Frames are
(F, H, W, C), the layout of MLX's convolutions.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from layerlift.engine.mlx.arrays import DTYPES, to_numpy
from layerlift.engine.mlx.needs import UNFOLD_BYTES
from layerlift.engine.mlx.tables import sinusoids
from layerlift.engine.mlx.weights import ArrayFiles, evaluate, read_arrays
from layerlift.engine.model.checkpoint import Component, build_module
from layerlift.engine.model.weights import CONVOLUTION_AXES
from mlx import nn

if TYPE_CHECKING:
    from layerlift.engine.device import Policy

STATISTICS = ("latents_mean", "latents_std")


class Half:
    """The "encoder" or "decoder", with its weights in memory or, where the policy says so, those of convolutions on
    disk.

    Attributes:
        part: diffusers' module without memory, whose architecture is walked.
        dtype: what is computed in.
        frames: how many frames are taken at a time.
        mean, std: of each channel of latents, (C,) float32.
        scaling: what normalised latents are multiplied by.
    """

    def __init__(self, component: Component, half: str, policy: "Policy") -> None:
        vae = build_module(component)
        self.part, self.half = getattr(vae, half), half
        self.config = vae.config
        self.time = int(vae.temporal_compression_ratio)
        self.scaling = float(vae.config.scaling_factor)
        self.dtype = DTYPES[policy.vae_dtype]
        self.frames = policy.vae_frames or 1
        self._names = {module: name for name, module in self.part.named_modules()}
        prefix = f"{half}."
        own = {key: spec for key, spec in component.tensors.items() if key.startswith(prefix)}
        large = {key: spec for key, spec in own.items() if len(spec.shape) == CONVOLUTION_AXES}
        others = {key: spec for key, spec in own.items() if key not in large}
        statistics = {key: component.tensors[key] for key in STATISTICS if key in component.tensors}
        self._arrays = dict(read_arrays(others, policy.vae_dtype))
        self._specs, self._dtype = large, policy.vae_dtype
        if not policy.vae_streamed:
            self._arrays |= dict(read_arrays(large, policy.vae_storage or policy.vae_dtype))
        found = {key: to_numpy(array) for key, array in read_arrays(statistics, "float32")}
        channels = int(vae.config.latent_channels)
        self.mean = found.get(STATISTICS[0], np.zeros(channels, np.float32))
        self.std = found.get(STATISTICS[1], np.ones(channels, np.float32))

    def release(self) -> None:
        """Let go of the weights, whoever still refers to this."""
        self._arrays.clear()

    def array(self, module: Any, name: str) -> Any:
        """A parameter of one of the part's modules, in the dtype that is computed in."""
        key = ".".join(part for part in (self.half, self._names[module], name) if part)
        if key in self._arrays:
            return self._arrays[key].astype(self.dtype)
        # Left on disk: read for as long as the caller has it.
        array = ArrayFiles().read(self._specs[key], self._dtype)
        evaluate(array, self._specs[key])
        return array

    def has(self, module: Any, name: str) -> bool:
        """Whether a module has a parameter of this name, and it is no None."""
        return getattr(module, name, None) is not None

    def embedded(self, block: Any, timestep: float | None) -> Any:
        """A block's embedding (D,) of the timestep; None where it takes none."""
        if block.time_embedder is None or timestep is None:
            return None
        embedder = block.time_embedder.timestep_embedder
        states = sinusoids([timestep]).astype(self.dtype)
        states = nn.silu(self.linear(embedder.linear_1, states))
        found = self.linear(embedder.linear_2, states)[0]
        mx.eval(found)  # what is left for later can be evaluated by no other thread
        return found

    def linear(self, module: Any, states: Any) -> Any:
        return states @ self.array(module, "weight").T + self.array(module, "bias")

    def modulation(self, module: Any, embedded: Any, count: int) -> Iterator[Any]:
        """`count` shifts and scales (C,): the module's own table and the embedding."""
        found = list(self.array(module, "scale_shift_table") + embedded.reshape(count, -1))
        mx.eval(found)
        return iter(found)


class Conv:
    """A convolution in time as well as space, over a clip that comes in pieces (F, H, W, C)."""

    def __init__(self, half: Half, module: Any) -> None:
        self.half, self.conv = half, module.conv
        self.taps = module.kernel_size[0]
        self.stride, self.padding = tuple(self.conv.stride), tuple(self.conv.padding)
        ahead = 0 if module.is_causal else (self.taps - 1) // 2
        self.before = self.taps - 1 if module.is_causal else ahead
        self.after = ahead
        self.held: Any = None

    def push(self, piece: Any) -> Any:
        """What can be computed now that `piece` is here; None when that is nothing yet."""
        if self.held is None:
            # The clip begins as if its first frame had stood still.
            self.held = mx.repeat(piece[:1], self.before, axis=0)
        frames = mx.concatenate([self.held, piece]) if len(self.held) else piece
        stride = self.stride[0]
        count = (len(frames) - self.taps) // stride + 1
        if count < 1:
            self.held = frames
            mx.eval(frames)
            return None
        # A copy: a view would keep all of the frames.
        self.held = mx.contiguous(frames[count * stride :])
        out = self._compute(frames, count)
        mx.eval(out, self.held)
        return out

    def finish(self) -> Iterator[Any]:
        """What waited for frames that do not come: the last one stands still too."""
        if self.after and self.held is not None:
            out = self.push(mx.repeat(self.held[-1:], self.after, axis=0))
            self.held = None
            if out is not None:
                yield out

    def _compute(self, frames: Any, count: int) -> Any:
        """The first `count` frames that come out."""
        weight, bias = self.half.array(self.conv, "weight"), self.half.array(self.conv, "bias")
        stride, step = self.stride[0], self._at_once(frames, count)
        made = []
        for start in range(0, count, step):
            stop = min(start + step, count)
            given = frames[start * stride : (stop - 1) * stride + self.taps]
            made.append(mx.conv3d(given[None], weight, self.stride, self.padding)[0] + bias)
            if step < count:
                mx.eval(made[-1])
        return made[0] if len(made) == 1 else mx.concatenate(made)

    def _at_once(self, frames: Any, count: int) -> int:
        """Frames that come out of one call: all of them on a GPU, whose kernel unfolds nothing. MLX's CPU unfolds what
        a convolution sees to 27 times its size."""
        if mx.default_device().type != mx.cpu:
            return count
        rows, columns = (-(-side // stride) for side, stride in zip(frames.shape[1:3], self.stride[1:], strict=True))
        unfolded = rows * columns * frames.shape[3] * self.taps * self.conv.kernel_size[1] * self.conv.kernel_size[2]
        return max(1, min(count, UNFOLD_BYTES // (unfolded * frames.itemsize)))


class Held:
    """Frames that wait for what a convolution makes of them, to be added to it."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def put(self, piece: Any) -> None:
        self.frames.append(piece)

    def __len__(self) -> int:
        return sum(len(piece) for piece in self.frames)

    def take(self, count: int) -> Any:
        taken = []
        while count > 0:
            piece = self.frames.pop(0)
            if len(piece) > count:
                rest = mx.contiguous(piece[count:])
                mx.eval(rest)
                self.frames.insert(0, rest)
                piece = piece[:count]
            taken.append(piece)
            count -= len(piece)
        return taken[0] if len(taken) == 1 else mx.concatenate(taken)
