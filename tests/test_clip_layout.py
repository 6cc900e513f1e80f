"""The folder layout of the earlier systems."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from layerlift.clip import Clip, layout_masks, open_clip, write_clip
from layerlift.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


def test_numbered_masks_in_order_and_their_union(tmp_path: Path) -> None:
    touch(tmp_path, "video.mkv", "object_mask.mkv", "total_mask.PNG", "video.txt", "object_mask.json", "other.mp4")
    touch(tmp_path, *(f"object_mask_{i}.mkv" for i in (0, 2, 10)))
    layout = layout_masks(tmp_path)
    assert layout.video.name == "video.mkv"
    assert [m.name for m in layout.object_masks] == ["object_mask_0.mkv", "object_mask_2.mkv", "object_mask_10.mkv"]
    assert layout.object_mask == tmp_path / "object_mask.mkv"
    assert layout.total_mask == tmp_path / "total_mask.PNG"


def test_a_single_mask_is_the_object_masks(tmp_path: Path) -> None:
    touch(tmp_path, "video.MOV", "object_mask.webm")
    layout = layout_masks(tmp_path)
    assert layout.object_masks == (tmp_path / "object_mask.webm",)
    assert layout.total_mask is None


def test_a_file_has_no_masks(tmp_path: Path) -> None:
    touch(tmp_path, "video.mp4", "object_mask.mp4")
    assert layout_masks(tmp_path / "video.mp4").object_masks == ()


@pytest.mark.parametrize("twice", ["video", "object_mask", "object_mask_1", "total_mask"])
def test_one_name_twice_is_refused(tmp_path: Path, twice: str) -> None:
    touch(tmp_path, "video.mp4", "object_mask.mp4", "object_mask_1.mp4", "total_mask.mp4", f"{twice}.mov")
    with pytest.raises(
        InputError, match=rf"contains both {twice}\.mov and {twice}\.mp4|contains both {twice}\.mp4 and"
    ):
        layout_masks(tmp_path)


def test_open_clip_takes_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my scene"
    folder.mkdir()
    clip = Clip.from_array(np.zeros((3, 16, 16, 3), np.uint8), Fraction(25))
    write_clip(folder / "video.mkv", clip.frames(), clip, lossless=True)
    write_clip(tmp_path / "other.mkv", clip.frames(), clip, lossless=True)
    opened = open_clip(folder)
    assert (opened.frame_count, opened.name, opened.path) == (3, "my scene", folder / "video.mkv")


def test_the_video_may_be_a_folder_of_images(tmp_path: Path) -> None:
    clip = Clip.from_array(np.zeros((3, 16, 16, 3), np.uint8))
    write_clip(tmp_path / "video", clip.frames(), clip)
    write_clip(tmp_path / "object_mask", clip.frames(), clip)
    assert open_clip(tmp_path).frame_count == 3
    assert layout_masks(tmp_path).object_masks == (tmp_path / "object_mask",)
