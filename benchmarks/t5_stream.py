"""Encode two prompts with a full-size T5-XXL encoder of random weights, and print what it takes.

    python benchmarks/t5_stream.py [--device cuda] [--folder DIR] [--keep]

Writes about 9.5 GB of sharded bfloat16 safetensors into DIR (a temporary folder by default) and deletes them again.
Memory is the device's peak plus the growth of this process's anonymous memory over the idle process with torch
imported and the device initialised; mapped files do not count.
"""

# ruff: noqa: T201

import argparse
import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from layerlift.engine.device import MemoryMeter, choose_policy
from layerlift.engine.device.memory import host_anonymous_bytes

# T5 v1.1 XXL, as LTX-Video's text_encoder/config.json has it.
CONFIG = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "num_heads": 64,
    "num_layers": 24,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 32128,
}
LENGTH = 256


def write_encoder(folder: Path, layers: int = CONFIG["num_layers"]) -> Path:
    """Random weights of the variance a trained T5 starts from, one file a block."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_layers": layers}))
    width, inner = CONFIG["d_model"], CONFIG["d_ff"]
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int, std: float) -> torch.Tensor:
        # One draw repeated with an offset: drawing 4.7 G normals would take minutes, and nobody looks at them.
        base = torch.randn(2**22 + 1, generator=generator)
        count = shape[0] * shape[1]
        return (base.repeat(-(-count // base.numel()))[:count] * std).to(torch.bfloat16).reshape(shape)

    save_file({"shared.weight": rand(CONFIG["vocab_size"], width, std=1.0)}, folder / "model-00000.safetensors")
    names = {"shared.weight": "model-00000.safetensors"}
    for layer in range(layers):
        attention = f"encoder.block.{layer}.layer.0"
        forward = f"encoder.block.{layer}.layer.1"
        tensors = {
            f"{attention}.SelfAttention.q.weight": rand(width, width, std=(width * 64) ** -0.5),
            f"{attention}.SelfAttention.k.weight": rand(width, width, std=width**-0.5),
            f"{attention}.SelfAttention.v.weight": rand(width, width, std=width**-0.5),
            f"{attention}.SelfAttention.o.weight": rand(width, width, std=width**-0.5),
            f"{attention}.layer_norm.weight": torch.ones(width, dtype=torch.bfloat16),
            f"{forward}.DenseReluDense.wi_0.weight": rand(inner, width, std=width**-0.5),
            f"{forward}.DenseReluDense.wi_1.weight": rand(inner, width, std=width**-0.5),
            f"{forward}.DenseReluDense.wo.weight": rand(width, inner, std=inner**-0.5),
            f"{forward}.layer_norm.weight": torch.ones(width, dtype=torch.bfloat16),
        }
        if layer == 0:
            tensors[f"{attention}.SelfAttention.relative_attention_bias.weight"] = rand(32, 64, std=width**-0.5)
        if layer == layers - 1:
            tensors["encoder.final_layer_norm.weight"] = torch.ones(width, dtype=torch.bfloat16)
        file = f"model-{layer + 1:05d}.safetensors"
        save_file(tensors, folder / file)
        names |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default=None)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--keep", action="store_true", help="keep the files, and use them when they are there")
    parser.add_argument("--layers", type=int, default=CONFIG["num_layers"])
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="layerlift-t5-"))
    try:
        if not (folder / "model.safetensors.index.json").is_file():
            began = time.perf_counter()
            write_encoder(folder, arguments.layers)
            print(
                f"wrote {sum(file.stat().st_size for file in folder.iterdir()) / 1e9:.2f} GB "
                f"in {time.perf_counter() - began:.0f} s",
                flush=True,
            )
        measure(folder, arguments.device)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


def measure(folder: Path, device: str | None) -> None:
    policy = choose_policy(device)
    place = policy.text_device
    if place.startswith("cuda"):
        torch.zeros(1, device=place)
    ids = torch.zeros(1, LENGTH, dtype=torch.long)
    ids[0, :4] = torch.tensor([19294, 17, 63, 1])
    tokens = [(ids, ids != 0), (ids.roll(1, 1), ids.roll(1, 1) != 0)]
    idle = host_anonymous_bytes()
    # Imports count: they are part of what the stage takes.
    t5 = importlib.import_module("layerlift.engine.model.t5")
    stream = importlib.import_module("layerlift.engine.model.t5_stream")
    began = time.perf_counter()
    with MemoryMeter(place) as meter, torch.inference_mode():
        encoder, tensors = t5.open_encoder(folder)
        found = stream.embed_stream(encoder, tensors, tokens, policy)
    seconds = time.perf_counter() - began
    host, there = meter.host_peak_bytes - idle, meter.device_peak_bytes
    assert all(torch.isfinite(embeds).all() for embeds in found)
    print(
        f"{place}: {seconds:.1f} s; host growth {host / 2**30:.3f} GiB + device peak {there / 2**30:.3f} GiB "
        f"= {(host + there) / 2**30:.3f} GiB",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
