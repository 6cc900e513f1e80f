"""Ctrl-C, which does not get lost: Python drops an exception that is raised while something is being finalised."""

import signal
import threading
from types import FrameType


class Interrupts:
    """The handler of SIGINT: raises KeyboardInterrupt as ever, and remembers that it was `pressed`."""

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        self.pressed = True
        signal.default_int_handler(signal_number, frame)


def catch_interrupts() -> Interrupts:
    """Put a handler in place, where signals can be caught: in the main thread."""
    handler = Interrupts()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
    return handler


def check_interrupted() -> None:
    """Raises KeyboardInterrupt when Ctrl-C was pressed and the work goes on all the same."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, Interrupts) and handler.pressed:
        raise KeyboardInterrupt
