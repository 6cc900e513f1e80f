"""The table of models: what it says is what was published, and every row can be sampled."""

import pytest

from layerlift.engine.model.catalogue import CATALOGUE, DEFAULT, by_file, names
from layerlift.engine.model.settings import Settings
from layerlift.errors import InputError


def test_default_for_real_work() -> None:
    assert DEFAULT.name == next(iter(CATALOGUE)) == "ltx-2b-0.9.5"
    settings = DEFAULT.settings
    assert (settings.steps, settings.guidance, settings.size, settings.frames) == (30, 3.0, (704, 480), 97)
    assert (settings.decode_timestep, settings.decode_noise) == (0.05, 0.025)


def test_distilled() -> None:
    early = CATALOGUE["ltx-2b-0.9.6-distilled"].settings
    assert (early.steps, early.guidance, early.stochastic, early.sigmas) == (8, 1.0, True, None)
    for name in ("ltx-2b-0.9.8-distilled", "ltx-13b-0.9.8-distilled"):
        late = CATALOGUE[name].settings
        assert late.sigmas == (1.0, 0.9937, 0.9875, 0.9812, 0.9750, 0.9094, 0.7250)
        assert (late.steps, late.guidance, late.stochastic) == (7, 1.0, False)


@pytest.mark.parametrize("name", CATALOGUE)
def test_rows_are_whole(name: str) -> None:
    entry = CATALOGUE[name]
    assert entry.file.endswith(".safetensors")
    assert "fp8" not in entry.file
    assert entry.settings.licence
    assert entry.gigabytes > 5
    width, height = entry.settings.size
    assert width % 32 == height % 32 == 0
    assert entry.settings.frames % 8 == 1
    if entry.settings.sigmas is not None:
        assert len(entry.settings.sigmas) == entry.settings.steps
        assert list(entry.settings.sigmas) == sorted(entry.settings.sigmas, reverse=True)
        assert entry.settings.sigmas[-1] > 0
    assert by_file(entry.file) is entry
    assert name in names()


def test_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CATALOGUE["x"] = DEFAULT  # type: ignore[index]


WHOLE = {"steps": 4, "guidance": 2.0, "size": [288, 192], "frames": 17, "rate": 12, "licence": "Apache-2.0"}


def test_settings_from_json() -> None:
    settings = Settings.from_json({**WHOLE, "sigmas": [1, 0.5]}, "here")
    assert settings.sigmas == (1.0, 0.5)
    assert settings.size == (288, 192)
    assert Settings.from_json({**WHOLE, "sigmas": None}, "here").sigmas is None


@pytest.mark.parametrize("lacking", WHOLE)
def test_incomplete_settings(lacking: str) -> None:
    with pytest.raises(InputError, match=rf"the settings of here cannot be used: .*{lacking}"):
        Settings.from_json({key: value for key, value in WHOLE.items() if key != lacking}, "here")


@pytest.mark.parametrize("change", [{"size": 5}, {"size": [1, 2, 3]}, {"sigmas": ["a"]}])
def test_malformed_settings(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="the settings of here cannot be used"):
        Settings.from_json({**WHOLE, **change}, "here")
