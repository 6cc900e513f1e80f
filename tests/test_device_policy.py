"""The backend table, row by row as PEERS.md section 3 demands it."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import layerlift
from layerlift.engine.device import BACKENDS, Policy, choose_policy
from layerlift.engine.device import policy as policy_module
from layerlift.engine.device.policy import NOWHERE
from layerlift.errors import InputError

# field → (cpu, cuda, mps): the expected value of every field that differs, or must not.
TABLE = {
    "transformer_dtype": ("float32", "bfloat16", "float16"),
    "vae_dtype": ("float32", "bfloat16", "float32"),
    "text_dtype": ("bfloat16", "bfloat16", "bfloat16"),
    "text_device": ("cpu", "cuda", "cpu"),
    "text_stream": (True, True, True),
    "cache_dtype": ("bfloat16", "bfloat16", "bfloat16"),
    "contiguous_attention": (False, False, True),
    "attention_limit_bytes": (None, None, 2**31),
    "float32_norms": (False, False, True),
    "fused_norms": (False, True, False),
    "float32_softmax": (False, False, True),
    "fused_attention": (None, None, None),  # by torch's version, once the rules are chosen: test_mps_attention
    "vae_frames": (None, None, 8),
    "vae_axis_limit": (None, None, 2**16),
    "array_limit": (None, None, 2**31),
    "vae_limit_bytes": (None, None, 2**31),
    "cap_memory": (False, False, True),
    "vae_storage": (None, None, None),
    "vae_streamed": (False, False, False),
    "int8": (None, None, None),
    "streamed_blocks": (0, 0, 0),
    "resident": (False, False, False),
    "batched_guidance": (False, True, False),
    "can_compile": (False, True, False),
    "cuda_graphs": (False, True, False),
    "device_pixels": (False, True, False),
}


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The devices torch is made to find, by kind; none of them is asked for."""
    monkeypatch.delenv("LAYERLIFT_DEVICE", raising=False)
    there = {"cpu"}
    for kind in ("cuda", "mps"):
        monkeypatch.setattr(
            policy_module, f"_why_not_{kind}", lambda index, kind=kind: None if kind in there else "there is none"
        )
    return there


@pytest.mark.parametrize("field", TABLE)
def test_table(field: str) -> None:
    assert tuple(getattr(BACKENDS[name], field) for name in ("cpu", "cuda", "mps")) == TABLE[field]


def test_table_is_tested_whole() -> None:
    assert {field.name for field in fields(Policy)} == {
        *TABLE,
        "backend",
        "device",
        "int4",
        "engine",
    }  # the last two are MLX's: tests/mlx


def test_attention_limit_is_below_what_aborts() -> None:
    assert BACKENDS["mps"].attention_limit_bytes is not None
    assert BACKENDS["mps"].attention_limit_bytes < 2**32


@pytest.mark.parametrize(
    ("there", "chosen"),
    [({"cpu"}, "cpu"), ({"cpu", "mps"}, "mps"), ({"cpu", "cuda"}, "cuda"), ({"cuda", "mps"}, "cuda")],
)
def test_best_device(devices: set[str], there: set[str], chosen: str) -> None:
    devices.update(there)
    policy = choose_policy()
    assert (policy.device, policy.backend) == (chosen, chosen)


@pytest.mark.parametrize(("said", "chosen"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("", "cuda")])
def test_device_of_the_environment(devices: set[str], said: str, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts where no other is asked for."""
    devices.update({"cuda", "mps"})
    monkeypatch.setenv("LAYERLIFT_DEVICE", said)
    assert choose_policy().device == chosen
    assert choose_policy("mps").device == "mps"


@pytest.mark.parametrize(
    ("said", "words"),
    [("tpu", "unknown LAYERLIFT_DEVICE 'tpu': choose one of"), ("mps", "LAYERLIFT_DEVICE 'mps' cannot be used: there")],
)
def test_device_of_the_environment_that_cannot_be_used(
    devices: set[str], said: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERLIFT_DEVICE", said)
    with pytest.raises(InputError, match=words):
        choose_policy()


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_forced_rules_on_another_device(devices: set[str], device: str) -> None:
    devices.add("cuda")
    policy = choose_policy(device, force="mps")
    assert (policy.device, policy.backend, policy.text_device) == (device, "mps", "cpu")
    for field in TABLE:
        if field not in ("text_device", "fused_attention"):
            assert getattr(policy, field) == getattr(BACKENDS["mps"], field), field


def test_cuda_rules_on_the_cpu() -> None:
    policy = choose_policy("cpu", force="cuda")
    assert (policy.device, policy.text_device, policy.transformer_dtype) == ("cpu", "cpu", "bfloat16")


def test_text_encoder_follows_the_device(devices: set[str]) -> None:
    devices.add("cuda")
    assert choose_policy("cuda:1").text_device == "cuda:1"


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cuda", "float32", ("float32", "float32")),
        ("cuda", "float16", ("float16", "bfloat16")),
        ("mps", "bfloat16", ("bfloat16", "float32")),
        ("cpu", "bfloat16", ("bfloat16", "float32")),
    ],
)
def test_dtype(devices: set[str], device: str, dtype: str, expected: tuple[str, str]) -> None:
    devices.update({"cuda", "mps"})
    policy = choose_policy(device, dtype)
    assert (policy.transformer_dtype, policy.vae_dtype) == expected
    assert policy.text_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tpu", None, None), "unknown --device 'tpu'"),
        (("cpu", "int8", None), "unknown --dtype 'int8'"),
        (("cpu", None, "rocm"), "unknown --policy 'rocm'"),
        (("cpu:1", None, None), "the CPU takes no number"),
    ],
)
def test_unknown(arguments: tuple[str, str | None, str | None], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_policy(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_unavailable_device_names_the_reason() -> None:
    with pytest.raises(InputError, match=r"'cuda' cannot be used: (this torch was built without CUDA|torch finds no)"):
        choose_policy("cuda")


def test_old_torch_is_refused_on_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    with pytest.raises(InputError, match=r"2\.5\.1 produces noise on MPS"):
        choose_policy("mps")
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    assert choose_policy("mps").device == "mps"


def code_of(file: Path) -> str:
    """A file's source without docstrings and comments."""
    return re.sub(r'""".*?"""|#.*', "", file.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("pattern", NOWHERE)
def test_never_on_any_backend(pattern: str) -> None:
    """No choice of the table, because no backend may: looked for wherever tensors reach a device."""
    root = Path(layerlift.__file__).parent
    files = [file for room in ("engine", "stages", "pixels") for file in (root / room).rglob("*.py")]
    assert len(files) > 40
    files.remove(root / "engine" / "device" / "policy.py")  # which has the patterns
    assert not [file.name for file in files if re.search(pattern, code_of(file))]


@pytest.mark.parametrize(
    "line",
    [
        "with torch.autocast(device):", "x.to(torch.float64)", "x.double()", "torch.zeros(1, dtype=torch.double)",
        "x.to(torch.float8_e4m3fn)", "x.to(device, non_blocking=True)", "x.to(device, non_blocking=policy.fast)",
        'Model.from_pretrained(folder, device_map="mps")', "pipeline.enable_model_cpu_offload()",
        "torch.Generator(device=device)", 'torch.Generator("mps")', "torch.randn(shape, device=device)",
        "torch.randperm(9)", "F.grid_sample(x, grid)",
    ],
)  # fmt: skip
def test_what_is_looked_for_would_be_found(line: str) -> None:
    assert [pattern for pattern in NOWHERE if re.search(pattern, line)]


@pytest.mark.parametrize(
    "line",
    ["x.to(device, non_blocking=False)", "torch.Generator().manual_seed(0)", "torch.randn(shape, generator=generator)"],
)
def test_what_may_be_done_is_not(line: str) -> None:
    assert not [pattern for pattern in NOWHERE if re.search(pattern, line)]


@pytest.mark.parametrize(("weights", "int8"), [("auto", None), ("8bit", True), ("full", False)])
def test_how_weights_are_kept(weights: str, int8: bool | None) -> None:
    assert choose_policy("cpu", weights=weights).int8 is int8
    with pytest.raises(InputError, match="unknown --weights 'half': choose one of auto, 8bit, 4bit, full"):
        choose_policy("cpu", weights="half")
