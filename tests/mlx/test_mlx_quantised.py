"""Weights in 8 and 4 bits: what they become, where they are kept, and what that does to a removal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from mlx.utils import tree_flatten
from safetensors.torch import load_file, save_file

from layerlift import remove
from layerlift.cache import BOUNDS, Bounds
from layerlift.engine.device import Policy
from layerlift.engine.mlx import quantised
from layerlift.engine.mlx.engine import MlxModel
from layerlift.engine.mlx.quantised import PACKED, load_transformer, packed_place, quantised_layers
from layerlift.engine.mlx.tables import rotary_tables
from layerlift.engine.model import open_model
from layerlift.engine.model.checkpoint import Component
from layerlift.engine.model.schema import check_config
from layerlift.engine.model.text import CacheWarning
from layerlift.scenes import make_scene
from mlx_device import MLX
from tiny_model import tiny_transformer_config

SEEDS = range(1000, 1008)
# How far fewer bits may lie from whole weights, in dB against the true background inside the mask.
LOSS = {"8bit": 1.0, "4bit": 3.0}


@pytest.fixture(scope="module")
def component(written: Callable[..., Component]) -> Component:
    torch.manual_seed(0)
    config = tiny_transformer_config() | {"attention_head_dim": 64, "cross_attention_dim": 128}
    made = written("transformer", LTXVideoTransformer3DModel(**config))
    return replace(made, config=check_config("transformer", made.config, "a test"))


def velocity(component: Component, policy: Policy) -> np.ndarray:
    transformer = load_transformer(component, policy)
    random = np.random.default_rng(0)
    text = transformer.text(mx.array(random.normal(size=(1, 4, 16)).astype(np.float32)), None)
    tokens = mx.array(random.normal(size=(1, 12, 8)).astype(np.float32))
    rotary = rotary_tables(torch.rand(1, 3, 12, generator=torch.Generator().manual_seed(0)), transformer.width)
    return np.array(transformer(tokens, transformer.times([500.0]), rotary, text))


def test_fewer_bits_come_near(component: Component, policy: Policy) -> None:
    """And nearer with more of them."""
    whole = velocity(component, policy)
    eight, four = (velocity(component, replace(policy, **bits)) for bits in ({"int8": True}, {"int4": True}))
    off = [np.abs(found - whole).max() / np.abs(whole).max() for found in (eight, four)]
    assert 0 < off[0] < 0.02
    assert 4 * off[0] < off[1] < 0.4


@pytest.mark.parametrize("bits", [8, 4])
def test_blocks_are_packed_and_nothing_else(component: Component, policy: Policy, bits: int) -> None:
    found = load_transformer(component, replace(policy, int8=bits == 8, int4=bits == 4))
    layers = quantised_layers(component.tensors)
    assert len(layers) == 2 * 10  # queries, keys, values and what is made of them, twice, and the feed-forward layer
    values = dict(tree_flatten(found.parameters()))
    packed = {key.removesuffix(".scales") for key in values if key.endswith(".scales")}
    assert packed == set(layers)
    for name, spec in layers.items():
        assert values[f"{name}.weight"].nbytes * 8 == spec.shape[0] * spec.shape[1] * bits


def test_kept_and_found_again(
    component: Component, policy: Policy, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = replace(policy, int8=True)
    made = velocity(component, rules)
    place = packed_place(component, 8, "float32")
    assert list(cache.iterdir()) == [place]
    monkeypatch.setattr(quantised, "ArrayFiles", None)  # what would read the layers to pack them
    np.testing.assert_array_equal(velocity(component, rules), made)
    others = {packed_place(component, 4, "float32"), packed_place(component, 8, "bfloat16")}
    assert len(others | {place}) == 3


def test_what_else_lies_in_the_file_is_not_read(component: Component, policy: Policy) -> None:
    rules = replace(policy, int4=True)
    made = velocity(component, rules)
    place = packed_place(component, 4, "float32")
    save_file(load_file(place) | {"more": torch.zeros(3)}, place)
    np.testing.assert_array_equal(velocity(component, rules), made)


def test_a_training_that_changes_little_is_another_file(component: Component, policy: Policy) -> None:
    """Less than the samples see: the time of change tells."""
    (file,) = {spec.file for spec in component.tensors.values()}
    before, changed = packed_place(component, 8, "float32"), file.stat().st_mtime_ns
    os.utime(file, ns=(changed, changed + 1_000_000_000))
    assert packed_place(component, 8, "float32") != before
    os.utime(file, ns=(changed, changed))
    assert packed_place(component, 8, "float32") == before


def test_another_training_is_another_file(component: Component, written: Callable[..., Component]) -> None:
    torch.manual_seed(1)
    other = written("transformer", LTXVideoTransformer3DModel(**component.config))
    assert packed_place(other, 8, "float32") != packed_place(component, 8, "float32")


def nothing(place: Path, names: list[str]) -> None:
    place.write_bytes(b"")


def half(place: Path, names: list[str]) -> None:
    place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])


def other_shapes(place: Path, names: list[str]) -> None:
    mx.save_safetensors(str(place), {f"{name}.{part}": mx.ones((1,)) for name in names for part in PACKED})


def other_types(place: Path, names: list[str]) -> None:
    save_file({key: tensor.float() for key, tensor in load_file(place).items()}, place)


def other_layers(place: Path, names: list[str]) -> None:
    save_file({key.replace("attn", "attention"): tensor for key, tensor in load_file(place).items()}, place)


def a_type_that_mlx_does_not_know(place: Path, names: list[str]) -> None:
    found = load_file(place)
    save_file(found | {"more": torch.zeros(1, dtype=torch.float64)}, place)


@pytest.mark.parametrize(
    "damage", [nothing, half, other_shapes, other_types, other_layers, a_type_that_mlx_does_not_know]
)
def test_damage_is_told_and_mended(
    component: Component, policy: Policy, damage: Callable[[Path, list[str]], None]
) -> None:
    rules = replace(policy, int4=True)
    made = velocity(component, rules)
    place = packed_place(component, 4, "float32")
    size = place.stat().st_size
    damage(place, list(quantised_layers(component.tensors)))
    with pytest.warns(CacheWarning, match="packed weights is not used"):
        np.testing.assert_array_equal(velocity(component, rules), made)
    assert place.stat().st_size == size


def test_a_cache_that_cannot_be_written_is_done_without(
    component: Component, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path / "file"))
    with pytest.warns(CacheWarning, match="cannot be written"):
        assert np.isfinite(velocity(component, replace(policy, int8=True))).all()


def test_other_models_packed_weights_go_when_there_are_too_many(
    component: Component, policy: Policy, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the user is told; not those that are used."""
    velocity(component, replace(policy, int8=True))
    eight, four = (packed_place(component, bits, "float32") for bits in (8, 4))
    monkeypatch.setitem(BOUNDS, "mlx", Bounds(eight.stat().st_size, days=90))
    with pytest.warns(CacheWarning, match=r"0\.0 GiB of packed weights .* are gone from .*mlx, to make room"):
        velocity(component, replace(policy, int4=True))
    assert list(cache.iterdir()) == [four]


def test_used_packed_weights_are_the_last_to_go(component: Component, policy: Policy, cache: Path) -> None:
    rules = replace(policy, int8=True)
    velocity(component, rules)
    place = packed_place(component, 8, "float32")
    os.utime(place, (0, 0))
    velocity(component, rules)
    assert place.stat().st_mtime > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_removal_in_fewer_bits(seed: int, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str],
                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The demo model removes a scene's objects with whole weights, in 8 and in 4 bits; prints what each reaches."""
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path_factory.getbasetemp() / "packed"))  # packed once for all
    model = MlxModel(open_model("demo"))
    scene = make_scene(seed, 96, 64, 5)
    hidden = scene.total_mask
    reached = {}
    for weights in ("full", *LOSS):
        found = remove(scene.video, hidden, model=model, **MLX, evidence="off", dense=True, weights=weights).numpy()
        apart = (found[hidden].astype(np.float32) - scene.background[hidden]) / 255
        reached[weights] = -10 * np.log10((apart**2).mean())
    with capsys.disabled():
        said = ", ".join(f"{name} {value:.2f} dB" for name, value in reached.items())
        sys.stdout.write(f"\nscene {seed}: {said}\n")
    for weights, loss in LOSS.items():
        assert abs(reached["full"] - reached[weights]) <= loss
