"""One hostile input in a process of its own, which may take so much time and memory and no more."""

from __future__ import annotations

import os
import resource
import select
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from layerlift.errors import LayerliftError

SECONDS = 10  # of the processor
WAITED = 60  # seconds by the clock: what does not compute either, such as a pipe that nobody writes to
BYTES = 2**30  # that an input may take beyond what the process has already
SLACK = 4 * 2**30  # of addresses that may be reserved beyond that: libraries map much that they never touch

READ, REFUSED = "read", "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an input: READ, REFUSED, or a fault; of the latter two the words, too."""

    name: str
    words: str = ""

    @property
    def is_fault(self) -> bool:
        return self.name not in (READ, REFUSED)


def bounded(work: Callable[[], None], *, limited: bool = True) -> Outcome:
    """What became of `work`; it is refused by a `LayerliftError`.

    Without `limited` it may take as long and as much as it likes.
    """
    base = psutil.Process().memory_info()
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(receive)
            _silence()
            if limited:
                resource.setrlimit(resource.RLIMIT_AS, (base.vms + BYTES + SLACK,) * 2)
                resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.write(send, _outcome(work).encode()[:4000])
        finally:
            os._exit(0)
    os.close(send)
    ready, _, _ = select.select([receive], [], [], WAITED if limited else None)
    said = os.read(receive, 4000).decode() if ready else ""
    os.close(receive)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    if not ready:
        return Outcome(f"took more than {WAITED} s")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome(f"took more than {SECONDS} s" if number == signal.SIGXCPU else signal.Signals(number).name)
    taken = used.ru_maxrss * 1024 - base.rss
    if limited and taken > BYTES:
        return Outcome(f"took more than {BYTES / 2**30:g} GiB", f"{taken / 2**30:.1f} GiB")
    name, _, words = said.partition("\n")
    return Outcome(name or "ended without a word", words)


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)


def _outcome(work: Callable[[], None]) -> str:
    """What became of it, and more words after a line break."""
    try:
        work()
    except LayerliftError as error:
        return f"{REFUSED}\n{error}" if str(error).strip() else "refused without a word"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is a fault
        steps = traceback.extract_tb(error.__traceback__)
        ours = [step for step in steps if f"{os.sep}layerlift{os.sep}" in step.filename]
        where = f" in {Path(ours[-1].filename).name} {ours[-1].name}" if ours else ""
        return f"{type(error).__name__}{where}\n{error}"
    return READ
