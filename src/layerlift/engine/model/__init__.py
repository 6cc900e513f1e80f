"""Checkpoints: what is known about them, what lies on disk, and their weights on the device.

Names are imported when used: opening a model needs torch, listing the models does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerlift.engine.model.catalogue import CATALOGUE
    from layerlift.engine.model.hub import download
    from layerlift.engine.model.model import Model
    from layerlift.engine.model.opening import open_installed, open_model
    from layerlift.engine.model.settings import Settings
    from layerlift.engine.model.text import TextEmbedding

_HOMES = {
    "CATALOGUE": "layerlift.engine.model.catalogue",
    "Model": "layerlift.engine.model.model",
    "Settings": "layerlift.engine.model.settings",
    "TextEmbedding": "layerlift.engine.model.text",
    "download": "layerlift.engine.model.hub",
    "open_installed": "layerlift.engine.model.opening",
    "open_model": "layerlift.engine.model.opening",
}

__all__ = ["CATALOGUE", "Model", "Settings", "TextEmbedding", "download", "open_installed", "open_model"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
