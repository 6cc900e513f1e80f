"""`layerlift mask` and `remove --object` from the command line to the files, with a tiny random model."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.errors import InputError
from layerlift.masks import open_mask
from layerlift.options import EffectOptions, RemovalOptions, RuntimeOptions
from layerlift.parse import parse_layers, parse_sigmas
from layerlift.report import Report
from layerlift.runtime import Runtime, open_runtime
from layerlift.scenes import make_scene
from layerlift.stages.effects import find_effects, plan_effects, run_effects
from support import files, layerlift
from tiny_model import write_tiny_model

FRAMES, HEIGHT, WIDTH = 6, 40, 56
FIRST, SECOND = np.s_[10:22, 16:30], np.s_[24:36, 36:50]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A folder `swan` with a video and two object masks, the same masks as stills, and an empty current folder."""
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    like = Clip.from_array(frames, 30)
    (tmp_path / "swan").mkdir()
    write_clip(tmp_path / "swan" / "video.mkv", frames, like, lossless=True)
    for number, where in enumerate((FIRST, SECOND)):
        mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
        mask[:, *where] = True
        write_mask(tmp_path / "swan" / f"object_mask_{number}.mkv", mask, like)
        cv2.imwrite(str(tmp_path / f"still_{number}.png"), mask[0].astype(np.uint8) * 255)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return frames


def read_mask(name: str) -> np.ndarray:
    return open_clip(name).numpy()[..., 0] > 127


def test_a_folder_with_two_objects(video: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--threshold 0.1 --witnesses model --save-scores s.safetensors --preview p.png --report r.json"
    assert layerlift("mask", "../swan", "--model", model, *flags.split()) == 0
    assert files() == ["p.png", "r.json", "s.safetensors", "swan_mask.mkv", "swan_mask_0.mkv", "swan_mask_1.mkv"]
    said = capsys.readouterr().out
    assert said.startswith("wrote swan_mask.mkv (objects ")
    total, first, second = (read_mask(f"swan_mask{end}.mkv") for end in ("", "_0", "_1"))
    assert total.shape == (FRAMES, HEIGHT, WIDTH)
    assert (total == first | second).all()
    assert first[:, *FIRST].all()
    assert second[:, *SECOND].all()
    assert not first[:, *SECOND].any()
    assert open_clip("swan_mask.mkv").rate == 30
    assert (open_mask("swan_mask.mkv", open_clip("../swan")).numpy() == total).all()

    scores = load_file("s.safetensors")["scores"]
    assert scores.shape == (2, FRAMES, 3, 4)
    picture = cv2.imread("p.png")
    assert picture.shape[1] > 3 * WIDTH
    report = json.loads(Path("r.json").read_text())
    assert list(report["stages"]) == ["text", "encode", "look", "draw"]
    assert report["results"]["threshold"] == 0.1
    share = total & ~(np.isin(np.arange(HEIGHT)[:, None], np.r_[10:22]) & np.isin(np.arange(WIDTH), np.r_[16:30]))
    assert report["results"]["effect share"] <= share.mean()
    assert report["settings"]["threshold"] == 0.1


def test_flags_do_what_the_options_do(video: np.ndarray, model: Path) -> None:
    flags = (
        "--object ../still_0.png --object ../still_1.png -o out/ --threshold 0.4 --refine none "
        "--dilate 2 --temporal-radius 3 --max-distance 25 --sigma 0.2,0.6 --layers 1 --seed 7 --size 48x32 "
        "--frames 1:5 --device cpu --dtype float32 --policy mps --no-cache --prompt Empty --memory 4 "
        "--save-scores s.safetensors --report r.json -v --witnesses model"
    )
    assert layerlift("mask", "../swan/video.mkv", "--model", model, *flags.split()) == 0
    assert files() == ["out", "out_0", "out_1", "r.json", "s.safetensors"]
    assert len(list(Path("out").iterdir())) == 4
    record = Report()
    running = RuntimeOptions(model, memory=4, device="cpu", dtype="float32", backend="mps", cache=False)
    options = EffectOptions(0.4, (0.2, 0.6), 2, 3, 25, (1,), "none", 7, (48, 32), "Empty", "model")
    stills = [np.zeros((HEIGHT, WIDTH), bool) for _ in range(2)]
    stills[0][FIRST] = stills[1][SECOND] = True
    found = list(find_effects(video[1:5], stills, options, open_runtime(running, report=record)))
    for number in (0, 1):
        np.testing.assert_array_equal(read_mask(f"out_{number}"), [frame.totals[number] for frame in found])
    np.testing.assert_array_equal(load_file("s.safetensors")["scores"], np.stack([frame.scores for frame in found], 1))
    told = json.loads(Path("r.json").read_text())
    assert told["sizes"] == record.as_dict()["sizes"]
    assert record.results.items() <= told["results"].items()
    assert np.stack([frame.effects for frame in found]).any()


@pytest.mark.slow
def test_flags_of_a_removal_say_how_a_plate_is_made(
    video: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--object ../still_0.png -o m.mkv --threshold 0.1 --seed 3 --size 48x32 --report r.json"
    ways = "--refine plate --steps 2 --evidence off"
    command = ["mask", "../swan/video.mkv", "--model", model, *flags.split()]
    assert layerlift(*command, *ways.split()) == 0
    assert "evidence" not in json.loads(Path("r.json").read_text())["stages"]
    still = np.zeros((HEIGHT, WIDTH), bool)
    still[FIRST] = True
    options = EffectOptions(0.1, refine="plate", seed=3, size=(48, 32))
    plate = RemovalOptions(steps=2, evidence="off", seed=3, size=(48, 32))
    found = run_effects(plan_effects(video, still, options, open_runtime(RuntimeOptions(model)), plate))
    np.testing.assert_array_equal(read_mask("m.mkv"), [frame.totals[0] for frame in found])
    assert layerlift(*command, "--steps", 2, "--overwrite") == 2
    assert "--steps works only with --refine plate" in capsys.readouterr().err


def test_one_object_gives_one_mask_and_a_video_of_it(video: np.ndarray, model: Path) -> None:
    flags = "--object ../still_1.png -o m.mp4 --preview p.mp4"
    assert layerlift("mask", "../swan/video.mkv", "--model", model, *flags.split()) == 0
    assert files() == ["m.mp4", "p.mp4"]
    shown = open_clip("p.mp4")
    assert (shown.frame_count, shown.width, shown.height) == (FRAMES, 2 * WIDTH, HEIGHT)
    assert read_mask("m.mp4")[:, 28:32, 40:46].all()


def test_a_video_of_what_was_found_in_a_clip_with_alpha(video: np.ndarray, model: Path) -> None:
    seen = np.dstack([video.reshape(-1, WIDTH, 3), np.full((FRAMES * HEIGHT, WIDTH), 9, np.uint8)])
    like = Clip.from_array(video, 30)
    write_clip("glass.mkv", seen.reshape(FRAMES, HEIGHT, WIDTH, 4), like, lossless=True)
    flags = "--object ../still_0.png -o m.mkv --preview p.mp4"
    assert layerlift("mask", "glass.mkv", "--model", model, *flags.split()) == 0
    assert open_clip("p.mp4").numpy().shape == (FRAMES, HEIGHT, 2 * WIDTH, 3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--sigma half", "--sigma 'half'"),
        ("--sigma 1.5", "1.5"),
        ("--layers first", "--layers 'first'"),
        ("--layers 5-3", "counts down"),
        ("--layers 99", "from 0 to 1"),
        ("--threshold 2", "--threshold"),
        ("--refine better", "'edges', 'none', 'plate'"),
        ("--preview p.gif", ".png nor .mp4"),
        ("--preview nowhere/p.png", "is in a folder that does not exist"),
        ("--save-scores s.npz", ".safetensors"),
        ("--save-scores nowhere/s.safetensors", "is in a folder that does not exist"),
        ("-o taken.mkv", "already exists"),
        ("--preview taken.png", "already exists"),
        ("-o same.mp4 --preview same.mp4", "are the same file"),
        ("--object no-such.png", "no-such.png"),
        ("--model no-such-model", "no-such-model"),
        ("--size 8x8", "8x8"),
        ("-o m.mp4 --lossless", "change the extension to .mkv"),
        ("--memory 0.1", "give --memory"),
        ("--memory -1", "--memory"),
    ],
)
def test_mistakes_are_told_before_any_work(
    video: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str], flags: str, said: str
) -> None:
    for name in ("taken.mkv", "taken.png"):
        Path(name).write_text("precious")
    given = flags.split() if "--model" in flags else [*flags.split(), "--model", model]
    assert layerlift("mask", "../swan", *given) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert files() == ["taken.mkv", "taken.png"]
    assert Path("taken.mkv").read_text() == "precious"


def test_no_object_mask_anywhere(video: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("mask", "../swan/video.mkv", "--model", model) == 2
    assert "--object" in capsys.readouterr().err


def test_sigmas_and_layers_as_typed() -> None:
    assert parse_sigmas("0.3, 0.5") == (0.3, 0.5)
    assert parse_layers("auto") == "auto"
    assert parse_layers("3,5-7") == (3, 5, 6, 7)
    with pytest.raises(InputError):
        parse_layers("3-")


@pytest.mark.slow
def test_remove_finds_the_effects_of_an_object_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scene = make_scene(1001, frames=9)
    like = Clip.from_array(scene.video, 30)
    write_clip("walk.mkv", scene.video, like, lossless=True)
    write_mask("object.mkv", scene.object_mask, like)
    flags = "--object object.mkv --lossless --dilate 0 --feather 0 --model none --report r.json"
    assert layerlift("remove", "walk.mkv", *flags.split()) == 0
    totals = np.stack([frame.totals[0] for frame in find_effects("walk.mkv", "object.mkv", runtime=Runtime("none"))])
    assert totals.sum() > 1.3 * scene.object_mask.sum()
    differs = (open_clip("walk_remove.mkv").numpy() != scene.video).any(-1)
    assert not (differs & ~totals).any()
    assert differs[totals & ~scene.object_mask].mean() > 0.5
    assert differs[scene.object_mask].mean() > 0.5
    assert next(iter(json.loads(Path("r.json").read_text())["stages"])) == "clip"


@pytest.mark.parametrize("typed", ["--object", "--mask"])
def test_a_mask_that_is_typed_wins_over_the_total_mask_that_is_found(video: np.ndarray, typed: str) -> None:
    total = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    total[:, *SECOND] = True
    write_mask("../swan/total_mask.mkv", total, Clip.from_array(video, 30))
    flags = f"{typed} ../still_0.png --model none --evidence only --lossless --report r.json"
    assert layerlift("remove", "../swan", *flags.split()) == 0
    differs = (open_clip("swan_remove.mkv").numpy() != video).any(-1)
    assert differs[:, *FIRST].mean() > 0.9
    assert not differs[:, *SECOND].any()


def test_a_total_mask_that_is_found_is_taken_where_none_is_typed(video: np.ndarray, model: Path) -> None:
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[:, 5:30, 5:30] = True
    write_mask("../swan/total_mask.mkv", mask, Clip.from_array(video, 30))
    assert layerlift("remove", "../swan", "--model", model, "--steps", 1, "--report", "r.json") == 0
    stages = json.loads(Path("r.json").read_text())["stages"]
    assert "denoise" in stages
    assert "look" not in stages


@pytest.mark.usefixtures("video")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--mask ../still_0.png --object ../still_1.png", "both --mask and --object"),
        ("--object ../still_0.png --dilate 2 --feather 5", "feather"),
        ("--object ../still_0.png --prompt Fairies", "Empty"),
    ],
)
def test_remove_refuses_before_effects_are_looked_for(
    model: Path, capsys: pytest.CaptureFixture[str], flags: str, said: str
) -> None:
    given = flags.split() if "--model" in flags else [*flags.split(), "--model", model]
    assert layerlift("remove", "../swan/video.mkv", *given) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert error.count("\n") == 1  # no stage has told of itself
    assert files() == []


@pytest.mark.slow
def test_what_is_painted_soft_and_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scene = make_scene(1001, frames=9)
    like = Clip.from_array(scene.video, 30)
    write_clip("walk.mkv", scene.video, like, lossless=True)
    write_mask("object.mkv", scene.object_mask, like)
    painted = np.zeros(scene.video.shape[1:3], bool)
    painted[4:20, 250:280] = True
    cv2.imwrite("more.png", painted.astype(np.uint8) * 255)
    flags = "--object object.mkv --model none -o m.mkv --effects more.png@4 --soft s.mkv --explain e.png"
    assert layerlift("mask", "walk.mkv", *flags.split(), "--report", "r.json") == 0
    total, soft = read_mask("m.mkv"), open_clip("s.mkv").numpy()[..., 0]
    assert total[4][painted].all()
    assert total[5][painted].mean() > 0.5  # a frame nearby follows, though nothing is there
    assert not total[0][painted].any()
    assert (soft[scene.object_mask] == 255).all()
    assert (soft[~total] == 0).all()
    assert 0 < np.median(soft[total & ~scene.object_mask]) < 255
    assert cv2.imread("e.png").shape[1] > 3 * scene.video.shape[2]
    assert json.loads(Path("r.json").read_text())["results"]["kinds"] == ["shadow"]
    eraser = "--object object.mkv --model none -o n.mkv --not-effects all.png"
    nearly = np.full(painted.shape, 255, np.uint8)
    nearly[0, 0] = 0
    cv2.imwrite("all.png", nearly)
    assert layerlift("mask", "walk.mkv", *eraser.split()) == 0
    assert (read_mask("n.mkv") == scene.object_mask).all()


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ("--kinds glow", "unknown --kinds 'glow': choose from shadow"),
        ("--kinds light --witnesses model", "--kinds needs the clip's own witness"),
        ("--effects ../still_0.png@99", "--effects is for frame 99, but video has frames 0 to"),
        ("--explain e.jpg", "--explain e.jpg does not end in .png"),
        ("--soft s.mkv --witnesses model", "--soft needs the clip's own witness"),
    ],
)
def test_what_cannot_be_asked(
    video: np.ndarray, model: Path, flags: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert layerlift("mask", "../swan/video.mkv", "--object", "../still_0.png", "--model", model, *flags.split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert part in line
    assert files() == []


@pytest.mark.slow
def test_what_was_seen_serves_another_threshold_and_no_other_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scene = make_scene(1001, frames=9)
    like = Clip.from_array(scene.video, 30)
    write_clip("walk.mkv", scene.video, like, lossless=True)
    write_mask("object.mkv", scene.object_mask, like)
    flags = ["--object", "object.mkv", "--model", "none", "--seen", "seen"]
    assert layerlift("mask", "walk.mkv", *flags, "-o", "first.mkv") == 0
    anew = ["--object", "object.mkv", "--model", "none", "--threshold", "0.8", "-o", "anew.mkv"]
    assert layerlift("mask", "walk.mkv", *anew) == 0

    def never(*given: object) -> None:
        raise AssertionError("it was looked at once more")

    with monkeypatch.context() as patched:
        patched.setattr("layerlift.finder.find.look_at", never)
        assert layerlift("mask", "walk.mkv", *flags, "--threshold", "0.8", "-o", "again.mkv") == 0
        np.testing.assert_array_equal(read_mask("again.mkv"), read_mask("anew.mkv"))
        assert (read_mask("first.mkv") != read_mask("anew.mkv")).any()
        write_mask("object.mkv", scene.object_mask[:, ::-1], like, overwrite=True)
        with pytest.raises(AssertionError, match="once more"):
            layerlift("mask", "walk.mkv", *flags, "-o", "other.mkv")
    assert len(files("seen")) == 1  # what was seen of the other object is gone
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    assert layerlift("mask", "walk.mkv", *flags[:-1], "mine") == 2
    assert "--seen mine contains letter.txt" in capsys.readouterr().err
