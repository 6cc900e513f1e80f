"""What README, lock file and package promise, held against what is there."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import layerlift
from layerlift.cli import main
from layerlift.engine.model.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LARGEST_FILE = 16_000_000  # bytes; the repository stays small


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pinned() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    requirements = (Requirement(line) for line in lines if not line.startswith("#"))
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_lock_pins_a_version_of_every_dependency_that_the_project_allows(project: dict) -> None:
    lock = pinned()
    wanted = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    assert str(lock["torch"].specifier) == "==2.13.0"
    for requirement in wanted:
        pin = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(str(pin.specifier).removeprefix("==")), str(requirement)
        assert pin.marker == requirement.marker, "the lock would install it where the project does not ask for it"


def test_version_is_the_same_everywhere(project: dict) -> None:
    assert project["version"] == layerlift.__version__


def test_public_names_are_there() -> None:
    for name in layerlift.__all__:
        assert getattr(layerlift, name) is not None


def test_readme_lists_every_model_with_size_and_licence() -> None:
    rows = dict(re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", README, re.MULTILINE))
    for name, entry in CATALOGUE.items():
        assert rows[name] == f"{entry.title} | {entry.gigabytes:g} GB | {entry.settings.licence}"
    assert "demo" in rows


def test_readme_names_flags_that_exist(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    known = set()
    commands = (
        "remove reference mask extract compose run scene demo plan bench-quality bench-layers bench-footage "
        "download doctor"
    )
    for command in ([], *(name.split("-") for name in commands.split())):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        known |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out))
    ours = README[: README.index("## Coming from")].replace("--index-url", "")  # pip's
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ours)) - known == set()


def test_readme_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_readme_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets
    assert {"demo", "test", "test-all", "lint", "types", "lock", "clean"} <= targets


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert files
    return [file for file in files if file.exists()]


def test_no_tracked_file_is_too_large(tracked: list[Path]) -> None:
    assert [str(file) for file in tracked if file.stat().st_size >= LARGEST_FILE] == []


def test_no_tracked_file_holds_an_unfinished_merge(tracked: list[Path]) -> None:
    marker = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
    assert [str(file) for file in tracked if marker.search(file.read_bytes())] == []
