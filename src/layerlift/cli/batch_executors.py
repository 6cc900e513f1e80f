"""Which executor does the work of a batch, from what was typed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from layerlift.batch.executors.local import LocalExecutor
from layerlift.batch.ledger import FOLDER, Ledger
from layerlift.errors import InputError
from layerlift.parse import whole_number

if TYPE_CHECKING:
    from layerlift.batch.devices import Device
    from layerlift.batch.executors.base import Executor


def check_choices(
    executor: str, devices: str, address: str, shards: int | None, slurm: Sequence[str] | None, shard: str | None
) -> None:
    """Raises InputError for flags that do not go together."""
    others = {"--address": (address != "auto", "ray"), "--shards": (shards, "slurm"), "--slurm": (slurm, "slurm")}
    for flag, (given, who) in others.items():
        if given and executor != who:
            raise InputError(f"{flag} is for --executor {who}: add that, or leave it out.")
    if shard is not None and executor == "slurm":
        raise InputError("--shard is what every task of --executor slurm gets: leave it out, or say --shards.")
    if executor == "ray" and any(word.strip().removeprefix("cuda:").isdigit() for word in devices.split(",")):
        raise InputError("--devices with numbers is for --executor local: Ray says which GPU a worker gets.")


@contextmanager
def who_checks(executor: str, devices: "Sequence[Device]", typed: str, address: str) -> "Iterator[Executor]":
    """Who checks the clips, and does the work as well unless that is Slurm; its workers end with the block."""
    made: Executor
    if executor == "ray":
        from layerlift.batch.executors.ray import RayExecutor

        made = RayExecutor(address, None if typed.strip() == "auto" else devices)
    else:
        made = LocalExecutor(devices)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def slurm_jobs(ledger: Ledger, given: Sequence[str]) -> "Iterator[Executor]":
    """Jobs of Slurm; those that are not at their end are cancelled with the block."""
    from layerlift.batch.executors.slurm import SlurmExecutor

    made = SlurmExecutor(ledger.folder / FOLDER / "slurm", parse_parameters(given))
    try:
        yield made
    finally:
        made.close()


def parse_parameters(given: Sequence[str]) -> dict[str, int | str]:
    """``gpus_per_node=1`` → {"gpus_per_node": 1}. Raises InputError for what is no parameter."""
    found: dict[str, int | str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier() or not value:
            raise InputError(f"--slurm {text!r} is no parameter: give KEY=VALUE, such as gpus_per_node=1.")
        found[key] = value if whole_number(value) is None else int(value)
    return found
