"""`layerlift save` from the command line to the files."""

from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import Clip, open_clip, write_clip
from support import files, layerlift


@pytest.fixture
def plate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    frames = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    write_clip(tmp_path / "plate.mkv", frames, Clip.from_array(frames, 30), lossless=True)
    monkeypatch.chdir(tmp_path)
    return frames


def test_a_result_is_written_in_another_format(plate: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("save", "plate.mkv", "-o", "pictures/") == 0
    assert layerlift("save", "plate.mkv") == 0
    assert capsys.readouterr().out == "wrote pictures\nwrote plate_saved.mp4\n"
    assert np.array_equal(open_clip("pictures").numpy(), plate)
    saved = open_clip("plate_saved.mp4")
    assert (saved.frame_count, saved.rate, saved.width) == (5, 30, 64)
    assert layerlift("save", "plate.mkv") == 2
    assert layerlift("save", "plate.mkv", "--lossless", "--overwrite", "-o", "plate_saved.mp4") == 2
    assert layerlift("save", "plate.mkv", "-o", "plate.mkv", "--overwrite") == 2
    assert files() == ["pictures", "plate.mkv", "plate_saved.mp4"]


def test_a_mask_is_exact_and_has_no_sound(plate: np.ndarray) -> None:
    mask = np.repeat((plate[..., :1] > 127) * np.uint8(255), 3, -1)
    write_clip("mask.mkv", mask, Clip.from_array(mask), lossless=True)
    assert layerlift("save", "mask.mkv", "--mask", "-o", "again.mkv") == 0
    assert np.array_equal(open_clip("again.mkv").numpy(), mask)
