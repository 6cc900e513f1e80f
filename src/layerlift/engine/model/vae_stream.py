"""The VAE in a stream: some frames at a time through the whole network, with the very result of all of them at once.

Its convolutions look one or two frames back and, in the decoder, one ahead. So each of them keeps the last frames it
was given, and waits for the next: what is in memory is a few frames a layer, however long the clip, and nothing is
blended or approximated as with tiles. The computation is that of diffusers' `AutoencoderKLLTXVideo` (Apache-2.0), whose
modules are walked here; all tensors are (B, C, F, H, W).

Every layer is an iterator over pieces of the clip, drawn from by the layer after it. No piece may be held by a name
while the layers before work on the next one: hence `map` and small functions instead of loops.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from layerlift.engine.model.weights import weight_of

if TYPE_CHECKING:
    import torch

Pieces = Iterator["torch.Tensor"]


def set_frames_at_once(vae: Any, frames: int | None) -> None:
    """Say how many frames `latents.encode` and `latents.decode` give this VAE at a time; None: all of them."""
    vae.layerlift_frames = frames


def frames_at_once(vae: Any) -> int | None:
    """What `set_frames_at_once` said, else None."""
    frames: int | None = getattr(vae, "layerlift_frames", None)
    return frames


def encode_stream(encoder: Any, video: Iterable["torch.Tensor"]) -> Pieces:
    """Frames in pieces (1, 3, n, H, W) through an `LTXVideoEncoder3d` → what it returns for all of them, in pieces.

    The pieces may be of any lengths; together they are 1 + k·time frames.
    """
    pieces: Pieces = map(partial(_patchify, encoder.patch_size), video)
    pieces = _conv(encoder.conv_in, pieces)
    for block in encoder.down_blocks:
        pieces = _down_block(block, pieces)
    pieces = _resnets(encoder.mid_block.resnets, pieces)
    pieces = map(partial(_norm_out, encoder, None), pieces)
    return map(_repeat_last_channel, _conv(encoder.conv_out, pieces))


def decode_stream(
    decoder: Any,
    latents: Iterable["torch.Tensor"],
    temb: "torch.Tensor | None",
    frames: int,
    generator: "torch.Generator | None" = None,
) -> Pieces:
    """Raw latents in pieces (1, C, n, h, w) through an `LTXVideoDecoder3d` → frames (1, 3, n, H, W), in pieces.

    `temb`: the timestep (1,) of a decoder that takes one. `frames`: no piece is longer at any layer. `generator`: for
    decoders that inject noise (0.9.1), on the CPU; None draws as diffusers does.
    """
    if decoder.timestep_scale_multiplier is not None:
        temb = temb * decoder.timestep_scale_multiplier
    pieces = _conv(decoder.conv_in, chain.from_iterable(map(partial(_split, frames), latents)))
    mid = _embedded(decoder.mid_block, temb, decoder)
    pieces = _resnets(decoder.mid_block.resnets, pieces, mid, generator)
    for block in decoder.up_blocks:
        # diffusers gives the first resnet of a block the timestep itself and the others its embedding.
        if block.conv_in is not None:
            pieces = _resnets([block.conv_in], pieces, temb, generator)
        for upsampler in block.upsamplers or ():
            pieces = _regroup(frames, _up(upsampler, pieces))
        pieces = _resnets(block.resnets, pieces, _embedded(block, temb, decoder), generator)
    modulation = _embedded(decoder, temb, decoder)
    pieces = map(partial(_norm_out, decoder, modulation), pieces)
    return map(partial(_unpatchify, decoder.patch_size), _conv(decoder.conv_out, pieces))


# --- layers ----------------------------------------------------------------------------------------------------------


class _Conv:
    """A convolution in time as well as space, over a clip that comes in pieces."""

    def __init__(self, module: Any) -> None:
        self.conv = module.conv
        self.taps = module.kernel_size[0]
        self.stride = module.conv.stride[0]
        before = self.taps - 1 if module.is_causal else (self.taps - 1) // 2
        self.before, self.after = before, 0 if module.is_causal else (self.taps - 1) // 2
        self.held: torch.Tensor | None = None

    def push(self, piece: "torch.Tensor") -> "torch.Tensor | None":
        """What can be computed now that `piece` is here; None when that is nothing yet."""
        import torch

        if self.held is None:
            # The clip begins as if its first frame had stood still.
            self.held = piece[:, :, :1].expand(-1, -1, self.before, -1, -1)
        frames = torch.cat([self.held, piece], dim=2) if self.held.shape[2] else piece
        count = (frames.shape[2] - self.taps) // self.stride + 1
        if count < 1:
            self.held = frames
            return None
        # A copy: a view would keep all of the frames.
        self.held = frames[:, :, count * self.stride :].clone()
        return self._compute(frames[:, :, : (count - 1) * self.stride + self.taps])

    def finish(self) -> "Iterator[torch.Tensor]":
        """What waited for frames that do not come: the last one stands still too."""
        if self.after and self.held is not None:
            out = self.push(self.held[:, :, -1:].expand(-1, -1, self.after, -1, -1))
            self.held = None
            if out is not None:
                yield out

    def _compute(self, frames: "torch.Tensor") -> "torch.Tensor":
        import torch

        conv = self.conv
        # Weights may be kept in a smaller dtype than what is computed in, or be left on disk, as the policy has it.
        weight, bias = weight_of(conv, frames.dtype, frames.device), conv.bias.to(frames.dtype)
        if frames.dtype == torch.float32 and frames.device.type == "cpu" and torch.backends.mkldnn.is_available():
            # torch itself leaves short pieces to a kernel six times slower, which unfolds them to 27 times their size.
            return torch.mkldnn_convolution(frames, weight, bias, conv.padding, conv.stride, conv.dilation, conv.groups)
        return torch.nn.functional.conv3d(frames, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _conv(module: Any, pieces: Pieces) -> Pieces:
    layer = _Conv(module)

    def finish() -> Pieces:
        yield from layer.finish()

    return chain(_there(map(layer.push, pieces)), finish())


class _Held:
    """Frames that wait for what a convolution makes of them, to be added to it."""

    def __init__(self) -> None:
        self.frames: list[torch.Tensor] = []

    def put(self, piece: "torch.Tensor") -> None:
        self.frames.append(piece)

    def __len__(self) -> int:
        return sum(piece.shape[2] for piece in self.frames)

    def take(self, count: int) -> "torch.Tensor":
        import torch

        taken = []
        while count > 0:
            piece = self.frames.pop(0)
            if piece.shape[2] > count:
                self.frames.insert(0, piece[:, :, count:].clone())
                piece = piece[:, :, :count]
            taken.append(piece)
            count -= piece.shape[2]
        return taken[0] if len(taken) == 1 else torch.cat(taken, dim=2)


class _Resnet:
    """One residual block: what is done before, between and after its two convolutions."""

    def __init__(self, block: Any, temb: "torch.Tensor | None", generator: "torch.Generator | None") -> None:
        self.block = block
        self.generator = generator
        self.inputs = _Held()
        self.noise: list[torch.Tensor | None] = [None, None]
        self.modulation: tuple[torch.Tensor | None, ...] = (None,) * 4
        if block.scale_shift_table is not None and temb is not None:
            table = temb.unflatten(1, (4, -1)) + block.scale_shift_table[None, ..., None, None, None]
            self.modulation = table.unbind(dim=1)

    def before(self, piece: "torch.Tensor") -> "torch.Tensor":
        self.inputs.put(piece)
        return self._activate(self.block.norm1, piece, *self.modulation[:2])

    def between(self, piece: "torch.Tensor") -> "torch.Tensor":
        piece = self._inject(0, self.block.per_channel_scale1, piece)
        return self._activate(self.block.norm2, piece, *self.modulation[2:])

    def after(self, piece: "torch.Tensor") -> "torch.Tensor":
        piece = self._inject(1, self.block.per_channel_scale2, piece)
        inputs = self.inputs.take(piece.shape[2])
        if self.block.norm3 is not None:
            inputs = self.block.norm3(inputs.movedim(1, -1)).movedim(-1, 1)
        if self.block.conv_shortcut is not None:
            inputs = _pointwise(self.block.conv_shortcut, inputs)
        return piece + inputs

    def _activate(
        self, norm: Any, piece: "torch.Tensor", shift: "torch.Tensor | None", scale: "torch.Tensor | None"
    ) -> "torch.Tensor":
        piece = norm(piece.movedim(1, -1)).movedim(-1, 1)
        if scale is not None and shift is not None:
            piece = piece * (1 + scale) + shift
        activated: torch.Tensor = self.block.nonlinearity(piece)
        return activated

    def _inject(self, which: int, scale: "torch.Tensor | None", piece: "torch.Tensor") -> "torch.Tensor":
        """Noise of decoders that have it: one picture of it for all frames, so drawn once."""
        import torch

        if scale is None:
            return piece
        noise = self.noise[which]
        if noise is None:
            device = piece.device if self.generator is None else "cpu"
            noise = torch.randn(piece.shape[-2:], generator=self.generator, device=device, dtype=piece.dtype)
            self.noise[which] = noise = (noise.to(piece.device)[None] * scale)[None, :, None]
        return piece + noise


def _resnets(
    blocks: Iterable[Any],
    pieces: Pieces,
    temb: "torch.Tensor | None" = None,
    generator: "torch.Generator | None" = None,
) -> Pieces:
    for block in blocks:
        layer = _Resnet(block, temb, generator)
        pieces = _conv(block.conv1, map(layer.before, pieces))
        pieces = map(layer.after, _conv(block.conv2, map(layer.between, pieces)))
    return pieces


def _down_block(block: Any, pieces: Pieces) -> Pieces:
    pieces = _resnets(block.resnets, pieces)
    for downsampler in block.downsamplers or ():
        # Before 0.9.5 the downsampler is a convolution with a stride and nothing else.
        pieces = _down(downsampler, pieces) if hasattr(downsampler, "group_size") else _conv(downsampler, pieces)
    conv_out = getattr(block, "conv_out", None)
    return pieces if conv_out is None else _resnets([conv_out], pieces)


def _down(module: Any, pieces: Pieces) -> Pieces:
    """An `LTXVideoDownsampler3d`: a convolution, and cells of frames, rows and columns folded into channels."""
    time = module.stride[0]
    inputs, made = _Held(), _Held()
    first = [True]

    def before(piece: "torch.Tensor") -> "torch.Tensor":
        import torch

        if first[0]:
            piece = torch.cat([piece[:, :, : time - 1], piece], dim=2)
            first[0] = False
        inputs.put(piece)
        return piece

    def after(piece: "torch.Tensor") -> "torch.Tensor | None":
        made.put(piece)
        count = len(made) // time * time
        if count == 0:
            return None
        residual = _fold(inputs.take(count), module.stride).unflatten(1, (-1, module.group_size)).mean(dim=2)
        return _fold(made.take(count), module.stride) + residual

    return _there(map(after, _conv(module.conv, map(before, pieces))))


def _up(module: Any, pieces: Pieces) -> Pieces:
    """An `LTXVideoUpsampler3d`: a convolution, and channels unfolded into frames, rows and columns; the frames that
    unfold before the clip's first are dropped."""
    time, height, width = module.stride
    inputs = _Held()
    first = [True]

    def before(piece: "torch.Tensor") -> "torch.Tensor":
        if module.residual:
            inputs.put(piece)
        return piece

    def after(piece: "torch.Tensor") -> "torch.Tensor":
        count = piece.shape[2]
        start = time - 1 if first[0] else 0
        first[0] = False
        piece = _unfold(piece, module.stride)
        if module.residual:
            repeats = (time * height * width) // module.upscale_factor
            piece = piece + _unfold(inputs.take(count), module.stride).repeat(1, repeats, 1, 1, 1)
        return piece[:, :, start:]

    return map(after, _conv(module.conv, map(before, pieces)))


# --- parts -----------------------------------------------------------------------------------------------------------


def _there(pieces: "Iterator[torch.Tensor | None]") -> Pieces:
    return filter(_is_there, pieces)  # type: ignore[arg-type]


def _is_there(piece: "torch.Tensor | None") -> bool:
    return piece is not None and piece.shape[2] > 0


def _split(frames: int, piece: "torch.Tensor") -> Pieces:
    return iter(piece.split(frames, dim=2))


def _regroup(frames: int, pieces: Pieces) -> Pieces:
    """Pieces of `frames` frames, and a last one of what is left.

    A decoder's convolutions look further ahead than a clip is long at the resolution of latents, so most of it comes
    out of there frame by frame: too little at a time to be fast.
    """
    held = _Held()
    for _ in map(held.put, pieces):
        while len(held) >= frames:
            yield held.take(frames)
    if len(held):
        yield held.take(len(held))


def _pointwise(module: Any, piece: "torch.Tensor") -> "torch.Tensor":
    """A convolution that looks neither back nor ahead."""
    out = _Conv(module).push(piece)
    if out is None:
        raise ValueError("a pointwise convolution got no frame")
    return out


def _embedded(block: Any, temb: "torch.Tensor | None", decoder: Any) -> "torch.Tensor | None":
    """The block's embedding of the timestep, (1, D, 1, 1, 1); the timestep itself where it has no embedder."""
    if block.time_embedder is None or temb is None:
        return temb
    embedded: torch.Tensor = block.time_embedder(
        timestep=temb.flatten(),
        resolution=None,
        aspect_ratio=None,
        batch_size=1,
        hidden_dtype=decoder.scale_shift_table.dtype,
    )
    return embedded.view(1, -1, 1, 1, 1)


def _norm_out(part: Any, modulation: "torch.Tensor | None", piece: "torch.Tensor") -> "torch.Tensor":
    piece = part.norm_out(piece.movedim(1, -1)).movedim(-1, 1)
    if modulation is not None:
        table = modulation.unflatten(1, (2, -1)) + part.scale_shift_table[None, ..., None, None, None]
        shift, scale = table.unbind(dim=1)
        piece = piece * (1 + scale) + shift
    activated: torch.Tensor = part.conv_act(piece)
    return activated


def _patchify(patch: int, video: "torch.Tensor") -> "torch.Tensor":
    """(B, C, F, H·p, W·p) → (B, C·p·p, F, H, W), columns of a patch before its rows."""
    cells = video.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # (B, C, F, H, p, W, p)
    return cells.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def _unpatchify(patch: int, piece: "torch.Tensor") -> "torch.Tensor":
    """The inverse of `_patchify`."""
    cells = piece.unflatten(1, (-1, patch, patch))  # (B, C, p columns, p rows, F, H, W)
    return cells.permute(0, 1, 4, 5, 3, 6, 2).flatten(5, 6).flatten(3, 4)


def _fold(piece: "torch.Tensor", stride: tuple[int, int, int]) -> "torch.Tensor":
    """(B, C, F·t, H·h, W·w) → (B, C·t·h·w, F, H, W)."""
    time, height, width = stride
    cells = piece.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(2, (-1, time))
    return cells.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def _unfold(piece: "torch.Tensor", stride: tuple[int, int, int]) -> "torch.Tensor":
    """(B, C·t·h·w, F, H, W) → (B, C, F·t, H·h, W·w)."""
    cells = piece.unflatten(1, (-1, *stride))  # (B, C, t, h, w, F, H, W)
    return cells.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _repeat_last_channel(piece: "torch.Tensor") -> "torch.Tensor":
    """The encoder gives one log-variance for all channels: (B, C + 1, …) → (B, 2·C, …) as the posterior wants it."""
    import torch

    return torch.cat([piece, piece[:, -1:].expand(-1, piece.shape[1] - 2, -1, -1, -1)], dim=1)
