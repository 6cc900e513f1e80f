"""What `assault.py` attacks: inputs, results before and after, and what is a fault."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from assault_forks import Ended, run

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
END_WITHIN = 2.0  # seconds from a signal to the end
HIDDEN, JOB = ".layerlift-", ".layerlift-job"

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
class Table:
    """Attacks by kind."""

    tried: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, case: str, faults: list[str]) -> None:
        self.tried[kind] = self.tried.get(kind, 0) + 1
        self.faults.setdefault(kind, [])
        if faults:
            self.faults[kind].append(f"{case}: {'; '.join(faults)}")

    def show(self, details: int) -> None:
        width = max(map(len, self.tried), default=4)
        print(f"| {'attack':{width}} | tried | clean | faults |\n| {'-' * width} | ----: | ----: | -----: |")
        for kind, tried in self.tried.items():
            bad = len(self.faults[kind])
            print(f"| {kind:{width}} | {tried:5} | {tried - bad:5} | {bad:6} |")
        bad = sum(map(len, self.faults.values()))
        tried = sum(self.tried.values())
        print(f"| {'all':{width}} | {tried:5} | {tried - bad:5} | {bad:6} |")
        for kind, faults in self.faults.items():
            for line in faults[:details]:
                print(f"  {kind}: {line}")


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
        if not killed:  # what cannot be removed is named
            left = [path for path in left if f"{path}, could not be removed" not in ended.said]
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
        odd = [name for name in odd if f"it is in {place / name}" not in ended.said]  # a result that is kept, and named
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
