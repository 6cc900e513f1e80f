"""Attack the command line, and print what came of it: nothing lost, nothing half-made, nothing but sentences.

Every attack runs a command on a small drawn clip in a folder of its own, and harms it: a signal at a random moment or
at a chosen file operation, a file operation that fails, a full disk, a read-only place, a closed standard output, a
planted link, a target that appears, an input that changes. An attack is clean when the command ends with the right exit
code and without a traceback, every target holds its old or its new content, whole, and nothing is left behind but what
is named: by the command, or by the next run after one that was killed.

    python tools/assault.py --rounds 2 --seed 0

Commands run in forks of this process, so that a run costs no imports. What needs mounts, full disks and read-only
places, is skipped for users other than root on Linux.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from assault_disks import full_disks, full_temporary, mount_points, read_only
from assault_forks import LONGEST, Ended, import_all, run
from assault_ground import COMMANDS, HIDDEN, SIGNALS, Ground, Table, hidden, judge_words, state

TALKERS = (
    *("--help", "--version", "remove --help", "doctor", "download", "nope", "remove missing.mkv"),
    *("plan walk.mkv --mask mask.mkv --model demo", *(COMMANDS[name][0] for name in ("remove", "scene", "run"))),
)


# --- attacks --------------------------------------------------------------------------------------------------------


def signals_at_moments(ground: Ground, table: Table, rounds: int) -> None:
    """At random moments."""
    for name, (command, _) in COMMANDS.items():
        for number, code in SIGNALS.items():
            for turn in range(rounds):
                for old in [bool((turn + ground.chance.randrange(2)) % 2)]:
                    place = ground.place(name, old=old)
                    at = ground.chance.uniform(0.1, ground.seconds[name])
                    ended = run(place, command + " --overwrite" * old, at=at, number=number)
                    faults = ground.judge(name, place, ended, {0, code}, old=old, killed=code == -9)
                    kind = f"{signal.Signals(number).name} at a moment{', --overwrite' * old}"
                    table.add(kind, f"{name} at {at:.2f} s", faults)


def signals_at_changes(ground: Ground, table: Table, rounds: int) -> None:
    """Right before a folder is changed: where a swap can be cut in two."""
    for name, (command, _) in COMMANDS.items():
        for number, code in SIGNALS.items():
            for old in (False, True):
                # The last changes are the swap, and the removal of what was there.
                for back in ground.chance.choices(range(6), k=rounds):
                    moment = max(1, ground.events[name] - back)
                    place = ground.place(name, old=old)
                    ended = run(place, command + " --overwrite" * old, hook=partial(send, place, moment, number))
                    faults = ground.judge(name, place, ended, {0, code}, old=old, killed=code == -9)
                    kind = f"{signal.Signals(number).name} at a change{', --overwrite' * old}"
                    table.add(kind, f"{name} at change {moment}", faults)


def send(place: Path, moment: int, number: int, count: int, event: str, path: Path) -> None:  # noqa: PLR0917
    """At one of the changes: a signal."""
    if count == moment:
        place.with_name(place.name + ".attacked").write_text(str(time.monotonic()))
        os.kill(os.getpid(), number)


def slow_stages(ground: Ground, table: Table, rounds: int) -> None:
    """While one call of a library takes long, as a step of a large model does."""
    for name in ("remove model", "compose latent"):
        for number, code in list(SIGNALS.items())[:3]:
            place = ground.place(name, old=True)
            command, _ = COMMANDS[name]
            ended = run(
                place, command + " --overwrite", prepare=slow_down, at=ground.seconds[name] + 0.5, number=number
            )
            faults = ground.judge(name, place, ended, {code}, old=True)
            table.add("signal in a long call", f"{name} {signal.Signals(number).name}", faults)


def slow_down() -> None:
    """Make every attention take long in C, where no handler of Python's runs, as it does in a large model."""
    import hashlib

    import torch

    def slow(*_: object, **__: object) -> None:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)

    setattr(torch.nn.functional, "scaled_dot_product_attention", slow)  # noqa: B010 - of another type, on purpose


def closed_outputs(ground: Ground, table: Table, rounds: int) -> None:
    """Standard output is full, closed, or a pipe that nobody reads: processes of their own, as Python ends them."""
    for command in TALKERS:
        place = ground.place("remove", old=False)
        again = " --overwrite" if " -o " in command else ""
        for kind, shell in {"full": ">/dev/full", "closed": ">&-", "pipe": "| true"}.items():
            line = f'"{sys.executable}" -m layerlift {command}{again} {shell}; exit ${{PIPESTATUS[0]}}'
            words = ["bash", "-c", line]
            done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=LONGEST, check=False)
            faults = judge_words(Ended(done.returncode, done.stderr, 0, False), {0, 1, 2})
            table.add(f"standard output {kind}", command[:30], faults)


def planted_links(ground: Ground, table: Table, rounds: int) -> None:
    """A link to a victim is put where a hidden file is about to be made, and where the target is."""
    for name, (command, targets) in COMMANDS.items():
        place = ground.place(name, old=False)
        ended = run(place, command, hook=partial(plant, victims(place, 1)[0]))
        faults = judge_words(ended, {0, 1})
        if victims(place, 1)[0].read_bytes() != b"mine":
            faults.append("the link was followed")
        table.add("planted link", name, faults)
        place = ground.place(name, old=False)
        single = [target for target in targets.split() if "." in target]
        for target, victim in zip(single, victims(place, len(single)), strict=True):
            (place / target).symlink_to(victim)
        ended = run(place, f"{command} --overwrite")
        faults = judge_words(ended, {0})
        if any(victim.read_bytes() != b"mine" for victim in victims(place, len(single))):
            faults.append("the target's link was followed")
        table.add("target is a link", name, faults)


def victims(place: Path, count: int) -> list[Path]:
    """Files that nobody is to write to."""
    paths = [place.with_name(f"{place.name}.victim{number}") for number in range(count)]
    for path in paths:
        if not path.exists():
            path.write_bytes(b"mine")
    return paths


def plant(victim: Path, count: int, event: str, path: Path) -> None:
    """As if the name of a hidden file had been guessed."""
    if event == "open" and HIDDEN in path.name and not path.exists():
        path.symlink_to(victim)


def appearing_targets(ground: Ground, table: Table, rounds: int) -> None:
    """Somebody else writes the target while the command works: both contents have to be there at the end."""
    for name, (command, targets) in COMMANDS.items():
        first, swap = targets.split()[0], ground.swaps[name]
        # While it works, and at the last moment; not before: when its job has begun, a command looks for it again.
        for when, moment in {"half-way": swap - swap // 4, "at the swap": swap}.items():
            place = ground.place(name, old=False)
            ended = run(place, command, hook=partial(appear, moment, ground.old[name] / first, place / first))
            faults = judge_words(ended, {1})
            if state(place / first) != state(ground.old[name] / first):
                faults.append("what appeared was replaced")
            inputs = {path.name for path in ground.inputs.iterdir()} | set(targets.split())
            kept = [path.name for path in place.iterdir() if path.name not in inputs]
            if not any(other in ended.said for other in kept):
                faults.append("the result is lost, or not named")
            faults += [f"left behind: {path.name}" for path in hidden(place)[:1]]
            table.add(f"target appears {when}", name, faults)


def appear(moment: int, old: Path, target: Path, count: int, event: str, path: Path) -> None:  # noqa: PLR0917
    """At one of the changes: another content of the target."""
    if count == moment and not target.exists():
        shutil.copytree(old, target) if old.is_dir() else shutil.copyfile(old, target)


def changing_inputs(ground: Ground, table: Table, rounds: int) -> None:
    """An input is written again while the command works."""
    for name, (command, _) in COMMANDS.items():
        inputs = [word for word in command.split() if (ground.inputs / word).is_file()]
        for given in ground.chance.sample(inputs, min(rounds, len(inputs))):
            place = ground.place(name, old=False)
            ended = run(place, command, hook=partial(touch, place / given))
            faults = judge_words(ended, {1})
            if given not in ended.said:
                faults.append("not noticed")
            table.add("input changes", f"{name} {given}", faults)


def touch(given: Path, count: int, event: str, path: Path) -> None:
    """At the first change: the input is as old as can be."""
    if count == 1:
        os.utime(given, ns=(1, 1))


def failing_operations(ground: Ground, table: Table, rounds: int) -> None:
    """The system refuses to make, rename or remove one file or folder."""
    for name, (command, _) in COMMANDS.items():
        for old in (False, True):
            for moment in ground.chance.sample(range(1, ground.events[name] + 1), min(rounds, ground.events[name])):
                number = ground.chance.choice([errno.ENOSPC, errno.EIO, errno.EACCES])
                place = ground.place(name, old=old)
                ended = run(place, command + " --overwrite" * old, hook=partial(refuse, moment, number))
                faults = ground.judge(name, place, ended, {0, 1}, old=old)
                case = f"{name} {errno.errorcode[number]} at change {moment}"
                table.add(f"operation fails{', --overwrite' * old}", case, faults)


def refuse(moment: int, number: int, count: int, event: str, path: Path) -> None:
    """At one of the changes: an error of the system."""
    if count == moment:
        raise OSError(number, os.strerror(number), str(path))


MOUNTS = (full_disks, full_temporary, read_only, mount_points)
ATTACKS = (
    signals_at_moments, signals_at_changes, slow_stages, failing_operations, *MOUNTS, closed_outputs, planted_links,
    appearing_targets, changing_inputs,
)  # fmt: skip


def main() -> None:
    """Run the attacks."""
    parser = argparse.ArgumentParser(description="Attack the command line, and print a table of what came of it.")
    parser.add_argument("--rounds", type=int, default=1, help="random moments of each command, signal and mode")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="*", help=f"some of: {', '.join(attack.__name__ for attack in ATTACKS)}")
    parser.add_argument("--details", type=int, default=5, help="faults listed of each kind")
    given = parser.parse_args()
    mounts = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("unshare") is not None
    if mounts and "ASSAULT_INSIDE" not in os.environ:  # mounts are seen by nobody else, and gone at the end
        os.environ |= {"ASSAULT_INSIDE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands ignore it
    import_all()
    table = Table()
    with tempfile.TemporaryDirectory(prefix="assault-") as root:
        (Path(root) / "temporary").mkdir()
        ground = Ground(Path(root), given.seed)
        for attack in ATTACKS:
            if (given.only and attack.__name__ not in given.only) or (attack in MOUNTS and not mounts):
                continue
            before = time.monotonic()
            attack(ground, table, given.rounds)
            print(f"{attack.__name__}: {time.monotonic() - before:.0f} s", file=sys.stderr)
            for path in Path(root).glob("[0-9]*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    table.show(given.details)


if __name__ == "__main__":
    main()
