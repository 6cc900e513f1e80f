"""Devices of this machine that clips are shared out to: ``--devices 0,1``, ``cpu,cpu`` or ``auto``."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from layerlift.engine.device import choose_policy
from layerlift.engine.device.policy import DEVICE
from layerlift.engine.device.several import device_names
from layerlift.errors import InputError

MOST = 256


@dataclass(frozen=True, slots=True)
class Device:
    """A device, and what a worker has to know to run on it and no other.

    Attributes:
        name: for the user.
        argv: what is added to every command line.
        environment: of its process.
    """

    name: str
    argv: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def parse_devices(text: str) -> list[Device]:
    """``0,1`` → the first two GPUs; ``cpu,cpu`` → two workers on the CPU; ``auto`` → every GPU, or the one device
    there is.

    Raises InputError for what is no list of devices, and for a GPU that is named twice.
    """
    if text.strip() == "auto":
        return [_cuda(number) for number in cuda_devices()] or [Device(choose_policy().device)]
    names = device_names(text)
    if len(names) > MOST:
        raise InputError(f"--devices has {len(names)} devices: give at most {MOST}.")
    cpus = names.count("cpu")
    gpus = [name.partition(":")[2] for name in names]
    return [_cuda(_visible(int(gpu))) if gpu else _other(name, cpus) for name, gpu in zip(names, gpus, strict=True)]


def cuda_devices() -> list[str]:
    """The numbers of the GPUs that processes of this one may use, as CUDA_VISIBLE_DEVICES has them; torch is not asked,
    which would take memory of each."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^GPU (\d+):", listed.stdout, re.MULTILINE)


def in_words(names: Sequence[str]) -> str:
    """Devices in words: each once, with how many workers it has."""
    counts = Counter(names)
    return ", ".join(name if number == 1 else f"{number} workers on {name}" for name, number in counts.items())


def _cuda(number: str) -> Device:
    # It sees no other one, and what fails on it leaves the others alone. On all of them it is the same device, whatever
    # the environment of the batch says.
    return Device(f"cuda:{number}", environment={"CUDA_VISIBLE_DEVICES": number, DEVICE: "cuda"})


def _visible(number: int) -> str:
    """What CUDA calls a GPU where only some are visible: they are counted from 0."""
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return str(number)
    found = cuda_devices()
    if number >= len(found):
        raise InputError(f"--devices names GPU {number}, but CUDA_VISIBLE_DEVICES shows {len(found)}: count from 0.")
    return found[number]


def _other(name: str, cpus: int) -> Device:
    environment = {}
    if name == "cpu" and cpus > 1:
        # Workers that all want every core wait for each other longer than they work.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environment = {"OMP_NUM_THREADS": str(max(1, cores // cpus))}
    return Device(name, ("--device", name), environment)
