"""The random order of `tools/odd_place.py`: every test once, a file's together, and the same for the same seed."""

import importlib.util
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def shuffled() -> Any:
    spec = importlib.util.spec_from_file_location("shuffled", Path(__file__).parents[1] / "tools" / "shuffled.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_are_shuffled_and_the_tests_of_each(shuffled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [SimpleNamespace(path=file, number=number) for file in "abcdefgh" for number in range(8)]

    def order(seed: int) -> list[SimpleNamespace]:
        monkeypatch.setenv("ODD_SEED", str(seed))
        items = [*tests]
        shuffled.pytest_collection_modifyitems(items)
        return items

    assert order(1) == order(1)
    assert order(1) != order(2)
    files = [[*those] for _, those in groupby(order(1), key=lambda test: test.path)]
    assert sorted(those[0].path for those in files) == [*"abcdefgh"], "a file's tests stay together"
    assert [those[0].path for those in files] != [*"abcdefgh"]
    for those in files:
        assert sorted(test.number for test in those) == [*range(8)]
        assert [test.number for test in those] != [*range(8)]
