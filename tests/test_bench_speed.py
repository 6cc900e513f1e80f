"""`layerlift bench speed`: the tables it prints, and that what they say was run. How fast it was is nobody's test."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from layerlift.bench import speed_report
from layerlift.bench.speed import ON_CPU, Measured, Stage, choose_ways, make_mask, measure_speed
from layerlift.cli import main
from layerlift.engine.device import BACKENDS, choose_policy
from layerlift.engine.model import Model, catalogue, checkpoint, open_model, random
from layerlift.engine.model.random import write_random_model
from layerlift.engine.planning import plan_windows
from layerlift.geometry.fit import Fit, Window
from tiny_model import tiny_transformer_config, tiny_vae_config, write_tiny_model

GUIDED = ("", "Empty")
SIZE, FRAMES = (64, 48), 9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("tiny"), steps=6))


def bench_speed(*flags: object) -> int | str | None:
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", "speed", *(str(flag) for flag in flags)])
    return exit_info.value.code


def tables(text: str) -> dict[str, list[list[str]]]:
    """Rows of every Markdown table, by its first heading."""
    found: dict[str, list[list[str]]] = {}
    rows: list[list[str]] | None = None
    for line in text.splitlines():
        if not line.startswith("|"):
            rows = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if rows is None:
            rows = found.setdefault(cells[0], [])
        elif set(cells[0]) != {"-"}:
            assert len(cells) == len(line.strip("|").split("|"))
            rows.append(cells)
    return found


def test_what_is_printed(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_speed("--model", model.path, "--device", "cpu", "--repeats", 1) == 0
    text = capsys.readouterr().out
    assert "64x48, 9 frames" in text
    assert "Random" not in text
    found = tables(text)
    machine, rules = dict(found["machine"]), dict(found["rules"])
    assert machine["device"].startswith("cpu: ")
    assert {"RAM", "may be taken", "cores", "torch", "python", "platform"} <= set(machine)
    assert rules["transformer_dtype"] == "float32"
    assert "int8" not in rules
    stages = found["stage"]
    assert [row[0].split(":")[0] for row in stages] == ["encode", "denoise", "denoise", "decode", "a window"]
    for row in (stages[0], stages[1], stages[3]):
        assert all(re.fullmatch(r"\d+\.\d+", cell) for cell in row[1:])
    assert "6 steps (2 of them over all tokens)" in stages[-1][0]
    assert [row[0] for row in found["what is faster"]] == [
        "sparse: only unknown tokens",
        "constant work done beforehand",
        "both prompts in one pass (off in the rules)",
    ]
    assert "Not run: recorded (this device has no CUDA graphs); compiled (not supported on cpu)." in text


def test_a_window_is_reckoned_from_its_parts(model: Model) -> None:
    plan = plan_windows(model, Fit(SIZE, SIZE, SIZE), [Window(0, 9, 0, 9)], GUIDED, choose_policy("cpu"))
    stages = {name: Stage(9.0, 8.0, warm, 0, 0) for name, warm in (("encode", 1.0), ("denoise", 0.5), ("decode", 2.0))}
    found = Measured(plan, 36, 4, 10, 3, stages, {"hoisted": 0.5, "plain": 1.0, "sparse": 0.1})
    assert speed_report.window_seconds(found) == pytest.approx(1 + 3 * 0.5 + 7 * 0.1 + 2)
    found.steps["sparse, recorded"] = 0.05
    assert speed_report.window_seconds(found) == pytest.approx(1 + 3 * 0.5 + 7 * 0.05 + 2)
    assert ("constant work done beforehand", "1000.0", "500.0", "2.00") in speed_report.gain_rows(found)
    assert ("sparse steps recorded as CUDA graphs", "100.0", "50.0", "2.00") in speed_report.gain_rows(found)
    del found.steps["sparse"], found.steps["sparse, recorded"]
    assert speed_report.window_seconds(found) == pytest.approx(1 + 10 * 0.5 + 2)


def test_ways_follow_the_plan_and_the_rules(model: Model) -> None:
    def ways(policy: str, prompts: tuple[str, ...] = GUIDED, compile: bool | None = None, **changes: object) -> tuple:
        plan = plan_windows(model, Fit(SIZE, SIZE, SIZE), [Window(0, 9, 0, 9)], prompts, choose_policy("cpu"))
        rules = BACKENDS[policy]  # type: ignore[index]
        request = replace(plan.request, policy=rules)
        made = replace(plan, request=request, policy=rules, **changes)
        found, missing = choose_ways(made, compile)
        return set(found), set(missing)

    everything = {"hoisted", "plain", "two passes", "sparse", "sparse, recorded", "sparse, compiled", "compiled"}
    assert ways("cuda") == (everything, set())
    assert ways("cuda", compile=False) == (everything - {"compiled", "sparse, compiled"}, {"compiled"})
    assert ways("cuda", sparse=False) == (everything - {"sparse", "sparse, recorded", "sparse, compiled"}, {"sparse"})
    assert ways("cuda", prompts=("Empty",)) == (everything - {"two passes"}, {"batched"})
    assert ways("mps") == ({"hoisted", "plain", "batched", "sparse"}, {"recorded", "compiled"})


def test_sparse_steps_run_over_the_unknown_tokens(model: Model) -> None:
    """Counted by what the transformer is given."""
    seen: Counter[int] = Counter()
    again, policy = open_model(model.path), choose_policy("cpu", resident=True)
    with again.transformer(policy) as transformer:  # which stays
        transformer.register_forward_pre_hook(
            lambda _, __, given: seen.update([given["hidden_states"].shape[1]]), with_kwargs=True
        )
    found = measure_speed(again, policy, GUIDED, size=SIZE, frames=FRAMES, repeats=2)
    assert (found.tokens, found.unknown) == (36, 3)
    # Two passes: a first call, one more, two timed ones; before them one over all tokens.
    assert seen[3] == 2 * 4
    assert seen[36] == 2 * 4 + 2 * 4 + 4 + 2  # hoisted, plain, batched, before the sparse ones
    assert found.plan.need("denoise").total > 0
    assert all(stage.host >= 0 and stage.warm > 0 for stage in found.stages.values())


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_the_mask_is_about_as_large_as_it_was_to_be(share: float) -> None:
    assert make_mask((704, 480), 1, 32, share).mean() == pytest.approx(share, abs=0.03)


def test_how_near_the_device_s_limit_a_step_comes_and_how_far_its_result_is_off(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", model.path, "--device", "cpu", "--repeats", 1, "--unknown", 0.25, "--cpu"]
    assert bench_speed(*flags) == 0
    text = capsys.readouterr().out
    steps = {name: cells for name, *cells in tables(text)["a step, by the way it is run"]}
    assert list(steps) == ["hoisted", "plain", "batched", "sparse", ON_CPU]
    assert [int(cells[0]) for cells in steps.values()] == [36, 36, 36, 12, 36]
    assert all(float(cells[-1]) < 1e-5 for cells in steps.values())
    assert float(steps[ON_CPU][-1]) == 0  # this is one
    for way in ("plain", "sparse"):
        taken, floor, reached = steps[way][1:4]
        assert reached == f"{float(floor) / float(taken):.0%}" or float(taken) < 5  # what is printed is rounded
    # 36 tokens of 32 channels in 2 layers, for two prompts.
    flops = 2 * 2 * (28 * 36 * 32**2 + 4 * 36 * 36 * 32)
    rate = float(re.search(r"at the ([\d.e+-]+) TFLOP/s", text)[1])  # type: ignore[index]
    assert float(steps["plain"][2]) == pytest.approx(1000 * flops / (rate * 1e12), rel=0.02)
    for row, queries in zip(tables(text)["attention over"], (36, 12), strict=True):
        assert row[0] == f"{queries} queries"
        assert re.fullmatch(r"\d+\.\d+ \([\w' -]+\)", row[1])
        assert row[2] == "not there"  # cuDNN


def test_a_way_that_computes_something_else_is_seen(model: Model) -> None:
    policy = replace(choose_policy("cpu"), int8=True)
    engine = open_model(model.path)
    found = measure_speed(engine, policy, GUIDED, size=SIZE, frames=FRAMES, repeats=1, cpu=True)
    assert found.off["hoisted"] < 1e-5
    assert 1e-4 < found.off[ON_CPU] < 0.2  # which has all bits


def test_random_weights_of_a_model_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = {"transformer_2b": tiny_transformer_config(), "vae_0.9.5": tiny_vae_config()}
    for module in (random, checkpoint):
        monkeypatch.setattr(module, "bundled_config", configs.__getitem__)
    monkeypatch.setattr(random, "SHARD_BYTES", 2**15)  # several files
    entry = catalogue.CATALOGUE["ltx-2b-0.9.8-distilled"]
    made = open_model(write_random_model(tmp_path / entry.name, entry))
    assert len(list((tmp_path / entry.name / "transformer").glob("*.safetensors"))) > 1
    assert replace(made.settings, licence="") == replace(entry.settings, licence="", random=True)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    flags = ["--random", entry.name, "--size", "64x48", "--frames", 9, "--device", "cpu", "--repeats", 1]
    assert bench_speed(*flags) == 0
    text = capsys.readouterr().out
    assert "**Random weights**" in text
    assert f"bench speed: {entry.name}" in text
    assert "7 steps" in text
    assert "batched (there is no guidance)" in text


def test_no_room_for_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from layerlift.errors import InputError

    monkeypatch.setattr(random, "SPARE_BYTES", 2**60)
    with pytest.raises(InputError, match=r"random weights of ltx-2b-0\.9\.5 take"):
        write_random_model(tmp_path / "model", catalogue.DEFAULT)
    assert not list((tmp_path / "model").iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--size 60x48", "multiples of 16"),
        ("--frames 8", "multiple of 4"),
        ("--random other", "ltx-2b-0.9.5"),
        ("--compile", "--compile"),
        ("--steps 0", "--steps"),
        ("--memory 0.001", "--memory"),
    ],
)
def test_what_cannot_be_measured(flags: str, said: str, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_speed("--model", model.path, "--device", "cpu", *flags.split()) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert said in streams.err
