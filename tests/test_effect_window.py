"""One window from frames in memory to masks; what a benchmark on another machine relies on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from layerlift.device import choose_policy
from layerlift.fit import Geometry
from layerlift.model import open_model
from layerlift.model.testing import write_tiny_model
from layerlift.stages.effect_pixels import Decision
from layerlift.stages.effect_score import EvenHeads
from layerlift.stages.effect_window import Look, cells_of_frames, find_in_window
from layerlift.stages.effects import EffectOptions, find_effects


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_a_window_in_memory_gives_what_the_stage_gives(folder: Path) -> None:
    model, policy = open_model(folder), choose_policy("cpu", resident=True)
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    objects = np.zeros((2, 9, 48, 64), bool)
    objects[0, :, 10:30, 10:30] = True
    objects[1, 4:, 20:40, 40:60] = True
    text = model.text([""], policy)[0]
    scorer = EvenHeads((0, 1))
    with model.vae_encoder(policy) as vae, model.transformer(policy) as transformer:
        effects = find_in_window(
            vae,
            transformer,
            frames,
            objects,
            look=Look(scorer, (0.4,), (text.embeds, text.mask), model.geometry, model.settings.rate, policy),
            decision=Decision(0.2, scorer.clear),
            temporal_radius=2,
            seed=4,
        )
    assert effects.dtype == bool
    assert effects.any()
    options = EffectOptions(threshold=0.2, layers="all", seed=4, temporal_radius=2, prompt="")
    found = find_effects(frames, list(objects), options, model=model, policy=policy)
    assert (np.stack([frame.effects for frame in found], 1) == effects).all()


def test_cells_are_touched_by_any_pixel() -> None:
    objects = torch.zeros(1, 2, 32, 48, dtype=torch.bool)
    objects[0, 1, 16, 47] = True
    cells = cells_of_frames(objects, Geometry(16, 4, 8))
    assert cells.shape == (1, 2, 2, 3)
    assert cells.nonzero().tolist() == [[0, 1, 1, 2]]


def test_neither_opencv_nor_pyav_is_imported() -> None:
    code = "import sys, layerlift.stages.effect_window; sys.exit(bool({'cv2', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
