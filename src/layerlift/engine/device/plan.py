"""A plan for a machine's memory, made before a weight is read: what runs how, and what each stage will take."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from layerlift.engine.device.needs import (
    BYTES,
    GIB,
    DenoiseRun,
    Need,
    Request,
    VaeRun,
    denoise_need,
    text_need,
    vae_need,
)
from layerlift.engine.device.policy import Policy
from layerlift.errors import InputError

# Steps by which attention is cut up further when memory is short; smaller ones only cost launches.
ATTENTION_LIMITS = tuple(2**exponent for exponent in (31, 30, 29, 28, 27, 26))
VAE_FRAMES = (64, 32, 16, 8, 4, 2, 1)
# Blocks streamed before 8-bit weights are tried: up to this share of them it costs little, and the result is the same.
FEW_STREAMED = 0.25


@dataclass(frozen=True)
class Plan:
    """How a job runs within its memory: `policy` says all of it but `sparse`, which is the denoising loop's to know.

    Attributes:
        request: what it was made for.
        policy: the rules to run by.
        sparse: there is room to keep keys and values of all tokens between the steps.
        needs: what each stage takes, as far as one can tell.
    """

    request: Request
    policy: Policy
    sparse: bool
    needs: tuple[Need, ...]

    @cached_property
    def peak(self) -> float:
        """Bytes at the highest, device and host together."""
        return max(need.total for need in self.needs)

    def on(self, device: str) -> "Plan":
        """The same on another device of the kind."""
        return replace(
            self, policy=self.policy.on(device), request=replace(self.request, policy=self.request.policy.on(device))
        )

    def need(self, stage: str) -> Need:
        return next(need for need in self.needs if need.stage == stage)

    def smaller(self, stage: str) -> "Plan | None":
        """The next plan in which `stage` takes less, after it could not get what this one says; None: there is none."""
        caps = {**self.request.caps, stage: self.need(stage).total - 1}
        try:
            return make_plan(replace(self.request, caps=caps))
        except InputError:
            return None

    def precise(self) -> "Plan | None":
        """A plan in float32 throughout; None where this one is, and where that does not fit into the memory."""
        exact = replace(self.request.policy, transformer_dtype="float32", vae_dtype="float32")
        if exact == self.request.policy:
            return None
        try:
            return make_plan(replace(self.request, policy=exact))
        except InputError:
            return None

    def differences(self, other: Policy) -> list[str]:
        """What this plan has changed about a policy, one phrase each."""
        ours = self.policy
        said = []
        if ours.vae_frames != other.vae_frames:
            said.append(f"the VAE takes {ours.vae_frames or 'all'} frames at a time")
        if ours.vae_streamed:
            said.append("the VAE's weights are read from disk for every piece of the clip")
        elif ours.vae_storage != other.vae_storage:
            said.append(f"the VAE's weights are kept in {ours.vae_storage}")
        if ours.batched_guidance != other.batched_guidance:
            said.append("guidance runs its two passes one after the other")
        if ours.attention_limit_bytes != other.attention_limit_bytes and ours.attention_limit_bytes is not None:
            said.append(f"attention is cut into pieces of {ours.attention_limit_bytes / 2**20:.0f} MiB")
        if ours.int8 and not other.int8:
            said.append("the transformer's weights are kept in 8 bits")
        if ours.int4 and not other.int4:
            said.append("the transformer's weights are kept in 4 bits")
        if ours.streamed_blocks:
            said.append(
                f"{ours.streamed_blocks} of {self.request.facts.layers} transformer blocks are read from disk in every "
                f"pass"
            )
        if not self.sparse and self.request.sparse:
            said.append(
                "every pass runs on all tokens, because keeping keys and values takes more memory than there is"
            )
        return said


def make_plan(request: Request) -> Plan:
    """The fastest plan that fits, and where it costs little one whose result is the whole model's.

    Raises:
        InputError: nothing fits; names the stage that needs the most, and the smallest thing to change.
    """
    _check_axes(request)
    _check_elements(request)
    text, both = text_need(request), _vae_run(request)
    runs = (run for run in denoise_runs(request) if denoise_need(request, run).total <= request.cap("denoise"))
    run = next(runs, None)
    if text.total > request.cap("text") or both is None or run is None:
        raise _refusal(request)
    policy = replace(
        request.policy,
        vae_frames=both.frames,
        vae_storage=both.storage,
        vae_streamed=both.streamed,
        batched_guidance=run.batched_guidance,
        int8=run.int8 or request.policy.int8,
        int4=run.int4,
        streamed_blocks=run.streamed_blocks,
        attention_limit_bytes=run.attention_limit_bytes,
    )
    if run.int8 or run.streamed_blocks:
        # Recording and compiling hold on to where weights lie, and blocks that come and go lie nowhere.
        policy = replace(policy, can_compile=False, cuda_graphs=False)
    needs = (
        vae_need(request, "encode", both),
        text,
        denoise_need(request, run),
        vae_need(request, "decode", both),
    )
    return Plan(request, policy, run.sparse, needs)


def _vae_run(request: Request) -> VaeRun | None:
    """The fastest way to run the VAE in which both halves fit."""

    def fits(run: VaeRun, stage: str) -> bool:
        return vae_need(request, stage, run).total <= request.cap(stage)

    encode, decode = ([run for run in vae_runs(request, stage) if fits(run, stage)] for stage in ("encode", "decode"))
    if not encode or not decode:
        return None
    # What is narrower may still take more: all frames at once take less than most of them in pieces, and weights that
    # come and go want room beside what a large picture takes. So what suits the one half need not suit the other.
    return next((run for run in (_narrower(encode[0], decode[0]), *encode) if run in encode and run in decode), None)


def _narrower(one: VaeRun, other: VaeRun) -> VaeRun:
    """Both halves of the VAE run by one policy: what the one that has less room asked for holds for the other too."""
    frames = [run.frames for run in (one, other) if run.frames is not None]
    streamed = one.streamed or other.streamed
    return VaeRun(min(frames, default=None), None if streamed else one.storage or other.storage, streamed)


# --- what the stages can do with less --------------------------------------------------------------------------------


def vae_runs(request: Request, stage: str) -> Iterator[VaeRun]:
    """Ways to run a half of the VAE, from the fastest to the smallest; the result is the same."""
    policy, half = request.policy, request.half(stage)
    size = BYTES[policy.vae_dtype]
    width, height = request.size
    most = policy.vae_frames
    lengths = (None, *VAE_FRAMES) if most is None else tuple(length for length in VAE_FRAMES if length <= most)
    stored = request.facts.vae_stored
    kept = [VaeRun(None), VaeRun(None, streamed=True)]
    if stored is not None and BYTES[stored] < size:
        kept.insert(1, VaeRun(None, stored))
    for way in kept:
        for length in lengths:
            frames = 2 + (request.frames if length is None else min(length, request.frames))
            large = policy.vae_limit_bytes is not None and (
                width * height * frames * half.frame * size > policy.vae_limit_bytes
            )
            long = policy.vae_axis_limit is not None and frames > policy.vae_axis_limit
            # A single frame at a time is as small as it gets; weights come and go where it runs in pieces only.
            if (length == 1 or not (large or long)) and (length is not None or way == VaeRun(None)):
                yield replace(way, frames=length)


def denoise_runs(request: Request) -> Iterator[DenoiseRun]:
    """Ways to run the transformer, from the fastest to the smallest; those whose result is the whole model's come
    first where that costs little."""
    policy, layers = request.policy, request.facts.layers
    if request.facts.arithmetic is not None:
        yield from request.facts.arithmetic.denoise_runs(request)
        return
    limits: tuple[int | None, ...] = (None,)
    if policy.attention_limit_bytes is not None:
        own = policy.attention_limit_bytes
        smaller = () if request.fused else ATTENTION_LIMITS  # fused kernels hold no scores that could be cut up
        limits = tuple(limit for limit in smaller if limit <= own) or (own,)

    def resident(int8: bool) -> Iterator[DenoiseRun]:
        for sparse in (True, False) if request.sparse else (False,):
            for batched in (True, False) if policy.batched_guidance and request.branches > 1 else (False,):
                for limit in limits:
                    yield DenoiseRun(batched, sparse, int8, attention_limit_bytes=limit)

    def streamed(counts: range) -> Iterator[DenoiseRun]:
        return (DenoiseRun(streamed_blocks=count, attention_limit_bytes=limit) for count in counts for limit in limits)

    if policy.int8:
        yield from resident(True)
        return
    few = int(FEW_STREAMED * layers)
    yield from resident(False)
    yield from streamed(range(1, few + 1))
    if policy.int8 is None:
        yield from resident(True)
    yield from streamed(range(few + 1, layers + 1))


def _check_axes(request: Request) -> None:
    """Raises InputError when an array of the VAE is longer than the backend's convolutions can make."""
    limit = request.policy.vae_axis_limit
    if limit is None:
        return
    longest = max(request.facts.encoder.axis, request.facts.decoder.axis, *request.size)
    if longest > limit:
        width, height = request.size
        raise InputError(
            f"{request.facts.name} at {width}x{height} needs an axis of {longest} in its VAE, but convolutions on "
            f"{request.policy.backend} allow at most {limit}: choose a smaller --size, or --device cpu."
        )


def _check_elements(request: Request) -> None:
    """Raises InputError when an array that is joined or repeated has more elements than the backend can address.

    In the VAE that is what a convolution takes: what is held of the piece before, and the piece, of one frame at least.
    In the transformer it is the rotary tables, one row a token. What else is joined is far smaller.
    """
    facts, limit = request.facts, request.policy.array_limit
    if limit is None:
        return
    width, height = request.size
    most = {
        "its VAE": 3 * width * height * max(facts.encoder.frame, facts.decoder.frame),
        "its transformer": request.branches * request.tokens * facts.width,
    }
    part, elements = max(most.items(), key=lambda item: item[1])
    if elements >= limit:
        raise InputError(
            f"{facts.name} at {width}x{height} with {request.frames} frames a window needs an array of "
            f"{elements:.0f} numbers in {part}, but on {request.policy.backend} arrays of {limit} or more are joined "
            f"wrongly: choose a smaller --size, or --device cpu."
        )


# --- refusing --------------------------------------------------------------------------------------------------------


def _least(request: Request) -> dict[str, float]:
    """What each stage takes where the highest of them is as small as it gets."""
    decode = set(vae_runs(request, "decode"))
    # One policy is for both halves of the VAE.
    both = [run for run in vae_runs(request, "encode") if run in decode]
    first, last = min(([vae_need(request, half, run).total for half in ("encode", "decode")] for run in both), key=max)
    denoise = min(denoise_need(request, run).total for run in denoise_runs(request))
    return {"encode": first, "text": text_need(request).total, "denoise": denoise, "decode": last}


def least_memory(request: Request) -> float:
    """The smallest `memory` that a plan can be made for, in bytes."""
    return max(_least(request).values())


def _refusal(request: Request) -> InputError:
    width, height = request.size
    stage, least = max(_least(request).items(), key=lambda item: item[1])
    smaller = _largest_size(request)
    way = f"give --memory {_up(least)}"
    if smaller is not None:
        way += f", or --size {smaller[0]}x{smaller[1]}"
    # In 8 bits all blocks stay in memory; as they are, most can be read for every pass.
    free = replace(request, policy=replace(request.policy, int8=None))
    if request.policy.int8 and least_memory(free) <= request.memory:
        way += ", or leave out --weights 8bit"
    return InputError(
        f"{request.facts.name} at {width}x{height} with {request.frames} frames a window needs at least {_up(least)} "
        f"GiB (in stage {stage}), but only {request.memory / GIB:.2f} GiB may be used: {way}."
    )


def _largest_size(request: Request) -> tuple[int, int] | None:
    """The largest picture of the same shape that fits; None when not even a small one does."""
    width, height = request.size
    space = request.facts.space
    for side in range(max(width, height) - space, 4 * space, -space):
        scale = side / max(width, height)
        size = tuple(max(space, round(length * scale / space) * space) for length in (width, height))
        if least_memory(replace(request, size=(size[0], size[1]))) <= request.memory:
            return size[0], size[1]
    return None


def _up(size: float) -> str:
    """GiB with one digit, rounded up, so that what is said is enough."""
    return f"{-(-size * 10 // GIB) / 10:.1f}"
