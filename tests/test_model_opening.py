"""From what a user says to an opened model, offline."""

import shutil
import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from layerlift.engine.model import hub, open_model, opening
from layerlift.engine.model.catalogue import CATALOGUE, HUB_REPO
from layerlift.engine.model.checkpoint import Checkpoint, Component
from layerlift.errors import InputError
from layerlift.geometry.fit import Geometry
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "little")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network, an empty hub cache (returned) and an empty current folder."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return cache


def put_in_cache(cache: Path, repo: str, files: dict[str, bytes]) -> Path:
    """The hub's own layout: refs/main names a snapshot folder."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / ("0" * 40)
    for name, content in files.items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(content)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text("0" * 40)
    return snapshot


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What would be read, without the gigabytes: `read_checkpoint` gives the outline of a 2B file."""
    paths: list[Path] = []

    def outline(path: Path) -> Checkpoint:
        from layerlift.engine.model.checkpoint import bundled_config

        paths.append(path)
        transformer = Component("transformer", bundled_config("transformer_2b"), {})
        return Checkpoint(path, transformer, Component("vae", bundled_config("vae_0.9.5"), {}))

    monkeypatch.setattr(opening, "read_checkpoint", outline)
    return paths


def test_path_of_a_folder(tiny: Path) -> None:
    model = open_model(tiny)
    assert model.name == "little"
    assert model.geometry == Geometry(space=16, time=4, channels=8)
    assert model.settings.size == (64, 48)
    assert open_model(str(tiny)).path == tiny


@pytest.mark.parametrize("name", CATALOGUE)
def test_name_in_the_hub_cache(offline: Path, opened: list[Path], name: str) -> None:
    entry = CATALOGUE[name]
    snapshot = put_in_cache(offline, HUB_REPO, {entry.file: b""})
    model = open_model(name)
    assert opened == [snapshot / entry.file]
    assert (model.name, model.settings) == (name, entry.settings)
    assert model.geometry == Geometry(space=32, time=8, channels=128)


def test_name_in_the_earlier_systems_folder(opened: list[Path]) -> None:
    entry = CATALOGUE["ltx-2b-0.9.5"]
    Path("model_checkpoint").mkdir()
    Path("model_checkpoint", entry.file).touch()
    open_model("ltx-2b-0.9.5")
    assert opened == [Path("model_checkpoint", entry.file)]


@pytest.mark.parametrize("name", CATALOGUE)
def test_name_that_is_not_here_says_its_size_and_the_way(name: str) -> None:
    with pytest.raises(InputError) as caught:
        open_model(name)
    assert f"{CATALOGUE[name].gigabytes:g} GB" in str(caught.value)
    assert f"layerlift download {name}" in str(caught.value)


def test_without_a_name_takes_the_first_of_the_table(offline: Path, opened: list[Path]) -> None:
    put_in_cache(offline, HUB_REPO, {CATALOGUE["ltx-13b-0.9.8"].file: b""})
    assert open_model(None).name == "ltx-13b-0.9.8"
    put_in_cache(offline, HUB_REPO, {CATALOGUE["ltx-2b-0.9.5"].file: b""})
    assert open_model(None).name == "ltx-2b-0.9.5"


def test_without_a_name_and_without_a_checkpoint_names_both_ways() -> None:
    with pytest.raises(InputError, match=r"layerlift download ltx-2b-0\.9\.5.*--model demo"):
        open_model(None)


def test_file_with_a_known_name_has_its_settings(tmp_path: Path, opened: list[Path]) -> None:
    entry = CATALOGUE["ltx-2b-0.9.6-distilled"]
    (tmp_path / entry.file).touch()
    assert open_model(tmp_path / entry.file).settings == entry.settings


def test_file_with_another_name_has_those_of_its_size(tmp_path: Path, opened: list[Path]) -> None:
    (tmp_path / "mine.safetensors").touch()
    settings = open_model(tmp_path / "mine.safetensors").settings
    assert (settings.steps, settings.guidance) == (30, 3.0)
    assert (settings.frames, settings.longest) == (97, 257)
    assert "not known" in settings.licence


def test_the_demo_model_s_windows_are_as_long_as_its_settings_say() -> None:
    assert (open_model("demo").settings.frames, open_model("demo").settings.longest) == (33, None)


@pytest.mark.parametrize(("given", "longest"), [({}, None), ({"longest": 33}, 33)])
def test_a_model_with_its_own_frames_says_how_long_windows_may_be(
    tmp_path: Path, given: dict[str, int], longest: int | None
) -> None:
    assert open_model(write_tiny_model(tmp_path / "own", **given)).settings.longest == longest


def test_hub_id_in_the_cache(offline: Path, tiny: Path) -> None:
    snapshot = put_in_cache(offline, "someone/little-ltx", {"x": b""})
    shutil.copytree(tiny, snapshot, dirs_exist_ok=True)
    model = open_model("someone/little-ltx")
    assert (model.name, model.path) == ("someone/little-ltx", snapshot)


def test_hub_id_not_in_the_cache() -> None:
    with pytest.raises(InputError, match="neither a path nor in the hub's cache: fetch it with `hf download some/one`"):
        open_model("some/one")


@pytest.mark.parametrize("name", ["ltx-2b", "missing.safetensors", "a/b/c", "no/where.safetensors", ""])
def test_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(InputError, match=r"demo, ltx-2b-0\.9\.5") if name else pytest.raises(InputError):
        open_model(name)


def test_demo_missing_from_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "demo_folder", lambda: tmp_path)
    with pytest.raises(InputError, match="demo model is missing"):
        open_model("demo")


def test_transformer_and_vae_that_do_not_belong_together(tmp_path: Path) -> None:
    from diffusers import LTXVideoTransformer3DModel

    from tiny_model import tiny_transformer_config

    folder = write_tiny_model(tmp_path)
    LTXVideoTransformer3DModel(**tiny_transformer_config(channels=6)).save_pretrained(folder / "transformer")
    with pytest.raises(InputError, match="VAE makes 8 channels, but the transformer takes 6"):
        open_model(folder)


def test_unknown_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown settings: stepz"):
        open_model(write_tiny_model(tmp_path, stepz=3))


def test_text_encoder_missing_says_size_and_ways(opened: list[Path], offline: Path) -> None:
    from layerlift.engine.device import choose_policy

    put_in_cache(offline, HUB_REPO, {CATALOGUE["ltx-2b-0.9.5"].file: b""})
    model = open_model(None)
    with pytest.raises(InputError, match=r"19\.1 GB.*layerlift download text-encoder.*--text-encoder PATH"):
        model.check_prompts(["Empty"], choose_policy("cpu"))


def test_given_text_encoder_must_hold_both_folders(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must contain the folders text_encoder and tokenizer"):
        open_model(tiny, text_encoder=tmp_path)


def test_find_text_encoder_wants_every_shard(offline: Path) -> None:
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    there = dict.fromkeys(hub.TEXT_FILES, b"") | {hub.TEXT_INDEX: index, "text_encoder/model-1.safetensors": b""}
    snapshot = put_in_cache(offline, HUB_REPO, there)
    assert hub.find_text_encoder() is None
    put_in_cache(offline, HUB_REPO, {"text_encoder/model-2.safetensors": b""})
    assert hub.find_text_encoder() == snapshot


def test_a_window_shorter_than_one_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frames is 2, which is shorter than one token of this model"):
        open_model(write_tiny_model(tmp_path / "own", frames=2))
