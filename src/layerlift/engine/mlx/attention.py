"""Attention: queries in pieces where no fused kernel takes them all at once, and the mass that some tokens get of it.

Queries, keys and values are (B, H, S, d).
"""

from typing import Any

import mlx.core as mx

# The scores that the probe holds at a time, where the rules set no limit of their own: it has no fused kernel.
PROBE_BYTES = 2**27


def heads(states: Any, count: int) -> Any:
    """(B, S, H·d) → (B, H, S, d)."""
    batch, tokens, width = states.shape
    return states.reshape(batch, tokens, count, width // count).transpose(0, 2, 1, 3)


def joined(states: Any) -> Any:
    """(B, H, S, d) → (B, S, H·d)."""
    batch, count, tokens, width = states.shape
    return states.transpose(0, 2, 1, 3).reshape(batch, tokens, count * width)


def rotate(states: Any, rotary: tuple[Any, Any]) -> Any:
    """Rotary embedding of (B, S, H·d) in float32; tables as `rotary_tables` makes them."""
    cosines, sines = rotary
    pairs = states.reshape(*states.shape[:2], -1, 2).astype(mx.float32)
    one, other = pairs[..., 0], pairs[..., 1]
    turned = mx.stack([one * cosines - other * sines, other * cosines + one * sines], axis=-1)
    return turned.reshape(states.shape).astype(states.dtype)


def query_step(query: Any, keys: int, limit_bytes: int | None, size: int) -> int:
    """How many queries may be taken at once so that their scores, of `size` bytes each, do not pass the limit."""
    batch, count, queries, _ = query.shape
    if limit_bytes is None:
        return queries
    return max(1, min(queries, limit_bytes // (batch * count * keys * size)))


def attend(query: Any, key: Any, value: Any, bias: Any, limit_bytes: int | None) -> Any:
    """Scaled-dot-product attention; exact in pieces, because the softmax runs along the keys only. `bias` is None or
    added to the scores of every query, (B, 1, 1, L)."""
    scale = query.shape[3] ** -0.5
    queries = query.shape[2]
    step = query_step(query, key.shape[2], limit_bytes, query.itemsize)
    if step >= queries:
        return mx.fast.scaled_dot_product_attention(query, key, value, scale=scale, mask=bias)
    parts = []
    for start in range(0, queries, step):
        piece = query[:, :, start : start + step]
        parts.append(mx.fast.scaled_dot_product_attention(piece, key, value, scale=scale, mask=bias))
        mx.eval(parts[-1])  # or all scores would be there at once after all
    return mx.concatenate(parts, axis=2)


def attention_mass(query: Any, key: Any, columns: Any, limit_bytes: int | None = None) -> Any:
    """How much every query attends to each column's tokens: columns (S, n) → (B, H, S, n) float32.

    The sums of the softmax's rows over a column's tokens, some queries at a time, all in float32.
    """
    scale = query.shape[3] ** -0.5
    keys = key.astype(mx.float32).transpose(0, 1, 3, 2)
    step = query_step(query, key.shape[2], limit_bytes or PROBE_BYTES, 4)
    parts = []
    for start in range(0, query.shape[2], step):
        piece = query[:, :, start : start + step].astype(mx.float32) * scale
        parts.append(mx.softmax(piece @ keys, axis=-1, precise=True) @ columns)
        mx.eval(parts[-1])
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)
