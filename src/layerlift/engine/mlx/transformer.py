"""The LTX transformer in MLX: the computation of diffusers' `LTXVideoTransformer3DModel` (Apache-2.0), whose names its
modules have, so that a checkpoint's tensors fit as they are.

What is the same in every step of a loop is computed once and handed in: `Text`, `Times` and rotary tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from layerlift.engine.mlx.attention import attend, heads, joined, rotate
from layerlift.engine.mlx.tables import SINUSOIDS, Rotary, sinusoids
from mlx import nn

# Padding's bias in the softmax, as diffusers has it.
PADDING_BIAS = -10000.0
# The layers of queries and keys are normalised with another epsilon than the config's.
QK_EPS = 1e-5
OUT_EPS = 1e-6

KeysValues = tuple[Any, Any]
# (layer, "content" or "positional", queries, keys): told of every layer's self-attention
Watch = Callable[[int, str, Any, Any], None]


@dataclass(frozen=True, slots=True)
class Text:
    """One batch of prompts: every layer's keys and values (b, H, L, d), and the bias (b, 1, 1, L) of its padding."""

    keys_values: Sequence[KeysValues]
    bias: Any


@dataclass(frozen=True, slots=True)
class Times:
    """The timesteps of a pass.

    Attributes:
        rows: what each of R different timesteps becomes, for the blocks, (R, 6, D).
        embedded: the same for the last layer, (R, D).
        index: (S,) which of them each token has; None: all tokens have the one there is.
    """

    rows: Any
    embedded: Any
    index: Any


class Kept:
    """Keys and values (b, H, S, d) of every token and layer, kept between the passes of a loop."""

    def __init__(self, layers: int) -> None:
        self.layers: list[KeysValues | None] = [None] * layers

    def update(self, layer: int, key: Any, value: Any, fresh: Any) -> KeysValues:
        """All tokens' keys and values, after putting those of the tokens `fresh` (N,) in their places; None: these are
        all tokens'."""
        kept = self.layers[layer]
        if fresh is None or kept is None:
            if fresh is not None:
                raise ValueError("the first pass of a loop must be over all tokens")
            self.layers[layer] = key, value
            return key, value
        for whole, part in zip(kept, (key, value), strict=True):
            whole[:, :, fresh] = part
        return kept


class Attention(nn.Module):
    def __init__(self, width: int, count: int, bias: bool, out_bias: bool) -> None:
        super().__init__()
        self.count = count
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.to_out = [nn.Linear(width, width, bias=out_bias)]
        self.norm_q, self.norm_k = (nn.RMSNorm(width, eps=QK_EPS) for _ in range(2))

    def query(self, states: Any) -> Any:
        """(B, S, D), normalised."""
        return self.norm_q(self.to_q(states))

    def key(self, context: Any) -> Any:
        """(B, L, D), normalised."""
        return self.norm_k(self.to_k(context))

    def text(self, context: Any) -> KeysValues:
        """Keys and values (b, H, L, d) of projected text (b, L, D)."""
        return heads(self.key(context), self.count), heads(self.to_v(context), self.count)

    def mix(self, query: Any, key: Any, value: Any, bias: Any, limit_bytes: int | None) -> Any:
        """(B, H, S, d) and (B, H, L, d) twice → (B, S, D)."""
        return self.to_out[0](joined(attend(query, key, value, bias, limit_bytes)))


class Projection(nn.Module):
    def __init__(self, width: int, out: int, exact: bool) -> None:
        super().__init__()
        self.proj = nn.Linear(width, out)
        self.exact = exact

    def __call__(self, states: Any) -> Any:
        projected = self.proj(states)
        return nn.gelu(projected) if self.exact else nn.gelu_approx(projected)


class FeedForward(nn.Module):
    def __init__(self, width: int, exact: bool) -> None:
        super().__init__()
        # The one in the middle drops nothing; it keeps the numbers of the others.
        self.net = [Projection(width, 4 * width, exact), nn.Identity(), nn.Linear(4 * width, width)]

    def __call__(self, states: Any) -> Any:
        return self.net[2](self.net[0](states))


class Norm(nn.Module):
    """RMS norm whose weight is there or not."""

    def __init__(self, width: int, eps: float, affine: bool) -> None:
        super().__init__()
        self.eps = eps
        if affine:
            self.weight = mx.ones((width,))

    def __call__(self, states: Any) -> Any:
        return mx.fast.rms_norm(states, self.weight if "weight" in self else None, self.eps)


class Block(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        count = int(config["num_attention_heads"])
        width = count * int(config["attention_head_dim"])
        bias, out_bias = bool(config["attention_bias"]), bool(config["attention_out_bias"])
        affine, eps = bool(config["norm_elementwise_affine"]), float(config["norm_eps"])
        self.norm1, self.norm2 = (Norm(width, eps, affine) for _ in range(2))
        self.attn1, self.attn2 = (Attention(width, count, bias, out_bias) for _ in range(2))
        self.ff = FeedForward(width, config["activation_fn"] == "gelu")
        self.scale_shift_table = mx.zeros((6, width))

    def __call__(
        self,
        states: Any,
        times: Times,
        own: Callable[[Attention, Any], Any],
        *,
        text: Text,
        layer: int,
        limit: int | None,
    ) -> Any:
        """states (B, S, D); `own` runs the self-attention; `text` is that of all layers; `limit`: as
        `Transformer.limit_bytes`.

        Part by part: what is evaluated at its end holds what all parts want at once.
        """
        rows = self.scale_shift_table + times.rows  # (R, 6, D)
        shift, scale, gate, shift_ff, scale_ff, gate_ff = (_each(rows[:, i], times.index) for i in range(6))
        states = states + own(self.attn1, self.norm1(states) * (1 + scale) + shift) * gate
        mx.eval(states)
        query = heads(self.attn2.query(states), self.attn2.count)
        states = states + self.attn2.mix(query, *text.keys_values[layer], text.bias, limit)
        mx.eval(states)
        states = states + self.ff(self.norm2(states) * (1 + scale_ff) + shift_ff) * gate_ff
        mx.eval(states)
        return states


def _each(rows: Any, index: Any) -> Any:
    """Rows (R, D) of timesteps as those of tokens: (1, S, D), or (1, 1, D) where there is one timestep."""
    return rows[None] if index is None else mx.take(rows, index, axis=0)[None]


class TimestepEmbedder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(SINUSOIDS, width), nn.Linear(width, width)

    def __call__(self, sinusoids: Any) -> Any:
        return self.linear_2(nn.silu(self.linear_1(sinusoids)))


class Embedder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedder(width)


class TimeEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.emb = Embedder(width)
        self.linear = nn.Linear(width, 6 * width)


class TextProjection(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(channels, width), nn.Linear(width, width)

    def __call__(self, text: Any) -> Any:
        return self.linear_2(nn.gelu_approx(self.linear_1(text)))


class Transformer(nn.Module):
    """Made without weights; see `layerlift.engine.mlx.quantised.load_transformer`.

    Attributes:
        limit_bytes: no array of attention scores may be larger; None: the kernel makes none.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.limit_bytes: int | None = None
        self.heads = int(config["num_attention_heads"])
        width = self.heads * int(config["attention_head_dim"])
        self.width = width
        self.proj_in = nn.Linear(int(config["in_channels"]), width)
        self.time_embed = TimeEmbedding(width)
        self.caption_projection = TextProjection(int(config["caption_channels"]), width)
        self.transformer_blocks = [Block(config) for _ in range(int(config["num_layers"]))]
        self.scale_shift_table = mx.zeros((2, width))
        self.proj_out = nn.Linear(width, int(config["out_channels"] or config["in_channels"]))

    @property
    def dtype(self) -> Any:
        """What it computes in."""
        return self.scale_shift_table.dtype

    def release(self) -> None:
        """Let go of the weights, whoever still refers to this."""
        self.clear()

    def times(self, timesteps: Sequence[float], index: Any = None) -> Times:
        """What timesteps become; tokens have those that `index` (S,) says, or all the only one."""
        embedded = self.time_embed.emb.timestep_embedder(sinusoids(timesteps).astype(self.dtype))  # (R, D)
        rows = self.time_embed.linear(nn.silu(embedded)).reshape(len(timesteps), 6, -1)
        mx.eval(rows, embedded)
        return Times(rows, embedded, index)

    def text(self, embeds: Any, mask: Any) -> Text:
        """What prompts become: embeds (b, L, C), mask (b, L), 1 where there is text, or None."""
        context = self.caption_projection(embeds.astype(self.dtype))
        found = [block.attn2.text(context) for block in self.transformer_blocks]
        bias = None if mask is None else ((1 - mask.astype(self.dtype)) * PADDING_BIAS)[:, None, None]
        # All of it now: what is left for later can be evaluated by no other thread.
        mx.eval(found, *(() if bias is None else (bias,)))
        return Text(found, bias)

    def __call__(
        self,
        tokens: Any,
        times: Times,
        rotary: Rotary,
        text: Text,
        *,
        kept: Kept | None = None,
        fresh: Any = None,
        watch: Watch | None = None,
    ) -> Any:
        """Velocity (b, S, C) float32 of tokens (1, S, C).

        `rotary`: the tables of these tokens. `kept`: where keys and values are kept; with `fresh` (N,) the tokens are
        those alone, and attend to all. `watch` is told the queries and keys of every layer.
        """
        batch = text.keys_values[0][0].shape[0]
        states = self.proj_in(tokens.astype(self.dtype))
        states = mx.broadcast_to(states, (batch, *states.shape[1:]))

        for layer, block in enumerate(self.transformer_blocks):

            def own(attention: Attention, normed: Any, layer: int = layer) -> Any:
                query, key = attention.query(normed), attention.key(normed)
                if watch is not None:
                    watch(layer, "content", heads(query, self.heads), heads(key, self.heads))
                query, key = (heads(rotate(part, rotary), self.heads) for part in (query, key))
                if watch is not None:
                    watch(layer, "positional", query, key)
                value = heads(attention.to_v(normed), self.heads)
                if kept is not None:
                    key, value = kept.update(layer, key, value, fresh)
                return attention.mix(query, key, value, None, self.limit_bytes)

            states = block(states, times, own, text=text, layer=layer, limit=self.limit_bytes)

        rows = self.scale_shift_table + times.embedded[:, None]  # (R, 2, D)
        shift, scale = (_each(rows[:, i], times.index) for i in range(2))
        states = mx.fast.layer_norm(states, None, None, OUT_EPS) * (1 + scale) + shift
        return self.proj_out(states).astype(mx.float32)
