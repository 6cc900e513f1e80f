"""What the page is made of: no browser is needed to see that it is small, local, and harmless."""

from __future__ import annotations

import re
from pathlib import Path

import layerlift

PAGE = Path(layerlift.__file__).parent / "app" / "page"
FILES = sorted(path for path in PAGE.iterdir() if path.is_file())
TEXT = {path.name: path.read_text(encoding="utf-8") for path in FILES}
SCRIPTS = {name: text for name, text in TEXT.items() if name.endswith(".js")}


def test_the_page_stays_small() -> None:
    lines = {name: len(text.splitlines()) for name, text in SCRIPTS.items()}
    assert sum(lines.values()) <= 4000
    assert max(lines.values()) <= 400


def test_nothing_comes_from_elsewhere() -> None:
    addresses = {found for text in TEXT.values() for found in re.findall(r"https?://[^\s\"'<>)]+", text)}
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_every_file_that_is_named_is_there() -> None:
    named = {found for text in TEXT.values() for found in re.findall(r"/static/([\w.-]+)", text)}
    named |= {found for text in SCRIPTS.values() for found in re.findall(r'from "\./([\w.-]+)"', text)}
    assert named <= set(TEXT)
    assert set(TEXT) - named == {"index.html"}, "files that nothing uses"


def test_nothing_is_read_as_html_and_nothing_is_inline() -> None:
    for name, text in SCRIPTS.items():
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert way not in text, f"{name} has {way}"
        assert not re.search(r"""setAttribute\(["']style""", text), f"{name} sets a style as an attribute"
    for tag in re.findall(r"<[a-z][^>]*>", TEXT["index.html"]):
        assert " style=" not in tag
        assert not re.search(r"\son\w+=", tag)
        assert not tag.startswith("<script") or " src=" in tag


def test_icons_are_there() -> None:
    drawn = set(re.findall(r'<symbol id="(\w+)"', TEXT["icons.svg"]))
    asked = set(re.findall(r'icon(?:Button)?\(\s*"(\w+)"', "".join(SCRIPTS.values())))
    assert asked <= drawn
