"""What each stage takes of memory when MLX runs it. Pure arithmetic over the same numbers as torch's.

The factors were counted with `mx.get_peak_memory`, which counts on the CPU as well (tests/mlx/test_mlx_memory.py counts
them again). There activations take the most they can: Metal fuses what the CPU does one after the other. What only the
CPU takes, scores of attention and inputs unfolded for convolutions, is left out where the device is a GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from layerlift.engine.device.needs import (
    BYTES,
    FRAME_COPIES,
    GIB,
    PASTE_FRAMES,
    TEXT_TOKENS,
    DenoiseRun,
    ModelFacts,
    Need,
    Request,
    VaeRun,
    vae_weights,
)

# Weights of a row that share a scale and an offset, when they are packed; the inputs that a call of MLX's convolution
# on the CPU may unfold, in bytes; and how much larger that makes them. On a GPU none are, from MLX 0.31 on, where
# channels are a multiple of 16, as all of LTX-Video's are (mlx #3147).
GROUP = 64
UNFOLD_BYTES = 2**27
UNFOLDED = 27

# Host memory that torch, diffusers and MLX's libraries take in GiB; on a Mac an estimate.
LIBRARIES = 0.30

# Activations of a transformer pass in arrays of (tokens, width), by the size of its dtype: at the highest, which is in
# the feed-forward layer (its GELU on the CPU makes half of them), and besides the scores of attention, which are there
# twice. Half precision holds some in float32.
PASS_ARRAYS = {2: 38.0, 4: 24.0}
ATTENTION_ARRAYS = {2: 16.0, 4: 10.0}
# Bytes for every element of the VAE's largest activation, and frames more than a piece has that its convolutions hold.
VAE_PIECE = {"encode": {2: 12.0, 4: 20.7}, "decode": {2: 10.0, 4: 17.0}}
HELD_FRAMES = 2
# On the CPU, arrays of a frame that are there during a convolution, besides what it unfolds: so many for each frame of
# a piece, and for so many more.
CONVOLUTION = {"encode": (5.3, 1.25), "decode": (3.6, 2.0)}
# Steps by which attention on the CPU is cut up further when memory is short.
LOWER_LIMITS = (2**25, 2**23)
# What is there of activations where the weights are the largest.
DEEP_SHARE = 0.1

# The text encoder that LTX-Video was trained with, T5-XXL: width, width of its feed-forward layer, heads.
TEXT_ENCODER = (4096, 10240, 64)
# Copies of its activations, by the size of its dtype.
TEXT_ARRAYS = {2: 2.9, 4: 2.3}


def packed_bits(bits: int, size: int) -> float:
    """Bits that a weight takes when it is packed, its share of scale and offset of `size` bytes each included."""
    return bits + 2 * 8 * size / GROUP


def text_activations(width: int, hidden: int, heads: int, length: int) -> int:
    """Elements of a T5 block's activations: those of its width and of its gates, and scores."""
    return length * (4 * width + 3 * hidden) + heads * length**2


@dataclass(frozen=True, slots=True)
class MlxArithmetic:
    """See `layerlift.engine.device.needs.Arithmetic`."""

    def vae_need(self, request: Request, stage: str, run: VaeRun) -> Need:
        """Weights, what the stream holds and a piece of the clip."""
        policy, half = request.policy, request.half(stage)
        size, kept, weights = vae_weights(policy, half, run)
        pixels = request.size[0] * request.size[1]
        length = min(run.frames or request.frames, request.frames)
        frame = pixels * half.frame  # elements
        activations = frame * (length + HELD_FRAMES) * VAE_PIECE[stage][size]
        if policy.device == "cpu":
            unfolded = frame * UNFOLDED * size
            at_once = max(1, min(length, UNFOLD_BYTES // unfolded))
            arrays, more = CONVOLUTION[stage]
            activations = max(activations, frame * (length + more) * arrays * size + unfolded * at_once)
        activations += pixels * half.held * size
        activations = max(activations, half.largest * kept)  # there twice while it is read
        if kept != size:
            # Deep layers have the large weights and the small pictures.
            activations = max(activations, (pixels * half.held + half.largest) * size + DEEP_SHARE * activations)
        native = request.native[0] * request.native[1]
        if stage == "encode":
            host = FRAME_COPIES * request.frames * pixels * 4.0
        else:
            host = PASTE_FRAMES * 3.0 * (4 * pixels + native)
        return Need(stage, weights, activations, host + LIBRARIES * GIB)

    def text_need(self, request: Request) -> Need:
        """One block of the text encoder; next to nothing where the embeddings are there already."""
        policy, facts = request.policy, request.facts
        if facts.text_block is None:
            return Need("text", 0.0, 0.0, LIBRARIES * GIB)
        size = BYTES[policy.text_dtype]
        activations = TEXT_ARRAYS[size] * size * text_activations(*TEXT_ENCODER, TEXT_TOKENS)
        return Need("text", facts.text_block * size, activations, LIBRARIES * GIB)

    def denoise_need(self, request: Request, run: DenoiseRun) -> Need:
        """Weights in so many bits, a pass, and what is kept between passes."""
        policy, facts = request.policy, request.facts
        size = BYTES[policy.transformer_dtype]
        bits = 4 if run.int4 else 8 if run.int8 else None
        linear = facts.linear * (size if bits is None else packed_bits(bits, size) / 8)
        weights = facts.layers * (linear + (facts.block - facts.linear) * size) + facts.outside * size
        passes = request.branches if run.batched_guidance else 1
        array = request.tokens * facts.width  # elements
        activations = PASS_ARRAYS[size] * passes * array * size
        if policy.device == "cpu":
            scores = passes * facts.heads * request.tokens**2 * size
            scores = min(run.attention_limit_bytes or scores, scores)
            activations = max(activations, ATTENTION_ARRAYS[size] * passes * array * size + 2 * scores)
        activations += array * 4  # the rotary tables
        if run.sparse:
            # Each pass's own, and those of the layer that is being replaced.
            activations += 2 * (facts.layers * request.branches + passes) * array * size
        activations += 2 * facts.layers * request.branches * TEXT_TOKENS * facts.width * size
        return Need("denoise", weights, activations, LIBRARIES * GIB)

    def denoise_runs(self, request: Request) -> Iterator[DenoiseRun]:
        """With whole weights, then in 8 bits, then in 4; as the policy says where it says so."""
        policy = request.policy
        ways: tuple[tuple[bool, bool], ...] = ((False, False), (True, False), (False, True))
        if policy.int4:
            ways = ways[2:]
        elif policy.int8 is not None:
            ways = ways[1:2] if policy.int8 else ways[:1]
        limits: tuple[int | None, ...] = (policy.attention_limit_bytes,)
        if policy.device == "cpu":
            limits += LOWER_LIMITS
        for int8, int4 in ways:
            for sparse in (True, False) if request.sparse else (False,):
                for limit in limits:
                    yield DenoiseRun(False, sparse, int8, int4, attention_limit_bytes=limit)


ARITHMETIC = MlxArithmetic()


def mlx_facts(facts: ModelFacts) -> ModelFacts:
    """The facts of a model as MLX reckons with them."""
    return replace(facts, arithmetic=ARITHMETIC)
