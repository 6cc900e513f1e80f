"""What a safetensors file says about itself, read without reading a weight.

Format: 8 bytes little-endian header length, the header as JSON ({name: {dtype, shape, data_offsets}} and
`__metadata__`), then the data. https://huggingface.co/docs/safetensors
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerlift.errors import InputError

# The format's own limit for headers.
LARGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor as it lies on disk; `key` is its name in the file, `dtype` the file's word for it ("BF16")."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str
    scale: "TensorSpec | None" = None
    """For int8 weights: the scale per output channel, shape (out, 1, …), that they are multiplied by."""


def read_header(file: Path) -> tuple[dict[str, TensorSpec], Mapping[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises InputError when the file is missing, is a pickle, is no safetensors file, or is shorter than it says.
    """
    if not file.is_file():
        raise InputError(f"{file} does not exist or is not a file; give a .safetensors checkpoint.")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= LARGEST_HEADER:
            # Pickles are code: torch's are zip files ("PK") or, older, bare pickle streams (0x80).
            if start[:2] == b"PK" or start[:1] == b"\x80":
                raise InputError(
                    f"{file} is a pickle, which could run code when opened; give the checkpoint as .safetensors."
                )
            raise InputError(f"{file} is not a safetensors file; give a .safetensors checkpoint.")
        if 8 + length > size:
            raise InputError(
                f"{file} is truncated ({size} bytes, its header alone needs {8 + length}); fetch it again."
            )
        text = stream.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        metadata: dict[str, str] = header.pop("__metadata__", {})
        needed = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        specs = {key: TensorSpec(file, key, tuple(entry["shape"]), entry["dtype"]) for key, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{file} is not a safetensors file (its header is damaged); fetch it again.") from error
    if size < needed:
        raise InputError(f"{file} is truncated ({size} bytes of {needed}); fetch it again.")
    return specs, metadata
