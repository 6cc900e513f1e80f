"""Option classes as flags: what typer makes of them, and what a command is called with."""

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.exceptions import TyperException

from layerlift import options
from layerlift.cli import main
from layerlift.cli.app import app
from layerlift.cli.flags import Default, Only, Typed, Without, changed, with_flags
from layerlift.cli.options import ClipFlags, OutputFlags
from layerlift.errors import InputError
from layerlift.flags import Flag, flag
from layerlift.jobs.manifest import settings_of
from layerlift.options import (
    CompositionOptions,
    EffectOptions,
    ExtractionOptions,
    LatentCompositionOptions,
    ReferenceOptions,
    RemovalOptions,
    RuntimeOptions,
)

CLASSES = [kind for kind in vars(options).values() if is_dataclass(kind) and kind is not Flag]


def command_of(function: Callable[..., None]) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(with_flags(function))
    return typer.main.get_command(app)


def call(function: Callable[..., None], line: str = "") -> None:
    command_of(function)(line.split(), standalone_mode=False)


def flags_of(function: Callable[..., None]) -> list[str]:
    """In the order of the help."""
    return [name for parameter in command_of(function).params for name in (*parameter.opts, *parameter.secondary_opts)]


def help_of(function: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "300")
    call(function, "--help")
    return capsys.readouterr().out


def taking(*kinds: Any) -> tuple[Callable[..., None], dict[str, Any]]:
    """A function with a parameter of each type, and what it was called with: a, b, …"""
    seen: dict[str, Any] = {}

    def function(**given: Any) -> None:
        seen.update(given)

    named = zip("abc", kinds, strict=False)
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in named]
    function.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return function, seen


@pytest.mark.parametrize("kind", [*CLASSES, ClipFlags, OutputFlags])
def test_every_option_class_is_made_of_flags_and_has_its_defaults_without_them(kind: Any) -> None:
    function, seen = taking(kind)
    call(function)
    assert seen["a"] == kind()
    flagged = [field.name for field in fields(kind) if "flag" in field.metadata]
    assert len(command_of(function).params) == len(flagged)


def test_removal_takes_every_flag_there_is_in_the_order_of_the_fields() -> None:
    function, seen = taking(RemovalOptions)
    line = (
        "--steps 3 --guidance 1.5 --prompt snow --negative-prompt rain --seed 5 --size 64x32 --dilate 2 --feather 1 "
        "--evidence only --no-crop --refresh 0.25 --dense --compile --context 4 --window 9 --reference clean.png@12"
    )
    call(function, line)
    assert seen["a"] == RemovalOptions(
        steps=3,
        guidance=1.5,
        prompt="snow",
        negative_prompt="rain",
        seed=5,
        size=(64, 32),
        dilate=2,
        feather=1,
        evidence="only",
        crop=False,
        refresh=0.25,
        dense=True,
        compile=True,
        context=4,
        window=9,
        references={12: Path("clean.png")},
    )
    given = [name for name in line.split() if name.startswith("--")]
    assert [name for name in flags_of(function) if name in given] == given


def test_a_flag_that_switches_off() -> None:
    function, seen = taking(RuntimeOptions, LatentCompositionOptions)
    call(function, "--no-cache --no-refine")
    assert (seen["a"].cache, seen["b"].refine) == (False, False)
    assert "--cache" not in flags_of(function)
    assert "--refine" not in flags_of(function)


def test_flags_are_called_what_they_are_called() -> None:
    function, seen = taking(RuntimeOptions, LatentCompositionOptions, OutputFlags)
    call(function, "--policy mps --refine-strength 0.5 -v")
    assert (seen["a"].backend, seen["b"].strength, seen["c"].verbose) == ("mps", 0.5, True)


def test_what_is_typed_is_parsed() -> None:
    function, seen = taking(ClipFlags, EffectOptions, CompositionOptions)
    call(function, "--frames 12: --rate 23.976 --sigma 0.3,0.5 --layers 3,5-7 --offset 5,-4")
    assert seen["a"] == ClipFlags(frames=(12, None), rate=Fraction(24000, 1001))
    assert seen["b"] == EffectOptions(sigmas=(0.3, 0.5), layers=(3, 5, 6, 7))
    assert seen["c"] == CompositionOptions(offset=(5, -4))


def test_what_cannot_be_parsed_is_an_input_error() -> None:
    function, _ = taking(ClipFlags)
    with pytest.raises(InputError, match="START:END"):
        call(function, "--frames 12")


def test_a_default_is_not_parsed() -> None:
    def refuse(_: Any) -> Any:
        raise AssertionError

    @dataclass(frozen=True)
    class Kept:
        way: str = flag("own", "…", parse=refuse)

    function, seen = taking(Kept)
    call(function)
    assert seen["a"].way == "own"


def test_two_classes_share_a_flag() -> None:
    function, seen = taking(
        RemovalOptions, Annotated[EffectOptions, Without("dilate", "prompt")], LatentCompositionOptions
    )
    call(function, "--seed 5 --size 64x32 --dilate 3 --prompt snow")
    assert flags_of(function).count("--seed") == 1
    assert [seen[name].seed for name in "abc"] == [5, 5, 5]
    assert [seen[name].size for name in "abc"] == [(64, 32)] * 3
    assert (seen["a"].dilate, seen["b"].dilate, seen["b"].prompt) == (3, 0, None)


@dataclass(frozen=True)
class Other:
    seed: int = flag(0, "Another seed.")


@dataclass(frozen=True)
class OtherDefault:
    seed: int = dataclasses.field(default=1, metadata=dict(RemovalOptions.__dataclass_fields__["seed"].metadata))


@pytest.mark.parametrize("kind", [Other, OtherDefault])
def test_two_flags_of_one_name_are_a_mistake(kind: Any) -> None:
    function, _ = taking(RemovalOptions, kind)
    with pytest.raises(AssertionError, match="is two flags"):
        with_flags(function)


def test_a_flag_beside_a_parameter_of_its_name_is_a_mistake() -> None:
    def function(seed: int, a: RemovalOptions) -> None: ...

    with pytest.raises(AssertionError, match="seed"):
        with_flags(function)


@pytest.mark.parametrize("extra", [Without("nothing"), Only("nothing"), Default(nothing=1)])
def test_fields_that_do_not_exist_are_a_mistake(extra: Any) -> None:
    function, _ = taking(Annotated[RemovalOptions, extra])
    with pytest.raises(AssertionError, match="nothing"):
        with_flags(function)


def test_a_bool_that_is_true_needs_a_flag_that_switches_it_off() -> None:
    @dataclass(frozen=True)
    class Stuck:
        on: bool = flag(True, "…")

    function, _ = taking(Stuck)
    with pytest.raises(AssertionError, match="switched off"):
        with_flags(function)


def test_fields_left_out_are_no_flags() -> None:
    function, seen = taking(Annotated[RuntimeOptions, Without("weights", "device")])
    assert {"--weights", "--device"}.isdisjoint(flags_of(function))
    with pytest.raises(TyperException, match="No such option"):
        call(function, "--weights full")
    call(function, "--memory 2")
    assert seen["a"] == RuntimeOptions(memory=2.0)


def test_a_command_has_defaults_of_its_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    own = Annotated[RuntimeOptions, Without("weights"), Default(model="demo", weights="full", cache=False)]
    function, seen = taking(own)
    call(function)
    assert seen["a"] == RuntimeOptions(model="demo", weights="full", cache=False)
    call(function, "--model none")
    assert seen["a"].model == "none"
    assert "[default: demo]" in help_of(function, capsys, monkeypatch)


def test_a_default_of_its_own_is_shown_as_it_would_be_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    function, seen = taking(Annotated[RemovalOptions, Default(size="64x48")])
    call(function)
    assert seen["a"].size == (64, 48)
    call(function, "--size 32x16")
    assert seen["a"].size == (32, 16)
    assert "[default: 64x48]" in help_of(function, capsys, monkeypatch)


def test_only_the_fields_that_are_named_are_flags() -> None:
    function, seen = taking(Annotated[RemovalOptions, Only("size", "steps")])
    assert flags_of(function) == ["--steps", "--size"]
    call(function, "--steps 3")
    assert seen["a"] == RemovalOptions(steps=3)


@pytest.mark.parametrize(
    ("kind", "name", "value", "choices"),
    [
        (CompositionOptions, "length", "loop", "'hold', 'loop', 'cut', 'background'"),
        (RuntimeOptions, "dtype", "bfloat16", "'float32', 'bfloat16', 'float16'"),  # of None and a Literal
    ],
)
def test_choices_are_typers(kind: Any, name: str, value: str, choices: str) -> None:
    function, seen = taking(kind)
    call(function, f"--{name} {value}")
    assert getattr(seen["a"], name) == value
    with pytest.raises(typer.BadParameter, match=choices):
        call(function, f"--{name} stretch")
    command = command_of(function)
    (parameter,) = [parameter for parameter in command.params if parameter.name == name]
    completed = parameter.shell_complete(command.make_context("it", []), value[:2])
    assert [item.value for item in completed] == [value]


def test_bounds() -> None:
    function, _ = taking(RemovalOptions)
    for line in ("--steps 0", "--seed -1", f"--seed {2**63}", "--dilate -1"):
        with pytest.raises(typer.BadParameter):
            call(function, line)


def test_the_help_says_what_the_fields_say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def function(a: RemovalOptions, b: RuntimeOptions) -> None:
        """Take something away."""

    said = help_of(function, capsys, monkeypatch)
    assert "Take something away." in said
    for expected in (
        "Denoising steps (default: the model's own).",
        "[default: Empty]",
        "<auto|off|only>",
        "[1<=x<=100000]",
    ):
        assert expected in said
    assert [said.count(f"─ {group} ─") for group in ("Mask", "Evidence", "Sampling", "Speed", "Device")] == [1] * 5
    assert "default: None" not in said
    assert "default: True" not in said


def test_what_was_typed_is_told_by_the_flags_names() -> None:
    seen = {}

    def function(
        clip: Annotated[Path, typer.Argument()],
        onto: Annotated[Path | None, typer.Option("--onto")] = None,
        *,
        runtime: RuntimeOptions,
        effects: Annotated[EffectOptions, Without("prompt")],
        latent: Annotated[LatentCompositionOptions, Without("size")],
        writing: OutputFlags,
        typed: Typed,
    ) -> None:
        seen.update(typed)

    call(function, "clip.mp4 --size 64x32 --refine-steps 3 --no-cache --overwrite -v")
    expected = {
        "clip": Path("clip.mp4"),
        "onto": None,
        "size": "64x32",
        "refine_steps": 3,
        "refine_strength": 0.3,
        "no_cache": True,
        "no_refine": False,
        "policy": None,
        "sigma": (0.4,),
        "lossless": False,
    }
    assert {name: seen[name] for name in expected} == expected
    assert {"overwrite", "verbose", "report", "cache", "prompt"}.isdisjoint(seen)


def test_which_flags_changed_something() -> None:
    assert changed(CompositionOptions()) == []
    given = replace(CompositionOptions(), offset=(1, 2), length="cut")
    assert changed(given) == ["--offset", "--length"]
    assert changed(LatentCompositionOptions(refine=False, steps=3)) == ["--no-refine", "--refine-steps"]
    assert changed(ReferenceOptions(dilate=1)) == ["--dilate"]
    assert changed(RemovalOptions(crop=False)) == ["--crop"]
    several = RemovalOptions(steps=3, seed=7), RuntimeOptions(memory=2)
    assert changed(*several) == ["--steps", "--seed", "--memory"]
    assert changed(*several, apart_from=EffectOptions) == ["--steps", "--memory"]


def commands_flags(name: str) -> set[str]:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_every_flag_exists_wherever_it_makes_sense() -> None:
    removal, effects, runtime = (
        set(flags_of(taking(kind)[0])) for kind in (RemovalOptions, EffectOptions, RuntimeOptions)
    )
    layers = {flag for kind in (ExtractionOptions, CompositionOptions) for flag in flags_of(taking(kind)[0])}
    assert removal | runtime <= commands_flags("remove")
    assert removal | effects | layers | runtime <= commands_flags("run")
    assert effects | runtime | {"--steps", "--guidance", "--window", "--context", "--dense"} <= commands_flags("mask")
    assert runtime <= commands_flags("plan") & commands_flags("compose") & commands_flags("demo")
    assert {"--memory", "--weights", "--device", "--dtype", "--policy"} <= commands_flags("doctor")
    told = {"--steps", "--seed", "--dilate", "--feather", "--evidence", "--crop", "--no-crop", "--reference"}
    assert removal - told <= commands_flags("plan")


def every_help(command: Any, name: str = "layerlift") -> Iterator[tuple[str, str]]:
    """Every text of the help: what each command does, and what each of its flags and arguments is for."""
    yield name, command.help or ""
    for parameter in command.params:
        yield f"{name} {parameter.opts[0]}", getattr(parameter, "help", None) or ""
    for inner, below in getattr(command, "commands", {}).items():
        yield from every_help(below, f"{name} {inner}")


def test_help_says_default_and_not_else() -> None:
    texts = dict(every_help(typer.main.get_command(app)))
    assert len(texts) > 300
    assert "layerlift bench length --lengths" in texts
    odd = {name: text for name, text in texts.items() if re.search(r"; else|[(,] ?else|as far as", text)}
    assert odd == {}


def test_choices_of_the_commands_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compose", "layer.mov", "--onto", "b.mp4", "--length", "stretch"])
    assert ended.value.code == 2
    said = "'stretch' is not one of 'hold', 'loop', 'cut', 'background': see `layerlift compose --help`."
    assert capsys.readouterr().err == f"layerlift: Invalid value for '--length': {said}\n"


def test_a_shell_completes_choices() -> None:
    asked = {"_LAYERLIFT_COMPLETE": "complete_bash", "COMP_WORDS": "layerlift compose --length ", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "layerlift"], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["hold", "loop", "cut", "background"]


def test_a_literal_of_numbers() -> None:
    @dataclass(frozen=True)
    class Bits:
        bits: Literal[8, 16] | None = flag(None, "…")

    function, seen = taking(Bits)
    call(function, "--bits 16")
    assert seen["a"].bits == 16


def test_settings_are_named_as_they_are_typed() -> None:
    said: list[dict[str, str]] = []

    @with_flags
    def command(
        *,
        objects: Annotated[list[str] | None, typer.Option("--object")] = None,
        page: Annotated[bool, typer.Option("--page/--no-page")] = True,
        rate: float | None = None,
        typed: Typed,
    ) -> None:
        said.append(settings_of(typed, (), typed.flags))

    command(objects=["a.png"], page=False, rate=2.0)
    assert said == [{"--object": "['a.png']", "--page": "False", "--rate": "2.0"}]
