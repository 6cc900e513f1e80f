"""The command line: talks to the user and decides nothing. Only `main` is meant for other code."""

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 the machine cannot do it, 2 a user's mistake, 130 interrupted, 143 and
    129 ended by SIGTERM and SIGHUP.

    A bug ends in a traceback.
    """
    from layerlift.cli.interrupts import catch_interrupts

    with catch_interrupts() as interrupts:
        # Signals are caught while what a command needs is imported, too.
        from layerlift.cli.ends import run_to_its_end

        sys.exit(run_to_its_end(arguments, interrupts))


__all__ = ["main"]
