"""The architecture holds: no circles between rooms, the picture is true, and torch stays behind the seam."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import layerlift

ROOT = Path(__file__).parents[1]
SOURCE = Path(layerlift.__file__).parent  # of a checkout, or installed
# Who may know what a tensor is.
WITH_TORCH = ("engine", "pixels", "scenes", "bench")
TORCH = {"torch", "diffusers", "transformers"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "tools" / "rooms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_room_imports_one_that_imports_it(tool: ModuleType) -> None:
    assert tool.circle(tool.rooms(SOURCE)) == []
    assert tool.circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_the_picture_of_the_rooms_is_what_the_imports_say(tool: ModuleType) -> None:
    assert tool.picture(tool.rooms(SOURCE)) in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_form_of_import_counts_but_those_for_type_checkers(tool: ModuleType) -> None:
    lines = (
        "import layerlift.clip.writer as writer, numpy",
        "from layerlift import masks",
        "def f():\n    from layerlift.stages.run import run",
        "if TYPE_CHECKING:\n    from layerlift.engine import base",
    )
    found = list(tool.imports(ast.parse("\n".join(lines))))
    assert found == ["layerlift.clip.writer", "layerlift.masks", "layerlift.stages.run"]


def imported(tree: ast.AST) -> set[str]:
    """The packages that a file imports anywhere, for type checkers, too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_torch_is_imported_behind_the_seam_alone() -> None:
    beyond = [
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        if file.relative_to(SOURCE).parts[0] not in WITH_TORCH
        and imported(ast.parse(file.read_text(encoding="utf-8"))) & TORCH
    ]
    assert beyond == []
