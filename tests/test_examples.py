"""The examples run: the script without a model, the notebook's cells in order with the demo model."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from layerlift import open_clip, open_layer
from layerlift.metrics import psnr
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene
from support import files

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def test_script_writes_a_plate_and_a_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = make_scene(1003, 96, 64, 5)
    write_scene(scene, tmp_path / "scene")
    names = ("video.mkv", "total_mask.mkv", "object_mask.mkv")
    main = runpy.run_path(str(EXAMPLES / "clean_plate.py"))["main"]
    main(*(str(tmp_path / "scene" / name) for name in names), str(tmp_path / "results"))
    assert files(tmp_path / "results") == ["layer.mov", "plate.mp4"]
    assert open_clip(tmp_path / "results" / "plate.mp4").numpy().shape == scene.video.shape
    assert open_layer(tmp_path / "results" / "layer.mov").numpy()[..., 3].max() > 0.9
    assert "…" in capsys.readouterr().out, "each stage is named"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "outputs are not kept: they are large, and differ from run to run"
            exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), names)  # our own
    assert {"plate.mp4", "layer.mov"} <= set(files())
    plate, truth, frames, total = (names[name] for name in ("plate", "truth", "frames", "total"))
    assert psnr(plate.numpy(), truth, total) > psnr(frames, truth, total) + 6
    assert np.array_equal(plate.numpy()[:, :2], frames[:, :2]), "far from the object the clip is as it was"
