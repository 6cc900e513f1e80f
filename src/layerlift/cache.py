"""Where layerlift keeps what it would otherwise make again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """The folder of one kind of files: in LAYERLIFT_CACHE, or in the platform's cache folder. It may not exist yet."""
    if given := os.environ.get("LAYERLIFT_CACHE"):
        return Path(given).expanduser() / kind
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "layerlift" / kind
