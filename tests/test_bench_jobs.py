"""`layerlift bench jobs`, `memory` and `length`: what they print, and that what it says was run."""

import json
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from layerlift.bench.alone import Case, run_case
from layerlift.bench.made_up import CROSSING, made_up_clip
from layerlift.cli import main
from layerlift.cli.bench_jobs import length_cells, memory_cells
from layerlift.clip import write_clip, write_mask
from layerlift.engine.device import choose_policy, memory
from layerlift.engine.model import catalogue, checkpoint, random
from tiny_model import tiny_transformer_config, tiny_vae_config, write_tiny_model

SMALL_T5 = {**random.T5_XXL, "d_model": 32, "d_ff": 64, "num_heads": 2, "d_kv": 16, "num_layers": 2, "vocab_size": 64}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), steps=6)


def bench(command: str, *flags: object) -> int | str | None:
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", command, *(str(flag) for flag in flags)])
    return exit_info.value.code


def rows_of(text: str) -> list[list[str]]:
    """The cells of the printed table, without its header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_made_up_clip_is_the_same_whenever_it_is_read() -> None:
    clip, mask = made_up_clip((48, 32), 5, (12, 8))
    frames, masks = clip.numpy(), mask.numpy()
    assert (masks.sum((1, 2)) == 12 * 8).all()
    assert (masks == masks[0]).all()
    assert (next(clip.frames(3, 4)) == frames[3]).all()
    assert len(np.unique(frames[masks], axis=0)) == 1  # what hides has one colour
    assert not (frames[0] == frames[4]).all()


def test_a_box_that_moves_is_there_in_its_share_of_the_frames() -> None:
    masks = made_up_clip((48, 32), 2 * CROSSING, (6, 6), there=0.2)[1].numpy()
    shown = masks.any((1, 2))
    assert shown.mean() == pytest.approx(0.2)
    assert len({tuple(np.argwhere(mask)[0]) for mask in masks[shown]}) > 5


def test_jobs_that_are_asked_for(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    flags = ["--model", model, "--device", "cpu", "--size", "96x64", "--frames", 9, "--report", report]
    flags += ["--only", "--no-crop --dense", "--only", "--no-crop, the clip's own size", "--only", "mask"]
    assert bench("jobs", *flags) == 0
    dense, own, mask = rows_of(capsys.readouterr().out)
    assert [dense[0], own[0], mask[0]] == ["--no-crop --dense", "--no-crop, the clip's own size", "mask"]
    assert [dense[-1], own[-1]] == ["64×48, 1 windows", "96×64, 1 windows"]
    assert [stage in mask[4] for stage in ("encode", "look", "draw")] == [True] * 3
    kept = json.loads(report.read_text())["results"]["rows"]
    assert [row["job"] for row in kept] == [dense[0], own[0], mask[0]]
    assert list(kept[0]["stages"]) == ["encode", "text", "denoise", "decode"]


def test_what_cannot_be_computed_here_is_told_in_its_row(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", model, "--device", "cpu", "--only", "--no-crop --compile", "--only", "--crop"]
    assert bench("jobs", *flags) == 0
    crop, compiled = rows_of(capsys.readouterr().out)
    assert float(crop[1]) > 0
    assert "not supported on cpu" in compiled[1]


def test_random_heads_look_as_fitted_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = {"transformer_2b": tiny_transformer_config(), "vae_0.9.5": tiny_vae_config()}
    for module in (random, checkpoint):
        monkeypatch.setattr(module, "bundled_config", configs.__getitem__)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    flags = ["--random", catalogue.DEFAULT.name, "--device", "cpu", "--size", "64x48", "--frames", 9]
    assert bench("jobs", *flags, "--only", "mask", "--only", "mask, fitted heads") == 0
    assert [row[0] for row in rows_of(capsys.readouterr().out)] == ["mask", "mask, fitted heads"]


@pytest.mark.parametrize("job", ["remove", "crop", "mask", "compose"])
def test_a_job_alone_is_planned_and_measured_by_its_stages(
    job: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that grows, whatever this one has just freed.
    sizes = count(10**9, 10**6)
    monkeypatch.setattr(memory, "host_anonymous_bytes", lambda: next(sizes))
    options = {"remove": {"evidence": "off"}, "crop": {"evidence": "off", "crop": True}, "mask": {"prompt": ""}}
    case = Case(job, str(model), choose_policy("cpu"), (64, 48), 9, (16, 12), options=options.get(job, {}))
    found = run_case(case)
    assert found.frames == 9
    assert found.planned.keys() >= {"encode", "denoise"}
    assert found.stages.keys() - {"all"}
    assert found.ready > found.idle >= 10**9
    stages = memory_cells(found)[4]
    assert "denoise" in stages or "look" in stages
    assert "None" not in stages


def test_the_text_encoder_alone(tmp_path: Path) -> None:
    folder = random.write_random_encoder(tmp_path / "t5", SMALL_T5)
    found = run_case(Case("text", str(folder), choose_policy("cpu")))
    assert found.frames == 2
    assert memory_cells(found)[0] == ""  # nothing was planned


@pytest.mark.slow
def test_rows_of_memory_are_processes_of_their_own(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", model, "--device", "cpu", "--only", "remove", "--limits", "0.01,2", "--jobs", 2]
    assert bench("memory", *flags) == 0
    refused, whole = sorted(rows_of(capsys.readouterr().out), key=lambda row: row[1])
    assert refused[:2] == ["remove", "0.01"]
    assert "--memory" in refused[2]
    assert whole[:2] == ["remove", "2.00"]
    assert float(whole[3]) > 0


@pytest.mark.slow
def test_length_by_evidence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("length", "--model", "none", "--lengths", "4,8", "--clip-size", "64x48") == 0
    short, long = rows_of(capsys.readouterr().out)
    assert [short[1], long[1]] == ["4", "8"]
    assert short[6] == ""
    assert long[6].endswith("%")
    assert short[8].startswith("evidence")


def test_a_clip_of_yours_is_read_and_what_comes_out_written(tmp_path: Path) -> None:
    clip, mask = made_up_clip((64, 48), 9, (16, 12))
    write_clip(tmp_path / "clip.mkv", clip.frames(), clip, lossless=True)
    write_mask(tmp_path / "mask.mkv", mask.frames(), clip)
    files = {"clip": tmp_path / "clip.mkv", "mask": tmp_path / "mask.mkv"}
    found = run_case(Case("remove", "none", choose_policy("cpu"), **files, options={"evidence": "only"}, write=True))
    assert found.frames == 9
    assert length_cells(found, found)[5] == "+0.0%"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("jobs --only remove", "--only"),
        ("jobs --hidden 90x90", "--hidden 90x90"),
        ("jobs --random other", "ltx-2b-0.9.5"),
        ("memory --limits 4,x", "--limits"),
        ("memory --only other", "compose"),
        ("length --lengths 0", "--lengths"),
        ("length --clip-size big", "--clip-size"),
    ],
)
def test_what_cannot_be_measured(command: str, said: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*command.split(), "--model", model, "--device", "cpu") == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert said in streams.err


def test_a_clip_without_a_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, _ = made_up_clip((64, 48), 2, (8, 8))
    write_clip(tmp_path / "clip.mkv", clip.frames(), clip)
    assert bench("length", tmp_path / "clip.mkv", "--model", "none") == 2
    assert "--mask" in capsys.readouterr().err


def test_a_clip_or_a_mask_that_is_not_there(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the model is opened, and of the one that is missing."""
    clip, _ = made_up_clip((64, 48), 2, (8, 8))
    write_clip(tmp_path / "clip.mkv", clip.frames(), clip)
    assert bench("length", tmp_path / "no.mkv", "--model", model) == 2
    assert "no.mkv does not exist; give the path of a video" in capsys.readouterr().err
    assert bench("length", tmp_path / "clip.mkv", "--mask", tmp_path / "no.png", "--model", model) == 2
    streams = capsys.readouterr()
    assert "no.png does not exist; give the path of a mask" in streams.err
    assert streams.out == ""


def test_machines_without_video_libraries_can_measure(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines with a GPU seldom have what reads and writes video."""
    monkeypatch.setitem(sys.modules, "av", None)
    assert bench("jobs", "--model", model, "--device", "cpu", "--only", "--no-crop", "--only", "mask") == 0
