"""What each stage of a job takes of memory. Pure arithmetic over numbers from a checkpoint's headers and configs.

The factors of the activations were counted on the meta device (tests/test_plan.py counts them again), the overheads
measured (docs/performance.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from layerlift.engine.device.policy import Policy

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

# Stages that load a part of the model, in the order they run.
STAGES = ("encode", "text", "denoise", "decode")

# Anonymous host memory that the libraries take in GiB, over a process with torch imported and the device initialised.
# On CUDA the kernels of cuDNN and cuBLAS take it, as many as have run so far, and come on top of the imports (0.23).
LIBRARIES = {
    "cpu": {"encode": 0.28, "text": 0.28, "denoise": 0.33, "decode": 0.28},
    "cuda": {"encode": 0.76, "text": 0.80, "denoise": 1.10, "decode": 1.30},
    "mps": {"encode": 0.30, "text": 0.30, "denoise": 0.35, "decode": 0.30},
}
# What an allocator keeps over what is asked of it.
FRAGMENTATION = 1.05
# What cuDNN takes for a convolution of the VAE, in GiB, by the size of its dtype; and cuBLAS for good.
CONVOLUTION_SPACE = {2: 0.15, 4: 0.30}
MATRIX_SPACE = 0.035

# Bytes for every element of the VAE's largest activation, by the size of its dtype: x, its norm in float32 …
VAE_PIECE = {"encode": {2: 12.0, 4: 17.0}, "decode": {2: 13.5, 4: 19.0}}
VAE_WHOLE = {"encode": {2: 15.0, 4: 22.0}, "decode": {2: 12.6, 4: 17.4}}
# What is there of them where the weights are the largest.
DEEP_SHARE = 0.1
# Copies of a window's frames and masks while it is encoded: as they come, cut to the box, and as one array.
FRAME_COPIES = 3
# Activations of a transformer pass in arrays of (tokens, width): hidden states, the modulation of every token (6), its
# sum with the block's own (6), queries, keys, values, the rotary tables, the four of the feed-forward layer.
PASS_ARRAYS = {2: 31.0, 4: 28.0}
# Attention without a fused kernel holds the scores and their softmax, and pieces of both.
SCORE_ARRAYS = 2.5
# Queries, keys and values in float32, where the policy wants attention to run in it.
FLOAT32_ARRAYS = 3
# Keys and values of the text, of every block, are kept through the loop: tokens of the text at the most.
TEXT_TOKENS = 256
# A tensor of the text encoder on its way in, and the activations of 256 tokens, as a share of a block.
TEXT_EXTRA = 0.35
# Frames decoded, converted and pasted at a time beside the VAE, in float32 copies of one.
PASTE_FRAMES = 12


@dataclass(frozen=True, slots=True)
class VaeFacts:
    """One half of a VAE.

    Attributes:
        parameters: those of convolutions (kept in the storage dtype) and all others.
        largest: parameters of the largest convolution.
        held: elements that a stream keeps between pieces, for each pixel of a frame.
        frame: elements of the largest activation, for each pixel of each frame.
        axis: the longest axis, in channels, that a convolution makes.
    """

    convolutions: int
    other: int
    largest: int
    held: float
    frame: float
    axis: int

    @property
    def parameters(self) -> int:
        return self.convolutions + self.other


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a plan needs to know of a model.

    Attributes:
        width, heads, layers: of the transformer.
        block: parameters of one of its blocks; `linear` of these are in linear layers.
        largest_linear: parameters of the largest linear layer in a block.
        outside: parameters outside its blocks.
        space, time: pixels and frames of a token.
        encoder, decoder: the halves of the VAE.
        vae_stored: the dtype that all of the VAE's convolutions have on disk; None when it is not one that can be kept.
        text_block: parameters of the text encoder's largest block; None when embeddings are ready.
        text_parameters: parameters of all of it.
        arithmetic: how its engine reckons; None: as torch does, which is what this file has.
    """

    name: str
    width: int
    heads: int
    layers: int
    block: int
    linear: int
    largest_linear: int
    outside: int
    space: int
    time: int
    encoder: VaeFacts
    decoder: VaeFacts
    vae_stored: str | None
    text_block: int | None = None
    text_parameters: int = 0
    arithmetic: "Arithmetic | None" = None


@dataclass(frozen=True, slots=True)
class Need:
    """What one stage takes at its peak, in bytes."""

    stage: str
    weights: float
    activations: float
    host: float

    @property
    def total(self) -> float:
        return self.weights + self.activations + self.host


@dataclass(frozen=True)
class Request:
    """What a plan is made for.

    Attributes:
        size: the padded picture the model works at, (width, height) in pixels.
        frames: of the longest window.
        native: the clip's own (width, height).
        branches: 2 with guidance, else 1.
        memory: bytes that may be taken, device and host together.
        sparse: whether keys and values may be kept for sparse passes.
        context: latent frames of other windows that each window is shown.
        caps: stages that must take less than this, because they failed with it.
    """

    facts: ModelFacts
    policy: Policy
    size: tuple[int, int]
    frames: int
    native: tuple[int, int]
    branches: int
    memory: float
    sparse: bool = True
    context: int = 0
    caps: dict[str, float] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens of the longest window, and of those of other windows that it is shown."""
        width, height = self.size
        cells = (width // self.facts.space) * (height // self.facts.space)
        return cells * (1 + -(-(self.frames - 1) // self.facts.time) + self.context)

    @property
    def fused(self) -> bool:
        """Whether attention runs in fused kernels for Metal, which hold no scores: they have a kernel for its heads."""
        kernels = self.policy.fused_attention
        return kernels is not None and kernels.takes(self.tokens, self.facts.width // self.facts.heads)

    def half(self, stage: str) -> VaeFacts:
        """The half of the VAE that runs in "encode" or "decode"."""
        return self.facts.encoder if stage == "encode" else self.facts.decoder

    def cap(self, stage: str) -> float:
        return min(self.memory, self.caps.get(stage, self.memory))


@dataclass(frozen=True, slots=True)
class VaeRun:
    """How the VAE runs: see `Policy.vae_frames`, `Policy.vae_storage` and `Policy.vae_streamed`."""

    frames: int | None
    storage: str | None = None
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class DenoiseRun:
    """How the transformer runs: see the policy's fields of these names.

    `sparse`: keys and values of every token are kept between passes.
    """

    batched_guidance: bool = False
    sparse: bool = False
    int8: bool = False
    int4: bool = False
    streamed_blocks: int = 0
    attention_limit_bytes: int | None = None


class Arithmetic(Protocol):
    """How an engine other than torch reckons what its stages take."""

    def vae_need(self, request: Request, stage: str, run: VaeRun) -> Need:
        """What "encode" or "decode" takes."""
        ...

    def text_need(self, request: Request) -> Need:
        """What "text" takes."""
        ...

    def denoise_need(self, request: Request, run: DenoiseRun) -> Need:
        """What "denoise" takes."""
        ...

    def denoise_runs(self, request: Request) -> Iterator[DenoiseRun]:
        """Ways to run the transformer, from the fastest to the smallest."""
        ...


def vae_need(request: Request, stage: str, run: VaeRun) -> Need:
    """What "encode" or "decode" takes."""
    if (own := request.facts.arithmetic) is not None:
        return own.vae_need(request, stage, run)
    policy, half = request.policy, request.half(stage)
    size, kept, weights = vae_weights(policy, half, run)
    pixels = request.size[0] * request.size[1]
    whole = run.frames is None or run.frames >= request.frames
    length = request.frames if run.frames is None else min(run.frames, request.frames)
    if whole:
        activations = pixels * half.frame * length * VAE_WHOLE[stage][size]
    else:
        activations = pixels * (half.held * size + half.frame * length * VAE_PIECE[stage][size])
    if kept != size:
        # Deep layers have the large weights and the small pictures, so the largest is not on top of everything.
        activations = max(activations, (pixels * half.held + half.largest) * size + DEEP_SHARE * activations)
    output = pixels * 3 * size * min(request.frames, length if whole else 2 * length)
    if stage == "encode":
        host = FRAME_COPIES * request.frames * pixels * 4.0
    else:
        native = request.native[0] * request.native[1]
        host = (output if whole else 0) + PASTE_FRAMES * 3.0 * (4 * pixels + native)
    if run.streamed and policy.device != "cpu" and request.facts.vae_stored != policy.vae_dtype:
        host += half.largest * size  # cast there, on its way to the device
    if on_cuda(policy):
        activations += CONVOLUTION_SPACE[size] * GIB
    return Need(stage, weights, activations * FRAGMENTATION + output, host + libraries(policy, stage))


def vae_weights(policy: Policy, half: VaeFacts, run: VaeRun) -> tuple[int, int, int]:
    """Bytes of a number that is computed with, of a convolution's weight while it waits, and of all weights."""
    size = BYTES[policy.vae_dtype]
    kept = 0 if run.streamed else size if run.storage is None else BYTES[run.storage]
    return size, kept, half.convolutions * kept + half.other * size


def text_need(request: Request) -> Need:
    """What "text" takes: next to nothing where the embeddings are there already."""
    policy, facts = request.policy, request.facts
    if facts.arithmetic is not None:
        return facts.arithmetic.text_need(request)
    if facts.text_block is None:
        return Need("text", 0.0, 0.0, libraries(policy, "text"))
    size = BYTES[policy.text_dtype]
    weights = (facts.text_block if policy.text_stream else facts.text_parameters) * size
    return Need("text", weights, TEXT_EXTRA * facts.text_block * size, libraries(policy, "text"))


def denoise_need(request: Request, run: DenoiseRun) -> Need:
    """What "denoise" takes."""
    policy, facts = request.policy, request.facts
    if facts.arithmetic is not None:
        return facts.arithmetic.denoise_need(request, run)
    size = BYTES[policy.transformer_dtype]
    if run.int8:
        # One layer at a time is made whole, in two steps.
        block = facts.linear + (facts.block - facts.linear) * size
        weights = facts.layers * block + (facts.outside + 2 * facts.largest_linear) * size
    else:
        # One streamed block at a time, and on its way to another device one tensor of it.
        passing = facts.block + facts.largest_linear if run.streamed_blocks else 0
        weights = ((facts.layers - run.streamed_blocks) * facts.block + facts.outside + passing) * size
    passes = request.branches if run.batched_guidance else 1
    tokens = request.tokens
    activations = PASS_ARRAYS[size] * passes * tokens * facts.width * size * FRAGMENTATION
    if run.attention_limit_bytes is not None:
        score = 4 if policy.float32_softmax else size
        scores = 0 if request.fused else passes * facts.heads * tokens * tokens * score
        # While scores are there, the feed-forward layer's arrays are not.
        there = 0.8 * activations + SCORE_ARRAYS * min(run.attention_limit_bytes, scores)
        if policy.float32_softmax:  # the probe's, where attention itself is fused
            there += FLOAT32_ARRAYS * passes * tokens * facts.width * BYTES["float32"]
        activations = max(activations, there)
    if run.sparse:
        activations += 2 * facts.layers * request.branches * tokens * facts.width * size
    if not run.streamed_blocks:
        activations += 2 * facts.layers * request.branches * TEXT_TOKENS * facts.width * size
    if on_cuda(policy):
        activations += MATRIX_SPACE * GIB
    return Need("denoise", weights, activations, libraries(policy, "denoise"))


def libraries(policy: Policy, stage: str) -> float:
    """What the libraries take of the host's memory on the policy's device, by the end of a stage."""
    return LIBRARIES[policy.device.split(":")[0]][stage] * GIB


def on_cuda(policy: Policy) -> bool:
    """Whether the policy's device is a CUDA card, whoever's rules it follows."""
    return policy.device.startswith("cuda")
