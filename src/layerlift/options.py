"""Everything a user can choose, one class for each thing that is done; a field is a flag of the command line, too.

None always stands for a choice that is made for the user: what suits the model or the clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from layerlift.flags import flag
from layerlift.parse import parse_guidance, parse_layers, parse_offset, parse_references, parse_sigmas, parse_size

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
Length = Literal["hold", "loop", "cut", "background"]
Sound = Literal["layer", "background", "none"]
Weights = Literal["auto", "8bit", "full"]
Dtype = Literal["float32", "bfloat16", "float16"]
Backend = Literal["cpu", "cuda", "mps"]

# Headings of the command line's help.
MASK, EVIDENCE, SAMPLING, SPEED, PLACE = "Mask", "Evidence", "Sampling", "Speed", "Place and time"
MODELS, DEVICE, OUTPUT, LATENT = "Models", "Device", "Output", "With --latent"


def _seed() -> Any:
    return flag(0, "Seed of the noise.", metavar="S", group=SAMPLING, least=0, most=LARGEST_SEED)


def _size() -> Any:
    return flag(
        None,
        "Width and height in pixels that the model works at (default: the model's own).",
        metavar="WxH",
        group=SAMPLING,
        takes=str,
        parse=parse_size,
    )


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What runs, where, and in how much memory.

    Attributes:
        model: an opened `Model`, or what `open_model` takes. "none" is to do without, and so is None while no LTX
            checkpoint is on this machine.
        text_encoder: a folder with text_encoder/ and tokenizer/, for checkpoints that bring none.
        cache: read and keep prompt embeddings on disk.
        memory: GiB that may be taken, host and device together, above 0; None is what the machine reports as usable.
        weights: how the transformer's are kept: in 8 bits, as they are, or in 8 bits where memory is short.
        device: "cuda", "cuda:1", "mps" or "cpu"; None is the best there is.
        dtype: of the transformer.
        backend: whose rules are followed, on whatever device.
    """

    model: "Engine | str | Path | None" = flag(
        None,
        "Model to use (default: the installed LTX-Video checkpoint, or none).",
        metavar="none|demo|NAME|PATH|HUB-ID",
        group=MODELS,
        takes=str,
    )
    text_encoder: Path | None = flag(
        None,
        "Folder with text_encoder/ and tokenizer/, for checkpoints that bring none.",
        metavar="PATH",
        group=MODELS,
    )
    cache: bool = flag(True, "Neither read nor keep prompt embeddings on disk.", "--no-cache", group=MODELS)
    memory: float | None = flag(
        None,
        "Memory limit in GiB, RAM and GPU combined (default: what the machine reports as usable).",
        metavar="GB",
        group=DEVICE,
    )
    weights: Weights = flag(
        "auto",
        "Keep the transformer's weights in 8 bits, which takes half the memory, or in full. With auto, in 8 bits only "
        "where memory is short.",
        group=DEVICE,
    )
    device: str | None = flag(
        None, "Where to compute (default: the best device there is).", metavar="cpu|cuda|mps", group=DEVICE
    )
    dtype: Dtype | None = flag(None, "The transformer's number format (default: what suits the device).", group=DEVICE)
    backend: Backend | None = flag(
        None, "Follow another backend's rules on this device, to try them out.", "--policy", group=DEVICE
    )


@dataclass(frozen=True, slots=True)
class RemovalOptions:
    """What a user can choose about a removal.

    Attributes:
        steps: denoising steps, at least 1; None is the model's own number.
        guidance: how far to lead from the negative prompt to the prompt, at least 1, which is without; None is the
            model's own.
        prompt: what to put in the object's place.
        negative_prompt: what not to put there.
        seed: of the noise; the same inputs and seed on the same device give the same result.
        size: (width, height) in pixels to work at; the clip is scaled to lie inside it. None is the model's own.
        dilate: pixels of the clip by which the mask grows, at least 0. Beyond that every pixel stays the clip's own.
            None is the 120th part of the picture's shorter side, and at least 2.
        feather: pixels over which the result fades in, inside what the mask has grown by: at most `dilate`, which None
            is.
        evidence: "auto" takes from other frames what they show and generates the rest; "off" generates everything;
            "only" generates nothing: what no frame shows is inpainted without a model.
        crop: show the model only what lies around the mask, at the clip's own resolution where that is small enough;
            None does when evidence has been looked for: what other frames show of the hole may lie far from it.
        refresh: how far sigma may move, in [0, 1], before the transformer runs on all tokens again, and not on the
            unknown ones alone; None is 0.15.
        dense: run every token in every step.
        compile: compile the transformer's blocks; None does where the job is long enough to win back the time.
        context: latent frames of other windows that each window of a long clip is shown, at most; None is the model's.
        window: frames that are denoised in one go, at most; None is the model's, and more where what it sees is small.
        references: cleaned frames, by their numbers in the clip (counted from 0, in the whole clip where this one was
            cut from it): paths or (H, W, 3) uint8; or a folder of 012.png … . Inside the mask they are taken as they
            are, and evidence carries them to other frames.
    """

    steps: int | None = flag(None, "Denoising steps (default: the model's own).", metavar="N", group=SAMPLING, least=1)
    guidance: float | None = flag(
        None,
        "Guidance scale, 1 for none (default: the model's own).",
        metavar="G",
        group=SAMPLING,
        parse=parse_guidance,
    )
    prompt: str = flag(DEFAULT_PROMPT, "What to put in the object's place.", metavar="P", group=SAMPLING)
    negative_prompt: str = flag(
        DEFAULT_NEGATIVE_PROMPT, "What not to put in the object's place.", metavar="P", group=SAMPLING
    )
    seed: int = _seed()
    size: tuple[int, int] | None = _size()
    dilate: int | None = flag(
        None, "Pixels to grow the mask by (default: automatic).", metavar="PX", group=MASK, least=0
    )
    feather: int | None = flag(
        None,
        "Feather width in pixels, inside the dilated edge (default: automatic).",
        metavar="PX",
        group=MASK,
        least=0,
    )
    evidence: EvidenceChoice = flag(
        "auto",
        "auto: take what other frames show of the hidden background, and generate the rest. off: generate everything. "
        "only: fill the rest without a model.",
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
    )
    dense: bool = flag(False, "Run every token in every step: slower, exact.", "--dense", group=SPEED)
    compile: bool | None = flag(
        None,
        "Compile the transformer's blocks (default: for clips long enough to win back the time).",
        "--compile/--no-compile",
        group=SPEED,
    )
    context: int | None = flag(
        None,
        "Latent frames of other windows that each window of a long clip is shown (default: the model's own).",
        metavar="N",
        group=SAMPLING,
        least=0,
    )
    window: int | None = flag(
        None,
        "Maximum frames per window (default: the model's; longer for small crops).",
        metavar="N",
        group=SAMPLING,
        least=1,
    )
    references: "GivenReferences | None" = flag(
        None,
        "A cleaned frame, by its frame's number in CLIP (from 0; two fields are one frame), or a folder of them "
        "(012.png for frame 12), as `layerlift reference` writes it. Repeat per picture.",
        "--reference",
        metavar="PICTURE@FRAME|DIR",
        group=EVIDENCE,
        takes=list[str],
        parse=parse_references,
    )


@dataclass(frozen=True, slots=True)
class EffectOptions:
    """What a user can choose about looking for effects.

    Attributes:
        threshold: scores in [0, 1] from here on are effects; above 0. None is the model's own.
        sigmas: noise levels in (0, 1) at which the model looks; several are averaged.
        dilate: pixels of the clip by which the result grows, at least 0.
        temporal_radius: frames to either side over which scores are smoothed, at least 0; None is half as many as lie
            in one latent frame of the model.
        max_distance: pixels of the clip; effects further from their object are dropped. None is no limit.
        layers: whose attention counts: "auto", "all" or numbers from 0.
        refine: "edges" draws along the frames' edges, "none" interpolates, "plate" removes once and keeps what changed.
        seed: of the noise.
        size: (width, height) in pixels to work at.
        prompt: what the model is told; None is its word for a scene with objects, if it has one.
    """

    threshold: float | None = flag(
        None,
        "Score from which on something is an effect, 0 to 1 (default: the model's own).",
        metavar="T",
        group=MASK,
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
    dilate: int = flag(0, "Pixels to grow the result by.", metavar="PX", group=MASK, least=0)
    temporal_radius: int | None = flag(
        None,
        "Frames to either side over which scores are smoothed (default: what suits the model).",
        metavar="N",
        group=MASK,
        least=0,
    )
    max_distance: float | None = flag(
        None, "Ignore effects farther than this from the object (default: no limit).", metavar="PX", group=MASK, least=0
    )
    layers: str | Sequence[int] = flag(
        "auto",
        "Layers whose attention counts: the model's own choice (auto), all, or some, such as 3,5-8.",
        metavar="auto|all|LIST",
        group=SAMPLING,
        takes=str,
        parse=parse_layers,
    )
    refine: Refinement = flag(
        "edges",
        "Draw effects along the edges in the frames (edges), on the model's coarse grid (none), or remove once and "
        "keep what changed (plate).",
        group=MASK,
    )
    seed: int = _seed()
    size: tuple[int, int] | None = _size()
    prompt: str | None = flag(
        None, "What the model is told is in the clip (default: what suits the model).", metavar="P", group=SAMPLING
    )


@dataclass(frozen=True, slots=True)
class ExtractionOptions:
    """What a user can choose about an extraction.

    Attributes:
        edge: half the width in pixels of the band in which an object's edge is sought; 0 takes the mask as it is. None
            is the 120th part of the picture's shorter side, and at least 2.
        noise: levels of 255 by which clip and plate may differ without anything being there, in [0, 255]; None is
            measured.
        linear: make colours and alpha for compositing in linear light, as OpenEXR's readers do it, instead of in the
            display values that videos hold.
    """

    edge: int | None = flag(
        None,
        "How far inside and outside its mask an object's edge is sought, in pixels (default: automatic).",
        metavar="PX",
        group=MASK,
        least=0,
    )
    noise: float | None = flag(
        None,
        "Levels of 255 by which CLIP and PLATE may differ where nothing is (default: measured).",
        metavar="LEVELS",
        group=MASK,
        least=0,
        most=255,
    )
    linear: bool = False


@dataclass(frozen=True, slots=True)
class CompositionOptions:
    """Where and when a layer is laid over a background.

    Attributes:
        offset: pixels of the background, right and down, from where the layer lies by itself: in the middle.
        scale: pixels of the background for a pixel of the layer; None fits the layer's picture into the background's.
        start: frame of the background, counted from 0, at which the layer begins.
        length: where the layer outlasts the background, "hold" keeps the background's last frame, "loop" begins it
            again, and "cut" ends the result; with all three the result ends with the layer. "background" makes it as
            long as the background.
        sound: whose sound the result has; None is the layer's if it has any, else the background's.
    """

    offset: tuple[int, int] = flag(
        (0, 0),
        "Move the layer right and down by pixels of the background (default: 0,0, in the middle).",
        metavar="X,Y",
        group=PLACE,
        takes=str,
        parse=parse_offset,
    )
    scale: float | None = flag(
        None,
        "Size of a layer pixel in pixels of the background (default: the layer is fitted into the background).",
        metavar="S",
        group=PLACE,
    )
    start: int = flag(0, "Frame of the background at which the layer begins.", metavar="FRAME", group=PLACE, least=0)
    length: Length = flag(
        "hold",
        "A background shorter than the layer holds its last frame (hold), begins again (loop), or ends the result "
        "(cut). With background, the result is as long as the background.",
        group=PLACE,
    )
    sound: Sound | None = flag(
        None, "Whose sound the result has (default: the layer's if it has any, or the background's).", group=OUTPUT
    )


@dataclass(frozen=True, slots=True)
class LatentCompositionOptions:
    """What a user can choose about a latent composition.

    Attributes:
        refine: bring object and background together by denoising; else the object's pixels are only put in.
        strength: the noise level refinement begins at, in (0, 1]: the higher, the more is changed.
        steps: of the refinement, at least 1.
        seed: of the noise; the same inputs and seed on the same device give the same result.
        size: (width, height) in pixels to work at.
    """

    refine: bool = flag(True, "Leave the refinement out.", "--no-refine", group=LATENT)
    strength: float = flag(
        0.3, "Noise level at which the refinement begins, up to 1.", "--refine-strength", metavar="SIGMA", group=LATENT
    )
    steps: int = flag(10, "Denoising steps of the refinement.", "--refine-steps", metavar="N", group=LATENT, least=1)
    seed: int = _seed()
    size: tuple[int, int] | None = _size()


@dataclass(frozen=True, slots=True)
class ReferenceOptions:
    """What a user can choose about the frames that are worth cleaning by hand.

    Attributes:
        count: of frames, at most; at least 1.
        dilate: pixels of the clip by which the mask grows, as for a removal.
    """

    count: int = flag(8, "Maximum number of frames.", metavar="N", least=1)
    dilate: int | None = flag(
        None, "Pixels to grow the mask by, as for `remove` (default: automatic).", metavar="PX", least=0
    )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a user can choose about the whole job.

    Attributes:
        removal: of the clean plate, and of the one that ``refine="plate"`` compares with.
        effects: of what the objects cause.
        extraction: of the layers.
        composition: of the layers over a new background.
        lossless: write FFV1 in .mkv, bit for bit, instead of H.264 in .mp4 and ProRes 4444 in .mov.
    """

    removal: RemovalOptions = field(default_factory=RemovalOptions)
    effects: EffectOptions = field(default_factory=EffectOptions)
    extraction: ExtractionOptions = field(default_factory=ExtractionOptions)
    composition: CompositionOptions = field(default_factory=CompositionOptions)
    lossless: bool = False
