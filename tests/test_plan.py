"""Plans: they fit what they are given, keep to the backend's limits, and say what a run really allocates."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from layerlift.engine.device import BACKENDS, Policy, choose_policy
from layerlift.engine.device.needs import (
    FRAGMENTATION,
    GIB,
    STAGES,
    DenoiseRun,
    ModelFacts,
    Request,
    VaeRun,
    denoise_need,
    vae_need,
)
from layerlift.engine.device.plan import Plan, least_memory, make_plan
from layerlift.engine.model import open_model
from layerlift.engine.model.checkpoint import Checkpoint, Component, build_module, bundled_config
from layerlift.engine.model.facts import read_facts
from layerlift.engine.model.vae_stream import decode_stream, encode_stream
from layerlift.errors import InputError
from layerlift.geometry.fit import Geometry, fit_size, fit_windows
from layerlift.geometry.focus import focus_view, whole_view
from model_files import Live, component
from tiny_model import write_tiny_model

SMALL, LARGE = (704, 480), (1280, 704)
# How far an estimate may be from what is allocated, either way.
TOLERANCE = 0.15


@pytest.fixture(scope="module")
def facts() -> ModelFacts:
    """Those of LTX-Video 2B 0.9.5."""
    checkpoint = Checkpoint(Path("x"), component("transformer", "transformer_2b"), component("vae", "vae_0.9.5"))
    return read_facts("ltx-2b-0.9.5", checkpoint, Geometry(space=32, time=8, channels=128), None)


def request(
    facts: ModelFacts, memory: float = 40.0, backend: str = "cuda", size: tuple[int, int] = SMALL, frames: int = 97
) -> Request:
    policy = replace(BACKENDS[backend], device=backend)  # type: ignore[index]
    return Request(facts, policy, size, frames, size, branches=2, memory=memory * GIB)


def plan(facts: ModelFacts, memory: float, backend: str = "cuda", **changes: object) -> Plan:
    return make_plan(replace(request(facts, memory, backend), **changes))  # type: ignore[arg-type]


def test_a_limit_of_attention_below_all_steps_is_kept(facts: ModelFacts) -> None:
    asked = request(facts)
    assert make_plan(replace(asked, policy=replace(asked.policy, attention_limit_bytes=2**20))).policy == replace(
        make_plan(asked).policy, attention_limit_bytes=2**20
    )


# --- facts -----------------------------------------------------------------------------------------------------------


def test_facts_are_the_published_sizes(facts: ModelFacts) -> None:
    assert facts.layers * facts.block + facts.outside == pytest.approx(1.923e9, rel=1e-3)
    assert facts.encoder.parameters == pytest.approx(0.694e9, rel=1e-3)
    assert facts.decoder.parameters == pytest.approx(0.553e9, rel=1e-3)
    assert (facts.width, facts.heads, facts.vae_stored) == (2048, 32, "bfloat16")
    assert request(facts).tokens == 22 * 15 * 13


def test_facts_of_an_opened_model(tmp_path: Path) -> None:
    model = open_model(write_tiny_model(tmp_path))
    found = model.facts(["Empty"], choose_policy("cpu"))
    assert (found.width, found.layers, found.space, found.time) == (32, 2, 16, 4)
    assert found.vae_stored is None  # float32: nothing to be kept smaller without a loss
    assert found.text_block is None  # embeddings come with it


@pytest.mark.parametrize(("stored", "kept"), [("BF16", "bfloat16"), ("F16", "float16"), ("F32", None), ("I8", None)])
def test_what_the_vae_can_be_kept_in(stored: str, kept: str | None) -> None:
    checkpoint = Checkpoint(
        Path("x"), component("transformer", "transformer_2b"), component("vae", "vae_0.9.1", stored)
    )
    assert read_facts("x", checkpoint, Geometry(32, 8, 128), None).vae_stored == kept


# --- what is estimated is what is allocated --------------------------------------------------------------------------


def meta_vae(dtype: str) -> torch.nn.Module:
    module: torch.nn.Module = build_module(Component("vae", bundled_config("vae_0.9.5"), {}))
    return module.to(getattr(torch, dtype)).eval()


@pytest.mark.parametrize(
    ("dtype", "length"),
    [
        ("float32", None),
        ("bfloat16", None),
        pytest.param("bfloat16", 8, marks=pytest.mark.slow),
        pytest.param("float32", 8, marks=pytest.mark.slow),
        pytest.param("bfloat16", 2, marks=pytest.mark.slow),
    ],
)
def test_vae_at_full_size(facts: ModelFacts, dtype: str, length: int | None) -> None:
    frames, (width, height) = 97, SMALL
    asked = request(facts, frames=frames)
    # On the CPU, where no kernel wants space of its own.
    asked = replace(asked, policy=replace(asked.policy, vae_dtype=dtype, device="cpu"))
    vae, kind = meta_vae(dtype), getattr(torch, dtype)
    for stage in ("encode", "decode"):
        with torch.no_grad(), Live(vae) as live:
            if stage == "encode":
                parts = (
                    torch.empty(1, 3, min(length or frames, frames - start), height, width, device="meta", dtype=kind)
                    for start in range(0, frames, length or frames)
                )
                if length is None:
                    vae.encoder(*parts)
                else:
                    for piece in encode_stream(vae.encoder, parts):
                        del piece
            else:
                latents = torch.empty(1, 128, 1 + frames // 8, height // 32, width // 32, device="meta", dtype=kind)
                time = torch.empty(1, device="meta", dtype=kind)
                if length is None:
                    vae.decoder(latents, time)
                else:
                    given = latents.split(max(1, length // 8), dim=2)
                    for piece in decode_stream(vae.decoder, given, time, length):
                        del piece
        estimate = vae_need(asked, stage, VaeRun(length)).activations / FRAGMENTATION
        assert estimate == pytest.approx(live.peak, rel=TOLERANCE), stage


@pytest.mark.parametrize(("dtype", "branches"), [("bfloat16", 1), ("bfloat16", 2), ("float32", 1)])
def test_a_pass_of_the_transformer(
    facts: ModelFacts, dtype: str, branches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fused kernel makes no scores; the meta device has only the other kind.
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda query, key, value, **_: torch.empty_like(query)
    )
    config = {**bundled_config("transformer_2b"), "num_layers": 2}
    module = build_module(Component("transformer", config, {})).to(getattr(torch, dtype))
    asked = request(facts)
    asked = replace(asked, policy=replace(asked.policy, transformer_dtype=dtype, device="cpu"))

    def empty(*shape: int, kind: torch.dtype = getattr(torch, dtype)) -> torch.Tensor:  # noqa: B008
        return torch.empty(branches, *shape, device="meta", dtype=kind)

    with torch.no_grad(), Live(module) as live:
        module(
            hidden_states=empty(asked.tokens, 128),
            encoder_hidden_states=empty(256, 4096),
            timestep=empty(asked.tokens, kind=torch.float32),
            encoder_attention_mask=empty(256),
            video_coords=empty(3, asked.tokens, kind=torch.float32),
        )
    # A streamed block, because where all are there the loop keeps what it knows beforehand.
    run = DenoiseRun(batched_guidance=branches == 2, streamed_blocks=1)
    assert denoise_need(asked, run).activations / FRAGMENTATION == pytest.approx(live.peak, rel=TOLERANCE)


def test_what_only_a_card_takes_is_counted_on_cards(facts: ModelFacts) -> None:
    """Rules may be forced: what kernels want is the device's, not the rules'."""
    for stage, least in (("encode", 0.15), ("denoise", 0.03), ("decode", 0.15)):
        parts = {}
        for device in ("cpu", "cuda:1", "mps"):
            asked = request(facts)
            asked = replace(asked, policy=replace(asked.policy, device=device))
            run = VaeRun(8)
            need = denoise_need(asked, DenoiseRun()) if stage == "denoise" else vae_need(asked, stage, run)
            parts[device] = (need.activations, need.host)
        assert parts["cuda:1"][0] - parts["cpu"][0] > least * GIB
        assert parts["mps"][0] == parts["cpu"][0]
        assert parts["cuda:1"][1] > parts["cpu"][1] + 0.4 * GIB


def test_kept_keys_are_counted_as_denoising_makes_them(facts: ModelFacts) -> None:
    asked = request(facts)
    more = denoise_need(asked, DenoiseRun(sparse=True)).total - denoise_need(asked, DenoiseRun()).total
    assert more == 2 * 28 * 2 * asked.tokens * 2048 * 2  # keys, values; blocks, branches, tokens, width, bytes
    assert more == pytest.approx(1.84 * GIB, rel=0.01)


# --- what is chosen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("memory", [2.5, 4, 5, 6, 6.5, 8, 15.6, 80])
def test_a_plan_fits_or_is_refused(facts: ModelFacts, backend: str, size: tuple[int, int], memory: float) -> None:
    asked = request(facts, memory, backend, size, 97 if size == SMALL else 121)
    if memory * GIB < least_memory(asked):
        with pytest.raises(InputError, match="give --memory"):
            make_plan(asked)
        return
    found = make_plan(asked)
    assert [need.stage for need in found.needs] == list(STAGES)
    assert found.peak <= memory * GIB
    assert found.policy.device == backend


@pytest.mark.parametrize(
    ("backend", "size", "frames", "memory"),
    [
        ("cpu", (256, 608), 41, 1.45),
        ("cpu", (256, 256), 17, 2.0),
        ("cuda", (704, 384), 65, 4.5),
        ("cuda", SMALL, 65, 5.0),
    ],
)
def test_both_halves_of_the_vae_fit_as_they_run(
    facts: ModelFacts, backend: str, size: tuple[int, int], frames: int, memory: float
) -> None:
    """One policy is for both, and what suits one need not suit the other: most frames at a time may take more than all
    of them. Nor may what follows when memory runs out, which is then less and less."""
    asked = replace(request(facts, memory, backend, size, frames), native=(1280, 690))
    found = make_plan(asked)
    assert found.peak <= asked.memory
    for stage in ("encode", "decode"):
        smaller = found.smaller(stage)
        while smaller is not None:
            assert all(need.total <= smaller.request.cap(need.stage) for need in smaller.needs)
            smaller = smaller.smaller(stage)


@pytest.mark.parametrize("backend", ["cuda", "mps", "cpu"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("frames", [1, 2, 9, 13, 14, 41, 65])
def test_the_least_memory_is_enough_and_no_less_is(
    facts: ModelFacts, backend: str, size: tuple[int, int], frames: int
) -> None:
    asked = request(facts, 1.0, backend, size, frames)
    least = least_memory(asked)
    assert make_plan(replace(asked, memory=least)).peak <= least
    with pytest.raises(InputError, match="give --memory"):
        make_plan(replace(asked, memory=least - 1))


def test_the_issue_s_bounds_have_plans(facts: ModelFacts) -> None:
    """704×480×97 in bfloat16 within 2.5, 4 and 5 GiB, and by the rules of MPS within 5 GiB."""
    assert plan(facts, 5).policy.streamed_blocks < 5
    assert not plan(facts, 5).policy.int8
    assert plan(facts, 4).policy.int8
    assert plan(facts, 2.5).policy.streamed_blocks > 10
    assert plan(facts, 5, "mps").policy.streamed_blocks == 0
    # A card's libraries take a gigabyte of the host's memory, which a Mac keeps.
    assert 0 < plan(facts, 4, "mps").policy.streamed_blocks < 10


def test_plenty_of_memory_changes_nothing(facts: ModelFacts) -> None:
    found = plan(facts, 80)
    assert found.differences(request(facts).policy) == []
    assert found.policy == request(facts).policy
    assert found.sparse


def test_less_memory_never_takes_more(facts: ModelFacts) -> None:
    for backend in ("cuda", "mps"):
        peaks = []
        for tenths in range(30, 160, 5):
            try:
                peaks.append(plan(facts, tenths / 10, backend).peak)
            except InputError:
                assert not peaks  # what fits a small machine fits a large one
        assert len(peaks) > 20


def test_int8_is_the_user_s_to_want_or_not(facts: ModelFacts) -> None:
    def kept(asked: Request, int8: bool | None) -> Policy:
        return make_plan(replace(asked, policy=replace(asked.policy, int8=int8))).policy

    plenty = request(facts, 80)
    assert not kept(plenty, None).int8
    assert kept(plenty, True).int8
    assert make_plan(replace(plenty, policy=kept(plenty, True))).differences(kept(plenty, True)) == []
    assert not any(kept(request(facts, tenths / 10), False).int8 for tenths in range(25, 60))
    # At 5 GiB of the larger picture streaming a few blocks is not enough any more: there 8 bits come in.
    large = request(facts, 5, size=LARGE, frames=121)
    assert kept(large, None).int8
    assert kept(large, False).streamed_blocks > 10


def test_the_vae_s_weights_come_from_disk_where_nothing_else_fits(facts: ModelFacts) -> None:
    """The last way but one: pieces get shorter first, weights are kept smaller where that loses nothing, and only then
    are they read for every piece."""
    ways = []
    for tenths in range(100, 15, -1):
        try:
            policy = plan(facts, tenths / 10, "mps").policy
        except InputError:
            break
        way = (policy.vae_storage is not None, policy.vae_streamed)
        ways += [way] if way not in ways else []
        assert policy.vae_frames is not None
    assert ways == [(False, False), (True, False), (False, True)]
    # bfloat16 is what it is computed in on CUDA, so there is nothing smaller to keep it in.
    assert {plan(facts, tenths / 10).policy.vae_storage for tenths in range(25, 80)} == {None}
    assert plan(facts, 2.5).policy.vae_streamed


def test_what_comes_and_goes_is_neither_compiled_nor_recorded(facts: ModelFacts) -> None:
    assert plan(facts, 8).policy.can_compile
    asked = request(facts, 8)
    small = make_plan(replace(asked, policy=replace(asked.policy, int8=True)))
    assert small.policy.int8
    assert plan(facts, 2.5).policy.streamed_blocks
    for found in (plan(facts, 2.5), small):
        assert (found.policy.can_compile, found.policy.cuda_graphs) == (False, False)


def test_sparse_passes_only_where_there_is_room_and_they_are_wanted(facts: ModelFacts) -> None:
    assert plan(facts, 8).sparse
    assert not plan(facts, 5).sparse
    assert not plan(facts, 8, sparse=False).sparse


def test_refusal_names_what_fits(facts: ModelFacts) -> None:
    asked = request(facts, 2.0)
    with pytest.raises(InputError, match=r"--memory (\d+\.\d), or --size (\d+)x(\d+)") as caught:
        make_plan(asked)
    words = str(caught.value).rstrip(".").split()
    memory, size = words[words.index("--memory") + 1].rstrip(","), words[words.index("--size") + 1]
    assert make_plan(replace(asked, memory=float(memory) * GIB)).peak <= float(memory) * GIB
    width, height = map(int, size.split("x"))
    assert (width % 32, height % 32) == (0, 0)
    assert width < SMALL[0]
    make_plan(replace(asked, size=(width, height)))
    with pytest.raises(InputError):
        make_plan(replace(asked, size=(width + 64, height + 64)))


def test_refusal_names_the_stage_that_needs_the_most(facts: ModelFacts) -> None:
    """Not the first one that does not fit: more memory for that alone would be refused again."""
    asked = request(facts, 1.0, size=LARGE, frames=121)
    wide = replace(asked, facts=replace(asked.facts, width=8 * asked.facts.width))
    for case, stage in ((asked, "encode"), (wide, "denoise")):
        with pytest.raises(InputError, match=rf"at least (\d+\.\d) GiB \(in stage {stage}\), .*give --memory \1"):
            make_plan(case)


def test_refusal_says_when_the_user_s_own_wish_does_not_fit(facts: ModelFacts) -> None:
    asked = request(facts, 3)
    make_plan(asked)
    with pytest.raises(InputError, match=r", or leave out --weights 8bit\.$"):
        make_plan(replace(asked, policy=replace(asked.policy, int8=True)))
    with pytest.raises(InputError) as caught:
        make_plan(replace(asked, policy=replace(asked.policy, int8=True), memory=GIB))
    assert "--weights" not in str(caught.value)


def test_refusal_when_no_size_fits(facts: ModelFacts) -> None:
    with pytest.raises(InputError, match=r"give --memory \d+\.\d\.$"):
        make_plan(request(facts, 0.5))


def test_smaller_plans_end(facts: ModelFacts) -> None:
    for stage in ("encode", "denoise", "decode"):
        found: Plan | None = plan(facts, 8)
        steps = 0
        while found is not None:
            smaller = found.smaller(stage)
            if smaller is not None:
                assert smaller.need(stage).total < found.need(stage).total
                assert smaller.differences(found.policy)
            found, steps = smaller, steps + 1
        assert steps > 3


# --- the limits of MPS -----------------------------------------------------------------------------------------------


def test_no_array_of_attention_passes_the_limit(facts: ModelFacts) -> None:
    for memory in (5, 8, 80):
        found = plan(facts, memory, "mps")
        assert found.policy.attention_limit_bytes is not None
        assert found.policy.attention_limit_bytes <= BACKENDS["mps"].attention_limit_bytes  # type: ignore[operator]


def test_no_array_of_the_vae_passes_the_limit(facts: ModelFacts) -> None:
    for size in (SMALL, LARGE, (3840, 2176)):
        asked = request(facts, 1000, "mps", size)
        asked = replace(asked, policy=replace(asked.policy, vae_frames=64))
        frames = make_plan(asked).policy.vae_frames
        assert frames is not None
        # 128 channels at a quarter of the picture's sides, in float32, and two frames of the piece before
        assert (frames + 2) * size[0] * size[1] // 16 * 128 * 4 <= 2**31


def test_axes_beyond_the_limit_are_refused(facts: ModelFacts) -> None:
    limit = BACKENDS["mps"].vae_axis_limit
    assert limit is not None
    assert max(facts.encoder.axis, facts.decoder.axis) == 4096  # far below it in every published VAE
    policy: Policy = replace(request(facts, 80, "mps").policy, vae_axis_limit=4095)
    with pytest.raises(InputError, match=r"axis of 4096 .* at most 4095"):
        make_plan(replace(request(facts, 80, "mps"), policy=policy))
    with pytest.raises(InputError, match="axis of 70400"):
        make_plan(request(facts, 8000, "mps", (70400, 64)))


def test_context_from_other_windows_counts(facts: ModelFacts) -> None:
    alone = request(facts)
    shown = replace(alone, context=8)
    width, height = alone.size
    assert shown.tokens - alone.tokens == 8 * (width // facts.space) * (height // facts.space)


@pytest.mark.parametrize("backend", ["cuda", "mps", "cpu"])
@given(hole=st.tuples(st.integers(20, 900), st.integers(20, 600)), drift=st.integers(0, 12), count=st.integers(1, 600))
@example(hole=(24, 442), drift=0, count=41)
def test_where_the_whole_picture_fits_a_crop_of_it_does(
    facts: ModelFacts, backend: str, hole: tuple[int, int], drift: int, count: int
) -> None:
    """It is found after the evidence: nothing may be refused then."""
    native = (1280, 690)
    picture = whole_view(fit_size(native, SMALL, 32), fit_windows(count, 97, 8))
    lefts = [60 + drift * i % 300 for i in range(count)]
    spots = [(left, 40, min(1280, left + hole[0]), 40 + hole[1]) for left in lefts]
    view = focus_view(picture, spots, space=32, time=8, model_frames=97, longest=257, margin=40)
    asked = replace(
        request(facts, 1.0, backend, picture.size, max(window.frame_count for window in picture.windows)), native=native
    )
    asked = replace(asked, memory=least_memory(asked))
    make_plan(asked)
    near = replace(asked, size=view.size, frames=max(window.frame_count for window in view.windows))
    assert make_plan(near).peak <= asked.memory
