"""Our loop against diffusers' `LTXConditionPipeline`, which nobody here wrote: the same latents from the same noise."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image

from layerlift.engine.sampling import Prompts, SamplingSettings, denoise, token_coordinates
from layerlift.engine.schedule import linear_quadratic
from layerlift.geometry.fit import Geometry
from layerlift.progress import QUIET

CHANNELS, TEXT = 8, 32
STEPS, RATE = 6, 25
SHAPE = (1, CHANNELS, 4, 2, 3)  # of 25 frames of 96×64 pixels
PREFIX = 2  # latent frames that are known


@pytest.fixture(scope="module")
def pipeline() -> LTXConditionPipeline:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=CHANNELS, out_channels=CHANNELS, num_attention_heads=4, attention_head_dim=8,
        cross_attention_dim=32, num_layers=2, caption_channels=TEXT,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=CHANNELS, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
    )  # fmt: skip
    pipe = LTXConditionPipeline(FlowMatchEulerDiscreteScheduler(), vae, None, None, transformer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of (negative prompt, prompt), (2, L, D), and their mask; they differ in length, as real ones do."""
    embeds = torch.randn(2, 5, TEXT, generator=torch.Generator().manual_seed(1))
    return embeds, torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("guidance", "cond_noise"), [(3.0, 0.0), (1.0, 0.0), (3.0, 0.15)])
def test_a_known_prefix_gives_the_pipelines_latents(
    *,
    pipeline: LTXConditionPipeline,
    prompts: tuple[torch.Tensor, torch.Tensor],
    guidance: float,
    cond_noise: float,
    together: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embeds, mask = prompts
    known = torch.randn(1, CHANNELS, PREFIX, *SHAPE[3:], generator=torch.Generator().manual_seed(2))
    # The pipeline draws its encoder's posterior from the generator; given latents, it draws nothing but noise.
    monkeypatch.setattr(pipeline.vae, "encode", lambda _: SimpleNamespace(latents=known.clone()))
    frame = Image.fromarray(np.zeros((64, 96, 3), np.uint8))
    theirs = pipeline(
        conditions=LTXVideoCondition(video=[frame] * (1 + 8 * (PREFIX - 1)), frame_index=0),
        height=64, width=96, num_frames=25, frame_rate=RATE, num_inference_steps=STEPS,
        guidance_scale=guidance, image_cond_noise_scale=cond_noise,
        prompt_embeds=embeds[1:], prompt_attention_mask=mask[1:],
        negative_prompt_embeds=embeds[:1], negative_prompt_attention_mask=mask[:1],
        generator=torch.Generator().manual_seed(3), output_type="latent",
    ).frames  # fmt: skip

    latents = torch.zeros(SHAPE)
    latents[:, :, :PREFIX] = known
    unknown = torch.ones(SHAPE[2:], dtype=torch.bool)
    unknown[:PREFIX] = False
    only = slice(None) if guidance != 1 else slice(1, None)
    ours = denoise(
        pipeline.transformer,
        latents,
        unknown,
        Prompts(embeds[only], mask[only], together=together),
        token_coordinates(SHAPE, Geometry(space=32, time=8, channels=CHANNELS), RATE),
        settings=SamplingSettings(linear_quadratic(STEPS), guidance, cond_noise=cond_noise),
        generator=torch.Generator().manual_seed(3),
        progress=QUIET.stage("denoise", STEPS).__enter__(),
    )
    error = (ours - theirs)[:, :, PREFIX:].norm() / theirs[:, :, PREFIX:].norm()
    assert error < 1e-4
    # The pipeline hands known tokens back with the noise of the last step; ours are the clip's, bit for bit.
    assert torch.equal(ours[:, :, :PREFIX], known)


def test_coordinates_are_the_pipelines(pipeline: LTXConditionPipeline) -> None:
    ids = pipeline._prepare_video_ids(1, *SHAPE[2:])
    theirs = pipeline._scale_video_ids(ids, scale_factor=32, scale_factor_t=8).float()
    theirs[:, 0] *= 1.0 / RATE
    ours = token_coordinates(SHAPE, Geometry(space=32, time=8, channels=CHANNELS), RATE)
    assert torch.equal(ours, theirs)
