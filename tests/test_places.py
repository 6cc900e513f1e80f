"""Outputs against each other and against inputs, and whether they can be written: all of it before any work."""

import errno
import gc
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.cli.refusals import refusal
from layerlift.clip import Clip, open_clip, write_clip, write_mask
from layerlift.clip.rgba_writer import LayerWriter, choose_layer_format
from layerlift.errors import InputError, LayerliftError
from layerlift.places import check_file, check_writable, settle_places
from layerlift.scenes import make_scene
from layerlift.scenes.folder import write_scene
from support import add_tone, layerlift

COUNT, HEIGHT, WIDTH = 3, 40, 56
NOT_WRITABLE = Path("/proc")  # not even root can make a file there


def contents(folder: Path = Path()) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a.mkv under other names, a folder of images, and a folder linked to."""
    monkeypatch.chdir(tmp_path)
    Path("a.mkv").write_text("a")
    Path("other.mkv").write_text("other")
    Path("sub").mkdir()
    Path("link.mkv").symlink_to("a.mkv")
    Path("hard.mkv").hardlink_to("a.mkv")
    Path("dangling.mkv").symlink_to("new.mkv")
    Path("linked").symlink_to("sub")
    Path("frames").mkdir()
    Path("frames/0.png").write_text("0")
    return tmp_path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.mkv", "a.mkv"),
        ("a.mkv", "./a.mkv"),
        ("a.mkv", "sub/../a.mkv"),
        ("a.mkv", "linked/../a.mkv"),
        ("a.mkv", "HERE/a.mkv"),
        ("a.mkv", "link.mkv"),
        ("a.mkv", "hard.mkv"),
        ("new.mkv", "./new.mkv"),
        ("new.mkv", "HERE/sub/../new.mkv"),
        ("new.mkv", "dangling.mkv"),
        ("sub/new.mkv", "linked/new.mkv"),
        ("~/new.mkv", "./~/new.mkv"),  # a shell replaces ~; what comes here is a folder's name
    ],
)
def test_one_file_however_it_is_spelled(here: Path, one: str, other: str) -> None:
    one, other = one.replace("HERE", str(here)), other.replace("HERE", str(here))
    for first, second in ((one, other), (other, one)):
        with pytest.raises(InputError, match=r"^--report .* and -o .* are the same file: give each output its own"):
            settle_places({"-o": first, "--report": second}, {})
        with pytest.raises(
            InputError, match=r"^-o .* would overwrite the input CLIP .*: give the output another name\.$"
        ):
            settle_places({"-o": first}, {"CLIP": second})


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [
        ({"-o": "a.mkv", "--report": "other.mkv"}, {"CLIP": "frames", "--mask": None, "--object": []}),
        ({"-o": "new.mkv"}, {"CLIP": "new"}),
        ({"-o": "sub/new.mkv"}, {"CLIP": "a.mkv"}),
        ({"-o": "sub"}, {"CLIP": "a.mkv"}),
        ({"-o": "frames2"}, {"CLIP": "frames"}),
        ({"-o": "A.MKV2"}, {"CLIP": "a.mkv"}),
        ({"-o": "x" * 300, "--report": "z" * 300}, {"CLIP": "y" * 300}),
    ],
)
@pytest.mark.usefixtures("here")
def test_places_of_their_own_are_left_alone(outputs: dict[str, str], inputs: dict[str, str]) -> None:
    settle_places(outputs, inputs)


@pytest.mark.usefixtures("here")
def test_outputs_that_differ_only_in_case() -> None:
    with pytest.raises(InputError, match="differ only in case"):
        settle_places({"-o": "new.mkv", "--report": "sub/../NEW.mkv"}, {})


@pytest.mark.parametrize("outer", ["sub", "linked", "frames/../sub"])
@pytest.mark.parametrize("inner", ["sub/x/a.mkv", "linked/a.mkv", "frames/../sub/a.mkv", "in_sub.mkv"])
@pytest.mark.usefixtures("here")
def test_folders_around_and_within(inner: str, outer: str) -> None:
    Path("sub/there.mkv").write_text("there")
    Path("in_sub.mkv").symlink_to("sub/there.mkv")
    with pytest.raises(InputError, match=f"^-o {inner} is inside --folder {outer}: choose a place outside it"):
        settle_places({"--folder": outer, "-o": inner}, {})
    with pytest.raises(InputError, match=f"^-o {inner} is inside --folder {outer}"):
        settle_places({"-o": inner, "--folder": outer}, {})
    with pytest.raises(InputError, match=f"^-o {inner} is inside the input CLIP {outer}: choose"):
        settle_places({"-o": inner}, {"CLIP": outer})
    with pytest.raises(InputError, match=f"^-o {outer} is a folder that contains the input CLIP {inner}: choose"):
        settle_places({"-o": outer}, {"CLIP": inner})


def test_a_file_system_that_does_not_mind_case_is_asked(here: Path) -> None:
    Path("A.mkv").hardlink_to("a.mkv")  # as such a file system answers: both names lead to one file
    with pytest.raises(InputError, match=r"would overwrite the input CLIP a\.mkv"):
        settle_places({"-o": "A.mkv"}, {"CLIP": "a.mkv"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small clip with everything that a command may read."""
    place = tmp_path_factory.mktemp("made")
    scene = make_scene(7, WIDTH, HEIGHT, COUNT)
    write_scene(scene, place / "scene")
    like = Clip.from_array(scene.video)
    write_clip(place / "walk.mkv", scene.video, like, lossless=True)
    write_clip(place / "plate.mkv", scene.background, like, lossless=True)
    write_mask(place / "mask.mkv", scene.total_mask, like)
    write_mask(place / "object.mkv", scene.object_mask, like)
    write_clip(place / "frames", scene.video, like)
    labels = np.where(scene.object_mask[0], 2, 0).astype(np.uint8)
    labels[:4, :4] = 1
    cv2.imwrite(str(place / "labels.png"), labels)
    cv2.imwrite(str(place / "clean.png"), scene.background[0, ..., ::-1])
    with LayerWriter(place / "layer.mkv", like, choose_layer_format(place / "layer.mkv")) as writer:
        for frame in scene.layers[0]:
            writer.write(frame.astype(np.float32) / 255)
    return place


@pytest.fixture
def files(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, to be harmed, in the current folder."""
    for path in made.rglob("*"):
        if path.is_file():
            new = tmp_path / path.relative_to(made)
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(path.read_bytes())
    (tmp_path / "holds").mkdir()
    (tmp_path / "holds/00000.png").write_bytes((made / "clean.png").read_bytes())
    (tmp_path / "run").mkdir()
    (tmp_path / "run/total_mask.mkv").write_bytes((made / "mask.mkv").read_bytes())
    (tmp_path / "refs").mkdir()
    (tmp_path / "refs/000.png").write_bytes((made / "mask.mkv").read_bytes())
    monkeypatch.chdir(tmp_path)


REMOVE = "remove walk.mkv --mask mask.mkv --model none"
RUN = "run walk.mkv --object object.mkv --total mask.mkv --onto plate.mkv --model none"
EXTRACT = "extract walk.mkv --background plate.mkv --object object.mkv --total mask.mkv"
MASK = "mask walk.mkv --object object.mkv --model demo"
COMPOSE = "compose layer.mkv --onto plate.mkv"
LATENT = (
    "compose walk.mkv --latent --background plate.mkv --object object.mkv --total mask.mkv --onto frames --model demo"
)
REFERENCE = "reference walk.mkv --mask mask.mkv -o new"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (f"{REMOVE} -o a.mkv --report a.mkv", "--report a.mkv and -o a.mkv are the same file"),
        (f"{REMOVE} -o a.mkv --source-map ./a.mkv", "--source-map a.mkv and -o a.mkv are the same file"),
        (f"{REMOVE} -o a.mkv --source-map holds/../a.mkv", "--source-map holds/../a.mkv and -o a.mkv are"),
        (f"{REMOVE} --report walk_remove.mp4", "are the same file"),
        (f"{REMOVE} -o walk.mkv", "-o walk.mkv would overwrite the input CLIP walk.mkv"),
        (f"{REMOVE} -o holds/../mask.mkv", "would overwrite the input --mask mask.mkv"),
        (f"{REMOVE} --source-map mask.mkv", "would overwrite the input --mask mask.mkv"),
        (f"{REMOVE} --report walk.mkv", "would overwrite the input CLIP walk.mkv"),
        (f"{REMOVE} --reference clean.png@0 --report clean.png", "would overwrite the input --reference clean.png"),
        (
            "remove walk.mkv --object object.mkv --model none -o object.mkv",
            "would overwrite the input --object object.mkv",
        ),
        ("remove scene --model none -o scene/video.mkv", "would overwrite the input CLIP scene/video.mkv"),
        ("remove scene --model none -o scene/total_mask.mkv", "would overwrite the input CLIP scene/total_mask.mkv"),
        (
            "remove walk.mkv --mask labels.png:2 --model none --report labels.png",
            "would overwrite the input --mask labels.png",
        ),
        ("remove frames --mask mask.mkv --model none -o frames/", "would overwrite the input CLIP frames"),
        ("remove frames --mask mask.mkv --model none -o frames/plate.mkv", "is inside the input CLIP frames"),
        ("remove walk.mkv --mask holds/00000.png --model none -o holds", "is a folder that contains the input --mask"),
        (f"{RUN} -o out --report walk.mkv", "would overwrite the input CLIP walk.mkv"),
        (f"{RUN} -o run --total run/total_mask.mkv", "is a folder that contains the input --total run/total_mask.mkv"),
        (f"{RUN} -o run --report run/report.json", "--report run/report.json is inside -o run"),
        (f"{RUN} -o out --report plate.mkv", "would overwrite the input --onto plate.mkv"),
        (f"{EXTRACT} -o plate.mkv", "would overwrite the input --background plate.mkv"),
        (f"{EXTRACT} -o object.mkv", "would overwrite the input --object object.mkv"),
        (f"{EXTRACT} -o layer.mov --report layer.mov", "are the same file"),
        (f"{EXTRACT} --report walk_layer.mov", "are the same file"),
        (
            "extract walk.mkv --background plate.mkv --object holds/00000.png -o holds",
            "is a folder that contains the input",
        ),
        (f"{MASK} -o object.mkv", "would overwrite the input --object object.mkv"),
        (f"{MASK} -o a.mp4 --preview holds/../a.mp4", "are the same file"),
        (f"{MASK} --save-scores s.safetensors --report ./s.safetensors", "are the same file"),
        (
            "mask scene --model demo -o scene/object_mask_0.mkv",
            "would overwrite the input CLIP scene/object_mask_0.mkv",
        ),
        ("mask frames --object object.mkv --model demo --preview frames/seen.png", "is inside the input CLIP frames"),
        (f"{COMPOSE} -o layer.mkv", "would overwrite the input LAYER layer.mkv"),
        (f"{COMPOSE} -o plate.mkv --lossless", "would overwrite the input --onto plate.mkv"),
        (f"{COMPOSE} -o a.mkv --report a.mkv", "are the same file"),
        (f"{LATENT} -o plate.mkv", "would overwrite the input --background plate.mkv"),
        (f"{LATENT} -o frames/a.mkv", "is inside the input --onto frames"),
        (f"{LATENT} -o a.mkv --keep-intermediate --report a_latent.mkv", "and --keep-intermediate a_latent.mkv are"),
        (f"{REFERENCE} --report mask.mkv", "would overwrite the input --mask mask.mkv"),
        ("reference walk.mkv --mask refs/000.png -o refs", "is a folder that contains the input --mask refs/000.png"),
        ("scene -o new --report new", "are the same file"),
        ("scene -o holds --report holds/r.json", "is inside -o holds"),
        ("demo -o new --report ./new", "are the same file"),
        ("bench quality --model plate.mkv --report plate.mkv", "would overwrite the input --model plate.mkv"),
        (
            "bench layers --text-encoder scene --model demo --report scene/r.json",
            "is inside the input --text-encoder scene",
        ),
    ],
)
@pytest.mark.usefixtures("files")
def test_commands_settle_their_places_before_the_work(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents()
    assert layerlift(*command.split(), "--overwrite") == 2
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.err.count("\n") == 1
    assert streams.out == ""
    assert contents() == before


@pytest.mark.usefixtures("files")
def test_what_is_no_collision_is_written() -> None:
    Path("link.mkv").symlink_to("walk.mkv")
    flags = "--mask mask.mkv --model none -o scene/plate.mkv --report scene/report.json --source-map scene/from.mkv"
    assert layerlift("remove", "link.mkv", *flags.split(), "--overwrite") == 0
    assert open_clip("scene/plate.mkv").frame_count == COUNT
    # As docs/migration.md says: a mask may become the total mask of the clip's folder, also of one that is there.
    assert layerlift("mask", "scene", "--model", "demo", "-o", "scene/total_mask.mkv", "--overwrite") == 0


def test_cases_are_not_made_over_what_they_are_made_of(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("holes/a_b")  # what a case of the clip a and the mask b is called
    place.mkdir(parents=True)
    Path("a.mkv").write_bytes((made / "walk.mkv").read_bytes())
    (place / "video.mkv").write_bytes((made / "mask.mkv").read_bytes())
    Path("b.mkv").symlink_to(place / "video.mkv")
    before = contents()
    assert layerlift("bench", "footage", "--make", ".", "a.mkv", "--masks", "b.mkv", "--overwrite") == 2
    assert "is a folder that contains the input --masks b.mkv" in capsys.readouterr().err
    assert contents() == before


@pytest.mark.skipif(not NOT_WRITABLE.is_dir(), reason="needs a folder that takes no file")
@pytest.mark.parametrize(
    "command",
    [
        f"{REMOVE} -o NO/a.mkv",
        f"{REMOVE} -o NO/a",
        f"{REMOVE} --report NO/r.json",
        f"{REMOVE} --source-map NO/p.mkv",
        f"{RUN} -o NO/out",
        f"{EXTRACT} -o NO/a.mov",
        f"{MASK} --preview NO/p.png",
        f"{MASK} --preview NO/p.mp4",
        f"{MASK} --save-scores NO/s.safetensors",
        f"{COMPOSE} -o NO/a.mp4",
        "reference walk.mkv --mask mask.mkv -o NO/refs",
        "scene -o NO/scene",
        "scene -o NO/not/there/yet",
        "demo -o NO/demo",
        "bench quality --report NO/r.json",
        "bench footage --make NO/cases frames --masks mask.mkv",
    ],
)
@pytest.mark.usefixtures("files")
def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents()
    assert layerlift(*command.replace("NO", str(NOT_WRITABLE)).split()) == 1
    streams = capsys.readouterr()
    assert f"no file can be created in {NOT_WRITABLE}" in streams.err
    assert streams.err.count("\n") == 1
    assert contents() == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("scene -o walk.mkv/scene", "is below"),
        ("demo -o walk.mkv/x/demo", "is below"),
        (f"{REMOVE} -o walk.mkv/a.mkv", "does not exist"),
        (f"{REMOVE} --report walk.mkv/a.json", "is in a folder that does not exist"),
        (f"{REMOVE} --report pipe --overwrite", "is a device or a pipe"),
        (f"{REMOVE} -o pipe.mkv --overwrite", "is a device or a pipe"),
        (f"{REMOVE} --report holds/../mask.mkv", "would overwrite the input --mask mask.mkv"),
        (f"{REMOVE} -o taken", "already exists"),
        (f"{REMOVE} -o ./sub/../taken.mkv", "does not exist"),
        (f"{REMOVE} -o holds/../taken.mkv", "already exists"),
        (f"{MASK} --save-scores holds/../taken.safetensors", "already exists"),
        (f"{MASK} --preview holds/../taken.png", "already exists"),
        (f"{REMOVE} -o nowhere.mkv", "already exists"),
        (f"{REMOVE} --report nowhere.mkv", "already exists"),
        ("scene -o occupied --overwrite", "occupied/object_mask_0.mkv is a folder"),
        ("scene -o really/occupied --overwrite", "really/occupied/truth is a file"),
        ("demo -o ./occupied --overwrite", "occupied/object_mask_0.mkv is a folder"),
        (
            f"{EXTRACT.replace('walk', 'loud')} -o layers --overwrite",
            "layers.mka, which would hold the layer's sound, is a",
        ),
    ],
)
@pytest.mark.usefixtures("files")
def test_other_mistakes_about_outputs_are_found_before_the_work(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    os.mkfifo("pipe.mkv")
    for name in ("taken.mkv", "taken.png", "taken.safetensors"):
        Path(name).write_text("mine")
    Path("really").mkdir()
    Path("really/00000.png").write_text("mine")
    Path("taken").symlink_to("really")
    Path("nowhere.mkv").symlink_to("missing/x.mkv")
    Path("occupied/object_mask_0.mkv").mkdir(parents=True)
    Path("really/occupied").mkdir()
    Path("really/occupied/truth").write_text("mine")
    Path("layers.mka").mkdir()
    add_tone(Path("walk.mkv"), Path("loud.mkv"))
    before = contents()
    assert layerlift(*command.split()) == 2
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.err.count("\n") == 1
    assert contents() == before


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system answers about a folder that may not be searched, to root as well."""
    stat = os.stat

    def refusing(path: str | Path, *args: object, **kwargs: object) -> os.stat_result:
        if isinstance(path, str | Path) and Path(path).parent.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refusing)


@pytest.mark.parametrize(
    "command",
    [
        f"{REMOVE} -o locked/a.mkv",
        f"{REMOVE} --report locked/r.json",
        f"{REMOVE} --source-map locked/p.mkv",
        f"{REMOVE} --reference locked/clean.png@0",
        f"{REMOVE.replace('none', 'locked/model')}",
        f"{RUN} -o locked/out",
        f"{EXTRACT} -o locked/a.mov",
        f"{MASK} -o m.mkv --save-scores locked/s.safetensors",
        f"{COMPOSE} -o locked/a.mp4",
        "reference walk.mkv --mask mask.mkv -o locked/refs",
        "scene -o locked/scene",
        "demo -o locked/demo",
        "bench quality --report locked/r.json",
        "bench footage --make locked/cases frames --masks mask.mkv",
    ],
)
@pytest.mark.usefixtures("files", "locked")
def test_a_folder_that_may_not_be_searched_is_told_in_a_sentence(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("locked").mkdir()
    before = contents()
    assert layerlift(*command.split()) == 1
    streams = capsys.readouterr()
    assert re.search(r"locked/\S+ cannot be opened: permission denied; check its permissions", streams.err)
    assert streams.err.count("\n") == 1
    assert contents() == before


@pytest.fixture
def little_room() -> Iterator[None]:
    """Files cannot become large, as on a disk that is nearly full."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "command",
    [
        f"{REMOVE} -o new.mkv",
        f"{EXTRACT} -o new.mov",
        f"{EXTRACT} -o new/",
        f"{EXTRACT} -o new/ --format exr",
        f"{COMPOSE} -o new.mp4",
        f"{COMPOSE} -o new/",
        "scene -o new --size 32x32 --frames 2",
        "scene -o holds --size 32x32 --frames 2 --overwrite",
        "bench footage --make new frames --masks mask.mkv",
    ],
)
@pytest.mark.usefixtures("files")
def test_a_full_disk_is_told_in_a_sentence_and_nothing_is_left(
    command: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if "exr" in command:
        pytest.importorskip("OpenEXR")
    before = contents()
    request.getfixturevalue("little_room")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # temporary files that were open are closed when forgotten
        assert layerlift(*command.split()) == 1
        gc.collect()
    *_, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"layerlift: (.*new\S*|.*holds/\S+|no temporary file) c?an.* be written.*: file too large; .*\.", last
    )
    assert contents() == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "x", "disk/.layerlift-1/.layerlift-2.mkv"),
            "a file in disk cannot be written: no space",
        ),
        (
            OSError(errno.ENOSPC, "x", "disk/a.mkv"),
            "disk/a.mkv cannot be written: no space left on device; free some space",
        ),
        (OSError(errno.EDQUOT, "x"), "a file cannot be written: disk quota exceeded; free some space on its disk"),
        (OSError(errno.EROFS, "x"), "a file cannot be written: read-only file system; choose another place"),
        (
            OSError(errno.EIO, "Input/output error", "disk/a.mkv"),
            "disk/a.mkv cannot be used: input/output error;",
        ),
        (
            FileNotFoundError(errno.ENOENT, "x", "walk/3.png"),
            "walk/3.png cannot be used: no such file or directory; see whether it was moved or deleted meanwhile.",
        ),
        (
            OSError(errno.EMFILE, "x", "a.mkv"),
            "a.mkv cannot be opened: too many open files; close other programs, or raise the limit with `ulimit",
        ),
        (OSError("cut short"), "a file cannot be used: cut short; check its disk, or choose another place."),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/work']"),
            "no folder takes temporary files, neither TMPDIR nor another: free some space, or set TMPDIR.",
        ),
        (RuntimeError("Cannot write a.exr. No space left on device."), "a file cannot be written: no space left"),
    ],
)
def test_what_the_machine_refuses(error: Exception, said: str) -> None:
    assert (refusal(error) or "").startswith(said)


def test_other_errors_are_bugs() -> None:
    assert refusal(RuntimeError("Permission denied")) is None


@pytest.mark.usefixtures("files")
def test_a_link_to_a_folder_is_followed() -> None:
    Path("disk").mkdir()
    for name, command in {"frames_out": REMOVE, "run_out": RUN}.items():
        (Path("disk") / name).mkdir()
        Path(name).symlink_to(Path("disk") / name)
        assert layerlift(*command.split(), "-o", name) == 0
        assert layerlift(*command.split(), "-o", name, "--overwrite") == 0
        assert Path(name).is_symlink()
        assert list((Path("disk") / name).iterdir())
    assert not [path for folder in (Path(), Path("disk")) for path in folder.glob(".layerlift-*")]


def test_the_current_folder_takes_what_fits_into_one(
    files: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_tone(Path("walk.mkv"), Path("loud.mkv"))
    Path("here").mkdir()
    monkeypatch.chdir("here")
    extract = "extract ../loud.mkv --background ../plate.mkv --object ../object.mkv -o ."
    assert layerlift(*extract.split()) == 0
    assert layerlift(*extract.split(), "--overwrite") == 0
    assert sorted(path.name for path in Path().iterdir()) == ["00000.png", "00001.png", "00002.png"]
    assert Path("../here.mka").is_file()  # the sound, beside the folder
    capsys.readouterr()
    assert layerlift(*extract.split(), "--object", "../mask.mkv", "--overwrite") == 2
    assert "-o . has no name that could be numbered" in capsys.readouterr().err
    latent = "compose ../walk.mkv --latent --background ../plate.mkv --object ../object.mkv --total ../mask.mkv"
    latent += " --onto ../frames --model demo -o . --keep-intermediate --overwrite"
    assert layerlift(*latent.split()) == 2
    assert "has no name that --keep-intermediate could extend" in capsys.readouterr().err


def test_checks_leave_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "not" / "there", "it")
    assert check_file(tmp_path / "r.json", "--report", overwrite=False) == tmp_path / "r.json"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LayerliftError, match=r"--report .* is a folder"):
        check_file(tmp_path, "--report", overwrite=True)
