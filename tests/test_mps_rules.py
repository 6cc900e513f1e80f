"""Apple's GPUs, trap by trap: where each is kept off, for those that no other test of this folder is about.

docs/mac.md has the whole list. Contiguous queries, chunks and float32 in attention: test_model_attention, too. Dtypes,
generator, autocast, float64 and old torch: test_device_policy. Limits of arrays and axes in the VAE: test_plan. NaN and
single colours: test_latents and test_sampling. Masked rows: test_model_text. Watermarks: test_budget. Operations that
are missing: test_mps_operations. Fused attention: test_mps_attention; the model here has heads that it does not take.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from layerlift.engine.device import BACKENDS, Policy, choose_policy
from layerlift.engine.model import open_model, weights
from layerlift.engine.model.probe import KINDS, AttentionProbe
from layerlift.engine.model.speed import PLAIN, Speed
from support import short_loop
from tiny_model import write_tiny_model

MPS = choose_policy("cpu", force="mps")


@pytest.mark.parametrize("changes", [{}, {"int8": True}, {"streamed_blocks": 2}])
def test_casts_are_done_before_a_tensor_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int]
) -> None:
    """float8 is unknown there, and copies that do not wait corrupt: blocking, tensor by tensor, cast on the CPU."""
    folder = write_tiny_model(tmp_path)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({key: value.to(torch.float8_e4m3fn) for key, value in load_file(file).items()}, file)
    moved: list[torch.dtype] = []
    real = torch.Tensor.to

    def watched(self: torch.Tensor, *given: object, **named: object) -> torch.Tensor:
        if "cpu" in given:  # to the policy's device, which stands in for "mps" here
            assert named.get("non_blocking", False) is False
            assert len(given) == 1
            moved.append(self.dtype)
        return real(self, *given, **named)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch.Tensor, "to", watched)
    with open_model(folder).transformer(replace(MPS, **changes)) as transformer:
        block = transformer.transformer_blocks[0]
        for read in block._forward_pre_hooks.values():  # blocks that are streamed
            read(block, ())
    assert moved
    assert set(moved) <= {torch.float16, torch.float32, torch.int8}


def test_a_component_is_never_placed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Module.to would move half a copy at a time, with copies that do not wait."""
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *given: pytest.fail(f"Module.to{given}"))
    monkeypatch.setattr(weights, "release", lambda module: None)  # it goes to meta by just that
    model = open_model(write_tiny_model(tmp_path))
    for manager in (model.transformer, model.vae_encoder, model.vae_decoder):
        with manager(MPS):
            pass


class Dtypes(TorchDispatchMode):
    """The types of numbers that norms compute with inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func).split(".")[1]
        if name in NORMS and isinstance(args[0], torch.Tensor):
            self.seen.setdefault(name, set()).add(args[0].dtype)
        return func(*args, **(kwargs or {}))


NORMS = ("pow", "mean", "sqrt", "rsqrt", "var_mean", "native_layer_norm", "_fused_rms_norm")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_norms_compute_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """RMSNorm in bfloat16 is NaN there (SeedVR2 #600), in float16 its squares overflow (FramePack #816)."""
    real = torch.nn.functional.rms_norm

    def watched(states: torch.Tensor, *others: object) -> torch.Tensor:
        assert states.dtype == torch.float32  # the CPU's would cast by itself, Metal has one of its own
        return real(states, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "rms_norm", watched)
    model = open_model(write_tiny_model(tmp_path))
    with Dtypes() as norms:
        short_loop(model, replace(MPS, transformer_dtype=dtype), PLAIN)
    assert {"rsqrt", "mean", "native_layer_norm"} <= norms.seen.keys()
    assert set().union(*norms.seen.values()) == {torch.float32}


def test_memory_is_capped_and_pieces_are_small() -> None:
    assert BACKENDS["mps"].cap_memory
    assert BACKENDS["mps"].vae_frames == 8


# What is read by torch when it is imported, and by MLX at its first product.
OF_LIBRARIES = {"PYTORCH_ENABLE_MPS_FALLBACK": "1", "MLX_ENABLE_TF32": "0"}


def of_libraries(line: str, **more: str) -> dict[str, str]:
    """The variables of libraries in a process that runs a line of Python, before they are imported."""
    script = f"{line}\nimport json, os, sys\nprint(json.dumps([dict(os.environ), [*sys.modules]]))"
    environment = {name: value for name, value in os.environ.items() if name not in OF_LIBRARIES} | more
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    variables, modules = json.loads(done.stdout.splitlines()[-1])
    assert not {"torch", "mlx.core"} & set(modules)
    return {name: variables[name] for name in OF_LIBRARIES}


@pytest.mark.parametrize("line", ["from layerlift.cli import app", "import layerlift"])
def test_missing_operations_fall_back_to_the_cpu_and_float32_is_float32(line: str) -> None:
    """On the command line as in Python."""
    assert of_libraries(line) == OF_LIBRARIES


def test_the_user_s_own_word_on_libraries_stands() -> None:
    own = {"PYTORCH_ENABLE_MPS_FALLBACK": "0", "MLX_ENABLE_TF32": "1"}
    assert of_libraries("import layerlift", **own) == own


def test_the_page_about_macs_names_what_there_is() -> None:
    """Every test it points to exists, and every rule in which MPS differs from the CPU is on it."""
    root = Path(__file__).parent
    page = (root.parent / "docs" / "mac.md").read_text()
    named = set(re.findall(r"test_\w+", page))
    assert len(named) > 10
    assert not {name for name in named if not any(root.rglob(f"{name}.py"))}
    mps, cpu = BACKENDS["mps"], BACKENDS["cpu"]
    differ = {field.name for field in fields(Policy) if getattr(mps, field.name) != getattr(cpu, field.name)}
    assert not {name for name in differ - {"backend", "device"} if f"`{name}`" not in page}


# --- every attention there is ----------------------------------------------------------------------------------------

# Of 2 heads' scores of 24 tokens in float32: a few queries at a time.
LIMIT = 5 * 2 * 24 * 4


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Checks what attention kernels are given; lists (queries, keys) of each call."""
    calls = []
    real = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **others: object) -> torch.Tensor:
        batch, heads, queries, _ = query.shape
        assert all(part.is_contiguous() and part.dtype == torch.float32 for part in (query, key, value))
        assert batch * heads * queries * key.shape[2] * 4 <= LIMIT
        bias = others.get("attn_mask")
        # Some key is left to every query: a row without any is NaN there (pytorch #156707).
        assert bias is None or (bias > -1000).any(-1).all()  # type: ignore[operator]
        calls.append((queries, key.shape[2]))
        return real(query, key, value, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    return calls


@pytest.mark.parametrize("speed", [PLAIN, Speed(refresh=0.5, hoist=True)])
def test_attention_of_the_loop(tmp_path: Path, kernel: list[tuple[int, int]], speed: Speed) -> None:
    """Self and cross attention, over all tokens and over the unknown ones alone, to text kept and text fresh."""
    model = open_model(write_tiny_model(tmp_path))
    made = short_loop(model, replace(MPS, attention_limit_bytes=LIMIT), speed)
    assert torch.isfinite(made).all()
    assert max(queries for queries, keys in kernel if keys == 24) == 5  # self, in pieces
    assert {keys for _, keys in kernel} - {24}  # cross
    if speed is not PLAIN:
        assert (4, 24) in kernel  # sparse: the unknown tokens alone, attending to all


def test_rules_of_mps_change_the_loop_by_rounding_alone(tmp_path: Path) -> None:
    model = open_model(write_tiny_model(tmp_path))
    cpu = choose_policy("cpu")
    policy = replace(MPS, transformer_dtype="float32", attention_limit_bytes=LIMIT)
    for speed in (PLAIN, Speed(refresh=0.5, hoist=True)):
        torch.testing.assert_close(short_loop(model, policy, speed), short_loop(model, cpu, speed), rtol=0, atol=1e-4)
    half = short_loop(model, replace(MPS, attention_limit_bytes=LIMIT), PLAIN)
    whole = short_loop(model, cpu, PLAIN)
    assert (half - whole).norm() <= 0.02 * whole.norm()  # float16 weights


def test_attention_of_the_probe(tmp_path: Path, kernel: list[tuple[int, int]]) -> None:
    """What looks for effects asks through the same kernel, after the same rules."""
    model, policy = open_model(write_tiny_model(tmp_path)), replace(MPS, attention_limit_bytes=LIMIT)
    columns = torch.ones(1, 24, 1)
    with model.transformer(policy) as transformer, torch.no_grad():
        dtype = transformer.proj_in.weight.dtype
        assert dtype == torch.float16
        with AttentionProbe(transformer, columns, policy, kinds=KINDS) as probe:
            transformer(
                hidden_states=torch.linspace(-1, 1, 24 * 8).view(1, 24, 8).to(dtype),
                encoder_hidden_states=torch.linspace(-1, 1, 6 * 16).view(1, 6, 16).to(dtype),
                timestep=torch.full((1, 24), 400.0),
                encoder_attention_mask=torch.ones(1, 6),
                video_coords=torch.rand(1, 3, 24, generator=torch.Generator().manual_seed(0)),
            )
    # Two layers: each over the 24 tokens by itself, and once more for either kind of look.
    assert sum(queries for queries, keys in kernel if keys == 24) == 2 * 24 * (1 + len(KINDS))
    for kind in KINDS:
        mass = probe.stacked(kind)
        assert mass.dtype == torch.float32
        torch.testing.assert_close(mass, torch.ones_like(mass))  # of all there is
