"""Contact sheets: every picture where its row and column say."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.contact_sheet import GAP, HEADER, contact_sheet, evenly, tinted, write_png


def test_sheet_holds_each_clip_in_its_column_and_each_frame_in_its_row() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 5, 12, 80, 3), dtype=np.uint8)
    sheet = contact_sheet({"input": clips[0], "truth": clips[1]}, [0, 4])
    top, left = HEADER + 12 + GAP, GAP + 80 + GAP
    np.testing.assert_array_equal(sheet[HEADER : HEADER + 12, GAP : GAP + 80], clips[0, 0])
    np.testing.assert_array_equal(sheet[top : top + 12, left : left + 80], clips[1, 4])
    assert sheet[:HEADER, left:].max() > 200  # the column's name is written


def test_sheet_refuses_clips_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        contact_sheet({"a": np.zeros((1, 4, 4, 3), np.uint8), "b": np.zeros((1, 4, 6, 3), np.uint8)}, [0])


@pytest.mark.parametrize(("frames", "rows", "expected"), [(9, 3, [0, 4, 8]), (2, 4, [0, 1]), (1, 4, [0]), (5, 1, [0])])
def test_rows_span_the_clip(frames: int, rows: int, expected: list[int]) -> None:
    assert evenly(frames, rows) == expected


def test_tint_colours_the_mask_alone() -> None:
    clip = np.full((1, 2, 2, 3), 100, np.uint8)
    mask = np.zeros((1, 2, 2), bool)
    mask[0, 0, 0] = True
    shown = tinted(clip, mask)
    assert shown[0, 0, 0, 0] > shown[0, 0, 0, 1]
    assert (shown[0, 1, 1] == 60).all()


def test_png_comes_back_as_it_was(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    path = write_png(tmp_path / "sheet.png", picture)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture)
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]
