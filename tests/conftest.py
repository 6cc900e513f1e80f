"""What makes the suite quick, and the same on a busy machine; nothing here changes what a test checks."""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from layerlift.cli import interrupts

# Tests measure no time: an example that takes long on a busy machine is no failure. All else is as Hypothesis has it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Commands run in the process of the tests, which nobody is to end because a machine is slow.
interrupts.PATIENCE = 3600.0

# Whoever asks for no device gets the best one of the machine. Tests get the CPU: a Mac and a machine with a CUDA card
# compute what any other does. What a test asks for it gets.
os.environ.setdefault("LAYERLIFT_DEVICE", "cpu")

# Tensors here are tiny: threads that share them wait for each other longer than they work. Commands that tests start
# inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module", autouse=True)
def _libraries_are_no_garbage() -> Iterator[None]:
    """What was imported by now is not searched whenever layerlift collects garbage, which takes 0.3 s each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
