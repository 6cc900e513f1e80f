"""Checkpoints: what is known about them, what lies on disk, and their weights on the device.

Names are imported when used: opening a model needs torch, listing the models does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlift.model.catalogue import CATALOGUE
    from layerlift.model.hub import download
    from layerlift.model.model import Model
    from layerlift.model.opening import open_installed, open_model
    from layerlift.model.settings import Settings
    from layerlift.model.text import TextEmbedding

_HOMES = {
    "CATALOGUE": "layerlift.model.catalogue",
    "Model": "layerlift.model.model",
    "Settings": "layerlift.model.settings",
    "TextEmbedding": "layerlift.model.text",
    "download": "layerlift.model.hub",
    "open_installed": "layerlift.model.opening",
    "open_model": "layerlift.model.opening",
}

__all__ = ["CATALOGUE", "Model", "Settings", "TextEmbedding", "download", "open_installed", "open_model"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
