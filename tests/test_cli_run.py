"""`layerlift run` and `layerlift demo` from the command line to the files, with a tiny random model."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.cli.folder import whole_folder
from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.clip.rgba_reader import open_layer
from layerlift.engine.device import choose_policy
from layerlift.engine.device.needs import GIB
from layerlift.engine.model import open_model
from layerlift.options import (
    CompositionOptions,
    EffectOptions,
    ExtractionOptions,
    RemovalOptions,
    RunOptions,
    RuntimeOptions,
)
from layerlift.runtime import Runtime, open_runtime
from layerlift.scenes import make_scene
from layerlift.stages.effects import mask
from layerlift.stages.layers import extract
from layerlift.stages.run import boxed, run
from support import Instead, files, layerlift, watched, write_even_heads
from tiny_model import write_tiny_model

FRAMES, HEIGHT, WIDTH = 5, 40, 56
FRONT, HIND, TOTAL = np.s_[10:20, 16:26], np.s_[10:20, 36:44], np.s_[8:26, 14:46]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def mask_of(place: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[:, *place] = True
    return mask


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A clip, masks of its two objects, their total mask and another background, in the current folder."""
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).integers(90, 110, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames[:, *FRONT], frames[:, *HIND] = (220, 30, 30), (30, 30, 220)
    like = Clip.from_array(frames, 30)
    write_clip("walk.mkv", frames, like, lossless=True)
    write_clip("onto.mkv", np.full((FRAMES, HEIGHT, WIDTH, 3), 180, np.uint8), like, lossless=True)
    for name, place in {"front": FRONT, "hind": HIND, "total": TOTAL}.items():
        write_mask(f"{name}.mkv", mask_of(place), like)
    return frames


def test_run_writes_everything(walk: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--object front.mkv --object hind.mkv --total total.mkv --onto onto.mkv -o out --lossless --steps 1"
    assert layerlift("run", "walk.mkv", *flags.split(), "--model", model, "--report", "report.json") == 0
    said = capsys.readouterr().out
    assert said.startswith("wrote out (")
    assert "of the hidden pixels were seen elsewhere" in said
    assert files("out") == [
        *("background.mkv", "composite.mkv", "contact_sheet.png", "layer_0.mkv", "layer_1.mkv"),
        *("report.json", "total_mask.mkv"),
    ]
    assert [name for name in files() if name.startswith(".")] == []

    background = open_clip("out/background.mkv")
    assert (background.frame_count, background.rate, background.width) == (FRAMES, 30, WIDTH)
    np.testing.assert_array_equal(background.numpy()[:, 30:], walk[:, 30:])
    np.testing.assert_array_equal(open_clip("out/total_mask.mkv").numpy()[..., 0] > 127, mask_of(TOTAL))

    layers = [open_layer(f"out/layer_{index}.mkv") for index in range(2)]
    assert layers[0].numpy()[:, 13:17, 19:23, 3].min() > 0.9  # the front object, solid in its own layer
    assert layers[0].numpy()[:, 13:17, 38:42, 3].max() < 0.1
    assert layers[1].numpy()[:, 13:17, 38:42, 3].min() > 0.9

    composite = open_clip("out/composite.mkv")
    assert (composite.frame_count, composite.rate) == (FRAMES, 30)
    np.testing.assert_allclose(composite.numpy()[:, 13:17, 19:23], walk[:, 13:17, 19:23], atol=3)
    assert (composite.numpy()[:, 30:] == 180).all()

    report = json.loads(Path("out/report.json").read_text())
    stages = ["evidence", "encode", "text", "denoise", "decode", "survey", "extract", "compose", "contact sheet"]
    assert list(report["stages"]) == stages
    assert report["command"] == "run"
    assert json.loads(Path("report.json").read_text())["settings"] == report["settings"]
    sheet = cv2.imread("out/contact_sheet.png")
    assert sheet.shape[1] == 7 * (WIDTH + 4) + 4  # input, two masks, plate, two layers, composite


def test_run_of_a_folder_with_everyone_s_formats(walk: np.ndarray, model: Path) -> None:
    Path("swan").mkdir()
    for name, new in {"walk": "video", "front": "object_mask", "total": "total_mask"}.items():
        Path(f"{name}.mkv").rename(f"swan/{new}.mkv")
    assert layerlift("run", "swan", "-o", "out", "--steps", 1, "--model", model, "--frames", "1:4") == 0
    assert files("out") == ["background.mp4", "contact_sheet.png", "layer_0.mov", "report.json", "total_mask.mkv"]
    assert open_layer("out/layer_0.mov").frame_count == 3


def test_run_from_the_object_masks_alone(walk: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the objects cause is found first, and each object's own is what its layer is made of."""
    flags = (
        "--object front.mkv --object hind.mkv -o out --lossless --steps 1 --seed 4 --threshold 0.5 --witnesses model"
    )
    assert layerlift("run", "walk.mkv", *flags.split(), "--model", model) == 0
    found = mask(
        "walk.mkv", ["front.mkv", "hind.mkv"], model=model, seed=4, device="cpu", threshold=0.5, witnesses="model"
    )
    np.testing.assert_array_equal(open_clip("out/total_mask.mkv").numpy()[..., 0] > 127, found.total.numpy())
    assert found.total.numpy().sum() > (mask_of(FRONT) | mask_of(HIND)).sum()
    stages = list(json.loads(Path("out/report.json").read_text())["stages"])
    assert stages[:4] == ["text", "encode", "look", "draw"]
    assert stages[4:] == ["evidence", "denoise", "decode", "survey", "extract", "contact sheet"]
    layers = extract(walk, "out/background.mkv", ["front.mkv", "hind.mkv"], found.totals)
    for index, layer in enumerate(layers):
        np.testing.assert_allclose(open_layer(f"out/layer_{index}.mkv").numpy(), layer.numpy(), atol=1 / 65535)


def test_a_total_mask_is_taken_as_it_is(walk: np.ndarray, model: Path) -> None:
    flags = "--object front.mkv --object hind.mkv --total front.mkv --total total.mkv -o out --steps 1"
    assert layerlift("run", "walk.mkv", *flags.split(), "--model", model) == 0
    np.testing.assert_array_equal(open_clip("out/total_mask.mkv").numpy()[..., 0] > 127, mask_of(TOTAL))
    assert "look" not in json.loads(Path("out/report.json").read_text())["stages"]


def test_run_without_a_model(walk: np.ndarray) -> None:
    flags = "walk.mkv --object front.mkv --total total.mkv -o out --model none"
    assert layerlift("run", *flags.split()) == 0
    assert json.loads(Path("out/report.json").read_text())["stages"].keys().isdisjoint({"encode", "denoise"})


@pytest.mark.slow
def test_run_takes_the_flags_of_every_stage(walk: np.ndarray, model: Path) -> None:
    flags = (
        "--object front.mkv --onto onto.mkv -o out --lossless --threshold 0.6 --refine plate --temporal-radius 1 "
        "--sigma 0.3 --steps 2 --dilate 3 --evidence off --dense --window 5 --edge 2 --noise 9 --offset 4,-2 "
        "--scale 0.5 --start 1 --sound none --size 48x32 --seed 3"
    )
    assert layerlift("run", "walk.mkv", *flags.split(), "--model", model) == 0
    options = RunOptions(
        RemovalOptions(steps=2, dilate=3, evidence="off", dense=True, window=5, size=(48, 32), seed=3),
        EffectOptions(0.6, (0.3,), temporal_radius=1, refine="plate", size=(48, 32), seed=3),
        ExtractionOptions(edge=2, noise=9),
        CompositionOptions((4, -2), 0.5, 1, sound="none"),
        lossless=True,
    )
    runtime = open_runtime(RuntimeOptions(model))
    made = run("walk.mkv", ["front.mkv"], "same", onto="onto.mkv", options=options, runtime=runtime)
    for path in (made.background, made.total_mask, made.composite, *made.layers):
        assert path is not None
        reading = open_layer if path in made.layers else open_clip
        np.testing.assert_array_equal(reading(f"out/{path.name}").numpy(), reading(path).numpy(), path.name)
    told = json.loads(Path("out/report.json").read_text())
    own = runtime.report.as_dict()
    assert (told["sizes"], list(told["stages"])) == (own["sizes"], list(own["stages"]))
    assert "evidence" not in told["stages"]
    composite = open_clip("out/composite.mkv").numpy()
    assert (composite[0] == 180).all()  # the layer begins a frame later
    assert (composite[1] != 180).any()


def test_run_with_evidence_only_generates_nothing(
    walk: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--object front.mkv --total total.mkv -o out --evidence only"
    assert layerlift("run", "walk.mkv", *flags.split(), "--model", model) == 0
    assert "filled in" in capsys.readouterr().out
    assert json.loads(Path("out/report.json").read_text())["stages"].keys().isdisjoint({"encode", "denoise"})


def test_small_models_are_read_once_and_freed_at_the_end(walk: np.ndarray, model: Path) -> None:
    """Each part stays where the same rules open it again; with a limit of memory none does."""
    closed: list[bool] = []
    opened_model = open_model(model)
    assert opened_model.stays_in_memory()
    engine, opened = watched(Instead(opened_model, close=lambda: closed.append(True)))
    for memory, stays in ((None, True), (8 * GIB, False)):
        runtime = Runtime(engine, choose_policy("cpu"), memory_bytes=memory)
        run("walk.mkv", ["front.mkv"], f"out_{stays}", options=RunOptions(RemovalOptions(steps=1)), runtime=runtime)
        assert [part for part, _ in opened] == ["encoding", "scoring", "encoding", "denoising", "decoding"]
        assert {policy.resident for _, policy in opened} == {stays}
        assert len({repr(policy) for _, policy in opened}) == 1
        assert closed == [True]
        opened.clear()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "add --object"),
        ("--object nothing.mkv", "nothing.mkv"),
        ("--object total.mkv --total front.mkv", "outside the total mask"),
        ("--object front.mkv --total total.mkv --onto nothing.mp4", "nothing.mp4"),
        ("--object front.mkv --total total.mkv --model no-such-model", "no-such-model"),
        ("--object front.mkv --total total.mkv --size 8x8", "8x8"),
        ("--object front.mkv --object hind.mkv --total front.mkv --total hind.mkv --total total.mkv", "3 total masks"),
        ("--object front.mkv --object hind.mkv --total total.mkv --total front.mkv", "hind.mkv lies outside"),
        ("--object front.mkv --offset 3,4", "--offset works only with --onto"),
        ("--object front.mkv --total total.mkv --sigma 0.3", "--sigma is for finding effects"),
        ("--object front.mkv --prompt dog", "text encoder"),
        ("--object front.mkv --memory 0.1", "give --memory"),
        ("--object front.mkv --memory 0", "--memory 0 cannot be used"),
        ("--object front.mkv --total total.mkv --frames 3:9", "0:5"),
        ("--object front.mkv --total total.mkv --report walk.mkv", "would overwrite the input CLIP walk.mkv"),
        ("--object front.mkv --total total.mkv -o taken/mine.txt", "is a file"),
        ("--object front.mkv --total total.mkv -o a/b", "is in a folder that does not exist"),
        ("--object front.mkv --total total.mkv -o taken", "not empty"),
        ("--object front.mkv --total total.mkv -o taken --overwrite", "mine.txt"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    flags: str, said: str, walk: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("mine")
    before = files()
    flags += " -o out" if "-o" not in flags.split() else ""
    given = flags.split() if "--model" in flags else [*flags.split(), "--model", model]
    assert layerlift("run", "walk.mkv", *given) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert files() == before
    assert files("taken") == ["mine.txt"]


def test_earlier_run_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, overwrite=False) as folder:
        assert not out.exists()
        (folder / "layer_0.mov").write_text("first")

    def interrupted() -> None:
        with whole_folder(out, overwrite=True) as folder:
            (folder / "layer_0.mov").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (out / "layer_0.mov").read_text() == "first"
    with whole_folder(out, overwrite=True) as folder:
        (folder / "background.mp4").write_text("second")
    assert files(out) == ["background.mp4"]
    assert files(tmp_path) == ["out"]


def test_an_earlier_run_of_a_clip_with_alpha_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    still = np.zeros((HEIGHT, WIDTH), np.uint8)
    still[FRONT] = 255
    cv2.imwrite("front.png", still)
    Path("walk").mkdir()
    for number in range(2):
        picture = np.full((HEIGHT, WIDTH, 4), 100, np.uint8)
        picture[FRONT] = 200
        cv2.imwrite(f"walk/{number:05d}.png", picture)
    flags = "--object front.png --total front.png --model none -o out"
    assert layerlift("run", "walk", *flags.split()) == 0
    assert "background.mov" in files("out")  # MP4 holds no alpha
    assert layerlift("run", "walk", *flags.split(), "--overwrite") == 0


@pytest.mark.slow
def test_interrupt_leaves_nothing_but_the_job(tmp_path: Path) -> None:
    # Long enough to be interrupted between the stages; without a model, whose import would be most of the time.
    frames = np.random.default_rng(0).integers(90, 110, (80, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_clip(tmp_path / "walk.mkv", frames, Clip.from_array(frames, 30), lossless=True)
    still = np.zeros((HEIGHT, WIDTH), np.uint8)
    still[FRONT] = 255
    cv2.imwrite(str(tmp_path / "front.png"), still)
    before = files(tmp_path)
    command = [sys.executable, "-m", "layerlift", "run", "walk.mkv", "--object", "front.png", "--total", "front.png"]
    command += ["-o", "out", "--model", "none"]
    with (tmp_path.parent / "run.err").open("w+") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=said, text=True)
        try:
            while "gather: done" not in Path(said.name).read_text():
                assert process.poll() is None, "the command ended before it could be interrupted"
                time.sleep(0.01)
            assert any(name.startswith(".layerlift-") for name in files(tmp_path))
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        assert said.read().splitlines()[-1] == "layerlift: interrupted."
    assert process.returncode == 130
    assert {*files(tmp_path)} == {*before, ".out.layerlift-job"}


def test_pictures_of_another_shape_get_bars() -> None:
    made = boxed(np.full((10, 40, 3), 255, np.uint8), (20, 20))
    assert made.shape == (20, 20, 3)
    assert (made[8:12] == 255).all()
    assert (made[[0, -1]] == 0).all()


def test_demo_shows_every_stage_beside_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = write_even_heads(write_tiny_model(tmp_path / "tiny"), 0.45)
    flags = ["demo", "-o", "demo", "--seed", 7, "--size", "64x48", "--frames", 5, "-v", "--report", "report.json"]
    flags += ["--model", tiny]
    for extra in ([], ["--overwrite"]):
        assert layerlift(*flags, *extra) == 0
        assert capsys.readouterr().out == "wrote demo: look at demo/contact_sheet.png\n"
    assert files("demo/result") == ["background.mp4", "layer_0.mov", "report.json", "total_mask.mkv"]
    sheet = cv2.imread("demo/contact_sheet.png")[..., ::-1]
    assert sheet.shape[:2] == (26 + 4 * (48 + 4), 6 * (64 + 4) + 4)
    scene = make_scene(7, 64, 48, 5)
    # From the object mask alone: the truth is shown and compared with, not used.
    found = mask(scene.video, scene.object_masks[0], model=tiny, seed=7, device="cpu")
    np.testing.assert_array_equal(open_clip("demo/result/total_mask.mkv").numpy()[..., 0] > 127, found.total.numpy())
    assert json.loads(Path("report.json").read_text())["stages"]["look"]["seconds"] > 0
    np.testing.assert_array_equal(sheet[26 : 26 + 48, 4 : 4 + 64], scene.video[0])
    np.testing.assert_array_equal(sheet[26 : 26 + 48, 4 + 4 * 68 : 4 * 68 + 68], scene.background[0])
