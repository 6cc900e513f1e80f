"""From a manifest, or a folder of clips with masks, to lines; what is wrong with it is told all at once."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layerlift.batch.line import BETWEEN, Line, Options, Words, is_remote, is_typeable, placed, shown
from layerlift.batch.names import TAKEN
from layerlift.errors import InputError, reason_of
from layerlift.names import exists
from layerlift.small_files import read_small

ENDINGS = (".csv", ".jsonl", ".yaml", ".yml")
# Lines of a manifest, and bytes that are read of it: far more than a thousand clips take. YAML is read slowly.
MOST_LINES = 100_000
MOST, MOST_YAML = 16 * 2**20, 2**20
# Keys of all mappings of a YAML document, with those that it merges into them.
MOST_MERGED = 10**6
# What stands after a clip's name in the names of its masks, in a folder without a manifest.
_MASKS = re.compile(r"(?P<clip>.+?)_(?P<kind>object_mask|mask|total_mask)(?:_(?P<number>\d+))?")


def read_lines(source: Path, options: Options, defaults: Words) -> tuple[list[Line], list[str]]:
    """The lines of a manifest, or of a folder, each with the `defaults` that it does not say itself.

    Returns the lines that can be read, and what is wrong with the others, a sentence each.

    Raises InputError for what is no manifest at all.
    """
    if source.is_dir():
        found, wrong = list(_clips_in(source)), list[str]()
    else:
        found, wrong = _read_manifest(source, options)
    if not found and not wrong:
        raise InputError(
            f"{source} has no clip: give a manifest with a line for each, or a folder of clips with masks."
        )
    return [Line(line.where, line.clip, {**defaults, **line.words}, line.name) for line in found], wrong


def _read_manifest(path: Path, options: Options) -> tuple[list[Line], list[str]]:
    base, lines, wrong = path.absolute().parent, list[Line](), list[str]()
    for number, told in _records(path):
        if len(lines) + len(wrong) == MOST_LINES:
            raise InputError(f"{path} has more than {MOST_LINES} lines: make several manifests of it.")
        where = f"{path.name}, line {number}"
        try:
            if isinstance(told, str):
                raise InputError(told)
            lines.append(_line(where, told, base, options))
        except InputError as error:
            wrong.append(f"{where}: {str(error).rstrip('.')}.")
    return lines, wrong


def _line(where: str, told: dict[str, Any], base: Path, options: Options) -> Line:
    """Raises InputError for what cannot be used."""
    given = {key.strip().lower(): key for key in told}
    if len(given) < len(told):
        raise InputError("a column is given twice")
    clip, name = (told[given[key]] if key in given else None for key in ("clip", "name"))
    if not isinstance(clip, str) or not clip or not is_typeable(clip):
        raise InputError("it names no clip: give a path as clip")
    if name is not None and not _is_name(name):
        raise InputError(f"name {shown(name)} is no name of a folder: leave out slashes, and dots at its beginning")
    if name is not None and name.lower() in TAKEN:
        raise InputError(f"name {shown(name)} is that of a file beside the results: choose another one")
    others = {key: value for key, value in told.items() if key.strip().lower() not in ("clip", "name")}
    return Line(where, clip if is_remote(clip) else placed(base, clip), options.words(others, base), name)


def _is_name(name: Any) -> bool:
    """Whether a folder can be called so."""
    return isinstance(name, str) and is_typeable(name) and bool(re.fullmatch(r"[^./\\][^/\\]*", name, re.DOTALL))


# --- the forms of a manifest -----------------------------------------------------------------------------------------


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Number and content of every line that is not empty, or what is wrong with it.

    Raises InputError where nothing of it can be read.
    """
    if not exists(path):
        raise InputError(
            f"{path} does not exist: give a manifest, which is a .csv, .jsonl or .yaml file, or a folder of clips with "
            "masks."
        )
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path} is no manifest: give a .csv, .jsonl or .yaml file, or a folder of clips with masks.")
    most = MOST if path.suffix.lower() in (".csv", ".jsonl") else MOST_YAML
    try:
        held = read_small(path, most)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise InputError(
                f"{path} is too large for a manifest: give at most {most >> 20} MiB; a table (.csv) may have "
                f"{MOST >> 20}."
            ) from error
        reason = reason_of(error)
        raise InputError(f"{path} cannot be read: {reason}; give a manifest that you may read.") from error
    try:
        text = held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8.") from error
    reader = {".csv": _read_csv, ".jsonl": _read_jsonl}.get(path.suffix.lower(), _read_yaml)
    return reader(path, text)


def _read_csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """A cell that is empty is not given; several values of one cell are apart by "|"."""
    first = text.partition("\n")[0]
    between = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        if "clip" not in [name.lower() for name in header]:
            raise InputError(f"{path} has no column clip: begin it with a line of column names, such as clip,object.")
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > len(header):
                yield rows.line_num, f"it has {len(row)} cells, but there are {len(header)} columns"
                continue
            cells = {name: cell.strip() for name, cell in zip(header, row, strict=False) if cell.strip()}
            split = {name: [part.strip() for part in cell.split(BETWEEN)] for name, cell in cells.items()}
            yield rows.line_num, {name: split[name] if len(split[name]) > 1 else cell for name, cell in cells.items()}
    except csv.Error as error:
        yield rows.line_num, f"it is no line of a table: {error}"


def _read_jsonl(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key is given twice")
        return found

    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            yield number, f"it is no JSON: {error}"
            continue
        yield number, told if isinstance(told, dict) else 'it is no object: give {"clip": …}'


def _read_yaml(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """A list of mappings; the number is that of its place in the list, from 1."""
    import yaml

    try:
        told = _yaml_in(text)
    except Exception as error:  # of a value that its tag does not allow, PyYAML raises whatever comes up
        own = isinstance(error, yaml.YAMLError | ValueError)
        said = " ".join(str(error).split())[:500].rstrip(".") if own else "a value is not what its tag says"
        raise InputError(f"{path} is no YAML: {said}.") from error
    if not isinstance(told, list):
        raise InputError(f"{path} is no list: begin every clip with `- clip: …`.")
    for number, item in enumerate(told, 1):
        proper = isinstance(item, dict) and all(isinstance(key, str) for key in item)
        yield number, item if proper else "it is no mapping: give clip: …"


def _yaml_in(text: str) -> Any:
    """What a YAML document says."""
    import yaml

    class Loader(yaml.SafeLoader):  # not the one in C, whose stack overflows
        """Ends where mappings that are merged into each other make more than a manifest can have."""

        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            self.merged += len(node.value)
            if self.merged > MOST_MERGED:
                raise ValueError("its mappings are merged into each other too often")

    return yaml.load(text, Loader)


# --- a folder --------------------------------------------------------------------------------------------------------


def _clips_in(folder: Path) -> Iterator[Line]:
    """Every clip of a folder: a folder with a video and its masks, or ``NAME.mp4`` with ``NAME_mask.png`` beside it.

    Masks are called NAME_mask, NAME_object_mask, NAME_object_mask_0 … (the backmost first, as in a folder with a video)
    and NAME_total_mask.
    """
    from layerlift.clip.layout import IMAGE_ENDINGS, VIDEO_ENDINGS, is_layout

    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    stems = {path: path.name if path.is_dir() else path.stem for path in entries}
    usable = [path for path in entries if path.is_dir() or path.suffix.lower() in VIDEO_ENDINGS | IMAGE_ENDINGS]
    videos = [path for path in usable if path.is_dir() or path.suffix.lower() in VIDEO_ENDINGS]
    names = {stems[path] for path in videos}
    masks: dict[str, list[tuple[str, int, Path]]] = {}
    for path in usable:
        found = _MASKS.fullmatch(stems[path])
        if found and found["clip"] in names:
            masks.setdefault(found["clip"], []).append((found["kind"], int(found["number"] or 0), path))
    taken = {path for several in masks.values() for _, _, path in several}
    for path in videos:
        if path in taken or (path.is_dir() and not is_layout(path) and stems[path] not in masks):
            continue
        beside = sorted(masks.get(stems[path], []), key=lambda mask: (mask[1], mask[2].name), reverse=True)
        words: Words = {}
        for name, flag, kinds in (
            ("objects", "--object", ("mask", "object_mask")),
            ("total", "--total", ("total_mask",)),
        ):
            if given := [mask for kind, _, mask in beside if kind in kinds]:
                words[name] = tuple(word for mask in given for word in (flag, placed(mask.parent, mask.name)))
        yield Line(path.name, placed(path.parent, path.name), words)
