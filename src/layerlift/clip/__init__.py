"""Video in and out: frames are numpy arrays, everything else about a clip is kept beside them."""

from layerlift.clip.clip import Clip, ColorTags
from layerlift.clip.layout import Layout, layout_masks
from layerlift.clip.reader import open_clip
from layerlift.clip.writer import ClipWriter, check_output, output_notes, write_clip, write_mask

__all__ = [
    "Clip",
    "ClipWriter",
    "ColorTags",
    "Layout",
    "check_output",
    "layout_masks",
    "open_clip",
    "output_notes",
    "write_clip",
    "write_mask",
]
