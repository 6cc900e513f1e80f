"""A plugin of pytest that shuffles the tests, by the seed in ODD_SEED: files, and the tests of each file.

A file's tests stay together, because they share what is slow to make. See `odd_place.py`.
"""

import os
import random
from itertools import groupby

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every process of pytest-xdist gets the same order from the same seed."""
    chance = random.Random(os.environ["ODD_SEED"])
    files = [[*tests] for _, tests in groupby(items, key=lambda test: test.path)]
    chance.shuffle(files)
    for tests in files:
        chance.shuffle(tests)
    items[:] = [test for tests in files for test in tests]
