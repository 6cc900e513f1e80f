"""`layerlift bench layers`: figures of extraction against the truth, and that they can tell good from bad."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layerlift.bench.layers import alpha_scores, composite_scores, extracted, layer_tables
from layerlift.cli import main
from layerlift.scenes import make_scene

SHADOW, REFLECTION = 1000, 1002
SIZE, FRAMES = (144, 96), 3


def test_extraction_reaches_what_was_asked_for() -> None:
    composites, alphas = layer_tables([SHADOW, REFLECTION], size=SIZE, frames=FRAMES)
    figures = {row: composites.mean(row, "all") for row in composites.rows}
    assert figures["own plate, float"] > 45
    assert figures["own plate, 16 bits"] > 45
    assert figures["own plate, 8 bits"] > 40
    assert figures["another plate, objects"] > 42
    assert figures["another plate, shadows"] > 36
    assert figures["another plate, reflections"] > 29
    errors = {row: alphas.mean(row, "all") for row in alphas.rows}
    assert errors["objects"] < 0.01
    assert errors["shadows"] < 0.02
    assert errors["where nothing is"] < 0.002


def test_figures_fall_when_layers_are_wrong() -> None:
    scene = make_scene(SHADOW, *SIZE, FRAMES)
    other = make_scene(REFLECTION, *SIZE, FRAMES).background
    layers = extracted(scene)
    good, good_alpha = composite_scores(scene, layers, other), alpha_scores(scene, layers)
    wrong = layers.copy()
    wrong[..., 3] *= np.array([0.8, 1, 0.8], np.float32)[:, None, None]
    bad, bad_alpha = composite_scores(scene, wrong, other), alpha_scores(scene, wrong)
    for name in ("own plate, float", "another plate, objects", "another plate, shadows"):
        assert bad[name] < good[name] - 3
    for name in ("objects", "shadows"):
        assert bad_alpha[name] > 3 * good_alpha[name]
    assert np.isnan(good["another plate, reflections"])
    foggy = np.clip(layers + np.float32([0, 0, 0, 0.01]), 0, 1)
    assert alpha_scores(scene, foggy)["where nothing is"] == pytest.approx(0.01, abs=0.001)


def test_flicker_is_measured_where_nothing_moves() -> None:
    moving = make_scene(SHADOW, *SIZE, FRAMES)
    clips = {name: np.repeat(getattr(moving, name)[:1], FRAMES, 0) for name in ("video", "background")}
    truth = ("object_masks", "effect_masks", "layers", "object_alphas", "effect_alphas")
    scene = replace(moving, **clips, **{name: np.repeat(getattr(moving, name)[:, :1], FRAMES, 1) for name in truth})
    layers = extracted(scene)
    assert alpha_scores(scene, layers)["flicker where the clip is still"] < 1e-4
    layers[:, 1, ..., 3] *= 0.9
    made = alpha_scores(scene, layers)["flicker where the clip is still"]
    assert made == pytest.approx(0.1 * layers[:, 0, ..., 3][:, scene.total_mask[0]].mean(), rel=0.05)


def test_table_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    flags = ["--seeds", "1000:1002", "--size", "64x48", "--frames", "2", "--report", str(path)]
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", "layers", *flags])
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    composites, alphas = json.loads(path.read_text())["results"]["tables"]
    assert list(composites["rows"]["own plate, 8 bits"]) == list(alphas["rows"]["shadows"]) == ["1000", "1001"]
    for table, digits in ((composites, 1), (alphas, 4)):
        assert table["title"] in printed
        mean = np.mean(list(table["rows"][next(iter(table["rows"]))].values()))
        assert f"{mean:.{digits}f}" in printed


def test_a_model_that_cannot_be_used_is_told_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", "layers", "--seeds", "1000:1001", "--size", "64x48", "--frames", "2", "--model", "nowhere"])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
