"""Workers of a Ray cluster: one actor a GPU, which has a worker of its machine as `LocalExecutor` has.

Ray takes care of where actors run and tells when one is gone with its node; a new one takes its place as soon as the
cluster has room for it. All nodes have layerlift installed, and see the same files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from layerlift.batch.devices import Device
from layerlift.batch.executors.base import Dealer
from layerlift.batch.executors.local import LocalExecutor
from layerlift.batch.tasks import Event, Task
from layerlift.errors import InputError, LayerliftError

# Seconds until a cluster that has room for no actor at all is given up.
PATIENCE = 300.0
# Seconds that an actor waits for news of its worker before it says that there are none.
_EVERY = 0.3


class Place:
    """What runs in an actor."""

    def __init__(self, device: Device) -> None:
        self._executor = LocalExecutor([device])

    def ready(self) -> str:
        """Where it runs."""
        return os.uname().nodename

    def submit(self, task: Task) -> None:
        """See `Executor`."""
        self._executor.submit([task])

    def wait(self) -> list[Event]:
        """See `Executor`."""
        return self._executor.wait(_EVERY)

    def close(self) -> None:
        """See `Executor`."""
        self._executor.close()


class RayExecutor:
    """See `Executor`."""

    def __init__(self, address: str, devices: Sequence[Device] | None) -> None:
        """Connect to a cluster. `devices`: an actor for each, wherever the cluster puts it; None is one for every GPU
        of the cluster, or without one for every node.

        Raises InputError where Ray is not installed, and LayerliftError where there is no such cluster.
        """
        try:
            import ray
        except ImportError as error:
            raise InputError("--executor ray needs Ray: install layerlift[ray].") from error
        self._ray = ray
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise LayerliftError(f"there is no Ray cluster at {address}: start one with `ray start --head`.") from error
        gpus = int(ray.cluster_resources().get("GPU", 0))
        nodes = sum(node["Alive"] for node in ray.nodes())
        self._devices = [*devices] if devices is not None else [Device("gpu")] * gpus or [Device("node")] * nodes
        self._dealer = Dealer(0)
        self._actors: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}  # who is asked whether it is ready
        self._asked: dict[Any, int] = {}  # who is asked for news
        self._idle_since = time.monotonic()
        self._said: list[Event] = []
        for place in range(len(self._devices)):
            self._start(place)

    @property
    def places(self) -> list[str]:
        """The actors."""
        return [f"ray:{place}" for place in range(len(self._devices))]

    def submit(self, tasks: Sequence[Task]) -> None:
        """See `Executor`."""
        self._dealer.add(tasks)
        self._deal()

    def wait(self, seconds: float) -> list[Event]:
        """See `Executor`. Raises LayerliftError where the cluster has room for no actor."""
        waiting = [*self._starting, *self._asked]
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds) if waiting else ([], [])
        for one in ready:
            if one in self._starting:
                self._started(self._starting.pop(one), one)
            else:
                self._said += self._told(self._asked.pop(one), one)
        self._deal()
        self._check_room()
        found, self._said = self._said, []
        return found

    def close(self) -> None:
        """See `Executor`."""
        ends = [actor.close.remote() for actor in self._actors.values()]
        if ends:
            self._ray.wait(ends, num_returns=len(ends), timeout=2.0)
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._ray.shutdown()

    def _start(self, place: int) -> None:
        """Have an actor for a place; it is asked to do something when it runs."""
        device = self._devices[place]
        on_cpu = device.argv != () or device.name == "node"
        made = self._ray.remote(Place).options(num_cpus=1, num_gpus=0 if on_cpu else 1)
        self._actors[place] = made.remote(replace(device, environment=_without_gpu(device.environment)))
        self._starting[self._actors[place].ready.remote()] = place

    def _started(self, place: int, answer: Any) -> None:
        try:
            self._ray.get(answer)
        except self._ray.exceptions.RayError:
            self._start(place)
        else:
            self._dealer.open(place)

    def _told(self, place: int, answer: Any) -> list[Event]:
        """An actor's news, or that it is gone."""
        try:
            events = self._ray.get(answer)
        except self._ray.exceptions.RayError:
            task = self._dealer.close(place)
            self._start(place)
            return [Event(task.name, place, "lost", {"message": "its node or its actor is gone"})]
        except LayerliftError as error:
            raise LayerliftError(f"{self.places[place]}: {error}") from error
        found = [replace(event, place=place) for event in events]
        if any(event.ends for event in found):
            self._dealer.free(place)
        else:
            self._ask(place)
        return found

    def _deal(self) -> None:
        for place, task in self._dealer.deal():
            self._actors[place].submit.remote(task)
            self._ask(place)

    def _ask(self, place: int) -> None:
        self._asked[self._actors[place].wait.remote()] = place

    def _check_room(self) -> None:
        if len(self._starting) < len(self._devices):
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > PATIENCE:
            raise LayerliftError(
                f"the Ray cluster had no room for a worker in {PATIENCE:.0f} s: wait for its other jobs, or add nodes."
            )


def _without_gpu(environment: dict[str, str]) -> dict[str, str]:
    """What a worker has to know without which GPU it is: Ray says that."""
    return {name: value for name, value in environment.items() if name != "CUDA_VISIBLE_DEVICES"}
