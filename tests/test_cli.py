"""The command line's frame: help, version, exit codes, one sentence for everything a user can get wrong."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from layerlift import __version__
from layerlift.cli import main
from layerlift.cli.app import app
from layerlift.cli.options import default_output
from layerlift.errors import InputError, LayerliftError
from layerlift.parse import parse_frames, parse_guidance, parse_size

COMMANDS = ("remove", "reference", "scene", "demo", "bench", "download", "doctor")
HEAVY = ("torch", "diffusers", "transformers", "av", "cv2", "scipy", "numpy")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command run in this process."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code, streams.out, streams.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"layerlift {__version__}\n", "")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)


def test_help_of_remove_names_every_flag(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, "remove", "--help")
    assert code == 0
    flags = (
        "--mask -o --model --steps --guidance --prompt --negative-prompt --seed --size --dilate --feather --device "
        "--dtype --frames --lossless --report --overwrite -v --policy --no-cache --text-encoder"
    )
    assert [flag for flag in flags.split() if flag not in out] == []


@pytest.mark.parametrize("arguments", [["--help"], ["remove", "--help"], ["remove", "clip.mp4", "--size", "704"]])
def test_nothing_heavy_is_imported_before_it_is_needed(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom layerlift.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize(
    ("arguments", "help_of"),
    [
        ("remove clip.mp4 --nope", "layerlift remove"),
        ("remove", "layerlift remove"),
        ("run clip.mp4 -o out --steps many", "layerlift run"),
        ("scene --frames 0", "layerlift scene"),
        ("download --nope", "layerlift download"),
        ("bench quality --nope", "layerlift bench quality"),
        ("bench footage", "layerlift bench footage"),
        ("bench nope", "layerlift bench"),
        ("nope", "layerlift"),
        ("--nope", "layerlift"),
    ],
)
def test_a_wrong_flag_points_to_the_help_of_its_command(
    arguments: str, help_of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments.split())
    assert (code, out) == (2, "")
    assert f"`{help_of} --help`" in err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run", "use --object for a mask of one object, and --total for"),
        ("mask", "use --object for a mask of one object:"),
    ],
)
def test_commands_that_take_masks_by_other_flags_name_them(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, command, "clip.mp4", "--mask", "mask.mp4", "-o", "out")
    assert (code, err.count("\n")) == (2, 1)
    assert f"No such option: --mask; {said}" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["remove"], "Missing argument"),
        (["remove", "clip.mp4", "--nope"], "--nope"),
        (["nope"], "nope"),
        (["remove", "clip.mp4", "--steps", "0"], "--steps"),
        (["remove", "clip.mp4", "--steps", "many"], "--steps"),
        (["remove", "clip.mp4", "--seed", "-1"], "--seed"),
        (["remove", "clip.mp4", "--dilate", "-1"], "--dilate"),
        (["remove", "clip.mp4", "--feather", "-1"], "--feather"),
        (["remove", "clip.mp4", "--guidance", "nan"], "--guidance"),
        (["remove", "clip.mp4", "--size", "704"], "704x480"),
        (["remove", "clip.mp4", "--frames", "7"], "START:END"),
        (["remove", "no-such-clip.mp4"], "no-such-clip.mp4"),
        (["scene", "-o", "scene", "--size", "8x8"], "16x16"),
        (["scene", "-o", "scene", "--frames", "0"], "--frames"),
        (["scene", "-o", "full"], "not empty"),
        (["demo", "-o", "full/file"], "is a file"),
        (["download", "no-such-model"], "no-such-model"),
        (["doctor", "--device", "abacus"], "abacus"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_exit_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("layerlift: ")
    assert err.count("\n") == 1
    assert said in err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (InputError("The clip\nis empty."), 2, "layerlift: The clip is empty.\n"),
        (LayerliftError("The model returned NaN."), 1, "layerlift: The model returned NaN.\n"),
        (KeyboardInterrupt(), 130, "layerlift: interrupted.\n"),
    ],
)
def test_ends_of_a_command(
    raised: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ends(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("layerlift.report.versions", ends)
    assert run(capsys, "doctor") == (code, "", said)


def test_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("layerlift.report.versions", bug)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["doctor"])


@pytest.mark.parametrize(("text", "size"), [("704x480", (704, 480)), (" 8 X 16 ", (8, 16)), ("1×1", (1, 1))])
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "704", "704x", "x480", "0x480", "-3x4", "7.5x4", "704x480x3"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "span"), [("0:48", (0, 48)), ("12:", (12, None)), (":48", (0, 48))])
def test_frames(text: str, span: tuple[int, int | None]) -> None:
    assert parse_frames(text) == span


@pytest.mark.parametrize("text", ["", ":", "7", "a:b", "-1:4", "1:2:3", "5:5", "9:3"])
def test_frames_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"START"):
        parse_frames(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5, -1.0])
def test_guidance_that_cannot_be_used(value: float) -> None:
    with pytest.raises(InputError, match="--guidance"):
        parse_guidance(value)
    assert parse_guidance(1.0) == 1.0


def test_default_output_lies_in_the_current_folder() -> None:
    assert default_output("swan_lake", "remove", lossless=False) == Path("swan_lake_remove.mp4")
    assert default_output("swan_lake", "remove", lossless=True) == Path("swan_lake_remove.mkv")


def test_an_interrupt_that_a_library_turns_into_another_error_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def library() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("could not read a tensor") from None

    monkeypatch.setattr("layerlift.runtime.choose_policy", lambda *_, **__: library())
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", "quality", "--seeds", "0:1"])
    assert exit_info.value.code == 130
    assert "interrupted" in capsys.readouterr().err


MODEL_FLAGS = {"--model", "--seed", "--memory"}
VIDEO_FLAGS = {"--lossless", "--report", "--overwrite"}


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        *((name, MODEL_FLAGS | VIDEO_FLAGS) for name in ("mask", "remove", "compose", "run", "demo")),
        ("extract", VIDEO_FLAGS),  # uses no model, draws no noise
        ("scene", {"--seed", "--report", "--overwrite"}),  # writes nothing but lossless clips
    ],
)
def test_commands_that_write_video_take_the_same_flags(command: str, flags: set[str]) -> None:
    given = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    assert flags <= {name for parameter in given for name in parameter.opts}


def test_scene_writes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["-o", "s", "--size", "32x32", "--frames", 1, "--report", "r.json"]
    assert run(capsys, "scene", *flags)[0] == 0
    assert json.loads(Path("r.json").read_text())["settings"] == {
        "seed": 7,
        "size": "32x32",
        "frames": 1,
        "rendered": False,
        "film": False,
        "output": "s",
    }
    code, _, said = run(capsys, "scene", *flags[2:], "-o", "t")
    assert (code, Path("t").exists()) == (2, False)
    assert "already exists" in said
