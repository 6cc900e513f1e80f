"""A worker's model stays opened from clip to clip, with its weights, and gives what a model of its own gives."""

import shutil
from pathlib import Path

import pytest

from layerlift.engine.model.opening import demo_folder
from layerlift.errors import InputError
from layerlift.runtime import Runtime
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene
from layerlift.stages.choose_model import OPEN, choose_model
from layerlift.workers.kept import Models
from support import layerlift


def test_the_same_model_is_opened_once_and_another_takes_its_place(tmp_path: Path) -> None:
    models = Models()
    first = models.open("demo", None)
    assert models.open("demo", None) is first
    copy = shutil.copytree(demo_folder(), tmp_path / "copy")
    other = models.open(copy, None)
    assert other is not first
    assert models.open(copy, None) is other
    (copy / "config.json").touch()
    assert models.open(copy, None) is not other
    with pytest.raises(InputError, match="nothing"):
        models.open("nothing", None)


def test_commands_open_models_as_their_process_says() -> None:
    models = Models()
    token = OPEN.set(models.open)
    try:
        found, notes = choose_model(Runtime("demo"))
        assert found is models.open("demo", None)
        assert notes == []
        assert choose_model(Runtime("none"))[0] is None
    finally:
        OPEN.reset(token)
    assert choose_model(Runtime("demo"))[0] is not found


def test_weights_stay_when_a_run_ends_and_its_result_is_the_same(tmp_path: Path) -> None:
    write_scene(make_scene(0, 64, 32, 5), tmp_path / "scene")
    flags = (
        "--model",
        "demo",
        "--steps",
        "1",
        "--evidence",
        "off",
        "--lossless",
        "--total",
        tmp_path / "scene/total_mask.mkv",
    )
    clip = ("run", tmp_path / "scene/video.mkv", "--object", tmp_path / "scene/object_mask.mkv", *flags)
    assert layerlift(*clip, "-o", tmp_path / "alone") == 0
    models = Models()
    token = OPEN.set(models.open)
    try:
        for name in ("first", "second"):
            assert layerlift(*clip, "-o", tmp_path / name) == 0
        kept = models.open("demo", None)
        assert {kind for kind, _ in kept._model._kept} == {"encoder", "transformer", "decoder"}
    finally:
        OPEN.reset(token)
    for name in ("first", "second"):
        for file in ("background.mkv", "layer_0.mkv"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    models.free()
    assert kept._model._kept == {}
