"""What a folder with SAM 2 or SAM 3 may say, looked at before transformers builds what it is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from layerlift.engine.model.checkpoint import read_index, read_json
from layerlift.engine.model.headers import read_header
from layerlift.errors import InputError, LayerliftError

# The largest numbers under names that hold these words, the first that fits: far beyond any published network, whose
# pictures have 1024 pixels a side, and small enough that what is built of them ends.
_LIMITS = (
    (re.compile(r"image_size"), 4096),
    (re.compile(r"layers|blocks|depth|stages|levels"), 256),
    (re.compile(r"kernel|padding|stride|rate|patch|scale|maskmem"), 1024),
    (re.compile(r""), 2**18),
)
_MOST_VALUES, _DEEPEST = 20_000, 20
# Numbers that a network may have beyond those in its files, for what is not kept there.
_SPARE = 2**22


def check_folder(folder: Path, config: Path) -> int:
    """How many numbers the weights in a folder are.

    Raises InputError for a config with a number that no such network has, and for weights whose headers are damaged.
    """
    for count, (name, value) in enumerate(_values(read_json(config), "")):
        most = next(most for pattern, most in _LIMITS if pattern.search(name))
        if count == _MOST_VALUES or (isinstance(value, int) and abs(value) > most):
            said = f"{name[:60]} is {value}" if count < _MOST_VALUES else "it has too many values"
            raise InputError(f"{config} cannot be used: {said}; download the segmenter again.")
    for index in folder.glob("*.safetensors.index.json"):
        read_index(index)
    headers = (read_header(file)[0] for file in sorted(folder.glob("*.safetensors")))
    return sum(prod(spec.shape) for specs in headers for spec in specs.values())


def check_size(network: Any, held: int, folder: Path) -> None:
    """Raises InputError where a network on the meta device has many more numbers than the `held` ones in its files."""
    wanted = sum(value.numel() for value in network.state_dict().values())
    if wanted > held + _SPARE:
        raise InputError(
            f"the config in {folder} is of a network of {wanted} numbers, but the weights beside it have {held}: "
            "download them again."
        )


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Raises InputError for what networks raise whose config has other paddings or heads than they were trained with:
    their weights have the shapes that it says all the same. A device that fails, or is full, is not the config's doing.
    """
    import torch

    machine = (MemoryError, OSError, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", OSError))
    try:
        yield
    except Exception as error:
        if isinstance(error, (*machine, LayerliftError)):
            raise
        said = str(error).partition("\n")[0][:200].rstrip(".")
        raise InputError(f"the networks in {folder} do not fit their config ({said}): download them again.") from error


def _values(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every value in a config, with the name it has, or the list that it is in."""
    if depth > _DEEPEST:
        yield name, 2**63  # more than anything may be
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, key, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, name, depth + 1)
    else:
        yield name, value
