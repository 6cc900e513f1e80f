"""Clips whose effects are known: cut-out objects with made-up effects over photographs under a moving camera.

Nothing here is random but by the generator that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SIZE = (288, 160)  # width, height
KINDS = ("none", "shadow", "reflection", "light", "smoke")
# An effect is labelled where it is more opaque than this, as in the shared footage.
VISIBLE = 0.06
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Chances:
    """How often what is: that things stir in a place, and that an object stands."""

    stirs: float = 0.3
    stands: float = 0.12


EVEN = Chances()


@dataclass(frozen=True, slots=True)
class Composite:
    """A clip of F frames.

    Attributes:
        video: (F, H, W, 3) uint8.
        objects: (n, F, H, W) bool.
        kinds: (n, F, H, W) uint8, the index in `KINDS` of what each object causes at a pixel.
        strength: (n, F, H, W) uint8, how opaque it is there, 255 for wholly.
    """

    video: np.ndarray
    objects: np.ndarray
    kinds: np.ndarray
    strength: np.ndarray


def smooth_noise(rng: Rng, shape: tuple[int, int], cells: float) -> np.ndarray:
    """Smooth noise (H, W) float32 in [0, 1] with about `cells` bumps across."""
    rows = max(2, round(cells * shape[0] / shape[1]) + 1)
    grid = rng.random((rows, max(2, round(cells) + 1))).astype(np.float32)
    return np.clip(cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


# -- The place ---------------------------------------------------------------------------------------------------------


def background(rng: Rng, photos: Sequence[np.ndarray], frames: int, stirs: float) -> np.ndarray:
    """A photograph seen by a camera, (F, H, W, 3) float32: still or moving, with what stirs or stands before it."""
    width, height = SIZE
    photo = photos[int(rng.integers(len(photos)))]
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    tall, wide = photo.shape[:2]
    # The part of the photograph that is seen at once.
    most = min(wide / width, tall / height)
    zoom = most * rng.uniform(0.35, 0.95) if most > 1 else most * 0.9
    path = camera(rng, frames)  # (F, 3): x and y in frame widths, log zoom
    span = np.array([wide - zoom * width, tall - zoom * height])
    start = rng.uniform(0.15, 0.85, 2) * span
    out = np.empty((frames, height, width, 3), np.float32)
    stir = rng.random() < stirs
    wave = [
        (rng.uniform(0.5, 2.0), rng.uniform(6, 40), rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.5)) for _ in range(3)
    ]
    amount = (
        smooth_noise(rng, (height, width), 3)
        if rng.random() < 0.5
        else np.linspace(-1, 1, height)[:, None].clip(0) + np.zeros((1, width))
    )
    near = layer_before(rng, photos) if rng.random() < 0.35 else None
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    for index in range(frames):
        shift, scale = path[index, :2] * width * zoom, zoom * np.exp(path[index, 2])
        x = start[0] + shift[0] + (xx - width / 2) * scale + width / 2 * zoom
        y = start[1] + shift[1] + (yy - height / 2) * scale + height / 2 * zoom
        if stir:
            for size, length, phase, speed in wave:
                turn = np.sin(2 * np.pi * (xx * np.cos(phase) + yy * np.sin(phase)) / length + speed * index + phase)
                x += amount * size * turn * zoom * 0.6
                y += amount * size * np.roll(turn, 7, 1) * zoom * 0.3
        seen = cv2.remap(
            photo, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        out[index] = seen
        if near is not None:
            picture, alpha, much = near
            move = path[index, :2] * width * much + (np.array(alpha.shape[::-1]) - SIZE) / 2
            matrix = np.array([[1, 0, -move[0]], [0, 1, -move[1]]], np.float32)
            front = cv2.warpAffine(picture, matrix, SIZE, borderMode=cv2.BORDER_REPLICATE)
            cover = cv2.warpAffine(alpha, matrix, SIZE)[..., None]
            out[index] = out[index] * (1 - cover) + front * cover
    return out


def camera(rng: Rng, frames: int) -> np.ndarray:
    """A camera's path, (F, 3): x and y in frame widths, and the logarithm of its zoom."""
    time = np.linspace(0, 1, frames)
    path = np.zeros((frames, 3))
    if rng.random() < 0.35:
        return path
    path[:, 0] = rng.normal(0, 0.25) * time
    path[:, 1] = rng.normal(0, 0.05) * time
    if rng.random() < 0.4:
        path[:, 2] = rng.normal(0, 0.1) * time
    if rng.random() < 0.6:  # a hand that shakes
        for axis, size in ((0, 0.006), (1, 0.006), (2, 0.004)):
            shake = rng.normal(0, 1, frames)
            path[:, axis] += size * rng.uniform(0.2, 1) * np.convolve(shake, np.ones(5) / 5, "same")
    path[:, :2] -= path[:, :2].mean(0)
    return path


def layer_before(rng: Rng, photos: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """Something nearer to the camera: a picture, its alpha, and how much faster it moves."""
    photo = photos[int(rng.integers(len(photos)))]
    wide, tall = SIZE[0] * 2, SIZE[1] * 2
    scale = rng.uniform(0.8, 1.6)
    picture = cv2.resize(photo, (round(wide * scale), round(tall * scale)), interpolation=cv2.INTER_AREA)[:tall, :wide]
    picture = cv2.resize(picture, (wide, tall))
    noise = smooth_noise(rng, (tall, wide), rng.uniform(2, 8))
    if rng.random() < 0.5:  # ground
        line = tall * rng.uniform(0.45, 0.7)
        alpha = (np.mgrid[:tall, :wide][0] > line + 20 * (noise - 0.5)).astype(np.float32)
    else:
        alpha = (noise > rng.uniform(0.6, 0.8)).astype(np.float32)
    return picture, cv2.GaussianBlur(alpha, (0, 0), 1.0), rng.uniform(1.1, 1.9)


# -- The object --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Actor:
    """An object on its way: in every frame its picture (H, W, 3), alpha (H, W), foot's place and height in pixels."""

    pictures: np.ndarray
    alphas: np.ndarray
    feet: np.ndarray  # (F, 2): x, y
    heights: np.ndarray  # (F,)


def actor(
    rng: Rng, cutouts: Sequence[np.ndarray], photos: Sequence[np.ndarray], frames: int, stands: float = EVEN.stands
) -> Actor:
    """A cut-out picture that walks, rolls, bobs or stands."""
    width, height = SIZE
    cutout = cutouts[int(rng.integers(len(cutouts)))] if rng.random() < 0.85 else made_up(rng, photos)
    if rng.random() < 0.5:
        cutout = cutout[:, ::-1]
    tall = rng.uniform(26, 85) if rng.random() < 0.65 else rng.uniform(80, 165) * cutout.shape[0] / cutout.shape[1]
    tall = min(tall, 95)
    tall = min(tall, 165 * cutout.shape[0] / cutout.shape[1])
    time = np.linspace(0, 1, frames)
    way = rng.choice(["walk", "drift", "stand"], p=[0.84 - stands, 0.16, stands])
    if way == "walk":
        ends = rng.uniform(0.12, 0.45) * width, rng.uniform(0.55, 0.9) * width
        if rng.random() < 0.12:
            ends = ends[0] - 0.35 * width, ends[1]
        ends = ends if rng.random() < 0.5 else ends[::-1]
        x = ends[0] + (ends[1] - ends[0]) * time * rng.uniform(0.5, 1)
    elif way == "drift":
        x = rng.uniform(0.25, 0.75) * width + rng.uniform(5, 40) * np.sin(
            2 * np.pi * (rng.uniform(0.3, 1.5) * time + rng.random())
        )
    else:
        x = np.full(frames, rng.uniform(0.2, 0.8) * width)
    y = rng.uniform(0.5, 0.8) * height + rng.normal(0, 6) * time
    step = rng.uniform(0.15, 0.9)
    bob = 0 if way == "stand" else rng.uniform(0, 0.04) * tall
    swing = 0 if way == "stand" else rng.uniform(0, 5)
    lift = bob * np.abs(np.sin(step * np.arange(frames)))
    if rng.random() < 0.1:  # it flies, or bounces
        lift = lift + tall * rng.uniform(0.1, 0.8) * np.abs(np.sin(rng.uniform(0.5, 6) * time + rng.random()))
    grow = np.exp(rng.normal(0, 0.12) * (time - 0.5))
    turn = swing * np.sin(step * np.arange(frames) + 1)
    flex = rng.uniform(0, 0.12) * (way != "stand")
    pictures = np.zeros((frames, height, width, 3), np.float32)
    alphas = np.zeros((frames, height, width), np.float32)
    feet = np.stack([x, y], 1)
    rows, columns = cutout.shape[:2]
    for index in range(frames):
        scale = tall * grow[index] / rows
        lean = np.deg2rad(turn[index])
        wide = scale * (1 + flex * np.sin(2 * step * index))
        base = np.array([[wide * np.cos(lean), -scale * np.sin(lean)], [wide * np.sin(lean), scale * np.cos(lean)]])
        offset = feet[index] - [0, lift[index]] - base @ [columns / 2, rows - 1]
        matrix = np.hstack([base, offset[:, None]])
        warped = cv2.warpAffine(cutout, matrix, SIZE, flags=cv2.INTER_LINEAR)
        alphas[index] = warped[..., 3] / 255
        pictures[index] = warped[..., :3]
    return Actor(pictures, alphas, feet, tall * grow)


def made_up(rng: Rng, photos: Sequence[np.ndarray]) -> np.ndarray:
    """A lump or a figure of capsules in one colour or in a photograph's texture, (h, w, 4) uint8."""
    side = 160
    alpha = np.zeros((side, side), np.uint8)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 4)):
            centre = tuple(int(v) for v in rng.integers(55, 105, 2))
            axes = tuple(int(v) for v in rng.integers(18, 52, 2))
            cv2.ellipse(alpha, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    else:
        hip, neck = (80, 95), (80 + int(rng.integers(-8, 9)), 50)
        thick = int(rng.integers(8, 16))
        cv2.line(alpha, hip, neck, 255, 2 * thick)
        cv2.circle(alpha, (neck[0], neck[1] - 18), int(rng.integers(10, 16)), 255, -1)
        for start, side_way in ((hip, 1), (hip, -1), (neck, 1), (neck, -1)):
            end = (
                start[0] + side_way * int(rng.integers(2, 30)),
                start[1] + int(rng.integers(40, 60) if start is hip else rng.integers(15, 45)),
            )
            cv2.line(alpha, start, end, 255, thick)
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    photo = photos[int(rng.integers(len(photos)))]
    top, left = (int(rng.integers(0, photo.shape[axis] - side)) for axis in (0, 1))
    colour = rng.uniform(0, 255, 3)
    mix = rng.uniform(0, 1)
    picture = photo[top : top + side, left : left + side] * (1 - mix) + colour * mix
    shade = 0.7 + 0.6 * smooth_noise(rng, (side, side), 2)[..., None]
    whole = np.dstack([np.clip(picture * shade, 0, 255).astype(np.uint8), cv2.GaussianBlur(alpha, (3, 3), 0)])
    return np.ascontiguousarray(whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


# -- Effects: each changes a frame in place and returns its opacity (H, W) ---------------------------------------------

# Lays an effect on a frame (H, W, 3), in place, and returns how opaque it is, (H, W).
Lay = Callable[[np.ndarray, Actor, int], np.ndarray]
PIXELS = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)


def contact(who: Actor, index: int) -> tuple[float, float, float]:
    """Where an object stands, x and y, and how tall it is."""
    return who.feet[index, 0], who.feet[index, 1], who.heights[index]


def shadow(rng: Rng) -> Lay:
    """Cast on the ground or a wall, or a dark spot under the feet; what it lies on keeps its texture."""
    yy, xx = PIXELS
    # From a high sun to one near the horizon, whose shadows are long and flat.
    low = rng.random() < 0.5
    shear = rng.uniform(-2.6, 2.6) if low else rng.uniform(-1.3, 1.3)
    squash = rng.uniform(0.05, 0.3) if low else rng.uniform(0.15, 0.8)
    dark = rng.uniform(0.15, 0.75)
    soft = rng.uniform(0.4, 3.5) if rng.random() < 0.8 else rng.uniform(3, 9)
    fade = rng.random() < 0.4
    wall, blob = rng.random() < 0.15, rng.random() < 0.2
    tint = 1 - dark * (1 + rng.normal(0, 0.06, 3))
    away = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.2, 0.2)])
    behind = rng.random() < 0.25

    def lay(frame: np.ndarray, who: Actor, index: int) -> np.ndarray:
        x, y, tall = contact(who, index)
        alpha = who.alphas[index]
        if wall:
            matrix = np.array([[1, 0, away[0] * tall], [0, 1, away[1] * tall]], np.float32)
            cast = cv2.warpAffine(alpha, matrix, SIZE)
        elif blob:
            cast = (np.hypot((xx - x) / (0.45 * tall), (yy - y) / (0.45 * tall * squash)) < 1).astype(np.float32)
        else:
            down = (y - yy) if behind else (yy - y)
            source = np.where(down >= -2, y - down / squash, -9)
            cast = cv2.remap(
                alpha, (xx + shear * down / squash).astype(np.float32), source.astype(np.float32), cv2.INTER_LINEAR
            )
        cast = cv2.GaussianBlur(cast, (0, 0), soft)
        if fade:
            cast = cast * np.clip(1.2 - np.abs(yy - y) / (tall * squash + 1), 0.25, 1)
        frame *= 1 - cast[..., None] * (1 - tint)
        return cast * dark

    return lay


def reflection(rng: Rng) -> Lay:
    """The object upside down in what it stands on, with ripples."""
    yy, xx = PIXELS
    much, size_of, length, speed = (
        rng.uniform(0.15, 0.7),
        rng.uniform(0, 2.2),
        rng.uniform(4, 14),
        rng.uniform(0, 0.9),
    )
    soft, faint, gap = rng.uniform(0.3, 2.0), rng.uniform(0, 0.9), rng.uniform(-1, 2)
    squeeze = rng.uniform(0.75, 1.1)
    tint = rng.uniform(0.7, 1.05, 3)

    def lay(frame: np.ndarray, who: Actor, index: int) -> np.ndarray:
        _, y, tall = contact(who, index)
        down = yy - y - gap
        ripple = size_of * np.sin(2 * np.pi * yy / length + speed * index) * np.clip(down / 10, 0, 1.5)
        source = np.where(down >= 0, y - down / squeeze, -9).astype(np.float32)
        at = (xx + ripple).astype(np.float32)
        cover = cv2.GaussianBlur(cv2.remap(who.alphas[index], at, source, cv2.INTER_LINEAR), (0, 0), soft)
        lit = who.pictures[index] * who.alphas[index][..., None]
        lit = cv2.GaussianBlur(cv2.remap(lit, at, source, cv2.INTER_LINEAR), (0, 0), soft)
        share = much * np.clip(1 - faint * down / tall, 0.1, 1)
        frame[:] = frame * (1 - (cover * share)[..., None]) + lit * tint * share[..., None]
        return cover * share

    return lay


def light(rng: Rng) -> Lay:
    """A glow around the object, or a pool of light on the ground."""
    yy, xx = PIXELS
    colour = np.array([255, rng.uniform(170, 255), rng.uniform(90, 255)])
    if rng.random() < 0.25:
        colour = rng.uniform(60, 255, 3)
        colour *= 255 / colour.max()
    much, reach, power = rng.uniform(0.2, 0.75), rng.uniform(0.5, 1.5), rng.uniform(1, 2.2)
    aspect, up, across = rng.uniform(0.7, 1.6), rng.uniform(0, 1), rng.uniform(-0.3, 0.3)
    multiply = rng.uniform(0, 1)
    flicker = rng.uniform(0, 0.1)
    pool = rng.random() < 0.25

    def lay(frame: np.ndarray, who: Actor, index: int) -> np.ndarray:
        x, y, tall = contact(who, index)
        down = (yy - y) * (2.5 if pool else 1) + (0 if pool else up * tall)
        far = np.hypot((xx - x - across * tall) / aspect, down)
        gain = much * np.clip(1 - far / (reach * tall), 0, 1) ** power * (1 + flicker * np.sin(index * 2.1))
        lifted = frame * (1 + 2.2 * gain[..., None] * colour / 255) * multiply + (1 - multiply) * (
            frame + (colour - 0.35 * frame) * gain[..., None]
        )
        frame[:] = np.minimum(lifted, 255)
        return gain

    return lay


def smoke(rng: Rng) -> Lay:
    """Smoke or steam above the object or behind it; seldom something like a pane of glass."""
    yy, xx = PIXELS
    noise = smooth_noise(rng, (2 * SIZE[1], 2 * SIZE[0]), rng.uniform(14, 70))
    grey = rng.choice([rng.uniform(170, 240), rng.uniform(20, 90)], p=[0.8, 0.2]) * (1 + rng.normal(0, 0.04, 3))
    much, spread_, rise = rng.uniform(0.45, 1.1), rng.uniform(0.2, 0.6), rng.uniform(0.8, 2.0)
    lean, flow, trail = rng.uniform(-0.6, 0.6), rng.uniform(-3, 3, 2), rng.random() < 0.35
    glass = rng.random() < 0.1
    base = rng.uniform(0, 0.6)

    def lay(frame: np.ndarray, who: Actor, index: int) -> np.ndarray:
        x, y, tall = contact(who, index)
        at_x, at_y = (xx + flow[0] * index).astype(np.float32), (yy + flow[1] * index).astype(np.float32)
        moved = cv2.remap(noise, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        if trail:
            behind = np.sign(who.feet[-1, 0] - who.feet[0, 0] + 1e-3) * (x - xx)
            body = (
                np.exp(-(((yy - y + 0.3 * tall) / (spread_ * tall)) ** 2))
                * np.clip(behind / (0.3 * tall), 0, 1)
                * np.clip(1 - behind / (1.6 * tall), 0, 1)
            )
        else:
            above = y - base * tall - yy
            centre = x + lean * above
            body = np.exp(-(((xx - centre) / (spread_ * tall)) ** 2)) * np.clip(above / (0.2 * tall) + 0.5, 0, 1)
            body = body * np.clip((rise * tall - above) / (0.8 * tall), 0, 1)
        cover = np.clip(body * (1 if glass else moved) * much, 0, 0.85).astype(np.float32)
        if glass:
            cover = cv2.GaussianBlur((body > 0.5).astype(np.float32), (0, 0), 1) * much * 0.4
        frame[:] = frame * (1 - cover[..., None]) + grey * cover[..., None]
        return cover

    return lay


MAKERS: dict[str, Callable[[Rng], Lay]] = {"shadow": shadow, "reflection": reflection, "light": light, "smoke": smoke}


# -- The clip ----------------------------------------------------------------------------------------------------------


def composite(
    rng: Rng,
    photos: Sequence[np.ndarray],
    cutouts: Sequence[np.ndarray],
    frames: int,
    chances: Chances = EVEN,
) -> Composite:
    """One clip: one or two objects with or without effects, and others that nobody asked for."""
    width, height = SIZE
    video = background(rng, photos, frames, chances.stirs)
    # Passers-by, with shadows of their own: they are nobody's effect.
    for _ in range(rng.choice([0, 1, 2], p=[0.6, 0.28, 0.12])):
        other = actor(rng, cutouts, photos, frames)
        lay = shadow(rng) if rng.random() < 0.5 else None
        for index in range(frames):
            if lay is not None:
                lay(video[index], other, index)
            alpha = other.alphas[index][..., None]
            video[index] = video[index] * (1 - alpha) + other.pictures[index] * alpha
    count = 1 if rng.random() < 0.85 else 2
    objects = np.zeros((count, frames, height, width), bool)
    kinds = np.zeros((count, frames, height, width), np.uint8)
    strength = np.zeros((count, frames, height, width), np.float32)
    for number in range(count):
        who = actor(rng, cutouts, photos, frames, chances.stands)
        if not (who.alphas > 0.5).any():
            continue
        draw = rng.random()
        chosen = [] if draw < 0.24 else [str(rng.choice(KINDS[1:], p=[0.34, 0.2, 0.2, 0.26]))]
        if draw > 0.85:
            chosen = ["shadow", KINDS[2 + rng.integers(3)]]
        lays = [(KINDS.index(kind), MAKERS[kind](rng)) for kind in chosen]
        for index in range(frames):
            for kind, lay in lays:
                cover = lay(video[index], who, index)
                stronger = (cover > strength[number, index]) & (cover > VISIBLE)
                kinds[number, index][stronger] = kind
                strength[number, index] = np.maximum(strength[number, index], cover)
            alpha = who.alphas[index][..., None]
            video[index] = video[index] * (1 - alpha) + who.pictures[index] * alpha
            solid = who.alphas[index] > 0.5
            objects[number, index] = solid
            # What lies behind this object is no longer seen.
            kinds[: number + 1, index][:, who.alphas[index] > 0.3] = 0
            objects[:number, index] &= ~solid
    # What masks of users are like: a pixel too large, or too small.
    if rng.random() < 0.5:
        square = np.ones((3, 3), np.uint8)
        change = cv2.dilate if rng.random() < 0.6 else cv2.erode
        objects = np.stack([[change(m.view(np.uint8), square) > 0 for m in own] for own in objects])
    return Composite(filmed(rng, video), objects, kinds, (255 * np.clip(strength, 0, 1)).astype(np.uint8))


def filmed(rng: Rng, video: np.ndarray) -> np.ndarray:
    """What a camera and a codec make of frames (F, H, W, 3) float32: uint8."""
    frames = len(video)
    if rng.random() < 0.2:  # exposure that wanders
        drift = np.cumsum(rng.normal(0, 0.012, frames))
        video = video * np.exp(drift - drift.mean())[:, None, None, None].astype(np.float32)
    if rng.random() < 0.3:
        video = np.stack([cv2.GaussianBlur(frame, (0, 0), rng.uniform(0.4, 0.8)) for frame in video])
    noise = rng.uniform(0, 3.5) if rng.random() < 0.6 else 0
    out = np.empty(video.shape, np.uint8)
    quality = int(rng.integers(45, 96)) if rng.random() < 0.5 else None
    for target, frame in zip(out, video, strict=True):
        if noise:
            frame = frame + rng.standard_normal(frame.shape, np.float32) * noise  # noqa: PLW2901
        picture = np.clip(np.rint(frame), 0, 255).astype(np.uint8)
        if quality is not None:
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        target[:] = picture
    return out
