"""What lies on disk for a model: where each tensor of each component is, checked against the architecture.

Three layouts become one description: Lightricks' single files, diffusers folders, and a package folder (`config.json`
beside flat safetensors files, as the demo model is shipped). Only headers are read here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from layerlift.engine.model.headers import TensorSpec, read_header
from layerlift.engine.model.schema import Index, check_config, checked, parse_json
from layerlift.errors import InputError

CLASSES = {"transformer": "LTXVideoTransformer3DModel", "vae": "AutoencoderKLLTXVideo"}
DTYPES = ("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8")
SCALE_SUFFIX = "_scale"

# Sizes of the transformer that Lightricks' metadata states under the same names as diffusers' config.
STATED_SIZES = (
    "in_channels",
    "out_channels",
    "num_attention_heads",
    "attention_head_dim",
    "cross_attention_dim",
    "num_layers",
    "caption_channels",
)

# A config is a few kilobytes, and the index of the largest model's files less than a megabyte.
LARGEST_JSON = 2**26

# How many keys an error names before it only counts.
NAMED_KEYS = 3


@dataclass(frozen=True, slots=True)
class Component:
    """The transformer or the VAE: its config, and for every tensor of its state dict where it lies."""

    kind: str
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it lies on disk; every tensor is there in its shape, none has been read."""

    path: Path
    transformer: Component
    vae: Component
    settings: Mapping[str, Any] | None = None
    """Sampling settings that came with it, as JSON."""
    text: Path | None = None
    """Ready text embeddings that came with it."""
    text_encoder: Path | None = None
    """A folder with `text_encoder` and `tokenizer` that came with it."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Describe the checkpoint at `path`, a file or a folder, and check it against its architecture.

    Raises InputError naming what is missing, left over or misshapen, when the file is truncated, a pickle or of
    another model, and when the folder has none of the known layouts.
    """
    if path.is_file():
        return _read_single_file(path)
    if not path.is_dir():
        raise InputError(f"model {path} does not exist; give a .safetensors checkpoint or a diffusers folder.")
    if (path / "transformer").is_dir() and (path / "vae").is_dir():
        return _read_diffusers_folder(path)
    if (path / "config.json").is_file() and list(path.glob("transformer*.safetensors")):
        return _read_package_folder(path)
    found = sorted(file.name for file in path.glob("*.safetensors"))
    hint = f"; did you mean {path / found[0]}?" if found else "."
    raise InputError(
        f"{path} is not a model folder: it needs folders transformer and vae, as diffusers writes them{hint}"
    )


def bundled_config(name: str) -> dict[str, Any]:
    """A config shipped with the package, such as "transformer_2b"."""
    text = (files("layerlift.engine.model") / "configs" / f"{name}.json").read_text()
    config: dict[str, Any] = json.loads(text)
    return config


def build_module(component: Component) -> Any:
    """The component's module on the meta device: its architecture without weights. Raises InputError for a config
    its class does not accept."""
    import diffusers
    import torch

    cls = getattr(diffusers, CLASSES[component.kind])
    try:
        with torch.device("meta"):
            return cls.from_config(dict(component.config))
    except (TypeError, ValueError, IndexError, NotImplementedError) as error:
        raise InputError(f"the {component.kind}'s config does not describe a {cls.__name__} ({error}).") from error


# --- layouts ---------------------------------------------------------------------------------------------------------


def _read_single_file(path: Path) -> Checkpoint:
    """Lightricks' layout: transformer under `model.diffusion_model.` (or bare), VAE under `vae.`, one file."""
    specs, metadata = read_header(path)
    prefix = "model.diffusion_model." if any(key.startswith("model.diffusion_model.") for key in specs) else ""
    proj_in = specs.get(f"{prefix}patchify_proj.weight")
    if proj_in is None or not proj_in.shape:
        raise InputError(
            f"{path} is not an LTX-Video checkpoint: it has no {prefix}patchify_proj.weight but {_some(specs)}."
        )
    ends = [specs.get(f"vae.{name}.conv.weight") for name in ("encoder.conv_out", "decoder.conv_in")]
    if not all(end is not None and len(end.shape) > 1 for end in ends):
        raise InputError(f"{path} contains an LTX-Video transformer but no VAE; give a checkpoint that has both.")

    # diffusers' converters only rename keys, so they can be run on descriptions instead of tensors.
    from diffusers.loaders.single_file_utils import (
        convert_ltx_transformer_checkpoint_to_diffusers,
        convert_ltx_vae_checkpoint_to_diffusers,
    )

    vae_specs = {key: spec for key, spec in specs.items() if key.startswith("vae.")}
    transformer_specs = {key: spec for key, spec in specs.items() if key not in vae_specs}
    vae_tensors: dict[str, TensorSpec] = convert_ltx_vae_checkpoint_to_diffusers(dict(vae_specs))
    transformer_tensors: dict[str, TensorSpec] = convert_ltx_transformer_checkpoint_to_diffusers(
        dict(transformer_specs)
    )
    transformer = Component(
        "transformer",
        _transformer_config(proj_in.shape[0], metadata, path),
        transformer_tensors,
    )
    vae = Component("vae", bundled_config(_vae_version(vae_specs)), vae_tensors)
    checkpoint = Checkpoint(path, _checked(transformer, path), _checked(vae, path))
    return replace(checkpoint, settings=_published_steps(metadata))


def _transformer_config(width: int, metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The bundled config of this width, with the sizes that the file at `path` states in its metadata."""
    large = bundled_config("transformer_13b")
    is_large = width == large["num_attention_heads"] * large["attention_head_dim"]
    config = large if is_large else bundled_config("transformer_2b")
    stated = _stated(metadata, "transformer")
    sizes = {key: stated[key] for key in STATED_SIZES if key in stated}
    return check_config("transformer", {**config, **sizes}, f"the metadata of {path}")


def _stated(metadata: Mapping[str, str], part: str) -> Mapping[str, Any]:
    """What a single file's metadata says about one of its parts, in Lightricks' own words; empty when it says
    nothing that can be read."""
    try:
        config = parse_json(metadata.get("config", "{}"))
    except ValueError:
        return {}
    value = config.get(part) if isinstance(config, dict) else None
    return value if isinstance(value, dict) else {}


def _vae_version(specs: Mapping[str, TensorSpec]) -> str:
    # The same marks diffusers' converter goes by; 0.9.6, 0.9.7 and 0.9.8 have the architecture of 0.9.5.
    if specs["vae.encoder.conv_out.conv.weight"].shape[1] == bundled_config("vae_0.9.5")["block_out_channels"][-1]:
        return "vae_0.9.5"
    if "vae.decoder.last_time_embedder.timestep_embedder.linear_1.weight" in specs:
        return "vae_0.9.1"
    return "vae_0.9.0"


def _published_steps(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Distilled checkpoints name the only noise levels they may be run at; that decides how they are sampled."""
    allowed = _stated(metadata, "scheduler").get("allowed_inference_steps")
    if not isinstance(allowed, list) or not all(isinstance(sigma, int | float) for sigma in allowed):
        return None  # `Settings` has the ranges
    sigmas = [float(sigma) for sigma in allowed if sigma > 0]
    return {"steps": len(sigmas), "sigmas": sigmas, "guidance": 1.0} if sigmas else None


def _read_diffusers_folder(path: Path) -> Checkpoint:
    components = []
    for kind in ("transformer", "vae"):
        file = path / kind / "config.json"
        config = read_json(file)
        name = config.get("_class_name")
        if name != CLASSES[kind]:
            raise InputError(f"{path / kind} is a {name}, not a {CLASSES[kind]}: {path} is not an LTX-Video model.")
        tensors = with_scales(_read_files(diffusers_files(path / kind)))
        components.append(_checked(Component(kind, check_config(kind, config, str(file)), tensors), path / kind))
    settings = path / "layerlift.json"
    encoder = (path / "text_encoder").is_dir() and (path / "tokenizer").is_dir()
    return Checkpoint(
        path,
        components[0],
        components[1],
        settings=read_json(settings) if settings.is_file() else None,
        text=_if_file(path / "text.safetensors"),
        text_encoder=path if encoder else None,
    )


def _read_package_folder(path: Path) -> Checkpoint:
    file = path / "config.json"
    config = read_json(file)
    missing = [key for key in ("transformer", "vae", "settings") if not isinstance(config.get(key), dict)]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}.")
    components = []
    for kind in ("transformer", "vae"):
        tensors = with_scales(_read_files(sorted(path.glob(f"{kind}*.safetensors"))))
        known = check_config(kind, config[kind], f"{kind} in {file}")
        components.append(_checked(Component(kind, known, tensors), path))
    return Checkpoint(
        path,
        components[0],
        components[1],
        settings=config["settings"],
        text=_if_file(path / "text.safetensors"),
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def diffusers_files(folder: Path) -> list[Path]:
    """The safetensors files of one component's folder: by its index, or the one file, or a half-precision variant.

    Raises InputError when there are none, or only pickles.
    """
    for index in sorted(folder.glob("*.safetensors.index.json")):
        names = read_index(index)
        if names:
            return [folder / name for name in names]
    found = sorted(folder.glob("*.safetensors"))
    plain = [file for file in found if file.name in ("diffusion_pytorch_model.safetensors", "model.safetensors")]
    if plain:
        return plain[:1]
    if found:
        return found[:1] if all(".fp16." in file.name or ".bf16." in file.name for file in found) else found
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.ckpt") for file in folder.glob(pattern))
    if pickles:
        raise InputError(
            f"{folder / pickles[0]} is a pickle, which could run code when opened; give the weights as .safetensors."
        )
    raise InputError(f"{folder} has no .safetensors file; the download may be incomplete, fetch it again.")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; InputError when it is missing, damaged, no file or too large."""
    if not path.exists():
        raise InputError(f"{path} is missing; the model is incomplete, fetch it again.")
    if not path.is_file() or path.stat().st_size > LARGEST_JSON:
        raise InputError(f"{path} is not a file of at most {LARGEST_JSON >> 20} MiB; fetch it again.")
    try:
        value = parse_json(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch it again.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a JSON object; fetch it again.")
    return value


def read_index(path: Path) -> Sequence[str]:
    """The names of the weight files that a `*.safetensors.index.json` lists, sorted. Raises InputError."""
    return sorted(set(checked(read_json(path), Index, str(path)).weight_map.values()))


def _read_files(paths: list[Path]) -> dict[str, TensorSpec]:
    tensors: dict[str, TensorSpec] = {}
    for file in paths:
        tensors.update(read_header(file)[0])
    return tensors


def with_scales(tensors: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Fold `X_scale` into int8 `X`."""
    quantised = {key for key, spec in tensors.items() if spec.dtype == "I8"}
    return {
        key: replace(spec, scale=tensors.get(key + SCALE_SUFFIX)) if key in quantised else spec
        for key, spec in tensors.items()
        if key.removesuffix(SCALE_SUFFIX) not in quantised or key in quantised
    }


def _checked(component: Component, path: Path) -> Component:
    """The component itself, when its tensors are exactly those its architecture has. Raises InputError otherwise."""
    expected = {key: tuple(value.shape) for key, value in build_module(component).state_dict().items()}
    check_tensors(component.tensors, expected, f"the {component.kind} in {path}")
    return component


def check_tensors(tensors: Mapping[str, TensorSpec], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raises InputError, naming the first few keys, when `tensors` are not exactly `expected` in keys and shapes, or
    have a dtype that cannot be read."""
    problems = []
    if missing := [key for key in expected if key not in tensors]:
        problems.append(f"{len(missing)} missing ({_some(missing)})")
    if extra := [key for key in tensors if key not in expected]:
        problems.append(f"{len(extra)} unexpected ({_some(extra)})")
    common = [key for key in expected if key in tensors]
    if misshapen := [
        f"{key} {list(tensors[key].shape)} instead of {list(expected[key])}"
        for key in common
        if tensors[key].shape != expected[key]
    ]:
        problems.append(f"{len(misshapen)} of the wrong shape ({_some(misshapen)})")
    if unreadable := [f"{key} {tensors[key].dtype}" for key in common if not _readable(tensors[key])]:
        problems.append(f"{len(unreadable)} of an unsupported type ({_some(unreadable)})")
    if problems:
        raise InputError(f"{where} has the wrong tensors for its architecture: {'; '.join(problems)}.")


def _readable(spec: TensorSpec) -> bool:
    if spec.dtype not in DTYPES:
        return False
    if spec.dtype != "I8":
        return True
    per_output = (spec.shape[0],) + (1,) * (len(spec.shape) - 1) if spec.shape else ()
    return spec.scale is not None and spec.scale.shape == per_output


def _some(keys: Any) -> str:
    listed = list(keys)
    more = f" and {len(listed) - NAMED_KEYS} more" if len(listed) > NAMED_KEYS else ""
    return ", ".join(str(key) for key in listed[:NAMED_KEYS]) + more


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None
