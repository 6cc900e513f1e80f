"""Jobs: commands in a queue, one at a time, each in a process of its own; what is known of them outlives the server.

Downloads are a queue of their own: they wait for the network, and what computes does not wait for them.
A job that was cancelled, crashed or lost its server goes on from its job folder: see `layerlift.jobs`.
"""

from __future__ import annotations

import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from layerlift.app.child import Child
from layerlift.app.commands import FILES, PLANNED, RESULT, STAGES, Commands, Step, line_of
from layerlift.app.events import Events
from layerlift.app.projects import ENDING, OpenProject, Projects
from layerlift.app.refusal import RefusalError
from layerlift.app.shapes import Doc, Job, NewJob
from layerlift.errors import LayerliftError
from layerlift.jobs.job import job_folder
from layerlift.jobs.lock import Lock
from layerlift.small_files import read_record
from layerlift.whole import whole_file

ENDED = ("done", "failed", "cancelled", "interrupted")
TOLD_EVERY = 0.1  # seconds between two events of a job's progress
MOST_KEPT = 50  # jobs of a project that are remembered
RESUMES = ("segment", "mask", "remove", "extract", "run")
_MEMORY = (-9, 137)  # exit codes of what the system killed


class Kept(msgspec.Struct):
    """What is on the disk of a job."""

    job: Job
    doc: Doc
    options: dict[str, Any]
    made: float = 0.0


@dataclass(slots=True)
class Entry:
    """A job in the queue. `resuming`: its first command goes on from its job folder."""

    kept: Kept
    project: str
    resuming: bool = False
    child: Child | None = None
    cancelled: bool = False
    began: float = 0.0
    stage_began: float = 0.0
    told: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def job(self) -> Job:
        """What is told of it."""
        return self.kept.job


class Jobs:
    """The queue. May be asked from any thread."""

    def __init__(self, projects: Projects, events: Events, after: Callable[[OpenProject, str, Doc], None]) -> None:
        """`after` is called when a stage of a project has made its result of a document."""
        self._projects, self._events, self._after = projects, events, after
        self._entries: list[Entry] = []
        self._changed = threading.Condition()
        self._closed = False
        self._find_lost()
        names = ("jobs", "downloads")
        self._threads = [threading.Thread(None, self._work, name, (name,), daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def all(self) -> list[Job]:
        """Every job: those that wait in the order of the queue, and those that ended."""
        with self._changed:
            return [entry.job for entry in self._entries]

    def add(self, project: OpenProject, wanted: NewJob) -> Job:
        """Put work into the queue. Raises RefusalError (400) where it cannot be begun."""
        doc = project.saved.doc
        steps = steps_of(project, doc, wanted.kind, wanted.options)
        job = Job(secrets.token_hex(6), project.name, wanted.kind, command="\n".join(map(line_of, steps)))
        entry = Entry(Kept(job, doc, dict(wanted.options), time.time()), project.name)
        with self._changed:
            first = next((n for n, other in enumerate(self._entries) if other.job.state == "waiting"), None)
            at = len(self._entries) if first is None or wanted.kind != "plan" else first  # it is short
            self._entries.insert(at, entry)
            self._forget_old(project.name)
            self._changed.notify_all()
        self._tell(entry)
        return job

    def cancel(self, name: str) -> Job:
        """Stop a job that runs or waits. Raises RefusalError (404, 409)."""
        entry = self._entry(name)
        with entry.lock:
            if entry.job.state == "waiting":
                entry.job.state, entry.job.resumable = "cancelled", True
            elif entry.job.state == "running":
                entry.cancelled = True
                if entry.child is not None:
                    entry.child.cancel()
            else:
                raise RefusalError(409, "this job has ended already.")
        self._tell(entry)
        return entry.job

    def resume(self, name: str) -> Job:
        """Have a job that was stopped go on. Raises RefusalError (404, 409)."""
        entry = self._entry(name)
        with entry.lock:
            if not entry.job.resumable or entry.job.state not in ENDED:
                raise RefusalError(409, "this job cannot go on: start it anew.")
            self._projects.get(entry.project)
            entry.job.state, entry.job.message, entry.job.resumable = "waiting", "", False
            entry.resuming, entry.cancelled = True, False
        with self._changed:
            self._entries.remove(entry)
            self._entries.append(entry)
            self._changed.notify_all()
        self._tell(entry)
        return entry.job

    def forget(self, name: str) -> None:
        """Remove a job that does not run, with what is kept to go on from. Raises RefusalError (404, 409)."""
        entry = self._entry(name)
        with self._changed:  # in which none begins to run
            if entry.job.state == "running":
                raise RefusalError(409, "this job runs: cancel it first.")
            self._entries = [other for other in self._entries if other is not entry]
        self._file(entry).unlink(missing_ok=True)
        if entry.job.resumable:
            results = self._folder(entry) / "results"
            for stage in STAGES:
                for folder in results.glob(job_folder(results / FILES[stage]).name):
                    drop_job_folder(folder)

    def close(self) -> None:
        """End what runs; it is interrupted, and can go on."""
        with self._changed:
            self._closed = True
            running = [entry for entry in self._entries if entry.job.state == "running"]
            self._changed.notify_all()
        for entry in running:
            with entry.lock:
                if entry.child is not None:
                    entry.child.cancel()
        for thread in self._threads if running else ():
            thread.join(4.0)

    def drop_project(self, name: str) -> None:
        """Forget the jobs of a project. Raises RefusalError (409) where one of them runs."""
        with self._changed:
            if any(entry.project == name and entry.job.state == "running" for entry in self._entries):
                raise RefusalError(409, "a job of this project runs: cancel it first.")
            self._entries = [entry for entry in self._entries if entry.project != name]

    def _entry(self, name: str) -> Entry:
        with self._changed:
            found = next((entry for entry in self._entries if entry.job.id == name), None)
        if found is None:
            raise RefusalError(404, "there is no such job.")
        return found

    def _find_lost(self) -> None:
        """Jobs that an earlier server left: those that ran or waited were interrupted."""
        found = []
        for path in self._projects.root.glob(f"*{ENDING}/jobs/*.json"):
            try:
                kept = read_record(path, Kept)
            except (OSError, ValueError):
                continue
            if kept.job.id != path.stem:
                continue
            kept.job.project = path.parent.parent.name.removesuffix(ENDING)
            if kept.job.state not in ENDED:
                kept.job.state, kept.job.resumable = "interrupted", True
                kept.job.message = "the server ended while this ran."
            found.append(Entry(kept, kept.job.project))
        self._entries = sorted(found, key=lambda entry: entry.kept.made)

    def _forget_old(self, project: str) -> None:
        ended = [entry for entry in self._entries if entry.project == project and entry.job.state in ENDED]
        for entry in ended[:-MOST_KEPT]:
            self._entries.remove(entry)
            self._file(entry).unlink(missing_ok=True)

    def _work(self, queue: str) -> None:
        while (entry := self._take(queue)) is not None:
            try:
                self._run(entry)
            except Exception as error:  # noqa: BLE001 - the queue goes on, and the page says what was wrong
                self._end(entry, "failed", str(error) or type(error).__name__)

    def _take(self, queue: str) -> Entry | None:
        """Wait for the next job, which runs from now on; None where the server ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._next(queue) is not None)
            entry = self._next(queue)
            if self._closed or entry is None:
                return None
            with entry.lock:
                entry.job.state = "running"
            return entry

    def _next(self, queue: str) -> Entry | None:
        waiting = (entry for entry in self._entries if entry.job.state == "waiting")
        return next((entry for entry in waiting if (entry.job.kind == "download") == (queue == "downloads")), None)

    def _run(self, entry: Entry) -> None:
        """Run a job's commands one after the other."""
        job = entry.job
        entry.began = time.monotonic()
        job.stages, job.made, job.notes = [], [], []
        self._tell(entry)
        project = self._projects.get(entry.project)
        done: set[str] = set()
        while True:
            steps = steps_of(project, entry.kept.doc, job.kind, entry.kept.options)
            step = next((step for step in steps if step.stage not in done), None)
            if step is None:
                self._end(entry, "done", job.message)
                return
            if not self._run_step(entry, project, step):
                return
            done.add(step.stage)

    def _run_step(self, entry: Entry, project: OpenProject, step: Step) -> bool:
        """Run one command; False where it did not come to its end, which is told."""
        words = list(step.words)
        entry.job.stage, entry.job.done, entry.job.total, entry.job.left = "opening", 0, None, None
        self._tell(entry, keep=False)
        if entry.resuming and step.words[0] in RESUMES:
            words.append("--resume")
        with nullcontext() if step.stage == "download" else project.frames.aside():
            for path in () if "--resume" in words else step.before:
                (self._projects.root / path).unlink(missing_ok=True)
            with entry.lock:
                if self._was_stopped(entry):
                    return False
                entry.child = child = Child(words, self._projects.root, lambda what: self._told(entry, step, what))
            began = time.monotonic()
            code = child.wait()
        entry.child, entry.resuming = None, False
        job = entry.job
        job.notes = list(dict.fromkeys([*job.notes, *child.notes()]))[:20]
        if self._was_stopped(entry):
            return False
        if code != 0:
            self._end(entry, "failed", why_it_failed(code, child.said()))
            return False
        job.message = child.said()
        if step.stage == "plan":
            job.plan = what_was_planned(project, self._projects.took(), child.lines)
        if step.makes is not None:
            job.made.append(step.makes)
        if step.stage in STAGES:
            onto = {"onto": entry.kept.options.get("onto")} if step.stage == "composite" else {}
            took = {**project.saved.made.get("took", {}), step.stage: (time.monotonic() - began) / megapixels(project)}
            project.note_made({RESULT[step.stage]: step.digest, "took": took, **onto})
            self._after(project, step.stage, entry.kept.doc)
        return True

    def _was_stopped(self, entry: Entry) -> bool:
        """Whether the user or the server's end stopped a job; that is told."""
        if entry.cancelled:
            self._end(entry, "cancelled", "it was stopped.")
            return True
        if self._closed:
            self._end(entry, "interrupted", "the server ended while this ran.")
            return True
        return False

    def _told(self, entry: Entry, step: Step, what: dict[str, Any]) -> None:
        """What a command says of its progress."""
        job, now = entry.job, time.monotonic()
        if "stage" in what:
            if job.stage != what["stage"] or "done" not in what:
                entry.stage_began = now
            job.stage, job.total, job.done = str(what["stage"])[:100], what.get("total") or None, 0
            name = f"{step.stage}: {job.stage}"
            if name not in job.stages:
                job.stages.append(name)
        if "done" in what:
            job.done = int(what["done"])
            took = now - entry.stage_began
            job.left = took / job.done * (job.total - job.done) if job.total and job.done else None
        if now - entry.told >= TOLD_EVERY or "stage" in what:
            entry.told = now
            self._tell(entry, keep=False)

    def _end(self, entry: Entry, state: Any, message: str) -> None:
        job = entry.job
        job.message, job.left = message[:1000], None
        job.resumable = state in ("failed", "cancelled", "interrupted") and job.kind not in ("plan", "download")
        job.state = state  # last: whoever sees it may have the job go on at once
        self._tell(entry)

    def _tell(self, entry: Entry, *, keep: bool = True) -> None:
        job = entry.job
        if entry.began and job.state != "waiting":
            job.seconds = round(time.monotonic() - entry.began, 2) if job.state == "running" or keep else job.seconds
        if keep:
            with suppress(OSError, LayerliftError):  # the queue goes on
                file = self._file(entry)
                if file.parent.is_dir():
                    with whole_file(file, overwrite=True, own=True) as made:
                        made.write_bytes(msgspec.json.encode(entry.kept))
        self._events.tell("job", job)

    def _folder(self, entry: Entry) -> Path:
        return self._projects.root / f"{entry.project}{ENDING}"

    def _file(self, entry: Entry) -> Path:
        return self._folder(entry) / "jobs" / f"{entry.job.id}.json"


def steps_of(
    project: OpenProject, doc: Doc, kind: str, options: Mapping[str, Any], *, everything: bool = False
) -> list[Step]:
    """The commands of a job, by what is there now: a stage that it needs and that is not stale is left out.

    With `everything`, none is: what one would type in an empty folder.

    Raises RefusalError (400) where something is missing.
    """
    commands = Commands(project.root, project.folder, project.saved.clip, doc)
    if kind == "download":
        model = options.get("model")
        if not isinstance(model, str) or not model or model.startswith("-") or "/" in model:
            raise RefusalError(400, "a download needs a model's name: /api/state lists them.")
        return [Step("download", ("download", model))]
    if kind == "export":
        return [commands.export(options)]
    last = {"run": "composite", "plan": "effects"}.get(kind, kind)
    if last not in STAGES:
        raise RefusalError(400, f"there is no work of the kind {kind!r}.")
    wanted: list[Step] = []
    for stage in STAGES[: STAGES.index(last) + 1]:
        if stage == "track" and not commands.needs_tracking() and kind != "track":
            continue
        step = commands.stage(stage, options)
        if everything or stage == kind or wanted or not is_fresh(project, step):
            wanted.append(step)
    return [*wanted, commands.plan()] if kind == "plan" else wanted


def is_fresh(project: OpenProject, step: Step) -> bool:
    """Whether a stage's result is there, made of what it would be made of now."""
    there = any((project.folder / "results").glob(FILES[step.stage]))
    return there and project.saved.made.get(RESULT[step.stage]) == step.digest


def megapixels(project: OpenProject) -> float:
    """Of all frames of a project's clip, in millions of pixels."""
    facts = project.opened.facts
    return facts.width * facts.height * facts.frames / 1e6


def what_was_planned(project: OpenProject, took: Mapping[str, float], lines: list[str]) -> dict[str, Any]:
    """What a plan found. Its time is told by what these stages took before, in seconds for a million pixels."""
    path = project.folder / "results" / PLANNED
    found = json.loads(path.read_text("utf-8"))["results"]
    seconds = None
    if "plate" in took:
        seconds = round(megapixels(project) * sum(took.get(stage, 0.0) for stage in STAGES[2:]), 1)
    known = {name: found.get(name) for name in ("memory_bytes", "windows", "borrowed", "invented", "model")}
    return {**known, "frames": project.opened.facts.frames, "seconds": seconds, "text": "\n".join(lines)}


def why_it_failed(code: int, said: str) -> str:
    """A sentence for a command that ended with a code other than 0, and what it said last."""
    if code in _MEMORY:
        return "the system ended it, most likely because memory ran out: give it less with --memory."
    if code < 0:
        return f"it crashed (signal {-code}); what is done so far is kept."
    return said or f"it ended with code {code}."


def drop_job_folder(folder: Path) -> None:
    """Remove what is kept of a job, unless a process is at work there."""
    if not folder.is_dir() or folder.is_symlink():
        return
    lock = Lock(folder / "lock")
    if lock.take():
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.leave()
