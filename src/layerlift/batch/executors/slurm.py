"""Jobs of a Slurm cluster, submitted with submitit: an array job has a task for each of those that are submitted.

A task of the array that is preempted or whose node fails is put into the queue again by Slurm; it then does the same
again. What it has to do is for such tasks as may be done twice.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layerlift.batch.devices import Device
from layerlift.batch.executors.local import LocalExecutor
from layerlift.batch.queue import lost
from layerlift.batch.tasks import Event, Task
from layerlift.errors import InputError, LayerliftError

# Seconds between two questions to Slurm.
EVERY = 2.0
# Answers of Slurm without a job that has left no result, one after the other, until it is taken for gone.
MOST_MISSED = 10
# Seconds that Slurm may take to end a process after its signal, and more: its KillWait is 30.
SPARED = 120.0
# Minutes that a job may take where nobody says otherwise.
LIMIT = 24 * 60


class SlurmExecutor:
    """See `Executor`. It has as many places as tasks: Slurm decides how many of them run."""

    def __init__(self, folder: Path, parameters: Mapping[str, int | str]) -> None:
        """`folder`: for submitit's files and logs, on storage that all nodes see. `parameters`: of submitit, such as
        gpus_per_node and slurm_partition.

        Raises InputError where submitit is not installed or takes no such parameter, and LayerliftError without Slurm.
        """
        try:
            import submitit
        except ImportError as error:
            raise InputError("--executor slurm needs submitit: install layerlift[slurm].") from error
        if shutil.which("sbatch") is None:
            raise LayerliftError("there is no Slurm here: sbatch was not found.")
        folder.mkdir(parents=True, exist_ok=True)
        self._executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        try:
            self._executor.update_parameters(**{"name": "layerlift", "timeout_min": LIMIT, **parameters})
        except (NameError, ValueError, TypeError, AssertionError) as error:
            said = " ".join(str(error).split())
            raise InputError(f"--slurm has what submitit does not take: {said}") from error
        self._jobs: dict[int, tuple[Task, Any]] = {}
        self._running: set[int] = set()
        self._missed: dict[int, int] = {}
        self.places: list[str] = []  # Slurm's numbers of the jobs

    def submit(self, tasks: Sequence[Task]) -> None:
        """See `Executor`: one array job."""
        if not tasks:
            return
        try:
            jobs = self._executor.map_array(run_task, tasks)
        except Exception as error:
            raise LayerliftError(f"Slurm did not take the job: {' '.join(str(error).split())}") from error
        for task, job in zip(tasks, jobs, strict=True):
            self._jobs[len(self.places)] = task, job
            self.places.append(f"job {job.job_id}")

    def wait(self, seconds: float) -> list[Event]:
        """See `Executor`."""
        found = self._look()
        if not found:
            time.sleep(min(EVERY, max(seconds, 0.1)))
        return found

    def _look(self) -> list[Event]:
        states = _states()
        found = []
        for place, (task, job) in [*self._jobs.items()]:
            state, ended = states.get(str(job.job_id)), job.paths.result_pickle.exists()
            if place not in self._running and (ended or state == "RUNNING"):
                self._running.add(place)
                found.append(Event(task.name, place, "began"))
            # The result of one that has just ended may come late, and Slurm may not answer for a moment.
            self._missed[place] = 0 if ended or state is not None else self._missed.get(place, 0) + 1
            if ended or self._missed[place] > MOST_MISSED:
                found.append(_end(task, place, job) if ended else _gone(task, place, job))
                self._running.discard(place)
                del self._jobs[place]
        return found

    def close(self) -> None:
        """See `Executor`."""
        for _, job in self._jobs.values():
            job.cancel()


def _states() -> dict[str, str]:
    """The state of every job of this user that is not at its end, by number. Slurm's accounting is not asked: many
    clusters have none."""
    user = getpass.getuser()
    told = subprocess.run(
        ["squeue", "-h", "-r", "-u", user, "-o", "%i %T"], capture_output=True, text=True, check=False
    )
    return dict(line.split(maxsplit=1) for line in told.stdout.splitlines() if " " in line)


def _gone(task: Task, place: int, job: Any) -> Event:
    """A job that is no longer there and left no result."""
    return Event(
        task.name, place, "lost", {"message": f"job {job.job_id} is gone without a result: {job.paths.stderr}"}
    )


def _end(task: Task, place: int, job: Any) -> Event:
    """What became of a job that is at its end."""
    try:
        event: Event = job.result()
    except Exception as error:  # noqa: BLE001 - submitit's own, and whatever happened there
        said = " ".join(str(error).split())[-300:] or type(error).__name__
        return Event(task.name, place, "lost", {"message": f"job {job.job_id} ended: {said}"})
    return Event(task.name, place, event.kind, event.told)


def run_task(task: Task) -> Event:
    """What a task of the array does: it has the task done by a worker of its node; returns the event that ends it."""
    executor = LocalExecutor([Device("device")])
    try:
        executor.submit([task])
        while True:
            for event in executor.wait(1.0):
                if event.ends:
                    if lost(event):
                        # Slurm told everything here to end, and will end this process, too; then it does it again.
                        # Who says that it is lost would have it done twice.
                        time.sleep(SPARED)
                    return event
    finally:
        executor.close()
