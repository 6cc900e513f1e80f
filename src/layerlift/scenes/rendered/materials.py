"""What surfaces are made of and what light falls on them, as Mitsuba's dictionaries; pictures in them are arrays.

A colour is linear reflectance, three numbers or a picture (H, W, 3); see `textures`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Material = dict[str, Any]
Paint = tuple[float, float, float] | np.ndarray


def matt(colour: Paint) -> Material:
    """Seen from both sides, without gloss."""
    return {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": colour}}


def coated(colour: Paint, roughness: float = 0.15) -> Material:
    """Plastic, paint, varnished wood: colour under a clear coat of this roughness (Beckmann's alpha)."""
    coat = {"type": "roughplastic", "diffuse_reflectance": colour, "alpha": roughness, "nonlinear": True}
    return {"type": "twosided", "bsdf": coat}


def polished(colour: Paint) -> Material:
    """A colour under a smooth clear coat: lacquer, wet things, and water deep enough to have a colour of its own."""
    return {"type": "plastic", "diffuse_reflectance": colour, "int_ior": 1.33}


def metal(colour: Paint, roughness: float) -> Material:
    """Brushed metal; a colour near white makes steel."""
    return {"type": "twosided", "bsdf": {"type": "roughconductor", "specular_reflectance": colour, "alpha": roughness}}


def mirror() -> Material:
    """A mirror of silver under glass."""
    return {"type": "conductor", "material": "none", "specular_reflectance": (0.86, 0.88, 0.87)}


def glass() -> Material:
    """A wall of glass, both its surfaces at once: light passes straight through and is mirrored."""
    return {"type": "thindielectric", "int_ior": 1.5}


def bumpy(material: Material, heights: np.ndarray, scale: float) -> Material:
    """A material with bumps of `heights` (H, W) times `scale`, in texture units."""
    rough = {"type": "bumpmap", "arbitrary": heights[..., None], "scale": scale, "bsdf": _one_side(material)}
    return {"type": "twosided", "bsdf": rough}


def partly(first: Material, second: Material, share: np.ndarray) -> Material:
    """`second` where `share` (H, W) is 1, `first` where it is 0."""
    both = {"type": "blendbsdf", "weight": share[..., None].astype(np.float32)}
    return {"type": "twosided", "bsdf": both | {"first": _one_side(first), "second": _one_side(second)}}


def sunlight(direction: tuple[float, float, float], sun: float = 1.0, haze: float = 3.0) -> Material:
    """The sun in a direction and its sky (Hosek and Wilkie 2012). `sun` scales its disk: at 0 it is hidden."""
    length = float(np.linalg.norm(direction))
    return {
        "type": "sunsky",
        "sun_direction": [part / length for part in direction],
        "turbidity": haze,
        "sun_scale": sun,
        "albedo": 0.25,
    }


def ambient(radiance: tuple[float, float, float]) -> Material:
    """The same light from everywhere."""
    return {"type": "constant", "radiance": radiance}


def _one_side(material: Material) -> Material:
    inner: Material = material["bsdf"] if material["type"] == "twosided" else material
    return inner
