"""Which engine runs a model, by what rules, and what the user is told of it."""

from __future__ import annotations

import sys
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import layerlift.engine.device.mlx as device_mlx
import layerlift.engine.device.policy as policies
from layerlift import InputError, RuntimeOptions, open_runtime, remove
from layerlift.engine.device import MemoryMeter, Policy, choose_policy
from layerlift.engine.device.budget import ran_out
from layerlift.engine.device.mlx import LEAST_CACHE, describe_mlx, limited_mlx
from layerlift.engine.device.policy import BACKENDS, MLX_ROWS, choose_engine
from layerlift.engine.mlx.engine import MlxModel
from support import layerlift
from tiny_model import write_tiny_model

# What MLX's rules have that differs from torch's on the same device.
DIFFERENT: dict[str, dict[str, Any]] = {
    "cpu": {"engine": "mlx", "attention_limit_bytes": 2**27, "vae_frames": 8},
    "mps": {
        "engine": "mlx",
        "transformer_dtype": "bfloat16",
        "contiguous_attention": False,
        "attention_limit_bytes": None,
        "float32_norms": False,
        "float32_softmax": False,
        "vae_axis_limit": None,
        "array_limit": None,
    },
}


@pytest.mark.parametrize("backend", MLX_ROWS)
def test_rules(backend: Any) -> None:
    changed = {
        field.name: getattr(MLX_ROWS[backend], field.name)
        for field in fields(Policy)
        if getattr(MLX_ROWS[backend], field.name) != getattr(BACKENDS[backend], field.name)
    }
    assert changed == DIFFERENT[backend]


@pytest.mark.parametrize(
    ("metal", "given", "chosen"),
    [
        (True, {}, "mlx"),
        (False, {}, "torch"),
        (True, {"engine": "torch"}, "torch"),
        (False, {"engine": "mlx"}, "mlx"),
        (True, {"device": "cpu"}, "torch"),
        (True, {"device": "mps"}, "torch"),
        (True, {"force": "cpu"}, "torch"),
        (True, {"device": "cpu", "engine": "mlx"}, "mlx"),
    ],
)
def test_choice(monkeypatch: pytest.MonkeyPatch, metal: bool, given: dict[str, str], chosen: str) -> None:
    monkeypatch.delenv("LAYERLIFT_DEVICE", raising=False)
    monkeypatch.setattr(policies, "has_metal", lambda: metal)
    assert choose_engine(**given) == chosen
    monkeypatch.setenv("LAYERLIFT_DEVICE", "cpu")  # counts as --device
    assert choose_engine(**given) == given.get("engine", "torch")


def test_the_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAYERLIFT_DEVICE", raising=False)
    monkeypatch.setattr(policies, "why_not", lambda place: None)  # all devices are there
    policy = choose_policy(engine="mlx")
    assert (policy.device, policy.backend, policy.engine) == ("mps", "mps", "mlx")
    assert choose_policy(engine="torch").device == "cuda"
    forced = choose_policy("cpu", force="mps", engine="mlx")
    assert (forced.device, forced.transformer_dtype, forced.engine) == ("cpu", "bfloat16", "mlx")
    assert choose_policy("cpu", dtype="float16", engine="mlx").transformer_dtype == "float16"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": "jax"}, "unknown --engine 'jax': choose one of auto, torch, mlx"),
        ({"engine": "mlx", "device": "cuda"}, "--engine mlx cannot be used: it has no rules for CUDA"),
        ({"engine": "mlx", "force": "cuda"}, "--engine mlx cannot be used: it has no rules for CUDA"),
        ({"weights": "4bit"}, "--weights 4bit needs --engine mlx"),
    ],
)
def test_what_cannot_be(given: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose_policy(**given)  # type: ignore[arg-type]


def test_missing_mlx_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "why_not_mlx", lambda: "it is not installed: pip install 'layerlift[mlx]'")
    with pytest.raises(InputError, match=r"--engine mlx cannot be used: it is not installed: pip install"):
        choose_policy(engine="mlx")
    assert choose_policy("cpu", engine="auto").engine == "torch"


def test_a_command_without_mlx_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", None)  # as if it were not installed
    assert layerlift("doctor", "--engine", "mlx") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert " ".join(said.err.split()) == (
        "layerlift: --engine mlx cannot be used: it is not installed: pip install 'layerlift[mlx]'; leave --engine out "
        "to use the best one available."
    )
    assert layerlift("doctor", "--device", "cpu") == 0
    assert "no: it is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("weights", "kept"), [("auto", (None, False)), ("8bit", (True, False)), ("4bit", (False, True))]
)
def test_bits(weights: str, kept: tuple[bool | None, bool]) -> None:
    policy = choose_policy("cpu", weights=weights, engine="mlx")
    assert (policy.int8, policy.int4) == kept


def test_runtime_says_so() -> None:
    runtime = open_runtime(RuntimeOptions(device="cpu", engine="mlx"))
    assert runtime.policy.engine == "mlx"
    assert runtime.report.device == "mlx"
    assert open_runtime(RuntimeOptions(device="cpu")).report.device == "cpu"


def test_doctor_tells_which_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("doctor", "--engine", "mlx", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "mlx " + mx.__version__ in said
    lines = [line.split() for line in said.splitlines()]
    assert ["chosen", "mlx"] in lines
    assert layerlift("doctor", "--device", "cpu") == 0
    assert ["chosen", "torch"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_limits_follow_the_plan_and_go_afterwards() -> None:
    usual = mx.set_cache_limit(10**6)
    mx.set_cache_limit(usual)
    with limited_mlx(peak=2**30, memory=2**32):
        assert mx.set_memory_limit(2**32) == 2**32
        assert mx.set_cache_limit(2**29) == 2**29  # an eighth, which is less than the plan leaves
    assert mx.set_cache_limit(usual) == usual
    with limited_mlx(peak=2**32, memory=2**32):
        assert mx.set_cache_limit(LEAST_CACHE) == LEAST_CACHE


def test_what_a_plan_takes_stays_wired_as_far_as_the_system_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metal's part, made up: more than it recommends is an error there. The CPU, on which MLX runs, recommends none."""
    asked: list[int] = []

    def wire(limit: int) -> int:
        asked.append(limit)
        return 7

    monkeypatch.setattr(device_mlx, "has_metal", lambda: True)
    monkeypatch.setattr(mx, "device_info", {mx.gpu: {"max_recommended_working_set_size": 3 * 2**30}}.__getitem__)
    monkeypatch.setattr(mx, "set_wired_limit", wire)
    for peak in (2**30, 2**32):
        with limited_mlx(peak=peak, memory=2**33):
            pass
    assert asked == [2**30, 7, 3 * 2**30, 7]


def test_limits_go_when_one_of_them_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(limit: int) -> int:
        raise ValueError("[set_wired_limit]")

    usual = mx.set_cache_limit(10**6)
    mx.set_cache_limit(usual)
    monkeypatch.setattr(device_mlx, "has_metal", lambda: True)
    monkeypatch.setattr(mx, "device_info", {mx.gpu: {"max_recommended_working_set_size": 3 * 2**30}}.__getitem__)
    monkeypatch.setattr(mx, "set_wired_limit", refuse)
    with pytest.raises(ValueError, match="wired"), limited_mlx(peak=2**30, memory=2**32):
        pass
    assert mx.set_cache_limit(usual) == usual


def test_jobs_run_within_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage, and the allocator keeps nothing afterwards."""
    seen: list[int] = []
    usual = MlxModel._load

    def load(self: MlxModel, kind: str, policy: Policy) -> Any:
        seen.append(mx.set_memory_limit(1))
        mx.set_memory_limit(seen[-1])
        return usual(self, kind, policy)

    monkeypatch.setattr(MlxModel, "_load", load)
    clip = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    model = write_tiny_model(tmp_path / "m", random=True)
    remove(clip, clip[..., 0] > 200, model=model, engine="mlx", device="cpu", evidence="off", memory=2.5)
    assert seen == [int(2.5 * 2**30)] * 3
    assert mx.get_cache_memory() == 0


@pytest.mark.parametrize(
    "said", ["[METAL] Command buffer execution failed: Insufficient Memory", "[malloc] Unable to allocate 9 bytes."]
)
def test_what_mlx_says_when_memory_ran_out(said: str) -> None:
    assert ran_out(RuntimeError(said))


@pytest.mark.parametrize("metal", [False, True])
def test_meter_counts_what_mlx_holds_where_there_is_a_gpu(metal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it is the host's memory, which is counted already."""
    monkeypatch.setattr(device_mlx, "has_metal", lambda: metal)
    with MemoryMeter("mlx") as meter:
        mx.eval(mx.ones((2**20,)))
    assert meter.host_peak_bytes > 0
    assert (meter.device_peak_bytes >= 2**22) is metal


@pytest.mark.parametrize(("device", "where"), [("cpu", "the CPU, which is slow"), ("mps", "Apple GPU")])
def test_on_a_mac_mlx_is_said_to_run_where_it_runs(device: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_mlx, "has_metal", lambda: True)
    assert describe_mlx(device) == f"mlx {mx.__version__} on {where}"


def test_bench_speed_measures_mlx_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny_model(tmp_path / "m", steps=6)
    flags = "--model", model, "--device", "cpu", "--repeats", 1, "--unknown", 0.25
    assert layerlift("bench", "speed", *flags, "--engine", "mlx", "--cpu") == 0
    said = capsys.readouterr().out
    rows = {
        cells[0]: cells[1:]
        for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines())
        if cells
    }
    assert rows["engine"][0] == "mlx"  # the rule
    assert f"| engine | mlx {mx.__version__} on the CPU, which is slow |" in said
    assert {"encode", "decode", "hoisted", "sparse", "torch, plain, on the CPU in float32"} <= set(rows)
    assert "off torch on the CPU by" in said
    # Tokens of a step, and how far its result lies from torch's.
    assert [rows[way][0] for way in ("hoisted", "sparse")] == ["36", "12"]
    assert all(0 < float(rows[way][-1]) < 1e-4 for way in ("hoisted", "sparse"))
    assert layerlift("bench", "speed", *flags, "--engine", "torch") == 0
    assert "| engine | torch |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("weights", "words"), [("full", "float32, all"), ("8bit", "8 bits in the blocks"), ("4bit", "4 bits in the blocks")]
)
def test_plans_say_what_runs_and_how(tmp_path: Path, weights: str, words: str) -> None:
    from layerlift.cli.plan import describe
    from layerlift.clip import Clip
    from layerlift.options import RemovalOptions
    from layerlift.stages.removal import plan_generation

    model = write_tiny_model(tmp_path / "m")
    runtime = open_runtime(RuntimeOptions(model=model, device="cpu", engine="mlx", weights=weights))
    clip = Clip(64, 48, 9, Fraction(24), lambda start, stop, pixels: iter(()))
    said = "\n".join(describe(plan_generation(clip, RemovalOptions(), runtime).plan))
    assert words in said
    assert ["engine", "mlx"] in [line.split() for line in said.splitlines()]
