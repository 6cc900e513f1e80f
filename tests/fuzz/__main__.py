"""Hostile files against everything that reads one: `make fuzz`.

Each input is a whole one that was changed in a few places. It is read in a process of its own with bounded time and
memory; it is clean when it is read or refused with one sentence. `corpus.json` has inputs that were faults once; they
are always tried.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from child import Outcome
    from seeds import Seed

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

CORPUS = HERE / "corpus.json"


def warm() -> None:
    """Import what readers need once, before the first fork; nothing may start a thread."""
    import av
    import cv2
    import diffusers
    import diffusers.loaders.single_file_utils
    import OpenEXR
    import pi_heif
    import torch
    import transformers
    from PIL import Image

    import layerlift.stages.removal

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    _ = diffusers.LTXVideoTransformer3DModel, diffusers.AutoencoderKLLTXVideo, transformers.T5EncoderModel
    del av, OpenEXR, pi_heif, Image, layerlift
    gc.collect()
    gc.freeze()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000, help="inputs in all, the corpus's among them")
    parser.add_argument("--seed", type=int, default=0, help="another number, other inputs")
    parser.add_argument("--kind", help="only this kind")
    parser.add_argument("--keep", action="store_true", help="add inputs that are faults to the corpus")
    given = parser.parse_args()
    warm()

    from child import bounded
    from seeds import load_seeds, make_seeds

    with tempfile.TemporaryDirectory(prefix="layerlift-fuzz-") as place:
        folder = Path(place)
        os.environ["TMPDIR"] = os.environ["LAYERLIFT_CACHE"] = place
        made = bounded(lambda: make_seeds(folder / "seeds"), limited=False)
        if made.is_fault:
            print(f"the whole inputs could not be made: {made.name}: {made.words}")
            return 1
        seeds = [seed for seed in load_seeds(folder / "seeds") if given.kind in (None, seed.kind)]
        tried, faults = run(seeds, folder, given.inputs, given.seed)
    print(table(tried))
    if given.keep and faults:
        CORPUS.write_text(lines([*corpus(), *faults.values()]), encoding="utf-8")
    return 1 if faults else 0


def run(
    seeds: list[Seed], folder: Path, inputs: int, number: int
) -> tuple[dict[str, Counter[str]], dict[str, dict[str, Any]]]:
    """Try so many inputs: how often what became of them, by kind, and one case for every fault."""
    from child import READ

    tried: dict[str, Counter[str]] = {seed.kind: Counter() for seed in seeds}
    faults: dict[str, dict[str, Any]] = {}
    for seed, edits in cases(seeds, inputs, number):
        found = attempt(seed, folder / "case", edits)
        is_fault = found.is_fault or (not edits and found.name != READ)
        tried[seed.kind]["fault" if is_fault else found.name] += 1
        name = f"{seed.kind}: {found.name}"
        if is_fault and name not in faults:
            needed = needed_of(seed, folder / "case", edits, found.name)
            faults[name] = {"seed": seed.name, "edits": needed, "was": found.name}
            print(f"{name}\n  {found.words[:300]}\n  {json.dumps(faults[name])[:600]}\n", file=sys.stderr)
    return tried, faults


def needed_of(seed: Seed, folder: Path, edits: list[Any], name: str) -> list[Any]:
    """The edits without those that a fault of this name does not need."""
    for edit in list(edits):
        fewer = [other for other in edits if other is not edit]
        if fewer and attempt(seed, folder, fewer).name == name:
            return needed_of(seed, folder, fewer, name)
    return edits


def cases(seeds: list[Seed], inputs: int, number: int) -> Iterator[tuple[Seed, list[Any]]]:
    """Every whole input, the corpus, everything that is no file, and then what is drawn, as many of each seed; where so
    few are asked for that not all of the former are tried, some from everywhere."""
    from mutate import SPECIAL, drawn

    known = {seed.name: seed for seed in seeds}
    listed: list[tuple[Seed, list[Any]]] = [(seed, []) for seed in seeds]
    listed += [(known[case["seed"]], case["edits"]) for case in corpus() if case["seed"] in known]
    listed += [(seed, [[name]]) for seed in seeds if seed.way == "special" for name in SPECIAL]
    yield from listed[:: -(-len(listed) // inputs)]
    left, drawing = max(0, inputs - len(listed)), [seed for seed in seeds if seed.way != "special"]
    for index, seed in enumerate(drawing):
        share = left // len(drawing) + (index < left % len(drawing))
        for edits in drawn(seed.edits, share, number * 1000 + index):
            yield seed, edits


def attempt(seed: Seed, folder: Path, edits: list[Any]) -> Outcome:
    """What becomes of an input; see `bounded`."""
    import readers
    from child import bounded

    path = seed.write(folder, edits)
    try:
        return bounded(lambda: getattr(readers, seed.reader)(path))
    finally:
        shutil.rmtree(folder)


def corpus() -> list[dict[str, Any]]:
    """The inputs that are always tried."""
    return json.loads(CORPUS.read_text(encoding="utf-8")) if CORPUS.exists() else []


def lines(found: list[dict[str, Any]]) -> str:
    """The corpus as text, an input a line."""
    return "[\n" + ",\n".join(json.dumps(case) for case in found) + "\n]\n"


def table(tried: dict[str, Counter[str]]) -> str:
    rows = ["| kind | tried | read | refused | faults |", "| --- | --- | --- | --- | --- |"]
    total: Counter[str] = Counter()
    for kind, counts in [*tried.items(), ("all", total)]:
        if kind != "all":
            total += counts
        rows.append(f"| {kind} | {sum(counts.values())} | {counts['read']} | {counts['refused']} | {counts['fault']} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
