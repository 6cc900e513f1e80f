"""Configs of models: every value has a type and a range, and nothing is built of one that has not."""

import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from layerlift.engine.model import checkpoint, open_model
from layerlift.engine.model.checkpoint import bundled_config, read_checkpoint, read_index, read_json
from layerlift.engine.model.schema import T5, Transformer, Vae, check_config
from layerlift.errors import InputError
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def change(file: Path, **values: Any) -> None:
    """Write a JSON file with other values."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_defaults_are_those_of_the_libraries() -> None:
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
    from transformers import T5Config

    for ours, theirs in ((Transformer, LTXVideoTransformer3DModel), (Vae, AutoencoderKLLTXVideo)):
        known = {name: of.default for name, of in inspect.signature(theirs.__init__).parameters.items()}
        del known["self"]
        assert {field.name: field.default for field in msgspec.structs.fields(ours)} == known
    theirs = T5Config()
    ours = {field.name: field.default for field in msgspec.structs.fields(T5) if field.name != "model_type"}
    assert {name: getattr(theirs, name) for name in ours} == ours


@pytest.mark.parametrize("name", ["transformer_2b", "transformer_13b", "vae_0.9.0", "vae_0.9.1", "vae_0.9.5"])
def test_published_configs_are_as_they_were(name: str) -> None:
    given = bundled_config(name)
    known = check_config(name.split("_", maxsplit=1)[0], given, name)
    del given["_class_name"]
    assert {key: list(value) if isinstance(value, tuple) else value for key, value in known.items()} == given


def test_a_ratio_that_is_left_out_is_what_the_blocks_make() -> None:
    # diffusers counts every kind of block as one that halves all axes.
    given = {**bundled_config("vae_0.9.5"), "spatial_compression_ratio": None, "temporal_compression_ratio": None}
    known = check_config("vae", given, "here")
    assert (known["spatial_compression_ratio"], known["temporal_compression_ratio"]) == (32, 8)


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("transformer", "num_layers", 1_000_000, "num_layers is 1000000, expected a whole number <= 256"),
        ("transformer", "num_layers", 0, "num_layers is 0, expected a whole number >= 1"),
        ("transformer", "num_layers", True, "num_layers is True, expected a whole number, got true or false"),
        ("transformer", "num_layers", 10**30, "num_layers is 10+, "),
        ("transformer", "in_channels", "8", "in_channels is '8', expected a whole number, got text"),
        ("transformer", "attention_bias", [], r"attention_bias is \[\], expected true or false, got a list"),
        ("transformer", "activation_fn", "magic", "activation_fn is 'magic', invalid enum value"),
        ("transformer", "num_attention_heads", 3, "3 heads of 16 make a width of 48, but cross_attention_dim is 32"),
        ("transformer", "out_channels", 4, "8 channels go in, but 4 come out"),
        ("vae", "block_out_channels", [8, [16], 16], r"block_out_channels\[1\] is \[16\], expected a whole number"),
        ("vae", "block_out_channels", [], "block_out_channels is .*, expected a list of length >= 1"),
        ("vae", "layers_per_block", [1, 1], "layers_per_block has 2 entries instead of 3"),
        ("vae", "spatial_compression_ratio", 8, "spatial_compression_ratio is 8, but its blocks make 16"),
        ("vae", "temporal_compression_ratio", 0, "temporal_compression_ratio is 0, expected a whole number >= 1"),
        ("vae", "downsample_type", ["spatial", "conv"], "divides sides by 4 and time by 2, but its decoder multiplies"),
        ("vae", "scaling_factor", -1.0, "scaling_factor is -1.0, expected a number > 0.0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_anything_is_built(  # noqa: PLR0917
    tiny: Path, monkeypatch: pytest.MonkeyPatch, part: str, name: str, value: Any, said: str
) -> None:
    change(tiny / part / "config.json", **{name: value})
    built = []
    real = checkpoint.build_module
    monkeypatch.setattr(checkpoint, "build_module", lambda given: built.append(given.kind) or real(given))
    with pytest.raises(InputError, match=said) as caught:
        read_checkpoint(tiny)
    assert str(tiny / part / "config.json") in str(caught.value)
    assert part not in built


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": 10**9}, "steps is 1000000000, expected a whole number <= 100000"),
        ({"steps": None}, "steps is None, expected a whole number, got null"),
        ({"guidance": [1]}, r"guidance is \[1\], expected a number, got a list"),
        ({"size": [999_999, 16]}, r"size\[0\] is 999999, expected a whole number <= 65536"),
        ({"frames": -(2**63)}, "frames is -9223372036854775808, expected a whole number >= 1"),
        ({"rate": 0}, "rate is 0, expected a number > 0.0"),
        ({"sigmas": [0.5, 0.75]}, r"sigmas \[0.5, 0.75\] do not fall"),
        ({"decode_noise": 7.0}, "decode_noise is 7.0, expected a number <= 1.0"),
        ({"any_scale": 1}, "any_scale is 1, expected true or false"),
    ],
)
def test_settings_have_types_and_ranges(tiny: Path, values: dict[str, Any], said: str) -> None:
    change(tiny / "layerlift.json", **values)
    with pytest.raises(InputError, match=said):
        open_model(tiny)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a": NaN}', '{"a": 1e999}', '{"a": "\xff"}'])
def test_text_that_is_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json is not valid JSON"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize("what", ["pipe", "folder", "device", "large"])
def test_what_is_no_small_file_is_not_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / "config.json"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**30)
    with pytest.raises(InputError, match="is not a file of at most 64 MiB"):
        read_json(path)


@pytest.mark.parametrize(
    "weight_map", [None, [], {"a": None}, {"a": "../other.safetensors"}, {"a": "/dev/zero"}, {"a": "x.bin"}]
)
def test_an_index_lists_files_beside_it(tmp_path: Path, weight_map: Any) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError, match=r"index\.json cannot be used: weight_map"):
        read_index(path)
    path.write_text(json.dumps({"weight_map": {"a": "b.safetensors", "c": "b.safetensors", "d": "a.safetensors"}}))
    assert read_index(path) == ["a.safetensors", "b.safetensors"]
