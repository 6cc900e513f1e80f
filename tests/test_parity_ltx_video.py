"""A checkpoint in Lightricks' own layout, made from their classes, means the same to us as to them.

`ltx-video` 0.1.2 is installed with `pip install --no-deps ltx-video==0.1.2 einops`. The VAE has the full width of
0.9.5, by which diffusers' key converter recognises it; the transformer has its full width and two layers.
"""

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ltx_video", reason="pip install --no-deps ltx-video==0.1.2 einops")

from safetensors.torch import save_file  # noqa: E402

from layerlift.engine.device import choose_policy  # noqa: E402
from layerlift.engine.model import Model, open_model  # noqa: E402
from layerlift.engine.sampling import token_coordinates  # noqa: E402

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
FRAMES, HEIGHT, WIDTH = 9, 64, 96
RATE = 24.0
LATENT = (2, 2, 3)  # frames, height, width of the clip in latent cells

TRANSFORMER = {
    "_class_name": "Transformer3DModel",
    "activation_fn": "gelu-approximate",
    "adaptive_norm": "single_scale_shift",
    "attention_bias": True,
    "attention_head_dim": 64,
    "attention_type": "default",
    "caption_channels": 4096,
    "cross_attention_dim": 2048,
    "in_channels": 128,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "num_attention_heads": 32,
    "num_layers": 2,
    "out_channels": 128,
    "qk_norm": "rms_norm",
    "standardization_norm": "rms_norm",
    "positional_embedding_type": "rope",
    "positional_embedding_theta": 10000.0,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "timestep_scale_multiplier": 1000,
    "causal_temporal_positioning": True,
}

VAE = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "encoder_blocks": [
        ["res_x", {"num_layers": 4}],
        ["compress_space_res", {"multiplier": 2}],
        ["res_x", {"num_layers": 6}],
        ["compress_time_res", {"multiplier": 2}],
        ["res_x", {"num_layers": 6}],
        ["compress_all_res", {"multiplier": 2}],
        ["res_x", {"num_layers": 2}],
        ["compress_all_res", {"multiplier": 2}],
        ["res_x", {"num_layers": 2}],
    ],
    "decoder_blocks": [
        ["res_x", {"num_layers": 5, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 5, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 5, "inject_noise": False}],
        ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 5, "inject_noise": False}],
    ],
    "scaling_factor": 1.0,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
    "timestep_conditioning": True,
    "normalize_latent_channels": False,
}


@dataclass(frozen=True)
class Theirs:
    """What Lightricks' classes make of the checkpoint's weights."""

    checkpoint: Path
    video: "torch.Tensor"  # (1, 3, F, H, W) in [-1, 1]
    latents: "torch.Tensor"  # (1, 128, f, h, w), normalised
    decoded: "torch.Tensor"  # (1, 3, F, H, W)
    tokens: "torch.Tensor"  # (1, S, 128)
    embeds: "torch.Tensor"  # (1, L, 4096)
    mask: "torch.Tensor"  # (1, L)
    timesteps: "torch.Tensor"  # (1, S) in [0, 1]
    coordinates: "torch.Tensor"  # (1, 3, S): seconds, pixels, pixels
    velocity: "torch.Tensor"  # (1, S, 128)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    from ltx_video.models.autoencoders.causal_video_autoencoder import CausalVideoAutoencoder
    from ltx_video.models.autoencoders.vae_encode import latent_to_pixel_coords, normalize_latents, vae_decode
    from ltx_video.models.transformers.symmetric_patchifier import SymmetricPatchifier
    from ltx_video.models.transformers.transformer3d import Transformer3DModel

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("parity") / "ltx-like.safetensors"
    transformer = Transformer3DModel.from_config(TRANSFORMER).eval()
    vae = CausalVideoAutoencoder.from_config(VAE).eval()
    statistics = {"mean-of-means": torch.linspace(-0.5, 0.5, 128), "std-of-means": torch.linspace(0.5, 1.5, 128)}
    vae.register_buffer("mean_of_means", statistics["mean-of-means"])
    vae.register_buffer("std_of_means", statistics["std-of-means"])

    # Stored in half the size; both sides then compute in float32 from the very same numbers.
    tensors = {}
    for prefix, module in (("model.diffusion_model.", transformer), ("vae.", vae)):
        for name, parameter in module.named_parameters():
            parameter.data.copy_(parameter.data.bfloat16())
            tensors[prefix + name] = parameter.data.bfloat16()
    for name, values in statistics.items():
        tensors[f"vae.per_channel_statistics.{name}"] = values
    # Published files carry more statistics than are used.
    tensors["vae.per_channel_statistics.mean-of-stds"] = torch.ones(128)
    tensors["vae.per_channel_statistics.channel"] = torch.arange(128.0)
    save_file(tensors, path, metadata={"config": json.dumps({"transformer": TRANSFORMER, "vae": VAE})})
    del tensors

    video = torch.rand(1, 3, FRAMES, HEIGHT, WIDTH) * 2 - 1
    embeds = torch.randn(1, 7, 4096)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0]], dtype=torch.bool)
    patchifier = SymmetricPatchifier(1)
    with torch.inference_mode():
        latents = normalize_latents(vae.encode(video).latent_dist.mode(), vae, vae_per_channel_normalize=True)
        decoded = vae_decode(latents, vae, is_video=True, vae_per_channel_normalize=True, timestep=torch.tensor([0.05]))
        tokens, cells = patchifier.patchify(latents)
        coordinates = latent_to_pixel_coords(cells, vae, causal_fix=True).float()
        coordinates[:, 0] /= RATE
        del vae
        timesteps = torch.linspace(0, 1, tokens.shape[1])[None]
        velocity = transformer(
            tokens,
            indices_grid=coordinates,
            encoder_hidden_states=embeds,
            timestep=timesteps,
            encoder_attention_mask=mask,
            return_dict=False,
        )[0]
        del transformer
    gc.collect()
    yield Theirs(path, video, latents, decoded, tokens, embeds, mask, timesteps, coordinates, velocity)
    path.unlink()


@pytest.fixture(scope="module")
def ours(theirs: Theirs) -> Model:
    return open_model(theirs.checkpoint)


def relative_error(value: "torch.Tensor", truth: "torch.Tensor") -> float:
    """Largest difference, relative to the largest value."""
    assert value.shape == truth.shape
    return float((value.float() - truth).abs().max() / truth.abs().max())


def test_latents(theirs: Theirs, ours: Model) -> None:
    with ours.vae_encoder(choose_policy("cpu")) as vae, torch.inference_mode():
        raw = vae.encode(theirs.video).latent_dist.mode()
        mean, std = (part.view(1, -1, 1, 1, 1) for part in (vae.latents_mean, vae.latents_std))
        latents = (raw - mean) / std
    assert latents.shape[2:] == LATENT
    assert relative_error(latents, theirs.latents) <= TOLERANCE


def test_decoded_frames(theirs: Theirs, ours: Model) -> None:
    with ours.vae_decoder(choose_policy("cpu")) as vae, torch.inference_mode():
        mean, std = (part.view(1, -1, 1, 1, 1) for part in (vae.latents_mean, vae.latents_std))
        decoded = vae.decode(theirs.latents * std + mean, torch.tensor([0.05]), return_dict=False)[0]
    assert decoded.shape == theirs.video.shape
    assert relative_error(decoded, theirs.decoded) <= TOLERANCE


def test_coordinates_of_tokens(theirs: Theirs, ours: Model) -> None:
    coordinates = token_coordinates(theirs.latents.shape, ours.geometry, RATE)
    torch.testing.assert_close(coordinates, theirs.coordinates)


# The rules of MPS in float32 change how attention is laid out, not what it computes.
@pytest.mark.parametrize("rules", ["cpu", "mps"])
def test_transformer(theirs: Theirs, ours: Model, rules: str) -> None:
    policy = choose_policy("cpu", "float32", rules)
    with ours.transformer(policy) as transformer, torch.inference_mode():
        velocity = transformer(
            hidden_states=theirs.tokens,
            encoder_hidden_states=theirs.embeds,
            timestep=1000 * theirs.timesteps,
            encoder_attention_mask=theirs.mask,
            video_coords=theirs.coordinates,
            return_dict=False,
        )[0]
    assert relative_error(velocity, theirs.velocity) <= TOLERANCE
