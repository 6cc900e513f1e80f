"""What a plan needs to know of a model, from headers and configs alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.engine.device.needs import ModelFacts, VaeFacts
from layerlift.engine.model.checkpoint import Checkpoint, build_module, diffusers_files
from layerlift.engine.model.headers import read_header

if TYPE_CHECKING:
    from layerlift.geometry.fit import Geometry

# The file format's words for dtypes that weights can be kept in as they are.
STORED = {"BF16": "bfloat16", "F16": "float16"}


def read_facts(name: str, checkpoint: Checkpoint, geometry: "Geometry", text_encoder: Path | None) -> ModelFacts:
    """The numbers of a checkpoint. `text_encoder`: the folder of the encoder that will run; None when none will."""
    import torch

    transformer = build_module(checkpoint.transformer)
    blocks = transformer.transformer_blocks
    linear = [layer.weight.numel() for layer in blocks[0].modules() if isinstance(layer, torch.nn.Linear)]
    block, everything = _count(blocks[0]), _count(transformer)
    config = transformer.config
    vae = build_module(checkpoint.vae)
    convolutions = {spec.dtype for spec in checkpoint.vae.tensors.values() if len(spec.shape) == 5}
    stored = STORED.get(convolutions.pop()) if len(convolutions) == 1 else None
    text = None if text_encoder is None else _text_counts(text_encoder)
    return ModelFacts(
        name=name,
        width=config.num_attention_heads * config.attention_head_dim,
        heads=config.num_attention_heads,
        layers=len(blocks),
        block=block,
        linear=sum(linear),
        largest_linear=max(linear),
        outside=everything - len(blocks) * block,
        space=geometry.space,
        time=geometry.time,
        encoder=_half(vae.encoder, _encoder_layers(vae.encoder)),
        decoder=_half(vae.decoder, _decoder_layers(vae.decoder)),
        vae_stored=stored,
        text_block=None if text is None else text[0],
        text_parameters=0 if text is None else text[1],
    )


def _count(module: Any) -> int:
    return sum(value.numel() for value in module.parameters())


def _text_counts(folder: Path) -> tuple[int, int]:
    """Parameters of the largest block, and of all of the text encoder."""
    blocks: dict[str, int] = {}
    total = 0
    for file in diffusers_files(folder / "text_encoder"):
        for key, spec in read_header(file)[0].items():
            size = 1
            for length in spec.shape:
                size *= length
            total += size
            if key.startswith("encoder.block."):
                index = key.split(".")[2]
                blocks[index] = blocks.get(index, 0) + size
    return max(blocks.values(), default=0), total


# One convolution: its module, pixels of the clip to one of its inputs, frames of the clip to one of its inputs, frames
# that wait beside it for what it makes, and their channels.
Layer = tuple[Any, int, int, int, int]


def _half(part: Any, layers: Iterator[Layer]) -> VaeFacts:
    import torch

    convolutions = [layer.weight.numel() for layer in part.modules() if isinstance(layer, torch.nn.Conv3d)]
    held, frame, axis = 0.0, 0.0, 0
    for module, space, time, waiting, channels in layers:
        cells = 1 / space**2
        inputs = module.conv.in_channels
        held += cells * (inputs * (module.kernel_size[0] - 1) + channels * waiting)
        frame = max(frame, cells * inputs / time)
        axis = max(axis, module.conv.out_channels)
    everything = _count(part)
    return VaeFacts(
        convolutions=sum(convolutions),
        other=everything - sum(convolutions),
        largest=max(convolutions),
        held=held,
        frame=frame,
        axis=axis,
    )


def _resnet_layers(block: Any, space: int, time: int) -> Iterator[Layer]:
    # What comes in waits for as many frames as the convolutions look ahead.
    ahead = 0 if block.conv1.is_causal else (block.conv1.kernel_size[0] - 1) // 2
    yield block.conv1, space, time, 0, 0
    yield block.conv2, space, time, 2 * ahead, block.conv1.in_channels


def _encoder_layers(encoder: Any) -> Iterator[Layer]:
    space, time = encoder.patch_size, 1
    yield encoder.conv_in, space, time, 0, 0
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            yield from _resnet_layers(resnet, space, time)
        for downsampler in block.downsamplers or ():
            conv = getattr(downsampler, "conv", downsampler)
            folds = hasattr(downsampler, "group_size")
            stride = downsampler.stride if folds else conv.stride
            yield (downsampler if not folds else conv), space, time, 0, 0
            space, time = space * stride[1], time * stride[0]
        if getattr(block, "conv_out", None) is not None:
            yield from _resnet_layers(block.conv_out, space, time)
    for resnet in encoder.mid_block.resnets:
        yield from _resnet_layers(resnet, space, time)
    yield encoder.conv_out, space, time, 0, 0


def _decoder_layers(decoder: Any) -> Iterator[Layer]:
    ups = [upsampler for block in decoder.up_blocks for upsampler in block.upsamplers or ()]
    space, time = decoder.patch_size, 1
    for upsampler in ups:
        space, time = space * upsampler.stride[1], time * upsampler.stride[0]
    yield decoder.conv_in, space, time, 0, 0
    for resnet in decoder.mid_block.resnets:
        yield from _resnet_layers(resnet, space, time)
    for block in decoder.up_blocks:
        if block.conv_in is not None:
            yield from _resnet_layers(block.conv_in, space, time)
        for upsampler in block.upsamplers or ():
            yield upsampler.conv, space, time, 1, upsampler.conv.in_channels
            space, time = space // upsampler.stride[1], time // upsampler.stride[0]
        for resnet in block.resnets:
            yield from _resnet_layers(resnet, space, time)
    yield decoder.conv_out, space, time, 0, 0
