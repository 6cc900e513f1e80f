"""Places of rendered scenes: which one a seed is, and that what moves there is in the picture."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from layerlift.scenes.rendered.places import PLACES, draw_world, next_place
from layerlift.scenes.rendered.streets import facade
from layerlift.scenes.rendered.tracer import basis, projected
from layerlift.scenes.rendered.world import Part, World
from layerlift.scenes.spec import Effect

SIZE = (432, 240)
MIDDLE = 16 / 24  # seconds: the middle of 33 frames


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [draw_world(seed) for seed in range(len(PLACES))]


def numbers(world: World, t: float) -> Iterator[np.ndarray]:
    """All geometry, pictures and views at a time."""
    moving = [*world.moving(t), *(part for thing in world.things for part in [*thing.parts(t), *thing.trail(t)])]
    for part in [*world.parts, *moving]:
        yield from (part.mesh.vertices, part.mesh.uv, *pictures(part.material))
        if part.cloud:
            yield part.cloud.density
    view = world.camera(t)
    yield np.array([*view.eye, *view.target, view.field])


def pictures(material: dict[str, Any]) -> Iterator[np.ndarray]:
    """The pictures that a material is made of."""
    for value in material.values():
        if isinstance(value, dict):
            yield from pictures(value)
        elif isinstance(value, np.ndarray):
            yield value


def vertices(parts: list[Part]) -> np.ndarray:
    return np.concatenate([part.mesh.vertices for part in parts])


def in_picture(points: np.ndarray, world: World, t: float) -> np.ndarray:
    """Where points (V, 3) are in the picture at a time, (V, x and y)."""
    return projected(points[None], world.camera(t), SIZE)[0]


@pytest.mark.slow
def test_eight_seeds_in_a_row_are_eight_places(worlds: list[World]) -> None:
    names = [world.place for world in worlds]
    assert names == [place.__name__ for place in PLACES]
    assert len(set(names)) == 8
    assert draw_world(3 + 8).place == names[3]
    assert draw_world(2000 + 6).place == names[6]


@pytest.mark.parametrize("seed", [3, 5])
def test_the_same_seed_gives_the_same_world_and_another_another(seed: int, worlds: list[World]) -> None:
    first, again, other = (
        list(numbers(world, 0.3)) for world in (worlds[seed], draw_world(seed), draw_world(seed + 8))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(first, other, strict=False))


def test_next_places_go_round() -> None:
    assert [next_place(seed) for seed in (2000, 2006, 2007, 7)] == [2001, 2007, 2000, 0]


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        draw_world(-1)


def test_things_are_in_the_picture_in_the_middle_of_the_clip(worlds: list[World]) -> None:
    for world in worlds:
        view = world.camera(MIDDLE)
        for thing in world.things:
            points = vertices(thing.parts(MIDDLE))
            assert ((points - view.eye) @ basis(view)[2]).min() > 0.1, world.place  # before the camera
            where = in_picture(points, world, MIDDLE)
            inside = ((where > 0) & (where < SIZE)).all(1).mean()
            assert inside > 0.8, (world.place, thing.name, inside)
            # Large enough to be seen, small enough to see what is behind.
            extent = np.ptp(where, axis=0)
            assert 12 < extent.min() <= extent.max() < 0.75 * SIZE[0], (world.place, thing.name, extent)


def test_things_move_through_the_picture_from_side_to_side(worlds: list[World]) -> None:
    for world in worlds:
        for thing in world.things:
            before, after = (vertices(thing.parts(t)) for t in (MIDDLE - 0.25, MIDDLE + 0.25))
            shift = in_picture(after, world, MIDDLE + 0.25).mean(0) - in_picture(before, world, MIDDLE - 0.25).mean(0)
            assert abs(shift[0]) > 10, (world.place, thing.name)
            step = after.mean(0) - before.mean(0)
            assert abs(step[0]) > max(0.1, 5 * abs(step[1])), (world.place, thing.name)


# Numbers of a part in front and one behind it: face and cap, lamps and tail lamps, beak and body, bill and body.
FRONTS = {
    "person": (2, 4),
    "person with a lantern": (2, 4),
    "car": (4, 5),
    "toy car": (4, 5),
    "bird": (2, 1),
    "bird on the water": (4, 0),
}


def test_things_face_where_they_go(worlds: list[World]) -> None:
    seen = set()
    for world in worlds:
        for thing in world.things:
            if thing.name in FRONTS:
                front, back = (thing.parts(MIDDLE)[number].mesh.vertices for number in FRONTS[thing.name])
                if thing.name.startswith("person"):
                    front = front[front[:, 2] > back[:, 2].min()]  # hands are of skin, too
                step = vertices(thing.parts(MIDDLE + 0.05)).mean(0) - vertices(thing.parts(MIDDLE)).mean(0)
                assert (front.mean(0) - back.mean(0))[0] * step[0] > 0, (world.place, thing.name)
                seen.add(thing.name)
    assert seen == set(FRONTS)


def test_all_kinds_of_effects_occur_and_none(worlds: list[World]) -> None:
    effects = [thing.effects for world in worlds for thing in world.things]
    assert {effect for some in effects for effect in some} == set(Effect)
    assert () in effects
    assert sorted(len(world.things) for world in worlds) == [1] * 6 + [2] * 2


def test_half_of_the_cameras_stand_still(worlds: list[World]) -> None:
    assert sum(world.moves for world in worlds) == 4
    for world in worlds:
        assert (world.camera(0.0) != world.camera(1.0)) == world.moves, world.place


def test_every_second_seed_is_blurred_and_a_place_every_second_time(worlds: list[World]) -> None:
    assert [world.blurred for world in worlds] == [False, True] * 4
    assert draw_world(3 + 8).blurred != worlds[3].blurred
    assert draw_world(3 + 16).blurred == worlds[3].blurred


def test_meshes_are_whole_and_materials_are_real(worlds: list[World]) -> None:
    for world in worlds:
        moving = [*world.moving(0.5), *(part for thing in world.things for part in thing.parts(0.5))]
        for part in [*world.parts, *moving]:
            mesh = part.mesh
            assert np.isfinite(mesh.vertices).all()
            assert 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices) == len(mesh.uv)
            if mesh.normals is not None:
                assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1)
            for picture in pictures(part.material):
                if picture.shape[-1] == 3:
                    assert 0 < picture.min() <= picture.max() < 1, world.place
            assert str(part.material).count("twosided") <= 1


@pytest.mark.parametrize("place", ["lakeside", "beach"])
def test_only_water_moves_by_itself(place: str, worlds: list[World]) -> None:
    world = next(world for world in worlds if world.place == place)
    before, after = (world.moving(t)[0].mesh.vertices for t in (0.0, 0.5))
    assert np.abs(after - before).max() > 0.005
    assert abs(after[:, 2].mean() - before[:, 2].mean()) < 0.01
    assert [world.place for world in worlds if world.moving(0.0)] == ["lakeside", "beach"]


def test_smoke_follows_the_car(worlds: list[World]) -> None:
    (world,) = (world for world in worlds if world.place == "yard")
    (thing,) = world.things
    for t in (0.2, MIDDLE):
        (trail,) = thing.trail(t)
        assert trail.cloud is not None
        density = trail.cloud.density  # (z, y, x)
        assert density.dtype == np.float32
        assert 0 <= density.min() < 0.01
        assert 0.3 < density.max() <= 1
        car, cloud = vertices(thing.parts(t))[:, 0], trail.mesh.vertices[:, 0]
        way = np.sign(vertices(thing.parts(t + 0.1))[:, 0].mean() - car.mean())
        assert (cloud * way).max() < (car * way).min() + 0.2
        assert (cloud * way).max() > (car * way).min() - 0.2
        thick = np.linspace(cloud.min(), cloud.max(), density.shape[2])[density.max((0, 1)).argmax()]
        assert abs(thick - car.mean()) < abs(cloud.mean() - car.mean())  # thickest at the pipe
    assert all(not thing.trail(0.3) for world in worlds if world.place != "yard" for thing in world.things)


@pytest.mark.parametrize(("lit", "low", "high"), [(0.0, 0, 0), (0.5, 4, 11)])
def test_windows_are_lit_as_often_as_told(lit: float, low: int, high: int) -> None:
    house = facade(np.random.default_rng(3), 2.0, 8, lit)
    bright = sum(len(part.mesh.faces) // 2 for part in house if part.glow is not None)
    assert low <= bright <= high
    assert bright + len(house[2].mesh.faces) // 2 == 15  # two storeys of eight bays, less the door
