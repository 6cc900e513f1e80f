"""What can be wrong with a file: edits of its bytes, or of the JSON in it, as plain data that can be kept."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

# An edit: what is done, where (a number that is brought into range), and with what.
Edit = list[Any]

HOSTILE: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 7, 64, 2**16, 10**6, 2**31, 2**63, 2**64, 10**30, -(2**63), 0.5, -0.5, 1e-320,
    1e308, float("nan"), float("inf"), "", "x", "..", "/dev/zero", "\0", "é" * 300, "model", [], {}, [[]], [1], [-1],
    [0], [1, 2, 3], [2**62, 2**62], ["a"], [None], [True] * 4, {"a": 1}, {"": {}}, [10**6] * 3, list(range(300)),
]  # fmt: skip
DEEP = 100_000  # brackets inside each other
WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 20000, 70000, 1 << 24)

_place = st.integers(0, 2**31 - 1)
json_edits = st.lists(
    st.one_of(
        st.tuples(st.just("value"), _place, st.integers(0, len(HOSTILE) - 1)),
        st.tuples(st.just("number"), _place, st.integers(-3, 3)),
        st.tuples(st.just("drop"), _place, st.just(0)),
        st.tuples(st.just("key"), _place, st.integers(0, len(HOSTILE) - 1)),
        st.tuples(st.just("swap"), _place, _place),
        st.tuples(st.just("text"), _place, st.integers(0, 255)),
        st.tuples(st.just("deep"), _place, st.integers(0, 1)),
    ).map(list),
    min_size=1,
    max_size=3,
)
byte_edits = st.lists(
    st.one_of(
        st.tuples(st.just("byte"), _place, st.integers(0, 255)),
        st.tuples(st.just("word"), _place, st.tuples(st.integers(0, len(WORDS) - 1), st.sampled_from([1, 2, 4, 8]))),
        st.tuples(st.just("big"), _place, st.tuples(st.integers(0, len(WORDS) - 1), st.sampled_from([2, 4, 8]))),
        st.tuples(st.just("cut"), _place, st.just(0)),
        st.tuples(st.just("insert"), _place, st.integers(1, 64)),
        st.tuples(st.just("delete"), _place, st.integers(1, 64)),
        st.tuples(st.just("repeat"), _place, st.integers(1, 64)),
    ).map(list),
    min_size=1,
    max_size=6,
)
# What may lie where a file is expected, see `put_special`.
SPECIAL = ("pipe", "socket", "folder", "nothing", "nowhere", "circle", "/dev/null", "/dev/zero", "empty")
HEAD = 1024  # bytes in which most of what a file says of itself lies


def changed_bytes(data: bytes, edits: list[Edit]) -> bytes:
    """A file's bytes after byte edits; every other of them is in its head."""
    out = bytearray(data)
    for what, place, value in edits:
        length = len(out) if place % 4 == 0 else min(len(out), HEAD if place % 4 < 3 else 128)
        at = (place // 4) % (length + 1)
        if what == "byte":
            out[at : at + 1] = bytes([value])
        elif what in ("word", "big"):
            number, size = value
            order = "little" if what == "word" else "big"
            out[at : at + size] = (WORDS[number] % (1 << 8 * size)).to_bytes(size, order)
        elif what == "cut":
            del out[at:]
        elif what == "insert":
            out[at:at] = bytes(value)
        elif what == "delete":
            del out[at : at + value]
        else:
            out[at:at] = out[at : at + value]
    return bytes(out)


def put_special(path: Path, name: str) -> None:
    """Make something of `path` that is no file, or one without content."""
    if name == "pipe":
        os.mkfifo(path)
    elif name == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif name == "folder":
        path.mkdir()
    elif name == "empty":
        path.touch()
    elif name != "nothing":
        path.symlink_to({"nowhere": "not there", "circle": path}.get(name, name))


def changed_json(document: Any, edits: list[Edit]) -> str:
    """A JSON document after edits, as text."""
    holder = {"": document}  # so that the document itself can be replaced
    for what, place, value in edits:
        if what not in ("text", "deep"):
            slots = list(_slots(holder)) or [(holder, "")]
            _change(slots, place % len(slots), what, value)
    text = json.dumps(holder.get(""))
    for what, place, value in edits:
        at = place % (len(text) + 1)
        if what == "text":
            text = text[:at] + chr(value) + text[at + 1 :]
        elif what == "deep":
            text = text[:at] + ("[", '{"a":')[value] * DEEP + text[at:]
    return text


def _change(slots: list[tuple[Any, Any]], number: int, what: str, value: Any) -> None:
    holder, key = slots[number]
    if what == "value" or key not in (holder if isinstance(holder, dict) else range(len(holder))):
        holder[key] = deepcopy(HOSTILE[value % len(HOSTILE)])  # later edits change what is in it
    elif what == "number":
        if isinstance(holder[key], int | float):
            holder[key] += value
    elif what == "drop":
        del holder[key]
    elif what == "key" and isinstance(holder, dict):
        holder[str(HOSTILE[value])] = holder.pop(key)
    elif what == "swap":
        other, at = slots[value % len(slots)]
        holder[key] = json.loads(json.dumps(other[at]))


def _slots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document that holds something: what holds it, and its key or number."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _slots(value[key])


def changed_header(text: bytes, edits: list[Edit]) -> bytes:
    """A safetensors file's header after edits; every other of them is in the JSON that is in its metadata, if any."""
    header = json.loads(text)
    metadata = header.get("__metadata__", {})
    inner = next((key for key, value in metadata.items() if value[:1] in ("[", "{")), None)
    inside = [edit for edit in edits if edit[1] % 2 and inner is not None]
    if inner is not None:
        metadata[inner] = changed_json(json.loads(metadata[inner]), inside)
    return changed_json(header, [edit for edit in edits if edit not in inside]).encode()


def drawn(edits: st.SearchStrategy[list[Edit]], count: int, number: int) -> list[list[Edit]]:
    """So many lists of edits, the same for the same number."""
    found: list[list[Edit]] = []

    @seed(number)
    @settings(max_examples=max(1, count), database=None, phases=[Phase.generate], deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(edits)
    def collect(one: list[Edit]) -> None:
        found.append(one)

    collect()
    return found[:count]
