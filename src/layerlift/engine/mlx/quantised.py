"""The transformer's weights in MLX: as they are, or the linear layers of its blocks in 8 or 4 bits.

Quantising takes a while, so what it makes is kept as a file in the cache folder, under a name that tells the
checkpoint, the bits and the number format.
"""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from layerlift.cache import cache_folder, prune, reading
from layerlift.engine.device.budget import ran_out
from layerlift.engine.device.needs import GIB
from layerlift.engine.mlx.arrays import DTYPES
from layerlift.engine.mlx.needs import GROUP
from layerlift.engine.mlx.transformer import Transformer
from layerlift.engine.mlx.weights import ArrayFiles, evaluate, read_arrays
from layerlift.engine.model.checkpoint import Component
from layerlift.engine.model.headers import TensorSpec, read_header
from layerlift.engine.model.text import CacheWarning
from layerlift.errors import InputError
from layerlift.whole import whole_file
from mlx import nn

if TYPE_CHECKING:
    from layerlift.engine.device import Policy

BLOCKS = "transformer_blocks."
# What becomes of a quantised layer's weight.
PACKED = ("weight", "scales", "biases")

# The file format's words for number formats.
KINDS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}

# Enough of each file to tell two trainings of one architecture apart.
SAMPLES = 16
SAMPLE_BYTES = 65536


def bits_of(policy: "Policy") -> int | None:
    """Bits of a weight in the transformer's blocks; None: as they are."""
    return 4 if policy.int4 else 8 if policy.int8 else None


def load_transformer(component: Component, policy: "Policy") -> Transformer:
    """The transformer with its weights as the policy wants them kept, all in memory."""
    module, tensors = Transformer(component.config), dict(component.tensors)
    module.limit_bytes = policy.attention_limit_bytes
    dtype, bits = policy.transformer_dtype, bits_of(policy)
    packed: Mapping[str, Any] = {}
    if bits is not None:
        names = quantised_layers(tensors)
        packed = _packed(component, names, bits, dtype)
        tensors = {key: spec for key, spec in tensors.items() if key.removesuffix(".weight") not in names}
        nn.quantize(module, group_size=GROUP, bits=bits, class_predicate=lambda path, _: path in names)
    module.load_weights([*packed.items(), *read_arrays(tensors, dtype)], strict=True)
    module.freeze()
    module.eval()
    return module


def quantised_layers(tensors: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """The linear layers whose weights can be packed, by their names, and those weights.

    What comes before and after the blocks stays: it is 3% of the weights, and errors there reach everything.
    """
    return {
        key.removesuffix(".weight"): spec
        for key, spec in tensors.items()
        if key.startswith(BLOCKS) and key.endswith(".weight") and len(spec.shape) == 2 and spec.shape[1] % GROUP == 0
    }


def _packed(component: Component, layers: Mapping[str, TensorSpec], bits: int, dtype: str) -> Mapping[str, Any]:
    """Every layer's `PACKED`, by name: from the cache, or made and put there. A CacheWarning says why it is not."""
    place = packed_place(component, bits, dtype)
    with reading(place) as there:
        found = _read(place, layers, bits, dtype) if there else None
    if found is not None:
        _make_room(place, found)
        return found
    made: dict[str, Any] = {}
    files = ArrayFiles()
    for name, spec in layers.items():
        whole = files.read(spec, "float32")
        evaluate(whole, spec)
        parts = mx.quantize(whole, group_size=GROUP, bits=bits)
        del whole
        made |= {f"{name}.{part}": array for part, array in zip(PACKED, parts, strict=True)}
        for part in PACKED[1:]:
            made[f"{name}.{part}"] = made[f"{name}.{part}"].astype(DTYPES[dtype])
        del parts
        mx.eval([made[f"{name}.{part}"] for part in PACKED])  # one layer's whole weight at a time
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _make_room(place, made)
        with whole_file(place, overwrite=True, own=True) as path, path.open("wb") as stream:
            mx.save_safetensors(stream, made, metadata={"bits": str(bits), "group": str(GROUP)})
    except (OSError, RuntimeError) as error:
        _warn(f"{place} cannot be written: {str(error).lower()}")
    return made


def _make_room(place: Path, packed: Mapping[str, Any]) -> None:
    """Keep packed weights within their bounds, with those at `place`; a CacheWarning says what went."""
    removed = prune(place, sum(array.nbytes for array in packed.values()))
    if removed:
        size = f"{removed / GIB:.1f} GiB"
        warnings.warn(
            f"{size} of packed weights that were unused for the longest are gone from {place.parent}, to make room; "
            "a model is packed again when it is used.",
            CacheWarning,
            stacklevel=3,
        )


def packed_place(component: Component, bits: int, dtype: str) -> Path:
    """The file in which a transformer's packed weights are kept."""
    digest = hashlib.sha256(f"{bits} {GROUP} {dtype}".encode())
    for file in sorted({spec.file for spec in component.tensors.values()}):
        about = file.stat()
        size = about.st_size
        # With the time of change: a training that changes little may leave all samples as they were.
        digest.update(f"\0{file.name} {size} {about.st_mtime_ns}".encode())
        with file.open("rb") as stream:
            for sample in range(SAMPLES):
                stream.seek(max(0, size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    return cache_folder("mlx") / f"{digest.hexdigest()}.safetensors"


def _read(place: Path, layers: Mapping[str, TensorSpec], bits: int, dtype: str) -> dict[str, Any] | None:
    """What is kept at `place`, in memory; None when it cannot be used."""
    try:
        specs, _ = read_header(place)
    except InputError:
        _warn(f"{place} is damaged")
        return None
    for name, spec in layers.items():
        there = [specs[f"{name}.{part}"] for part in PACKED if f"{name}.{part}" in specs]
        rows, columns = spec.shape
        wanted = [(rows, columns * bits // 32), (rows, columns // GROUP), (rows, columns // GROUP)]
        kinds = ["U32", KINDS[dtype], KINDS[dtype]]
        if [part.shape for part in there] != wanted or [part.dtype for part in there] != kinds:
            _warn(f"{place} does not hold this model's weights")
            return None
    try:
        loaded: Any = mx.load(str(place))
        packed = {name: loaded.pop(name) for name in list(loaded) if name.rpartition(".")[0] in layers}
        mx.eval(list(packed.values()))
    except RuntimeError as error:
        if ran_out(error):
            raise
        _warn(f"{place} cannot be read: {str(error).lower()}")
        return None
    return packed


def _warn(reason: str) -> None:
    warnings.warn(f"The cache of packed weights is not used: {reason}.", CacheWarning, stacklevel=3)
