"""Manifests and folders become lines, and everything that is wrong with them is told at once."""

import json
import os
from pathlib import Path

import pytest

from layerlift.batch.line import Line, Words
from layerlift.batch.manifest import read_lines
from layerlift.batch.names import name_lines, turns_of
from layerlift.cli.batch_options import options_of_run, words_of
from layerlift.errors import InputError

OPTIONS = options_of_run()


def read(path: Path, text: str, defaults: Words | None = None) -> tuple[list[Line], list[str]]:
    path.write_text(text, "utf-8")
    return read_lines(path, OPTIONS, defaults or {})


def test_the_same_lines_come_from_every_form(tmp_path: Path) -> None:
    table = "clip,object,seed,dense,name\na.mp4,m.png|n.png:2,3,yes,first\n/b.mp4,,,no,\n"
    first = {"clip": "a.mp4", "object": ["m.png", "n.png:2"], "seed": 3, "dense": True, "name": "first"}
    rows = [first, {"clip": "/b.mp4", "--dense": False}]
    yaml = "- {clip: a.mp4, object: [m.png, 'n.png:2'], seed: 3, dense: true, name: first}\n- {clip: /b.mp4, dense: no}"
    made = [
        read(tmp_path / "m.csv", "\ufeff" + table),
        read(tmp_path / "n.csv", table.replace(",", ";")),
        read(tmp_path / "m.jsonl", "\n\n".join(map(json.dumps, rows))),
        read(tmp_path / "m.yaml", yaml),
    ]
    objects = ("--object", f"{tmp_path}/m.png", "--object", f"{tmp_path}/n.png:2")
    for lines, wrong in made:
        assert wrong == []
        assert [line.clip for line in lines] == [f"{tmp_path}/a.mp4", "/b.mp4"]
        assert lines[0].words == {"objects": objects, "seed": ("--seed", "3"), "dense": ("--dense",)}
        assert [line.name for line in lines] == ["first", None]
        assert lines[1].words == {"dense": ()}
        assert lines[0].argv() == [f"{tmp_path}/a.mp4", *objects, "--seed", "3", "--dense"]


def test_a_line_says_otherwise_than_the_command_line(tmp_path: Path) -> None:
    defaults = {"seed": ("--seed", "1"), "dense": ("--dense",), "crop": ("--no-crop",)}
    lines, _ = read(tmp_path / "m.yaml", "- {clip: a, seed: 2, dense: false, crop: yes}\n- clip: b\n", defaults)
    assert lines[0].words == {"seed": ("--seed", "2"), "dense": (), "crop": ("--crop",)}
    assert lines[1].words == defaults
    lines, _ = read(tmp_path / "m.yaml", "- {clip: a, no_crop: true}\n- {clip: a, no-crop: false}")
    assert [line.words for line in lines] == [{"crop": ("--no-crop",)}, {"crop": ("--crop",)}]


def test_places_are_relative_to_the_manifest_and_names_are_not(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    told = {"clip": "s3://bucket/a.mp4", "mask": "m.png", "onto": "b.mp4", "reference": ["c.png@12"], "model": "demo"}
    rows = [told, {"clip": "a", "model": "model.safetensors", "prompt": "a.b/c"}]
    lines, _ = read(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)))
    assert lines[0].clip == "s3://bucket/a.mp4"
    assert lines[0].words == {
        "objects": ("--object", f"{tmp_path}/m.png"),
        "onto": ("--onto", f"{tmp_path}/b.mp4"),
        "reference": ("--reference", f"{tmp_path}/c.png@12"),
        "model": ("--model", "demo"),
    }
    assert lines[1].words == {"model": ("--model", f"{tmp_path}/model.safetensors"), "prompt": ("--prompt", "a.b/c")}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ('{"object": "m.png"}', "names no clip"),
        ('{"clip": ""}', "names no clip"),
        ('{"clip": 3}', "names no clip"),
        (r'{"clip": "\ud800"}', "names no clip"),
        (r'{"clip": "a", "name": "\ud800"}', "no name of a folder"),
        (r'{"clip": "a", "prompt": "\ud800"}', "half of another one"),
        ('{"clip": "a", "name": "../x"}', "no name of a folder"),
        ('{"clip": "a", "name": "Index.HTML"}', "a file beside the results"),
        ('{"clip": "a", "sead": 3}', "'sead' is neither"),
        ('{"clip": "a", "output": "b"}', "'output' is neither"),
        ('{"clip": "a", "seed": [1, 2]}', "takes one value"),
        ('{"clip": "a", "seed": true}', "give a text or a number"),
        ('{"clip": "a", "seed": {"a": 1}}', "give a text or a number"),
        ('{"clip": "a", "seed": NaN}', "give a text or a number"),
        ('{"clip": "a", "dense": 7}', "give true or false"),
        ('{"clip": "a", "seed": 1, "--seed": 2}', "given twice"),
        ('{"clip": "a", "Clip": "b"}', "given twice"),
        ('{"clip": "a", "clip": "b"}', "given twice"),
        ("[1]", "no object"),
        ('{"clip": ', "no JSON"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path: Path, told: str, said: str) -> None:
    lines, wrong = read(tmp_path / "m.jsonl", f'{{"clip": "fine"}}\n{told}\n')
    assert [line.clip for line in lines] == [f"{tmp_path}/fine"]
    assert len(wrong) == 1
    assert wrong[0].startswith("m.jsonl, line 2: ")
    assert said in wrong[0]


def test_every_wrong_line_is_told(tmp_path: Path) -> None:
    lines, wrong = read(tmp_path / "m.csv", 'clip,seed,dense\na,1,\n,2,\nb,3,maybe\nc,1,,4\nd,,\n"e,,\n')
    assert [line.where for line in lines] == ["m.csv, line 2", "m.csv, line 6"]
    assert [sentence.split(":")[0] for sentence in wrong] == [f"m.csv, line {n}" for n in (3, 4, 5, 7)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", "video,mask\na,b\n", "has no column clip"),
        ("m.csv", "", "has no column clip"),
        ("m.yaml", "clip: a", "is no list"),
        ("m.yaml", "- {", "is no YAML"),
        ("m.yaml", "- !!python/object/apply:os.system [ls]", "is no YAML"),
        ("m.yaml", "[]", "has no clip"),
        ("m.txt", "", "is no manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path / name, text)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"clip\n\xff\n")
    with pytest.raises(InputError, match="not UTF-8 at byte 5"):
        read_lines(tmp_path / "m.csv", OPTIONS, {})
    with pytest.raises(InputError, match="does not exist: give a manifest"):
        read_lines(tmp_path / "n.csv", OPTIONS, {})


def test_a_folder_of_clips_with_masks_needs_no_manifest(tmp_path: Path) -> None:
    for name in ("a.mp4", "a_mask.png", "b.mov", "b_object_mask_0.png", "b_object_mask_1.mkv", "b_total_mask.png",
                 "c.mp4", "notes.txt", "d/video.mp4", "d/object_mask.png", "e/0001.png", "e_mask.png", "out/x.png",
                 ".hidden.mp4"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    lines, wrong = read_lines(tmp_path, OPTIONS, {"seed": ("--seed", "1")})
    assert wrong == []
    words = {line.where: [word for word in line.argv()[1:] if word not in ("--seed", "1")] for line in lines}
    assert words == {
        "a.mp4": ["--object", f"{tmp_path}/a_mask.png"],
        "b.mov": ["--object", f"{tmp_path}/b_object_mask_1.mkv", "--object", f"{tmp_path}/b_object_mask_0.png",
                  "--total", f"{tmp_path}/b_total_mask.png"],
        "c.mp4": [],
        "d": [],
        "e": ["--object", f"{tmp_path}/e_mask.png"],
    }  # fmt: skip


def test_what_is_typed_is_what_every_line_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.main import get_command

    from layerlift.cli.app import app

    monkeypatch.chdir(tmp_path)
    command = get_command(app).commands["batch"]  # type: ignore[attr-defined]
    typed = [
        "m.csv",
        "-o",
        "out",
        "--seed",
        "3",
        "--no-crop",
        "--onto",
        "b.mp4",
        "--dense",
        "--point",
        "3,4",
        "--model",
        "none",
    ]
    context = command.make_context("batch", typed)
    assert words_of(context.params) == {
        "seed": ("--seed", "3"),
        "crop": ("--no-crop",),
        "onto": ("--onto", f"{tmp_path}/b.mp4"),
        "dense": ("--dense",),
        "point": ("--point", "3,4"),
        "model": ("--model", "none"),
    }


def test_names_are_the_clips_with_a_number_where_two_clash() -> None:
    clips = [
        "/a/shot.mp4",
        "/b/Shot.mov",
        "/c/scene/video.mp4",
        "/a/shot.mp4",
        "/d/shot_2.mp4",
        "/e/index.html.mp4",
        "/f/.x",
    ]
    lines = [Line("", clip) for clip in clips]
    names = name_lines(lines, [])
    assert names == ["shot", "Shot_2", "scene", "shot_3", "shot_2_2", "index.html_2", "x"]
    # The same ones in another order, with a new one first, keep their names.
    known = [
        {"clip": line.clip, "turn": turn, "name": name}
        for line, name, turn in zip(lines, names, turns_of(lines), strict=True)
    ]
    assert name_lines([Line("", "/z/shot.mp4"), *lines[::-1]], known) == [
        "shot_4",
        *names[::-1][:3],
        "shot",
        *names[::-1][4:6],
        "shot_3",
    ]


def test_a_long_name_is_cut_between_letters() -> None:
    (name,) = name_lines([Line("", f"/a/{'ä' * 200}.mp4")], [])
    assert name == "ä" * 90


# Ten of one in each of ten of one in …: a thousand million of the first.
MANY = "- &a [x, x]\n" + "".join(f"- &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefghi", "bcdefghij", strict=True))  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("told", ["name: *j", "seed: *j", "dense: *j", "object: *j"])
def test_a_value_that_holds_another_a_thousand_million_times(tmp_path: Path, told: str) -> None:
    _, wrong = read(tmp_path / "m.yaml", f"{MANY}- {{clip: a, {told}}}\n")
    assert len(wrong) == 11
    assert all(len(sentence) < 300 for sentence in wrong)


def test_mappings_that_are_merged_without_end(tmp_path: Path) -> None:
    text = "- &a {x: y}\n" + "".join(
        f"- &{name} {{{name}: y, <<: [{', '.join([f'*{before}'] * 10)}]}}\n"
        for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    )
    with pytest.raises(InputError, match="merged into each other too often"):
        read(tmp_path / "m.yaml", text)
    lines, wrong = read(tmp_path / "m.yaml", "- &a {clip: a, seed: 3}\n- {<<: *a, clip: b}\n")
    assert (wrong, [line.words for line in lines]) == ([], [{"seed": ("--seed", "3")}] * 2)


@pytest.mark.parametrize("value", ["!!timestamp x", "!!int ''", "!!float ''", "!!bool x", "!!int x", "2001-13-45"])
def test_a_value_that_is_not_what_its_tag_says(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputError, match=r"m.yaml is no YAML: .+\.$"):
        read(tmp_path / "m.yaml", f"- {{clip: a, seed: {value}}}\n")


@pytest.mark.parametrize("value", ["1" + "0" * 400, "0x" + "f" * 9000, ".nan", "-.inf"])
def test_a_number_that_no_option_takes(tmp_path: Path, value: str) -> None:
    _, (said,) = read(tmp_path / "m.yaml", f"- {{clip: a, seed: {value}}}\n")
    assert "--seed is" in said
    assert "give a text or a number" in said


def test_thousands_of_lines_with_the_same_clip() -> None:
    lines = [Line("", "/a/dog.mp4")] * 30_000
    assert name_lines([*lines, Line("", "/b/DOG.mp4")], [])[-2:] == ["dog_30000", "DOG_30001"]


def test_a_manifest_that_is_a_pipe_or_too_long(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.csv")
    with pytest.raises(InputError, match="it is not a file; give a manifest"):
        read_lines(tmp_path / "m.csv", OPTIONS, {})
    with pytest.raises(InputError, match=r"too large for a manifest: give at most 1 MiB; a table \(.csv\) may have 16"):
        read(tmp_path / "m.yaml", "- x\n" * 2**19)
    with pytest.raises(InputError, match="more than 100000 lines: make several manifests of it"):
        read(tmp_path / "m.jsonl", "1\n" * 100_001)
