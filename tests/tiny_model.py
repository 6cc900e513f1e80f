"""A tiny random model in diffusers' layout: the real classes, small enough for a test."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PROMPTS = ("Empty", "", "worst quality, inconsistent motion, blurry, jittery, distorted")


def tiny_transformer_config(
    channels: int = 8, layers: int = 2, text_width: int = 16, head_size: int = 16
) -> dict[str, Any]:
    """Config of a transformer of `layers` blocks, 2 heads of `head_size`."""
    return {
        "in_channels": channels,
        "out_channels": channels,
        "num_attention_heads": 2,
        "attention_head_dim": head_size,
        "cross_attention_dim": 2 * head_size,
        "num_layers": layers,
        "caption_channels": text_width,
    }


def tiny_vae_config(channels: int = 8, timestep_conditioning: bool = True) -> dict[str, Any]:
    """Config of a VAE of the 0.9.5 kind, 16 × 16 pixels and 4 frames to a latent cell."""
    return {
        "latent_channels": channels,
        "block_out_channels": [8, 16, 16],
        "down_block_types": ["LTXVideo095DownBlock3D"] * 2,
        "decoder_block_out_channels": [16, 32],
        "layers_per_block": [1, 1, 1],
        "decoder_layers_per_block": [1, 1, 1],
        "spatio_temporal_scaling": [True, True],
        "decoder_spatio_temporal_scaling": [True, True],
        "decoder_inject_noise": [False, False, False],
        "downsample_type": ["spatiotemporal", "spatiotemporal"],
        "upsample_residual": [True, True],
        "upsample_factor": [2, 2],
        "timestep_conditioning": timestep_conditioning,
        "patch_size": 4,
        "patch_size_t": 1,
        "encoder_causal": True,
        "decoder_causal": False,
        "spatial_compression_ratio": 16,
        "temporal_compression_ratio": 4,
    }


def narrow_vae(name: str, **changes: Any) -> Any:
    """A random VAE of the architecture of a published one, a sixteenth as wide, with one residual block where it has
    several; "tiny": of `tiny_vae_config`."""
    import torch
    from diffusers import AutoencoderKLLTXVideo

    from layerlift.engine.model.checkpoint import bundled_config

    if name == "tiny":
        config = tiny_vae_config()
    else:
        config = {key: value for key, value in bundled_config(name).items() if not key.startswith("_")}
        for key in ("block_out_channels", "decoder_block_out_channels"):
            config[key] = [width // 16 for width in config[key]]
        for key in ("layers_per_block", "decoder_layers_per_block"):
            config[key] = [1] * len(config[key])
        config["latent_channels"] = 8
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(**config | changes).eval()
    for parameter in vae.parameters():
        if not parameter.any():  # what starts at zero, such as the noise's scale, must be seen to matter
            torch.nn.init.normal_(parameter, std=0.1)
    return vae


def random_tokens(longest: int, *lengths: int) -> "list[tuple[torch.Tensor, torch.Tensor]]":
    """Prompts of so many tokens for a T5 encoder, padded: ids and masks (1, longest)."""
    import torch

    generator = torch.Generator().manual_seed(1)
    pairs = []
    for length in lengths:
        mask = torch.arange(longest)[None] < length
        pairs.append((torch.randint(2, 300, (1, longest), generator=generator) * mask, mask))
    return pairs


def write_t5(folder: Path, dtype: str = "float32", **changes: Any) -> Path:
    """A random T5 encoder of three blocks in several files, as large ones are published."""
    import torch
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = {
        "vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    }  # fmt: skip
    T5EncoderModel(T5Config(**config | changes)).to(getattr(torch, dtype)).save_pretrained(
        folder, max_shard_size="40KB"
    )
    return folder


def write_tiny_model(
    folder: Path,
    *,
    prompts: Sequence[str] = PROMPTS,
    seed: int = 0,
    layers: int = 2,
    head_size: int = 16,
    **settings: Any,
) -> Path:
    """Write a random model (8 latent channels, 16 × 16 pixels × 4 frames a cell, ready text embeddings of 4 tokens)
    into `folder` and return it. `settings` replace those written: 2 steps, guidance 3, 64x48, 9 frames."""
    import torch
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    from layerlift.engine.model.text import save_ready_text

    text_width, text_length = 16, 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = tiny_transformer_config(layers=layers, text_width=text_width, head_size=head_size)
        transformer = LTXVideoTransformer3DModel(**config)
        vae = AutoencoderKLLTXVideo(**tiny_vae_config())
        # Statistics that are not 0 and 1, so that a test notices when normalising is forgotten.
        vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 8))
        vae.latents_std.copy_(torch.linspace(0.5, 1.5, 8))
        embeds = torch.randn(len(prompts), text_length, text_width)
    transformer.save_pretrained(folder / "transformer")
    vae.save_pretrained(folder / "vae")
    mask = torch.ones(len(prompts), text_length, dtype=torch.bool)
    mask[:, -1] = False
    save_ready_text(folder / "text.safetensors", prompts, embeds, mask)
    values: dict[str, Any] = {
        "steps": 2,
        "guidance": 3.0,
        "size": [64, 48],
        "frames": 9,
        "rate": 24.0,
        "licence": "random numbers",
        "random": True,
        **settings,
    }
    (folder / "layerlift.json").write_text(json.dumps(values, indent=1))
    return folder


def write_encoder(folder: Path, seed: int = 0, width: int = 16, vocabulary: int = 300) -> Path:
    """A random T5 encoder of one layer; its tokenizer file says nothing (`letters` stands in)."""
    import torch
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocabulary, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(b"letters")
    return folder
