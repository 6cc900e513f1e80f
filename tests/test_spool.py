"""Frames in a temporary file: what comes back is what was put in, as often as asked for."""

import errno
import tempfile
from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest

from layerlift.clip import Clip
from layerlift.errors import LayerliftError
from layerlift.evidence.store import Spool
from layerlift.jobs.shelf import Shelf
from layerlift.stages.spool import FrameSpool
from layerlift.stages.windows import filed


def test_frames_come_back_in_any_span_while_more_are_added() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 3), dtype=np.uint8)
    with FrameSpool() as spool:
        assert list(spool.frames()) == []
        for frame in frames[:3]:
            assert spool.keep(frame) is frame
        np.testing.assert_array_equal(np.stack(list(spool.frames(1))), frames[1:3])
        spool.append(frames[3])
        assert len(spool) == 4
        np.testing.assert_array_equal(np.stack(list(spool.frames())), frames)
        with pytest.raises(ValueError, match="among those"):
            spool.append(frames[0, :, :2])
        with pytest.raises(ValueError, match="among those"):
            spool.append(frames[0].astype(np.float32))


def test_clip_of_a_spool_has_all_else_of_another_clip() -> None:
    like = Clip.from_array(np.zeros((2, 3, 5, 3), np.uint8), 30, "walk")
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3), dtype=np.uint8)
    with FrameSpool() as spool:
        for frame in frames:
            spool.append(frame)
        clip = spool.as_clip(like)
        assert (clip.rate, clip.name, clip.frame_count) == (30, "walk", 2)
        np.testing.assert_array_equal(clip.numpy(), frames)
        np.testing.assert_array_equal(clip.cut(1, 2).numpy(), frames[1:])
        assert next(clip.rgba_frames())[..., 3].min() == 255


FRAME = np.full((4, 5, 3), 7, np.uint8)


def keep_frames() -> None:
    with FrameSpool() as spool:
        spool.append(FRAME)


def keep_evidence() -> None:
    with closing(Spool()) as spool:
        spool.append(FRAME, FRAME[..., 0])


def keep_arrays() -> None:
    with Shelf() as shelf:
        shelf.put(0, FRAME)


def keep_latents() -> None:
    filed(np.ones((2, 3)))


@pytest.mark.parametrize("fill", [keep_frames, keep_evidence, keep_arrays, keep_latents])
def test_a_full_folder_of_temporary_files_is_named(fill: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(
        LayerliftError, match=r"^no temporary file can be written in .*: no space left.*TMPDIR to a folder"
    ) as told:
        fill()
    assert tempfile.gettempdir() in str(told.value)
