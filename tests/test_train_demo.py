"""The training tool: two steps of each part, freeze, pack, open what was packed, and go on from it."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import layerlift
from layerlift.engine.device import choose_policy
from layerlift.engine.model import open_model
from layerlift.engine.model.latents import unknown_tokens
from layerlift.geometry.fit import Geometry
from layerlift.options import DEFAULT_NEGATIVE_PROMPT
from tiny_model import tiny_transformer_config, tiny_vae_config

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path(layerlift.__file__).parent / "engine" / "model" / "demo"
SMALL = ("--size", "48x32", "--scenes", "1", "--max-steps", "2", "--device", "cpu", "--no-compile")


@pytest.fixture(scope="module")
def tool() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        patch.setattr(import_module("demo_training.vae"), "STATISTICS_BATCHES", 2)  # 24 take half a minute to render
        yield import_module


@pytest.fixture(scope="module")
def tiny(tool: Any) -> Any:
    return tool("demo_training.architecture").Architecture(
        {**tiny_vae_config(timestep_conditioning=False), "scaling_factor": 1.0}, tiny_transformer_config(layers=1)
    )


def train_vae(tool: Any, tiny: Any, out: Path, *more: str) -> None:
    options = ("--pool", "8", "--batch", "2", "--crop", "32x32", "--seconds", "600", "--freeze-after", "300")
    tool("train_demo").main(["vae", "--out", str(out), *SMALL, *options, *more], tiny)


def train_transformer(tool: Any, tiny: Any, out: Path, *more: str) -> None:
    options = ("--pool", "2", "--fresh", "2", "--batch", "2", "--seconds", "600")
    tool("train_demo").main(["transformer", "--out", str(out), *SMALL, *options, *more], tiny)


@pytest.fixture(scope="module")
def run(tool: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after both trainings."""
    out = tmp_path_factory.mktemp("run")
    train_vae(tool, tiny, out)
    train_transformer(tool, tiny, out, "--wait-for-vae")
    return out


@pytest.fixture(scope="module")
def packed(tool: Any, tiny: Any, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("packed") / "model"
    tool("train_demo").main(["pack", "--out", str(run), "--to", str(to)], tiny)
    return to


def rows(out: Path, part: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"log-{part}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_vae_run_freezes_the_encoder_and_trains_the_decoder_on(run: Path) -> None:
    frozen, finished = load_file(run / "encoder.safetensors"), load_file(run / "vae.safetensors")
    changed = {key for key in frozen if not torch.equal(frozen[key], finished[key])}
    assert changed
    assert all(key.startswith("decoder.") for key in changed)
    assert (frozen["latents_std"] != 1).all()  # measured
    events = {row["event"]: row for row in rows(run, "vae") if "event" in row}
    assert (events["encoder frozen"]["step"], events["end"]["steps"]) == (2, 4)
    assert events["end"]["vae_psnr"] > 3


def test_frozen_encoder_counts_no_more_in_the_clipped_gradient(tool: Any, tiny: Any, tmp_path: Path) -> None:
    part, architecture, schedule = (tool(f"demo_training.{name}") for name in ("vae", "architecture", "schedule"))
    options = {"out": tmp_path, "batch": 1, "size": (32, 32), "crop": (32, 32), "pool": 1, "compile": False}
    run = architecture.VaeRun(architecture=tiny, seconds=600, freeze_after=300, **options)
    vae = part.AutoencoderKLLTXVideo.from_config(dict(tiny.vae))
    scenes = tool("demo_training.pools").scene_batches(1, 17, (32, 32), 1_000_000, "cpu")
    trainer = part.VaeTrainer(vae, scenes, run, tool("demo_training.log").Log(tmp_path, "vae"))
    trainer.train(schedule.Phase(trainer.started, 0, 600, max_steps=1))
    assert any(weight.grad is not None for weight in vae.encoder.parameters())
    trainer.freeze()
    trainer.train(schedule.Phase(trainer.started, 0, 600, max_steps=1))
    assert all(weight.grad is None for weight in vae.encoder.parameters())
    assert any(weight.grad is not None for weight in vae.decoder.parameters())


def test_transformer_run_logs_how_it_removes(run: Path) -> None:
    removal = {row["row"]: row["psnr"] for row in rows(run, "transformer") if row.get("event") == "removal"}
    assert {"input", "vae ceiling", "8 steps, guidance 1"} < set(removal)
    assert all(np.isfinite(value) for value in removal.values())
    assert (run / "removal.png").stat().st_size > 0


def test_packed_model_opens_with_the_weights_of_the_run(run: Path, packed: Path) -> None:
    model = open_model(packed)
    policy = choose_policy("cpu")
    assert model.geometry == Geometry(space=16, time=4, channels=8)
    trained = load_file(run / "transformer.safetensors")
    with model.transformer(policy) as transformer:
        for key, value in transformer.state_dict().items():
            largest = trained[key].float().abs().max().item()
            assert (value - trained[key].float()).abs().max() <= largest / 200, key
    with model.vae_encoder(policy) as vae:
        assert torch.equal(vae.latents_std, load_file(run / "vae.safetensors")["latents_std"].float())


def test_packed_prompts_are_those_the_stages_use(packed: Path) -> None:
    model = open_model(packed)
    assert model.known_prompts == ("Empty", "objects", "", DEFAULT_NEGATIVE_PROMPT)
    empty, _, nothing, negative = model.text(model.known_prompts, choose_policy("cpu"))
    assert torch.equal(nothing.embeds, negative.embeds)
    assert not torch.equal(empty.embeds, nothing.embeds)


def test_package_is_what_pack_writes(tool: Any, tmp_path: Path) -> None:
    for name in ("vae", "transformer"):
        for shard in DEMO.glob(f"{name}-*.safetensors"):
            (tmp_path / shard.name).symlink_to(shard)
    tool("train_demo").main(["pack", "--out", str(tmp_path / "no run"), "--to", str(tmp_path)])
    for name in ("config.json", "text.safetensors"):
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes(), name


@pytest.mark.slow
def test_training_goes_on_from_a_packed_folder_and_keeps_its_statistics(
    tool: Any, tiny: Any, packed: Path, tmp_path: Path
) -> None:
    train_vae(tool, tiny, tmp_path, "--init", str(packed), "--rate", "1e-9", "--freeze-after", "0")
    train_transformer(
        tool, tiny, tmp_path, "--init", str(packed), "--rate", "1e-9", "--vae", str(packed), "--first-seed", "2000000"
    )
    weights = tool("demo_training.weights")
    for part, file in (("vae", "vae"), ("transformer", "transformer")):
        continued = load_file(tmp_path / f"{file}.safetensors")
        before = dict(weights.read_tensors(getattr(weights.read_checkpoint(packed), part).tensors, torch.float32))
        for key, value in continued.items():
            torch.testing.assert_close(value.float(), before[key], atol=1e-3, rtol=1e-3, msg=key)
    assert rows(tmp_path, "vae")[-1]["steps"] == 2  # the decoder's alone


def test_training_goes_on_from_a_file(tool: Any, tiny: Any, run: Path, tmp_path: Path) -> None:
    train_vae(tool, tiny, tmp_path, "--init", str(run / "vae.safetensors"))
    before, after = load_file(run / "vae.safetensors"), load_file(tmp_path / "encoder.safetensors")
    assert torch.equal(before["latents_mean"], after["latents_mean"])


def test_weights_of_another_architecture_are_refused(
    tool: Any, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="wrong tensors for its architecture"):
        train_vae(tool, tiny, tmp_path, "--init", str(DEMO))
    with pytest.raises(SystemExit, match="no vae to pack"):
        tool("train_demo").main(["pack", "--out", str(tmp_path), "--to", str(tmp_path / "to")], tiny)
    with pytest.raises(SystemExit):
        train_vae(tool, tiny, tmp_path, "--first-seed", "1000")
    assert "benchmark" in capsys.readouterr().err


def test_masks_on_the_gpu_are_those_of_the_package(tool: Any) -> None:
    masks: ModuleType = tool("demo_training.masks")
    geometry = Geometry(space=16, time=4, channels=8)
    pixels = torch.rand(3, 9, 64, 96, generator=torch.Generator().manual_seed(0)) < 0.0005
    tokens = masks.token_mask(pixels, geometry)
    assert 0 < tokens.float().mean() < 0.5
    for b in range(3):
        assert torch.equal(tokens[b], unknown_tokens(pixels[b].numpy(), geometry, grow=0))
        assert torch.equal(masks.grow(tokens)[b], unknown_tokens(pixels[b].numpy(), geometry))


def test_examples_leave_something_unknown_and_hide_objects_only_where_asked(tool: Any) -> None:
    torch.manual_seed(0)
    objects = torch.zeros(200, 3, 6, 8, dtype=torch.bool)
    objects[:150, :, 2:4, 2:4] = True
    jobs = tool("demo_training.masks").draw_jobs(objects, objects.roll(1, -1))
    assert jobs.unknown.flatten(1).any(1).all()
    assert 0.4 < jobs.empty.float().mean() < 0.7
    assert not jobs.clean[~jobs.empty].any()  # what is there is to be generated: with the objects
    assert (jobs.clean | ~jobs.unknown)[jobs.empty].all()  # what is to be generated is background


@pytest.mark.parametrize("crops", [(), ((32, 32), (48, 32))], ids=["whole", "parts"])
def test_transformer_is_compiled_with_what_it_is_trained_on(tool: Any, tiny: Any, tmp_path: Path, crops: Any) -> None:
    """Other shapes, strides or dtypes would have it compiled again, which takes minutes of a run."""
    part, seen = tool("demo_training.transformer"), []

    def model(**inputs: Any) -> tuple[torch.Tensor]:
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        seen.append({name: (value.shape, value.stride(), value.dtype) for name, value in tensors.items()})
        return (inputs["hidden_states"].clone().requires_grad_(),)

    run = tool("demo_training.architecture").TransformerRun(
        out=tmp_path, seconds=1, batch=4, size=(64, 48), crops=crops, architecture=tiny
    )
    part.compile_shapes(model, run, tiny.text())
    compiled, all_shown = list(seen), part.all_shown(run)
    assert len(compiled) == len(all_shown) == (6 if crops else 2)
    for shown, expected in zip(all_shown, compiled, strict=True):
        f, h, w = tiny.latent_shape(*shown)
        count = part.batch_size(shown, run)
        latents, tokens = torch.randn(count, 8, f, h, w).half(), torch.rand(count, f, h, w) < 0.3
        drawn = {"video": latents, "clean": latents, "object": tokens, "effect": tokens}
        pool = SimpleNamespace(sample=lambda count, drawn=drawn: drawn)
        part.flow_loss(model, *part.draw_examples(pool, count, tiny.text(), tiny))
        assert seen[-1] == expected


def test_every_fourth_batch_is_long_and_with_parts_every_other_shows_one(tool: Any, tiny: Any, tmp_path: Path) -> None:
    part, run = tool("demo_training.transformer"), tool("demo_training.architecture").TransformerRun
    whole = run(out=tmp_path, seconds=1, batch=40, size=(64, 48), architecture=tiny)
    assert [part.shown_in(step, whole)[0] for step in range(8)] == [17, 17, 17, 33] * 2
    parts = run(out=tmp_path, seconds=1, batch=40, size=(64, 48), crops=((32, 32), (48, 32)), architecture=tiny)
    shown = [part.shown_in(step, parts) for step in range(160)]
    assert all((some[1:] == (64, 48)) == bool(step % 2) for step, some in enumerate(shown))
    assert [frames for frames, *_ in shown].count(33) == 40
    assert {some[1:] for some in shown if some[0] == 33} == {(64, 48), (32, 32), (48, 32)}
    # As many tokens a batch: 12 cells of 5 latent frames, 4 of 5.
    assert [part.batch_size(some, parts) for some in ((17, 64, 48), (17, 32, 32), (33, 64, 48))] == [40, 120, 22]


def test_parts_show_an_object_at_the_size_that_was_asked_for(tool: Any) -> None:
    pools = tool("demo_training.pools")
    torch.manual_seed(0)
    batches = pools.part_batches(2, 5, (64, 48), 1_000_000, "cpu", part=(32, 16), scale=2.0)
    whole = next(pools.scene_batches(2, 5, (64, 48), 1_000_000, "cpu"))
    for _ in range(2):  # of the scene's own size, and of a larger one
        batch = next(batches)
        assert batch.video.shape == (2, 5, 3, 16, 32)
        assert batch.object_mask.shape[-2:] == (16, 32)
        assert (batch.object_mask | batch.effect_mask).flatten(1).any(1).all()
    first = next(pools.part_batches(2, 5, (64, 48), 1_000_000, "cpu", part=(32, 16), scale=2.0))
    windows = whole.video[0].unfold(2, 16, 1).unfold(3, 32, 1)  # (F, 3, 33, 33, 16, 32)
    found = (windows.permute(2, 3, 0, 1, 4, 5) == first.video[0]).flatten(2).all(2)
    assert found.sum() == 1


@pytest.mark.slow
def test_training_needs_neither_opencv_nor_pyav() -> None:
    code = (
        "import sys; sys.modules['cv2'] = sys.modules['av'] = None; sys.path.insert(0, 'tools'); import train_demo; "
        "import demo_training.weights"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
