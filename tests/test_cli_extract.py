"""`layerlift extract` from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import Clip, write_clip, write_mask
from layerlift.clip.rgba import to_linear
from layerlift.clip.rgba_reader import open_layer
from layerlift.scenes import Scene, make_scene
from layerlift.scenes.folder import write_scene
from layerlift.stages.layers import extract
from support import files, layerlift

ONE, TWO = 1000, 1008


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, Scene]]:
    made = {}
    for seed in (ONE, TWO):
        scene = make_scene(seed, 96, 64, 3)
        folder = tmp_path_factory.mktemp("scenes") / f"scene{seed}"
        write_scene(scene, folder)
        made[seed] = folder, scene
    return made


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def psnr(layer: np.ndarray, plate: np.ndarray, clip: np.ndarray) -> float:
    made = layer[..., :3] * layer[..., 3:] + (1 - layer[..., 3:]) * plate
    return float(-10 * np.log10(np.mean(np.square(made - clip)) + 1e-12))


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("", "scene1000_layer.mov"),
        ("--lossless", "scene1000_layer.mkv"),
        ("-o layer.mkv --bits 8", "layer.mkv"),
        ("-o layer.mov --premultiplied", "layer.mov"),
        ("-o layer.webm", "layer.webm"),
        ("-o layer", "layer"),
        ("--format png", "scene1000_layer"),
        ("-o layer --format exr", "layer"),
    ],
)
def test_folder_becomes_a_layer(
    scenes: dict[int, tuple[Path, Scene]], flags: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, scene = scenes[ONE]
    assert layerlift("extract", folder, "--background", folder / "truth" / "background.mkv", *flags.split()) == 0
    assert capsys.readouterr().out == f"wrote {name}\n"
    assert files() == [name]
    layer = open_layer(name)
    assert layer.linear == ("exr" in flags)
    light = to_linear if layer.linear else lambda values: values
    plate, clip = light(scene.background / np.float32(255)), light(scene.video / np.float32(255))
    assert psnr(layer.numpy(), plate, clip) > (36 if "webm" in flags else 45)


def test_objects_get_a_file_each_and_the_report_says_what_was_done(scenes: dict[int, tuple[Path, Scene]]) -> None:
    folder, scene = scenes[TWO]
    flags = ["--background", folder / "truth" / "background.mkv", "--report", "report.json"]
    assert layerlift("extract", folder, *flags, "-o", "layer.mkv") == 0
    assert files() == ["layer_0.mkv", "layer_1.mkv", "report.json"]
    for index in (0, 1):  # numbered as the masks are
        alpha = open_layer(f"layer_{index}.mkv").numpy()[..., 3]
        own, other = scene.object_masks[index], scene.object_masks[1 - index]
        assert alpha[own & ~other].mean() > 0.6
        assert alpha[other & ~own].mean() < 0.3
    report = json.loads(Path("report.json").read_text())
    assert list(report["stages"]) == ["survey", "extract"]
    assert report["sizes"]["layers"] == 2
    assert report["settings"]["bits"] is None

    masks = [folder / f"object_mask_{index}.mkv" for index in (1, 0)]  # the frontmost first
    flags += ["--object", masks[0], "--object", masks[1], "--total", folder / "total_mask.mkv", "--overwrite"]
    assert layerlift("extract", folder / "video.mkv", *flags, "-o", "given.mkv") == 0
    np.testing.assert_array_equal(open_layer("given_0.mkv").numpy(), open_layer("layer_1.mkv").numpy())


def test_flags_do_what_the_options_do(scenes: dict[int, tuple[Path, Scene]]) -> None:
    folder, scene = scenes[ONE]
    masks = ["--background", folder / "truth" / "background.mkv", "--object", folder / "object_mask.mkv"]
    flags = "-o layer.mkv --edge 1 --noise 2.5 --frames 1:3 -v"
    assert layerlift("extract", folder / "video.mkv", *masks, *flags.split()) == 0
    # The total mask in the clip's folder is not taken where objects are typed.
    given = scene.video[1:3], scene.background[1:3], scene.object_masks[0][1:3]
    (made,) = extract(*given, edge=1, noise=2.5)
    np.testing.assert_allclose(open_layer("layer.mkv").numpy(), made.numpy(), atol=1 / 65535)
    (usual,) = extract(*given)
    assert np.abs(usual.numpy() - made.numpy()).max() > 0.1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--background short.mkv", "2 frames"),
        ("--background small.mkv", "48x64"),
        ("--background nothing.mkv", "does not exist"),
        ("--background plate.mkv --total corner.mkv", "outside the total mask"),
        ("--background plate.mkv --object empty.mkv", "empty"),
        ("--background plate.mkv -o layer.mp4", ".mov"),
        ("--background plate.mkv -o layer.gif", ".mov"),
        ("--background plate.mkv -o plate.mkv", "would overwrite the input --background plate.mkv"),
        ("--background plate.mkv -o layer.mov --lossless", "not lossless"),
        ("--background plate.mkv -o layer --format tiff", "'png', 'exr'"),
        ("--background plate.mkv --bits 12", "'8', '16'"),
        ("--background plate.mkv -o nowhere/layer.mov", "does not exist"),
        ("--background plate.mkv --report plate.mkv", "would overwrite the input --background plate.mkv"),
        ("--background plate.mkv --frames 2:9", "0:3"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    scenes: dict[int, tuple[Path, Scene]], flags: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, scene = scenes[ONE]
    like = Clip.from_array(scene.video)
    write_clip("plate.mkv", scene.background, like, lossless=True)
    write_clip("short.mkv", scene.background[:2], like.cut(0, 2), lossless=True)
    write_clip("small.mkv", scene.background[:, :, :48], Clip.from_array(scene.video[:, :, :48]), lossless=True)
    corner = np.zeros_like(scene.object_masks[0])
    write_mask("empty.mkv", corner, like)
    corner[:, :8, :8] = True
    write_mask("corner.mkv", corner, like)
    before = files()
    assert layerlift("extract", folder, *flags.split()) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert files() == before


def test_a_clip_without_masks_beside_it_needs_them(
    scenes: dict[int, tuple[Path, Scene]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = scenes[ONE]
    assert layerlift("extract", folder / "video.mkv", "--background", folder / "truth" / "background.mkv") == 2
    assert "--object" in capsys.readouterr().err
