"""Between frames and latents in MLX: the VAE's two directions."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from layerlift.engine.mlx.arrays import all_finite, to_numpy
from layerlift.engine.mlx.sampling import draw
from layerlift.engine.mlx.vae import Half
from layerlift.engine.mlx.vae_stream import decode_stream, encode_stream
from layerlift.errors import PrecisionError


def encode(half: Half, frames: np.ndarray) -> np.ndarray:
    """Frames (F, H, W, 3) uint8 → normalised latents (1, C, f, h, w) float32.

    F is 1 + k·time, H and W are whole tokens. The mode of the posterior, not a sample.
    """

    def pieces() -> Iterator[Any]:
        for start in range(0, len(frames), half.frames):
            piece = mx.array(frames[start : start + half.frames])
            yield (piece.astype(mx.float32) / 127.5 - 1).astype(half.dtype)

    channels = len(half.mean)
    found = [to_numpy(piece[..., :channels]) for piece in encode_stream(half, pieces())]
    latents = (np.concatenate(found) - half.mean) * np.float32(half.scaling) / half.std
    if not np.isfinite(latents).all():
        raise _not_finite("encoder", half)
    return np.ascontiguousarray(latents.transpose(3, 0, 1, 2)[None])


def decode(
    half: Half, latents: np.ndarray, noise: Any, timestep: float | None = None, share: float | None = None
) -> Iterator[np.ndarray]:
    """Normalised latents (1, C, f, h, w) → frames, one by one, each (H, W, 3) float32 in 0 … 255.

    A VAE with timestep conditioning takes the last denoising step itself: it is given latents with a `share` of noise
    (default: as much as `timestep`), drawn from `noise`, and told the `timestep` (a sigma).
    """
    shape = (1, -1, 1, 1, 1)
    raw = latents * half.std.reshape(shape) / np.float32(half.scaling) + half.mean.reshape(shape)
    if half.config.timestep_conditioning:
        timestep = timestep or 0.0
        share = timestep if share is None else share
        raw = (1 - share) * raw + share * to_numpy(draw(raw.shape, noise))
    else:
        timestep = None
    given = np.ascontiguousarray(raw[0].transpose(1, 2, 3, 0), dtype=np.float32)  # (f, h, w, C)
    step = max(1, half.frames // half.time)
    pieces = (mx.array(given[start : start + step]).astype(half.dtype) for start in range(0, len(given), step))
    return _frames(half, decode_stream(half, pieces, timestep, half.frames, noise))


def _frames(half: Half, videos: Iterator[Any]) -> Iterator[np.ndarray]:
    """Pieces (n, H, W, 3) in [-1, 1] → frames (H, W, 3) float32 in 0 … 255, one by one."""
    for piece in videos:
        if not all_finite(piece):
            raise _not_finite("decoder", half)
        _check_picture(piece, half)
        made = to_numpy(mx.clip((piece.astype(mx.float32) + 1) * 127.5, 0, 255))
        del piece
        yield from made


def _not_finite(part: str, half: Half) -> PrecisionError:
    return PrecisionError(
        f"the VAE's {part} returned NaN or infinity: its weights are damaged or {half.dtype} overflows; try "
        "--dtype float32"
    )


def _check_picture(piece: Any, half: Half) -> None:
    """No decoder makes a frame of a single colour of a picture, be it black: its borders differ."""
    pixels = piece.reshape(len(piece), -1, 3)
    if pixels.shape[1] > 1 and bool(((pixels.max(axis=1) - pixels.min(axis=1)).max(axis=1) == 0).any().item()):
        raise PrecisionError(
            f"the VAE's decoder returned a frame of a single colour, which no picture is, in {half.dtype}; try "
            "--dtype float32 or --engine torch"
        )
