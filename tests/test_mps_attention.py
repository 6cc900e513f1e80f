"""Attention on Apple's GPUs by torch's version: what the table says, and what every call of attention is given."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from layerlift.cli import main
from layerlift.engine.device import BACKENDS, Policy, choose_policy
from layerlift.engine.device.mps import ATTENTION, OFF, FusedAttention, choose_attention
from layerlift.engine.model import open_model
from layerlift.engine.model.probe import KINDS, AttentionProbe
from layerlift.engine.model.speed import PLAIN, Speed
from support import short_loop
from tiny_model import write_tiny_model

FUSED = FusedAttention((32, 64, 72, 80, 96, 128, 256), fewest_queries=9)
# A limit that cuts 24 queries of 2 heads, in float32, into pieces of five.
LIMIT = 5 * 2 * 24 * 4
RULES = replace(choose_policy("cpu", force="mps"), attention_limit_bytes=LIMIT)
SPARSE = Speed(refresh=0.5, hoist=True)


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "macos", "environment", "fused", "words"),
    [
        ("2.13.0", 15, {}, True, "fused kernels from 9 queries on, heads of 32, 64, 72, 80, 96, 128, 256 channels"),
        ("2.13.0+cpu", None, {}, True, "in pieces otherwise"),  # the rules of MPS on another system
        ("2.14.1", 26, {OFF: "0"}, True, "torch 2.14.1"),
        ("3.0.0a0+git1", 14, {}, True, "torch 3.0.0a0"),
        ("2.12.1", 26, {}, False, "because torch 2.12.1 has no fused kernels for Metal (torch 2.13 or later has them)"),
        ("2.6.0", 14, {}, False, "because torch 2.6.0 has no"),
        ("2.13.0", 13, {}, False, "because fused kernels need macOS 14 or later, and this is 13"),
        ("2.13.0", 15, {OFF: "1"}, False, f"because {OFF} is set"),
        ("2.13.0", None, {OFF: "yes"}, False, f"because {OFF} is set"),
        ("2.13.0", 15, {OFF: ""}, False, f"because {OFF} is set"),  # torch asks whether it is set, and not to "0"
    ],
)
def test_which_way(version: str, macos: int | None, environment: dict[str, str], fused: bool, words: str) -> None:
    found, why = choose_attention(version, macos, environment)
    assert found == (FUSED if fused else None)
    assert words in why
    assert why.startswith("fused" if fused else "in pieces")


def test_the_table_covers_every_torch_that_is_allowed() -> None:
    assert [row.torch for row in ATTENTION] == sorted((row.torch for row in ATTENTION), reverse=True)
    assert ATTENTION[-1].torch == (2, 6)
    assert ATTENTION[-1].fused is None


def test_the_policy_takes_it_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OFF, raising=False)
    monkeypatch.setattr(torch, "__version__", "2.13.0")
    monkeypatch.setattr("platform.mac_ver", lambda: ("14.5", ("", "", ""), "arm64"))
    assert choose_policy("cpu", force="mps") == replace(BACKENDS["mps"], device="cpu", fused_attention=FUSED)
    assert choose_policy("cpu").fused_attention is None
    monkeypatch.setattr("platform.mac_ver", lambda: ("13.6.1", ("", "", ""), "arm64"))
    assert choose_policy("cpu", force="mps").fused_attention is None
    monkeypatch.setattr("platform.mac_ver", lambda: ("", ("", "", ""), ""))
    assert choose_policy("cpu", force="mps").fused_attention == FUSED
    monkeypatch.setenv(OFF, "1")
    assert choose_policy("cpu", force="mps") == replace(BACKENDS["mps"], device="cpu")


def test_doctor_says_which_way_and_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OFF, raising=False)
    for version, words in (
        ("2.13.0", "  attention                fused kernels from 9 queries on, heads of 32, "),
        ("2.12.0", "  attention                in pieces, because torch 2.12.0 has no fused kernels"),
    ):
        monkeypatch.setattr(torch, "__version__", version)
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["doctor", "--device", "cpu", "--policy", "mps"])
        assert words in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["doctor", "--device", "cpu"])
    assert "  attention                at once, in torch's own kernels for cpu\n" in capsys.readouterr().out


# --- every call ------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    queries: int
    keys: int
    dtype: torch.dtype
    masked: bool
    fused: bool


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every call of attention; one that is neither ready for a fused kernel of Metal nor small enough without fails."""
    seen = []
    real = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **others: object) -> torch.Tensor:
        parts, mask = (query, key, value), others.get("attn_mask")
        assert not others.keys() - {"attn_mask"}
        assert len({part.dtype for part in parts}) == len({part.shape[3] for part in parts}) == 1
        assert all(part.is_contiguous() and part.stride(-1) == 1 for part in parts)
        if mask is not None:
            assert isinstance(mask, torch.Tensor)
            assert mask.dtype in (torch.bool, query.dtype)
            assert mask.stride(-1) == 1
            assert (mask > -1000).any(-1).all()
        batch, heads, queries, width = query.shape
        fused = queries > 8 and width in FUSED.head_sizes
        if not fused:
            assert query.dtype == torch.float32
            assert batch * heads * queries * key.shape[2] * 4 <= LIMIT
        seen.append(Call(queries, key.shape[2], query.dtype, mask is not None, fused))
        return real(query, key, value, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    return seen


@pytest.mark.parametrize("head_size", [32, 64])
@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize("unknown", [4, 12])
def test_every_call_of_the_loop(tmp_path: Path, calls: list[Call], head_size: int, dtype: str, unknown: int) -> None:
    """Self and cross attention, over all tokens and over the unknown ones alone, masked and not."""
    model = open_model(write_tiny_model(tmp_path, head_size=head_size))
    rules = replace(RULES, fused_attention=FUSED, transformer_dtype=dtype)
    for speed in (PLAIN, SPARSE):
        calls.clear()
        assert torch.isfinite(short_loop(model, rules, speed, unknown)).all()
        whole = [call for call in calls if call.queries == 24]
        assert {call.keys == 24 for call in whole} == {True, False}
        assert {call.dtype for call in whole} == {getattr(torch, dtype)}  # as it is, not in float32
        assert all(call.fused for call in whole)  # in one piece, whatever the limit
        sparse = [call for call in calls if call.queries < 24]
        if speed is PLAIN:
            assert not sparse
            assert any(call.masked for call in whole)
        elif unknown == 12:
            assert {(call.queries, call.fused) for call in sparse} == {(12, True)}
            assert {call.keys == 24 for call in sparse} == {True, False}
        else:
            assert {(call.queries, call.dtype, call.fused) for call in sparse} == {(4, torch.float32, False)}


@pytest.mark.parametrize("fused", [FUSED, None])
def test_heads_without_a_kernel_go_in_pieces(tmp_path: Path, calls: list[Call], fused: FusedAttention | None) -> None:
    model = open_model(write_tiny_model(tmp_path, head_size=16))
    short_loop(model, replace(RULES, fused_attention=fused), SPARSE)
    assert not any(call.fused for call in calls)
    assert max(call.queries for call in calls if call.keys == 24) == 5


def look(transformer: Any, columns: torch.Tensor, rules: Policy) -> torch.Tensor:
    """The masses on columns, of both kinds, in one pass over 24 tokens."""
    dtype = transformer.proj_in.weight.dtype
    with AttentionProbe(transformer, columns, rules, kinds=KINDS) as probe, torch.no_grad():
        transformer(
            hidden_states=torch.linspace(-1, 1, 24 * 8).view(1, 24, 8).to(dtype),
            encoder_hidden_states=torch.linspace(-1, 1, 6 * 16).view(1, 6, 16).to(dtype),
            timestep=torch.full((1, 24), 400.0),
            encoder_attention_mask=torch.ones(1, 6),
            video_coords=torch.rand(1, 3, 24, generator=torch.Generator().manual_seed(0)),
        )
    return torch.stack([probe.stacked(kind) for kind in KINDS])


@pytest.mark.parametrize("columns", [1, 40])  # 40: more than a head has channels
@pytest.mark.parametrize("head_size", [16, 32])
def test_every_call_of_the_probe(tmp_path: Path, calls: list[Call], columns: int, head_size: int) -> None:
    """It asks in float32, of a fused kernel, too, with values as wide as heads are."""
    model = open_model(write_tiny_model(tmp_path, head_size=head_size))
    marks = torch.rand(1, 24, columns, generator=torch.Generator().manual_seed(2))
    found = []
    for rules in (replace(RULES, fused_attention=FUSED), replace(RULES, fused_attention=None)):
        calls.clear()
        with model.transformer(replace(rules, transformer_dtype="float32")) as transformer:
            found.append(look(transformer, marks, rules))
        looks = [call for call in calls if call.keys == 24]
        assert {call.dtype for call in looks} == {torch.float32}
        assert {call.fused for call in looks} == {head_size == 32 and rules.fused_attention is not None}
        rounds = 1 + len(KINDS) * (-(-columns // head_size))
        assert sum(call.queries for call in looks) == 2 * 24 * rounds  # two layers
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


def test_the_probe_looks_in_float32_at_a_model_in_float16(tmp_path: Path, calls: list[Call]) -> None:
    model, rules = open_model(write_tiny_model(tmp_path, head_size=32)), replace(RULES, fused_attention=FUSED)
    with model.transformer(rules) as transformer:
        found = look(transformer, torch.ones(1, 24, 1), rules)
    looks = [call.dtype for call in calls if call.keys == 24]
    # In each layer the model's own, then a look of either kind.
    assert looks == [torch.float16, torch.float32, torch.float32] * 2
    torch.testing.assert_close(found, torch.ones_like(found))


def test_fused_and_in_pieces_differ_by_rounding_alone(tmp_path: Path) -> None:
    model = open_model(write_tiny_model(tmp_path, head_size=32))
    for dtype, most in (("float32", 1e-6), ("float16", 2e-3)):
        fused, pieces = (
            short_loop(model, replace(RULES, fused_attention=kernels, transformer_dtype=dtype), PLAIN)
            for kernels in (FUSED, None)
        )
        assert (fused - pieces).norm() <= most * pieces.norm()
