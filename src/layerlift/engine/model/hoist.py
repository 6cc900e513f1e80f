"""Work that is the same in every step of a denoising loop, done once before it.

The transformer's own forward stays as it is; while `Hoisted.installed()` is open, the submodules whose answers are
known beforehand are replaced by ones that look them up. Text keys and values are the attention processors' part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from layerlift.engine.model.attention import Rotary

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

# The submodules of the transformer that are stood in for.
PARTS = ("rope", "time_embed", "caption_projection")

# Text is cut to a multiple of this many tokens, which attention kernels like, too.
TEXT_STEP = 16

TextBatch = tuple[torch.Tensor, torch.Tensor | None]


def trim_text(batches: Sequence[TextBatch]) -> list[TextBatch]:
    """Leave out tokens that are padding in every prompt: embeds (b, L, D), mask (b, L) → (b, L', D), (b, L') or None.

    Padding has a bias of −10000 in the softmax and so a weight of exactly 0. L' is the same for all batches and a
    multiple of `TEXT_STEP`, so that prompts of about the same length run the same compiled code. Without any padding
    left the mask is None. A prompt of padding alone, which attends to all of it evenly, keeps everything.
    """
    present = torch.cat([mask > 0 for _, mask in batches if mask is not None])  # (n, L)
    if not present.any(1).all():
        return list(batches)
    used = present.any(0)
    length = min(len(used), -(-int(used.sum()) // TEXT_STEP) * TEXT_STEP)
    # Used tokens first, filled up with padding, in their old order.
    columns = torch.argsort(~used, stable=True)[:length].sort().values
    whole = bool(present[:, columns].all())
    return [(embeds[:, columns], None if whole or mask is None else mask[:, columns]) for embeds, mask in batches]


class _Stored(torch.nn.Module):
    """Answers whatever it is asked with what it was given last."""

    answer: Any = None

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.answer


class Hoisted:
    """The transformer's constant parts: those of every loop are computed on making it, those of one by `place`.

    Args:
        transformer: its weights must lie on the device.
        contexts: for each batch of prompts its embeddings (b, L, D).
        timesteps: those of the steps.
    """

    moving: torch.Tensor
    all_moving: bool
    rotary: Rotary | None = None

    def __init__(
        self, transformer: LTXVideoTransformer3DModel, contexts: Sequence[torch.Tensor], timesteps: Sequence[float]
    ) -> None:
        weight = transformer.proj_in.weight
        self.transformer = transformer
        self.sizes = [len(context) for context in contexts]
        self.text = [transformer.caption_projection(context) for context in contexts]  # (b, L, H·d) each
        # One row for each step and a last one for timestep 0: (steps + 1, 6·H·d) and (steps + 1, H·d).
        times = torch.tensor([*timesteps, 0.0], device=weight.device)
        self.times = transformer.time_embed(times, batch_size=1, hidden_dtype=weight.dtype)
        # The step's row and that of timestep 0, in arrays that stay where they are: recorded passes read from there.
        self.now = tuple(rows[[0, -1]] for rows in self.times)
        self._usual = {name: getattr(transformer, name) for name in PARTS}
        self._parts = {name: _Stored() for name in PARTS}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The transformer looks its constant parts up while this is open."""
        try:
            for name, part in self._parts.items():
                setattr(self.transformer, name, part)
            yield
        finally:
            for name, module in self._usual.items():
                setattr(self.transformer, name, module)

    def place(self, coordinates: torch.Tensor, moving: torch.Tensor) -> None:
        """The passes from here on are of a loop over tokens that lie there, (1, 3, S), and of which some move, (S,)
        bool: their timestep is the step's, that of all others 0."""
        # The tables of the loop before go before these come.
        self.rotary = None
        for part in self._parts.values():
            part.answer = None
        self.moving = moving[None, :, None]  # (1, S, 1)
        self.all_moving = bool(moving.all())
        self.rotary = self._rotary(coordinates)

    def move(self, coordinates: torch.Tensor) -> None:
        """As many tokens lie elsewhere, in the arrays there are: recorded passes read from there."""
        assert self.rotary is not None
        for table, new in zip(self.rotary, self._rotary(coordinates), strict=True):
            table.copy_(new)

    def _rotary(self, coordinates: torch.Tensor) -> Rotary:
        # Alike for every prompt.
        return Rotary.ready(*self._usual["rope"](self.transformer.proj_in.weight, video_coords=coordinates))

    def rotary_of(self, tokens: torch.Tensor) -> Rotary:
        """The rows of the rotary tables that belong to tokens (N,)."""
        assert self.rotary is not None
        return Rotary(*(table[:, tokens] for table in self.rotary))

    def at(self, step: int) -> None:
        """The passes from here on are those of this step."""
        for now, rows in zip(self.now, self.times, strict=True):
            now[0].copy_(rows[step])

    def use(self, batch: int, rotary: Rotary | None) -> None:
        """The next pass is that of this batch: over tokens with these rotary tables, all of them unknown, or over all
        tokens."""
        size = self.sizes[batch]
        whole = rotary is None and not self.all_moving
        answers = []
        for now in self.now:
            # (1, 1, n) where one timestep is everyone's, else (1, S, n)
            rows = torch.where(self.moving, now[0], now[1]) if whole else now[0][None, None]
            answers.append(rows.expand(size, -1, -1))
        self._parts["time_embed"].answer = tuple(answers)
        self._parts["rope"].answer = self.rotary if rotary is None else rotary
        self._parts["caption_projection"].answer = self.text[batch]
