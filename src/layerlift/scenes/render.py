"""Draws scenes with torch, many at once, on any device; nothing else is needed, so training can render on the fly.

Every picture is a function of continuous coordinates evaluated at the pixel centres of each frame: a panning camera
resamples nothing, so the truth stays exact to a fraction of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from layerlift.scenes.spec import FIELD_OCTAVES, HARMONICS, HILLS, OBJECTS, ROCKS, SceneSpec

WORLD = 1.8  # the noise field covers this many half frame widths and heights to either side
VISIBLE_ALPHA = 0.02  # below five levels of 255 a pixel counts as untouched
SHADOW_BLUR = 0.035  # width of a shadow's soft border


@dataclass(frozen=True, slots=True)
class RenderedBatch:
    """Scenes with their true layers; B scenes, N objects, F frames; values in [0, 1].

    Objects are ordered back to front. Laying the layers over `background` in that order gives `video` exactly.
    """

    video: Tensor  # (B, F, 3, H, W)
    background: Tensor  # (B, F, 3, H, W): the clean plate
    layer_colour: Tensor  # (B, N, F, 3, H, W), straight
    layer_alpha: Tensor  # (B, N, F, H, W): object and effect
    object_alpha: Tensor  # (B, N, F, H, W)
    effect_alpha: Tensor  # (B, N, F, H, W), as far as the object itself does not hide it
    object_mask: Tensor  # (B, N, F, H, W) bool
    effect_mask: Tensor  # (B, N, F, H, W) bool, without the object mask


@dataclass(frozen=True, slots=True)
class Canvas:
    """Coordinates of every pixel, each shaped to broadcast to (B, F, H, W); see `spec` for the units."""

    x: Tensor  # (1, 1, 1, W)
    v: Tensor  # (1, 1, H, 1)
    u: Tensor  # (1, F, 1, 1), here from -0.5 to 0.5
    step: Tensor  # (1, F, 1, 1): the frame's number
    aspect: float  # height over width
    pixel: float  # a pixel's side in half frame widths

    @property
    def y(self) -> Tensor:
        return self.v * self.aspect

    @staticmethod
    def of(width: int, height: int, frames: int, device: torch.device | str) -> Canvas:
        step = torch.arange(frames, device=device, dtype=torch.float32).view(1, frames, 1, 1)
        return Canvas(
            x=((torch.arange(width, device=device) + 0.5) / width * 2 - 1).view(1, 1, 1, width),
            v=((torch.arange(height, device=device) + 0.5) / height * 2 - 1).view(1, 1, height, 1),
            u=step / max(1, frames - 1) - 0.5,
            step=step,
            aspect=height / width,
            pixel=2 / width,
        )


@torch.no_grad()
def render(
    specs: Sequence[SceneSpec], width: int, height: int, frames: int, device: torch.device | str = "cpu"
) -> RenderedBatch:
    """Render a batch of scenes of any size (pixels) and number of frames."""
    p = {
        name: torch.from_numpy(np.stack([spec.numbers[name] for spec in specs])).float().to(device)
        for name in specs[0].numbers
    }
    canvas = Canvas.of(width, height, frames, device)

    background = _background(p, canvas)
    video = background
    colours, alphas, object_alphas, effect_alphas = [], [], [], []
    for o in reversed(range(OBJECTS)):  # the second object stands farther off
        solid, coat = _object(p, o, canvas)
        effect, effect_colour = _effect(p, o, canvas)
        effect = effect * (1 - solid)
        alpha = solid + effect
        premultiplied = coat * solid.unsqueeze(2) + effect_colour * effect.unsqueeze(2)
        video = video * (1 - alpha.unsqueeze(2)) + premultiplied
        colours.append(premultiplied / alpha.unsqueeze(2).clamp_min(1e-6))
        alphas.append(alpha)
        object_alphas.append(solid)
        effect_alphas.append(effect)
    object_alpha, effect_alpha = torch.stack(object_alphas, 1), torch.stack(effect_alphas, 1)
    object_mask = object_alpha > VISIBLE_ALPHA
    return RenderedBatch(
        video=video,
        background=background,
        layer_colour=torch.stack(colours, 1),
        layer_alpha=torch.stack(alphas, 1),
        object_alpha=object_alpha,
        effect_alpha=effect_alpha,
        object_mask=object_mask,
        effect_mask=(effect_alpha > VISIBLE_ALPHA) & ~object_mask,
    )


def _per_scene(values: Tensor) -> Tensor:
    """(B,) → (B, 1, 1, 1), to meet (B, F, H, W)."""
    return values.reshape(-1, 1, 1, 1)


def _colour(values: Tensor) -> Tensor:
    """(B, 3) → (B, 1, 3, 1, 1), to meet (B, F, 3, H, W)."""
    return values.reshape(-1, 1, 3, 1, 1)


def _noise_field(p: dict[str, Tensor], width: int, height: int) -> Tensor:
    """Smooth noise (B, 6, height, width), zero mean and unit variance in each channel."""
    field: Tensor | float = 0.0
    for i in range(len(FIELD_OCTAVES)):
        grown = F.interpolate(p[f"field_{i}"], size=(height, width), mode="bicubic", align_corners=False)
        field = field + grown * p["octave_gain"][:, i].view(-1, 1, 1, 1)
    assert isinstance(field, Tensor)
    field = field - field.mean((2, 3), keepdim=True)
    return field / field.std((2, 3), keepdim=True)


def _ripple(p: dict[str, Tensor], x: Tensor, y: Tensor, step: Tensor) -> Tensor:
    """The waves' height in [-1, 1] at (x, y), frame by frame (B, F, H, W)."""
    along_y, along_x = _per_scene(p["ripple_frequency"][:, 0]), _per_scene(p["ripple_frequency"][:, 1])
    return torch.sin(along_y * y + along_x * x + _per_scene(p["ripple_speed"]) * step + _per_scene(p["ripple_phase"]))


def _background(p: dict[str, Tensor], canvas: Canvas) -> Tensor:
    x, v, u, aspect, pixel = canvas.x, canvas.v, canvas.u, canvas.aspect, canvas.pixel
    # World coordinates of every pixel: the camera pans and zooms a little.
    zoom = 1 + _per_scene(p["zoom"]) * u
    world_x = x * zoom + _per_scene(p["pan"][:, 0]) * u
    world_v = v * zoom + _per_scene(p["pan"][:, 1]) * u
    horizon = _per_scene(p["horizon"])
    world_x, world_v = torch.broadcast_tensors(world_x, world_v)

    def step_up(distance: Tensor) -> Tensor:
        """0 to 1 over a pixel and a half around zero distance (half frame widths)."""
        return (distance / (1.5 * pixel) + 0.5).clamp(0, 1)

    ground_share = step_up((world_v - horizon) * aspect)
    ripple = _ripple(p, world_x, world_v * aspect, canvas.step)
    ground_x = world_x + _per_scene(p["ripple_gain"]) * ripple * ground_share

    batch, frames, height, width = ground_x.shape
    field = _noise_field(p, width=int(320 * WORLD), height=int(320 * WORLD * aspect))
    grid = torch.stack([ground_x, world_v], -1) / WORLD  # (B, F, H, W, xy) in [-1, 1]
    noise = F.grid_sample(
        field, grid.reshape(batch, frames * height, width, 2), mode="bilinear", padding_mode="reflection",
        align_corners=False,
    ).view(batch, -1, frames, height, width)  # fmt: skip
    grain = (0.4 * noise[:, :3] + 0.6 * noise[:, 3:4]).transpose(1, 2)  # (B, F, 3, H, W)
    patches, clouds = noise[:, 4], noise[:, 5]

    sky = _colour(p["sky"]) + _colour(p["sky_slope"]) * world_v.unsqueeze(2)
    sky = sky + (_per_scene(p["cloud_gain"]) * clouds).unsqueeze(2)

    skyline = horizon - _per_scene(p["hill_height"])
    for i in range(HILLS):
        wave = torch.sin(_per_scene(p["hill_frequency"][:, i]) * world_x + _per_scene(p["hill_phase"][:, i]))
        skyline = skyline + _per_scene(p["hill_amplitude"][:, i]) * wave
    hill_share = step_up((world_v - skyline) * aspect).unsqueeze(2)
    far = (
        sky * (1 - hill_share)
        + (_colour(p["hill"]) + 0.3 * _per_scene(p["cloud_gain"])[..., None] * grain) * hill_share
    )

    patch_share = torch.sigmoid((patches - _per_scene(p["patch_level"])) * _per_scene(p["patch_sharpness"]))
    tile = torch.sin(
        _per_scene(p["stripe_frequency"][:, 0]) * (ground_x + 0.4 * world_v) + _per_scene(p["stripe_phase"][:, 0])
    )
    tile = tile * torch.sin(
        _per_scene(p["stripe_frequency"][:, 1]) * world_v * aspect + _per_scene(p["stripe_phase"][:, 1])
    )
    ground = _colour(p["ground"]) + _colour(p["ground_slope"]) * world_v.unsqueeze(2)
    ground = ground + _per_scene(p["grain_gain"])[..., None] * grain + _colour(p["patch"]) * patch_share.unsqueeze(2)
    ground = ground + (_per_scene(p["stripe_gain"]) * torch.tanh(4 * tile)).unsqueeze(2)
    for i in range(ROCKS):
        dx = (world_x - _per_scene(p["rock_centre"][:, i, 0])) / _per_scene(p["rock_radius"][:, i, 0])
        rock_v = horizon + _per_scene(p["rock_centre"][:, i, 1])
        dy = (world_v - rock_v) * aspect / _per_scene(p["rock_radius"][:, i, 1])
        inside = (1 - (dx * dx + dy * dy).sqrt()) * _per_scene(p["rock_radius"][:, i].amin(-1))
        share = (step_up(inside) * _per_scene(p["rock_there"][:, i])).unsqueeze(2)
        lit = _colour(p["rock_colour"][:, i]) - 0.12 * dy.clamp(-1, 1).unsqueeze(2)
        ground = ground * (1 - share) + lit * share
    ground = ground + (_per_scene(p["glint_gain"]) * ripple).unsqueeze(2)

    share = ground_share.unsqueeze(2)
    return (far * (1 - share) + ground * share).clamp(0, 1)


def _inside(p: dict[str, Tensor], o: int, canvas: Canvas, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Signed distance to object `o`'s outline (positive inside) and the object's own coordinates at (x, y)."""
    u, aspect = canvas.u, canvas.aspect
    radius, tallness = _per_scene(p["radius"][:, o]), _per_scene(p["tallness"][:, o])
    centre_x = _per_scene(p["middle"][:, o]) + _per_scene(p["travel"][:, o]) * u
    bob = _per_scene(p["bob_gain"][:, o]) * torch.sin(12 * u + _per_scene(p["bob_phase"][:, o]))
    centre_y = _per_scene(p["standing"][:, o]) * aspect - 0.9 * radius * tallness + bob
    dx, dy = x - centre_x, (y - centre_y) / tallness
    angle = torch.atan2(dy, dx) - _per_scene(p["turn"][:, o]) * u
    power = _per_scene(p["squareness"][:, o])
    # A superellipse's radius, then a few waves around it.
    outline = (angle.cos().abs().clamp_min(1e-4) ** power + angle.sin().abs().clamp_min(1e-4) ** power) ** (-1 / power)
    waves: Tensor | float = 1.0
    for k in range(HARMONICS):
        waves = waves + _per_scene(p["outline_gain"][:, o, k]) * torch.cos(
            (k + 2) * angle + _per_scene(p["outline_phase"][:, o, k])
        )
    dx, dy = torch.broadcast_tensors(dx, dy)
    return radius * outline * waves - (dx * dx + dy * dy).sqrt(), dx / radius, dy / radius


def _coat(p: dict[str, Tensor], o: int, dx: Tensor, dy: Tensor) -> Tensor:
    """The object's colour (B, F, 3, H, W) at its own coordinates."""
    batch, frames, height, width = dx.shape
    grid = (torch.stack([dx, dy], -1) / 1.8).reshape(batch, frames * height, width, 2)
    texture = F.grid_sample(p["coat"][:, o], grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    texture = texture.view(batch, 3, frames, height, width).transpose(1, 2)
    return (_colour(p["colour"][:, o]) + _per_scene(p["coat_gain"][:, o])[..., None] * texture).clamp(0, 1)


def _object(p: dict[str, Tensor], o: int, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Alpha (B, F, H, W) and colour (B, F, 3, H, W) of object `o` itself."""
    distance, dx, dy = _inside(p, o, canvas, canvas.x, canvas.y)
    solid = (distance / (1.5 * canvas.pixel) + 0.5).clamp(0, 1) * _per_scene(p["object_there"][:, o])
    return solid, _coat(p, o, dx, dy)


def _effect(p: dict[str, Tensor], o: int, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Alpha (B, F, H, W) and colour (B, F, 3, H, W) of what object `o` causes: a shadow or a reflection."""
    x, y, pixel = canvas.x, canvas.y, canvas.pixel
    line = _per_scene(p["standing"][:, o]) * canvas.aspect
    below = ((y - line) / (4 * pixel) + 1).clamp(0, 1)  # effects begin where the object stands
    there = _per_scene(p["object_there"][:, o])

    # A shadow: the outline upside down on the ground, sheared away from the light, with a soft border.
    squash, shear = _per_scene(p["squash"][:, o]), _per_scene(p["shear"][:, o])
    distance, _, _ = _inside(p, o, canvas, x + shear * (y - line), line - (y - line) / squash)
    shadow = (distance / SHADOW_BLUR + 0.5).clamp(0, 1)
    shadow = shadow * shadow * (3 - 2 * shadow) * below * there * _per_scene(p["shadow"][:, o])

    # A reflection: mirrored at the line, shaken by the waves.
    waves = _per_scene(p["ripple_gain"]) * _per_scene(p["reflection_ripple"][:, o]) * _ripple(p, x, y, canvas.step)
    distance, dx, dy = _inside(p, o, canvas, x + waves, 2 * line - y)
    reflection = (distance / (3 * pixel) + 0.5).clamp(0, 1) * below * there * _per_scene(p["reflection"][:, o])

    mirrored = _per_scene(p["reflection"][:, o])[..., None] > 0  # never both: dry ground or water
    return shadow + reflection, torch.where(mirrored, 0.85 * _coat(p, o, dx, dy), torch.zeros((), device=shadow.device))
