"""Self- and cross-attention of the LTX transformer, as a backend's policy needs it.

The computation is that of diffusers' `LTXVideoAttnProcessor` (Apache-2.0); what differs is how it is laid out in
memory: contiguous arrays, queries in chunks, norms and softmax in float32.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from layerlift.engine.device import Policy


def query_chunk(query: "torch.Tensor", keys: int, limit_bytes: int | None) -> int:
    """How many of the queries (B, H, S, d) may be taken at once so that no (B, H, chunk, keys) array of their dtype
    passes the limit; at least one."""
    batch, heads, queries, _ = query.shape
    if limit_bytes is None:
        return queries
    return max(1, min(queries, limit_bytes // (batch * heads * keys * query.element_size())))


def attend(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    bias: "torch.Tensor | None",
    limit_bytes: int | None,
) -> "torch.Tensor":
    """Scaled-dot-product attention over query chunks; exact, because the softmax runs along the keys only.

    Shapes: query (B, H, S, d), key and value (B, H, L, d), bias broadcastable to (B, H, S, L); returns (B, H, S, d).
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    queries = query.shape[2]
    step = query_chunk(query, key.shape[2], limit_bytes)
    if step >= queries:
        return scaled_dot_product_attention(query, key, value, attn_mask=bias)
    out = torch.empty_like(query)
    for start in range(0, queries, step):
        stop = min(start + step, queries)
        rows = bias if bias is None or bias.shape[2] == 1 else bias[:, :, start:stop]
        # A slice along the queries is a view with gaps between heads: made contiguous like everything else here.
        out[:, :, start:stop] = scaled_dot_product_attention(
            query[:, :, start:stop].contiguous(), key, value, attn_mask=rows
        )
    return out


class Rotary(NamedTuple):
    """Rotary tables (1, S, H·d) float32, made ready for `rotate`: channels come in pairs, and the sines of the first of
    each are negative."""

    cosines: "torch.Tensor"
    sines: "torch.Tensor"

    @staticmethod
    def ready(cosines: "torch.Tensor", sines: "torch.Tensor") -> "Rotary":
        """From tables as diffusers makes them, whose pairs hold each value twice."""
        pairs = sines.unflatten(-1, (-1, 2))
        return Rotary(cosines, pairs.mul(pairs.new_tensor([-1.0, 1.0])).flatten(-2))


def rotate(states: "torch.Tensor", rotary: Rotary) -> "torch.Tensor":
    """Rotary embedding (Su et al., *RoFormer*, 2021) of (B, S, H·d): what diffusers' `apply_rotary_emb` computes, in
    half as many kernels."""
    import torch

    swapped = states.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(states * rotary.cosines, swapped, rotary.sines).to(states.dtype)


class PolicyAttnProcessor:
    """Attention processor for diffusers' `LTXAttention` that follows a policy."""

    # diffusers reads both when a backend or a parallel config is set on the whole model
    _attention_backend = None
    _parallel_config = None

    def __init__(self, policy: "Policy") -> None:
        self.contiguous = policy.contiguous_attention
        self.limit_bytes = policy.attention_limit_bytes
        self.float32_norms = policy.float32_norms
        self.float32_softmax = policy.float32_softmax
        self.fused = policy.fused_attention

    def __call__(
        self,
        attn: Any,
        hidden_states: "torch.Tensor",
        encoder_hidden_states: "torch.Tensor | None" = None,
        attention_mask: "torch.Tensor | None" = None,
        image_rotary_emb: "tuple[torch.Tensor, torch.Tensor] | None" = None,
    ) -> "torch.Tensor":
        """hidden_states (B, S, D), encoder_hidden_states (B, L, D) or None for self-attention, attention_mask an
        additive bias (B, 1, L), image_rotary_emb cosines and sines (B, S, D); returns (B, S, D)."""
        query = self._rotated(self._norm(attn.norm_q, attn.to_q(hidden_states)), image_rotary_emb)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        key, value = self.keys_and_values(attn, context, image_rotary_emb)

        batch, length, _ = key.shape
        bias = None
        if attention_mask is not None:
            bias = attn.prepare_attention_mask(attention_mask, length, batch)  # (B·H, 1, L)
            bias = bias.view(batch, attn.heads, -1, bias.shape[-1])

        fused = self._fuses(query, attn.heads)
        float32 = self.float32_softmax and not fused
        query, key, value = (self._heads(part, attn.heads, float32) for part in (query, key, value))
        if bias is not None:
            # The query's very dtype: with another one Metal's fused kernels do not take the call.
            bias = bias.to(query.dtype)
        mixed = attend(query, key, value, bias, None if fused else self.limit_bytes)
        mixed = mixed.transpose(1, 2).flatten(2).to(hidden_states.dtype)  # (B, H, S, d) → (B, S, H·d)
        out: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return out

    def keys_and_values(
        self, attn: Any, context: "torch.Tensor", rotary: "tuple[torch.Tensor, torch.Tensor] | None"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """What the queries attend to: keys (normed, rotated) and values, (B, L, H·d) each, of `context` (B, L, D)."""
        return self._rotated(self._norm(attn.norm_k, attn.to_k(context)), rotary), attn.to_v(context)

    def _rotated(self, states: "torch.Tensor", rotary: "tuple[torch.Tensor, torch.Tensor] | None") -> "torch.Tensor":
        from diffusers.models.transformers.transformer_ltx import apply_rotary_emb

        if rotary is None:
            return states
        if isinstance(rotary, Rotary):
            return rotate(states, rotary)
        rotated: torch.Tensor = apply_rotary_emb(states, rotary)
        return rotated

    def _norm(self, norm: Any, states: "torch.Tensor") -> "torch.Tensor":
        from torch.nn.functional import rms_norm

        if not self.float32_norms:
            normed: torch.Tensor = norm(states)
            return normed
        weight = None if norm.weight is None else norm.weight.float()
        # back to the weights' dtype: whether attention itself runs in float32 is another rule
        return rms_norm(states.float(), norm.normalized_shape, weight, norm.eps).to(states.dtype)

    def _fuses(self, query: "torch.Tensor", heads: int) -> bool:
        """Whether a fused kernel takes queries (B, S, H·d), by the policy: nothing else needs to be done for it."""
        return self.fused is not None and self.fused.takes(query.shape[1], query.shape[2] // heads)

    def _heads(self, states: "torch.Tensor", heads: int, float32: bool) -> "torch.Tensor":
        split = states.unflatten(2, (heads, -1)).transpose(1, 2)  # (B, S, H·d) → (B, H, S, d)
        if float32:
            split = split.float()
        return split.contiguous() if self.contiguous else split


def apply_policy(transformer: Any, policy: "Policy") -> None:
    """Give the transformer the attention and norms its policy needs; the ordinary ones stay where nothing is asked."""
    if policy.float32_norms:
        from diffusers.models.normalization import FP32LayerNorm

        # The blocks' own RMSNorms already compute in float32; this is the one LayerNorm, without weights.
        plain = transformer.norm_out
        transformer.norm_out = FP32LayerNorm(plain.normalized_shape, eps=plain.eps, elementwise_affine=False).eval()
    if policy.fused_norms:
        for block in transformer.transformer_blocks:
            block.norm1, block.norm2 = (_fused(norm) for norm in (block.norm1, block.norm2))
    if (
        policy.contiguous_attention
        or policy.attention_limit_bytes is not None
        or policy.float32_norms
        or policy.float32_softmax
        or policy.fused_attention is not None
    ):
        processor = PolicyAttnProcessor(policy)
        for block in transformer.transformer_blocks:
            block.attn1.set_processor(processor)
            block.attn2.set_processor(processor)


def _fused(norm: Any) -> Any:
    """torch's own RMSNorm in the place of diffusers', which takes seven kernels for it; one with weights stays."""
    import torch

    if norm.weight is not None or norm.bias is not None:
        return norm
    return torch.nn.RMSNorm(tuple(norm.dim), eps=norm.eps, elementwise_affine=False).eval()
