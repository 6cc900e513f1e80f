"""The VAE some frames at a time: the numbers of the whole pass, in the memory of a few frames."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo

from layerlift.engine.device import choose_policy
from layerlift.engine.model import open_model
from layerlift.engine.model.latents import decode, encode
from layerlift.engine.model.vae_stream import decode_stream, encode_stream, set_frames_at_once
from tiny_model import narrow_vae, write_tiny_model

# Float rounding only: the same sums, in another order where a convolution sees other lengths.
TOLERANCE = 2e-5
LENGTHS = (1, 3, 8, 100)
CPU = choose_policy("cpu")


@pytest.fixture(scope="module", params=["tiny", "vae_0.9.0", "vae_0.9.1", "vae_0.9.5"])
def vae(request: pytest.FixtureRequest) -> AutoencoderKLLTXVideo:
    return narrow_vae(request.param)


@pytest.fixture
def video(vae: AutoencoderKLLTXVideo) -> torch.Tensor:
    space, time = vae.spatial_compression_ratio, vae.temporal_compression_ratio
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, 1 + 3 * time, 2 * space, 3 * space, generator=generator) * 2 - 1


@torch.inference_mode()
def test_encoder_is_the_whole_one(vae: AutoencoderKLLTXVideo, video: torch.Tensor) -> None:
    whole = vae.encoder(video)
    for length in LENGTHS:
        found = torch.cat(list(encode_stream(vae.encoder, video.split(length, dim=2))), dim=2)
        torch.testing.assert_close(found, whole, rtol=0, atol=TOLERANCE)


@torch.inference_mode()
def test_decoder_is_the_whole_one(vae: AutoencoderKLLTXVideo, video: torch.Tensor) -> None:
    latents = vae.encode(video).latent_dist.mode()
    temb = torch.tensor([0.05]) if vae.config.timestep_conditioning else None
    torch.manual_seed(1)
    whole = vae.decoder(latents, temb)
    for length in LENGTHS:
        torch.manual_seed(1)  # for decoders that inject noise
        pieces = list(decode_stream(vae.decoder, latents.split(max(1, length // 4), dim=2), temb, length))
        torch.testing.assert_close(torch.cat(pieces, dim=2), whole, rtol=0, atol=TOLERANCE)
        assert max(piece.shape[2] for piece in pieces) <= length
        if length < 8:
            assert len(pieces) > 1


def test_frames_do_not_trickle_out() -> None:
    """Convolutions look ahead further than the clip is long, so its end is flushed through them latent by latent: what
    runs on the large pictures is put together again."""
    vae = narrow_vae("vae_0.9.5")
    latents = torch.randn(1, 8, 6, 2, 2)
    with torch.inference_mode():
        pieces = [piece.shape[2] for piece in decode_stream(vae.decoder, latents.split(2, dim=2), torch.zeros(1), 16)]
    assert sum(pieces) == 41
    # The last picture of a piece waits in each of a few convolutions, and comes by itself at the end.
    assert max(pieces) == 16
    assert [length for length in pieces if length >= 8] == pieces[: sum(length >= 8 for length in pieces)]
    assert sum(length for length in pieces if length >= 8) >= 30


def test_one_frame(vae: AutoencoderKLLTXVideo, video: torch.Tensor) -> None:
    with torch.inference_mode():
        (found,) = encode_stream(vae.encoder, [video[:, :, :1]])
        torch.testing.assert_close(found, vae.encoder(video[:, :, :1]), rtol=0, atol=TOLERANCE)


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The size of the largest tensor any operation makes."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.values = max(self.values, made.numel())
        return made


def test_arrays_do_not_grow_with_the_clip() -> None:
    """Nor with the layer that a clip's end is flushed through."""
    vae = narrow_vae("vae_0.9.5")
    largest: dict[tuple[str, int], int] = {}
    for frames in (33, 65):
        video = torch.rand(1, 3, frames, 64, 64)

        def pieces(video: torch.Tensor = video) -> Iterator[torch.Tensor]:
            return (video[:, :, start : start + 4] for start in range(0, video.shape[2], 4))

        with torch.no_grad(), Largest() as meter:
            latents = torch.cat([piece[:, :8] for piece in encode_stream(vae.encoder, pieces())], dim=2)
        largest["encode", frames] = meter.values
        meter.values = 0
        with torch.no_grad(), meter:
            count = sum(
                piece.shape[2] for piece in decode_stream(vae.decoder, latents.split(1, 2), torch.tensor([0.05]), 4)
            )
        assert count == frames
        largest["decode", frames] = meter.values
    assert largest["encode", 33] == largest["encode", 65]
    assert largest["decode", 33] == largest["decode", 65]


# --- as the stages use it --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def through(tiny: Path, **changes: object) -> tuple[torch.Tensor, np.ndarray]:
    """Latents of a clip, and it decoded again, under the CPU's rules with some changes."""
    model, policy = open_model(tiny), replace(CPU, **changes)
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    with model.vae_encoder(policy) as vae:
        latents = encode(vae, frames)
    with model.vae_decoder(policy) as vae:
        return latents, np.stack(list(decode(vae, latents, torch.Generator().manual_seed(0), 0.05, 0.025)))


@pytest.mark.parametrize("frames", [1, 4])
def test_policy_decides_and_the_result_is_the_same(tiny: Path, frames: int) -> None:
    latents, decoded = through(tiny)
    found, again = through(tiny, vae_frames=frames)
    torch.testing.assert_close(found, latents, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(again, decoded, rtol=0, atol=0.01)  # of 255


def test_storage_is_exact_for_a_checkpoint_in_it(tiny: Path, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "half")
    whole = AutoencoderKLLTXVideo.from_pretrained(folder / "vae")
    whole.to(torch.bfloat16).save_pretrained(folder / "vae")
    plain, small = through(folder, vae_frames=4), through(folder, vae_frames=4, vae_storage="bfloat16")
    assert torch.equal(plain[0], small[0])
    np.testing.assert_array_equal(plain[1], small[1])
    # and not for one with more digits, which is why it is not simply always on
    assert not torch.equal(through(tiny, vae_frames=4)[0], through(tiny, vae_frames=4, vae_storage="bfloat16")[0])


def test_injected_noise_follows_the_seed() -> None:
    vae = narrow_vae("vae_0.9.1")
    latents = torch.randn(1, 8, 2, 2, 2, generator=torch.Generator().manual_seed(0))

    def decoded(seed: int, frames: int | None) -> np.ndarray:
        set_frames_at_once(vae, frames)
        return np.stack(list(decode(vae, latents, torch.Generator().manual_seed(seed), 0.05, 0.025)))

    first = decoded(1, None)
    torch.manual_seed(5)  # nobody else's seed matters
    np.testing.assert_array_equal(decoded(1, None), first)
    np.testing.assert_allclose(decoded(1, 2), first, rtol=0, atol=0.01)
    assert not np.array_equal(decoded(2, None), first)
