"""Embeddings that come with a release: made, fetched, checked, and used in place of an encoder."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from layerlift.app import machine
from layerlift.cache import cache_folder
from layerlift.clip import Clip, write_clip
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, hub, open_model, published, t5
from layerlift.engine.model.catalogue import DEFAULT
from layerlift.engine.model.headers import read_header
from layerlift.engine.model.published import PROMPTS, PublishedText, find_published
from layerlift.engine.model.text import CacheWarning
from layerlift.errors import InputError
from layerlift.options import EffectOptions, RemovalOptions
from layerlift.runtime import Runtime
from layerlift.stages.choose_model import OPEN, choose_model
from layerlift.stages.composition import latent
from support import layerlift
from tiny_model import write_encoder, write_tiny_model

CPU = choose_policy("cpu")
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """None in the hub's cache, and a tokenizer that needs no file: one token a letter."""
    monkeypatch.setattr(hub, "find_text_encoder", lambda: None)
    monkeypatch.setattr(
        t5, "load_tokenizer", lambda folder: lambda prompt: [2 + ord(letter) % 200 for letter in prompt]
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder without embeddings of its own."""
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    (folder / "text.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """What the release workflow makes."""
    spec = importlib.util.spec_from_file_location("make_prompts", ROOT / "tools" / "make_prompts.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    path = tmp_path_factory.mktemp("release") / "prompts.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(t5, "load_tokenizer", lambda folder: lambda prompt: [2 + ord(letter) % 200 for letter in prompt])
        tool.main([str(path), str(encoder)])
    return path


@pytest.fixture
def there(made: Path, cache: Path) -> Path:
    """The file in its place on this machine."""
    published.place().parent.mkdir(parents=True)
    return Path(shutil.copy(made, published.place()))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every time an encoder's weights are read."""
    seen: list[Path] = []
    real: Callable[[Path], object] = t5.open_encoder
    monkeypatch.setattr(t5, "open_encoder", lambda folder: (seen.append(folder), real(folder))[1])
    return seen


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_the_file_says_what_it_is(made: Path, encoder: Path) -> None:
    file = PublishedText(made)
    assert file.prompts == PROMPTS == ("Empty", "worst quality, inconsistent motion, blurry, jittery, distorted", "")
    assert (file.width, file.encoder) == (16, t5.encoder_identity(encoder))
    assert file.fits(CPU)
    assert not file.fits(replace(CPU, text_dtype="float32"))
    assert not file.fits(replace(CPU, cache_dtype="float32"))
    about = json.loads(read_header(made)[1]["layerlift"])
    assert about["format"] == "layerlift prompts 1"
    assert len({row["embedding_sha256"] for row in about["prompts"]}) == 3


def test_every_prompt_that_nobody_typed_is_in_it() -> None:
    removal = RemovalOptions()
    assert {removal.prompt, removal.negative_prompt, latent.PROMPT} <= set(PROMPTS)
    assert EffectOptions().prompt is None  # then it is the model's `scoring_prompt`, see below


def test_it_has_what_the_encoder_makes_bit_by_bit(bare: Path, encoder: Path, made: Path) -> None:
    theirs = open_model(bare, text_encoder=encoder).text(PROMPTS, CPU, cache=False)
    ours = PublishedText(made).read(PROMPTS)
    for prompt, one in zip(PROMPTS, theirs, strict=True):
        assert torch.equal(ours[prompt].embeds, one.embeds)
        assert torch.equal(ours[prompt].mask, one.mask)


def rewritten(made: Path, path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The file with its metadata (a dict) and tensors changed."""
    tensors, about = load_file(made), json.loads(read_header(made)[1]["layerlift"])
    change(about, tensors)
    save_file(tensors, path, {"layerlift": json.dumps(about)})
    return path


Change = Callable[[dict[str, Any], dict[str, Any]], None]
HOSTILE: list[tuple[Change, str]] = [
    (lambda about, tensors: about.clear(), "does not say what it holds"),
    (lambda about, tensors: about.update(more=1), "does not say what it holds"),
    (lambda about, tensors: about.update(encoder="../../x"), "does not say what it holds"),
    (lambda about, tensors: about.update(prompts=[]), "does not say what it holds"),
    (lambda about, tensors: about.update(prompts=about["prompts"] * 20), "does not say what it holds"),
    (lambda about, tensors: about["prompts"][0].update(prompt=7), "does not say what it holds"),
    (lambda about, tensors: about.update(format="layerlift prompts 2"), "its format is 'layerlift prompts 2'"),
    (lambda about, tensors: about["prompts"][0].update(prompt="a bomb"), "a prompt is not the one it was made for"),
    (lambda about, tensors: about["prompts"].pop(), r"embeds \[3, 256, 16\] and mask \[3, 256\] for 2 prompts"),
    (lambda about, tensors: tensors.update(more=torch.zeros(1)), "for 3 prompts"),
    (lambda about, tensors: tensors.update(embeds=tensors["embeds"].float()), "for 3 prompts"),
    (lambda about, tensors: tensors.update(embeds=tensors["embeds"][:, :8].clone()), r"embeds \[3, 8, 16\]"),
    (lambda about, tensors: tensors.update(embeds=tensors["embeds"].flatten(1)), r"embeds \[3, 4096\]"),
    (lambda about, tensors: tensors.update(mask=tensors["mask"][:, :8].clone()), r"mask \[3, 8\]"),
    (lambda about, tensors: tensors["embeds"][0, 0].neg_(), "the embedding of 'Empty' is not the one it was made with"),
    (lambda about, tensors: tensors["mask"][0].fill_(1), "the embedding of 'Empty' is not the one it was made with"),
]


@pytest.mark.parametrize(("change", "said"), HOSTILE)
def test_hostile_files(made: Path, tmp_path: Path, change: Change, said: str) -> None:
    path = rewritten(made, tmp_path / "x.safetensors", change)
    with pytest.raises(InputError, match=said):
        PublishedText(path).read(PROMPTS)


def test_hashes_do_not_make_numbers_of_what_is_none(made: Path, tmp_path: Path) -> None:
    """Whoever made the file can hash nonsense, too."""

    def change(about: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors["embeds"][0] = torch.nan
        about["prompts"][0]["embedding_sha256"] = published._digest(tensors["embeds"][:1], tensors["mask"][:1])

    with pytest.raises(InputError, match="has numbers that are none"):
        PublishedText(rewritten(made, tmp_path / "x.safetensors", change)).read(["Empty"])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(99), b"\xff" * 99, b"[" * 10**5, None])
def test_what_is_no_such_file(made: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(made.read_bytes()[:-1] if content is None else content)
    with pytest.raises(InputError):
        PublishedText(path)


def test_a_file_that_is_too_large_is_not_read(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LARGEST_FILE", 1000)
    with pytest.raises(InputError, match=f"it has {made.stat().st_size} bytes"):
        PublishedText(made)


# --- in place of an encoder ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_without_an_encoder_runs_with_it(bare: Path, there: Path, tmp_path: Path) -> None:
    model = open_model(bare)
    assert model.known_prompts == PROMPTS
    assert model.scoring_prompt() == ""
    model.check_prompts(PROMPTS, CPU)
    assert model.facts(PROMPTS, CPU).text_block is None  # no encoder to plan for
    frames = np.full((9, 48, 64, 3), 90, np.uint8)
    frames[:, :, ::2] = 200
    write_clip(tmp_path / "a.mp4", frames, Clip.from_array(frames))
    mask = np.zeros((48, 64), np.uint8)
    mask[16:32, 16:32] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    line = ("remove", tmp_path / "a.mp4", "--mask", tmp_path / "mask.png", "--model", bare, "--evidence", "off")
    assert layerlift(*line, "-o", tmp_path / "b.mp4", "--device", "cpu") == 0
    assert layerlift(*line, "-o", tmp_path / "c.mp4", "--device", "cpu", "--no-cache") == 0


def test_another_prompt_says_what_to_do(bare: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(bare)
    for ask in (model.text, model.check_prompts):
        with pytest.raises(InputError) as caught:
            ask(["Empty", "a dog"], CPU)
        said = str(caught.value)
        assert said.startswith("the prompt 'a dog' needs the text encoder, because only 'Empty', 'worst quality, ")
        assert said.endswith("run `layerlift download text-encoder`, or give --text-encoder PATH.")
    model._text._name = "ltx-2b-0.9.5"  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"run `layerlift download ltx-2b-0\.9\.5 --with-text-encoder`, or give"):
        model.text(["a dog"], CPU)


def test_without_either_all_is_as_before(bare: Path) -> None:
    model = open_model(bare)
    assert model.known_prompts is None
    with pytest.raises(InputError, match=r"text encoder of LTX-Video is not on this machine \(19.1 GB\)"):
        model.check_prompts(["Empty"], CPU)


def test_a_damaged_file_is_as_none(bare: Path, there: Path) -> None:
    there.write_bytes(there.read_bytes()[:-1])
    with (
        pytest.warns(CacheWarning, match="is truncated"),
        pytest.raises(InputError, match="text encoder of LTX-Video is not on this machine"),
    ):
        open_model(bare).check_prompts(["Empty"], CPU)


def test_embeddings_of_another_width_are_another_model_s(bare: Path, made: Path, there: Path) -> None:
    def change(about: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors["embeds"] = tensors["embeds"].repeat(1, 1, 2)

    rewritten(made, there, change)
    assert find_published() is not None
    assert find_published(16) is None
    with pytest.raises(InputError, match="text encoder of LTX-Video is not on this machine"):
        open_model(bare).check_prompts(["Empty"], CPU)


def test_with_its_encoder_they_are_hits(bare: Path, encoder: Path, there: Path, loads: list[Path]) -> None:
    model = open_model(bare, text_encoder=encoder)
    assert model.known_prompts is None
    hits = model.text(["Empty", "", "Empty"], CPU)
    assert loads == []
    assert not cache_folder("text").exists()
    assert model.facts(["Empty"], CPU).text_block is None
    assert model.facts(["Empty", "a"], CPU).text_block is not None
    a, empty = model.text(["a", "Empty"], CPU)
    assert len(loads) == 1
    assert torch.equal(empty.embeds, hits[0].embeds)
    assert len(list(cache_folder("text").iterdir())) == 1  # of the one that was made
    assert not torch.equal(a.embeds, empty.embeds)
    # Who wants no cache wants them made.
    (again,) = model.text(["Empty"], CPU, cache=False)
    assert len(loads) == 2
    assert torch.equal(again.embeds, empty.embeds)


def test_another_encoder_makes_its_own(bare: Path, there: Path, loads: list[Path], tmp_path: Path) -> None:
    other: Model = open_model(bare, text_encoder=write_encoder(tmp_path / "other", seed=1))
    (found,) = other.text(["Empty"], CPU)
    assert len(loads) == 1
    assert not torch.equal(found.embeds, PublishedText(there).read(["Empty"])["Empty"].embeds)


def test_a_damaged_embedding_is_made_again(
    bare: Path, encoder: Path, made: Path, there: Path, loads: list[Path]
) -> None:
    rewritten(made, there, lambda about, tensors: tensors["embeds"][0, 0].neg_())
    with pytest.warns(CacheWarning, match="is not the one it was made with"):
        (found,) = open_model(bare, text_encoder=encoder).text(["Empty"], CPU)
    assert len(loads) == 1
    assert torch.equal(found.embeds, PublishedText(made).read(["Empty"])["Empty"].embeds)


# --- fetching --------------------------------------------------------------------------------------------------------


class Release:
    """A server on this machine: what it answers, and what it was asked for."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"")
        self.asked: list[str] = []
        release = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                release.asked.append(self.path)
                code, headers, body = release.answer
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/prompts.safetensors"


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Release()
    Thread(target=server.server.serve_forever, daemon=True).start()
    monkeypatch.setattr(published, "address", lambda: server.url)
    yield server
    server.server.shutdown()
    server.server.server_close()


def test_fetching(release: Release, made: Path) -> None:
    body = made.read_bytes()
    release.answer = (200, {"Content-Length": str(len(body))}, body)
    told: list[tuple[str, int, int]] = []
    path = published.fetch(release.url, lambda *report: told.append(report))
    assert path == published.place()
    assert path.read_bytes() == body
    assert told[-1] == ("prompts.safetensors", len(body), len(body))
    assert [file.name for file in path.parent.iterdir()] == ["prompts.safetensors"]
    assert published.fetch(release.url) == path
    assert release.asked == ["/v1/prompts.safetensors"]  # what is there is kept
    path.write_bytes(b"damaged")
    assert published.fetch(release.url) == path
    assert path.read_bytes() == body


@pytest.mark.parametrize(
    ("code", "headers", "body", "said"),
    [
        (500, {}, b"", r"could not be fetched from http://.*HTTPError.*--with-text-encoder"),
        (403, {}, b"", "could not be fetched"),
        (200, {}, b"<html>not found</html>", "is not a safetensors file"),
        (
            200,
            {"Content-Length": "99999"},
            b"half",
            r"ended after 4 of 99999 bytes; run the command again|IncompleteRead",
        ),
        (302, {"Location": "file:///etc/passwd"}, b"", "file:///etc/passwd' is not allowed"),
        (302, {"Location": "ftp://127.0.0.1/x"}, b"", r"leads to ftp://127.0.0.1/x, another kind of address"),
    ],
)
def test_what_goes_wrong_leaves_nothing(
    release: Release, code: int, headers: dict[str, str], body: bytes, said: str
) -> None:
    release.answer = (code, headers, body)
    with pytest.raises(InputError, match=said):
        published.fetch(release.url)
    assert list(published.place().parent.iterdir()) == []


def test_an_embedding_that_is_damaged_on_the_way_is_not_kept(release: Release, made: Path) -> None:
    body = bytearray(made.read_bytes())
    body[-1000] ^= 1
    release.answer = (200, {}, bytes(body))
    with pytest.raises(InputError, match="is not the one it was made with"):
        published.fetch(release.url)
    assert list(published.place().parent.iterdir()) == []


def test_more_than_a_file_can_have_is_not_taken(release: Release, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LARGEST_FILE", 1000)
    release.answer = (200, {}, made.read_bytes())
    with pytest.raises(InputError, match="has more than 1000 bytes"):
        published.fetch(release.url)


def test_no_network(release: Release) -> None:
    release.server.shutdown()
    release.server.server_close()
    with pytest.raises(InputError, match=r"could not be fetched from .*refused.*; check the network"):
        published.fetch(release.url)


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the hub was asked for, in place of the hub."""
    files: list[str] = []

    def fetch(repo: str, file: str, progress: object) -> Path:
        files.append(file)
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
        return path

    monkeypatch.setattr(hub, "_fetch", fetch)
    return files


def test_download_takes_them_in_place_of_the_encoder(
    release: Release, made: Path, fetched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    release.answer = (200, {}, made.read_bytes())
    assert layerlift("download", "ltx-2b-0.9.5") == 0
    assert fetched == ["ltx-video-2b-v0.9.5.safetensors"]
    assert published.place().is_file()
    assert "encoder" not in capsys.readouterr().err
    assert layerlift("doctor", "--device", "cpu") == 0
    assert f"ready prompts            {published.place()}\n" in capsys.readouterr().out
    assert layerlift("download", "ltx-2b-0.9.5", "--with-text-encoder") == 0
    assert hub.TEXT_INDEX in fetched
    assert len(release.asked) == 1


def test_a_release_without_them_is_said_in_a_line(
    release: Release, fetched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    release.answer = (404, {}, b"")
    assert layerlift("download", "ltx-2b-0.9.5") == 0
    assert hub.TEXT_INDEX in fetched
    said = capsys.readouterr().err
    assert f"This release has no ready embeddings ({release.url}): the text encoder is fetched (19.1 GB).\n" in said
    assert not published.place().exists()


def test_without_an_address_and_with_the_encoder_there_nobody_is_asked(
    release: Release, fetched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(hub, "find_text_encoder", lambda: tmp_path)
    hub.download("ltx-2b-0.9.5", say=said.append)
    monkeypatch.setattr(hub, "find_text_encoder", lambda: None)
    monkeypatch.setattr(published, "address", lambda: None)
    hub.download("ltx-2b-0.9.5", say=said.append)
    hub.download("text-encoder", say=said.append)
    assert fetched.count(hub.TEXT_INDEX) == 3
    assert (said, release.asked) == ([], [])


def test_what_is_still_to_be_fetched_is_told(release: Release, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To those who have no model, and by the page: no 19 GB for what a release brings or is here already."""
    monkeypatch.setattr(hub, "find_checkpoint", lambda entry: tmp if entry is DEFAULT else None)
    tmp = there.parent

    def told() -> tuple[str, int, bool]:
        token = OPEN.set(lambda name, encoder: None)
        try:
            (note,) = choose_model(Runtime(None))[1]
        finally:
            OPEN.reset(token)
        row = next(row for row in machine.models() if row.name == DEFAULT.name)
        return note.partition("run ")[2], row.bytes, row.installed

    way = "`layerlift download ltx-2b-0.9.5` (6.34 GB"
    assert told() == (f"{way}).", 6_340_000_000, True)  # ready embeddings are here
    there.unlink()
    encoder = f"{way}, and 19.1 GB for its text encoder"
    assert told() == (f"{encoder} unless this release has ready embeddings).", 6_340_000_000, False)
    monkeypatch.setattr(published, "address", lambda: None)
    assert told() == (f"{encoder}).", 25_440_000_000, False)
    monkeypatch.setattr(hub, "find_text_encoder", lambda: tmp)
    assert told() == (f"{way}).", 6_340_000_000, True)
    assert release.asked == []


# --- the address -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["Method, https://arxiv.org/abs/2503.18033", "Models, https://huggingface.co/Lightricks/LTX-Video"], None),
        (["Repository, https://github.com/some-one/layerlift"], "https://github.com/some-one/layerlift"),
        (["Docs, https://x.org", "Source Code, https://github.com/a/b.git"], "https://github.com/a/b"),
        (["homepage, https://github.com/a/b/"], "https://github.com/a/b"),
        (["Homepage, https://x.org", "Repository, https://github.com/a/b"], "https://github.com/a/b"),
        (["Repository, http://github.com/a/b"], None),
        (["Repository, https://github.com.evil.org/a/b"], None),
        (["Repository, https://github.com/a/b/../../c"], None),
        (["Repository, https://github.com/a"], None),
    ],
)
def test_address(monkeypatch: pytest.MonkeyPatch, lines: list[str], expected: str | None) -> None:
    about = Message()
    about["Version"] = "1.2.3"
    for line in lines:
        about["Project-URL"] = line
    monkeypatch.setattr(metadata, "metadata", lambda name: about)
    file = None if expected is None else f"{expected}/releases/download/v1.2.3/prompts.safetensors"
    assert published.address() == file


def test_a_package_without_metadata_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    assert published.address() is None
