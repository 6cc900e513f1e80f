"""Getting rid of launches: compiled blocks, and passes recorded as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

# One compilation serves all blocks: a graph break or a shape that varies would mean many.
COMPILE: dict[str, Any] = {"fullgraph": True, "dynamic": False}
# Compiled variants of a block that may be alive: passes over all tokens, and one for every bucket of unknown tokens.
COMPILED_VARIANTS = 64
# Passes before recording, so that kernels are loaded and libraries have their workspaces.
WARM_UP = 2


@contextmanager
def compiled_blocks(transformer: LTXVideoTransformer3DModel) -> Iterator[None]:
    """The transformer's blocks run compiled while this is open; code compiled once is found again later."""
    import torch._dynamo

    blocks = list(transformer.transformer_blocks)
    try:
        transformer.compile_repeated_blocks(**COMPILE)
        with torch._dynamo.config.patch(recompile_limit=COMPILED_VARIANTS):
            yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


class RecordedPass:
    """A pass recorded as a CUDA graph: everything it reads besides its input lies where it lay when it was recorded.

    `run` takes a tensor like `example` and returns a tensor; it is called a few times in recording.
    """

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor) -> None:
        self._input = example.clone()
        with torch.cuda.device(example.device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    run(self._input)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            # Another thread may measure memory meanwhile, which concerns nobody here.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._output = run(self._input)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """The pass over these tokens; what it returns is overwritten by the next call."""
        self._input.copy_(tokens)
        self._graph.replay()
        return self._output
