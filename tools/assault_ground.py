"""What `assault.py` attacks: inputs, results before and after, commands in forks, and what is a fault."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
END_WITHIN = 2.0  # seconds from a signal to the end
LONGEST = 120.0  # seconds that a command may take before it counts as hung
HIDDEN, JOB = ".layerlift-", ".layerlift-job"
# Audit events that change a folder, and so are the moments at which a signal may do harm.
CHANGES = frozenset(["os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree", "shutil.move"])

DRAW = "--size 64x48 --frames 9"
OBJECT = "walk.mkv --object object.mkv"
LAYER = f"extract {OBJECT} --background plate.mkv"
# Commands, and what they write.
COMMANDS = {
    "remove": (
        "remove walk.mkv --mask mask.mkv --model none --lossless -o out.mkv --source-map from.mkv",
        "out.mkv from.mkv",
    ),
    "remove folder": ("remove walk.mkv --mask mask.mkv --model none -o out/", "out"),
    "remove model": ("remove walk.mkv --mask mask.mkv --model demo --steps 2 --evidence off -o out.mp4", "out.mp4"),
    "remove object": (f"remove {OBJECT} --model none -o out.mov", "out.mov"),
    "mask": (
        f"mask {OBJECT} --model none -o out.mkv --preview p.png --explain e.png --soft s.mkv",
        "out.mkv p.png e.png s.mkv",
    ),
    "mask scores": (
        f"mask {OBJECT} --witnesses model --model demo -o out/ --save-scores s.safetensors",
        "out s.safetensors",
    ),
    "extract": (f"{LAYER} --total mask.mkv -o out.mov", "out.mov"),
    "extract exr": (f"{LAYER.replace('walk', 'loud')} --format exr -o out/", "out out.mka"),
    "compose": ("compose layer.mkv --onto plate.mkv -o out.mp4", "out.mp4"),
    "compose latent": (
        "compose walk.mkv --latent --background plate.mkv --object object.mkv --total mask.mkv --onto frames "
        "--model demo --refine-steps 1 -o out.mkv --keep-intermediate",
        "out.mkv out_latent.mkv out_injected.mkv",
    ),
    "segment": ("segment walk.mkv --point 51,30 --segmenter classic -o out.mkv --preview p.png", "out.mkv p.png"),
    "segment folder": ("segment walk.mkv --point 51,30 --segmenter classic -o out/", "out"),
    "reference": ("reference walk.mkv --mask still.png -o out", "out"),
    "run": (f"run {OBJECT} --onto plate.mkv --model none -o out", "out"),
    "scene": (f"scene -o out {DRAW} --seed 5", "out"),
    "demo": (f"demo -o out --seed 5 {DRAW} --model demo --steps 2", "out"),
}


@dataclass
class Ended:
    """How a command ended."""

    code: int
    said: str
    seconds: float  # from the attack to the end
    attacked: bool


class Ground:
    """The place of the attacks: inputs, old and new results of every command."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.chance = root, random.Random(seed)
        self.inputs = root / "inputs"
        self.old: dict[str, Path] = {}
        self.new: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}
        self.events: dict[str, int] = {}  # changes of folders
        self.swaps: dict[str, int] = {}  # the change that puts the first target in its place
        self._count = 0
        draw_inputs(self.inputs)
        gc.collect()  # encoders: a fork that frees them waits for threads that it does not have
        gc.freeze()
        for name, (command, targets) in COMMANDS.items():
            place = self.place(name, old=False)
            before = time.monotonic()
            ended, self.events[name], self.swaps[name] = self.counted(place, command, targets.split()[0])
            self.seconds[name] = time.monotonic() - before
            if ended.code != 0:
                raise SystemExit(f"{name} does not run without an attack: {ended.said}")
            print(f"{name}: {self.seconds[name]:.1f} s, {self.events[name]} changes", file=sys.stderr)
            self.new[name] = states(place, targets)
            self.old[name] = root / "old" / name.replace(" ", "_")
            self.old[name].mkdir(parents=True)
            for target in targets.split():
                make_old(place / target, self.old[name] / target)

    def place(self, name: str, *, old: bool) -> Path:
        """A new folder with the inputs, and with earlier results where they are to be replaced."""
        self._count += 1
        place = self.root / f"{self._count:04}"
        shutil.copytree(self.inputs, place)
        if old:
            shutil.copytree(self.old[name], place, dirs_exist_ok=True)
        return place

    def counted(self, place: Path, command: str, target: str) -> tuple[Ended, int, int]:
        """Run a command to its end; also how many times it changed a folder, and the last change that was begun without
        the target."""
        log = place.with_name(place.name + ".events")
        log.write_text("0 0")
        without = 0

        def count(number: int, event: str, path: Path) -> None:
            nonlocal without
            if not (place / target).exists():
                without = number
            log.write_text(f"{number} {without}")

        ended = run(place, command, hook=count)
        events, swap = map(int, log.read_text().split())
        return ended, events, swap

    def judge(
        self,
        name: str,
        place: Path,
        ended: Ended,
        codes: set[int],
        *,
        old: bool,
        killed: bool = False,
        kept: bool = False,
    ) -> list[str]:
        """What is wrong with an end."""
        command, targets = COMMANDS[name]
        faults = judge_words(ended, codes)
        before = states(self.old[name], targets) if old else dict.fromkeys(targets.split(), "")
        for target, found in states(place, targets).items():
            if found not in (before[target], self.new[name][target]):
                faults.append(f"{target} is neither old nor new")
            if ended.code == 0 and found != self.new[name][target]:
                faults.append(f"{target} is not the new one after exit 0")
        left = hidden(place)
        if left and not killed:
            faults.append(f"left behind: {left[0].name}")
        if left and killed:
            again = run(place, f"{command} --overwrite")
            if unnamed := [path for path in left if path.exists() and path.name not in again.said]:
                faults.append(f"not named by the next run: {unnamed[0].name}")
            faults += [f"the next run: {fault}" for fault in judge_words(again, {0})]
        known = {path.name for path in self.inputs.iterdir()} | set(targets.split())
        odd = [path.name for path in place.iterdir() if path.name not in known and not path.name.startswith(HIDDEN)]
        if "--resume" in ended.said or killed:  # work that is kept, and named
            odd = [name for name in odd if not name.endswith(JOB)]
        if odd:
            faults.append(f"unknown file: {odd[0]}")
        changed = [
            path.name
            for path in files(self.inputs)
            if (place / path.relative_to(self.inputs)).read_bytes() != path.read_bytes()
        ]
        if changed:
            faults.append(f"input changed: {changed[0]}")
        return faults


def judge_words(ended: Ended, codes: set[int]) -> list[str]:
    faults = []
    if "Traceback" in ended.said or "Exception ignored" in ended.said:
        faults.append(f"traceback ({ended.said.strip().splitlines()[-1][:90]})")
    over = "wrote " in ended.said and ended.attacked  # it was over, and its handlers were gone, when the signal came
    if ended.code not in codes and not (over and 128 - ended.code in codes):
        faults.append(f"exit {ended.code}, not {' or '.join(map(str, sorted(codes)))}")
    if ended.code > 0 and "layerlift: " not in ended.said:
        faults.append("no sentence")
    if ended.code not in (0, -9) and ended.attacked and ended.seconds > END_WITHIN:
        faults.append(f"ended only after {ended.seconds:.1f} s")
    return faults


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hidden(place: Path) -> list[Path]:
    """Hidden files and folders of runs, those inside others left out."""
    found = sorted(path for path in place.rglob(f"{HIDDEN}*"))
    return [path for path in found if not any(other in path.parents for other in found)]


def states(place: Path, targets: str) -> dict[str, str]:
    """A digest of what is at every target; "" where nothing is. Reports differ from run to run and are left out."""
    return {target: state(place / target) for target in targets.split()}


def state(path: Path) -> str:
    if not path.exists():
        return ""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else files(path):
        if HIDDEN in str(file.relative_to(path.parent)):
            continue
        digest.update(str(file.relative_to(path.parent)).encode() + b"\0")
        digest.update(b"report" if file.name == "report.json" else content(file))
    return digest.hexdigest()


def content(file: Path) -> bytes:
    """The bytes of a file; of scores, whose last bits depend on where arrays lie in memory, of rounded numbers."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if file.suffix == ".safetensors":
        with contextlib.suppress(SafetensorError):
            return bytes(load_file(file)["scores"].round(3).tobytes())
    return file.read_bytes()


def make_old(new: Path, old: Path) -> None:
    """An earlier result: the same names with other content, and, in folders, one more image."""
    if new.is_file():
        old.write_bytes(b"old " + new.name.encode())
        return
    for path in files(new):
        target = old / path.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"old " + path.name.encode())


def draw_inputs(folder: Path) -> None:
    """A clip with a moving object, its masks and plate, a layer, and a still mask that hides what no frame shows."""
    import av
    import cv2
    import numpy as np

    from layerlift.clip import Clip, write_clip, write_mask
    from layerlift.clip.rgba_writer import LayerWriter, choose_layer_format
    from layerlift.scenes import make_scene

    folder.mkdir(parents=True)
    scene = make_scene(7, 64, 48, 9)
    like = Clip.from_array(scene.video)
    write_clip(folder / "walk.mkv", scene.video, like, lossless=True)
    write_clip(folder / "plate.mkv", scene.background, like, lossless=True)
    write_clip(folder / "frames", scene.background, like)
    write_mask(folder / "mask.mkv", scene.total_mask, like)
    write_mask(folder / "object.mkv", scene.object_mask, like)
    still = np.zeros((48, 64), np.uint8)
    still[10:30, 20:40] = 255
    cv2.imwrite(str(folder / "still.png"), still)
    with LayerWriter(folder / "layer.mkv", like, choose_layer_format(folder / "layer.mkv")) as writer:
        for frame in scene.layers[0]:
            writer.write(frame.astype(np.float32) / 255)
    with av.open(str(folder / "walk.mkv")) as source, av.open(str(folder / "loud.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("pcm_s16le", rate=8000)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        tone.sample_rate = 8000
        target.mux([*sound.encode(tone), *sound.encode(None)])


# --- running --------------------------------------------------------------------------------------------------------

Hook = Callable[[int, str, Path], None]


def run(
    place: Path,
    command: str,
    *,
    hook: Hook | None = None,
    prepare: Callable[[], None] | None = None,
    temporary: Path | None = None,
    at: float | None = None,
    number: int = signal.SIGTERM,
) -> Ended:
    """Run a command in a fork, in a folder; send it a signal after `at` seconds.

    `hook` is called in the fork before every change of a folder below `place`: with its number, the event's name and
    the path. `prepare` is called in it before the command.
    """
    words = place.with_name(place.name + ".words")
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        in_fork(place, command, words, hook, prepare, temporary, begun)
    os.close(begun)
    os.read(ready, 1)
    os.close(ready)
    started = time.monotonic()
    sent = 0.0
    status = None
    while status is None:
        now = time.monotonic()
        if at is not None and not sent and now - started >= at:
            os.kill(child, number)
            sent = time.monotonic()
        if now - started > LONGEST:
            os.kill(child, signal.SIGKILL)
        found, value = os.waitpid(child, os.WNOHANG)
        status = value if found else None
        if status is None:
            time.sleep(0.002)
    ended = time.monotonic()
    said = words.read_text(errors="replace")
    hooked = place.with_name(place.name + ".attacked")
    if hooked.exists():
        sent = float(hooked.read_text())
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, said, ended - sent if sent else 0.0, bool(sent))


def in_fork(  # noqa: PLR0917
    place: Path,
    command: str,
    words: Path,
    hook: Hook | None,
    prepare: Callable[[], None] | None,
    temporary: Path | None,
    begun: int,
) -> None:
    """Become a command: never returns. Its beginning is told through the descriptor `begun`."""
    code = 1
    try:
        descriptor = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
        os.chdir(place)
        os.environ["LAYERLIFT_CACHE"] = str(place.parent / "cache")
        tempfile.tempdir = None
        os.environ["TMPDIR"] = str(temporary or place.parent / "temporary")
        if hook is not None:
            listen(place, hook)
        if prepare is not None:
            prepare()
        from layerlift.cli import main

        os.write(begun, b".")
        os.close(begun)
        try:
            main(command.split())
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - what Python does with any
        traceback.print_exc()
    finally:
        os._exit(code)


def listen(place: Path, hook: Hook) -> None:
    """Tell `hook` of every change of a folder below `place`, and of every file that is made there."""
    count, busy = 0, False

    def audit(event: str, details: tuple[object, ...]) -> None:
        nonlocal count, busy
        if busy or (event not in CHANGES and event != "open"):
            return
        if event == "open":
            flags = details[2] if isinstance(details[2], int) else 0
            if not flags & os.O_CREAT:
                return
        path = Path(os.fsdecode(details[0])) if isinstance(details[0], str | bytes | os.PathLike) else Path()
        path = path if path.is_absolute() else place / path
        if place not in path.parents:
            return
        busy = True
        try:
            count += 1
            hook(count, event, path)
        finally:
            busy = False

    sys.addaudithook(audit)


def import_all() -> None:
    """What commands import when they need it, once, and before any fork."""
    import importlib
    import pkgutil
    import warnings

    warnings.simplefilter("ignore")
    import layerlift

    for module in pkgutil.walk_packages(layerlift.__path__, "layerlift."):
        if module.name.endswith("__main__") or ".rendered" in module.name or ".bench" in module.name:
            continue
        with contextlib.suppress(ModuleNotFoundError):  # of an extra that is not installed
            importlib.import_module(module.name)
    import torch

    torch.set_num_threads(1)
