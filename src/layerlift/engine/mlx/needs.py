"""What each stage takes of memory when MLX runs it. Pure arithmetic over the same numbers as torch's.

The factors were counted with `mx.get_peak_memory`, which counts on the CPU as well (tests/mlx/test_memory.py counts
them again). What MLX's CPU takes more than Metal, which fuses attention and unfolds nothing for convolutions, is added
where the device is the CPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from layerlift.engine.device.needs import (
    BYTES,
    GIB,
    TEXT_EXTRA,
    TEXT_TOKENS,
    DenoiseRun,
    ModelFacts,
    Need,
    Request,
    VaeRun,
)

# Weights of a row that share a scale and an offset, and how many groups that is.
GROUP = 64

# Host memory that torch, diffusers and MLX's libraries take in GiB; on a Mac an estimate.
LIBRARIES = 0.30
FRAME_COPIES = 3
PASS_ARRAYS = 31.0
SCORE_ARRAYS = 2.5
VAE_PIECE = {"encode": 20.0, "decode": 22.0}
UNFOLD_BYTES = 2**27


@dataclass(frozen=True, slots=True)
class MlxArithmetic:
    def vae_need(self, request: Request, stage: str, run: VaeRun) -> Need:
        policy, half = request.policy, request.half(stage)
        size = BYTES[policy.vae_dtype]
        kept = 0 if run.streamed else size if run.storage is None else BYTES[run.storage]
        weights = half.convolutions * kept + half.other * size
        width, height = request.size
        pixels = width * height
        length = min(run.frames or 1, request.frames)
        activations = pixels * (half.held * size + half.frame * length * VAE_PIECE[stage])
        host = FRAME_COPIES * request.frames * pixels * 4.0
        return Need(stage, weights, activations, host + LIBRARIES * GIB)

    def text_need(self, request: Request) -> Need:
        policy, facts = request.policy, request.facts
        if facts.text_block is None:
            return Need("text", 0.0, 0.0, LIBRARIES * GIB)
        block = facts.text_block * BYTES[policy.text_dtype]
        return Need("text", block, TEXT_EXTRA * block, LIBRARIES * GIB)

    def denoise_need(self, request: Request, run: DenoiseRun) -> Need:
        policy, facts = request.policy, request.facts
        size = BYTES[policy.transformer_dtype]
        bits = 4 if run.int4 else 8 if run.int8 else None
        linear = facts.linear * (size if bits is None else (bits + 2 * 8 * size / GROUP) / 8)
        weights = facts.layers * (linear + (facts.block - facts.linear) * size) + facts.outside * size
        passes = request.branches if run.batched_guidance else 1
        tokens = request.tokens
        activations = PASS_ARRAYS * passes * tokens * facts.width * size
        if run.sparse:
            activations += 2 * facts.layers * request.branches * tokens * facts.width * size
        activations += 2 * facts.layers * request.branches * TEXT_TOKENS * facts.width * size
        return Need("denoise", weights, activations, LIBRARIES * GIB)

    def denoise_runs(self, request: Request) -> Iterator[DenoiseRun]:
        policy = request.policy
        kept: tuple[tuple[bool, bool], ...] = ((False, False), (True, False), (False, True))
        for int8, int4 in kept:
            for sparse in (True, False) if request.sparse else (False,):
                yield DenoiseRun(False, sparse, int8, int4, attention_limit_bytes=policy.attention_limit_bytes)


ARITHMETIC = MlxArithmetic()


def mlx_facts(facts: ModelFacts) -> ModelFacts:
    """The facts of a model as MLX reckons with them."""
    return replace(facts, arithmetic=ARITHMETIC)
