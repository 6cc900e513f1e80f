"""`layerlift compose` from end to end."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import Clip, ClipWriter, open_clip, write_clip, write_mask
from layerlift.clip.rgba import LayerClip
from layerlift.clip.rgba_writer import choose_layer_format, write_layer
from layerlift.errors import InputError
from layerlift.parse import parse_offset
from support import files, layerlift
from tiny_model import write_tiny_model

FRAMES, HEIGHT, WIDTH = 4, 24, 32


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """layer.mkv, a half-transparent white square; onto.mkv, grey, two frames longer; clip.mp4 without alpha."""
    monkeypatch.chdir(tmp_path)
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 4), np.float32)
    frames[:, 8:16, 4:12] = (1, 1, 1, 0.5)
    layer = LayerClip.from_array(frames, rate=12)
    write_layer("layer.mkv", layer.frames(), layer.clip)
    grey = np.full((FRAMES + 2, HEIGHT, WIDTH, 3), 100, np.uint8)
    write_clip("onto.mkv", grey, Clip.from_array(grey, 12), lossless=True)
    write_clip("clip.mp4", grey, Clip.from_array(grey, 12))


def changed(path: str) -> np.ndarray:
    """Which pixels of a written composition are not the background's, (F, H, W) bool."""
    return (np.abs(open_clip(path).numpy().astype(int) - 100) > 20).any(-1)


def test_layer_over_a_clip(capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("compose", "layer.mkv", "--onto", "onto.mkv", "--lossless", "--report", "report.json") == 0
    assert capsys.readouterr().out == "wrote layer_compose.mkv\n"
    made = open_clip("layer_compose.mkv")
    assert (made.frame_count, made.rate) == (FRAMES, 12)
    expected = np.full((FRAMES, HEIGHT, WIDTH, 3), 100, np.uint8)
    expected[:, 8:16, 4:12] = 178  # half of 255 and half of 100
    np.testing.assert_array_equal(made.numpy(), expected)
    report = json.loads(Path("report.json").read_text())
    assert list(report["stages"]) == ["compose"]
    assert report["settings"]["length"] == "hold"
    assert report["sizes"]["frames"] == FRAMES


def test_flags() -> None:
    flags = "--offset 10,-4 --scale 0.5 --start 3 --length background --sound none -o out.mp4 -v"
    assert layerlift("compose", "layer.mkv", "--onto", "onto.mkv", *flags.split()) == 0
    seen = changed("out.mp4")
    assert seen.any((1, 2)).tolist() == [False, False, False, True, True, True]
    assert np.flatnonzero(seen[4].any(0)).tolist() == list(range(8 + 10 + 2, 8 + 10 + 6))
    assert np.flatnonzero(seen[4].any(1)).tolist() == list(range(6 - 4 + 4, 6 - 4 + 8))


def test_several_layers_are_laid_back_to_front() -> None:
    red = np.zeros((FRAMES, HEIGHT, WIDTH, 4), np.float32)
    red[:, 8:16, 8:16] = (1, 0, 0, 1)
    layer = LayerClip.from_array(red, rate=12)
    write_layer("red.mkv", layer.frames(), layer.clip)
    assert layerlift("compose", "red.mkv", "layer.mkv", "--onto", "onto.mkv", "-o", "out.mkv", "--lossless") == 0
    np.testing.assert_array_equal(open_clip("out.mkv").numpy()[0, 10, [5, 10]], [[178, 178, 178], [255, 0, 0]])
    assert layerlift("compose", "layer.mkv", "red.mkv", "--onto", "onto.mkv", "-o", "back.mkv", "--lossless") == 0
    np.testing.assert_array_equal(open_clip("back.mkv").numpy()[0, 10, [5, 10]], [[178, 178, 178], [255, 128, 128]])


def test_premultiplied_layers_that_do_not_say_so() -> None:
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 4), np.float32)
    frames[:, 8:16, 4:12] = 0.5  # white times alpha
    layer = LayerClip.from_array(frames, rate=12)
    write_layer("foreign.mkv", layer.frames(), layer.clip)
    flags = "--onto onto.mkv --lossless --overwrite -o out.mkv"
    assert layerlift("compose", "foreign.mkv", *flags.split()) == 0
    assert open_clip("out.mkv").numpy()[0, 10, 5].tolist() == [114] * 3
    assert layerlift("compose", "foreign.mkv", *flags.split(), "--premultiplied") == 0
    assert open_clip("out.mkv").numpy()[0, 10, 5].tolist() == [178] * 3


@pytest.mark.parametrize("images", ["png", "exr"])
def test_folders_of_images_onto_a_picture(images: str) -> None:
    layer = LayerClip.from_array(np.full((2, HEIGHT, WIDTH, 4), (1, 0, 0, 1), np.float32))
    write_layer("folder", layer.frames(), layer.clip, choose_layer_format("folder", images))
    import cv2

    cv2.imwrite("picture.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    assert layerlift("compose", "folder", "--onto", "picture.png", "-o", "out.mkv", "--lossless") == 0
    assert open_clip("out.mkv").numpy()[:, 3, 3].tolist() == [[255, 0, 0]] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("clip.mp4 --onto onto.mkv", "no alpha"),
        ("nothing.mov --onto onto.mkv", "does not exist"),
        ("layer.mkv --onto nothing.mp4", "does not exist"),
        ("layer.mkv --onto onto.mkv -o out.webm", ".mp4"),
        ("layer.mkv --onto onto.mkv -o onto.mkv --lossless", "would overwrite the input --onto onto.mkv"),
        ("layer.mkv --onto onto.mkv --offset 5", "X,Y"),
        ("layer.mkv --onto onto.mkv --offset 500,0", "off the 32x24 background"),
        ("layer.mkv --onto onto.mkv --scale 0", "--scale is 0"),
        ("layer.mkv --onto onto.mkv --length stretch", "'hold', 'loop', 'cut', 'background'"),
        ("layer.mkv --onto onto.mkv --sound both", "'layer', 'background', 'none'"),
        ("layer.mkv --onto onto.mkv --start 9 --length cut", "only 6"),
        ("layer.mkv --onto onto.mkv --report onto.mkv", "would overwrite the input --onto onto.mkv"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files()
    assert layerlift("compose", *arguments.split()) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert files() == before


def test_offsets() -> None:
    assert parse_offset("12,-40") == (12, -40)
    assert parse_offset(" +3 , 0 ") == (3, 0)
    with pytest.raises(InputError, match="X,Y"):
        parse_offset("1;2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def walk() -> np.ndarray:
    """A folder `walk` with the earlier systems' names in it, and its clean plate beside it; returns the clip."""
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    like = Clip.from_array(frames, 12)
    Path("walk").mkdir()
    write_clip("walk/video.mkv", frames, like, lossless=True)
    write_clip("plate.mkv", frames // 2, like, lossless=True)
    for name, place in {"object_mask": np.s_[8:16, 10:20], "total_mask": np.s_[6:18, 8:24]}.items():
        mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
        mask[:, *place] = True
        write_mask(f"walk/{name}.mkv", mask, like)
    return frames


@pytest.mark.slow
def test_latent_way(
    walk: np.ndarray, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--latent --background plate.mkv --onto onto.mkv --refine-steps 2 --refine-strength 0.5 --keep-intermediate"
    code = layerlift("compose", "walk", *flags.split(), "--model", model, "--lossless", "--report", "report.json")
    assert code == 0
    said = "wrote walk_compose.mkv (and walk_compose_latent.mkv, walk_compose_injected.mkv beside it)\n"
    assert capsys.readouterr().out == said
    made = open_clip("walk_compose.mkv")
    assert (made.frame_count, made.rate, made.width, made.height) == (FRAMES, 12, WIDTH, HEIGHT)
    np.testing.assert_array_equal(made.numpy()[:, 8:16, 10:20], walk[:, 8:16, 10:20])
    assert (made.numpy()[:, :4] == 100).all()
    latent, injected = (open_clip(f"walk_compose_{name}.mkv").numpy() for name in ("latent", "injected"))
    np.testing.assert_array_equal(injected[:, 8:16, 10:20], walk[:, 8:16, 10:20])
    np.testing.assert_array_equal(injected[:, :8], latent[:, :8])
    report = json.loads(Path("report.json").read_text())
    assert list(report["stages"]) == ["encode", "decode", "text", "denoise"]
    assert report["settings"]["refine_strength"] == 0.5

    again = ["compose", "walk", *flags.split(), "--model", model, "--lossless", "--weights"]
    for weights in ("8bit", "full"):
        assert layerlift(*again, weights, "-o", f"{weights}.mkv") == 0
    np.testing.assert_array_equal(open_clip("full.mkv").numpy(), made.numpy())
    assert 0 < np.abs(open_clip("8bit.mkv").numpy().astype(int) - made.numpy()).max() <= 40

    again = ["compose", "walk", *flags.split(), "--no-refine", "--model", model, "-o", "plain.mp4"]
    assert layerlift(*again) == 0
    assert {"plain.mp4", "plain_latent.mp4", "plain_injected.mp4"} <= set(files())


@pytest.mark.parametrize("write", [pytest.param(3, marks=pytest.mark.slow), 2 * FRAMES + 2])
def test_the_latent_way_goes_on_after_an_interruption(
    write: int, walk: np.ndarray, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--latent --background plate.mkv --onto onto.mkv --refine-steps 2 --keep-intermediate --lossless"
    words = ["compose", "walk", *flags.split(), "--model", str(model), "-o"]
    assert layerlift(*words, "whole.mkv") == 0

    real, count = ClipWriter.write, 0

    def interrupted(self: ClipWriter, frame: np.ndarray) -> None:
        nonlocal count
        count += 1
        if count == write:
            raise KeyboardInterrupt
        real(self, frame)

    monkeypatch.setattr(ClipWriter, "write", interrupted)
    before = files()
    assert layerlift(*words, "out.mkv") == 130
    assert files() == sorted([*before, ".out.mkv.layerlift-job"])
    assert f"To go on: {shlex.join(['layerlift', *words, 'out.mkv', '--resume'])}\n" in capsys.readouterr().err

    assert layerlift(*words, "out.mkv", "--resume", "--report", "report.json") == 0
    for name in ("", "_latent", "_injected"):
        np.testing.assert_array_equal(open_clip(f"out{name}.mkv").numpy(), open_clip(f"whole{name}.mkv").numpy())
    assert json.loads(Path("report.json").read_text())["results"]["resumed"]["latents encode"]["again"] == 0
    assert ".out.mkv.layerlift-job" not in files()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("walk layer.mkv", "one clip"),
        ("walk --background plate.mkv --offset 1,2", "--offset is for placing a layer"),
        ("walk --background plate.mkv --premultiplied", "--premultiplied is for placing"),
        ("walk", "add --background"),
        ("walk --background layer.mkv --object nothing.png", "nothing.png"),
        ("walk/video.mkv --background plate.mkv", "add --object"),
        ("walk/video.mkv --background plate.mkv --object walk/object_mask.mkv", "add --total"),
        ("walk --background plate.mkv --refine-strength 0", "--refine-strength is 0"),
        ("walk --background plate.mkv --object walk/total_mask.mkv --total walk/object_mask.mkv", "outside the total"),
        ("walk --background plate.mkv --keep-intermediate -o taken.mkv --lossless", "taken_latent.mkv already exists"),
        ("walk --background plate.mkv --model no-such-model", "no-such-model"),
    ],
)
def test_mistakes_of_the_latent_way(
    arguments: str, said: str, walk: np.ndarray, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken_latent.mkv").write_text("mine")
    before = files()
    given = arguments.split() if "--model" in arguments else [*arguments.split(), "--model", model]
    assert layerlift("compose", *given, "--onto", "onto.mkv", "--latent") == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert files() == before


def test_flags_of_the_latent_way_do_not_pass_unnoticed(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in (
        "--background onto.mkv",
        "--object onto.mkv",
        "--refine-steps 3",
        "--no-refine",
        "--weights full",
        "--resume",
    ):
        assert layerlift("compose", "layer.mkv", "--onto", "onto.mkv", *flag.split()) == 2
        assert f"{flag.split()[0]} works only with --latent" in capsys.readouterr().err


def broken_clip(name: str) -> np.ndarray:
    """Frames of a Matroska file that is cut off after some of them."""
    frames = np.random.default_rng(0).integers(0, 256, (24, HEIGHT, WIDTH, 3), np.uint8)
    write_clip(name, frames, Clip.from_array(frames, 12), lossless=True)
    data = Path(name).read_bytes()
    Path(name).write_bytes(data[: int(0.6 * len(data))])
    return frames


def test_a_damaged_background(capsys: pytest.CaptureFixture[str]) -> None:
    frames = broken_clip("broken.mkv")
    asked = ["compose", "layer.mkv", "--onto", "broken.mkv", "-o", "out.mkv", "--lossless"]
    assert layerlift(*asked) == 2
    assert "--allow-damage" in capsys.readouterr().err
    assert layerlift(*asked, "--allow-damage") == 0
    assert "of 24 frames are lost" in capsys.readouterr().err
    np.testing.assert_array_equal(open_clip("out.mkv").numpy()[:, 17:], frames[:FRAMES, 17:])


def test_a_damaged_layer(capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.random.default_rng(0).random((24, HEIGHT, WIDTH, 4), np.float32)
    layer = LayerClip.from_array(frames, rate=12)
    write_layer("long.mkv", layer.frames(), layer.clip)
    data = Path("long.mkv").read_bytes()
    Path("long.mkv").write_bytes(data[: int(0.6 * len(data))])
    asked = ["compose", "long.mkv", "--onto", "onto.mkv", "-o", "out.mkv"]
    assert layerlift(*asked) == 2
    assert "its end is missing" in capsys.readouterr().err
    assert layerlift(*asked, "--allow-damage") == 0
    assert "of 24 frames are lost" in capsys.readouterr().err
    assert 0 < open_clip("out.mkv").frame_count < 24


def test_a_layer_with_flipped_bytes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.random.default_rng(0).random((FRAMES, HEIGHT, WIDTH, 4), np.float32)
    layer = LayerClip.from_array(frames, rate=12)
    write_layer("noisy.mkv", layer.frames(), layer.clip)
    data = bytearray(Path("noisy.mkv").read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 40):
        data[at] ^= 0x55
    Path("noisy.mkv").write_bytes(data)
    assert layerlift("compose", "noisy.mkv", "--onto", "onto.mkv", "-o", "out.mkv") == 2
    assert "cannot be fully decoded" in capsys.readouterr().err
    assert layerlift("compose", "noisy.mkv", "--onto", "onto.mkv", "-o", "out.mkv", "--allow-damage") == 0
    assert "could not be fully decoded" in capsys.readouterr().err


def test_damaged_images_as_a_layer(capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.random.default_rng(0).random((FRAMES, HEIGHT, WIDTH, 4), np.float32)
    for ending in ("png", "exr"):
        folder = Path(f"images_{ending}")
        layer = LayerClip.from_array(frames, rate=12)
        write_layer(folder, layer.frames(), layer.clip, choose_layer_format(folder, ending))  # type: ignore[arg-type]
        file = sorted(folder.iterdir())[2]
        file.write_bytes(file.read_bytes()[:-400])
        asked = ["compose", folder, "--onto", "onto.mkv", "-o", f"{ending}.mkv"]
        assert layerlift(*asked) == 2
        assert file.name in capsys.readouterr().err
        assert layerlift(*asked, "--allow-damage") == 0
        assert "frame 2 cannot be decoded: a neighbouring frame is used instead" in capsys.readouterr().err
        made = open_clip(f"{ending}.mkv").numpy()
        assert np.abs(made[2].astype(int) - made[1]).max() < 12


def test_an_interlaced_background(capsys: pytest.CaptureFixture[str]) -> None:
    stripes = np.zeros((2 * FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    stripes[:] = np.arange(2 * FRAMES, dtype=np.uint8)[:, None, None, None] * 20
    fields = replace(Clip.from_array(stripes, 24), field_order="top")
    write_clip("fields.mkv", stripes, fields, lossless=True)
    assert open_clip("fields.mkv").field_order == "top"
    layer = LayerClip.from_array(np.zeros((2 * FRAMES, HEIGHT, WIDTH, 4), np.float32), rate=24)
    write_layer("double.mkv", layer.frames(), layer.clip)
    assert layerlift("compose", "double.mkv", "--onto", "fields.mkv", "-o", "woven.mkv", "--lossless") == 0
    assert "is interlaced" in capsys.readouterr().err
    assert open_clip("woven.mkv").field_order == "top"
    asked = ["compose", "layer.mkv", "--onto", "fields.mkv", "-o", "frames.mkv", "--lossless", "--deinterlace"]
    assert layerlift(*asked) == 0
    assert "has progressive frames" in capsys.readouterr().err
    made = open_clip("frames.mkv")
    assert (made.field_order, made.frame_count, made.rate) == (None, FRAMES, 12)
