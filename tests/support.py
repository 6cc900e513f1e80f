"""What several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerlift.cli import main

# Real clips beside the checkout, for developers who have them; tests that ask for one are skipped elsewhere.
CLIPS = Path(__file__).resolve().parents[2] / "shared" / "clips"


def layerlift(*arguments: object) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code


def files(folder: str | Path = ".") -> list[str]:
    """The names of what lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())
