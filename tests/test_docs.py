"""The pages of docs/: they build without a warning, load nothing from the network, and have all of the Python API."""

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import layerlift
from layerlift import Clip, LayerClip, write_clip, write_layer

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
EXAMPLES = [
    pytest.param(
        code, id=f"{page.stem}-{number}", marks=[pytest.mark.slow] if "demo" in code or "segment" in code else []
    )
    for page in [ROOT / "README.md", ROOT / "docs" / "python.md", *PAGES]
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )
]
HEIGHT, WIDTH = 48, 64


class Loaded(HTMLParser):
    """What a page makes a browser load from elsewhere; links that one may click are not among it."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loads = {"src", "srcset", "data", "poster", *(["href"] if tag == "link" else [])}
        self.remote += [value for name, value in attrs if name in loads and value and re.match(r"(https?:)?//", value)]


def test_every_public_name_has_one_entry() -> None:
    entries = Counter(
        re.findall(r"^::: layerlift\.(\w+)$", "\n".join(p.read_text("utf-8") for p in PAGES), re.MULTILINE)
    )
    assert entries == Counter(layerlift.__all__)


@pytest.mark.slow
def test_pages_build_without_a_warning_and_load_nothing_remote(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {f"{page.stem}.html" for page in PAGES} <= {page.name for page in pages if page.parent.name == "api"}
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text("utf-8"))
        assert loaded.remote == [], page.name
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text("utf-8")), sheet.name
    options = re.sub(r"<[^>]*>", "", (tmp_path / "site" / "api" / "options.html").read_text("utf-8"))
    assert 'evidence: EvidenceChoice = "auto"' in options, "defaults are values"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the examples open: a square that casts a shadow on a still background, its masks, and another clip."""
    monkeypatch.chdir(tmp_path)
    plate = np.random.default_rng(0).integers(60, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    plate = plate.repeat(8, 0).repeat(8, 1)
    object_mask, total = np.zeros((HEIGHT, WIDTH), bool), np.zeros((HEIGHT, WIDTH), bool)
    object_mask[16:28, 20:32] = True
    total[16:34, 20:32] = True
    frame = np.where(total[..., None], plate // 2, plate)
    frame[object_mask] = (220, 30, 30)
    clip = Clip.from_array(np.stack([frame] * 4))
    write_clip("clip.mp4", clip.frames(), clip)
    write_clip("beach.mp4", (plate for _ in range(4)), clip)
    layer = LayerClip.from_array(np.dstack([frame, 255 * object_mask.astype(np.uint8)])[None].repeat(4, 0))
    write_layer("dog.mov", layer.frames(), layer.clip)
    Image.fromarray(plate).save("plate.png")
    Image.fromarray(object_mask).save("object.png")
    Image.fromarray(total).save("mask.png")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code: str) -> None:
    exec(compile(code, "example", "exec"), {})  # the pages are our own
