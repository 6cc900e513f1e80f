"""How much every token attends to chosen tokens, read off an ordinary forward pass without an S×S matrix.

Attention returns `A·V`. Where `V` is an indicator of some tokens, it returns for every query the attention mass on
them: exactly, for all heads, through whatever fused kernel computes attention anyway. One call has room for as many
indicators as a head has channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F

from layerlift.engine.model.attention import PolicyAttnProcessor, attend

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

    from layerlift.engine.device import Policy

Kind = Literal["content", "positional"]
# (mass (B, H, S, n), its kind, its layer) → what to keep of it
Reduce = Callable[[torch.Tensor, Kind, int], torch.Tensor]
KINDS: tuple[Kind, ...] = ("content", "positional")


class AttentionProbe:
    """While entered, every forward pass of the transformer adds what its self-attention looks at to `masses`.

        with AttentionProbe(transformer, columns, policy) as probe:
            transformer(...)
        mass = probe.stacked("content")

    The model computes what it computes without a probe, bit for bit: its own processors run, the probe's call is
    another one beside them.

    Args:
        transformer: its processors are put back on leaving.
        columns: (B, S, n) or (1, S, n), n indicators of tokens, or any weights to be summed under the attention.
        policy: how the backend wants attention to be run.
        kinds: "content", the normalised queries and keys as they are; "positional", after the rotary embedding, as the
            model itself attends.
        layers: which ones, counted from 0; None is all.
        reduce: applied to each layer's mass (B, H, S, n) at once, so that little of it needs to be kept; told the kind
            and the layer too.
    """

    def __init__(
        self,
        transformer: LTXVideoTransformer3DModel,
        columns: torch.Tensor,
        policy: Policy,
        *,
        kinds: Sequence[Kind] = ("content",),
        layers: Sequence[int] | None = None,
        reduce: Reduce | None = None,
    ) -> None:
        self.kinds = tuple(kinds)
        self.masses: dict[Kind, list[torch.Tensor]] = {kind: [] for kind in self.kinds}
        blocks = transformer.transformer_blocks
        chosen = range(len(blocks)) if layers is None else layers
        self._attentions = {layer: blocks[layer].attn1 for layer in chosen}
        self._columns = columns
        self._policy = policy
        self._reduce = reduce
        self._own: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for layer, attention in self._attentions.items():
            own = self._own[layer] = attention.processor
            record = partial(self._record, layer)
            attention.set_processor(_ProbeProcessor(own, self._policy, self._columns, self.kinds, record))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer, attention in self._attentions.items():
            attention.set_processor(self._own[layer])

    def stacked(self, kind: Kind = "content") -> torch.Tensor:
        """What was recorded, one entry a layer (and pass), in the order it ran: (layers, B, H, S, n) if not reduced."""
        return torch.stack(self.masses[kind])

    def _record(self, layer: int, kind: Kind, mass: torch.Tensor) -> None:
        self.masses[kind].append(mass if self._reduce is None else self._reduce(mass, kind, layer))


class _ProbeProcessor(PolicyAttnProcessor):
    """Runs a layer's own processor, then asks the same queries and keys where they look."""

    def __init__(
        self,
        own: Any,
        policy: Policy,
        columns: torch.Tensor,
        kinds: Sequence[Kind],
        record: Callable[[Kind, torch.Tensor], None],
    ) -> None:
        super().__init__(policy)
        self._own, self._columns, self._kinds, self._record = own, columns, kinds, record

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Shapes as `PolicyAttnProcessor`; self-attention, so without a mask."""
        from diffusers.models.transformers.transformer_ltx import apply_rotary_emb

        out: torch.Tensor = self._own(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
        query = self._norm(attn.norm_q, attn.to_q(hidden_states))
        key = self._norm(attn.norm_k, attn.to_k(hidden_states))
        for kind in self._kinds:
            q, k = query, key
            if kind == "positional" and image_rotary_emb is not None:
                q, k = apply_rotary_emb(query, image_rotary_emb), apply_rotary_emb(key, image_rotary_emb)
            # In float32 where the policy asks for it, in a fused kernel, too: a mass is a sum of many small numbers.
            limit_bytes = None if self._fuses(q, attn.heads) else self.limit_bytes
            q, k = (self._heads(part, attn.heads, self.float32_softmax) for part in (q, k))
            self._record(kind, self._mass(q, k, limit_bytes))
        return out

    def _mass(self, query: torch.Tensor, key: torch.Tensor, limit_bytes: int | None) -> torch.Tensor:
        """Attention mass on every column: query, key (B, H, S, d) → (B, H, S, n) float32."""
        batch, heads, _, width = query.shape
        columns = self._columns.to(query)
        masses = []
        for part in columns.split(width, dim=2):
            # Fused kernels want values as wide as queries, and Metal's one of the widths they have.
            # (B, S, n) → (B, H, S, d); heads share the memory.
            value = F.pad(part, (0, width - part.shape[2]))[:, None].expand(batch, heads, -1, -1)
            if self.contiguous:
                value = value.contiguous()
            masses.append(attend(query, key, value, None, limit_bytes)[..., : part.shape[2]].float())
        return torch.cat(masses, dim=3)
