"""A long command's work in a job's folder, so that it can go on after an interruption."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.cli.flags import Typed
from layerlift.cli.options import JobFlags
from layerlift.cli.terminal import say
from layerlift.places import Given

if TYPE_CHECKING:
    from layerlift.engine.base import Engine
    from layerlift.jobs.job import Job
    from layerlift.jobs.manifest import Manifest
    from layerlift.report import Report
    from layerlift.runtime import Runtime

# What was typed after `layerlift`, which is what one types again to go on.
COMMAND_LINE: ContextVar[tuple[str, ...]] = ContextVar("COMMAND_LINE", default=())

# Settings that make no other result: where it goes, and whether it goes on. What is read is compared by its content.
_ASIDE = ("clip", "output")
_MODELS = ("--model", "--text-encoder")


def open_job(target: Path) -> "Job":
    """The job that makes a file or a folder; nothing is written before it begins."""
    from layerlift.jobs.job import Job, job_folder

    return Job(job_folder(target))


@contextmanager
def work_on(
    job: "Job",
    command: str,
    target: Path,
    typed: Typed,
    read: Mapping[str, Given],
    *,
    runtime: "Runtime",
    models: "Sequence[Engine | None]",
    flags: JobFlags,
) -> Iterator[None]:
    """Do the block's work in a job's folder, which goes when the block ends well.

    After anything else it stays if there is something to go on from, and the user is told how.

    Raises InputError as `Job.begin`.
    """
    words = COMMAND_LINE.get() or (command,)
    manifest = manifest_of(command, target, typed, read, runtime=runtime, models=models)
    runtime.report.results["key"] = manifest.key()
    said = job.begin(manifest, resume=flags.resume)
    if said is not None:
        say(said)
    try:
        yield
    except BaseException:
        if job.leave():
            say(f"What is done so far is kept. To go on: {_line([*words, *([] if flags.resume else ['--resume'])])}")
        raise
    note_resumed(job, runtime.report, flags)
    job.finish()


def manifest_of(
    command: str,
    target: Path,
    typed: Typed,
    read: Mapping[str, Given],
    *,
    runtime: "Runtime",
    models: "Sequence[Engine | None]",
) -> "Manifest":
    """What a command's job is: everything it reads, and everything that was chosen."""
    from layerlift.jobs.manifest import DEVICE, VERSION, Manifest, digest_of, digest_of_model, settings_of
    from layerlift.report import versions

    words = COMMAND_LINE.get() or (command,)
    contents = {flag: digest_of(_paths(given)) for flag, given in read.items() if given and flag not in _MODELS}
    opened = {id(model): model for model in models if model is not None}
    contents |= {f"the model {model.name}": digest_of_model(model.path) for model in opened.values()}
    encoder = runtime.text_encoder
    if encoder is not None:
        contents["the text encoder"] = digest_of_model(encoder)
    contents[DEVICE] = repr(runtime.policy)
    settings = settings_of(typed, _ASIDE)
    settings |= {f"{VERSION}{name}": said for name, said in versions().items() if name != "platform"}
    return Manifest(command, str(target), _line(words), contents, settings)


def note_resumed(job: "Job", report: "Report", flags: JobFlags) -> None:
    """Tell the report, by stage, how many steps were found, and how many made again."""
    if flags.resume and job.found:
        report.results["resumed"] = dict(job.found)


def _line(words: Sequence[str]) -> str:
    return shlex.join(["layerlift", *words])


def _paths(given: Given) -> list[Path]:
    several = [given] if isinstance(given, str | Path) else given or []
    return [Path(path) for path in several]
