"""What lies on disk is described and checked before a weight is read."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from layerlift.engine.model.catalogue import CATALOGUE
from layerlift.engine.model.checkpoint import Component, build_module, bundled_config, read_checkpoint
from layerlift.errors import InputError
from model_files import WEIGHTS, Shapes, lightricks_shapes, write_package, write_sparse
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def edit(file: Path, change: Any) -> None:
    """Rewrite a safetensors file with its tensors changed in place by `change`."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


# --- diffusers folders -----------------------------------------------------------------------------------------------


def test_diffusers_folder(pristine: Path) -> None:
    checkpoint = read_checkpoint(pristine)
    assert checkpoint.transformer.config["num_layers"] == 2
    assert checkpoint.text == pristine / "text.safetensors"
    assert checkpoint.text_encoder is None
    spec = checkpoint.vae.tensors["encoder.conv_in.conv.weight"]
    assert (spec.file, spec.dtype) == (pristine / "vae" / WEIGHTS, "F32")


def test_sharded_folder(tiny: Path) -> None:
    from diffusers import LTXVideoTransformer3DModel

    model = LTXVideoTransformer3DModel.from_pretrained(tiny / "transformer")
    before = set(read_checkpoint(tiny).transformer.tensors)
    (tiny / "transformer" / WEIGHTS).unlink()
    model.save_pretrained(tiny / "transformer", max_shard_size="60KB")
    shards = list((tiny / "transformer").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    assert set(read_checkpoint(tiny).transformer.tensors) == before
    shards[0].unlink()
    with pytest.raises(InputError, match=f"{shards[0].name} does not exist"):
        read_checkpoint(tiny)


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_missing_extra_and_misshapen_are_named_and_counted(tiny: Path, part: str) -> None:
    victim, other = sorted(load_file(tiny / part / WEIGHTS))[:2]

    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[victim]
        tensors[other] = torch.zeros(1, 2, 3)
        for number in range(5):
            tensors[f"stray.{number}"] = torch.zeros(1)

    edit(tiny / part / WEIGHTS, change)
    with pytest.raises(InputError) as caught:
        read_checkpoint(tiny)
    message = str(caught.value)
    assert f"the {part} in {tiny / part}" in message
    assert f"1 missing ({victim})" in message
    assert "5 unexpected (stray.0, stray.1, stray.2 and 2 more)" in message
    assert f"1 of the wrong shape ({other} [1, 2, 3] instead of [" in message


def test_dtype_that_is_no_weight(tiny: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["proj_in.weight"] = tensors["proj_in.weight"].to(torch.int64)

    edit(tiny / "transformer" / WEIGHTS, change)
    with pytest.raises(InputError, match=r"1 of an unsupported type \(proj_in.weight I64\)"):
        read_checkpoint(tiny)


@pytest.mark.parametrize("scale", [None, torch.ones(3, 1)])
def test_int8_needs_a_scale_per_output_channel(tiny: Path, scale: torch.Tensor | None) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["proj_in.weight"] = tensors["proj_in.weight"].to(torch.int8)
        if scale is not None:
            tensors["proj_in.weight_scale"] = scale

    edit(tiny / "transformer" / WEIGHTS, change)
    with pytest.raises(InputError, match=r"unsupported type \(proj_in.weight I8\)"):
        read_checkpoint(tiny)


def test_truncated_file(tiny: Path) -> None:
    file = tiny / "vae" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{re.escape(str(file))} is truncated"):
        read_checkpoint(tiny)


def test_folder_of_pickles(tiny: Path) -> None:
    (tiny / "vae" / WEIGHTS).unlink()
    torch.save({}, tiny / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match=r"diffusion_pytorch_model.bin is a pickle"):
        read_checkpoint(tiny)


def test_another_architecture(tiny: Path) -> None:
    config = json.loads((tiny / "vae" / "config.json").read_text())
    (tiny / "vae" / "config.json").write_text(json.dumps({**config, "_class_name": "AutoencoderKL"}))
    with pytest.raises(InputError, match="is a AutoencoderKL, not a AutoencoderKLLTXVideo"):
        read_checkpoint(tiny)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_config(tiny: Path, text: str) -> None:
    (tiny / "vae" / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config.json is not"):
        read_checkpoint(tiny)


def test_folder_without_a_model_names_the_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "some.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"is not a model folder.*did you mean .*some.safetensors"):
        read_checkpoint(tmp_path)


# --- package folders (the demo model's layout) -----------------------------------------------------------------------


def test_package_folder(pristine: Path, tmp_path: Path) -> None:
    write_package(pristine, tmp_path / "package")
    checkpoint = read_checkpoint(tmp_path / "package")
    assert set(checkpoint.transformer.tensors) == set(read_checkpoint(pristine).transformer.tensors)
    spec = checkpoint.transformer.tensors["proj_in.weight"]
    assert spec.dtype == "I8"
    assert spec.scale is not None
    assert spec.scale.shape == (32, 1)
    assert checkpoint.settings is not None
    assert checkpoint.settings["steps"] == 2


def test_package_folder_without_settings(pristine: Path, tmp_path: Path) -> None:
    write_package(pristine, tmp_path / "package")
    config = json.loads((tmp_path / "package" / "config.json").read_text())
    del config["settings"]
    (tmp_path / "package" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config.json lacks settings"):
        read_checkpoint(tmp_path / "package")


# --- Lightricks' single files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes_2b() -> Shapes:
    return lightricks_shapes("transformer_2b")


@pytest.mark.parametrize(
    ("transformer", "layers", "name"),
    [("transformer_2b", 28, "ltx-2b-0.9.5"), ("transformer_13b", 48, "ltx-13b-0.9.7")],
)
def test_single_file(tmp_path: Path, transformer: str, layers: int, name: str) -> None:
    path = write_sparse(tmp_path / "ltx.safetensors", lightricks_shapes(transformer))
    checkpoint = read_checkpoint(path)
    assert checkpoint.transformer.config["num_layers"] == layers
    assert checkpoint.vae.config["timestep_conditioning"] is True
    assert checkpoint.transformer.tensors["proj_in.weight"].key == "model.diffusion_model.patchify_proj.weight"
    # The download sizes of the table are those of the architecture.
    assert path.stat().st_size / 1e9 == pytest.approx(CATALOGUE[name].gigabytes, rel=0.01)


def test_single_file_with_bare_transformer_keys(tmp_path: Path, shapes_2b: Shapes) -> None:
    bare = {key.removeprefix("model.diffusion_model."): shape for key, shape in shapes_2b.items()}
    checkpoint = read_checkpoint(write_sparse(tmp_path / "ltx.safetensors", bare))
    assert checkpoint.transformer.tensors["proj_in.weight"].key == "patchify_proj.weight"


def test_single_file_lacking_a_block(tmp_path: Path, shapes_2b: Shapes) -> None:
    short = {key: shape for key, shape in shapes_2b.items() if "transformer_blocks.27." not in key}
    with pytest.raises(InputError, match=r"the transformer in .* missing \(transformer_blocks\.27\."):
        read_checkpoint(write_sparse(tmp_path / "ltx.safetensors", short))


def test_single_file_that_states_its_own_sizes(tmp_path: Path, shapes_2b: Shapes) -> None:
    short = {
        key: shape for key, shape in shapes_2b.items() if not re.search(r"transformer_blocks\.([2-9]|1\d|2\d)\.", key)
    }
    config = {"transformer": {"num_layers": 2, "_class_name": "Transformer3DModel"}}
    checkpoint = read_checkpoint(write_sparse(tmp_path / "ltx.safetensors", short, config))
    assert checkpoint.transformer.config["num_layers"] == 2
    assert checkpoint.settings is None


def test_distilled_single_file_states_its_steps(tmp_path: Path, shapes_2b: Shapes) -> None:
    config = {"scheduler": {"allowed_inference_steps": [1.0, 0.75, 0.5, 0.0]}}
    checkpoint = read_checkpoint(write_sparse(tmp_path / "ltx.safetensors", shapes_2b, config))
    assert checkpoint.settings == {"steps": 3, "sigmas": [1.0, 0.75, 0.5], "guidance": 1.0}


def test_single_file_without_a_vae(tmp_path: Path, shapes_2b: Shapes) -> None:
    only = {key: shape for key, shape in shapes_2b.items() if not key.startswith("vae.")}
    with pytest.raises(InputError, match="transformer but no VAE"):
        read_checkpoint(write_sparse(tmp_path / "ltx.safetensors", only))


def test_single_file_of_another_model(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "other.safetensors", {f"double_blocks.{i}.weight": (4, 4) for i in range(9)})
    with pytest.raises(InputError, match=r"is not an LTX-Video checkpoint.*double_blocks.0.weight.*and 6 more"):
        read_checkpoint(path)


def test_truncated_single_file(tmp_path: Path, shapes_2b: Shapes) -> None:
    path = write_sparse(tmp_path / "ltx.safetensors", shapes_2b)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    with pytest.raises(InputError, match="is truncated"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["vae_0.9.0", "vae_0.9.1", "vae_0.9.5"])
def test_bundled_vae(name: str) -> None:
    vae = build_module(Component("vae", bundled_config(name), {}))
    assert (vae.spatial_compression_ratio, vae.temporal_compression_ratio) == (32, 8)
