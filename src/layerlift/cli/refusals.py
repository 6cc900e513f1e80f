"""What the machine refuses while a command works, such as room on a full disk: no bug, so no traceback."""

import errno
import os
from pathlib import Path

from layerlift.errors import LayerliftError
from layerlift.exhausted import no_thread, ran_out
from layerlift.names import HIDDEN
from layerlift.places import check_current_folder
from layerlift.whole import error_number

_ROOM = "written", "free some space on its disk, or choose a place on another disk"
_RIGHT = "opened", "check its permissions, or choose another place"
_HANDLES = "opened", "close other programs, or raise the limit with `ulimit -n 4096`"
_OTHER = "used", "check its disk, or choose another place"
# What of a file the system refuses, and what to do, by the system's numbers.
_REFUSALS: dict[int | None, tuple[str, str]] = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: ("written", "choose a place that allows larger files"),
    errno.EROFS: ("written", "choose another place"),
    errno.EACCES: _RIGHT,
    errno.EPERM: _RIGHT,
    errno.ENOENT: ("used", "see whether it was moved or deleted meanwhile"),
    errno.EMFILE: _HANDLES,
    errno.ENFILE: _HANDLES,
}


def refusal(error: Exception) -> str | None:
    """What a user is told of an error that the machine's refusal caused, in one sentence; None for a bug."""
    number = error_number(error)
    if number == errno.ENOMEM or ran_out(error):
        return "memory ran out: close other programs, or process smaller or fewer frames at a time."
    if no_thread(error):
        return (
            "the system gives no further process or thread: close other programs, or raise `ulimit -u` or `ulimit -v`."
        )
    if number is None and not isinstance(error, OSError):
        return None
    path = getattr(error, "filename", None)
    if path is None and number == errno.ENOENT:
        if "temporary directory" in str(error):  # what Python's tempfile says
            return "no folder takes temporary files, neither TMPDIR nor another: free some space, or set TMPDIR."
        try:
            check_current_folder()
        except LayerliftError as gone:
            return str(gone)
    said = _said(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else "a file"
    done, advice = _REFUSALS.get(number, _OTHER)
    reason = str(error) if number is None else os.strerror(number)
    return f"{said} cannot be {done}: {reason.rstrip('.').lower()}; {advice}."


def _said(path: str | Path) -> str:
    """A path as the user knows it: of an unfinished file the folder that it is in."""
    parts = Path(path).parts
    hidden = next((at for at, part in enumerate(parts) if part.startswith(HIDDEN)), None)
    return str(path) if hidden is None else f"a file in {Path(*parts[:hidden])}"
