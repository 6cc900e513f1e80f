"""From light to a picture: exposure, a film's curve, and what a real camera adds: a soft lens, grain, compression."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO

import numpy as np
from scipy.ndimage import gaussian_filter

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
# Sigmas in pixels: of what every sensor and its filter do, and of a lens that is not quite sharp.
SENSOR_BLUR = 0.5
LENS_BLUR = 0.6
GRAIN = 2.2  # standard deviation in levels of 255, in the middle tones
QUALITY = 21  # of H.264 (CRF)


def exposure(light: np.ndarray, brightness: float) -> float:
    """What light (H, W, 3) is multiplied by, so that its geometric mean becomes `brightness`. Reinhard et al. 2002."""
    luminance = np.maximum(light @ LUMINANCE, 1e-6)
    return float(brightness / np.exp(np.log(luminance).mean()))


def developed(light: np.ndarray, gain: float) -> np.ndarray:
    """A picture in [0, 1], sRGB, of linear light (…, 3). The curve is Narkowicz's fit of ACES, 2015."""
    x = np.maximum(light * gain, 0) * 0.8
    curve = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)
    low, high = 12.92 * curve, 1.055 * np.maximum(curve, 1e-9) ** (1 / 2.4) - 0.055
    return np.where(curve <= 0.0031308, low, high).astype(np.float32)


def softened(picture: np.ndarray, blur: float) -> np.ndarray:
    """A picture (H, W, …) as glass of this blur shows it: the sigma of a Gaussian, in pixels."""
    return gaussian_filter(picture, (blur, blur, *(0,) * (picture.ndim - 2)), mode="nearest")


def grainy(pictures: np.ndarray, seed: int) -> np.ndarray:
    """Pictures (F, H, W, 3) uint8 with film grain: most in the middle tones, a pixel and a half wide, new in each."""
    rng = np.random.default_rng(seed)
    made = np.empty_like(pictures)
    for index, picture in enumerate(pictures):
        grain = gaussian_filter(rng.standard_normal((*picture.shape[:2], 3)), (0.6, 0.6, 0))
        grain = 0.7 * grain.mean(-1, keepdims=True) * 3**0.5 + 0.5 * grain
        strength = GRAIN * (0.45 + 2.2 * (picture / 255) * (1 - picture / 255))
        made[index] = np.clip(np.rint(picture + grain / grain.std() * strength), 0, 255)
    return made


def compressed(pictures: np.ndarray, rate: int) -> np.ndarray:
    """Pictures (F, H, W, 3) uint8 written as H.264 and read again. Width and height must be even."""
    import av

    from layerlift.clip.coding import x264_options
    from layerlift.clip.convert import converted

    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {**x264_options(), "crf": str(QUALITY), "threads": "1"}  # the same pictures every time
        stream = container.add_stream("libx264", rate=Fraction(rate), options=options)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as container:
        return np.stack([converted(frame, "rgb24").to_ndarray() for frame in container.decode(video=0)])
