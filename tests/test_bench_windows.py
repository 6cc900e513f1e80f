"""`layerlift bench windows`: what it measures at the borders of windows, and what it prints."""

import json
from pathlib import Path

import numpy as np
import pytest

from layerlift.bench.windows import border_change
from layerlift.cli import main
from tiny_model import write_tiny_model


def bench_windows(*flags: object) -> int | str | None:
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", "windows", *(str(flag) for flag in flags)])
    return exit_info.value.code


def test_a_jump_at_a_border_is_seen_and_only_there_and_only_inside_the_mask() -> None:
    rng = np.random.default_rng(0)
    video = (rng.integers(0, 9, (12, 8, 8, 3)) + 100).astype(np.uint8)
    mask = np.zeros((12, 8, 8), bool)
    mask[:, 2:6, 2:6] = True
    even = border_change(video, mask, [4, 8])
    assert even == pytest.approx(1, abs=0.2)
    jump = video.copy()
    jump[4:8] += 50
    assert border_change(jump, mask, [4, 8]) > 8
    assert border_change(jump, mask, [5, 9]) < 0.6
    jump = video.copy()
    jump[4:8][~mask[4:8]] += 50
    assert border_change(jump, mask, [4, 8]) == even


def test_pixels_that_only_one_of_two_frames_masks_do_not_count() -> None:
    video = np.zeros((3, 4, 4, 3), np.uint8)
    video[1, 0], video[2, 0], video[1:, 1] = 10, 40, 2  # what the mask has in both frames changes by 2, then by 0
    mask = np.zeros((3, 4, 4), bool)
    mask[:, 1], mask[1, 0] = True, True
    assert border_change(video, mask, [2]) == 0
    assert np.isnan(border_change(video[[0, 0, 0]], mask, [2]))
    assert np.isnan(border_change(video, mask, [5]))


def test_tables_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = write_tiny_model(tmp_path / "tiny"), tmp_path / "report.json"
    flags = ["--model", model, "--seeds", "1000:1002", "--size", "64x48", "--frames", 21, "--steps", 1]
    assert bench_windows(*flags, "--device", "cpu", "--report", path) == 0
    printed = capsys.readouterr().out
    inside, seams = json.loads(path.read_text())["results"]["tables"]
    assert inside["title"] in printed
    assert seams["title"] in printed
    several, one, less = inside["rows"].values()
    assert list(inside["rows"]) == [
        "windows of up to 9 frames", "one window of 21 frames", "windows, less one window",
    ]  # fmt: skip
    for seed in ("1000", "1001"):
        assert several[seed] != one[seed]
        assert less[seed] == pytest.approx(several[seed] - one[seed])
    # A camera that stands still: the plate does not change at all. One that pans: by as much at all times.
    assert np.isnan(seams["rows"]["true clean plate"]["1000"])
    assert seams["rows"]["true clean plate"]["1001"] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(("flags", "said"), [("--frames 9", "one window"), ("--window 3", "--window is 3 frames")])
def test_nothing_to_compare(flags: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny_model(tmp_path / "tiny")
    assert bench_windows("--model", model, "--device", "cpu", "--size", "64x48", *flags.split()) == 2
    assert said in capsys.readouterr().err
