"""Ctrl-C, SIGTERM and SIGHUP: the work ends, what is half-made goes, and the process is gone within two seconds."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

from layerlift.progress import Cancellation
from layerlift.whole import ENDING_SIGNALS, remove_unfinished

# Seconds that the work has to come to its end by itself; what is left of the two is for removing files.
PATIENCE = 1.3

# Asked when the process is ended in the midst of its work, from another thread: what else the user is to know, if
# anything.
last_words: list[Callable[[], str | None]] = []


class Interrupts(Cancellation):
    """The handler of signals: the first one raises KeyboardInterrupt and cancels the work, in case that is dropped.

    Python drops an exception that is raised while something is being finalised, and would print it: that is no news.
    Further signals change nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._number = signal.SIGINT

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.cancelled:
            self._number = signal.Signals(number)
            self.cancel()
            raise KeyboardInterrupt

    @property
    def code(self) -> int:
        """The exit code, as shells have it: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
        return 128 + self._number

    def tell(self) -> None:
        """Say that the work was interrupted, where that can be said."""
        if sys.stderr is not None:
            with suppress(OSError, ValueError):
                sys.stderr.write("layerlift: interrupted.\n")
                sys.stderr.flush()


@contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """Handle signals while the block runs, where they can be: in the main thread. Those that are ignored stay so.

    No handler runs before a long call of a library returns, so a thread watches, too: it ends the process when the work
    does not. Where the system gives no thread, or no file for it, the handlers are alone.
    """
    handler = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    before = {number: old for number, old in before.items() if old not in (None, signal.SIG_IGN)}  # nohup
    told = sys.unraisablehook
    sys.unraisablehook = lambda what: None if what.exc_type is KeyboardInterrupt else told(what)
    with _watched({*before}):
        for number in before:
            signal.signal(number, handler)
        try:
            yield handler
        finally:
            for number, old in before.items():
                signal.signal(number, old)
            sys.unraisablehook = told


@contextmanager
def _watched(numbers: set[int]) -> Iterator[None]:
    """Have a thread watch for signals while the block runs, where there is one to be had."""
    try:
        mine, theirs = socket.socketpair()
    except OSError:
        yield
        return
    with mine, theirs:
        mine.setblocking(False)
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(theirs, ended, numbers), name="signals", daemon=True)
        with suppress(RuntimeError):
            watch.start()
        woken = signal.set_wakeup_fd(mine.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            ended.set()
            mine.close()
            if watch.is_alive():
                watch.join()


def interrupted_by_user() -> Cancellation:
    """What a signal cancels; nothing does where no handler is in place."""
    handlers = map(signal.getsignal, ENDING_SIGNALS)  # some may be ignored
    return next((handler for handler in handlers if isinstance(handler, Interrupts)), Cancellation())


def _watch(signals: socket.socket, ended: threading.Event, numbers: set[int]) -> None:
    """Wait for one of the signals, and end the process when nothing else does."""
    while came := signals.recv(1):  # nothing comes when the other side is closed
        if came[0] in numbers and not ended.wait(PATIENCE):
            remove_unfinished(then=partial(_end, ended, 128 + came[0]))


def _end(ended: threading.Event, code: int) -> None:
    """End the process with its last words, whatever comes of them, unless its work has ended after all."""
    if ended.is_set():
        return
    try:
        with suppress(OSError, ValueError, AttributeError):
            lines = [*(words() for words in [*last_words]), "layerlift: interrupted."]
            sys.stderr.write("".join(f"{line}\n" for line in lines if line is not None))
            sys.stderr.flush()
    finally:
        os._exit(code)
