"""`download` fetches what a model needs, tells how far it is, and says what went wrong."""

import errno
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from hub_server import hub as server
from layerlift.engine.model import hub
from layerlift.engine.model.catalogue import CATALOGUE, HUB_REPO
from layerlift.errors import InputError, LayerliftError

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stands in for the hub: every file it was asked for, each of 100 bytes in two parts."""
    requests: list[tuple[str, str]] = []

    def fetch(repo: str, file: str, *, tqdm_class: Callable[..., Any]) -> str:
        requests.append((repo, file))
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[0]}}))
        # as huggingface_hub itself does
        with tqdm_class(total=100, unit="B", unit_scale=True, initial=0, desc=file, disable=True, name="hf") as bar:
            bar.update(40)
            bar.update(60)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return requests


def test_model_and_its_text_encoder(asked: list[tuple[str, str]]) -> None:
    paths = hub.download("ltx-2b-0.9.5")
    wanted = {
        CATALOGUE["ltx-2b-0.9.5"].file,
        hub.TEXT_INDEX,
        *hub.TEXT_FILES,
        *(f"text_encoder/{shard}" for shard in SHARDS),
    }
    assert {file for _, file in asked} == wanted
    assert len(asked) == len(wanted)
    assert {repo for repo, _ in asked} == {HUB_REPO}
    assert all(path.is_file() for path in paths)


def test_text_encoder_alone(asked: list[tuple[str, str]]) -> None:
    hub.download("text-encoder")
    assert not any("ltx" in file for _, file in asked)
    assert len(asked) == 1 + len(hub.TEXT_FILES) + len(SHARDS)


def test_progress(asked: list[tuple[str, str]], capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, int, int]] = []
    hub.download("ltx-2b-0.9.5", lambda *report: told.append(report))
    file = CATALOGUE["ltx-2b-0.9.5"].file
    assert [report for report in told if report[0] == file] == [(file, done, 100) for done in (0, 40, 100)]
    assert capfd.readouterr() == ("", "")


def test_unknown_name(asked: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match=r"unknown model 'sdxl': choose one of ltx-2b-0.9.5.*text-encoder"):
        hub.download("sdxl")
    assert not asked


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ConnectionError("no route\n\nto host."), r"\(ConnectionError: no route to host\); check the network"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space left on device; free some space, or set HF_HOME"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "denied; set HF_HOME to a folder you can write to"),
    ],
)
def test_what_went_wrong_is_said_in_one_line(raised: OSError, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise raised

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(LayerliftError, match=rf"could not be fetched from Lightricks/LTX-Video.*{said}") as error:
        hub.download("ltx-2b-0.9.5")
    # The network is looked after by the user, the disk is not what was typed.
    assert isinstance(error.value, InputError) == isinstance(raised, ConnectionError)


def test_a_file_that_the_hub_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with server({}) as empty:
        monkeypatch.setattr(
            huggingface_hub,
            "hf_hub_download",
            partial(huggingface_hub.hf_hub_download, endpoint=empty.address, cache_dir=tmp_path),
        )
        with pytest.raises(InputError, match="the hub has no such file; update layerlift"):
            hub.download("text-encoder")
