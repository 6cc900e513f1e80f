"""The VAE in MLX, in a stream: some frames at a time through the whole network, with the result of all of them at once.

As `layerlift.engine.model.vae_stream`, which says why no piece may be held by a name; frames are (F, H, W, C) here.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from layerlift.engine.mlx.sampling import draw
from layerlift.engine.mlx.vae import Conv, Half, Held
from mlx import nn

if TYPE_CHECKING:
    import torch

Pieces = Iterator[Any]

# The epsilon of all norms but those of shortcuts.
NORM_EPS = 1e-8


def encode_stream(half: Half, video: Iterable[Any]) -> Pieces:
    """Frames in pieces (n, H, W, 3) through the encoder → means and one log-variance (n', h, w, C + 1), in pieces.

    The pieces may be of any lengths; together they are 1 + k·time frames.
    """
    encoder = half.part
    pieces: Pieces = map(partial(patchify, encoder.patch_size), video)
    pieces = _conv(half, encoder.conv_in, pieces)
    for block in encoder.down_blocks:
        pieces = _down_block(half, block, pieces)
    pieces = _resnets(half, encoder.mid_block.resnets, pieces)
    pieces = map(partial(_norm_out, None), pieces)
    return _conv(half, encoder.conv_out, pieces)


def decode_stream(
    half: Half, latents: Iterable[Any], timestep: float | None, frames: int, noise: "torch.Generator | None" = None
) -> Pieces:
    """Raw latents in pieces (n, h, w, C) through the decoder → frames (n, H, W, 3), in pieces.

    `timestep`: of a decoder that takes one. `frames`: no piece is longer at any layer. `noise`: for decoders that
    inject it (0.9.1).
    """
    decoder = half.part
    if decoder.timestep_scale_multiplier is not None and timestep is not None:
        timestep = timestep * float(half.array(decoder, "timestep_scale_multiplier").item())
    pieces = _conv(half, decoder.conv_in, chain.from_iterable(map(partial(_split, frames), latents)))
    pieces = _resnets(half, decoder.mid_block.resnets, pieces, half.embedded(decoder.mid_block, timestep), noise)
    for block in decoder.up_blocks:
        embedded = half.embedded(block, timestep)
        if block.conv_in is not None:
            pieces = _resnets(half, [block.conv_in], pieces, embedded, noise)
        for upsampler in block.upsamplers or ():
            pieces = _regroup(frames, _up(half, upsampler, pieces))
        pieces = _resnets(half, block.resnets, pieces, embedded, noise)
    modulation = None
    if (embedded := half.embedded(decoder, timestep)) is not None:
        modulation = tuple(half.modulation(decoder, embedded, 2))
    pieces = map(partial(_norm_out, modulation), pieces)
    return map(partial(unpatchify, decoder.patch_size), _conv(half, decoder.conv_out, pieces))


# --- layers ----------------------------------------------------------------------------------------------------------


def _conv(half: Half, module: Any, pieces: Pieces) -> Pieces:
    layer = Conv(half, module)

    def finish() -> Pieces:
        yield from layer.finish()

    return chain(_there(map(layer.push, pieces)), finish())


class _Resnet:
    """One residual block: what is done before, between and after its two convolutions."""

    def __init__(self, half: Half, block: Any, embedded: Any, noise: "torch.Generator | None") -> None:
        self.half, self.block, self.source = half, block, noise
        self.inputs = Held()
        self.noise: list[Any] = [None, None]
        self.modulation: tuple[Any, ...] = (None,) * 4
        if block.scale_shift_table is not None and embedded is not None:
            self.modulation = tuple(half.modulation(block, embedded, 4))

    def before(self, piece: Any) -> Any:
        self.inputs.put(piece)
        return self._activate(self.block.norm1, piece, *self.modulation[:2])

    def between(self, piece: Any) -> Any:
        return self._activate(self.block.norm2, self._inject(0, piece), *self.modulation[2:])

    def after(self, piece: Any) -> Any:
        piece = self._inject(1, piece)
        inputs = self.inputs.take(len(piece))
        if (norm := self.block.norm3) is not None:
            weight, bias = (self.half.array(norm, name) for name in ("weight", "bias"))
            inputs = mx.fast.layer_norm(inputs, weight, bias, norm.eps)
        if self.block.conv_shortcut is not None:
            inputs = Conv(self.half, self.block.conv_shortcut).push(inputs)
        total = piece + inputs
        mx.eval(total)
        return total

    def _activate(self, norm: Any, piece: Any, shift: Any, scale: Any) -> Any:
        weight = self.half.array(norm, "weight") if self.half.has(norm, "weight") else None
        piece = mx.fast.rms_norm(piece, weight, norm.eps)
        if shift is not None:
            piece = piece * (1 + scale) + shift
        return nn.silu(piece)

    def _inject(self, which: int, piece: Any) -> Any:
        """Noise of decoders that have it: one picture of it for all frames, so drawn once."""
        name = f"per_channel_scale{which + 1}"
        if not self.half.has(self.block, name) or self.source is None:
            return piece
        if self.noise[which] is None:
            drawn = draw(piece.shape[1:3], self.source)[None, :, :, None]  # (1, h, w, 1)
            self.noise[which] = drawn.astype(piece.dtype) * self.half.array(self.block, name).reshape(-1)
        return piece + self.noise[which]


def _resnets(
    half: Half, blocks: Iterable[Any], pieces: Pieces, embedded: Any = None, noise: "torch.Generator | None" = None
) -> Pieces:
    for block in blocks:
        layer = _Resnet(half, block, embedded, noise)
        pieces = _conv(half, block.conv1, map(layer.before, pieces))
        pieces = map(layer.after, _conv(half, block.conv2, map(layer.between, pieces)))
    return pieces


def _down_block(half: Half, block: Any, pieces: Pieces) -> Pieces:
    pieces = _resnets(half, block.resnets, pieces)
    for module in block.downsamplers or ():
        # Before 0.9.5 the downsampler is a convolution with a stride and nothing else.
        pieces = _down(half, module, pieces) if hasattr(module, "group_size") else _conv(half, module, pieces)
    conv_out = getattr(block, "conv_out", None)
    return pieces if conv_out is None else _resnets(half, [conv_out], pieces)


def _down(half: Half, module: Any, pieces: Pieces) -> Pieces:
    """An `LTXVideoDownsampler3d`: a convolution, and cells of frames, rows and columns folded into channels."""
    time = module.stride[0]
    inputs, made = Held(), Held()
    first = [True]

    def before(piece: Any) -> Any:
        if first[0] and time > 1:
            piece = mx.concatenate([piece[: time - 1], piece])
        first[0] = False
        inputs.put(piece)
        return piece

    def after(piece: Any) -> Any:
        made.put(piece)
        count = len(made) // time * time
        if count == 0:
            return None
        residual = fold(inputs.take(count), module.stride)
        residual = residual.reshape(*residual.shape[:3], -1, module.group_size).mean(axis=-1)
        out = fold(made.take(count), module.stride) + residual
        mx.eval(out)
        return out

    return _there(map(after, _conv(half, module.conv, map(before, pieces))))


def _up(half: Half, module: Any, pieces: Pieces) -> Pieces:
    """An `LTXVideoUpsampler3d`: a convolution, and channels unfolded into frames, rows and columns; the frames that
    unfold before the clip's first are dropped."""
    time, height, width = module.stride
    inputs = Held()
    first = [True]

    def before(piece: Any) -> Any:
        if module.residual:
            inputs.put(piece)
        return piece

    def after(piece: Any) -> Any:
        count = len(piece)
        start = time - 1 if first[0] else 0
        first[0] = False
        piece = unfold(piece, module.stride)
        if module.residual:
            repeats = (time * height * width) // module.upscale_factor
            piece = piece + mx.tile(unfold(inputs.take(count), module.stride), (1, 1, 1, repeats))
        piece = mx.contiguous(piece[start:])
        mx.eval(piece)
        return piece

    return map(after, _conv(half, module.conv, map(before, pieces)))


# --- parts -----------------------------------------------------------------------------------------------------------


def _there(pieces: Iterator[Any]) -> Pieces:
    return filter(_is_there, pieces)


def _is_there(piece: Any) -> bool:
    return piece is not None and len(piece) > 0


def _split(frames: int, piece: Any) -> Pieces:
    return (piece[start : start + frames] for start in range(0, len(piece), frames))


def _regroup(frames: int, pieces: Pieces) -> Pieces:
    """Pieces of `frames` frames, and a last one of what is left."""
    held = Held()
    for _ in map(held.put, pieces):
        while len(held) >= frames:
            yield held.take(frames)
    if len(held):
        yield held.take(len(held))


def _norm_out(modulation: tuple[Any, Any] | None, piece: Any) -> Any:
    piece = mx.fast.rms_norm(piece, None, NORM_EPS)
    if modulation is not None:
        shift, scale = modulation
        piece = piece * (1 + scale) + shift
    return nn.silu(piece)


def patchify(patch: int, video: Any) -> Any:
    """(F, H·p, W·p, C) → (F, H, W, C·p·p), columns of a patch before its rows."""
    frames, height, width, channels = video.shape
    cells = video.reshape(frames, height // patch, patch, width // patch, patch, channels)
    return cells.transpose(0, 1, 3, 5, 4, 2).reshape(frames, height // patch, width // patch, -1)


def unpatchify(patch: int, piece: Any) -> Any:
    """The inverse of `patchify`."""
    frames, height, width, channels = piece.shape
    cells = piece.reshape(frames, height, width, channels // patch**2, patch, patch)
    return cells.transpose(0, 1, 5, 2, 4, 3).reshape(frames, height * patch, width * patch, -1)


def fold(piece: Any, stride: tuple[int, int, int]) -> Any:
    """(F·t, H·h, W·w, C) → (F, H, W, C·t·h·w)."""
    time, tall, wide = stride
    frames, height, width, channels = piece.shape
    cells = piece.reshape(frames // time, time, height // tall, tall, width // wide, wide, channels)
    return cells.transpose(0, 2, 4, 6, 1, 3, 5).reshape(frames // time, height // tall, width // wide, -1)


def unfold(piece: Any, stride: tuple[int, int, int]) -> Any:
    """(F, H, W, C·t·h·w) → (F·t, H·h, W·w, C)."""
    time, tall, wide = stride
    frames, height, width, channels = piece.shape
    cells = piece.reshape(frames, height, width, channels // (time * tall * wide), time, tall, wide)
    return cells.transpose(0, 4, 1, 5, 2, 6, 3).reshape(frames * time, height * tall, width * wide, -1)
