"""What README, lock file and package promise, held against what is there."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import layerlift
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


def test_every_pinned_package_installs_on_the_oldest_python_that_the_project_names(project: dict) -> None:
    # Debian 12 has 3.11.2: a package that wants 3.11.5 would stop `make` there, and pass where 3.11.7 runs the tests.
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    asks = {}
    for requirement in pinned().values():
        if requirement.marker is None or requirement.marker.evaluate():
            installed = metadata.metadata(requirement.name)
            asks[requirement.name] = SpecifierSet(installed.get("Requires-Python", ""))
    assert asks
    assert {name: str(spec) for name, spec in asks.items() if not spec.contains(oldest)} == {}


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


def test_readme_is_short_and_its_first_screen_has_a_picture_and_three_commands() -> None:
    lines = README.splitlines()
    assert len(lines) <= 130
    first = "\n".join(lines[:32])
    assert "](docs/images/" in first
    assert "pip install ." in first
    assert len(re.findall(r"^layerlift ", first, re.MULTILINE)) >= 3


def test_citation_has_the_version_and_the_day_of_the_changelog(project: dict) -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    released = re.findall(
        r"^## \[([\d.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert (str(cited["version"]), str(cited["date-released"])) == released[0]
    assert cited["version"] == project["version"]


def test_ci_runs_what_make_offers_on_every_python_that_the_project_names(project: dict) -> None:
    workflows = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github/workflows").iterdir()}
    check = workflows["ci"]["jobs"]["check"]
    runs = [step["run"] for step in check["steps"] if "run" in step]
    assert {"lint", "types", "test"} <= set(re.findall(r"make ([a-z-]+)", "\n".join(runs)))
    named = [line.rsplit(" ", 1)[1] for line in project["classifiers"] if "Python :: 3." in line]
    assert check["strategy"]["matrix"]["python"] == named
    assert workflows["release"]["jobs"]["publish"]["permissions"] == {"id-token": "write"}


@pytest.fixture(scope="module")
def workflows() -> dict[str, dict]:
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github/workflows").iterdir()}


# Machines that GitHub lends; those for macOS 14 are gone since November 2026 (actions/runner-images #13518).
MACHINES = {"ubuntu-latest", "macos-15"}


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_workflows_use_actions_that_are_known_and_nothing_else(workflows: dict[str, dict]) -> None:
    # The first of each to run on Node 24, or later: GitHub removed Node 20 in September 2026.
    known = {
        "actions/checkout@v6",
        "actions/setup-python@v6",
        "actions/upload-artifact@v7",
        "actions/download-artifact@v8",
        "pypa/gh-action-pypi-publish@release/v1",
    }
    for workflow in workflows.values():
        assert {step["uses"] for step in steps(workflow) if "uses" in step} <= known
        assert all(("uses" in step) != ("run" in step) for step in steps(workflow))
        for job in workflow["jobs"].values():
            assert job.keys() >= {"runs-on", "steps"}
            assert set(job.get("strategy", {}).get("matrix", {}).get("os", [job["runs-on"]])) <= MACHINES
        assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("name", ["mac", "release"])
def test_what_workflows_run_is_there(workflows: dict[str, dict], name: str) -> None:
    """Every `layerlift …` is a command with these flags, every `make …` a target, every script a file."""
    from typer.main import get_command

    from layerlift.cli.app import app

    runs = "\n".join(step["run"] for step in steps(workflows[name]) if "run" in step)
    lines = re.findall(r"\.venv/bin/layerlift ([^|\n]*)", runs)
    assert lines
    for line in lines:
        command, words = get_command(app), line.split()
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context("layerlift", words)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make ([a-z-]+)", runs):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for script in re.findall(r"bin/python ([\w/]+\.py)", runs):
        assert (ROOT / script).is_file()


def test_the_mac_workflow_gives_figures_of_a_mac(workflows: dict[str, dict]) -> None:
    (job,) = workflows["mac"]["jobs"].values()
    assert job["runs-on"] == "macos-15"
    runs = {step["run"]: step for step in job["steps"] if "run" in step}
    assert any("make test " in run for run in runs)
    assert any("pytest tests/mlx" in run for run in runs)
    # What says it ran on the GPU asks for the GPU, and only where whatever runs there can use one.
    known = {step["id"] for step in job["steps"] if "id" in step}
    for engine, flags, count in (("torch", "--device mps", 2), ("mlx", "--engine mlx", 1)):
        on_gpu = [step for run, step in runs.items() if flags in run]
        assert len(on_gpu) == count
        assert engine in known
        assert all(f"steps.{engine}.outcome == 'success'" in step["if"] for step in on_gpu)
    # A command before a pipe that fails is a step that fails: GitHub's own shell does not look.
    assert all(step.get("shell") == "bash" for run, step in runs.items() if "| tee" in run and "doctor" not in run)
    uploads = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert [step["with"]["path"] for step in uploads] == ["mac/"]
    assert all("mac/" in run.split("| tee ")[1] for run in runs if "| tee " in run)


def test_the_release_attaches_what_download_looks_for(workflows: dict[str, dict]) -> None:
    from layerlift.engine.model.published import NAME

    job = workflows["release"]["jobs"]["prompts"]
    assert job["permissions"] == {"contents": "write"}
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert f".venv/bin/python tools/make_prompts.py {NAME}" in runs
    assert f'gh release upload "$GITHUB_REF_NAME" {NAME}' in runs[-1]


def test_a_bug_report_asks_for_what_doctor_prints() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir():
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["body"], path.name
    report = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug_report.yml").read_text(encoding="utf-8"))
    (doctor,) = [field for field in report["body"] if "layerlift doctor" in field["attributes"]["label"]]
    assert doctor["validations"]["required"]


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("only git knows which files are tracked, and this is no checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert files
    return [file for file in files if file.exists()]


def test_no_tracked_file_is_too_large(tracked: list[Path]) -> None:
    assert [str(file) for file in tracked if file.stat().st_size >= LARGEST_FILE] == []


def test_no_tracked_file_holds_an_unfinished_merge(tracked: list[Path]) -> None:
    marker = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
    assert [str(file) for file in tracked if marker.search(file.read_bytes())] == []
