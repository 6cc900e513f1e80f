"""What this machine has: its device in words, and which models are on it. Nothing here imports torch."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from layerlift.app.shapes import Model
from layerlift.engine.model.catalogue import CATALOGUE, DEFAULT, TEXT_ENCODER_GB
from layerlift.engine.segmenters import SEGMENTERS, find_segmenter

GB = 10**9


def device() -> str:
    """What jobs most likely compute on, in words; `layerlift doctor` knows for sure."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if Path("/proc/driver/nvidia/version").exists():
        return f"NVIDIA GPU, {cores} cores"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return f"Apple GPU, {cores} cores"
    return f"CPU, {cores} cores"


def models() -> list[Model]:
    """Models that can be chosen: none, the one in the package, and those of the table."""
    from layerlift.engine.model.hub import find_checkpoint, text_is_here
    from layerlift.engine.model.published import address

    text = text_is_here()
    besides = 0 if text or address() is not None else TEXT_ENCODER_GB
    there = {name: find_checkpoint(entry) is not None for name, entry in CATALOGUE.items()}
    chosen = next((name for name, found in there.items() if found), "none")
    found = [
        Model("none", "No model: what no frame shows is filled in from around it", "", 0, True, chosen == "none"),
        Model("demo", "The small model in the package, for trying", "Apache-2.0", 0, True, False),
    ]
    for name, entry in CATALOGUE.items():
        size = entry.gigabytes + besides
        installed = there[name] and text
        title = entry.title.replace(", the default", "") if name == DEFAULT.name else entry.title
        found.append(Model(name, title, entry.settings.licence, round(size * GB), installed, name == chosen))
    return found


def segmenters() -> list[Model]:
    """What can find objects."""
    found = [Model("mobile-sam", "MobileSAM, comes with layerlift", "Apache-2.0", 0, True, True)]
    for name, entry in SEGMENTERS.items():
        there = find_segmenter(entry) is not None
        found.append(Model(name, entry.title, entry.licence, round(entry.gigabytes * GB), there, False))
    return found
