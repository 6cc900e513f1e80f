"""Commands in forks of this process, so that a run costs no imports, with what listens to what they do to files."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST = 120.0  # seconds that a command may take before it counts as hung
# Audit events that change a folder, and so are the moments at which a signal may do harm.
CHANGES = frozenset(["os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree", "shutil.move"])


@dataclass
class Ended:
    """How a command ended."""

    code: int
    said: str
    seconds: float  # from the attack to the end
    attacked: bool


Hook = Callable[[int, str, Path], None]


def run(
    place: Path,
    command: str,
    *,
    hook: Hook | None = None,
    prepare: Callable[[], None] | None = None,
    temporary: Path | None = None,
    at: float | None = None,
    number: int = signal.SIGTERM,
) -> Ended:
    """Run a command in a fork, in a folder; send it a signal after `at` seconds.

    `hook` is called in the fork before every change of a folder below `place`: with its number, the event's name and
    the path. `prepare` is called in it before the command.
    """
    words = place.with_name(place.name + ".words")
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        in_fork(place, command, words, hook, prepare, temporary, begun)
    os.close(begun)
    os.read(ready, 1)
    os.close(ready)
    started = time.monotonic()
    sent = 0.0
    status = None
    while status is None:
        now = time.monotonic()
        if at is not None and not sent and now - started >= at:
            os.kill(child, number)
            sent = time.monotonic()
        if now - started > LONGEST:
            os.kill(child, signal.SIGKILL)
        found, value = os.waitpid(child, os.WNOHANG)
        status = value if found else None
        if status is None:
            time.sleep(0.002)
    ended = time.monotonic()
    said = words.read_text(errors="replace")
    hooked = place.with_name(place.name + ".attacked")
    if hooked.exists():
        sent = float(hooked.read_text())
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, said, ended - sent if sent else 0.0, bool(sent))


def in_fork(  # noqa: PLR0917
    place: Path,
    command: str,
    words: Path,
    hook: Hook | None,
    prepare: Callable[[], None] | None,
    temporary: Path | None,
    begun: int,
) -> None:
    """Become a command: never returns. Its beginning is told through the descriptor `begun`."""
    code = 1
    try:
        descriptor = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
        os.chdir(place)
        os.environ["LAYERLIFT_CACHE"] = str(place.parent / "cache")
        tempfile.tempdir = None
        os.environ["TMPDIR"] = str(temporary or place.parent / "temporary")
        if hook is not None:
            listen(place, hook)
        if prepare is not None:
            prepare()
        from layerlift.cli import main

        os.write(begun, b".")
        os.close(begun)
        try:
            main(command.split())
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - what Python does with any
        traceback.print_exc()
    finally:
        os._exit(code)


def listen(place: Path, hook: Hook) -> None:
    """Tell `hook` of every change of a folder below `place`, and of every file that is made there."""
    count, busy = 0, False

    def audit(event: str, details: tuple[object, ...]) -> None:
        nonlocal count, busy
        if busy or (event not in CHANGES and event != "open"):
            return
        if event == "open":
            flags = details[2] if isinstance(details[2], int) else 0
            if not flags & os.O_CREAT:
                return
        path = Path(os.fsdecode(details[0])) if isinstance(details[0], str | bytes | os.PathLike) else Path()
        path = path if path.is_absolute() else place / path
        if place not in path.parents:
            return
        busy = True
        try:
            count += 1
            hook(count, event, path)
        finally:
            busy = False

    sys.addaudithook(audit)


def import_all() -> None:
    """What commands import when they need it, once, and before any fork."""
    import importlib
    import pkgutil
    import warnings

    warnings.simplefilter("ignore")
    import layerlift

    for module in pkgutil.walk_packages(layerlift.__path__, "layerlift."):
        if module.name.endswith("__main__") or ".rendered" in module.name or ".bench" in module.name:
            continue
        with contextlib.suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(module.name)
    import torch

    torch.set_num_threads(1)
