"""Weights arrive in their dtype, one component at a time, and go again."""

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from safetensors.torch import load_file, save_file

from layerlift.engine.device import MemoryMeter, choose_policy
from layerlift.engine.device.memory import host_anonymous_bytes
from layerlift.engine.model import Model, open_model, weights
from layerlift.engine.model.checkpoint import read_checkpoint
from layerlift.engine.model.latents import decode, encode
from layerlift.engine.model.residency import load_transformer
from layerlift.engine.model.vae_stream import frames_at_once
from tiny_model import tiny_transformer_config, write_tiny_model

WEIGHTS = "diffusion_pytorch_model.safetensors"
CPU = choose_policy("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(tiny: Path) -> Model:
    return open_model(tiny)


def test_transformer_is_the_one_on_disk(tiny: Path, model: Model) -> None:
    expected = LTXVideoTransformer3DModel.from_pretrained(tiny / "transformer").state_dict()
    with model.transformer(CPU) as transformer:
        assert not transformer.training
        assert not any(parameter.requires_grad for parameter in transformer.parameters())
        for key, value in transformer.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=0, atol=0)


def test_halves_of_the_vae_do_what_the_whole_does(tiny: Path, model: Model) -> None:
    whole = AutoencoderKLLTXVideo.from_pretrained(tiny / "vae").eval()
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    time = torch.tensor([0.05])
    with torch.inference_mode():
        latents = whole.encode(video).latent_dist.mode()
        frames = whole.decode(latents, time).sample
        with model.vae_encoder(CPU) as vae:
            assert vae.decoder is None
            torch.testing.assert_close(vae.encode(video).latent_dist.mode(), latents)
            torch.testing.assert_close(vae.latents_mean, whole.latents_mean)
        with model.vae_decoder(CPU) as vae:
            assert vae.encoder is None
            torch.testing.assert_close(vae.decode(latents, time).sample, frames)
            torch.testing.assert_close(vae.latents_std, whole.latents_std)


@pytest.mark.parametrize(("half", "other"), [("encoder", "decoder"), ("decoder", "encoder")])
def test_other_half_is_never_read(model: Model, monkeypatch: pytest.MonkeyPatch, half: str, other: str) -> None:
    read: list[str] = []
    real = weights.read_tensors

    def watched(tensors, dtype):  # type: ignore[no-untyped-def]
        for key, value in real(tensors, dtype):
            read.append(key)
            yield key, value

    monkeypatch.setattr(weights, "read_tensors", watched)
    with getattr(model, f"vae_{half}")(CPU):
        pass
    assert any(key.startswith(f"{half}.") for key in read)
    assert not any(key.startswith(f"{other}.") for key in read)
    assert {"latents_mean", "latents_std"} <= set(read)


def test_dtypes_of_the_policy(model: Model) -> None:
    policy = choose_policy("cpu", force="cuda")
    with model.transformer(policy) as transformer:
        assert {parameter.dtype for parameter in transformer.parameters()} == {torch.bfloat16}
    with model.vae_encoder(policy) as vae:
        assert {parameter.dtype for parameter in vae.parameters()} == {torch.bfloat16}
        assert vae.latents_mean.dtype == vae.latents_std.dtype == torch.float32


def test_frames_at_once_follow_the_policy(model: Model) -> None:
    forced = choose_policy("cpu", force="mps")
    for manager in (model.vae_encoder, model.vae_decoder):
        with manager(forced) as vae:
            assert frames_at_once(vae) == 8
        with manager(CPU) as vae:
            assert frames_at_once(vae) is None


def test_convolutions_are_kept_in_the_storage_dtype(model: Model) -> None:
    policy = replace(CPU, vae_frames=4, vae_storage="bfloat16")
    with model.vae_decoder(policy) as vae:
        kinds = {value.dim() == 5: value.dtype for value in vae.parameters()}
        assert kinds == {True: torch.bfloat16, False: torch.float32}
    with model.vae_decoder(replace(policy, vae_frames=None)) as vae:  # diffusers' own layers cast nothing
        assert {value.dtype for value in vae.parameters()} == {torch.float32}


def test_weights_kept_as_stored_lose_nothing(tmp_path: Path) -> None:
    """A VAE published in bfloat16 computes in float32 what it would from float32 weights."""
    folder = write_tiny_model(tmp_path)
    file = folder / "vae" / WEIGHTS
    save_file({key: value.to(torch.bfloat16) for key, value in load_file(file).items()}, file)
    model, frames = open_model(folder), np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    found = []
    for storage in (None, "bfloat16"):
        with model.vae_encoder(replace(CPU, vae_frames=4, vae_storage=storage)) as vae:
            found.append(encode(vae, frames))
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_convolutions_left_on_disk(model: Model, dtype: str) -> None:
    """They are read for every piece, and what comes out is the same."""
    policy = replace(CPU, vae_frames=4, vae_dtype=dtype)
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    found = []
    for streamed in (False, True):
        with model.vae_encoder(replace(policy, vae_streamed=streamed)) as vae:
            places = {value.dim() == 5: value.device.type for value in vae.parameters()}
            assert places == {True: "meta" if streamed else "cpu", False: "cpu"}
            latents = encode(vae, frames)
        with model.vae_decoder(replace(policy, vae_streamed=streamed)) as vae:
            pictures = list(decode(vae, latents, torch.Generator().manual_seed(0)))
        found.append((latents, np.stack(pictures)))
    assert torch.equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])
    with model.vae_decoder(
        replace(policy, vae_frames=None, vae_streamed=True)
    ) as vae:  # diffusers' own layers read none
        assert {value.device.type for value in vae.parameters()} == {"cpu"}


def test_a_weight_on_disk_is_held_only_while_it_is_used(model: Model) -> None:
    with model.vae_encoder(replace(CPU, vae_frames=4, vae_streamed=True)) as vae:
        conv = vae.encoder.conv_in.conv
        weight = weights.weight_of(conv, torch.float16, torch.device("cpu"))
        assert (weight.dtype, weight.shape) == (torch.float16, conv.weight.shape)
        held = weakref.ref(weight)
        del weight
        assert held() is None
        assert conv.weight.device.type == "meta"


@pytest.mark.parametrize("stored", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16])
def test_smaller_floats_are_cast_up(tmp_path: Path, stored: torch.dtype) -> None:
    folder = write_tiny_model(tmp_path)
    file = folder / "transformer" / WEIGHTS
    tensors = {key: value.to(stored) for key, value in load_file(file).items()}
    save_file(tensors, file)
    with open_model(folder).transformer(CPU) as transformer:
        for key, value in transformer.state_dict().items():
            torch.testing.assert_close(value, tensors[key].float(), rtol=0, atol=0)


def test_int8_is_multiplied_by_its_scale(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    quantised = {"transformer": "proj_in.weight", "vae": "encoder.conv_in.conv.weight"}
    for part, key in quantised.items():
        tensors = load_file(folder / part / WEIGHTS)
        shape = tensors[key].shape
        tensors[key] = torch.randint(-127, 128, shape, dtype=torch.int8)
        tensors[f"{key}_scale"] = torch.rand(shape[0], *[1] * (len(shape) - 1)).half()
        save_file(tensors, folder / part / WEIGHTS)
    model = open_model(folder)
    for manager, part in ((model.transformer, "transformer"), (model.vae_encoder, "vae")):
        key = quantised[part]
        tensors = load_file(folder / part / WEIGHTS)
        with manager(CPU) as module:
            loaded = module.get_parameter(key)
            torch.testing.assert_close(loaded.data, tensors[key].float() * tensors[f"{key}_scale"].float())


def test_freed_at_exit_even_while_referred_to(model: Model) -> None:
    with model.transformer(CPU) as transformer:
        storage = weakref.ref(transformer.proj_in.weight.untyped_storage())
    gc.collect()
    assert storage() is None
    assert transformer.proj_in.weight.device.type == "meta"


def test_freed_after_an_error(model: Model) -> None:
    with pytest.raises(ZeroDivisionError), model.vae_decoder(CPU) as vae:
        raise ZeroDivisionError
    assert next(vae.parameters()).device.type == "meta"


def test_resident_components_stay_until_closed(model: Model) -> None:
    policy = replace(CPU, resident=True)
    with model.transformer(policy) as first:
        pass
    with model.transformer(policy) as second:
        assert second is first
        assert second.proj_in.weight.device.type == "cpu"
    with model.transformer(replace(policy, transformer_dtype="bfloat16")) as third:
        assert third is not first
        assert third.dtype == torch.bfloat16
    with model.transformer(replace(policy, backend="mps", contiguous_attention=True)) as fourth:
        assert fourth is not third
    model.close()
    with model.transformer(policy) as fifth:
        assert fifth is not fourth
    model.close()


def test_no_second_full_copy(tmp_path: Path) -> None:
    """A float16 file becomes float32 in memory: the weights and little more, not the weights beside their file."""
    config = {**tiny_transformer_config(layers=6), "num_attention_heads": 8, "attention_head_dim": 64}
    folder = write_tiny_model(tmp_path)
    LTXVideoTransformer3DModel(**{**config, "cross_attention_dim": 512}).half().save_pretrained(folder / "transformer")
    component = read_checkpoint(folder).transformer
    size = 4 * sum(torch.Size(spec.shape).numel() for spec in component.tensors.values())
    assert size > 80 * 2**20
    gc.collect()
    before = host_anonymous_bytes()
    with MemoryMeter("cpu") as meter:
        module = load_transformer(component, CPU)
        meter.sample()
    assert next(module.parameters()).dtype == torch.float32
    # the largest tensor here is 4 MiB; the rest is what the allocator keeps
    assert meter.host_peak_bytes - before < size + 24 * 2**20


def test_settings_come_with_the_folder(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, steps=5, sigmas=[1.0, 0.5], stochastic=True)
    settings = open_model(folder).settings
    assert (settings.steps, settings.sigmas, settings.stochastic) == (5, (1.0, 0.5), True)
    assert json.loads((folder / "layerlift.json").read_text())["size"] == list(settings.size)
