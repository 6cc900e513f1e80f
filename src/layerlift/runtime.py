"""What a stage runs with: the model, the rules of the device, memory, and whom it tells. It is handed down once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from layerlift.engine.device import Policy, choose_policy
from layerlift.engine.device.budget import check_memory
from layerlift.engine.device.several import choose_devices
from layerlift.engine.planning import least_memory
from layerlift.flags import check_ranges
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.options import RuntimeOptions
from layerlift.progress import QUIET, Progress
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.engine.base import Engine

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a stage runs with.

    Attributes:
        model: an opened `Model`, or anything `open_model` takes. "none" runs without a model, as does None when no
            LTX checkpoint is on this machine.
        policy: the rules of the device.
        text_encoder: see `RuntimeOptions`.
        memory_bytes: the limit, host and device together; None is what the machine reports as usable.
        cache: cache prompt embeddings on disk.
        progress: receives the progress of each stage and can stop the work; see `Cancellation`.
        report: filled with seconds, memory and sizes.
        keeper: where stages keep what they have made; by default nothing outlives the process.
        devices: those that share the windows of one clip, the policy's first; with fewer than two it is alone.
    """

    model: Engine | str | Path | None = None
    policy: Policy = field(default_factory=choose_policy)
    text_encoder: Path | None = None
    memory_bytes: int | None = None
    cache: bool = True
    progress: Progress = QUIET
    report: Report = field(default_factory=Report)
    keeper: Keeper = TEMPORARY
    devices: tuple[str, ...] = ()

    def memory_for(self, model: Engine, devices: Sequence[str] = ()) -> int:
        """Bytes that plans of the model may count on, on each of the devices, or on the policy's own.

        That is the limit, or what the machine reports as usable. A job that goes on counts on what there was when it
        began, so that its plans are the same: if it is not there any more, they shrink when memory runs out.
        """
        if self.memory_bytes is not None:
            return self.memory_bytes
        asked = [*devices] or [self.policy.device]
        return self.keeper.settled(f"memory on {','.join(asked)}", least_memory(model, self.policy, asked))

    def part(self, name: str) -> Runtime:
        """The same for a part of a job, whose names are apart from those of other parts."""
        keeper = self.keeper.part(name)
        return replace(self, keeper=keeper, progress=keeper.watched(self.progress))

    def quiet(self) -> Runtime:
        """The same, with a report of its own, which tells nobody: for work that is one step of something larger."""
        return replace(self, progress=QUIET, report=Report(), keeper=TEMPORARY)


def open_runtime(
    options: RuntimeOptions | None = None,
    *,
    progress: Progress = QUIET,
    report: Report | None = None,
    keeper: Keeper = TEMPORARY,
) -> Runtime:
    """A runtime made from the choices; no model is opened.

    `progress` receives the progress of the work and can stop it. `report` is filled with seconds, memory and sizes;
    None makes a new one. `keeper`: see `Runtime`.

    Raises InputError for a device, number format or amount of memory that cannot be used.
    """
    options = options or RuntimeOptions()
    check_ranges(options)
    devices = choose_devices(options.devices, options.device, options.engine)
    policy = choose_policy(
        devices[0] if devices else options.device,
        options.dtype,
        options.backend,
        weights=options.weights,
        engine=options.engine,
    )
    report = report or Report()
    report.device = "mlx" if policy.engine == "mlx" else policy.device
    return Runtime(
        options.model,
        policy,
        options.text_encoder,
        check_memory(options.memory),
        options.cache,
        progress,
        report,
        keeper,
        devices,
    )


def chosen(
    kind: type[Options], options: Options | None, runtime: Runtime | None, choices: dict[str, Any]
) -> tuple[Options, Runtime]:
    """Options and runtime of a public function that takes either, or single choices by their names.

    `choices`: fields of `kind`, of `RuntimeOptions`, and `progress` and `report`.

    Raises TypeError for another name, and for a choice of the runtime beside a whole `runtime`.
    """
    names = {at.name for at in fields(kind)}  # type: ignore[arg-type]
    running = {at.name for at in fields(RuntimeOptions)} | {"progress", "report"}
    for name in choices:
        if name not in names | running:
            raise TypeError(f"unknown choice {name!r}: give one of {', '.join(sorted(names | running))}")
        if runtime is not None and name not in names:
            raise TypeError(f"both runtime and {name} were given: set it in one of them")
    own = {name: value for name, value in choices.items() if name in names}
    options = replace(options, **own) if options is not None else kind(**own)  # type: ignore[type-var]
    if runtime is None:
        rest = {name: value for name, value in choices.items() if name not in names}
        told = {"progress": rest.pop("progress", QUIET), "report": rest.pop("report", None)}
        runtime = open_runtime(RuntimeOptions(**rest), **told)
    return options, runtime
