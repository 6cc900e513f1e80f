"""What is to be done, and what an executor tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Task:
    """A call that a worker makes.

    Attributes:
        name: for the user, and different for each task.
        call: the function, "module:function"; it is given what its worker tells, and `given` by name.
        given: in types that JSON has.
        again: what is given in place of that when it is tried again; None is the same.
        seconds: how long it takes, as far as one can tell.
    """

    name: str
    call: str
    given: Mapping[str, Any]
    again: Mapping[str, Any] | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task.

    Attributes:
        task: its name; empty where a place begins or ends by itself.
        place: where, a number of the executor's places.
        kind: "began"; "stage" and "step" while it works; "answer", "bug" and "lost" at its end: lost is a task whose
            worker ended, however that came.
        told: of a stage its "stage" and "total", of a step what is "done" of it, of an answer what the function
            returned and its "seconds", of a bug and what is lost a "message".
    """

    task: str
    place: int
    kind: Literal["began", "stage", "step", "answer", "bug", "lost"]
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ends(self) -> bool:
        """Whether the task is at its end, well or not."""
        return self.kind in ("answer", "bug", "lost")
