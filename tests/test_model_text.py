"""Prompts to embeddings: the right one, once, or an error."""

import errno
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from layerlift.cache import cache_folder
from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, open_model, t5, text
from layerlift.engine.model.text import TextEmbedding
from layerlift.errors import InputError
from support import left_by_a_killed_run
from tiny_model import PROMPTS, write_encoder, write_tiny_model

CPU = choose_policy("cpu")
REAL_TOKENIZER = Path(__file__).parents[2] / "shared" / "ltx" / "t5-tokenizer"
WIDTH = 16


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("t5"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERLIFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer that needs no file: one token a letter."""
    monkeypatch.setattr(
        t5, "load_tokenizer", lambda folder: lambda prompt: [2 + ord(letter) % 200 for letter in prompt]
    )


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, letters: None) -> list[Path]:
    """Every time the encoder's weights are read."""
    seen: list[Path] = []
    real: Callable[[Path], object] = t5.open_encoder

    def watched(folder: Path) -> object:
        seen.append(folder)
        return real(folder)

    monkeypatch.setattr(t5, "open_encoder", watched)
    return seen


@pytest.fixture
def model(tiny: Path, encoder: Path) -> Model:
    return open_model(tiny, text_encoder=encoder)


# --- ready embeddings ------------------------------------------------------------------------------------------------


def test_ready_embedding_is_that_of_the_prompt(tiny: Path) -> None:
    stored = load_file(tiny / "text.safetensors")
    model = open_model(tiny)
    assert model.known_prompts == PROMPTS
    for prompt, embedding in zip(reversed(PROMPTS), model.text(list(reversed(PROMPTS)), CPU), strict=True):
        torch.testing.assert_close(embedding.embeds[0], stored["embeds"][PROMPTS.index(prompt)])
        assert embedding.mask.dtype == torch.bool
        assert embedding.mask.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("prompt", ["empty", "Empty ", "a cat"])
def test_another_prompt_lists_the_known(tiny: Path, prompt: str) -> None:
    model = open_model(tiny)
    for ask in (model.text, model.check_prompts):
        with pytest.raises(InputError, match=r"does not know the prompt.*use one of 'Empty', ''"):
            ask(["Empty", prompt], CPU)


def test_ready_embeddings_that_do_not_fit(tiny: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny, tmp_path / "broken"))
    text.save_ready_text(broken / "text.safetensors", ["Empty"], torch.zeros(1, 4, 5), torch.ones(1, 4))
    with pytest.raises(InputError, match=r"does not fit its model: embeds \[1, 4, 5\]"):
        open_model(broken)
    save_file({"x": torch.zeros(1)}, broken / "text.safetensors")
    with pytest.raises(InputError, match="holds no text embeddings"):
        open_model(broken)


@pytest.mark.parametrize(
    ("prompts", "change", "said"),
    [
        ("null", {}, "holds no text embeddings with their prompts"),
        ("[" * 10**5, {}, "holds no text embeddings with their prompts"),
        ('["Empty", 1]', {}, "holds no text embeddings with their prompts"),
        ('["Empty"]', {"embeds": torch.zeros(1, 4, WIDTH, dtype=torch.int32)}, "does not fit its model"),
        ("[]", {}, "does not fit its model"),
        ('["Empty"]', {"mask": torch.zeros(1, 4)}, "no usable text embedding for 'Empty'"),
        ('["Empty"]', {"embeds": torch.full((1, 4, WIDTH), torch.nan)}, "no usable text embedding for 'Empty'"),
    ],
)
def test_hostile_ready_embeddings(tmp_path: Path, prompts: str, change: dict, said: str) -> None:
    tensors = {"embeds": torch.zeros(1, 4, WIDTH), "mask": torch.ones(1, 4), **change}
    save_file(tensors, tmp_path / "text.safetensors", {"prompts": prompts})
    with pytest.raises(InputError, match=said):
        text.ReadyText(tmp_path / "text.safetensors", WIDTH).embed(["Empty"], CPU, cache=False)


def test_embedding_without_a_token() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        TextEmbedding(torch.zeros(1, 4, 8), torch.zeros(1, 4, dtype=torch.bool))


# --- T5 and its cache ------------------------------------------------------------------------------------------------


def test_embeddings_are_those_of_transformers(encoder: Path, model: Model, letters: None) -> None:
    from transformers import T5EncoderModel

    policy = replace(CPU, text_dtype="float32", cache_dtype="float32")
    (found,) = model.text(["hello"], policy)
    assert found.embeds.shape == (1, 256, WIDTH)
    assert found.mask.sum() == len("hello") + 1
    theirs = T5EncoderModel.from_pretrained(encoder / "text_encoder").eval()
    ids = torch.tensor([[2 + ord(letter) % 200 for letter in "hello"] + [1] + [0] * 250])
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
    torch.testing.assert_close(found.embeds, expected)


def test_hit_reads_no_weight_and_gives_the_same_bits(model: Model, loads: list[Path]) -> None:
    first = model.text(["a", "b"], CPU)
    assert len(loads) == 1
    again = model.text(["b", "a", "b"], CPU)
    assert len(loads) == 1
    for embedding, index in zip(again, (1, 0, 1), strict=True):
        assert torch.equal(embedding.embeds, first[index].embeds)
        assert torch.equal(embedding.mask, first[index].mask)
    assert not torch.equal(first[0].embeds, first[1].embeds)


def test_only_the_missing_are_made(model: Model, loads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model.text(["a"], CPU)
    asked: list[list[str]] = []
    real = t5.embed
    monkeypatch.setattr(
        t5, "embed", lambda folder, prompts, *rest, **run: asked.append(prompts) or real(folder, prompts, *rest, **run)
    )
    model.text(["a", "b", "c", "b"], CPU)
    assert asked == [["b", "c"]]


def test_no_cache_neither_reads_nor_writes(model: Model, loads: list[Path], cache: Path) -> None:
    model.text(["a"], CPU, cache=False)
    assert not cache.exists()
    model.text(["a"], CPU)
    model.text(["a"], CPU, cache=False)
    assert len(loads) == 3
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("change", [{"text_dtype": "float32"}, {"cache_dtype": "float32"}])
def test_another_dtype_is_another_embedding(model: Model, loads: list[Path], change: dict[str, str]) -> None:
    model.text(["a"], CPU)
    model.text(["a"], replace(CPU, **change))
    assert len(loads) == 2


def test_another_length_is_another_embedding(model: Model, loads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model.text(["a"], CPU)
    monkeypatch.setattr(text, "TEXT_LENGTH", 8)
    assert model.text(["a"], CPU)[0].mask.shape == (1, 8)
    assert len(loads) == 2


def test_another_encoder_is_another_embedding(tiny: Path, model: Model, loads: list[Path], tmp_path: Path) -> None:
    (first,) = model.text(["a"], CPU)
    other = open_model(tiny, text_encoder=write_encoder(tmp_path / "other", seed=1))
    (second,) = other.text(["a"], CPU)
    assert len(loads) == 2
    assert not torch.equal(first.embeds, second.embeds)


def test_file_of_another_prompt_is_not_answered_with(model: Model, loads: list[Path], cache: Path) -> None:
    (a,) = model.text(["a"], CPU)
    (file,) = cache.iterdir()
    (b,) = model.text(["b"], CPU)
    (other,) = set(cache.iterdir()) - {file}
    shutil.copy(other, file)  # as if two names had collided
    (again,) = model.text(["a"], CPU)
    assert torch.equal(again.embeds, a.embeds)
    assert not torch.equal(again.embeds, b.embeds)


@pytest.mark.parametrize("content", [b"", b"garbage that is long enough", None])
def test_damaged_cache_file_is_made_again(model: Model, loads: list[Path], cache: Path, content: bytes | None) -> None:
    (first,) = model.text(["a"], CPU)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-10] if content is None else content)
    with pytest.warns(text.CacheWarning, match=r"is not used: .*safetensors is damaged\.$"):
        (again,) = model.text(["a"], CPU)
    assert torch.equal(again.embeds, first.embeds)
    assert len(loads) == 2
    model.text(["a"], CPU)
    assert len(loads) == 2


def test_nothing_half_written_stays(model: Model, letters: None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def fail(tensors: object, name: str, **_: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.warns(text.CacheWarning, match=r"safetensors cannot be written: disk full\.$"):
        assert model.text(["a"], CPU)
    assert list(cache.iterdir()) == []


def cannot_be_written(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the cache should be")


def full(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("/dev/full")


@pytest.mark.parametrize("harm", [cannot_be_written, full])
def test_a_cache_that_cannot_be_used_costs_time_alone(
    model: Model, letters: None, cache: Path, harm: Callable[[Path], None]
) -> None:
    (plain,) = model.text(["a"], CPU, cache=False)
    harm(cache)
    with pytest.warns(text.CacheWarning, match="The cache of prompts is not used"):
        (found,) = model.text(["a"], CPU)
    assert torch.equal(found.embeds, plain.embeds)


def test_another_user_s_file_in_the_cache_is_a_miss(
    model: Model, letters: None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors

    (plain,) = model.text(["a"], CPU)
    real = safetensors.safe_open

    def refused(path: Path, *rest: object, **more: object) -> object:
        if cache in Path(path).parents:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest, **more)

    monkeypatch.setattr(safetensors, "safe_open", refused)
    with pytest.warns(text.CacheWarning, match=r"safetensors cannot be read: permission denied\.$"):
        (found,) = model.text(["a"], CPU)
    assert torch.equal(found.embeds, plain.embeds)


@pytest.mark.parametrize("shape", [(1, 256, 8), (1, 8, WIDTH), (256, WIDTH)])
def test_a_cached_embedding_of_another_shape_is_a_miss(
    model: Model, letters: None, cache: Path, shape: tuple[int, ...]
) -> None:
    (plain,) = model.text(["a"], CPU)
    (file,) = cache.iterdir()
    tensors = {"embeds": torch.zeros(shape), "mask": torch.ones(shape[:-1], dtype=torch.uint8)}
    save_file(tensors, file, metadata={"prompt": "a"})
    with pytest.warns(text.CacheWarning, match="is not used"):
        (found,) = model.text(["a"], CPU)
    assert torch.equal(found.embeds, plain.embeds)


def test_a_prompt_that_is_no_text(model: Model, loads: list[Path]) -> None:
    with pytest.raises(InputError, match=r"the prompt 'a \\udcff' is no text: type it in UTF-8\."):
        model.check_prompts(["a \udcff"], CPU)


def test_a_cached_embedding_without_its_mask_is_a_miss(cache: Path) -> None:
    path = cache / "a.safetensors"
    cache.mkdir(parents=True, exist_ok=True)
    save_file({"embeds": torch.ones(1, 8, WIDTH)}, path, metadata={"prompt": "a"})
    with pytest.warns(text.CacheWarning, match=r"a\.safetensors is damaged\.$"):
        assert text.read_cached(path, "a", WIDTH) is None


def test_what_a_killed_run_left_in_the_cache_goes(model: Model, letters: None, cache: Path) -> None:
    model.text(["a"], CPU)
    (file,) = cache.iterdir()
    file.unlink()
    left = left_by_a_killed_run(file)
    left.write_bytes(b"half")
    model.text(["a"], CPU)
    assert list(cache.iterdir()) == [file]


def test_encoder_of_another_width(tiny: Path, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "wide", width=24)
    with pytest.raises(InputError, match=r"t5 of width 24.*T5 of width 16"):
        open_model(tiny, text_encoder=folder)


def test_encoder_with_a_missing_tensor(tiny: Path, letters: None, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "t5")
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, file)
    with pytest.raises(InputError, match=r"text encoder in .* 1 missing \(encoder.final_layer_norm.weight\)"):
        open_model(tiny, text_encoder=folder).text(["a"], CPU)


def test_encoder_without_a_tokenizer(tiny: Path, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "t5")
    (folder / "tokenizer" / "spiece.model").unlink()
    with pytest.raises(InputError, match=r"neither spiece\.model nor tokenizer\.json"):
        open_model(tiny, text_encoder=folder)


@pytest.mark.parametrize(
    ("name", "content"), [("spiece.model", b"nonsense"), ("spiece.model", b""), ("tokenizer.json", b'{"version": 1}')]
)
def test_damaged_tokenizer(encoder: Path, tmp_path: Path, name: str, content: bytes) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "t5"))
    (folder / "tokenizer" / "spiece.model").unlink()
    (folder / "tokenizer" / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is damaged"):
        t5.embed(folder, ["Empty"], 8, CPU)


def test_tokens_that_the_encoder_does_not_know(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t5, "load_tokenizer", lambda folder: lambda prompt: [300])
    with pytest.raises(InputError, match="makes token 300, but the text encoder beside it knows 300"):
        t5.embed(encoder, ["Empty"], 8, CPU)


@pytest.mark.parametrize(
    ("name", "value"), [("num_layers", 10**6), ("vocab_size", -1), ("d_kv", None), ("feed_forward_proj", "x")]
)
def test_encoder_config_has_types_and_ranges(encoder: Path, tmp_path: Path, name: str, value: object) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "t5"))
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    (folder / "text_encoder" / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(InputError, match=rf"config\.json cannot be used: {name} is "):
        t5.check_encoder(folder, WIDTH)


def test_long_prompt_is_cut_and_ends() -> None:
    ids, mask = t5.tokenize(lambda prompt: list(range(2, 12)), "x", 6)
    assert ids.tolist() == [[2, 3, 4, 5, 6, 1]]
    assert mask.all()
    ids, mask = t5.tokenize(lambda prompt: [], "", 3)
    assert ids.tolist() == [[1, 0, 0]]
    assert mask.tolist() == [[True, False, False]]


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LAYERLIFT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder("text") == tmp_path / ".cache" / "layerlift" / "text"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("text") == tmp_path / "xdg" / "layerlift" / "text"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder("text") == tmp_path / "Library" / "Caches" / "layerlift" / "text"


# --- the real tokenizer ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL_TOKENIZER.is_dir(), reason="the T5 tokenizer's files are not here")
def test_real_tokenizer() -> None:
    ids, mask = t5.tokenize(t5.load_tokenizer(REAL_TOKENIZER), "Empty", 256)
    assert ids.shape == mask.shape == (1, 256)
    assert ids[0, :5].tolist() == [19294, 17, 63, 1, 0]
    assert mask.sum() == 4
    empty, mask = t5.tokenize(t5.load_tokenizer(REAL_TOKENIZER), "", 256)
    assert empty[0, :2].tolist() == [1, 0]
    assert mask.sum() == 1


@pytest.mark.skipif(not REAL_TOKENIZER.is_dir(), reason="the T5 tokenizer's files are not here")
@pytest.mark.parametrize("prompt", ["Empty", "", "  two  spaces\nnew line é", "ﬁne ½ 中文 🙂", "word " * 300])
def test_same_tokens_as_transformers(prompt: str) -> None:
    pytest.importorskip("google.protobuf", reason="what transformers reads spiece.model with")
    from transformers import T5Tokenizer

    theirs = T5Tokenizer.from_pretrained(REAL_TOKENIZER)(
        prompt, max_length=256, padding="max_length", truncation=True, return_tensors="pt"
    )
    ids, mask = t5.tokenize(t5.load_tokenizer(REAL_TOKENIZER), prompt, 256)
    assert torch.equal(ids, theirs.input_ids)
    assert torch.equal(mask, theirs.attention_mask.bool())


@pytest.mark.skipif(not REAL_TOKENIZER.is_dir(), reason="the T5 tokenizer's files are not here")
def test_whole_way_with_the_real_tokenizer(tiny: Path, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "t5", vocabulary=32128)
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(REAL_TOKENIZER, folder / "tokenizer")
    model = open_model(tiny, text_encoder=folder)
    model.check_prompts(["Empty"], CPU)
    (found,) = model.text(["Empty"], CPU)
    assert found.embeds.shape == (1, 256, WIDTH)
    assert torch.isfinite(found.embeds).all()
    assert found.mask.sum() == 4
