"""What the page asks for, as command lines: the very ones that one could type in the folder."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from layerlift.app.confined import existing, inside, shortened
from layerlift.app.presets import format_of
from layerlift.app.refusal import RefusalError
from layerlift.app.settings import words_of
from layerlift.app.shapes import Doc, Thing

# Stages, each of which needs what the ones before it made; and the files by which each result is known.
STAGES = ("track", "effects", "plate", "layers", "composite")
FILES = {
    "track": "objects.mkv", "effects": "effects.mkv", "plate": "plate.mkv", "layers": "layer*.mkv",
    "composite": "composite.mkv",
}  # fmt: skip
PLANNED = "plan.json"  # what a plan found, among the results
RESULT = {"track": "objects", "effects": "effects", "plate": "plate", "layers": "layers", "composite": "composite"}


@dataclass(frozen=True, slots=True)
class Step:
    """One command.

    Attributes:
        stage: which of STAGES, or the job's kind.
        words: after `layerlift`, with paths below the folder.
        makes: what it writes first of all, a path below the folder; its job's folder lies beside that.
        digest: of the words and of what they read: results of the same digest are the same.
        before: what is removed before it begins, for it would be left of another run: paths below the folder.
    """

    stage: str
    words: tuple[str, ...]
    makes: str | None = None
    digest: str = ""
    before: tuple[str, ...] = field(default=())


class Commands:
    """The commands of one project: `root` is the folder, `folder` the project's, `clip` a path below the root."""

    def __init__(self, root: Path, folder: Path, clip: str, doc: Doc) -> None:
        self.root, self.folder, self.clip, self.doc = root, folder, clip, doc
        self._results = _plain(f"{folder.name}/results")

    def stage(self, stage: str, options: Mapping[str, Any]) -> Step:
        """The command of one of STAGES, for the results that are there now.

        Raises RefusalError (400) where something is missing.
        """
        make: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
            "track": self._track, "effects": self._effects, "plate": self._plate, "layers": self._layers,
            "composite": self._composite,
        }  # fmt: skip
        words = make[stage](options)
        made = words[words.index("-o") + 1]
        return Step(stage, tuple(words), made, self._digest(words, made), self._before(stage))

    def needs_tracking(self) -> bool:
        """Whether an object was clicked on or painted; masks from files are there already."""
        return any(thing.prompts or thing.masks for thing in self.doc.objects if thing.file is None)

    def order(self) -> list[int]:
        """The objects' ids in the order of their labels: those with clicks, those that are painted, those of files."""
        ours = [thing for thing in self.doc.objects if thing.file is None]
        clicked = [thing.id for thing in ours if _prompts(thing)]
        painted = [thing.id for thing in ours if thing.masks and not _prompts(thing)]
        return [*clicked, *painted, *(thing.id for thing in self.doc.objects if thing.file is not None)]

    def plan(self) -> Step:
        """The command that looks how a removal would run."""
        words = ["plan", self._clip(), "--mask", self._total(), "--look"]
        words += ["--source-map", f"{self._results}/forecast.mkv", "--report", f"{self._results}/{PLANNED}"]
        words += ["--overwrite", *self._model(), *words_of("plan", self.doc.settings)]
        return Step("plan", tuple(words), f"{self._results}/forecast.mkv")

    def export(self, options: Mapping[str, Any]) -> Step:
        """The command that saves a result in a preset's format. Raises RefusalError (400) where there is none."""
        chosen = format_of(options.get("preset"))
        of = options.get("of") or chosen.preset.of
        stem = _plain(f"{self.folder.name}/exports/{shortened(Path(self.clip).stem)}")
        if chosen.preset.of == "layers":
            target = f"{stem}_layer{chosen.ending}"
            words = self._layers({})
            words[words.index("-o") + 1] = target
            return Step("export", (*words, *chosen.words), target)
        name = {"mask": "effects"}.get(str(of), str(of))
        if name not in ("plate", "composite", "effects", "objects", "source"):
            raise RefusalError(400, f"{str(of)[:40]!r} is nothing that can be saved: give plate, composite or mask.")
        source = f"{self._results}/{name}.mkv"
        existing(self.folder, f"results/{name}.mkv", "result")
        target = f"{stem}_{'mask' if name == 'effects' else name}{chosen.ending}"
        return Step("export", ("save", source, "-o", target, "--overwrite", *chosen.words), target)

    def _track(self, options: Mapping[str, Any]) -> list[str]:
        if not self.needs_tracking():
            raise RefusalError(400, "no object was clicked on or painted: click on one first.")
        words, names = ["segment", self._clip()], _names(self.doc.objects)
        for thing in self.doc.objects:
            said = _prompts(thing)
            if thing.file is None and said:
                words += ["--object", f"{names[thing.id]}={' '.join(said)}"]
        for thing in self.doc.objects:
            if thing.file is None:
                for frame, path in sorted(thing.masks.items(), key=lambda item: int(item[0])):
                    words += ["--keyframe", f"{names[thing.id]}={self._mask(path)}@{frame}"]
        words += ["-o", f"{self._results}/objects.mkv", "--labels", "--overwrite"]
        return [*words, *words_of("segment", self.doc.settings)]

    def _effects(self, options: Mapping[str, Any]) -> list[str]:
        said = self.doc.effects
        words = ["mask", self._clip(), *self._objects(), "-o", f"{self._results}/effects.mkv", "--overwrite"]
        words += ["--seen", f"{self._results}/seen"]
        for flag, painted in (("--effects", said.add), ("--not-effects", said.erase)):
            for frame, path in sorted(painted.items(), key=lambda item: int(item[0])):
                words += [flag, f"{self._mask(path)}@{frame}"]
        if said.threshold is not None:
            words.append(f"--threshold={said.threshold:g}")
        if said.kinds:
            words.append(f"--kinds={','.join(said.kinds)}")
        return [*words, *self._model(), *words_of("mask", self.doc.settings)]

    def _plate(self, options: Mapping[str, Any]) -> list[str]:
        words = ["remove", self._clip(), "--mask", self._total(), "-o", f"{self._results}/plate.mkv", "--lossless"]
        words += ["--source-map", f"{self._results}/source.mkv", "--overwrite"]
        return [*words, *self._model(), *words_of("remove", self.doc.settings)]

    def _layers(self, options: Mapping[str, Any]) -> list[str]:
        words = ["extract", self._clip(), "--background", f"{self._results}/plate.mkv", *self._objects()]
        own = sorted((self.folder / "results").glob("effects_[0-9]*.mkv"), key=_number)
        names = [path.name for path in own] or (
            ["effects.mkv"] if len(self.doc.objects) < 2 else [f"effects_{n}.mkv" for n in range(len(self.doc.objects))]
        )
        for name in names:
            words += ["--total", f"{self._results}/{name}"]
        words += ["-o", f"{self._results}/layer.mkv", "--overwrite"]
        return [*words, *words_of("extract", self.doc.settings)]

    def _composite(self, options: Mapping[str, Any]) -> list[str]:
        own = sorted((self.folder / "results").glob("layer*.mkv"), key=_number)
        names = [path.name for path in own] or (
            ["layer.mkv"] if len(self.doc.objects) < 2 else [f"layer_{n}.mkv" for n in range(len(self.doc.objects))]
        )
        onto = options.get("onto")
        behind = f"{self._results}/plate.mkv"
        if onto is not None:
            existing(self.root, str(onto), "background")
            behind = _plain(str(onto))
        words = ["compose", *(f"{self._results}/{name}" for name in names), "--onto", behind]
        words += ["-o", f"{self._results}/composite.mkv", "--lossless", "--overwrite"]
        return [*words, *words_of("compose", self.doc.settings)]

    def _objects(self) -> list[str]:
        """Masks of all objects, as they are given to a command."""
        words = ["--object", f"{self._results}/objects.mkv"] if self.needs_tracking() else []
        for thing in self.doc.objects:
            if thing.file is not None:
                words += ["--object", self._mask(thing.file)]
        if not words:
            raise RefusalError(400, "there is no object yet: click on one, or import a mask.")
        return words

    def _total(self) -> str:
        if not self.doc.objects:
            raise RefusalError(400, "there is no object yet: click on one, or import a mask.")
        return f"{self._results}/effects.mkv"

    def _mask(self, path: str) -> str:
        """A mask of the project, which must be there."""
        existing(self.folder, path, "mask")
        return _plain(f"{self.folder.name}/{path}")

    def _clip(self) -> str:
        inside(self.root, self.clip)
        return _plain(self.clip)

    def _model(self) -> list[str]:
        model = self.doc.model
        if model is None:
            return []
        if "/" in model or "\\" in model or not model.isprintable():
            raise RefusalError(400, "a model is chosen by its name: /api/state lists them.")
        return [f"--model={model}"]

    def _before(self, stage: str) -> tuple[str, ...]:
        results = self.folder / "results"
        found = {"effects": "effects_*.mkv", "layers": "layer*.mkv"}.get(stage)
        return tuple(f"{self._results}/{path.name}" for path in results.glob(found)) if found else ()

    def _digest(self, words: list[str], made: str) -> str:
        """Of the words and of the files among them, by their sizes and times; what is made does not count."""
        told: list[object] = [words]
        for word in words:
            for part in {word, word.rpartition("@")[0], word.partition("=")[2].rpartition("@")[0]}:
                path = self.root / part
                if part and part != made and not part.endswith(("/seen", "/source.mkv")) and path.is_file():
                    told.append((part, path.stat().st_size, path.stat().st_mtime_ns))
        told[1:] = sorted(told[1:])  # type: ignore[type-var]
        return hashlib.blake2b(msgspec.json.encode(told), digest_size=12).hexdigest()


def line_of(step: Step) -> str:
    """A command as one types it."""
    return shlex.join(["layerlift", *step.words])


def _prompts(thing: Thing) -> list[str]:
    """What was clicked, as it is typed; a frame that is painted is known, and its clicks are not needed."""
    words = []
    for frame, said in sorted(thing.prompts.items(), key=lambda item: int(item[0])):
        if frame in thing.masks:
            continue
        words += [f"{'' if within else 'not:'}{x:.7g},{y:.7g}@{frame}" for x, y, within in _rounded(said.points)]
        if said.box is not None:
            words.append(",".join(f"{round(side, 1):.7g}" for side in said.box) + f"@{frame}")
    return words


def _rounded(points: list[tuple[float, float, bool]]) -> list[tuple[float, float, bool]]:
    return [(round(x, 1), round(y, 1), within) for x, y, within in points]


def _names(things: list[Thing]) -> dict[int, str]:
    """A name for each object that a command line takes, by id: the user's where it will do."""
    names: dict[int, str] = {}
    for thing in things:
        plain = "".join(c for c in thing.name if c.isalnum() or c in " -_").strip()
        plain = "_".join(plain.split())
        name = plain or f"object_{thing.id}"
        while name in names.values():
            name = f"{name}_{thing.id}"
        names[thing.id] = name
    return names


def _plain(path: str) -> str:
    """A path that no command takes for a flag."""
    return f"./{path}" if path.startswith("-") else path


def _number(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0
