"""`layerlift bench layers --model`: the whole way, beside latent arithmetic."""

from pathlib import Path

import numpy as np
import pytest

from layerlift.bench.end_to_end import end_to_end_tables, found_totals, region_scores
from layerlift.bench.layers import laid_over
from layerlift.engine.device import choose_policy
from layerlift.engine.model import open_model
from layerlift.runtime import Runtime
from layerlift.scenes import make_scene
from tiny_model import write_tiny_model

SHADOW, TWO, SIZE, FRAMES = 1000, 1008, (64, 48), 3


def test_tables_have_both_ways(tmp_path: Path) -> None:
    model = open_model(write_tiny_model(tmp_path))
    composites, alphas = end_to_end_tables([SHADOW], Runtime(model, choose_policy("cpu")), size=SIZE, frames=FRAMES)
    for way in ("layers", "latent arithmetic", "latent arithmetic, refined"):
        for masks in ("true total mask", "object mask alone"):
            for region in ("objects", "shadows"):
                assert np.isfinite(composites.rows[f"{masks}: {way}, {region}"][SHADOW])
    # Inside the object latent arithmetic has the clip's own pixels, edges apart, whatever the model is.
    assert composites.mean("true total mask: latent arithmetic, objects", "all") > 20
    for masks in ("true total mask", "object mask alone"):
        assert 0 <= alphas.mean(f"{masks}: objects", "all") <= 1


def test_totals_are_found_for_each_object_front_to_back(tmp_path: Path) -> None:
    model = open_model(write_tiny_model(tmp_path))
    scene = make_scene(TWO, *SIZE, FRAMES)
    front, hind = found_totals(scene, Runtime(model, choose_policy("cpu")))
    assert not (scene.object_masks[1] & ~front).any()
    assert not (scene.object_masks[0] & ~hind).any()


def test_scores_tell_good_composites_from_bad() -> None:
    scene = make_scene(SHADOW, *SIZE, FRAMES)
    other = make_scene(SHADOW + 1, *SIZE, FRAMES).background
    true_layers = scene.layers.astype(np.float32) / 255
    good = region_scores(scene, laid_over(true_layers, other), other)
    bad = region_scores(scene, other, other)
    assert good["total mask"] > 35
    assert bad["total mask"] < good["total mask"] - 10
    assert np.isnan(good["reflections"])
    with pytest.raises(ValueError, match="same shape"):
        region_scores(scene, other[:1], other)
