"""What a model's configs may say: every value with its type and range, checked before anything is built of them.

The defaults are those of diffusers and transformers, for configs that leave a value out.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from layerlift.errors import InputError

T = TypeVar("T")

# Far beyond any published model: what is larger is damage, and would take minutes to build.
Width = Annotated[int, Meta(ge=1, le=2**16)]
Channels = Annotated[int, Meta(ge=1, le=2**14)]
Layers = Annotated[int, Meta(ge=1, le=256)]
Epsilon = Annotated[float, Meta(gt=0, le=0.1)]
Ratio = Annotated[int, Meta(ge=1, le=1024)]
Patch = Annotated[int, Meta(ge=1, le=16)]
_Few = Meta(min_length=1, max_length=16)

DownBlock = Literal["LTXVideoDownBlock3D", "LTXVideo095DownBlock3D"]
Downsampling = Literal["conv", "spatial", "temporal", "spatiotemporal"]
Upscale = Literal[1, 2, 4, 8]
# What a block halves: (across and down, in time).
_HALVES = {"conv": (1, 1), "spatial": (1, 0), "temporal": (0, 1), "spatiotemporal": (1, 1)}


class Transformer(msgspec.Struct, frozen=True, kw_only=True):
    """`LTXVideoTransformer3DModel`."""

    in_channels: Channels = 128
    out_channels: Channels | None = 128
    patch_size: Literal[1] = 1
    patch_size_t: Literal[1] = 1
    num_attention_heads: Annotated[int, Meta(ge=1, le=512)] = 32
    attention_head_dim: Annotated[int, Meta(ge=1, le=1024)] = 64
    cross_attention_dim: Width = 2048
    num_layers: Layers = 28
    activation_fn: Literal["gelu", "gelu-approximate"] = "gelu-approximate"
    qk_norm: Literal["rms_norm_across_heads"] = "rms_norm_across_heads"
    norm_elementwise_affine: bool = False
    norm_eps: Epsilon = 1e-6
    caption_channels: Width = 4096
    attention_bias: bool = True
    attention_out_bias: bool = True

    def __post_init__(self) -> None:
        width = self.num_attention_heads * self.attention_head_dim
        if width != self.cross_attention_dim:
            raise ValueError(
                f"{self.num_attention_heads} heads of {self.attention_head_dim} make a width of {width}, but "
                f"cross_attention_dim is {self.cross_attention_dim}"
            )
        if self.out_channels not in (None, self.in_channels):
            raise ValueError(f"{self.in_channels} channels go in, but {self.out_channels} come out")


class Vae(msgspec.Struct, frozen=True, kw_only=True):
    """`AutoencoderKLLTXVideo`."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: Channels = 128
    block_out_channels: Annotated[tuple[Channels, ...], _Few] = (128, 256, 512, 512)
    down_block_types: Annotated[tuple[DownBlock, ...], _Few] = ("LTXVideoDownBlock3D",) * 4
    decoder_block_out_channels: Annotated[tuple[Channels, ...], _Few] = (128, 256, 512, 512)
    layers_per_block: Annotated[tuple[Layers, ...], _Few] = (4, 3, 3, 3, 4)
    decoder_layers_per_block: Annotated[tuple[Layers, ...], _Few] = (4, 3, 3, 3, 4)
    spatio_temporal_scaling: Annotated[tuple[bool, ...], _Few] = (True, True, True, False)
    decoder_spatio_temporal_scaling: Annotated[tuple[bool, ...], _Few] = (True, True, True, False)
    decoder_inject_noise: Annotated[tuple[bool, ...], _Few] = (False,) * 5
    downsample_type: Annotated[tuple[Downsampling, ...], _Few] = ("conv",) * 4
    upsample_residual: Annotated[tuple[bool, ...], _Few] = (False,) * 4
    upsample_factor: Annotated[tuple[Upscale, ...], _Few] = (1,) * 4
    timestep_conditioning: bool = False
    patch_size: Patch = 4
    patch_size_t: Literal[1] = 1
    resnet_norm_eps: Epsilon = 1e-6
    scaling_factor: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    encoder_causal: bool = True
    decoder_causal: bool = False
    spatial_compression_ratio: Ratio | None = None
    temporal_compression_ratio: Ratio | None = None

    def __post_init__(self) -> None:
        later = self.down_block_types[-1] == "LTXVideo095DownBlock3D"
        down = len(self.block_out_channels) - later
        up = len(self.decoder_block_out_channels)
        lengths = {
            "down_block_types": down,
            "spatio_temporal_scaling": down,
            "layers_per_block": down + 1,
            **({"downsample_type": down} if later else {}),
            "decoder_layers_per_block": up + 1,
            "decoder_spatio_temporal_scaling": up,
            "decoder_inject_noise": up + 1,
            "upsample_residual": up,
            "upsample_factor": up,
        }
        for name, length in lengths.items():
            if len(getattr(self, name)) != length:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries instead of {length}")
        ways = self.downsample_type if later else ("conv",) * down
        halved = [_HALVES[way] for way, scales in zip(ways, self.spatio_temporal_scaling, strict=True) if scales]
        space, time = (2 ** sum(axis) for axis in zip((0, 0), *halved, strict=True))
        doubled = 2 ** sum(self.decoder_spatio_temporal_scaling)
        if not space == time == doubled:
            raise ValueError(
                f"its encoder divides sides by {space} and time by {time}, but its decoder multiplies by {doubled}"
            )
        for name, ratio in (
            ("spatial_compression_ratio", self.patch_size * space),
            ("temporal_compression_ratio", time),
        ):
            if getattr(self, name) not in (None, ratio):
                raise ValueError(f"{name} is {getattr(self, name)}, but its blocks make {ratio}")
            msgspec.structs.force_setattr(self, name, ratio)  # where a config leaves it out, diffusers guesses wrong


class T5(msgspec.Struct, frozen=True, kw_only=True):
    """`T5EncoderModel`, as far as encoding needs it."""

    model_type: Literal["t5"]
    d_model: Width = 512
    d_kv: Annotated[int, Meta(ge=1, le=1024)] = 64
    d_ff: Annotated[int, Meta(ge=1, le=2**18)] = 2048
    num_layers: Layers = 6
    num_heads: Annotated[int, Meta(ge=1, le=512)] = 8
    vocab_size: Annotated[int, Meta(ge=2, le=2**22)] = 32128
    relative_attention_num_buckets: Annotated[int, Meta(ge=4, le=4096)] = 32
    relative_attention_max_distance: Annotated[int, Meta(ge=4, le=2**16)] = 128
    layer_norm_epsilon: Epsilon = 1e-6
    feed_forward_proj: Literal["relu", "gated-gelu", "gated-silu"] = "relu"

    def __post_init__(self) -> None:
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets // 4:
            raise ValueError("relative_attention_max_distance is too small for relative_attention_num_buckets")


class Index(msgspec.Struct, frozen=True):
    """Which of several weight files holds which tensor."""

    weight_map: Annotated[
        dict[str, Annotated[str, Meta(pattern=r"^[A-Za-z0-9_. -]{1,200}\.safetensors$")]], Meta(max_length=10**6)
    ]


class HeadNumbers(msgspec.Struct, frozen=True):
    """What comes with head weights, see `effect_score.FittedHeads`."""

    bias: Annotated[float, Meta(ge=-1000, le=1000)]
    threshold: Annotated[float, Meta(gt=0, lt=1)]


_KINDS: dict[str, type[msgspec.Struct]] = {"transformer": Transformer, "vae": Vae}


def check_config(kind: str, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The config of the "transformer" or the "vae" with all of its values, and nothing else.

    Raises InputError naming `where` it is, and the first value that cannot be.
    """
    known: dict[str, Any] = msgspec.to_builtins(checked(values, _KINDS[kind], where))
    return known


def checked(values: Any, kind: type[T], where: str, *, strict: bool = True) -> T:
    """What JSON said, as a `kind`; without `strict` numbers may be text.

    Raises InputError naming `where` it is, and the first value that cannot be.
    """
    try:
        return msgspec.convert(values, kind, strict=strict)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError(
            f"{where} cannot be used: {_said(error, values)}; correct it, or fetch the model again."
        ) from error


# What msgspec calls the kinds of JSON values.
_PLAIN = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "null",
}  # fmt: skip


def parse_json(text: str | bytes) -> Any:
    """What JSON says. Raises ValueError for what is no JSON, has numbers that are none, or is nested without end."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error).removeprefix("JSON is malformed: ")) from error


def _said(error: Exception, values: Any) -> str:
    """What msgspec found wrong: "num_layers is 1000000, expected a whole number <= 256"."""
    text, _, place = str(error).partition(" - at `$")
    text = re.sub(r"`(\w+)`", lambda match: _PLAIN.get(match[1], match[1]), text[:1].lower() + text[1:])
    place = place.rstrip("`").removeprefix(".")
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", place):
        try:
            values = values[int(index) if index else key]
        except (LookupError, TypeError):
            return f"{place}: {text}"
    return f"{place} is {reprlib.repr(values)}, {text}" if place else text
