"""`layerlift bench quality`: the printed table and the report hold the same figures, one a scene and row."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from layerlift.cli import main
from layerlift.cli.bench import parse_refinements, parse_seeds
from layerlift.clip import open_clip
from layerlift.errors import InputError
from support import write_even_heads
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def bench_quality(*flags: object) -> int | str | None:
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", "quality", *(str(flag) for flag in flags)])
    return exit_info.value.code


def test_table_and_report(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    flags = ["--seeds", "1000:1002", "--size", "64x48", "--frames", "5", "--steps", "1"]
    assert bench_quality("--model", model, *flags, "--report", path) == 0
    printed = capsys.readouterr().out
    inside, whole, water, left = json.loads(path.read_text())["results"]["tables"]
    assert list(inside["rows"]["input"]) == list(whole["rows"]["VAE of the clean plate"]) == ["1000", "1001"]
    for table in (inside, whole):
        for name, values in table["rows"].items():
            line = next(line for line in printed[printed.index(table["title"]) :].splitlines() if name in line)
            assert line.split("|")[2].strip() == f"{np.mean(list(values.values())):.1f}"
    assert {"true clean plate", "default"} <= set(water["rows"])
    assert all(0 <= share <= 1 for share in left["rows"]["default"].values())
    assert {"input", "OpenCV Telea per frame", "temporal median", "evidence only", "model only", "default"} <= set(
        inside["rows"]
    )


def test_flags_of_a_removal_are_measured(model: Path, tmp_path: Path) -> None:
    flags = ["--seeds", "1000:1001", "--size", "64x48", "--frames", "5", "--steps", "1"]

    def measured(*more: object) -> dict[str, float]:
        path = tmp_path / "report.json"
        assert bench_quality("--model", model, *flags, "--report", path, "--overwrite", *more) == 0
        rows = json.loads(path.read_text())["results"]["tables"][0]["rows"]
        return {name: values["1000"] for name, values in rows.items()}

    first, other = measured(), measured("--seed", 5, "--memory", 8)
    assert first["evidence only"] == other["evidence only"]
    assert first["model only"] != other["model only"]


def test_refinements_as_typed() -> None:
    assert parse_refinements("plate, none") == ["plate", "none"]
    with pytest.raises(InputError, match="edges, none, plate"):
        parse_refinements("plate,better")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--size 60x48", "multiples of 16"),
        ("--frames 6", "multiple of 4"),
        ("--seeds 7", "--seeds"),
        ("--size 8x8", "16"),
    ],
)
def test_scenes_that_cannot_be_measured(flags: str, said: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--seeds", "1000:1001", "--size", "64x48", "--frames", "5"]
    assert bench_quality("--model", model, *base, *flags.split()) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    assert said in streams.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quality", "effects", "layers"])
def test_machines_without_pyav_can_measure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scenes are made in memory; machines with a GPU seldom have what reads and writes video."""
    monkeypatch.setitem(sys.modules, "av", None)
    model = write_even_heads(write_tiny_model(tmp_path / "heads"), 0.4)
    with pytest.raises(ImportError):
        open_clip(write_clip_without_av(tmp_path))
    flags = ["--seeds", "1000:1001", "--size", "64x48", "--frames", "5", "--model", str(model), "--device", "cpu"]
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", name, *flags])
    assert exit_info.value.code == 0
    assert "| all (1) |" in capsys.readouterr().out


def write_clip_without_av(folder: Path) -> Path:
    """Something that only PyAV could open."""
    path = folder / "clip.mp4"
    path.write_bytes(b"no video")
    return path


@pytest.mark.parametrize("text", ["", "7", "9:9", "9:3", "-1:4", "a:b"])
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--seeds"):
        parse_seeds(text)


def test_seeds() -> None:
    assert parse_seeds("1000:1032") == range(1000, 1032)
