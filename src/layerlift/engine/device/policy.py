"""Every choice that depends on the backend, in one table.

Code that runs a model asks the policy, never the device: so the rules of one backend can be forced on another and
tested there. What no backend may do is not in the table, because it is not a choice: `NOWHERE` lists it.
"""

import os
from dataclasses import dataclass, replace
from typing import Literal

from layerlift.engine.device.mlx import has_metal, why_not_mlx
from layerlift.engine.device.mps import FusedAttention, attention_here
from layerlift.errors import InputError
from layerlift.parse import whole_number

Backend = Literal["cpu", "cuda", "mps"]

DTYPES = ("float32", "bfloat16", "float16")

# How the weights of the transformer's blocks may be kept: as a plan decides, in 8 or (with MLX) 4 bits, or as they are.
WEIGHTS = ("auto", "8bit", "4bit", "full")

# The environment variable that says where to compute when no device is asked for: for machines whose GPU is found and
# cannot be used, and for tests.
DEVICE = "LAYERLIFT_DEVICE"

# What runs a model: as suits the machine, torch, or Apple's MLX.
ENGINES = ("auto", "torch", "mlx")

# What code that runs a model does nowhere, as patterns of its source, and why: the traps of MPS that are not a choice.
NOWHERE = {
    r"grid_sample": "crashes on MPS in torch 2.10 (ComfyUI-SAM3 #110)",
    r"autocast": "unsupported on MPS in older torch (LTXVideo #90); dtypes are the policy's",
    r"torch\.float64|torch\.double\b|\.double\(": "unsupported on MPS (diffusers #9047, #11315)",
    r"torch\.float8": "unsupported on MPS (pytorch #148420); weights in it are cast on the CPU as they are read",
    r"non_blocking=(?!False)": "copies that do not wait corrupt silently on MPS (pytorch #139550, #189690)",
    r"device_map": "loads with copies that do not wait (diffusers #14556)",
    r"enable_\w+_offload": "twice the peak on MPS (diffusers #4197); stages load and free components themselves",
    r"Generator\([^)]*device|Generator\([\"'](?!cpu)": "seeds mean something else on every device (pytorch #84288)",
    r"torch\.(rand|randn|randint|randperm|normal)(?!\(.*generator=)\(": "as above: the device's own generator",
}

# Older torch gives noise with LTX-Video on MPS (pytorch #141471: 2.5.x).
OLDEST_TORCH_FOR_MPS = (2, 6)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules one run follows.

    `backend` names the row of the table, `device` where tensors lie: they differ when a policy is forced. Dtypes are
    names of torch dtypes ("float32", …), so that a policy can be made, printed and compared without torch.
    """

    backend: Backend
    device: str
    transformer_dtype: str
    vae_dtype: str
    text_dtype: str
    """The text encoder's weights; never float16, in which T5 overflows (transformers #9295)."""
    text_device: str
    text_stream: bool
    """Read the text encoder block by block, never more than one of them in memory."""
    cache_dtype: str
    """What cached text embeddings are stored in."""
    contiguous_attention: bool
    """Make queries, keys and values contiguous before attention."""
    attention_limit_bytes: int | None
    """No array of attention scores (batch, heads, queries, keys) may be larger; None: no limit."""
    float32_norms: bool
    """Normalise in float32, whatever the dtype."""
    fused_norms: bool
    """Normalise between the transformer's layers with torch's own kernel, which computes in float32 as well."""
    float32_softmax: bool
    """Run attention, softmax included, in float32, whatever the dtype; `fused_attention` does without."""
    vae_frames: int | None
    """How many frames the VAE takes at a time, with the very result of all at once; None: all at once."""
    fused_attention: FusedAttention | None = None
    """Calls of attention that a fused kernel takes: they run in the transformer's dtype and make no scores array, so
    `float32_softmax` and `attention_limit_bytes` are for the others. None: no call is looked at."""
    vae_axis_limit: int | None = None
    """No array in the VAE may be longer than this along any axis, channels included: plans keep to it."""
    array_limit: int | None = None
    """No array that is joined or repeated may have so many elements: plans keep to it."""
    vae_limit_bytes: int | None = None
    """No array in the VAE may be larger than this: plans keep to it."""
    cap_memory: bool = False
    """Have the allocator refuse what goes beyond the plan, instead of letting the system swap."""
    vae_storage: str | None = None
    """What the weights of the VAE's convolutions are kept in, each cast as it is used; None: `vae_dtype`. Exact where
    the checkpoint has no more than that. Needs `vae_frames`."""
    vae_streamed: bool = False
    """Leave the weights of the VAE's convolutions on disk and read each as it is used, for every piece of the clip: the
    same result, slower. Needs `vae_frames`."""
    int8: bool | None = None
    """Keep the weights of the transformer's blocks in 8 bits: half the memory, and a slightly different result. None
    leaves that to a plan, which does so only where memory is short."""
    int4: bool = False
    """Keep them in 4 bits: a quarter of the memory, and a result that differs more. MLX only."""
    streamed_blocks: int = 0
    """How many of the transformer's blocks are read from disk anew for every pass: the same result, slower."""
    resident: bool = False
    """Keep each component on the device after its stage, for a small model or repeated use."""
    batched_guidance: bool = False
    """Run the prompt and the negative prompt in one pass: faster where that fills the device, twice the activations."""
    can_compile: bool = False
    """Whether compiling the transformer's blocks pays at all on this backend, given enough steps."""
    cuda_graphs: bool = False
    """Record passes that are too short to fill the device and replay them without launching each kernel anew."""
    device_pixels: bool = False
    """Fill, match and paste frames on the device instead of with OpenCV on the CPU."""
    engine: Literal["torch", "mlx"] = "torch"
    """What runs the model. The device stays torch's name for it, since torch does what lies around the model."""

    def on(self, device: str) -> "Policy":
        """The same rules on another device of the kind."""
        return replace(self, device=device, text_device="cpu" if self.text_device == "cpu" else device)


# One row per backend; the device is filled in by `choose_policy`.
BACKENDS: dict[Backend, Policy] = {
    "cpu": Policy(
        backend="cpu",
        device="cpu",
        transformer_dtype="float32",  # half precision is emulated, and slower, on most CPUs
        vae_dtype="float32",
        text_dtype="bfloat16",  # 9.5 GB instead of 19 GB, and T5's own training precision
        text_device="cpu",
        text_stream=True,
        cache_dtype="bfloat16",
        contiguous_attention=False,
        attention_limit_bytes=None,  # torch's CPU kernel works in blocks
        float32_norms=False,
        fused_norms=False,
        float32_softmax=False,
        vae_frames=None,
    ),
    "cuda": Policy(
        backend="cuda",
        device="cuda",
        transformer_dtype="bfloat16",  # the precision the weights are published in
        vae_dtype="bfloat16",
        text_dtype="bfloat16",
        text_device="cuda",
        text_stream=True,
        cache_dtype="bfloat16",
        contiguous_attention=False,
        attention_limit_bytes=None,  # fused kernels make no scores array
        float32_norms=False,
        fused_norms=True,
        float32_softmax=False,
        vae_frames=None,
        batched_guidance=True,
        can_compile=True,
        cuda_graphs=True,
        device_pixels=True,
    ),
    "mps": Policy(
        backend="mps",
        device="mps",
        # bfloat16 passes op by op, yet artifacts pile up over the steps of a whole run (TP-OmnimatteZero PR #5);
        # float16 with float32 norms and softmax is what ran well on Macs.
        transformer_dtype="float16",
        # Half-precision Conv3d gives NaN and black frames, or is missing altogether (pytorch #117949).
        vae_dtype="float32",
        text_dtype="bfloat16",
        text_device="cpu",  # bad casts on MPS (diffusers #8604); it runs once, then comes from the cache
        text_stream=True,
        cache_dtype="bfloat16",
        contiguous_attention=True,  # SDPA is silently wrong on permuted views (pytorch #181133, #163597)
        # An array beyond 2^32 bytes aborts the process (pytorch #149261). Half of that leaves room for a copy the
        # kernel may make; LTX at 704x480x97 (4290 tokens, 32 heads, float32) needs 2.2 GiB, so two chunks.
        attention_limit_bytes=2**31,
        float32_norms=True,  # FramePack #816; in bfloat16 NaN on M5 (SeedVR2 #600)
        fused_norms=False,  # what Metal's kernel computes in nobody says; diffusers' computes in float32
        float32_softmax=True,  # in half precision NaN on long sequences (TP-OmnimatteZero PR #5)
        fused_attention=None,  # `choose_policy` takes it from the table of torch's versions: device/mps.py
        vae_frames=8,  # the decoder takes 12 GB with all frames at once (diffusers #10333)
        vae_axis_limit=2**16,  # "Output channels > 65536" (pytorch #152278): its check looks at every axis
        vae_limit_bytes=2**31,  # as with attention
        # `cat` writes beyond a result of 2^31 elements (pytorch #189960, in 2.13.0); `tile` ends there (SeedVR2 #600).
        array_limit=2**31,
        cap_memory=True,  # the default watermark, 1.7 times what is recommended, lies beyond the memory of a Mac
    ),
}

# The rows of the table as MLX follows them: torch's traps are not its own. It has none for CUDA.
MLX_ROWS: dict[Backend, Policy] = {
    "cpu": replace(
        BACKENDS["cpu"],
        engine="mlx",
        attention_limit_bytes=2**27,  # no fused kernel: the scores would be there at once
        vae_frames=8,  # the VAE always runs in a stream
    ),
    "mps": replace(
        BACKENDS["mps"],
        engine="mlx",
        transformer_dtype="bfloat16",  # the precision the weights are published in
        contiguous_attention=False,
        attention_limit_bytes=None,  # its kernel for heads of 64 and 128 channels makes no scores array
        float32_norms=False,  # its norms and softmax compute in float32 anyway
        float32_softmax=False,
        vae_axis_limit=None,
        array_limit=None,
    ),
}


def choose_engine(engine: str = "auto", device: str | None = None, force: str | None = None) -> str:
    """What runs the model, "torch" or "mlx". For "auto" that is MLX on an Apple GPU where it is installed, unless
    `device`, the environment or `force` (see `choose_policy`) ask for something.

    Raises InputError for an unknown engine, and for MLX where it cannot be used, with the reason.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown --engine {engine!r}: choose one of {', '.join(ENGINES)}.")
    device, _ = _asked(device)
    if engine == "auto":
        return "mlx" if device is None and force is None and has_metal() else "torch"
    if engine == "mlx":
        reason = why_not_mlx()
        if reason is None and "cuda" in (force, (device or "").split(":")[0]):
            reason = "it has no rules for CUDA"
        if reason is not None:
            raise InputError(
                f"--engine mlx cannot be used: {reason}; leave --engine out to use the best one available."
            )
    return engine


def choose_policy(
    device: str | None = None,
    dtype: str | None = None,
    force: str | None = None,
    *,
    resident: bool = False,
    weights: str = "auto",
    engine: str = "torch",
) -> Policy:
    """The rules for a run.

    `device`: "cuda", "cuda:1", "mps", "cpu", or None for what LAYERLIFT_DEVICE says, else for the best one there (cuda,
    then mps, then cpu). `dtype`: the transformer's ("float32", "bfloat16", "float16"), or None for the backend's own;
    "float32" is full precision everywhere and takes the VAE along, while a half precision leaves the VAE as the backend
    needs it. `force`: follow another backend's rules on this device. `weights`: "8bit", "4bit" and "full" say how the
    transformer's blocks keep theirs, "auto" takes fewer bits only where memory is short. `engine`: see `choose_engine`.

    Raises InputError for a device that is unknown or not available (with the reason), an unknown dtype, backend or way
    to keep weights, and as `choose_engine`.
    """
    engine = choose_engine(engine, device, force)
    if weights not in WEIGHTS:
        raise InputError(f"unknown --weights {weights!r}: choose one of {', '.join(WEIGHTS)}.")
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"unknown --dtype {dtype!r}: choose one of {', '.join(DTYPES)}.")
    if force is not None and force not in BACKENDS:
        raise InputError(f"unknown --policy {force!r}: choose one of {', '.join(BACKENDS)}.")
    if weights == "4bit" and engine != "mlx":
        raise InputError("--weights 4bit needs --engine mlx: choose 8bit, or the other engine.")
    asked, said = _asked(device)
    place = asked if asked is not None else _best_device(("mps", "cpu") if engine == "mlx" else tuple(BACKENDS))
    kind = place.split(":")[0]
    if kind not in BACKENDS:
        raise InputError(f"unknown {said} {place!r}: choose one of {', '.join(BACKENDS)}.")
    reason = why_not(place)
    if reason is not None:
        raise InputError(f"{said} {place!r} cannot be used: {reason}; leave it out to use the best one available.")

    rows = MLX_ROWS if engine == "mlx" else BACKENDS
    row = rows[kind if force is None else force]
    policy = replace(row, device=place, resident=resident)
    if row is BACKENDS["mps"]:
        policy = replace(policy, fused_attention=attention_here()[0])
    # The text encoder stays on the CPU where the rules say so, and else goes along.
    policy = replace(policy, text_device="cpu" if row.text_device == "cpu" else place)
    if dtype is not None:
        policy = replace(policy, transformer_dtype=dtype)
    if dtype == "float32":
        policy = replace(policy, vae_dtype="float32")
    int8 = {"auto": None, "8bit": True, "4bit": False, "full": False}[weights]
    return replace(policy, int8=int8, int4=weights == "4bit")


def _asked(device: str | None) -> tuple[str | None, str]:
    """The device that is asked for, None where none is, and by what."""
    return (device, "--device") if device is not None else (os.environ.get(DEVICE) or None, DEVICE)


def _best_device(places: tuple[str, ...]) -> str:
    return next(place for place in ("cuda", "mps", "cpu") if place in places and why_not(place) is None)


def devices() -> dict[str, str]:
    """What can be computed on here, by its name, and why not on the others."""
    import torch

    rows: dict[str, str] = {}
    for name in BACKENDS:
        reason = why_not(name)
        rows[name] = "can be used" if reason is None else f"no: {reason}"
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        rows[f"cuda:{index}"] = f"{card.name}, {card.total_memory / 2**30:.1f} GiB"
    return rows


def why_not(place: str) -> str | None:
    """Why torch cannot use this device, such as "cuda:1"; None when it can."""
    kind, _, index = place.partition(":")
    return {"cpu": _why_not_cpu, "cuda": _why_not_cuda, "mps": _why_not_mps}[kind](index)


def _why_not_cpu(index: str) -> str | None:
    return "the CPU takes no number" if index else None


def _why_not_cuda(index: str) -> str | None:
    import torch

    if not torch.backends.cuda.is_built():
        return "this torch was built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device or driver"
    if index and (whole_number(index) is None or int(index) >= torch.cuda.device_count()):
        return f"torch finds {torch.cuda.device_count()} CUDA devices, counted from 0"
    return None


def _why_not_mps(index: str) -> str | None:
    import torch

    if not torch.backends.mps.is_built():
        return "this torch was built without MPS"
    if not torch.backends.mps.is_available():
        return "it needs macOS 12.3 or later on Apple Silicon, and a Python that can see the GPU"
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH_FOR_MPS:
        return f"torch {torch.__version__} produces noise on MPS, and 2.6 or later is needed"
    return "there is only one GPU, so it takes no number" if index not in ("", "0") else None
