"""Draws the rooms of the code, the folders and files right below src/layerlift, and which of them import which.

    python tools/rooms.py            # writes the picture into docs/architecture.md
    python tools/rooms.py --check    # exits 1 where it is not what the imports say

Imports inside functions count, those for type checkers alone do not.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE, PAGE = ROOT / "src" / "layerlift", ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: made by tools/rooms.py -->", "<!-- end of rooms -->"
# Files that say what things are called and how errors read: everything may import them, and they are left out.
EVERYWHERE = {
    "errors", "exhausted", "flags", "parse", "names", "options", "progress", "__init__", "__main__", "temporary",
    "places", "small_files",
}  # fmt: skip


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules of the package that a file imports, dotted, without those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "layerlift":
            parts = node.module.split(".")
            yield from (f"{node.module}.{name.name}" for name in node.names) if len(parts) == 1 else [node.module]
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("layerlift."))
        else:
            yield from imports(node)


def rooms(source: Path = SOURCE) -> dict[str, set[str]]:
    """Every room with those that it imports; `source` is the folder of the package."""
    found: dict[str, set[str]] = {}
    for file in sorted(source.rglob("*.py")):
        room = file.relative_to(source).parts[0].removesuffix(".py")
        if room in EVERYWHERE:
            continue
        used = {module.split(".")[1] for module in imports(ast.parse(file.read_text(encoding="utf-8")))}
        used = {name for name in used if not name.startswith("__")}
        found.setdefault(room, set()).update(used - EVERYWHERE - {room})
    return found


def picture(found: dict[str, set[str]]) -> str:
    """The rooms as a Mermaid graph; what is reached by way of another room has no arrow of its own."""

    def reached(room: str) -> set[str]:
        return set().union(*({other} | reached(other) for other in found[room]))

    lines = ["```mermaid", "graph TD"]
    for room in sorted(found):
        beyond = set().union(*(reached(other) for other in found[room]))
        lines += [f"    {room} --> {other}" for other in sorted(found[room] - beyond)]
    return "\n".join([*lines, "```"])


def circle(found: dict[str, set[str]]) -> list[str]:
    """Rooms that import each other in a circle; none is right."""

    def walk(path: list[str]) -> list[str]:
        for other in sorted(found[path[-1]]):
            if other in path:
                return [*path[path.index(other) :], other]
            if deeper := walk([*path, other]):
                return deeper
        return []

    return next((way for room in sorted(found) if (way := walk([room]))), [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    checking = parser.parse_args().check
    found = rooms()
    if way := circle(found):
        sys.exit(f"a circle of imports: {' -> '.join(way)}")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = f"{before}{BEGIN}\n{picture(found)}\n{END}{after}"
    if checking and made != text:
        sys.exit(f"{PAGE.name} does not show what the imports say: run python tools/rooms.py")
    if not checking:
        PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
