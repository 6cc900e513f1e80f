"""Hostile files: read, or refused with one sentence, in bounded time and memory; see tests/fuzz."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz")


def fuzz(*arguments: object) -> tuple[int, int, str]:
    """Run the fuzzer in a process that nothing else has put threads into: inputs tried, faults, and what it printed."""
    command = [sys.executable, str(FUZZ), *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    said = found.stdout + found.stderr
    total = re.search(r"^\| all \| (\d+) \| \d+ \| \d+ \| (\d+) \|$", said, re.MULTILINE)
    assert total is not None, said
    assert (found.returncode == 0) == (total[2] == "0"), said
    return int(total[1]), int(total[2]), said


@pytest.mark.skipif(sys.platform != "linux", reason="bounds a child's memory, which only Linux does")
@pytest.mark.parametrize("inputs", [10, pytest.param(5200, marks=pytest.mark.slow)])
def test_no_hostile_file_is_a_fault(inputs: int) -> None:
    tried, faults, said = fuzz("--inputs", inputs)
    assert tried >= inputs / 2
    assert faults == 0, said
