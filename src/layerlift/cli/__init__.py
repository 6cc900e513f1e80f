"""The command line: talks to the user and decides nothing. Only `main` is meant for other code."""

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 the machine cannot do it, 2 a user's mistake, 130 interrupted, 143 and
    129 ended by SIGTERM and SIGHUP.

    A bug ends in a traceback.
    """
    # Before the handlers of signals are in place, and after them, there is nothing to clean up, and nothing to say.
    if arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):  # in a thread, which no signal comes to
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    from layerlift.cli.interrupts import catch_interrupts

    with catch_interrupts() as interrupts:
        try:
            # Signals are caught while what a command needs is imported, too.
            from layerlift.cli.ends import run_to_its_end

            code = run_to_its_end(arguments, interrupts)
        except (KeyboardInterrupt, Exception):
            if not interrupts.cancelled:
                raise
            code = interrupts.code
            interrupts.tell()
    if interrupts.cancelled:
        # Python ends the process as by SIGINT where any text that it ran, as a dataclass is made of, was interrupted by
        # whatever signal. It forgets that when it runs another.
        exec("")
    sys.exit(code)


__all__ = ["main"]
