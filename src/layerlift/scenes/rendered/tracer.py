"""Mitsuba 3 as a function: parts, lights and a view go in, light comes out. It is imported when it renders."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerlift.errors import InputError
from layerlift.scenes.rendered.materials import Material, Paint, matt
from layerlift.scenes.rendered.shapes import Mesh, Point, joined
from layerlift.scenes.rendered.world import Part, Smoke, View, World

# The only variant that needs no compiler and no graphics card, and gives the same picture on every machine.
VARIANT = "scalar_rgb"
BLACK = matt((0.0, 0.0, 0.0))
SURFACES = {"type": "path", "max_depth": 1}  # what is seen directly, as far as it glows
# Pixels a side that share a stream of random numbers: the smaller, the more of a picture stays the same where a thing
# changes nothing.
BLOCK = 8
WHITE_GLOW = (1.0, 1.0, 1.0)
# Samples of colours, normals and positions: they are without noise but for what lies within a pixel.
GUIDE_SAMPLES = 16
FAR = 6e4  # metres: where there is nothing to be hit


@dataclass(frozen=True, slots=True)
class Traced:
    """One picture with what guides the denoiser; (H, W, …) float32, means over each pixel and the shutter's time."""

    light: np.ndarray  # (H, W, 3) linear radiance
    albedo: np.ndarray  # (H, W, 3)
    normal: np.ndarray  # (H, W, 3)
    position: np.ndarray  # (H, W, 3) metres; where no surface is, a point FAR away
    depth: np.ndarray  # (H, W) metres from the camera, along the ray

    @staticmethod
    def mean(pictures: Sequence[Traced], weights: Sequence[float]) -> Traced:
        """The weighted mean of pictures of one size."""
        share = np.asarray(weights, np.float32) / np.float32(sum(weights))
        return Traced(
            *(
                sum(part * getattr(picture, name) for part, picture in zip(share, pictures, strict=True))
                for name in ("light", "albedo", "normal", "position", "depth")
            )
        )


def check_installed() -> None:
    """Raises InputError, with what to install, where Mitsuba or the denoiser is missing."""
    if any(importlib.util.find_spec(name) is None for name in ("mitsuba", "mitsuba_oidn")):
        raise InputError("rendered scenes need Mitsuba 3, which is not installed: run pip install 'layerlift[render]'.")


class Tracer:
    """Renders parts of a world. Parts that never move are handed over once and kept in Mitsuba's own form."""

    def __init__(self, world: World, size: tuple[int, int]):
        import mitsuba

        mitsuba.set_variant(VARIANT)
        mitsuba.set_log_level(mitsuba.LogLevel.Error)
        self._mitsuba = mitsuba
        self._size = size
        # Clouds take another kind of path. It is used with and without them: then the rest stays the same.
        clouds = any(part.cloud for thing in world.things for part in thing.trail(0.0))
        self._integrator = {"type": "volpath" if clouds else "path", "max_depth": world.bounces, "block_size": BLOCK}
        view = world.camera(0.0)
        pixel = 2 * np.tan(np.deg2rad(view.field) / 2) / size[0]  # metres a metre away
        self._parts = [
            Part(part.mesh, filtered(part.material, texel_share(part.mesh, view, pixel)), part.glow)
            for part in world.parts
        ]
        self._still = [self._shape(part) for part in self._parts]
        self._lights = [self._loaded(light) for light in world.lights]
        self._colours = [self._coloured(part, view) for part in self._parts]
        self._whole = self._joined(self._parts)

    def render(
        self, parts: Iterable[Part], view: View, samples: Sequence[int], seed: int, guiding: int = GUIDE_SAMPLES
    ) -> list[Traced]:
        """The still parts and `parts` from `view`: pictures with so many samples a pixel each, and the same guides."""
        moving = list(parts)
        shapes = [*self._still, *(self._shape(part) for part in moving)]
        scene = self._scene(shapes, self._lights, self._integrator, view)
        guides = self._guides([part for part in moving if part.cloud is None], view, guiding, seed)
        return [Traced(self._values(scene, count, seed + index), *guides) for index, count in enumerate(samples)]

    def _guides(self, moving: Sequence[Part], view: View, samples: int, seed: int) -> tuple[np.ndarray, ...]:
        """Albedo, normals, positions and depths.

        Mitsuba's `aov` takes 20 times as long as light where shapes are many: so colours are what surfaces glow with,
        and the rest comes from all meshes joined to one.
        """
        colours = [*self._colours, *(self._coloured(part, view) for part in moving)]
        albedo = self._values(self._scene(colours, [], SURFACES, view), samples, seed)
        wholes = [self._whole, *([self._joined(moving)] if moving else [])]
        integrator = {"type": "aov", "aovs": "normal:sh_normal,position:position,depth:depth"}
        values = self._values(self._scene(wholes, [], integrator, view), samples, seed)
        normal, position, depth = np.split(values, (3, 6), -1)
        nothing = depth[..., 0] <= 0
        position[nothing] = (np.asarray(view.eye) + FAR * rays(view, self._size))[nothing]
        depth[nothing] = FAR
        return albedo, normal, position, depth[..., 0]

    def _coloured(self, part: Part, view: View) -> Any:
        """A part that glows with its own colour."""
        return self._shape(Part(facing(part.mesh, view.eye), BLACK, glow=albedo_of(part.material)))

    def _joined(self, parts: Sequence[Part]) -> Any:
        """All parts as one black mesh."""
        return self._shape(Part(joined([split(part.mesh) for part in parts]), BLACK))

    def coverage(self, parts: Iterable[Part], thing: Iterable[Part], view: View, samples: int, seed: int) -> np.ndarray:
        """How much of each pixel the parts of `thing` cover, (H, W) float32, where nothing stands before them."""
        moving = [self._shape(replace(part, material=BLACK, glow=None)) for part in parts if part.cloud is None]
        marked = [
            self._shape(Part(facing(part.mesh, view.eye), BLACK, glow=WHITE_GLOW))
            for part in thing
            if part.cloud is None
        ]
        values = self._values(self._scene([*self._dark(), *moving, *marked], [], SURFACES, view), samples, seed)
        return np.clip(values[..., 0], 0, 1)

    def _dark(self) -> list[Any]:
        """The still parts without what glows in them."""
        return [
            self._shape(replace(part, material=BLACK, glow=None)) if part.glow else shape
            for part, shape in zip(self._parts, self._still, strict=True)
        ]

    def _scene(self, shapes: list[Any], lights: list[Any], integrator: dict[str, Any], view: View) -> Any:
        width, height = self._size
        transform = self._mitsuba.ScalarTransform4f
        sensor = {
            "type": "perspective",
            "fov": view.field,
            "near_clip": 0.02,
            "to_world": transform().look_at(origin=list(view.eye), target=list(view.target), up=[0, 0, 1]),
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "rfilter": {"type": "box"},
                "component_format": "float32",
            },
            "sampler": {"type": "multijitter"},
        }
        everything = {f"shape{index}": shape for index, shape in enumerate(shapes)}
        everything |= {f"light{index}": light for index, light in enumerate(lights)}
        return self._mitsuba.load_dict({"type": "scene", "integrator": integrator, "sensor": sensor, **everything})

    def _values(self, scene: Any, samples: int, seed: int) -> np.ndarray:
        return np.array(self._mitsuba.render(scene, spp=samples, seed=seed), np.float32)

    def _shape(self, part: Part) -> Any:
        properties = self._mitsuba.Properties()
        if part.cloud is not None:
            properties["interior"] = self._medium(part.cloud, part.mesh)
            properties["bsdf"] = self._mitsuba.load_dict({"type": "null"})
        else:
            properties["bsdf"] = self._loaded(part.material)
        if part.glow is not None:
            properties["glow"] = self._loaded({"type": "area", "radiance": part.glow})
        mesh = part.mesh
        smooth = mesh.normals is not None
        shape = self._mitsuba.Mesh("part", len(mesh.vertices), len(mesh.faces), properties, smooth, True)
        values = self._mitsuba.traverse(shape)
        values["vertex_positions"] = np.ravel(mesh.vertices).astype(np.float32)
        values["faces"] = np.ravel(mesh.faces).astype(np.uint32)
        values["vertex_texcoords"] = np.ravel(mesh.uv).astype(np.float32)
        if smooth:
            values["vertex_normals"] = np.ravel(np.asarray(mesh.normals)).astype(np.float32)
        values.update()
        return shape

    def _medium(self, cloud: Smoke, border: Mesh) -> Any:
        low, high = border.vertices.min(0), border.vertices.max(0)
        to_world = self._mitsuba.ScalarTransform4f().translate(low.tolist()).scale((high - low).tolist())
        grid = self._mitsuba.VolumeGrid(cloud.density[..., None].astype(np.float32))
        return self._mitsuba.load_dict(
            {
                "type": "heterogeneous",
                "sigma_t": {"type": "gridvolume", "grid": grid, "to_world": to_world},
                "albedo": {"type": "rgb", "value": list(cloud.colour)},
                "scale": cloud.thickness,
            }
        )

    def _loaded(self, description: Material) -> Any:
        return self._mitsuba.load_dict(self._translated(description))

    def _translated(self, value: Any) -> Any:
        """Colours and pictures in Mitsuba's own words."""
        if isinstance(value, dict):
            return {key: self._translated(inner) for key, inner in value.items()}
        if isinstance(value, np.ndarray):
            picture = np.ascontiguousarray(value, np.float32)
            return {"type": "bitmap", "bitmap": self._mitsuba.Bitmap(picture), "raw": True}
        if isinstance(value, tuple):
            return {"type": "rgb", "value": [float(part) for part in value]}
        return value


def facing(mesh: Mesh, eye: Point) -> Mesh:
    """The mesh with every triangle and normal turned towards `eye`: light is sent out from one side only."""
    away = np.asarray(eye) - mesh.vertices
    if mesh.normals is not None:
        back = (mesh.normals * away).sum(1, keepdims=True) < 0
        return Mesh(mesh.vertices, mesh.faces, mesh.uv, np.where(back, -mesh.normals, mesh.normals))
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    back = (normals * away[mesh.faces[:, 0]]).sum(1) < 0
    return replace(mesh, faces=np.where(back[:, None], mesh.faces[:, ::-1], mesh.faces))


def texel_share(mesh: Mesh, view: View, pixel: float) -> float:
    """How much of a texture's side a pixel covers where the mesh is nearest; `pixel` is its width a metre away."""
    corners, uv = mesh.vertices[mesh.faces], mesh.uv[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    first, second = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    covered = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum()
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    distance = max(float(np.linalg.norm(np.asarray(view.eye) - np.clip(view.eye, low, high))), 1e-3)
    return float(np.sqrt(covered / max(area, 1e-12)) * distance * pixel)


def filtered(value: Any, share: float) -> Any:
    """A material whose pictures are made coarser, as long as a pixel covers more than a texel (Williams 1983)."""
    if isinstance(value, dict):
        return {key: filtered(inner, share) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        while min(value.shape[:2]) % 2 == 0 and share * min(value.shape[:2]) >= 1.5 and min(value.shape[:2]) > 8:
            value = value.reshape(value.shape[0] // 2, 2, value.shape[1] // 2, 2, -1).mean((1, 3))
    return value


def split(mesh: Mesh) -> Mesh:
    """The mesh with normals of its own: a flat one gets vertices of their own for each triangle."""
    if mesh.normals is not None:
        return mesh
    corners = mesh.vertices[mesh.faces]  # (T, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    faces = np.arange(3 * len(corners)).reshape(-1, 3)
    return Mesh(corners.reshape(-1, 3), faces, mesh.uv[mesh.faces].reshape(-1, 2), np.repeat(normals, 3, 0))


def albedo_of(material: Material) -> Paint:
    """The colour a surface has in white light, as far as one colour says it."""
    if material["type"] == "blendbsdf":
        share, first, second = material["weight"], albedo_of(material["first"]), albedo_of(material["second"])
        return np.asarray((1 - share) * first + share * second, np.float32)
    if "bsdf" in material:
        return albedo_of(material["bsdf"])
    names = ("reflectance", "diffuse_reflectance", "specular_reflectance")
    colours: list[Paint] = [material[name] for name in names if name in material]
    return colours[0] if colours else (1.0, 1.0, 1.0)


def denoised(picture: Traced) -> np.ndarray:
    """The picture's light (H, W, 3) by Open Image Denoise, guided by albedo and normals."""
    import mitsuba_oidn

    return np.asarray(
        mitsuba_oidn.denoise(
            np.ascontiguousarray(picture.light),
            albedo=np.ascontiguousarray(np.clip(picture.albedo, 0, 1)),
            normal=np.ascontiguousarray(picture.normal),
            hdr=True,
        )
    )


def basis(view: View) -> np.ndarray:
    """The camera's axes in the world, as rows (3, 3): to the right, up, and ahead."""
    ahead = np.subtract(view.target, view.eye).astype(float)
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0, 0, 1))
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, ahead), ahead])


def rays(view: View, size: tuple[int, int]) -> np.ndarray:
    """Unit directions (H, W, 3) through the middles of the pixels."""
    width, height = size
    reach = np.tan(np.deg2rad(view.field) / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * reach
    y = -((np.arange(height) + 0.5) / height * 2 - 1) * reach * height / width
    across, up = np.meshgrid(x, y)
    direction = np.stack([across, up, np.ones_like(across)], -1) @ basis(view)
    return direction / np.linalg.norm(direction, axis=-1, keepdims=True)


def projected(points: np.ndarray, view: View, size: tuple[int, int]) -> np.ndarray:
    """Where points (H, W, 3) are in the picture: (H, W, x and y) in pixels, 0.5 in the middle of the first."""
    width, height = size
    local = (points - np.asarray(view.eye)) @ basis(view).T
    local = local / np.maximum(local[..., 2:], 1e-6) / np.tan(np.deg2rad(view.field) / 2)
    return np.stack([(local[..., 0] + 1) / 2 * width, height / 2 - local[..., 1] * width / 2], -1)
