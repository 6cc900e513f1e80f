"""Makes the documentation's pictures: docs/images/method.png, effects.png and demo.jpg.

    python tools/make_figures.py [method] [effects] [demo]

`method.png` shows one frame of a scene on its way through removal, with the demo model; `effects.png` what that model
takes for the effects of objects; `demo.jpg` is the contact sheet that `layerlift demo` writes, smaller. All are
computed on the CPU: about two minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

import layerlift as library
from layerlift.cli import main as layerlift
from layerlift.engine.device import choose_policy
from layerlift.engine.model import open_model
from layerlift.engine.model.latents import decode, encode, unknown_tokens
from layerlift.engine.sampling import Prompts, SamplingSettings, denoise, token_coordinates
from layerlift.engine.schedule import model_sigmas
from layerlift.pixels.arrays import fill_masked, grow
from layerlift.pixels.paste import ColorMatch, paste
from layerlift.progress import QUIET
from layerlift.scenes import Scene, make_scene
from layerlift.stages.effects import FrameEffects
from layerlift.stages.effects.preview import preview_pair

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
LARGEST = 300_000  # bytes of a picture; the repository stays small
SHEET_SCALE = 0.6  # of the contact sheet: README shows it no larger

EFFECT_SEEDS = (
    3000,
    3006,
)  # the first with two shadows, and with two reflections; never trained on, nor in the benchmark

SEED = 3020  # still and dry, with a shadow that is easy to see; neither training nor the benchmark has it
FRAMES = 17
SHOWN = 8  # the frame in the figure
PART_WAY = 5  # of the demo model's 8 steps: the noise has half gone
MARGIN = 2  # pixels the mask grows by, and over which the result fades in

OBJECT, EFFECT, TOKEN = (255, 64, 64), (64, 160, 255), (255, 255, 255)
PAPER, INK, FAINT = 255, (30, 30, 30), (120, 120, 120)
GAP, CAPTION = 12, 44
COLUMNS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="method, effects, demo; all unless named")
    wanted = set(parser.parse_args().pictures) or {"method", "effects", "demo"}
    IMAGES.mkdir(parents=True, exist_ok=True)
    if "method" in wanted:
        write(IMAGES / "method.png", lay_out(removal_panels(make_scene(SEED, frames=FRAMES))))
    if "effects" in wanted:
        scenes = [make_scene(seed, frames=FRAMES) for seed in EFFECT_SEEDS]
        write(IMAGES / "effects.png", np.concatenate([lay_out(effect_panels(scene)) for scene in scenes]))
    if "demo" in wanted:
        write(IMAGES / "demo.jpg", demo_sheet())


def removal_panels(scene: Scene) -> dict[str, np.ndarray]:
    """Frame `SHOWN` at every step of removal: caption (two lines) → (H, W, 3) uint8."""
    model, policy = open_model("demo"), choose_policy("cpu")
    frame, solid, effect = (
        scene.video[SHOWN],
        scene.object_mask[SHOWN],
        np.logical_or.reduce(scene.effect_masks[:, SHOWN]),
    )

    # As the stage does it, on one window; here every step is kept.
    hidden = np.stack([grow(mask, MARGIN) for mask in scene.total_mask])
    unknown = unknown_tokens(hidden, model.geometry)
    with model.vae_encoder(policy) as vae:
        filled = [fill_masked(picture, mask) for picture, mask in zip(scene.video, hidden, strict=True)]
        latents = encode(vae, np.stack(filled))
    sigmas = model_sigmas(model.settings)
    text = model.text(["Empty"], policy)[0]
    with model.transformer(policy) as transformer:
        stopped = {
            steps: denoise(
                transformer,
                latents,
                unknown,
                Prompts(text.embeds, text.mask),
                token_coordinates(latents.shape, model.geometry, model.settings.rate),
                settings=SamplingSettings(sigmas[: steps + 1]),
                generator=torch.Generator().manual_seed(0),
                progress=QUIET,
            )
            for steps in (0, PART_WAY, len(sigmas) - 1)
        }
    with model.vae_decoder(policy) as vae:
        decoded = [np.stack(list(decode(vae, value, torch.Generator().manual_seed(0)))) for value in stopped.values()]

    match = ColorMatch()
    matched = [match(new, own, mask) for new, own, mask in zip(decoded[-1], scene.video, hidden, strict=True)]
    plate = paste(frame, matched[SHOWN], hidden[SHOWN], MARGIN)
    latent_frame = -(-SHOWN // model.geometry.time)
    start, part, end = (np.rint(clip[SHOWN]).astype(np.uint8) for clip in decoded)
    return {
        "the clip|one frame of it": frame,
        "1  object mask|what the user points at": tint(frame, {OBJECT: solid}),
        "2  total mask|and what the object causes": tint(frame, {OBJECT: solid, EFFECT: effect}),
        "3  removal: unknown tokens|masked cells and their neighbours": token_grid(
            frame, unknown[latent_frame].numpy(), model.geometry.space
        ),
        "noise in their place|known tokens stay the clip's": start,
        f"after {PART_WAY} of {len(sigmas) - 1} steps|led by the known tokens": part,
        f"after {len(sigmas) - 1} of {len(sigmas) - 1} steps|decoded; all pixels are the VAE's": end,
        "clean plate|the clip's own pixels around the mask": plate,
    }


def effect_panels(scene: Scene) -> dict[str, np.ndarray]:
    """Frame `SHOWN` with what is known of its effects, what is found and what is true: caption → (H, W, 3) uint8."""
    found = library.mask(scene.video, list(scene.object_masks), model="demo", device="cpu")
    frame, objects = scene.video[SHOWN], scene.object_masks[:, SHOWN]
    effects = found.effects[:, SHOWN]
    height, width, _ = frame.shape
    side = (width / found.scores.shape[3], height / found.scores.shape[2])
    shown = FrameEffects(objects, effects, objects | effects, found.scores[:, SHOWN])
    coloured, scores = preview_pair(frame, shown, side)
    truth = scene.effect_masks[:, SHOWN] & ~objects.any(0)
    true, _ = preview_pair(frame, FrameEffects(objects, truth, objects | truth, found.scores[:, SHOWN]), side)
    return {
        "the clip|one frame of it": frame,
        "scores|how likely an effect is": scores,
        "objects and effects|drawn along edges": coloured,
        "the truth|what was rendered": true,
    }


def tint(frame: np.ndarray, masks: dict[tuple[int, int, int], np.ndarray]) -> np.ndarray:
    """The frame in grey with masks (H, W) bool in their colours."""
    grey = 0.8 * frame.mean(-1, keepdims=True) + np.zeros(3)
    for colour, mask in masks.items():
        grey[mask] = 0.4 * grey[mask] + 0.6 * np.asarray(colour)
    return np.rint(grey).astype(np.uint8)


def token_grid(frame: np.ndarray, unknown: np.ndarray, space: int) -> np.ndarray:
    """The frame under a grid of tokens, the unknown ones (h, w) bool in colour."""
    cells = np.kron(unknown, np.ones((space, space), bool))
    shown = np.where(cells[..., None], 0.4 * frame + 0.6 * np.asarray(TOKEN), frame).round().astype(np.uint8)
    lines = np.zeros(cells.shape, bool)
    lines[::space], lines[:, ::space] = True, True
    shown[lines] = (0.55 * shown[lines]).astype(np.uint8)
    return shown


def lay_out(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Panels in rows of `COLUMNS`, each under its caption; (H', W', 3) uint8."""
    height, width, _ = next(iter(panels.values())).shape
    rows = -(-len(panels) // COLUMNS)
    sheet = np.full((GAP + rows * (CAPTION + height + GAP), GAP + COLUMNS * (width + GAP), 3), PAPER, np.uint8)
    for index, (caption, panel) in enumerate(panels.items()):
        row, column = divmod(index, COLUMNS)
        top, left = GAP + row * (CAPTION + height + GAP), GAP + column * (width + GAP)
        title, explanation = caption.split("|")
        put_text(sheet, title, (left, top + 16), 0.58, INK)
        put_text(sheet, explanation, (left, top + 36), 0.46, FAINT)
        sheet[top + CAPTION : top + CAPTION + height, left : left + width] = panel
    return sheet


def put_text(sheet: np.ndarray, text: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int]) -> None:
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def demo_sheet() -> np.ndarray:
    """The contact sheet of `layerlift demo`, made smaller, (H, W, 3) uint8."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            layerlift(["demo", "--output", folder, "--overwrite"])
        except SystemExit as end:
            if end.code:
                raise
        picture = cv2.imread(str(Path(folder) / "contact_sheet.png"))
    if picture is None:
        raise RuntimeError("`layerlift demo` wrote no contact sheet")
    small = cv2.resize(picture, None, fx=SHEET_SCALE, fy=SHEET_SCALE, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1])


def write(path: Path, picture: np.ndarray) -> None:
    """Write `picture` (H, W, 3) uint8 RGB: in 256 colours as PNG, or where it looks like film as JPEG."""
    image, data = Image.fromarray(picture), BytesIO()
    if path.suffix == ".jpg":
        image.save(data, "JPEG", quality=88)
    else:
        image.quantize(256, kmeans=4, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    if data.tell() >= LARGEST:
        raise RuntimeError(f"{path} would take {data.tell()} bytes, {LARGEST} are the limit")
    path.write_bytes(data.getvalue())
    print(f"wrote {path}, {picture.shape[1]}x{picture.shape[0]}, {data.tell() / 1000:.0f} kB")


if __name__ == "__main__":
    main()
