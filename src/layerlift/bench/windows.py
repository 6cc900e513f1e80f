"""Whether a clip cut into windows shows it: removal in windows beside removal in one window as long as the clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from layerlift.bench.table import Table, each_scene, scene_columns
from layerlift.engine.planning import window_lengths
from layerlift.errors import InputError
from layerlift.geometry.fit import fit_windows, latent_frames
from layerlift.metrics import psnr
from layerlift.options import RemovalOptions
from layerlift.runtime import Runtime
from layerlift.stages.choose_model import require_model
from layerlift.stages.removal import remove_frames


def window_tables(
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    size: tuple[int, int] = (288, 192),
    frames: int = 129,
    options: RemovalOptions | None = None,
) -> list[Table]:
    """Measure on the scenes of `seeds`, with the true total mask and without evidence.

    Returns two tables: PSNR inside the mask in decibels; and the mean change from frame to frame inside the mask where
    one window hands over to the next, over that elsewhere (NaN where nothing changes elsewhere).

    Raises:
        InputError: the scenes are no longer than one of the model's windows.
    """
    # All of the picture in every window: where windows lie is then known, and both ways see the same.
    options = replace(options or RemovalOptions(), evidence="off", crop=False)
    model = require_model(runtime, "windows")
    length, _ = window_lengths(model, options.window)
    time = model.geometry.time
    borders = [window.keep_start for window in fit_windows(frames, length, time)[1:]]
    if not borders:
        raise InputError(
            f"scenes of {frames} frames fit into one window of {model.name}, which is {length} frames: give more "
            "--frames, or a shorter --window"
        )
    columns = scene_columns(seeds)
    inside = Table("PSNR inside the mask", columns, digits=2)
    seams = Table("change inside the mask at window borders, over elsewhere", columns, digits=3)
    ways = {
        f"windows of up to {length} frames": replace(options, window=length),
        f"one window of {frames} frames": replace(options, window=1 + (latent_frames(frames, time) - 1) * time),
    }
    for seed, scene in each_scene(seeds, size, frames, runtime.progress):
        mask, truth = scene.total_mask, scene.background
        for name, way in ways.items():
            plate = np.stack(list(remove_frames(scene.video, mask, way, runtime.quiet())))
            inside.add(name, seed, psnr(plate, truth, mask))
            seams.add(name, seed, border_change(plate, mask, borders))
        several, one = (inside.rows[name][seed] for name in ways)
        inside.add("windows, less one window", seed, several - one)
        seams.add("true clean plate", seed, border_change(truth, mask, borders))
    return [inside, seams]


def border_change(video: np.ndarray, mask: np.ndarray, borders: Sequence[int]) -> float:
    """Mean absolute change inside the mask into the frames `borders`, over that into all other frames.

    `video` (F, H, W, 3) uint8, `mask` (F, H, W) bool. Pixels count that both frames mask. NaN where there is none, or
    nothing changes elsewhere.
    """
    both = mask[1:] & mask[:-1]
    sums, counts = np.zeros(2), np.zeros(2)
    for index, where in enumerate(both, 1):
        change = np.abs(video[index].astype(np.int16) - video[index - 1])[where]
        sums[int(index in borders)] += change.sum()
        counts[int(index in borders)] += change.size
    if not counts.all() or sums[0] == 0:
        return float("nan")
    elsewhere, there = sums / counts
    return float(there / elsewhere)
