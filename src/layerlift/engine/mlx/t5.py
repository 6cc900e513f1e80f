"""The T5 encoder in MLX, in a stream: one block at a time is read from its files, run on every prompt, let go.

The computation of transformers' `T5EncoderModel` (Apache-2.0); its settings and its buckets of distances are taken from
that class, built without memory.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from layerlift.engine.mlx.arrays import DTYPES, from_torch, to_numpy
from layerlift.engine.mlx.attention import heads, joined
from layerlift.engine.mlx.weights import read_arrays
from layerlift.engine.model.headers import TensorSpec
from layerlift.engine.model.t5_stream import EMBEDDING, STACK
from layerlift.engine.model.weights import open_tensor, part
from layerlift.progress import QUIET, StageProgress
from mlx import nn

if TYPE_CHECKING:
    import torch

    from layerlift.engine.device import Policy

ACTIVATIONS = {"relu": nn.relu, "gelu_new": nn.gelu_approx, "silu": nn.silu}
BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"
FINAL_NORM = "final_layer_norm.weight"


def embed_stream(
    encoder: Any,
    tensors: Mapping[str, TensorSpec],
    tokens: Sequence[tuple["torch.Tensor", "torch.Tensor"]],
    policy: "Policy",
    progress: StageProgress = QUIET,
) -> list["torch.Tensor"]:
    """As `layerlift.engine.model.t5_stream.embed_stream`: embeddings (1, L, D) on the CPU in the text dtype."""
    import torch

    config, dtype = encoder.config, policy.text_dtype
    rows = open_tensor(tensors[EMBEDDING])
    # Of the table only the prompts' rows are read.
    states = [from_torch(rows[ids].float()).astype(DTYPES[dtype]) for ids, _ in tokens]
    del rows
    lowest = mx.finfo(DTYPES[dtype]).min
    # (1, 1, 1, L), added to the scores: nothing looks at padding.
    there = [from_torch(mask.int())[:, None, None] > 0 for _, mask in tokens]
    masks = [mx.where(mask, 0.0, lowest).astype(DTYPES[dtype]) for mask in there]
    bias = None
    for index in range(config.num_layers):
        block = dict(read_arrays(part(tensors, f"{STACK}block.{index}."), dtype))
        if bias is None:  # the first block's, which all of them add
            bias = _position_bias(encoder, block[BIAS], tokens[0][0].shape[1])
        for row, mask in enumerate(masks):
            states[row] = run_block(config, block, states[row], bias + mask)
            mx.eval(states[row])
        del block
        progress.advance()
    ((_, norm),) = read_arrays({FINAL_NORM: tensors[STACK + FINAL_NORM]}, dtype)
    found = [mx.fast.rms_norm(state, norm, config.layer_norm_epsilon) for state in states]
    return [torch.from_numpy(to_numpy(made)).to(getattr(torch, dtype)) for made in found]


def run_block(config: Any, block: Mapping[str, Any], states: Any, bias: Any) -> Any:
    """One block over states (1, L, D); `block`: its weights by name, `bias` (1, H, L, L) is added to the scores."""
    normed = mx.fast.rms_norm(states, block["layer.0.layer_norm.weight"], config.layer_norm_epsilon)
    query, key, value = (
        heads(normed @ block[f"layer.0.SelfAttention.{name}.weight"].T, config.num_heads) for name in "qkv"
    )
    # T5 does not scale its scores.
    mixed = mx.softmax(query @ key.transpose(0, 1, 3, 2) + bias, axis=-1, precise=True) @ value
    states = states + joined(mixed) @ block["layer.0.SelfAttention.o.weight"].T

    normed = mx.fast.rms_norm(states, block["layer.1.layer_norm.weight"], config.layer_norm_epsilon)
    activate = ACTIVATIONS[config.dense_act_fn]
    dense = "layer.1.DenseReluDense."
    if config.is_gated_act:
        hidden = activate(normed @ block[f"{dense}wi_0.weight"].T) * (normed @ block[f"{dense}wi_1.weight"].T)
    else:
        hidden = activate(normed @ block[f"{dense}wi.weight"].T)
    return states + hidden @ block[f"{dense}wo.weight"].T


def _position_bias(encoder: Any, table: Any, length: int) -> Any:
    """What distances between tokens add to the scores: (1, H, L, L), of a table (buckets, H)."""
    import torch

    attention = encoder.encoder.block[0].layer[0].SelfAttention
    places = torch.arange(length)
    buckets = attention._relative_position_bucket(
        places[None] - places[:, None],
        bidirectional=True,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    return mx.take(table, from_torch(buckets.int()), axis=0).transpose(2, 0, 1)[None]
