"""What a worker says to whoever asked it: lines of JSON, from any thread."""

from typing import Any

from layerlift.cli.interrupts import Interrupts
from layerlift.cli.piped import PipedProgress


class Told(PipedProgress):
    """Where a worker's lines go; a `Progress`, too, whose stages become lines.

    Attributes:
        interrupts: the signals that end the worker.
        kept: what calls leave for those after them.
    """

    def __init__(self, descriptor: int, interrupts: Interrupts) -> None:
        super().__init__(descriptor)
        self.interrupts = interrupts
        self.kept: dict[str, Any] = {}
