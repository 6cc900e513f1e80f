"""A long command's work in a job's folder, so that it can go on after an interruption."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.cli.flags import Typed
from layerlift.cli.interrupts import last_words
from layerlift.cli.options import JobFlags
from layerlift.cli.terminal import say
from layerlift.names import HIDDEN
from layerlift.places import Given
from layerlift.whole import KeptAsideError

if TYPE_CHECKING:
    from layerlift.engine.base import Engine
    from layerlift.jobs.job import Job
    from layerlift.jobs.manifest import Manifest
    from layerlift.report import Report
    from layerlift.runtime import Runtime

# What was typed after `layerlift`, which is what one types again to go on.
COMMAND_LINE: ContextVar[tuple[str, ...]] = ContextVar("COMMAND_LINE", default=())
# Where the command writes, as soon as that has been settled.
OUTPUTS: ContextVar[tuple[Path, ...]] = ContextVar("OUTPUTS", default=())

_MODELS = ("--model", "--text-encoder")


def open_job(target: Path, flags: JobFlags) -> "Job":
    """The job that makes a file or a folder; nothing is written before it begins."""
    from layerlift.jobs.job import Job, job_folder

    return Job(job_folder(target), resume=flags.resume)


@contextmanager
def work_on(
    job: "Job",
    command: str,
    target: Path,
    typed: Typed,
    read: Mapping[str, Given],
    *,
    runtime: "Runtime",
    models: "Sequence[Engine | None]" = (),
    segmenter: str | None = None,
) -> Iterator[None]:
    """Do the block's work in a job's folder, which goes when the block ends well.

    After anything else it stays if there is something to go on from, and the user is told how.

    Raises InputError as `Job.begin`.
    """
    words = COMMAND_LINE.get() or (command,)
    manifest = manifest_of(command, target, typed, read, runtime=runtime, models=models, segmenter=segmenter)
    runtime.report.results["key"] = manifest.key()
    said = job.begin(manifest)
    if said is not None:
        say(said)
    try:
        with told_how_to_go_on(words, job.leave):
            yield
    except KeptAsideError:  # the result is finished, under another name
        _finish(job)
        raise
    note_resumed(job, runtime.report)
    _finish(job)


def _finish(job: "Job") -> None:
    said = job.finish()
    if said is not None:
        say(said)


@contextmanager
def told_how_to_go_on(words: Sequence[str], leave: Callable[[], bool]) -> Iterator[None]:
    """When the block ends in any way but well, leave its work, and tell the user how it goes on: with these words and
    ``--resume``. `leave`: whether there is something to go on from.

    Some of its outputs may have their places by then: they may be replaced. Nothing is said of a result that is
    finished, and kept under another name.
    """
    free = [path for path in OUTPUTS.get() if not _taken(path)]

    def left() -> str | None:
        flags = ["--resume", *(["--overwrite"] if any(map(_taken, free)) else [])]
        again = _line(_with(words, *flags))
        return f"What is done so far is kept. To go on: {again}" if leave() else None

    last_words.append(left)
    try:
        yield
    except KeptAsideError:
        raise
    except BaseException:
        if (said := left()) is not None:
            say(said)
        raise
    finally:
        last_words.remove(left)


def manifest_of(
    command: str,
    target: Path,
    typed: Typed,
    read: Mapping[str, Given],
    *,
    runtime: "Runtime",
    models: "Sequence[Engine | None]" = (),
    segmenter: str | None = None,
) -> "Manifest":
    """What a command's job is: everything it reads, and everything that was chosen."""
    from layerlift.jobs.manifest import VERSION, Manifest, settings_of
    from layerlift.report import versions

    # The clip, and whatever else needs no flag, is told by its content alone; where the result goes makes no other one.
    settings = settings_of(typed, (*typed.arguments, "output"), typed.flags, files=(*read, *_MODELS))
    settings |= {f"{VERSION}{name}": said for name, said in versions().items() if name != "platform"}
    words = COMMAND_LINE.get() or (command,)
    return Manifest(command, str(target), _line(words), _contents(read, models, segmenter, runtime), settings)


def note_resumed(job: "Job", report: "Report") -> None:
    """Tell the report, by stage, how many steps were found, and how many made again."""
    if job.resume and job.found:
        report.results["resumed"] = dict(job.found)


def _contents(
    read: Mapping[str, Given], models: "Sequence[Engine | None]", segmenter: str | None, runtime: "Runtime"
) -> dict[str, str]:
    """What the result comes from beside what was typed: a digest of each thing, by the name the user knows it by."""
    from layerlift.jobs.manifest import DEVICE, digest_of, digest_of_model
    from layerlift.stages.segment.choose import weights_of

    found = {flag: digest_of(_paths(given)) for flag, given in read.items() if given and flag not in _MODELS}
    opened = {id(model): model for model in models if model is not None}
    found |= {f"the model {model.name}": digest_of_model(model.path) for model in opened.values()}
    if segmenter is not None:
        weights = weights_of(segmenter)
        found["the segmenter"] = segmenter if weights is None else f"{segmenter} {digest_of_model(weights)}"
    if runtime.text_encoder is not None:
        found["the text encoder"] = digest_of_model(runtime.text_encoder)
    return found | {DEVICE: repr(runtime.policy)}


def _taken(path: Path) -> bool:
    """Whether there is a result at a place."""
    with suppress(OSError):
        if path.is_dir():
            return any(not inner.name.startswith(HIDDEN) for inner in path.iterdir())
    return os.path.lexists(path)


def _with(words: Sequence[str], *flags: str) -> list[str]:
    """A command line with flags that it may have already; what follows a `--` stays behind them."""
    end = words.index("--") if "--" in words else len(words)
    return [*words[:end], *(flag for flag in flags if flag not in words[:end]), *words[end:]]


def _line(words: Sequence[str]) -> str:
    return shlex.join(["layerlift", *words])


def _paths(given: Given) -> list[Path]:
    several = [given] if isinstance(given, str | Path) else given or []
    return [Path(path) for path in several]
