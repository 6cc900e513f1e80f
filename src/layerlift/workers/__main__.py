"""The worker's process: ``python -m layerlift.workers``.

Standard input has lines of JSON: ``{"call": "module:function", "given": {…}}``, one for each call, after the answer to
the one before. Standard output has the answers, lines of JSON as well: ``{"ready": true}`` when the worker has begun,
the lines of `layerlift.cli.piped` while a call works, and at its end
``{"answer": …, "seconds": …}``, or ``{"bug": text}`` when the function raised what no user can cause. The process ends,
as after SIGTERM, when standard input does: whoever asked is gone.
"""

import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from layerlift.cli.interrupts import catch_interrupts
from layerlift.workers.told import Told

# Seconds that a call has to end after whoever asked is gone.
PATIENCE = 1.5


def main() -> None:
    """Answer calls until nobody asks any more."""
    # Whatever a library prints must not get between the answers, nor read the questions.
    asked, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    calls: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(asked, calls), name="questions", daemon=True).start()
    with catch_interrupts() as interrupts:
        told = Told(answers, interrupts)
        told.tell(ready=True)
        while True:
            question = json.loads(calls.get())
            began = time.monotonic()
            try:
                answer = function_of(question["call"])(told, **question["given"])
            except Exception as error:  # noqa: BLE001 - the next call is worth answering, and this one's end is told
                traceback.print_exc()
                told.tell(bug=f"{type(error).__name__}: {error}")
            else:
                told.tell(answer=answer, seconds=time.monotonic() - began)


def function_of(name: str) -> Callable[..., Any]:
    """``module:function`` → the function."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _read(asked: TextIO, calls: "queue.SimpleQueue[str]") -> None:
    """Hand the questions on; end the process when there are no more."""
    for line in asked:
        calls.put(line)
    threading.Timer(PATIENCE, os._exit, [128 + signal.SIGTERM]).start()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)
