"""What the machine refuses while a command works, such as room on a full disk: no bug, so no traceback."""

import errno
import os
from pathlib import Path

from layerlift.names import UNFINISHED

_ROOM = "written", "free some space on its disk, or choose a place on another disk"
_RIGHT = "opened", "check its permissions, or choose another place"
# What of a file the system refuses, and what to do, by the system's numbers.
_REFUSALS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: ("written", "choose a place that allows larger files"),
    errno.EROFS: ("written", "choose another place"),
    errno.EACCES: _RIGHT,
    errno.EPERM: _RIGHT,
}


def refusal(error: Exception) -> str | None:
    """What a user is told of an error that the machine's refusal caused, in one sentence; None for any other error."""
    number = error.errno if isinstance(error, OSError) else _number_in(str(error))
    if number not in _REFUSALS:
        return None
    done, advice = _REFUSALS[number]
    path = error.filename if isinstance(error, OSError) else None
    said = _said(path) if isinstance(path, str | Path) else "a file"
    return f"{said} cannot be {done}: {os.strerror(number).lower()}; {advice}."


def _number_in(text: str) -> int | None:
    """Of a full disk: OpenEXR and safetensors pass on what the system says in words alone."""
    return next((number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) if os.strerror(number) in text), None)


def _said(path: str | Path) -> str:
    """A path as the user knows it: of an unfinished file the folder that it is in."""
    parts = Path(path).parts
    hidden = next((at for at, part in enumerate(parts) if part.startswith(UNFINISHED)), None)
    return str(path) if hidden is None else f"a file in {Path(*parts[:hidden])}"
