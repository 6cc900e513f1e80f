"""What rendered scenes are made of: forms are closed and face outwards, textures tile, figures walk and roll."""

from collections.abc import Callable

import numpy as np
import pytest

from layerlift.scenes.rendered import figures, plants, textures
from layerlift.scenes.rendered.materials import bumpy, matt, partly
from layerlift.scenes.rendered.shapes import (
    IDENTITY,
    Mesh,
    blades,
    box,
    flat,
    ground,
    joined,
    lathe,
    leaves,
    rounded,
    tube,
    turned,
)
from layerlift.scenes.rendered.terrain import Terrain, rock
from layerlift.scenes.rendered.tracer import filtered
from layerlift.scenes.rendered.water import Waves
from layerlift.scenes.rendered.world import Part

GREY = (0.5, 0.5, 0.5)
TURN = turned(0.7, -0.4, 1.1)
CLOSED = {
    "box": box((-1, 2, 0.5), (1, 3, 4)),
    "ball": rounded((1, 1, 1), 2.0),
    "rounded box": rounded((1.0, 2.0, 0.5), 5.0),
    "capsule": tube((0.3, 0, 0), (1, 2, 3), 0.4, 0.2),
    "capsule along y": tube((0, 1, 0), (0, -1, 0), 0.3),
    "lathe": lathe([(0, 0), (0.5, 0), (0.6, 0.4), (0.2, 1), (0, 1)]),
    "boulder": rock(np.random.default_rng(1), (3, 1, 0), 1.4),
}


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def face_normals(mesh: Mesh) -> np.ndarray:
    """The normal (T, 3) of each triangle, as long as twice its area."""
    corners = mesh.vertices[mesh.faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def volume(mesh: Mesh) -> float:
    """The signed volume: positive where faces look outwards."""
    return float(np.linalg.det(mesh.vertices[mesh.faces] - mesh.vertices.mean(0)).sum() / 6)


def open_edges(mesh: Mesh) -> int:
    """How many edges have no neighbour that runs the other way; vertices in the same place count as one."""
    _, number = np.unique(np.round(mesh.vertices, 3) + 0.0, axis=0, return_inverse=True)
    edges = np.concatenate([np.stack([number[mesh.faces[:, i]], number[mesh.faces[:, i - 2]]], 1) for i in range(3)])
    edges = edges[edges[:, 0] != edges[:, 1]]
    there, count = np.unique(edges, axis=0, return_counts=True)
    edge = {tuple(pair): number for pair, number in zip(there.tolist(), count, strict=True)}
    return sum(edge.get((b, a), 0) != number for (a, b), number in edge.items())


def everything(parts: list[Part]) -> np.ndarray:
    return np.concatenate([part.mesh.vertices for part in parts])


@pytest.mark.parametrize("name", CLOSED)
def test_forms_are_closed_and_face_outwards(name: str) -> None:
    assert open_edges(CLOSED[name]) == 0
    assert volume(CLOSED[name]) > 0


def test_volumes_are_what_geometry_says() -> None:
    assert volume(CLOSED["box"]) == pytest.approx(2 * 1 * 3.5)
    assert volume(CLOSED["ball"]) == pytest.approx(np.pi / 6, rel=0.03)
    length, r = np.sqrt(8), 0.3
    assert volume(tube((0, 0, 0), (2, 0, 2), r)) == pytest.approx(np.pi * r**2 * (length + 4 / 3 * r), rel=0.04)


@pytest.mark.parametrize("name", [name for name, mesh in CLOSED.items() if mesh.normals is not None])
@pytest.mark.parametrize("turn", [IDENTITY, TURN], ids=["as it is", "turned"])
def test_normals_agree_with_faces_when_stretched_and_turned(name: str, turn: np.ndarray) -> None:
    mesh = CLOSED[name].moved((1, 2, 3), turn, (0.5, 1, 3))
    assert mesh.normals is not None
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1)
    faces = face_normals(mesh)
    size = np.linalg.norm(faces, axis=1)
    real = size > 1e-3 * size.max()
    agreement = np.einsum("tk,tck->tc", faces[real] / size[real, None], mesh.normals[mesh.faces[real]]).mean(1)
    assert (agreement > 0).mean() > 0.99  # all but at a boulder's sharpest edge
    assert np.median(agreement) > 0.95


def test_a_stretched_ball_has_an_ellipsoids_normals() -> None:
    stretched, made = rounded((1, 1, 1), 2).moved(scale=(1, 2, 3)), rounded((1, 2, 3), 2)
    assert np.allclose(stretched.vertices, made.vertices)
    assert stretched.normals is not None
    assert made.normals is not None
    assert np.allclose(stretched.normals, made.normals, atol=1e-6)


def test_turned_is_a_rotation_about_y_then_x_then_z() -> None:
    assert np.allclose(TURN @ TURN.T, IDENTITY)
    assert np.linalg.det(TURN) == pytest.approx(1)
    assert np.allclose(TURN, turned(0.7) @ turned(x=-0.4) @ turned(y=1.1))
    assert np.allclose(turned(np.pi / 2) @ (1, 0, 0), (0, 1, 0))


def test_joined_meshes_keep_their_triangles_and_are_smooth_when_all_are() -> None:
    ball, cube = CLOSED["ball"], CLOSED["box"]
    both = joined([ball, cube, ball])
    assert np.allclose(face_normals(both), np.concatenate([face_normals(mesh) for mesh in (ball, cube, ball)]))
    assert both.normals is None
    assert joined([ball, ball]).normals is not None


def test_a_rectangle_faces_right_by_up_and_its_texture_goes_on_in_the_next() -> None:
    left, right = (flat((x, 1, 0), (2, 0, 0), (0, 0, 1), 0.5) for x in (1, 3))
    assert np.allclose(face_normals(left), (0, -2, 0))
    assert np.allclose(left.uv[1], right.uv[0])
    assert np.allclose(left.uv[1] - left.uv[0], (2 / 0.5, 0))


def test_ground_has_its_heights_in_place_and_faces_up() -> None:
    heights = rng().normal(0, 0.1, (4, 5))
    mesh = ground(heights, (-2, 2), (0, 3), 2.0)
    assert np.allclose(mesh.vertices.reshape(4, 5, 3)[2, 1], (-1, 2, heights[2, 1]))
    assert (face_normals(mesh)[:, 2] > 0).all()
    assert np.allclose(mesh.uv, mesh.vertices[:, :2] / 2)


def test_blades_stand_on_their_roots_and_leaves_lie_where_they_are_told() -> None:
    roots, height, lean = rng().random((6, 3)), np.linspace(0.2, 0.7, 6), rng().normal(0, 0.1, (6, 2))
    grown = blades(roots, height, lean, 0.02).vertices.reshape(6, 5, 3)
    assert np.allclose(grown[:, :2].mean(1), roots)
    assert np.allclose(grown[:, 4] - roots, np.concatenate([lean, height[:, None]], 1))
    facing = rng().normal(0, 1, (6, 3))
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    mesh = leaves(roots, facing, height)
    corners = mesh.vertices.reshape(6, 4, 3)
    assert np.allclose(corners.mean(1), roots)
    assert np.allclose(np.linalg.norm(corners[:, 2] - corners[:, 0], axis=1), height)
    assert np.allclose(((corners - roots[:, None]) * facing[:, None]).sum(-1), 0)


def test_plants_stand_on_the_ground_they_are_given() -> None:
    land = Terrain(rng(), 10, 0.5, lambda x, y: 0.3 * x + 0 * y)
    foot = plants.grass(rng(), (-5, 5), (-5, 5), 300, 0.3, at=land.at).mesh.vertices.reshape(-1, 5, 3)[:, :2].mean(1)
    assert np.allclose(foot[:, 2], land.at(foot[:, 0], foot[:, 1]) - 0.01)
    stems, *petals = plants.flowers(rng(), (-5, 5), (-5, 5), 50, 0.4, at=land.at)
    foot = stems.mesh.vertices.reshape(-1, 5, 3)[:, :2].mean(1)
    assert np.allclose(foot[:, 2], land.at(foot[:, 0], foot[:, 1]))
    blossoms = everything(petals)
    above = blossoms[:, 2] - land.at(blossoms[:, 0], blossoms[:, 1])
    assert above.mean() == pytest.approx(0.41, abs=0.03)
    trunk, crown = plants.tree(rng(), (1, 2, 3), 5.0, count=300)
    assert trunk.mesh.vertices[:, 2].min() == pytest.approx(3 - 0.035 * 5, abs=0.001)  # a round end below
    assert crown.mesh.vertices[:, 2].max() < 3 + 1.2 * 5


def test_terrain_is_the_same_everywhere_it_is_asked_for() -> None:
    land = Terrain(rng(), 10, 0.5, lambda x, y: 0.3 * x + 0 * y)
    mesh = land.mesh((-4, 4), (-2, 6), 30)
    x, y, z = mesh.vertices.T
    assert np.allclose(land.at(x, y), z)
    assert np.allclose(land.spot(x[77], y[77], 0.5), (x[77], y[77], z[77] + 0.5))
    assert z[x > 3].mean() > z[x < -3].mean() + 1


TEXTURES: dict[str, Callable[[], np.ndarray | tuple[np.ndarray, ...]]] = {
    "even": lambda: textures.even(GREY, rng()),
    "brick": lambda: textures.brick(rng(), (0.4, 0.2, 0.1)),
    "slabs": lambda: textures.slabs(rng(), GREY),
    "planks": lambda: textures.planks(rng(), GREY),
    "gravel": lambda: textures.gravel(rng(), [GREY, (0.3, 0.2, 0.1)]),
    "asphalt": lambda: textures.asphalt(rng()),
    "earth": lambda: textures.earth(rng(), GREY, (0.3, 0.2, 0.1)),
    "painting": lambda: textures.painting(rng()),
}


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_tile_and_reflect_neither_nothing_nor_all(name: str) -> None:
    made = TEXTURES[name]()
    picture, *heights = made if isinstance(made, tuple) else (made,)
    assert picture.shape == (textures.SIDE, textures.SIDE, 3)
    assert picture.dtype == np.float32
    assert 0.01 <= picture.min() <= picture.max() <= np.float32(0.95)
    for image in (picture, *heights):
        for axis in (0, 1):
            inner = np.moveaxis(np.abs(np.diff(image, axis=axis)), axis, 0)
            border = np.abs(np.take(image, 0, axis) - np.take(image, -1, axis))
            assert border.mean() < 1.25 * inner.reshape(len(inner), -1).mean(1).max()


def test_smooth_noise_goes_on_across_the_border() -> None:
    field = textures.noise(rng(), 1.8)
    assert abs(float(field.mean())) < 1e-4
    assert float(field.std()) == pytest.approx(1, abs=1e-4)
    for axis in (0, 1):
        border = np.abs(np.take(field, 0, axis) - np.take(field, -1, axis)).mean()
        assert border < 2 * np.abs(np.diff(field, axis=axis)).mean()


def test_bricks_stand_out_from_their_mortar_in_sixteen_courses() -> None:
    picture, heights = textures.brick(rng(), (0.4, 0.15, 0.1))
    courses = heights.mean(1).reshape(16, -1)  # (course, rows of it)
    assert (courses[:, 0] < courses[:, courses.shape[1] // 2] - 0.3).all()
    # In every second course a brick lies across the border: its halves have one colour.
    halved = picture[..., 0].reshape(16, 32, -1)[1::2, 8:24]
    assert np.abs(halved[..., 0] - halved[..., -1]).mean() < 1.3 * np.abs(np.diff(halved, axis=-1)).mean()
    redness = picture[..., 0] / picture[..., 2]
    assert redness[heights > 0.5].mean() > 2 * redness[heights < 0.2].mean()


def test_pictures_are_made_coarser_as_long_as_a_pixel_covers_more_than_a_texel() -> None:
    picture = textures.even(GREY, rng())
    assert filtered(matt(picture), 0)["bsdf"]["reflectance"] is picture
    coarse = filtered(matt(picture), 1 / 64)["bsdf"]["reflectance"]
    assert coarse.shape == (64, 64, 3)
    assert np.allclose(coarse[3, 5], picture[24:32, 40:48].mean((0, 1)), atol=1e-5)
    assert filtered(picture, 1e6).shape == (8, 8, 3)
    assert filtered(np.ones((510, 9, 3)), 1.0).shape == (510, 9, 3)  # halves no odd side
    assert filtered(matt(GREY), 1.0) == matt(GREY)


def test_materials_in_materials_have_one_side() -> None:
    share = np.zeros((4, 4))
    made = partly(bumpy(matt(GREY), share, 0.1), matt(GREY), share)
    assert made["type"] == "twosided"
    assert "twosided" not in str(made["bsdf"])


def test_waves_move_with_the_wind_about_one_height() -> None:
    waves = Waves(rng(), 2.0, 0.01, wind=0.0)
    surfaces = [waves.surface((-10, 10), (0, 8), (80, 400), t).vertices.reshape(80, 400, 3) for t in (0.0, 0.1)]
    first, then = (surface[..., 2] for surface in surfaces)
    assert np.array_equal(surfaces[0][..., :2], surfaces[1][..., :2])
    assert np.abs(then - first).mean() > 0.2 * first.std()
    for height in (first, then):
        assert abs(height.mean()) < 0.1 * height.std()
    # Two samples, 10 cm, towards +x.
    with_wind, against = np.abs(then[:, 2:] - first[:, :-2]).mean(), np.abs(then[:, :-2] - first[:, 2:]).mean()
    assert with_wind < 0.6 * against


@pytest.mark.slow
def test_waves_are_as_fast_as_deep_water_carries_them() -> None:
    waves = Waves(rng(), 2.0, 0.01, wind=0.0)
    times = np.arange(0, 200, 0.05)
    here = np.array([waves.surface((0, 1e-3), (0, 1e-3), (2, 2), t).vertices[0, 2] for t in times])
    spectrum = np.abs(np.fft.rfft(here * np.hanning(len(here))))
    fastest, slowest = (np.sqrt(9.81 * 2 * np.pi / length) for length in (2.0 * 0.07**1.3, 2.0))
    radians = 2 * np.pi * np.fft.rfftfreq(len(here), 0.05)
    inside = (radians > 0.97 * slowest) & (radians < 1.03 * fastest)
    assert spectrum[~inside].sum() < 0.02 * spectrum.sum()


PHASES = np.arange(24) / 24 * figures.STRIDE


def test_the_walkers_lower_foot_stands_on_the_ground() -> None:
    lowest = [everything(figures.walker(walked, GREY, GREY))[:, 2].min() for walked in PHASES]
    assert np.abs(lowest).max() < 0.01
    assert 1.75 < everything(figures.walker(0.0, GREY, GREY))[:, 2].max() < 1.9


def test_the_walker_lifts_the_foot_that_goes_forwards() -> None:
    def shoes(walked: float) -> np.ndarray:
        """The middles (2, 3) of the left and right shoe."""
        vertices = figures.walker(walked, GREY, GREY)[3].mesh.vertices
        return np.stack([vertices[vertices[:, 1] < 0].mean(0), vertices[vertices[:, 1] > 0].mean(0)])

    forwards, lifted = [], []
    for walked in PHASES:
        before, now, after = (shoes(walked + step) for step in (-0.02, 0, 0.02))
        raised = int(now[1, 2] > now[0, 2])
        if abs(now[1, 2] - now[0, 2]) > 0.1:
            forwards.append(after[raised, 0] > before[raised, 0])
            lifted.append(raised)
    assert len(forwards) > 6
    assert all(forwards)
    assert set(lifted) == {0, 1}


def test_the_walker_looks_where_it_goes() -> None:
    legs, _, skin, shoes, cap = (part.mesh.vertices for part in figures.walker(figures.STRIDE / 4, GREY, GREY))
    assert skin[skin[:, 2] > 1.5][:, 0].mean() > cap[:, 0].mean() + 0.01
    assert shoes[:, 0].mean() > legs[:, 0].mean() + 0.01


@pytest.mark.parametrize(
    ("made", "tyres"),
    [(lambda way: figures.ball(way, 0.2, GREY), 1), (lambda way: figures.car(way, GREY)[6:], 4)],
    ids=["ball", "car"],
)
def test_what_rolls_does_not_slide(made: Callable[[float], list[Part]], tyres: int) -> None:
    way = 0.001
    before, after = everything(made(0.3)), everything(made(0.3 + way))
    bottom = before[:, 2] < 0.004
    assert bottom.sum() >= tyres
    assert np.allclose((after - before)[bottom], (-way, 0, 0), atol=0.25 * way)
    assert before[:, 2].min() == pytest.approx(0, abs=0.002)


def test_marbles_stay_the_same_while_the_cart_rolls() -> None:
    first, then = (figures.jar(way, GREY, [GREY, (0.1, 0.2, 0.3)]) for way in (0.0, 0.1))
    same = [np.array_equal(a.mesh.vertices, b.mesh.vertices) for a, b in zip(first, then, strict=True)]
    assert same == [True] * 6 + [False] * 2  # but for wheels and their knobs


def test_placed_parts_are_scaled_turned_and_moved() -> None:
    part = Part(box((0, 0, 0), (1, 1, 1)), matt(GREY), glow=GREY)
    (moved,) = figures.placed([part], (5, 0, 1), figures.towards(-1), 2.0)
    assert np.allclose(moved.mesh.vertices.min(0), (3, -2, 1))
    assert np.allclose(moved.mesh.vertices.max(0), (5, 0, 3))
    assert moved.glow == GREY
    assert figures.towards(1) == 0
