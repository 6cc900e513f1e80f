"""`download` fetches what a model needs, tells how far it is, and says what went wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from layerlift.engine.model import hub
from layerlift.engine.model.catalogue import CATALOGUE, HUB_REPO
from layerlift.errors import InputError

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


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(InputError, match=r"could not be fetched from Lightricks/LTX-Video .*no route to host"):
        hub.download("ltx-2b-0.9.5")
