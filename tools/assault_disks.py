"""Attacks by the places that results and temporary files lie in: full, read-only, disks of their own, links."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from assault_forks import Ended, in_fork, run
from assault_ground import COMMANDS, Ground, Table, hidden, judge_words, state, states

# Quick commands, for attacks that are tried on every size of a disk.
FEW = ("remove", "remove folder", "remove model", "mask", "extract exr", "run", "scene")


@contextlib.contextmanager
def small_disk(place: Path, size: str, *, read_only: bool = False) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={size}{',ro' * read_only}", "tmpfs", str(place)]
    subprocess.run(mounted, check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


def full_disks(ground: Ground, table: Table, rounds: int) -> None:
    """The folder of the results fills up: targets lie on a small disk, and the inputs beside it."""
    for name in FEW:
        command, targets = COMMANDS[name]
        for size in ("4k", "8k", "16k", "32k", "64k", "128k", "512k"):
            for old in (False, True):
                place = ground.place(name, old=False)
                with small_disk(place / "disk", size) as disk:
                    try:
                        if old:
                            shutil.copytree(ground.old[name], disk, dirs_exist_ok=True)
                    except (OSError, shutil.Error):
                        continue
                    ended = run(place, on_disk(command, targets) + " --overwrite" * old)
                    faults = judge_words(ended, {0, 1})
                    before = states(ground.old[name], targets) if old else dict.fromkeys(targets.split(), "")
                    for target, found in states(disk, targets).items():
                        if found not in (before[target], ground.new[name][target]):
                            faults.append(f"{target} is neither old nor new")
                    faults += [f"left behind: {path.name}" for path in hidden(place)[:1]]
                table.add("full disk", f"{name} {size}{' --overwrite' * old}", faults)


def on_disk(command: str, targets: str) -> str:
    """The command with its targets in the folder `disk`."""
    names = [*targets.split(), *(f"{target}/" for target in targets.split())]
    return " ".join(f"disk/{word}" if word in names else word for word in command.split())


def full_temporary(ground: Ground, table: Table, rounds: int) -> None:
    """The folder of temporary files fills up."""
    for name, (command, _) in COMMANDS.items():
        for size in ("4k", "32k", "128k"):
            place = ground.place(name, old=True)
            with small_disk(place.parent / "small", size) as small:
                ended = run(place, command + " --overwrite", temporary=small)
            faults = ground.judge(name, place, ended, {0, 1}, old=True)
            table.add("full TMPDIR", f"{name} {size}", faults)


def read_only(ground: Ground, table: Table, rounds: int) -> None:
    """Results, or temporary files, in a read-only place."""
    for name, (command, targets) in COMMANDS.items():
        place = ground.place(name, old=False)
        with small_disk(place / "disk", "1m", read_only=True):
            ended = run(place, on_disk(command, targets))
        table.add("read-only target", name, judge_words(ended, {1}))
        place = ground.place(name, old=True)
        with small_disk(place.parent / "small", "1m", read_only=True) as small:
            ended = run(place, command + " --overwrite", temporary=small)
        table.add("read-only TMPDIR", name, ground.judge(name, place, ended, {0, 1}, old=True))


def mount_points(ground: Ground, table: Table, rounds: int) -> None:
    """Folders of results that are a disk of their own, a link to a folder, or the current folder."""
    for name in ("remove folder", "extract exr", "reference", "run", "scene", "demo"):
        command, _ = COMMANDS[name]
        for old in (False, True):
            for kind in ("mount point", "link", "current folder"):
                place = ground.place(name, old=False)
                disk = place / "out"
                with small_disk(disk, "4m") if kind == "mount point" else contextlib.nullcontext():
                    if kind == "link":
                        (place / "real").mkdir()
                        disk.symlink_to("real")
                    disk.mkdir(exist_ok=True)
                    if old:
                        shutil.copytree(ground.old[name] / "out", disk, dirs_exist_ok=True)
                    if kind == "current folder":
                        where = command.replace("-o out/", "-o .").replace("-o out", "-o .")
                        inputs = [path.name for path in ground.inputs.iterdir()]
                        where = " ".join(f"../{word}" if word in inputs else word for word in where.split())
                        ended = run_in(place, disk, where + " --overwrite" * old)
                    else:
                        ended = run(place, command + " --overwrite" * old)
                    faults = judge_words(ended, {0})
                    if ended.code == 0 and state(disk) != ground.new[name]["out"]:
                        faults.append("not the new result")
                    faults += [f"left behind: {path.name}" for path in hidden(place)[:1]]
                table.add(kind, f"{name}{' --overwrite' * old}", faults)


def run_in(place: Path, folder: Path, command: str) -> Ended:
    """Run with another current folder than the case's; `place` gets the words."""
    child = os.fork()
    words = place.with_name(place.name + ".words")
    if child == 0:
        in_fork(folder, command, words, None, None, place.parent / "temporary", os.open(os.devnull, os.O_WRONLY))
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), words.read_text(errors="replace"), 0.0, False)
