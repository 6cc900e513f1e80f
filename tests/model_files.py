"""Model files in the layouts that are not diffusers' own, made from tiny models or of nothing but a header; and parts
of published models that have no weights at all."""

import json
import re
import shutil
import struct
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from layerlift.engine.model.checkpoint import Component, build_module, bundled_config
from layerlift.engine.model.headers import TensorSpec

WEIGHTS = "diffusion_pytorch_model.safetensors"


Shapes = dict[str, tuple[int, ...]]


def lightricks_shapes(transformer: str, vae: str = "vae_0.9.5") -> Shapes:
    """Keys and shapes of a single file, named by hand in Lightricks' words."""
    shapes: Shapes = {}
    module = build_module(Component("transformer", bundled_config(transformer), {}))
    names = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}
    for key, value in module.state_dict().items():
        parts = [names.get(part, part) for part in key.split(".")]
        shapes["model.diffusion_model." + ".".join(parts)] = tuple(value.shape)
    for key, value in build_module(Component("vae", bundled_config(vae), {})).state_dict().items():
        shapes["vae." + lightricks_vae_key(key)] = tuple(value.shape)
    shapes["vae.per_channel_statistics.mean-of-stds"] = (128,)
    shapes["vae.per_channel_statistics.channel"] = (128,)
    return shapes


def lightricks_vae_key(key: str) -> str:
    """0.9.5's blocks: one flat list where diffusers nests samplers in blocks."""
    if key.startswith("latents_"):
        return (
            "per_channel_statistics." + {"mean": "mean-of-means", "std": "std-of-means"}[key.removeprefix("latents_")]
        )
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", lambda m: f"DOWN.{2 * int(m[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d)", lambda m: f"DOWN.{2 * int(m[1])}", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"UP.{2 * int(m[1]) + 1}", key)
    key = re.sub(r"up_blocks\.(\d)", lambda m: f"UP.{2 * int(m[1]) + 2}", key)
    key = key.replace("encoder.mid_block", "encoder.DOWN.8").replace("decoder.mid_block", "decoder.UP.0")
    key = key.replace("DOWN", "down_blocks").replace("UP", "up_blocks").replace("resnets", "res_blocks")
    key = key.replace("decoder.time_embedder", "decoder.last_time_embedder")
    return key.replace("decoder.scale_shift_table", "decoder.last_scale_shift_table")


def write_sparse(path: Path, shapes: Mapping[str, tuple[int, ...]], config: Any = None) -> Path:
    """A bfloat16 checkpoint of these shapes whose data is a hole in the file: gigabytes that take no room."""
    header: dict[str, Any] = {}
    offset = 0
    for key, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    if config is not None:
        header["__metadata__"] = {"config": json.dumps(config)}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + offset)
    return path


def write_package(tiny: Path, folder: Path) -> None:
    """The tiny model as a flat folder in two transformer files, linear and convolution weights as int8."""
    folder.mkdir()
    for part in ("transformer", "vae"):
        tensors = {}
        for key, value in load_file(tiny / part / WEIGHTS).items():
            if key.endswith("weight") and value.ndim >= 2:
                scale = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True).clamp(min=1e-8) / 127
                scale = scale.half()
                tensors[key] = (value / scale.float()).round().clamp(-127, 127).to(torch.int8)
                tensors[f"{key}_scale"] = scale
            else:
                tensors[key] = value.half()
        keys = sorted(tensors)
        for number, half in enumerate((keys[: len(keys) // 2], keys[len(keys) // 2 :])):
            save_file({key: tensors[key] for key in half}, folder / f"{part}-{number}.safetensors")
    config = {part: json.loads((tiny / part / "config.json").read_text()) for part in ("transformer", "vae")}
    config["settings"] = json.loads((tiny / "layerlift.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tiny / "text.safetensors", folder)


def component(kind: str, name: str, stored: str = "BF16") -> Component:
    """A part of a published model, as if its weights lay on the disk in one type."""
    config = bundled_config(name)
    values = build_module(Component(kind, config, {})).state_dict()
    return Component(
        kind, config, {key: TensorSpec(Path("x"), key, tuple(value.shape), stored) for key, value in values.items()}
    )


class Live(TorchDispatchMode):
    """Bytes of tensors made inside that are still there, and their peak: on the meta device, for nothing."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen = {value.untyped_storage()._cdata for value in [*module.parameters(), *module.buffers()]}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self.seen:
                storage = value.untyped_storage()
                self.seen.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return made

    def _free(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size
