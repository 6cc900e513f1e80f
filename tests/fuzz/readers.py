"""The ways in, each as a command takes it: to the point at which all that can be wrong with an input has been found."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
from seeds import frames, masks

MOST_FRAMES = 20  # that are read of a clip


def model(path: Path) -> None:
    """A model's folder: opened, asked for all that is known of it, planned for a clip, its weights read."""
    from layerlift.clip import Clip
    from layerlift.engine.device import choose_policy
    from layerlift.engine.model import open_model
    from layerlift.masks import Mask
    from layerlift.options import RemovalOptions
    from layerlift.progress import QUIET
    from layerlift.runtime import Runtime
    from layerlift.stages.removal import plan_removal

    opened, policy = open_model(path), choose_policy("cpu")
    opened.scorer("auto")
    prompts = [opened.scoring_prompt()]
    opened.check_prompts(prompts, policy)
    opened.prompts(prompts, policy, False, QUIET)
    plan_removal(Clip.from_array(frames()), Mask.from_array(masks()), RemovalOptions(evidence="off"),
                 Runtime(model=opened, policy=policy))  # fmt: skip
    with opened.transformer(policy), opened.vae_decoder(policy), opened.vae_encoder(policy):
        pass


def single_file(path: Path) -> None:
    """A checkpoint in one file, whose weights are a hole; they are not read."""
    from layerlift.engine.model import open_model

    open_model(path).scorer("auto")


def encoder(path: Path) -> None:
    """A text encoder's folder: checked, and run on a prompt."""
    from layerlift.engine.device import choose_policy
    from layerlift.engine.model import t5

    t5.check_encoder(path, 16)
    t5.encoder_identity(path)
    t5.embed(path, ["Empty"], 8, choose_policy("cpu"))


def cached(path: Path) -> None:
    """An entry of the prompt cache: one that cannot be used is none."""
    from layerlift.engine.model.text import read_cached

    read_cached(path, "Empty", 64)


def published(path: Path) -> None:
    """Embeddings that come with a release."""
    from layerlift.engine.model.published import PublishedText

    found = PublishedText(path)
    found.read(found.prompts)


def picture(path: Path) -> None:
    """A picture as a clip and as a single image."""
    from layerlift.clip.images import read_picture

    read_picture(path)
    video(path)


def video(path: Path) -> None:
    """A clip: opened, and its first frames read."""
    from layerlift.clip import open_clip

    clip = open_clip(path)
    for _ in clip.frames(0, min(clip.frame_count, MOST_FRAMES)):
        pass
    damaged = open_clip(path, allow_damage=True)
    for _ in damaged.rgba_frames(0, min(damaged.frame_count, MOST_FRAMES)):
        pass


def mask(path: Path) -> None:
    """A mask of a clip, and the objects in it."""
    from layerlift.clip import Clip
    from layerlift.masks import open_mask, open_object_masks

    clip = Clip.from_array(frames())
    open_mask(path, clip).numpy()
    open_object_masks(path, clip)


def layer(path: Path) -> None:
    """A layer with alpha."""
    from layerlift.clip.rgba_reader import open_layer

    opened = open_layer(path)
    for _ in islice(opened.frames(), MOST_FRAMES):
        pass


def reference(path: Path) -> None:
    """A cleaned frame."""
    from layerlift.clip import Clip
    from layerlift.evidence.reference import open_references
    from layerlift.masks import Mask

    open_references({0: path}, Clip.from_array(frames()), Mask.from_array(masks()), 2)


def rewritten(path: Path) -> None:
    """A clip whose sound, subtitles, chapters and attachments go into a result."""
    from layerlift.clip import open_clip, write_clip

    clip = open_clip(path)
    count = min(clip.frame_count, MOST_FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        black = np.zeros((count, clip.height, clip.width, 3), np.uint8)
        write_clip(Path(folder) / "out.mkv", black, clip.cut(0, count))
