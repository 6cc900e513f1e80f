"""`layerlift plan` and `layerlift doctor` from the command line."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.cli import main
from layerlift.cli.plan import describe
from layerlift.clip import Clip, open_clip, write_clip
from layerlift.engine.device.needs import GIB
from layerlift.engine.device.plan import Plan, least_memory
from layerlift.engine.device.policy import BACKENDS, choose_policy
from layerlift.options import RemovalOptions, RuntimeOptions
from layerlift.report import Report
from layerlift.runtime import Runtime, open_runtime
from layerlift.stages.removal import plan_generation, remove_frames
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (12, 48, 80, 3), dtype=np.uint8)
    source = Clip.from_array(frames)
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mkv", source.frames(), source, lossless=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), layers=3)


@pytest.fixture(autouse=True)
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("layerlift.engine.model.hub.find_checkpoint", lambda entry: None)
    monkeypatch.setattr("layerlift.engine.model.hub.find_text_encoder", lambda: None)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, streams.out, streams.err


def plan_of(clip: Path, model: Path) -> Plan:
    """How the model runs over the whole clip, whatever is masked."""
    runtime = open_runtime(RuntimeOptions(str(model), device="cpu", memory=4))
    return plan_generation(open_clip(clip), RemovalOptions(), runtime).plan


def test_plan_says_what_would_be_done(clip: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "plan", clip, "--model", tiny, "--device", "cpu", "--memory", 4)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["clip", "80x48,", "12", "frames"]
    # 80x48 scaled into 64x48 and padded; windows of 9 frames
    assert "64x48, 2 windows of up to 9 frames, 36 tokens" in lines[2]
    assert "limit 4.0 GiB" in lines[3]
    assert [line.split()[0] for line in lines[6:10]] == ["encode", "text", "denoise", "decode"]
    assert "all of its 3 blocks stay in memory" in out
    assert "in two passes" in out


def test_plan_of_a_removal_says_what_the_model_sees_around_the_mask(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = Clip.from_array(np.random.default_rng(0).integers(0, 256, (12, 150, 200, 3), dtype=np.uint8))
    write_clip("large.mkv", large.frames(), large, lossless=True)
    still = np.zeros((150, 200), np.uint8)
    still[4:10, 4:10] = 255
    cv2.imwrite("mask.png", still)
    flags = ["large.mkv", "--model", tiny, "--device", "cpu", "--memory", 4, "--size", "192x144"]
    whole, around = (run(capsys, "plan", *flags, *more)[1].splitlines()[2] for more in ([], ["--mask", "mask.png"]))
    options, report = RemovalOptions(evidence="off", crop=True, steps=1, size=(192, 144)), Report()
    list(remove_frames("large.mkv", "mask.png", options, Runtime(str(tiny), choose_policy("cpu"), report=report)))
    width, height = report.sizes["padded"]
    count = len(report.sizes["windows"])
    assert around.startswith(f"works at   {width}x{height}, {count} window")
    assert not whole.startswith(f"works at   {width}x{height}, ")
    code, _, err = run(capsys, "plan", *flags, "--mask", "nothing.png")
    assert (code, err.count("\n")) == (2, 1)


def test_plan_with_the_users_windows(clip: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", tiny, "--device", "cpu", "--memory", 4]
    assert "3 windows of up to 5 frames, 24 tokens" in run(capsys, "plan", clip, *flags, "--window", 5)[1]
    assert run(capsys, "plan", clip, *flags, "--window", 4)[0] == 2


def test_plan_plans_what_remove_would_run(clip: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", tiny, "--device", "cpu", "--memory", 4]
    assert "over unknown tokens only" in run(capsys, "plan", clip, *flags)[1]
    assert "over all tokens" in run(capsys, "plan", clip, *flags, "--dense")[1]
    assert "7 frames" in run(capsys, "plan", clip, *flags, "--frames", "2:9", "--allow-damage")[1]
    code, out, err = run(capsys, "plan", clip, *flags, "--prompt", "a dog")  # which no text encoder is there for
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "text encoder" in err
    mask = np.zeros((48, 80), np.uint8)
    mask[16:32, 16:32] = 255
    cv2.imwrite("mask.png", mask)
    assert run(capsys, "remove", clip, "--mask", "mask.png", *flags, "--prompt", "a dog") == (code, out, err)


def test_plan_with_little_memory(clip: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "plan", clip, "--model", tiny, "--device", "cpu", "--memory", 0.1)
    assert (code, out) == (2, "")
    assert "give --memory 0.4" in err
    assert err.count("\n") == 1


def test_plan_by_the_rules_of_mps(clip: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", clip, "--model", tiny, "--device", "cpu", "--policy", "mps", "--memory", 4)
    assert code == 0
    assert "float16, all of its 3 blocks" in out
    assert "in pieces of at most 2048 MiB" in out
    assert "float32, 8 frames at a time" in out


@pytest.mark.parametrize(
    "choice",
    [
        ({"vae_storage": "bfloat16"}, "float32, 4 frames at a time, weights kept in bfloat16"),
        ({"vae_streamed": True}, "float32, 4 frames at a time, weights read from disk for each piece"),
        ({"vae_streamed": False}, "float32, 4 frames at a time\n"),
        (
            {"streamed_blocks": 3},
            "float32, none of its 3 blocks stay in memory, the others are read from disk in every pass",
        ),
        (
            {"streamed_blocks": 1},
            "float32, 2 of its 3 blocks stay in memory, the others are read from disk in every pass",
        ),
        ({"int8": True}, "8 bits in the blocks, all of its 3 blocks stay in memory\n"),
        ({"attention_limit_bytes": 2**26}, "in pieces of at most 64 MiB"),
        ({"batched_guidance": True}, "in one pass"),
    ],
)
def test_every_choice_is_said(clip: Path, tiny: Path, choice: tuple[dict[str, object], str]) -> None:
    changes, words = choice
    made = plan_of(clip, tiny)
    chosen = replace(made, policy=replace(made.policy, vae_frames=4, **changes))  # type: ignore[arg-type]
    assert words in "\n".join([*describe(chosen), ""])


def test_a_plan_for_little_memory(clip: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    least = math.ceil(least_memory(plan_of(clip, tiny).request)) / GIB
    code, out, _ = run(capsys, "plan", clip, "--model", tiny, "--device", "cpu", "--memory", repr(least))
    assert code == 0
    assert "none of its 3 blocks stay in memory, the others are read from disk in every pass" in out


def test_weights(clip: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for weights, words in (("8bit", "8 bits in the blocks"), ("full", "float32, all"), ("auto", "float32, all")):
        given = ("plan", clip, "--model", tiny, "--device", "cpu", "--memory", 4, "--weights", weights)
        assert words in run(capsys, *given)[1]
    code, _, err = run(capsys, "doctor", "--device", "cpu", "--weights", "2bit")
    assert (code, err.count("\n")) == (2, 1)
    assert "not one of 'auto', '8bit', '4bit', 'full'" in err


def test_plan_reads_no_weight(
    clip: Path, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlift.engine.model.weights.read_tensors", lambda *_: pytest.fail("a weight was read"))
    assert run(capsys, "plan", clip, "--model", tiny, "--device", "cpu")[0] == 0


@pytest.mark.parametrize("memory", ["0", "-1", "nan", "much"])
def test_memory_that_is_none(clip: Path, memory: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "plan", clip, "--model", "demo", "--memory", memory)
    assert code == 2
    assert "--memory" in err


def test_doctor_says_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--device", "cpu")
    assert code == 0
    for title in ("versions", "device", "memory", "rules", "models", "segmenters", "plan for a default clip"):
        assert f"\n{title}\n" in f"\n{out}"
    for name in (*BACKENDS, "torch", "RAM", "limit", "attention_limit_bytes", "ltx-2b-0.9.5", "sam2-large"):
        assert f"\n  {name} " in out
    assert "mobile-sam               in the package, run by CPUExecutionProvider" in out
    assert "no LTX-Video checkpoint is on this machine" in out
    assert "demo, 288x192, 33 frames" in out
    assert "denoise" in out


def test_doctor_says_what_lies_in_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path))
    for kind in ("mlx", "text"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a").write_bytes(bytes(2**24))
    out = run(capsys, "doctor", "--device", "cpu")[1]
    assert f"\n  folder                   {tmp_path}\n" in out
    assert "\n  mlx                      1 file, 0.02 GiB of at most 20\n" in out
    assert "\n  text                     1 file, 0.02 GiB\n" in out


def test_doctor_with_too_little_memory(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--device", "cpu", "--memory", 0.1)
    assert code == 0  # a report of a machine's state is no error
    assert "limit                    0.1 GiB" in out
    assert "give --memory" in out


def test_doctor_says_why_a_device_cannot_be_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlift.engine.device.policy._why_not_mps", lambda index: "because of the moon")
    assert "mps                      no: because of the moon" in run(capsys, "doctor", "--device", "cpu")[1]


@pytest.mark.slow
def test_plan_tells_what_would_be_borrowed_and_what_invented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A box that moves before a texture, and one that stays: what the first hides is seen, what the second hides never.
    ground = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (96, 160, 3), dtype=np.uint8), (0, 0), 2)
    frames = np.repeat(ground[None], 16, 0)
    masks = np.zeros((2, *frames.shape), np.uint8)
    for index in range(16):
        masks[0, index, 30:50, 8 * index : 8 * index + 20] = 255
        masks[1, index, 30:50, 70:90] = 255
        frames[index][masks[0, index] > 0] = 255
    like = Clip.from_array(frames)
    write_clip(tmp_path / "walk.mkv", frames, like, lossless=True)
    told = []
    for number, mask in enumerate(masks):
        write_clip(tmp_path / f"{number}.mkv", mask, like, lossless=True)
        asked = ("--mask", f"{number}.mkv", "--look", "--source-map", f"map{number}.mkv", "--report", f"r{number}.json")
        code, out, _ = run(capsys, "plan", "walk.mkv", *asked, "--model", "none")
        assert code == 0
        told.append(json.loads((tmp_path / f"r{number}.json").read_text())["results"])
        assert f"{told[-1]['borrowed']:.0%} shown by other frames, {told[-1]['invented']:.0%} to be invented" in out
    assert told[0]["borrowed"] > 0.95
    assert told[1]["borrowed"] < 0.05
    colours = open_clip(tmp_path / "map0.mkv").numpy()[8]
    assert tuple(colours[40, 70]) == (0, 255, 0)
    assert tuple(colours[5, 5]) == (0, 0, 0)
    assert tuple(open_clip(tmp_path / "map1.mkv").numpy()[8][40, 80]) == (255, 0, 255)


@pytest.mark.parametrize(
    ("asked", "said"), [(("--look",), "--look needs a mask"), (("--source-map", "m.mkv"), "works only with --look")]
)
def test_a_look_needs_a_mask(asked: tuple[str, ...], said: str, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "plan", clip, "--model", "demo", *asked)
    assert (code, said in err) == (2, True)
