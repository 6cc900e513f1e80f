"""Hidden names: what lies beside a result until it is finished, whose it is, and what killed runs left of it.

A name says what it belongs to and which process made it, so what a killed run leaves is told from what one that runs is
making.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from layerlift.names import HIDDEN
from layerlift.processes import State, owner, state_of

# How the name of what a new result takes the place of ends, until that is done.
OLD = ".old"
_HIDDEN = re.compile(rf"{re.escape(HIDDEN)}[0-9a-f]{{8}}-([0-9a-f]+-[0-9a-f]+-[0-9a-f]+)-[0-9a-f]{{16}}(\..*)?")


def hidden_name(place: Path, ending: str = "") -> Path:
    """A new, hidden name beside `place` for what belongs to it and is made by this process; it fits where names do."""
    place = place.absolute()
    return place.with_name(f"{HIDDEN}{_key(place)}-{owner()}-{secrets.token_hex(8)}{ending}")


def leftovers(place: str | Path) -> list[Path]:
    """Hidden files and folders of an output that were made by processes of this machine that are gone.

    They lie beside it, or in it where it is a folder.
    """
    given, real = Path(place).absolute(), Path(os.path.realpath(place))  # a link to a folder is followed
    found = set()
    for folder, start in ((real, HIDDEN), *((path.parent, f"{HIDDEN}{_key(path)}-") for path in (given, real))):
        with suppress(OSError):
            names = {entry.name for entry in folder.iterdir() if entry.name.startswith(start)}
            found |= {folder / name for name in names if maker_of(name) == "gone"}
    return sorted(found)


def maker_of(name: str) -> State | None:
    """What has become of the process that made a hidden name; None for a name that `hidden_name` did not make."""
    told = _HIDDEN.fullmatch(name)
    return None if told is None else state_of(told[1])


def _key(place: Path) -> str:
    return hashlib.sha256(os.fsencode(place.name)).hexdigest()[:8]
