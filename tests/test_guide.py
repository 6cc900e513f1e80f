"""README and the guide, held against the tool: commands run, flags exist, links lead somewhere."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from layerlift import Clip, LayerClip, write_clip, write_layer
from layerlift.cli.app import app
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene
from support import layerlift
from tiny_model import write_tiny_model

ROOT = Path(__file__).parents[1]
GUIDE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
NOT_OURS = {"--index-url"}  # pip's
# These need the network, or take minutes; their own tests run them.
PARSED_ONLY = {"download", "bench", "demo"}
RENDERED = "--rendered"  # takes minutes, and Mitsuba
FRAMES, HEIGHT, WIDTH = 16, 48, 64  # the guide has a picture of frame 12
# Where the guide clicks in its clips, and where that is in the small one here.
PLACES = {"420,260": "10,22", "300,180,560,420": "4,16,16,28", "500,60": "50,6", "80,400,160,470": "40,34,56,46"}


def commands_in(page: Path) -> list[str]:
    """The lines of its console blocks that call layerlift, without comments."""
    blocks = re.findall(r"^```console\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.join(shlex.split(line, comments=True)) for line in lines if line.startswith("layerlift ")]


def id_of(command: str) -> str:
    return command.removeprefix("layerlift ")


COMMANDS = sorted({command for page in PAGES for command in commands_in(page)})
RUN = sorted(
    {
        command
        for page in GUIDE
        for command in commands_in(page)
        if command.split()[1] not in PARSED_ONLY and RENDERED not in command
    }
)


def command_named(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """The command that these words call, and what is left for it to parse."""
    found = typer.main.get_command(app)
    while isinstance(found, typer.core.TyperGroup):
        found, words = found.commands[words[0]], words[1:]
    return found, words


def flags_of(command: typer.core.TyperCommand | typer.core.TyperGroup) -> set[str]:
    """All of its flags, --help and those of commands below it, too."""
    below = command.commands.values() if isinstance(command, typer.core.TyperGroup) else ()
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union({"--help"}, *map(flags_of, below))


def test_the_guide_has_commands() -> None:
    assert len(RUN) > 25


@pytest.mark.parametrize("command", COMMANDS, ids=id_of)
def test_command_parses(command: str) -> None:
    found, words = command_named(shlex.split(command)[1:])
    found.make_context(found.name, words)


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.name)
def test_flags_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    if page.name == "migration.md":  # the other tool's flags are on the left
        text = "\n".join(line.split(" | ", 1)[1] for line in text.splitlines() if line.startswith("| `"))
    assert set(FLAG.findall(text)) - flags_of(typer.main.get_command(app)) - NOT_OURS == set()


def test_tables_of_flags_name_flags_of_their_command() -> None:
    sections = re.split(r"^## ", (ROOT / "docs" / "commands.md").read_text("utf-8"), flags=re.MULTILINE)
    commands = typer.main.get_command(app).commands
    checked = 0
    for section in sections:
        title, _, text = section.partition("\n")
        if title in commands:
            named = {flag for row in re.findall(r"^\| (`-.*?) \| ", text, re.MULTILINE) for flag in FLAG.findall(row)}
            assert named - flags_of(commands[title]) == set(), title
            checked += len(named)
    assert checked > 30


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors_of(there), target


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    lines = "\n".join(page.read_text("utf-8") for page in PAGES)
    named = {
        word for words in re.findall(r"(?:^|`)make ((?:[a-z-]+ ?)+)", lines, re.MULTILINE) for word in words.split()
    }
    assert {"demo", "test", "docs"} <= named <= targets


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the guide's commands open: a square that walks and casts a shadow, masks, plate and layers."""
    folder = tmp_path_factory.mktemp("footage")
    small = np.random.default_rng(0).integers(60, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    plate = np.stack([small.repeat(8, 0).repeat(8, 1)] * FRAMES)
    dog, both = np.zeros((2, FRAMES, HEIGHT, WIDTH), bool)
    for number in range(FRAMES):
        left = 4 + number // 4  # some of what is behind it no frame shows
        dog[number, 16:28, left : left + 12] = True
        both[number, 16:34, left : left + 12] = True
    frames = np.where(both[..., None], plate // 2, plate)
    frames[dog] = (220, 30, 30)
    clip = Clip.from_array(frames)

    def save(name: str, pictures: np.ndarray) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        coloured = pictures if pictures.ndim == 4 else pictures[..., None].repeat(3, 3) * np.uint8(255)
        write_clip(folder / name, iter(coloured), clip, lossless=name.endswith(".mkv"))

    for name, pictures in {
        "clip.mp4": frames,
        "beach.mp4": plate[::-1],
        "plate.mkv": plate,
        "mask.mp4": both,
        "dog.mp4": dog,
        "dog_and_shadow.mp4": both,
        "swan_lake/video.mp4": frames,
        "swan_lake/object_mask.mp4": dog,
        "swan_lake/total_mask.mp4": both,
    }.items():
        save(name, pictures)
    layer = LayerClip.from_array(np.concatenate([frames, 255 * dog[..., None].astype(np.uint8)], 3)[:4])
    (folder / "dog").mkdir()
    for name in ("dog.mov", "cat.mov", "dog/layer_0.mov"):
        write_layer(folder / name, layer.frames(), layer.clip)
    (folder / "refs").mkdir()
    for name in ("beach.png", "clean.png", "refs/012.png"):
        Image.fromarray(plate[0]).save(folder / name)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[4:12, 4:12], ids[20:30, 20:40] = 1, 2
    Image.fromarray(ids).save(folder / "ids.png")
    Image.fromarray(np.array([(0, 0, 0), (0, 255, 0), (255, 0, 0)], np.uint8)[ids]).save(folder / "colours.png")
    write_scene(make_scene(1003, WIDTH, HEIGHT, 5), folder / "demo")
    return folder


@pytest.fixture
def folder(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    copy = tmp_path / "footage"
    shutil.copytree(footage, copy)
    monkeypatch.chdir(copy)
    return copy


def maybe_slow(command: str) -> object:
    """Several objects in one command stand for every click: each looks at the frames with a network."""
    clicked = any(place in command for place in PLACES)
    return pytest.param(command, marks=[pytest.mark.slow] if clicked and "--object" not in command else [])


@pytest.mark.slow
@pytest.mark.parametrize("command", map(maybe_slow, RUN), ids=map(id_of, RUN))
def test_command_runs(command: str, folder: Path, model: Path) -> None:
    for place, here in PLACES.items():
        command = command.replace(place, here)
    words = shlex.split(command)[1:]
    if "-o" in words:  # another command's input may have this name
        out = folder / words[words.index("-o") + 1]
        shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    before = {path for path in folder.rglob("*") if path.is_file()}
    if "--model" in flags_of(command_named(words)[0]) and "--model" not in words and words[0] != "compose":
        finds = words[0] in ("mask", "plan") or "--object" in words
        words += ["--model", str(model) if finds else "none"]
    if "--latent" in words:
        words += ["--model", str(model)]
    assert layerlift(*words) == 0
    if words[0] not in ("plan", "doctor"):
        assert {path for path in folder.rglob("*") if path.is_file()} - before, "nothing was written"
