"""SAM 2 and SAM 3 through transformers: pictures and videos in, masks out.

transformers' own processors need torchvision; scaling and normalising are done here instead. Unlike MobileSAM's, the
picture fills the whole square that the network sees: width and height are scaled by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from layerlift.engine.model.checkpoint import read_json
from layerlift.engine.sam2.checks import check_folder, check_size, fitting
from layerlift.errors import InputError

if TYPE_CHECKING:
    from layerlift.engine.sam2.video import Following

CONFIG = "config.json"
# What a point is, for the decoder.
NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Family:
    """Networks of one kind.

    Attributes:
        image, video, session: names of the classes in transformers.
        mean, deviation: of the colours in [0, 1] that the networks were trained with.
    """

    image: str
    video: str
    session: str
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_SAM3 = Family("Sam3TrackerModel", "Sam3TrackerVideoModel", "Sam3TrackerVideoInferenceSession", *_HALF)
# By the `model_type` of a checkpoint's config.
FAMILIES: Mapping[str, Family] = MappingProxyType({
    "sam2": Family("Sam2Model", "Sam2VideoModel", "Sam2VideoInferenceSession", *_IMAGENET),
    "sam2_video": Family("Sam2Model", "Sam2VideoModel", "Sam2VideoInferenceSession", *_IMAGENET),
    "sam3_video": _SAM3,
    "sam3_tracker_video": _SAM3,
})  # fmt: skip


def family_of(folder: Path) -> Family:
    """The kind of the networks in a folder. Raises InputError where there is none that is known."""
    import transformers

    try:
        kind = read_json(folder / CONFIG).get("model_type")
    except InputError as error:
        raise InputError(
            f"{folder} has no {CONFIG} that can be read: give a folder with the config and weights of SAM 2 or SAM 3."
        ) from error
    family = FAMILIES.get(str(kind))
    if family is None:
        raise InputError(f"{folder} holds a model of type {kind!r}, not SAM 2 or SAM 3: give another folder.")
    if not hasattr(transformers, family.video):
        raise InputError(
            f"{folder} holds a model of type {kind!r}, which transformers {transformers.__version__} does not know: "
            "install a newer one."
        )
    return family


class Sam2:
    """The networks of a folder: for pictures and for videos, each read when it is first used."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self.device, self.family = folder, device, family_of(folder)
        # Queries, keys and values are permuted views here, of which torch's own attention is silently wrong on MPS
        # (pytorch #181133, #163597): there it is products and a softmax, at most 0.5 GiB of scores.
        self.attention = "eager" if device.startswith("mps") else "sdpa"
        self._models: dict[str, Any] = {}

    @torch.inference_mode()
    def encode(self, picture: np.ndarray) -> list[torch.Tensor]:
        """The embeddings of a picture (H, W, 3) uint8, each (1, C, h, w), from fine to coarse."""
        model = self.model(self.family.image)
        with fitting(self.folder):
            return model.get_image_embeddings(self.as_input(picture, model))

    @torch.inference_mode()
    def decode(
        self,
        embeddings: list[torch.Tensor],
        size: tuple[int, int],
        points: np.ndarray,
        labels: np.ndarray,
        logits: np.ndarray | None,
        *,
        clear: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks (n, h, w) float32 of a picture of `size` (width, height), above 0 inside, and their scores (n,).

        `points` (N, 2) are pixels of the picture and `labels` (N,) what they are. Where the question is `clear` there
        is one mask, else three: a part, more, all. `logits` (h, w) is an earlier mask.
        """
        model = self.model(self.family.image)
        given = None if logits is None else torch.from_numpy(np.ascontiguousarray(logits))[None, None].to(self.device)
        with fitting(self.folder):
            made = model(
                image_embeddings=list(embeddings),
                input_points=self.as_points(points, size, model)[None, None],
                input_labels=torch.from_numpy(labels.astype(np.int32))[None, None].to(self.device),
                input_masks=given,
                multimask_output=not clear,
            )
        return made.pred_masks[0, 0].float().cpu().numpy(), made.iou_scores[0, 0].float().cpu().numpy()

    def follow(self, size: tuple[int, int], count: int) -> Following:
        """Begin with a video of `count` frames of `size` (width, height)."""
        from layerlift.engine.sam2.video import Following

        return Following(self, self.model(self.family.video), size, count)

    def as_input(self, picture: np.ndarray, model: Any) -> torch.Tensor:
        """A picture (H, W, 3) uint8 as the networks take it: (1, 3, S, S) float32, scaled and normalised."""
        side = side_of(model)
        values = torch.tensor(picture).to(self.device).permute(2, 0, 1)[None].float()
        values = F.interpolate(values, (side, side), mode="bilinear", antialias=True) / 255
        mean, deviation = (torch.tensor(part, device=self.device)[:, None, None] for part in self._statistics)
        return (values - mean) / deviation

    def as_points(self, points: np.ndarray, size: tuple[int, int], model: Any) -> torch.Tensor:
        """Pixels (N, 2) of a picture of `size` (width, height) as pixels of the square that the networks see."""
        return torch.from_numpy((points * (side_of(model) / np.array(size))).astype(np.float32)).to(self.device)

    @property
    def _statistics(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        return self.family.mean, self.family.deviation

    def model(self, name: str) -> Any:
        """A network, by its class in transformers. Raises InputError where its weights are not whole."""
        if name not in self._models:
            self._models[name] = self._read(name)
        return self._models[name]

    def _read(self, name: str) -> Any:
        import transformers
        from transformers.utils import logging

        held = check_folder(self.folder, self.folder / CONFIG)
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            made = getattr(transformers, name)
            with torch.device("meta"):
                check_size(
                    made(made.config_class.from_pretrained(self.folder, local_files_only=True)), held, self.folder
                )
            model, report = made.from_pretrained(
                self.folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True,
                attn_implementation=self.attention,
            )  # fmt: skip
        except InputError:
            raise
        except Exception as error:  # whatever a config or a header that cannot be makes transformers raise
            said = str(error).partition("\n")[0].rstrip(".")
            raise InputError(f"the weights in {self.folder} cannot be read ({said}): download them again.") from error
        finally:
            if shown:
                logging.enable_progress_bar()
        missing = sorted(report["missing_keys"])
        if missing:
            raise InputError(
                f"the weights in {self.folder} are not whole ({len(missing)} are missing, such as {missing[0]}): "
                "download them again."
            )
        return model.to(self.device).eval()


def side_of(model: Any) -> int:
    """Pixels of the square that a network sees."""
    side = model.config.prompt_encoder_config.image_size
    return side if isinstance(side, int) else side[0]
