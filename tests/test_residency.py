"""The transformer in less memory: the same numbers from streamed blocks, nearly the same from 8 bits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from safetensors.torch import load_file, save_file

from layerlift.engine.device import MemoryMeter, Policy, choose_policy
from layerlift.engine.device.memory import host_anonymous_bytes
from layerlift.engine.model import Model, open_model
from layerlift.engine.model.residency import Int8Linear
from layerlift.engine.model.speed import Speed
from layerlift.engine.sampling import Prompts, SamplingSettings, denoise, token_coordinates
from layerlift.progress import QUIET
from tiny_model import tiny_transformer_config, write_tiny_model

CPU = choose_policy("cpu")
LAYERS = 4
# Of the velocity's norm, on random weights; trained ones do no worse.
INT8_TOLERANCE = 0.02


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), layers=LAYERS)


@pytest.fixture
def model(tiny: Path) -> Model:
    return open_model(tiny)


def velocity(model: Model, policy: Policy) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 24, 8, generator=generator)
    text = torch.randn(1, 4, 16, generator=generator)
    with model.transformer(policy) as transformer, torch.inference_mode():
        dtype = transformer.proj_in.weight.dtype
        out: torch.Tensor = transformer(
            hidden_states=tokens.to(dtype),
            encoder_hidden_states=text.to(dtype),
            timestep=torch.full((1, 24), 300.0),
            encoder_attention_mask=torch.ones(1, 4),
            video_coords=torch.rand(1, 3, 24, generator=generator),
            return_dict=False,
        )[0]
        return out.float()


@pytest.mark.parametrize("count", [1, LAYERS, 2 * LAYERS])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_streamed_blocks_are_exact(model: Model, count: int, dtype: str) -> None:
    policy = replace(CPU, transformer_dtype=dtype)
    assert torch.equal(velocity(model, replace(policy, streamed_blocks=count)), velocity(model, policy))


def test_a_streamed_block_is_there_only_while_it_runs(model: Model) -> None:
    with model.transformer(replace(CPU, streamed_blocks=3)) as transformer:
        blocks = transformer.transformer_blocks
        there: list[list[bool]] = []

        def look(*_: object) -> None:
            there.append([block.attn1.to_q.weight.device.type != "meta" for block in blocks])

        look()
        for block in blocks:
            block.ff.register_forward_hook(look)
        with torch.inference_mode():
            for _ in range(2):
                transformer(
                    hidden_states=torch.randn(1, 6, 8),
                    encoder_hidden_states=torch.randn(1, 4, 16),
                    timestep=torch.zeros(1, 6),
                    encoder_attention_mask=torch.ones(1, 4),
                    video_coords=torch.rand(1, 3, 6),
                )
    resident = [True, False, False, False]
    run = [resident, *([True] + [at == index for at in range(1, LAYERS)] for index in range(1, LAYERS))]
    assert there == [resident, *run, *run]


def test_a_streamed_block_is_let_go_when_it_fails(model: Model) -> None:
    with model.transformer(replace(CPU, streamed_blocks=LAYERS)) as transformer:
        block = transformer.transformer_blocks[0]
        with pytest.raises(TypeError):
            block("no tensor")
        assert block.attn1.to_q.weight.device.type == "meta"


def test_int8_is_close(model: Model) -> None:
    whole = velocity(model, CPU)
    small = velocity(model, replace(CPU, int8=True))
    error = ((small - whole).norm() / whole.norm()).item()
    assert 0 < error < INT8_TOLERANCE


def test_int8_is_kept_in_blocks_only(model: Model) -> None:
    with model.transformer(replace(CPU, int8=True)) as transformer:
        kinds = {name: type(layer) for name, layer in transformer.named_modules() if hasattr(layer, "out_features")}
        assert all((kind is Int8Linear) == name.startswith("transformer_blocks.") for name, kind in kinds.items())
        assert sum(kind is Int8Linear for kind in kinds.values()) == LAYERS * 10
        layer = transformer.transformer_blocks[0].ff.net[2]
        assert (layer.weight.dtype, layer.scale.shape) == (torch.int8, (32, 1))
        assert layer.weight.abs().amax(dim=1).eq(127).all()


def test_int8_of_a_row_of_zeros() -> None:
    layer = Int8Linear(torch.nn.Linear(3, 2))
    weight = torch.tensor([[0.0, 0.0, 0.0], [-1.0, 0.5, 1.0]])
    layer.quantise(weight, "cpu")
    layer.bias = None
    torch.testing.assert_close(layer(torch.eye(3)).T, weight, atol=1 / 127, rtol=0)


def test_int8_from_a_checkpoint_in_int8(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    key = "transformer_blocks.0.ff.net.2.weight"
    stored = torch.randint(-127, 128, tensors[key].shape, dtype=torch.int8)
    stored[:, 0] = 127
    tensors |= {key: stored, f"{key}_scale": torch.rand(32, 1) + 0.5}
    save_file(tensors, file)
    with open_model(folder).transformer(replace(CPU, int8=True)) as transformer:
        assert torch.equal(transformer.transformer_blocks[0].ff.net[2].weight, stored)


def test_int8_takes_a_quarter_of_float32(tmp_path: Path) -> None:
    """Also while it is made, layer after layer."""
    config = {**tiny_transformer_config(layers=6), "num_attention_heads": 8, "attention_head_dim": 64}
    folder = write_tiny_model(tmp_path)
    whole = LTXVideoTransformer3DModel(**{**config, "cross_attention_dim": 512})
    size = sum(value.nbytes for value in whole.parameters())
    whole.save_pretrained(folder / "transformer")
    del whole
    model = open_model(folder)
    with model.transformer(CPU):  # everything is imported, and torch has its threads
        pass
    before = host_anonymous_bytes()
    with MemoryMeter("cpu") as meter, model.transformer(replace(CPU, int8=True)) as transformer:
        kept = sum(value.nbytes for value in [*transformer.parameters(), *transformer.buffers()])
        meter.sample()
    assert kept < 0.35 * size
    assert meter.host_peak_bytes - before < kept + 16 * 2**20


@pytest.mark.parametrize("changes", [{"streamed_blocks": 3}, {"int8": True}])
@pytest.mark.parametrize("speed", [Speed(), Speed(refresh=0.5, hoist=True)])
def test_a_loop_runs_on_it(model: Model, changes: dict[str, int], speed: Speed) -> None:
    """Whatever the loop does to be fast: what it needs of the weights is there, or it does without."""

    def result(policy: Policy) -> torch.Tensor:
        latents = torch.randn(1, 8, 2, 3, 4, generator=torch.Generator().manual_seed(0))
        unknown = torch.zeros(2, 3, 4, dtype=torch.bool)
        unknown[:, 1, 1:3] = True
        texts = model.text(["", "Empty"], policy)
        prompts = Prompts(torch.cat([text.embeds for text in texts]), torch.cat([text.mask for text in texts]))
        with model.transformer(policy) as transformer:
            return denoise(
                transformer,
                latents,
                unknown,
                prompts,
                token_coordinates(latents.shape, model.geometry, 24),
                settings=SamplingSettings((1.0, 0.8, 0.5, 0.2, 0.0), guidance=3.0),
                generator=torch.Generator().manual_seed(1),
                progress=QUIET,
                speed=speed,
            )

    whole, small = result(CPU), result(replace(CPU, **changes))
    tolerance = 1e-5 if "streamed_blocks" in changes else 0.1
    assert (small - whole).norm() <= tolerance * whole.norm()
