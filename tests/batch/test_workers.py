"""Tasks are done by workers that may fail, or be killed, and every task comes to one end."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layerlift.batch.devices import Device, parse_devices
from layerlift.batch.executors.local import LocalExecutor
from layerlift.batch.queue import Outcome, work_off
from layerlift.batch.tasks import Event, Task
from layerlift.cli.interrupts import Interrupts
from layerlift.errors import InputError, LayerliftError
from layerlift.workers import commands
from layerlift.workers.told import Told


@pytest.fixture(autouse=True)
def _calls_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    made = LocalExecutor([Device("one"), Device("two", environment={"CUDA_VISIBLE_DEVICES": "7"})])
    yield made
    made.close()


def task(name: str, call: str, **given: Any) -> Task:
    return Task(name, f"calls:{call}", given)


def ends(tasks: list[Task], executor: Any, retries: int = 2, **more: Any) -> dict[str, Outcome]:
    found = [*work_off(tasks, executor, retries=retries, **more)]
    assert sorted(outcome.task.name for outcome in found) == sorted(task.name for task in tasks)
    return {outcome.task.name: outcome for outcome in found}


def test_every_task_is_done_once_and_what_is_printed_is_no_answer(executor: LocalExecutor) -> None:
    found = ends([task(str(n), "double", number=n) for n in range(20)], executor)
    assert {name: (outcome.answer, outcome.code, outcome.tries) for name, outcome in found.items()} == {
        str(n): (2 * n, 0, 1) for n in range(20)
    }


def test_a_worker_stays_and_sees_its_device_alone(executor: LocalExecutor) -> None:
    found = ends([task(str(n), "who") for n in range(8)], executor)
    seen = {(outcome.place, *outcome.answer[:2]) for outcome in found.values()}
    assert len(seen) == 2
    assert {place: visible for place, _, visible in seen}[1] == "7"


def test_what_fails_is_tried_again_and_then_set_aside_while_the_rest_go_on(executor: LocalExecutor) -> None:
    tasks = [
        task("bad", "fail"),
        task("bug", "bug"),
        task("wrong", "fail", code=2, said="no"),
        task("good", "double", number=1),
    ]
    found = ends([*tasks, task("killer", "die_at_once")], executor)
    assert {name: (end.code, end.tries) for name, end in found.items()} == {
        "bad": (1, 3), "bug": (1, 3), "wrong": (2, 1), "good": (0, 1), "killer": (1, 3),
    }  # fmt: skip
    assert found["bad"].message == "it failed"
    assert found["bug"].message == "ZeroDivisionError: a bug"
    assert found["killer"].message == "its worker was killed by SIGKILL"


def test_a_killed_task_that_gets_further_each_time_is_not_given_up(executor: LocalExecutor, tmp_path: Path) -> None:
    found = ends([task("slow", "die", before=5, count=str(tmp_path / "count"))], executor, retries=0)
    assert (found["slow"].answer, found["slow"].tries) == ("alive", 6)


def test_a_task_whose_worker_died_after_its_result_was_there_is_done(executor: LocalExecutor) -> None:
    found = ends([task("landed", "die_at_once")], executor, finished=lambda task: True)
    assert (found["landed"].code, found["landed"].tries, found["landed"].message) == (0, 1, "")


def test_another_try_may_be_given_something_else(executor: LocalExecutor) -> None:
    given = Task("again", "calls:fail", {}, again={"code": 0, "said": ""})
    assert (ends([given], executor)["again"].code, ends([given], executor)["again"].tries) == (0, 2)


def test_the_longest_begin_first() -> None:
    class Recorder:
        places = ("one",)

        def submit(self, tasks: list[Task]) -> None:
            self.tasks = [task.name for task in tasks]

        def wait(self, seconds: float) -> list[Event]:
            return [Event(name, 0, "answer", {"answer": None, "seconds": 1.0}) for name in self.tasks]

        def close(self) -> None:
            pass

    recorder = Recorder()
    list(
        work_off(
            [Task(name, "", {}, seconds=seconds) for name, seconds in (("a", 1), ("b", 3), ("c", 2))],
            recorder,
            retries=0,
        )
    )
    assert recorder.tasks == ["b", "c", "a"]


def test_a_worker_that_cannot_begin_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    from layerlift.batch.executors import local

    monkeypatch.setattr(local, "_MODULE", "layerlift.nothing")
    executor = LocalExecutor([Device("one")])
    try:
        with pytest.raises(LayerliftError, match=r"the worker on one .* No module named layerlift.nothing"):
            ends([task("any", "double", number=1)], executor, retries=9)
    finally:
        executor.close()


def test_workers_end_when_the_batch_does(executor: LocalExecutor, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    executor.submit([task("endless", "wait", path=str(path))])
    while not path.exists() or not path.read_text():
        executor.wait(0.05)
    pid = int(path.read_text())
    os.kill(pid, 0)
    executor.close()
    while True:  # a process that is gone cannot be asked
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)


def test_devices() -> None:
    assert [device.name for device in parse_devices("0,cuda:2")] == ["cuda:0", "cuda:2"]
    here = [{"CUDA_VISIBLE_DEVICES": number, "LAYERLIFT_DEVICE": "cuda"} for number in "02"]
    assert [device.environment for device in parse_devices("0,2")] == here
    one, two = parse_devices("cpu, cpu")
    assert (one.argv, two.argv) == (("--device", "cpu"),) * 2
    assert int(one.environment["OMP_NUM_THREADS"]) >= 1
    for wrong in ("", "0,0", "gpu", "mps,mps", "-1", "0,,1"):
        with pytest.raises(InputError, match="--devices"):
            parse_devices(wrong)


def test_devices_are_counted_among_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc")
    assert [device.environment["CUDA_VISIBLE_DEVICES"] for device in parse_devices("1,0")] == ["GPU-abc", "5"]
    assert len(parse_devices("auto")) == 2
    with pytest.raises(InputError, match="shows 2"):
        parse_devices("2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [device.name for device in parse_devices("auto")] == ["cpu"]


def test_a_log_that_cannot_be_written_is_no_bug(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.mkdir()
    nobody = os.open(os.devnull, os.O_WRONLY)
    try:
        told = commands.run(Told(nobody, Interrupts()), ["--version"], str(log))
    finally:
        os.close(nobody)
    assert told == {
        "code": 1,
        "message": f"{log} cannot be used: is a directory; check its disk, or choose another place.",
    }
