"""What libraries say to each other does not reach the user's terminal, unless -v asks for it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerlift.clip import Clip, write_clip

# A command in which numpy warns, a library warns and logs, and OpenCV meets a file it dislikes.
NOISY = """
import logging, sys, warnings
import typer
from layerlift.cli import app, main

def noisy(verbose: bool = typer.Option(False, "-v")) -> None:
    import cv2
    import numpy as np
    np.zeros(0).mean()
    np.array([1.0]) / np.array([0.0])
    warnings.warn("from a library", UserWarning)
    logging.getLogger("some.library").warning("logged by a library")
    cv2.imread("nothing.png")

app.app.command("noisy")(noisy)
main(sys.argv[1:])
"""

OURS = re.compile(
    r"\d+ objects? in .*\.|(motion|gather|survey|extract|[a-z]+): done in .* s|The (sound|mask) .*\.|"
    r"[a-z]+: \d+/\d+, about \d+ s left"
)


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    quiet = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "OPENCV_LOG_LEVEL")}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=quiet, check=False, timeout=120)


def test_warnings_and_logs_of_libraries() -> None:
    quiet = python("-c", NOISY, "noisy")
    assert (quiet.returncode, quiet.stderr, quiet.stdout) == (0, "", "")
    loud = python("-c", NOISY, "noisy", "-v").stderr
    for said in ("RuntimeWarning", "from a library", "logged by a library"):
        assert said in loud
    assert "from a library" in python("-W", "always", "-c", NOISY, "noisy").stderr  # whoever asks Python gets them


@pytest.mark.parametrize(
    "masked",
    [
        pytest.param((2,), marks=pytest.mark.slow),
        (2, 3, 4),
        pytest.param((0, 1, 2, 3, 4), marks=pytest.mark.slow),
        pytest.param((0, 1, 2, 3, 4, 5, 6), marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_frames_that_are_masked_wholly(tmp_path: Path, masked: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(60, 200, (30, 50, 3), dtype=np.uint8), (200, 120))
    frames = np.stack([ground[:96, 4 * index : 4 * index + 160] for index in range(8)])
    inside = np.zeros((8, 96, 160), np.uint8)
    inside[:, 30:60, 50:90] = 255
    inside[list(masked)] = 255
    like = Clip.from_array(frames)
    clip = write_clip(tmp_path / "walk.mp4", frames, like)
    (tmp_path / "mask").mkdir()
    for index, picture in enumerate(inside):
        assert cv2.imwrite(str(tmp_path / "mask" / f"{index}.png"), picture)
    out = tmp_path / "out.mp4"
    flags = ("--mask", tmp_path / "mask", "--model", "none", "-o", out)
    done = python("-m", "layerlift", "remove", clip, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stderr
    assert [line for line in done.stderr.splitlines() if not OURS.fullmatch(line)] == []
    done = python(
        "-m", "layerlift", "extract", clip, "--object", tmp_path / "mask", "--background", out, "-o", tmp_path / "a.mov"
    )
    assert [line for line in done.stderr.splitlines() if not OURS.fullmatch(line)] == []
