"""What a safetensors file says about itself, read without reading a weight.

Format: 8 bytes little-endian header length, the header as JSON ({name: {dtype, shape, data_offsets}} and
`__metadata__`), then the data. https://huggingface.co/docs/safetensors
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from layerlift.errors import InputError

# The format's own limit for headers.
LARGEST_HEADER = 100_000_000
# Far more tensors than the largest model's files have.
MOST_TENSORS = 100_000
# Bits of a number, by the format's words for types.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip

_Size = Annotated[int, Meta(ge=0, le=2**48)]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a header says of a tensor."""

    dtype: str
    shape: Annotated[tuple[_Size, ...], Meta(max_length=8)]
    data_offsets: tuple[_Size, _Size]


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

    Raises InputError when the file is missing, is a pickle, is no safetensors file, or is not as long as it says; and
    unless its tensors lie one after the other, each with the bytes that its shape and type take.
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
    specs, metadata = _read(file, text)
    needed = 8 + length + _check_offsets(file, specs)
    if size < needed:
        raise InputError(f"{file} is truncated ({size} bytes of {needed}); fetch it again.")
    if size > needed:
        raise _damaged(file, f"{size - needed} bytes belong to no tensor")
    return {key: TensorSpec(file, key, entry.shape, entry.dtype) for key, entry in specs.items()}, metadata


def open_weights(file: Path) -> Any:
    """A safetensors file whose header was read before, memory-mapped, as `safetensors.safe_open` has it.

    Raises InputError for what safetensors itself finds wrong, such as a file that was changed since.
    """
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="pt", device="cpu")
    except (SafetensorError, FileNotFoundError) as error:
        raise _damaged(file, str(error)) from error


def _read(file: Path, text: bytes) -> tuple[dict[str, _Entry], Mapping[str, str]]:
    """The entries of a header, each with the types that the format asks for, and the metadata."""
    try:
        header = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(header.pop("__metadata__", b"{}"), type=dict[str, str])
        if len(header) > MOST_TENSORS:
            raise _damaged(file, f"it has {len(header)} tensors")
        entries = {key: msgspec.json.decode(entry, type=_Entry) for key, entry in header.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(file, "its header is damaged") from error
    if not text.startswith(b"{"):
        raise _damaged(file, "its header is damaged")
    return entries, metadata


def _check_offsets(file: Path, entries: Mapping[str, _Entry]) -> int:
    """Bytes of data. Raises InputError unless every tensor has the bytes that its type and shape take, and they follow
    each other without a gap."""
    end = 0
    for key, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        bits = BITS.get(entry.dtype)
        if bits is None:
            raise _damaged(file, f"{key} has the unknown type {entry.dtype[:20]!r}")
        start, stop = entry.data_offsets
        if start != end:
            raise _damaged(file, f"{key} begins at byte {start} of the data instead of {end}")
        if (stop - start) * 8 != prod(entry.shape) * bits:
            raise _damaged(file, f"{key} has {stop - start} bytes, which is not what {list(entry.shape)} takes")
        end = stop
    return end


def _damaged(file: Path, reason: str) -> InputError:
    return InputError(f"{file} is not a safetensors file ({reason}); fetch it again.")
