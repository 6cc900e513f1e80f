"""Ctrl-C, which does not get lost: Python drops an exception that is raised while something is being finalised."""

import signal
import threading
from types import FrameType

from layerlift.progress import Cancellation


class Interrupts(Cancellation):
    """The handler of SIGINT: raises KeyboardInterrupt as ever, and cancels the work in case that is dropped."""

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        self.cancel()
        signal.default_int_handler(signal_number, frame)


def catch_interrupts() -> Cancellation:
    """Put a handler in place, where signals can be caught: in the main thread."""
    handler = Interrupts()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
    return handler


def interrupted_by_user() -> Cancellation:
    """What Ctrl-C cancels; nothing does where no handler is in place."""
    handler = signal.getsignal(signal.SIGINT)
    return handler if isinstance(handler, Interrupts) else Cancellation()
