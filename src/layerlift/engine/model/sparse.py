"""Attention to kept keys and values: what lets the transformer run on the unknown tokens of a clip alone.

Known tokens hardly change from step to step, so their keys and values are kept from the last pass over all tokens. A
sparse pass computes those of the unknown tokens, puts them in their places among the kept ones, and attends to all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from layerlift.engine.model.attention import PolicyAttnProcessor

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

KeysValues = tuple[torch.Tensor, torch.Tensor]


class LoopAttnProcessor(PolicyAttnProcessor):
    """The attention of one block over a whole denoising loop, by the rules of the processor it stands in for."""

    def __init__(self, usual: Any) -> None:
        follows = isinstance(usual, PolicyAttnProcessor)
        self.contiguous = follows and usual.contiguous
        self.limit_bytes = usual.limit_bytes if follows else None
        self.float32_norms = follows and usual.float32_norms
        self.float32_softmax = follows and usual.float32_softmax
        self.fused = usual.fused if follows else None


class SelfAttnProcessor(LoopAttnProcessor):
    """Self-attention that keeps keys and values.

    Attributes:
        kept: keys and values (b, S, H·d) of every token of the window, or None to keep nothing.
        fresh: (N,) int64, the tokens that the pass runs on, all others being kept; None runs on all S and keeps them.
    """

    kept: KeysValues | None = None
    fresh: torch.Tensor | None = None

    def keys_and_values(self, attn: Any, context: torch.Tensor, rotary: KeysValues | None) -> KeysValues:
        key, value = super().keys_and_values(attn, context, rotary)
        if self.kept is None:
            return key, value
        kept_key, kept_value = self.kept
        if self.fresh is None:
            kept_key.copy_(key)
            kept_value.copy_(value)
            return key, value
        # A token that is listed twice, to fill up a bucket, has the same key both times: whichever lands last is right.
        kept_key[:, self.fresh] = key
        kept_value[:, self.fresh] = value
        return kept_key, kept_value


class TextAttnProcessor(LoopAttnProcessor):
    """Cross-attention to text whose keys and values (b, L, H·d) may be `ready`, as text is the same in every step."""

    ready: KeysValues | None = None

    def keys_and_values(self, attn: Any, context: torch.Tensor, rotary: KeysValues | None) -> KeysValues:
        return super().keys_and_values(attn, context, rotary) if self.ready is None else self.ready


class LoopAttention:
    """All blocks' processors, switched together between passes."""

    def __init__(self, transformer: LTXVideoTransformer3DModel) -> None:
        self.layers = [(block.attn1, block.attn2) for block in transformer.transformer_blocks]
        self.usual = [(own.processor, text.processor) for own, text in self.layers]
        self.own = [SelfAttnProcessor(processor) for processor, _ in self.usual]
        self.text = [TextAttnProcessor(processor) for _, processor in self.usual]
        self._kept: list[list[KeysValues]] | None = None
        self._ready: list[list[KeysValues]] | None = None
        self._room: tuple[list[int], int, torch.dtype, torch.device] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The processors are in the transformer while this is open; what they keep is freed afterwards."""
        try:
            for (own, text), new_own, new_text in zip(self.layers, self.own, self.text, strict=True):
                own.set_processor(new_own)
                text.set_processor(new_text)
            yield
        finally:
            for (own, text), (usual_own, usual_text) in zip(self.layers, self.usual, strict=True):
                own.set_processor(usual_own)
                text.set_processor(usual_text)
            self._kept = self._ready = None
            self.use(0, None)

    def keep(self, sizes: list[int], tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        """Make room for keys and values of `tokens` tokens, in every layer, for batches of these sizes; 0 keeps
        nothing."""
        if self._kept is not None and self._room == (sizes, tokens, dtype, device):
            return
        self._kept, self._room = None, (sizes, tokens, dtype, device)
        if tokens == 0:
            return

        # Each an array of its own: compiled code may write into its inputs, but not when they share memory.
        def room(attn: Any, size: int) -> torch.Tensor:
            return torch.zeros(size, tokens, attn.inner_kv_dim, dtype=dtype, device=device)

        self._kept = [[(room(own, size), room(own, size)) for own, _ in self.layers] for size in sizes]

    def kept_bytes(self) -> int:
        """What `keep` took."""
        return sum(part.nbytes for batch in self._kept or [] for pair in batch for part in pair)

    def prepare_text(self, contexts: list[torch.Tensor]) -> None:
        """Compute every layer's keys and values of the projected text (b, L, D) of every batch."""
        self._ready = [
            [
                processor.keys_and_values(text, context, None)
                for (_, text), processor in zip(self.layers, self.text, strict=True)
            ]
            for context in contexts
        ]

    def use(self, batch: int, fresh: torch.Tensor | None) -> None:
        """The next pass is that of this batch, over the tokens `fresh`, or all of them."""
        for layer, (own, text) in enumerate(zip(self.own, self.text, strict=True)):
            own.kept = None if self._kept is None else self._kept[batch][layer]
            own.fresh = fresh
            text.ready = None if self._ready is None else self._ready[batch][layer]
