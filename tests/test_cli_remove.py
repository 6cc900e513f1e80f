"""`layerlift remove` and `scene` from end to end, with a tiny random model."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.options import RemovalOptions, RuntimeOptions
from layerlift.report import Report
from layerlift.runtime import open_runtime
from layerlift.scenes import make_scene
from layerlift.stages.removal import remove_frames
from support import files, layerlift
from tiny_model import write_tiny_model

FRAMES, HEIGHT, WIDTH = 6, 40, 56
OBJECT = np.s_[10:22, 16:30]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A folder `swan` in the earlier systems' layout and an empty current folder; returns the clip's frames."""
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    like = Clip.from_array(frames, 30)
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    (tmp_path / "swan").mkdir()
    write_clip(tmp_path / "swan" / "video.mkv", frames, like, lossless=True)
    mask[:, *OBJECT] = True
    write_mask(tmp_path / "swan" / "total_mask.mkv", mask, like)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return frames


def test_folder_becomes_a_clean_plate_in_the_current_folder(
    video: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = layerlift("remove", "../swan", "--model", model, "--lossless", "--dilate", 2, "--report", "report.json")
    assert code == 0
    said = "wrote swan_remove.mkv (0% of the hidden pixels were seen elsewhere, 100% generated)\n"
    assert capsys.readouterr().out == said
    assert files() == ["report.json", "swan_remove.mkv"]
    result = open_clip("swan_remove.mkv")
    assert (result.frame_count, result.width, result.height, result.rate) == (FRAMES, WIDTH, HEIGHT, 30)
    beyond = np.ones((HEIGHT, WIDTH), bool)
    beyond[8:24, 14:32] = False
    np.testing.assert_array_equal(result.numpy()[:, beyond], video[:, beyond])
    assert (result.numpy()[:, *OBJECT] != video[:, *OBJECT]).mean() > 0.5

    report = json.loads(Path("report.json").read_text())
    assert list(report["stages"]) == ["evidence", "encode", "text", "denoise", "decode"]
    assert report["settings"]["lossless"] is True
    assert report["sizes"]["clip"] == [WIDTH, HEIGHT, FRAMES]
    assert report["peak_host_bytes"] > 0


def test_flags_do_what_the_options_do(video: np.ndarray, model: Path) -> None:
    still = np.zeros((HEIGHT, WIDTH), np.uint8)
    still[OBJECT] = 255
    cv2.imwrite("still.png", still)
    flags = (
        "--mask still.png -o out.mkv --lossless --steps 1 --guidance 2 --seed 5 --size 48x32 "
        "--dilate 4 --feather 3 --frames 1:4 --device cpu --dtype float32 --policy mps --no-cache --prompt Empty "
        "--evidence off --memory 4 --report r.json -v"
    )
    given = ["--model", model, *flags.split(), "--negative-prompt", ""]
    assert layerlift("remove", "../swan/video.mkv", *given) == 0
    record = Report()
    running = RuntimeOptions(model, memory=4, device="cpu", dtype="float32", backend="mps", cache=False)
    options = RemovalOptions(1, 2.0, "Empty", "", seed=5, size=(48, 32), dilate=4, feather=3, evidence="off")
    made = remove_frames(video[1:4], still > 0, options, open_runtime(running, report=record))
    np.testing.assert_array_equal(open_clip("out.mkv").numpy(), np.stack(list(made)))
    told = json.loads(Path("r.json").read_text())
    assert len(told["results"].pop("key")) == 32  # by which a batch knows what is done already
    assert (told["sizes"], told["results"]) == (record.as_dict()["sizes"], record.as_dict()["results"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--frames 4:9", "0:6"),
        ("--lossless -o out.mp4", ".mkv"),
        ("-o taken.mp4", "already exists"),
        ("-o nowhere/out.mp4", "does not exist"),
        ("--report taken.mp4", "already exists"),
        ("--mask no-such-mask.png", "no-such-mask.png"),
        ("--dilate 2 --feather 5", "feather"),
        ("--size 8x8", "8x8"),
        ("--window 3", "--window is 3 frames"),
        ("--prompt Fairies", "Empty"),
        ("--model no-such-model", "no-such-model"),
        ("--dtype float8", "float8"),
        ("--policy tpu", "tpu"),
        ("--evidence perhaps", "perhaps"),
        ("--source-map taken.mp4", "already exists"),
        ("--source-map swan_remove.mp4", "are the same file"),
        ("--provenance a.mp4 --source-map b.mp4", "give --source-map alone"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    flags: str, said: str, video: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken.mp4").write_text("mine")
    given = flags.split() if "--model" in flags else [*flags.split(), "--model", model]
    assert layerlift("remove", "../swan", *given) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("layerlift: ")
    assert streams.err.count("\n") == 1
    assert said in streams.err
    assert files() == ["taken.mp4"]
    assert Path("taken.mp4").read_text() == "mine"


@pytest.mark.parametrize(  # --provenance is what it was called before
    ("flag", "name"), [("--source-map", "from.mkv"), ("--source-map", "from.MKV"), ("--provenance", "from.mkv")]
)
def test_without_a_model_and_with_a_source_map(
    flag: str, name: str, video: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "none", "--dilate", 0, flag, name, "--lossless", "--report", "r.json"]
    assert layerlift("remove", "../swan", *flags) == 0
    settings = json.loads(Path("r.json").read_text())["settings"]
    assert settings["source_map"] == name
    assert "provenance" not in settings
    assert "0% of the hidden pixels were seen elsewhere, 100% filled in" in capsys.readouterr().out
    origin = open_clip(name).numpy()
    assert (origin[:, *OBJECT] == (255, 0, 255)).all()
    assert (origin[:, :10] == 0).all()
    assert (open_clip("swan_remove.mkv").numpy()[:, *OBJECT] != video[:, *OBJECT]).any(-1).mean() > 0.9


def test_the_old_name_of_the_source_map_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("remove", "--help") == 0
    said = capsys.readouterr().out
    assert "--source-map" in said
    assert "--provenance" not in said


def test_clip_without_a_mask_says_how_to_give_one(video: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("remove", "../swan/video.mkv", "--model", "demo") == 2
    assert "add --mask" in capsys.readouterr().err


def test_objects_of_a_folder_without_a_total_mask_are_removed_together(
    video: np.ndarray, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "swan"
    (folder / "total_mask.mkv").unlink()
    like = Clip.from_array(video, 30)
    for index, place in enumerate((np.s_[4:10, 4:10], np.s_[28:34, 40:50])):
        mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
        mask[:, *place] = True
        write_mask(folder / f"object_mask_{index}.mkv", mask, like)
    assert layerlift("remove", folder, "--model", model, "--lossless") == 0
    changed = (open_clip("swan_remove.mkv").numpy() != video).any((0, 3))
    assert changed[4:10, 4:10].all()
    assert changed[28:34, 40:50].all()
    assert not changed[14:24].any()


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, "the command ended before it could be interrupted"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["denoise", "write"])
def test_interrupt_ends_with_130_and_leaves_nothing_but_the_job(when: str, tmp_path: Path, model: Path) -> None:
    count = 8 if when == "denoise" else 120
    frames = np.random.default_rng(0).integers(0, 256, (count, 32, 48, 3), dtype=np.uint8)
    write_clip(tmp_path / "clip.mkv", frames, Clip.from_array(frames), lossless=True)
    still = np.zeros((32, 48), np.uint8)
    still[8:20, 8:20] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), still)
    before, job = {path.name for path in tmp_path.iterdir()}, ".clip_remove.mp4.layerlift-job"

    command = [sys.executable, "-m", "layerlift", "remove", "clip.mkv", "--mask", "mask.png", "--model", str(model)]
    # While denoising: with more steps than anyone would wait for. While writing: with windows enough to decode.
    command += ["--report", "report.json", "--guidance", "1", "--steps", "100000" if when == "denoise" else "1"]
    with (tmp_path.parent / f"{when}.err").open("w+") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=said, text=True)
        try:
            if when == "denoise":
                wait_until(lambda: "encode: done" in Path(said.name).read_text(), process)
                time.sleep(0.3)
            else:
                wait_until(lambda: {path.name for path in tmp_path.iterdir()} - {job} != before, process)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        lines = said.read().splitlines()
    assert process.returncode == 130
    assert lines[-1] == "layerlift: interrupted."
    assert [line for line in lines if "Traceback" in line] == []
    assert {path.name for path in tmp_path.iterdir()} == {*before, job}


def test_scene_is_the_layout_with_its_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seed = next(seed for seed in range(40) if make_scene(seed, 32, 32, 1).spec.object_count == 2)
    assert layerlift("scene", "--seed", seed, "--size", "64x48", "--frames", 3, "-o", "scene") == 0
    scene = make_scene(seed, 64, 48, 3)
    truth = {
        "video": scene.video,
        "truth/background": scene.background,
        "object_mask": scene.object_mask,
        "total_mask": scene.total_mask,
    }
    truth |= {f"object_mask_{i}": mask for i, mask in enumerate(scene.object_masks)}
    truth |= {f"truth/effects_{i}": mask for i, mask in enumerate(scene.effect_masks)}
    for name, frames in truth.items():
        expected = np.repeat(frames[..., None], 3, -1) * np.uint8(255) if frames.dtype == bool else frames
        np.testing.assert_array_equal(open_clip(f"scene/{name}.mkv").numpy(), expected, err_msg=name)
    for index, layer in enumerate(scene.layers):
        written = np.stack(list(open_clip(f"scene/truth/layer_{index}.mkv").rgba_frames()))
        np.testing.assert_array_equal(written, layer)
    files = {str(path.relative_to("scene").with_suffix("")) for path in Path("scene").rglob("*.mkv")}
    assert files == {*truth, "truth/layer_0", "truth/layer_1"}
