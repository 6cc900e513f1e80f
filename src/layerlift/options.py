"""Everything a user can choose, one class for each job; each field is also a flag of the command line.

None always means that layerlift chooses: what suits the model, the clip or the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from layerlift.flags import flag
from layerlift.limits import (
    LONGEST_SIDE,
    MOST_CONTEXT,
    MOST_GUIDANCE,
    MOST_MEMORY,
    MOST_PIXELS_GROWN,
    MOST_REFERENCES,
    MOST_SCALE,
    MOST_SMOOTHED,
    MOST_START,
    MOST_STEPS,
    MOST_WINDOW,
)
from layerlift.parse import (
    EFFECT_KINDS,
    parse_guidance,
    parse_kinds,
    parse_layers,
    parse_offset,
    parse_references,
    parse_sigmas,
    parse_size,
)

if TYPE_CHECKING:
    from layerlift.engine.base import Engine
    from layerlift.evidence.reference import GivenReferences

# Generators take seeds up to this.
LARGEST_SEED = 2**63 - 1

DEFAULT_PROMPT = "Empty"
DEFAULT_NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"
# Enough noise that tokens ask the rest of the clip what they are, not so much that they no longer know.
DEFAULT_SIGMAS = (0.4,)

EvidenceChoice = Literal["auto", "off", "only"]
Refinement = Literal["edges", "none", "plate"]
Witnesses = Literal["clip", "model", "all"]
Length = Literal["hold", "loop", "cut", "background"]
Sound = Literal["layer", "background", "none"]
Weights = Literal["auto", "8bit", "4bit", "full"]
EngineChoice = Literal["auto", "torch", "mlx"]
Dtype = Literal["float32", "bfloat16", "float16"]
Backend = Literal["cpu", "cuda", "mps"]

# Headings of the command line's help.
MASK, EVIDENCE, SAMPLING, SPEED, PLACE = "Mask", "Evidence", "Sampling", "Speed", "Place and time"
MODELS, DEVICE, OUTPUT, LATENT = "Models", "Device", "Output", "With --latent"


def _seed() -> Any:
    return flag(0, "Random seed.", metavar="S", group=SAMPLING, least=0, most=LARGEST_SEED)


def _size() -> Any:
    return flag(
        None,
        "Size in pixels that the model works at (default: the model's own).",
        metavar="WxH",
        group=SAMPLING,
        takes=str,
        parse=parse_size,
        most=LONGEST_SIDE,
    )


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Which model runs, where, and in how much memory.

    Attributes:
        model: an opened `Model`, or anything `open_model` takes. "none" runs without a model, as does None when no LTX
            checkpoint is on this machine.
        text_encoder: a folder with text_encoder/ and tokenizer/, for checkpoints without their own.
        cache: cache prompt embeddings on disk.
        memory: the limit in GiB, host and device together, above 0; None is what the machine reports as usable.
        weights: precision of the transformer's weights: "8bit", "4bit" (MLX only), "full" (as they are), or "auto"
            (fewer bits only when memory is short).
        engine: what runs the model: "torch", "mlx" (Apple Silicon), or "auto" (MLX on Apple Silicon where it is
            installed, unless a device or backend is chosen).
        device: "cuda", "cuda:1", "mps" or "cpu"; None is the best one available.
        devices: several that share the windows of one clip: "0,1", "cuda:0,cuda:1", or "auto" for every GPU.
        dtype: the transformer's number format; None suits the device.
        backend: the backend whose rules are followed, on any device; None is the device's own.
    """

    model: "Engine | str | Path | None" = flag(
        None,
        "Model to use (default: the installed LTX-Video checkpoint; none if there is none).",
        metavar="none|demo|NAME|PATH|HUB-ID",
        group=MODELS,
        takes=str,
    )
    text_encoder: Path | None = flag(
        None,
        "Folder with text_encoder/ and tokenizer/, for checkpoints without their own.",
        metavar="PATH",
        group=MODELS,
    )
    cache: bool = flag(True, "Do not use the cache of prompt embeddings on disk.", "--no-cache", group=MODELS)
    memory: float | None = flag(
        None,
        "Memory limit in GiB, RAM and GPU combined (default: all usable memory).",
        metavar="GB",
        group=DEVICE,
        least=0,
        most=MOST_MEMORY,
    )
    weights: Weights = flag(
        "auto",
        "Precision of the transformer's weights: 8bit needs half the memory, 4bit (with --engine mlx) a quarter, full "
        "keeps them as they are, and auto uses fewer bits only when memory is short.",
        group=DEVICE,
    )
    engine: EngineChoice = flag(
        "auto",
        "What runs the model: torch, or mlx on Apple Silicon. auto uses mlx there if it is installed and no device is "
        "chosen.",
        group=DEVICE,
    )
    device: str | None = flag(
        None, "Device to compute on (default: the best one available).", metavar="cpu|cuda|mps", group=DEVICE
    )
    dtype: Dtype | None = flag(None, "Number format of the transformer (default: depends on the device).", group=DEVICE)
    devices: str | None = None
    backend: Backend | None = flag(
        None, "Follow another backend's rules on this device, for testing.", "--policy", group=DEVICE
    )


@dataclass(frozen=True, slots=True)
class RemovalOptions:
    """Choices for a removal.

    Attributes:
        steps: denoising steps, at least 1; None is the model's own number.
        guidance: classifier-free guidance scale, at least 1, which means no guidance; None is the model's own.
        prompt: what to put in the object's place.
        negative_prompt: what not to put there.
        seed: seed of the noise; the same inputs and seed on the same device give the same result.
        size: (width, height) in pixels to work at; the clip is scaled to fit inside. None is the model's own.
        dilate: pixels of the clip to grow the mask by, at least 0. Pixels outside the grown mask stay the clip's own.
            None is 1/120 of the picture's shorter side, and at least 2.
        feather: pixels over which the result fades in, inside the grown edge; at most `dilate`. None is `dilate`.
        evidence: "auto" takes hidden background from other frames and generates the rest; "off" generates everything;
            "only" generates nothing and inpaints the rest without a model.
        crop: show the model only the area around the mask, at the clip's own resolution where that is small enough.
            None does so unless evidence is "off": only then has the model itself to see what other frames show, which
            may be far from the mask.
        refresh: sigma step in [0, 1] after which the transformer runs on all tokens again instead of only the unknown
            ones; None is 0.15.
        dense: run every token in every step.
        compile: compile the transformer's blocks; None does so when the job is long enough to save time overall.
        context: maximum latent frames of other windows that each window of a long clip can see; None is the model's.
        window: maximum frames denoised at once; None is the model's, and more where the picture it sees is small.
        references: cleaned frames by their numbers in the clip (from 0; in the whole clip, if this one was cut from
            it): paths or (H, W, 3) uint8; or a folder of 012.png … . Inside the mask they are used as they are, and
            evidence carries them to other frames.
    """

    steps: int | None = flag(None, "Denoising steps (default: the model's own).", metavar="N", group=SAMPLING, least=1,
        most=MOST_STEPS,
    )  # fmt: skip
    guidance: float | None = flag(
        None,
        "Guidance scale; 1 means no guidance (default: the model's own).",
        metavar="G",
        group=SAMPLING,
        parse=parse_guidance,
        least=1,
        most=MOST_GUIDANCE,
    )
    prompt: str = flag(DEFAULT_PROMPT, "What to put in the object's place.", metavar="P", group=SAMPLING)
    negative_prompt: str = flag(
        DEFAULT_NEGATIVE_PROMPT, "What not to put in the object's place.", metavar="P", group=SAMPLING
    )
    seed: int = _seed()
    size: tuple[int, int] | None = _size()
    dilate: int | None = flag(
        None,
        "Pixels to grow the mask by (default: automatic).",
        metavar="PX",
        group=MASK,
        least=0,
        most=MOST_PIXELS_GROWN,
    )
    feather: int | None = flag(
        None,
        "Feather width in pixels, inside the dilated edge (default: automatic).",
        metavar="PX",
        group=MASK,
        least=0,
        most=MOST_PIXELS_GROWN,
    )
    evidence: EvidenceChoice = flag(
        "auto",
        "auto: take the hidden background from other frames, and generate the rest. off: generate everything. only: "
        "take it from other frames, and fill the rest without a model.",
        group=EVIDENCE,
    )
    crop: bool | None = flag(
        None,
        "Process only the area around the mask, or the full frame (default: crop, unless --evidence off).",
        "--crop/--no-crop",
        group=SPEED,
    )
    refresh: float | None = flag(
        None,
        "Sigma step between full passes, 0 to 1; smaller is slower and more exact (default: automatic).",
        metavar="R",
        group=SPEED,
        least=0,
        most=1,
    )
    dense: bool = flag(False, "Run every token in every step; slower but exact.", "--dense", group=SPEED)
    compile: bool | None = flag(
        None,
        "Compile the transformer's blocks (default: only for clips long enough to save time overall).",
        "--compile/--no-compile",
        group=SPEED,
    )
    context: int | None = flag(
        None,
        "Latent frames of other windows that each window of a long clip can see (default: the model's own).",
        metavar="N",
        group=SAMPLING,
        least=0,
        most=MOST_CONTEXT,
    )
    window: int | None = flag(
        None,
        "Maximum frames per window (default: the model's; longer for small crops).",
        metavar="N",
        group=SAMPLING,
        least=1,
        most=MOST_WINDOW,
    )
    references: "GivenReferences | None" = flag(
        None,
        "A cleaned frame and its number in CLIP (from 0; two fields are one frame), or a folder of cleaned frames "
        "(012.png for frame 12), as `layerlift reference` writes it. Repeat per picture.",
        "--reference",
        metavar="PICTURE@FRAME|DIR",
        group=EVIDENCE,
        takes=list[str],
        parse=parse_references,
    )


@dataclass(frozen=True, slots=True)
class EffectOptions:
    """Choices for finding effects: shadows, reflections, light and smoke.

    Attributes:
        threshold: the lowest score that counts as an effect, in (0, 1]. None is 0.4, or the model's own where it alone
            is asked.
        sigmas: noise levels in (0, 1) at which the model looks; several are averaged.
        dilate: pixels of the clip to grow the result by, at least 0.
        temporal_radius: frames on either side to smooth scores over, at least 0; None is 2, or half as many frames as
            one latent frame of the model holds where it alone is asked.
        max_distance: pixels of the clip; effects farther from their object are dropped. None is no limit.
        layers: transformer layers whose attention counts: "auto", "all" or numbers from 0.
        refine: "edges" follows the edges in the frames, "none" interpolates the model's grid, "plate" removes the
            objects once and keeps what changed.
        seed: seed of the noise.
        size: (width, height) in pixels to work at.
        prompt: description of the clip for the model; None is its own word for a scene with objects, if it has one.
        witnesses: what is asked: "clip" (what travels with the object, and looks like an effect), "model" (the model's
            attention, where a model is chosen), "all".
        kinds: the kinds of effects to find; glass counts as smoke. Only "clip" tells them apart.
    """

    threshold: float | None = flag(
        None,
        "Lowest score that counts as an effect, 0 to 1 (default: 0.4, or the model's own with --witnesses model).",
        metavar="T",
        group=MASK,
        least=0,
        most=1,
    )
    sigmas: Sequence[float] = flag(
        DEFAULT_SIGMAS,
        "Noise level at which the model looks, between 0 and 1; several are averaged (default: 0.4).",
        "--sigma",
        metavar="S[,S…]",
        group=SAMPLING,
        takes=str,
        parse=parse_sigmas,
    )
    dilate: int = flag(0, "Pixels to grow the result by.", metavar="PX", group=MASK, least=0, most=MOST_PIXELS_GROWN)
    temporal_radius: int | None = flag(
        None,
        "Frames on either side to smooth scores over (default: 2, or what suits the model with --witnesses model).",
        metavar="N",
        group=MASK,
        least=0,
        most=MOST_SMOOTHED,
    )
    max_distance: float | None = flag(
        None,
        "Ignore effects farther than this from the object (default: no limit).",
        metavar="PX",
        group=MASK,
        least=0,
        most=2 * LONGEST_SIDE,
    )
    layers: str | Sequence[int] = flag(
        "auto",
        "Transformer layers whose attention counts: auto (the model's choice), all, or a list such as 3,5-8.",
        metavar="auto|all|LIST",
        group=SAMPLING,
        takes=str,
        parse=parse_layers,
    )
    refine: Refinement = flag(
        "edges",
        "How to outline effects: edges follows the edges in the frames, none keeps the model's coarse grid, and "
        "plate removes the objects once and keeps what changed.",
        group=MASK,
    )
    seed: int = _seed()
    size: tuple[int, int] | None = _size()
    prompt: str | None = flag(
        None, "Description of the clip for the model (default: depends on the model).", metavar="P", group=SAMPLING
    )
    witnesses: Witnesses = flag(
        "all",
        "What to ask for effects: clip (what travels with the object in the clip), model (the model's attention), or "
        "all of them.",
        group=MASK,
    )
    kinds: Sequence[str] = flag(
        EFFECT_KINDS,
        "Kinds of effects to find (default: shadow,reflection,light,smoke; glass counts as smoke).",
        metavar="LIST",
        group=MASK,
        takes=str,
        parse=parse_kinds,
    )


@dataclass(frozen=True, slots=True)
class ExtractionOptions:
    """Choices for extracting layers.

    Attributes:
        edge: pixels on either side of the mask's edge in which to find the object's edge; 0 uses the mask as it is.
            None is 1/120 of the picture's shorter side, and at least 2.
        noise: difference between clip and plate to ignore as noise, in levels of 255, in [0, 255]; None is measured.
        linear: make colours and alpha for compositing in linear light, as OpenEXR readers expect, instead of in the
            display values that videos store.
    """

    edge: int | None = flag(
        None,
        "Pixels on either side of the mask's edge in which to find the object's edge (default: automatic).",
        metavar="PX",
        group=MASK,
        least=0,
        most=MOST_PIXELS_GROWN,
    )
    noise: float | None = flag(
        None,
        "Difference between CLIP and PLATE to ignore as noise, in levels of 255 (default: measured).",
        metavar="LEVELS",
        group=MASK,
        least=0,
        most=255,
    )
    linear: bool = False


@dataclass(frozen=True, slots=True)
class CompositionOptions:
    """Where and when a layer is placed over a background.

    Attributes:
        offset: background pixels to move the layer right and down from the centre.
        scale: size of one layer pixel in background pixels, above 0; None fits the layer into the background.
        start: background frame, counted from 0, at which the layer begins.
        length: when the layer outlasts the background, "hold" keeps the background's last frame, "loop" starts it
            again, and "cut" ends the result; otherwise these three end the result with the layer. "background" makes
            the result as long as the background.
        sound: whose sound the result has; None is the layer's, or the background's if the layer has none.
    """

    offset: tuple[int, int] = flag(
        (0, 0),
        "Move the layer right and down, in background pixels (default: 0,0, which is centred).",
        metavar="X,Y",
        group=PLACE,
        takes=str,
        parse=parse_offset,
    )
    scale: float | None = flag(
        None,
        "Size of one layer pixel in background pixels (default: the layer is fitted into the background).",
        metavar="S",
        group=PLACE,
        least=0,
        most=MOST_SCALE,
    )
    start: int = flag(
        0, "Background frame at which the layer begins.", metavar="FRAME", group=PLACE, least=0, most=MOST_START
    )
    length: Length = flag(
        "hold",
        "If the background is shorter than the layer: hold its last frame, loop it, or cut the result. With "
        "background, the result is always as long as the background.",
        group=PLACE,
    )
    sound: Sound | None = flag(
        None, "Sound of the result (default: the layer's, or the background's if the layer has none).", group=OUTPUT
    )


@dataclass(frozen=True, slots=True)
class LatentCompositionOptions:
    """Choices for a latent composition.

    Attributes:
        refine: blend object and background by denoising; False only inserts the object's pixels.
        strength: noise level at which refinement begins, in (0, 1]; higher changes more.
        steps: denoising steps of the refinement, at least 1.
        seed: seed of the noise; the same inputs and seed on the same device give the same result.
        size: (width, height) in pixels to work at.
    """

    refine: bool = flag(True, "Skip the refinement.", "--no-refine", group=LATENT)
    strength: float = flag(
        0.3, "Noise level at which the refinement begins, up to 1.", "--refine-strength", metavar="SIGMA", group=LATENT,
        least=0, most=1,
    )  # fmt: skip
    steps: int = flag(
        10, "Denoising steps of the refinement.", "--refine-steps", metavar="N", group=LATENT, least=1, most=MOST_STEPS
    )
    seed: int = _seed()
    size: tuple[int, int] | None = _size()


@dataclass(frozen=True, slots=True)
class ReferenceOptions:
    """Choices for the frames that are worth cleaning by hand.

    Attributes:
        count: maximum number of frames, at least 1.
        dilate: pixels of the clip to grow the mask by, as for a removal.
    """

    count: int = flag(8, "Maximum number of frames.", metavar="N", least=1, most=MOST_REFERENCES)
    dilate: int | None = flag(
        None, "Pixels to grow the mask by, as for `remove` (default: automatic).", metavar="PX", least=0,
        most=MOST_PIXELS_GROWN,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SegmentationOptions:
    """Choices for finding objects in every frame.

    Attributes:
        segmenter: what looks at the frames: "mobile-sam", which comes with layerlift, "sam2-tiny" … "sam2-large", which
            have to be downloaded, a folder with SAM 2 or SAM 3, "classic", which needs no weights, or "auto", which is
            the best SAM 2 on this machine if it has a GPU, else "mobile-sam".
    """

    segmenter: str = flag(
        "auto",
        "What finds the objects: mobile-sam (comes with layerlift), sam2-tiny, -small, -base or -large (see `layerlift "
        "download`), classic (colours alone), or a folder with SAM 2 or SAM 3. auto is mobile-sam, or on a GPU the "
        "best SAM 2 that was downloaded.",
        metavar="auto|NAME|PATH",
        group=MODELS,
    )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Choices for the whole pipeline.

    Attributes:
        removal: for the clean plate, and for the plate that ``refine="plate"`` compares with.
        effects: for finding shadows and reflections.
        extraction: for the layers.
        composition: for placing the layers over a new background.
        lossless: write FFV1 in .mkv, bit for bit, instead of H.264 in .mp4 and ProRes 4444 in .mov.
    """

    removal: RemovalOptions = field(default_factory=RemovalOptions)
    effects: EffectOptions = field(default_factory=EffectOptions)
    extraction: ExtractionOptions = field(default_factory=ExtractionOptions)
    composition: CompositionOptions = field(default_factory=CompositionOptions)
    lossless: bool = False
