"""Getting rid of launches: compiled blocks, and passes recorded as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from layerlift.engine.device.memory import recording

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

# One compilation serves all blocks: a graph break or a shape that varies would mean many.
COMPILE: dict[str, Any] = {"fullgraph": True, "dynamic": False}
# Compiled variants of a block that may be alive: passes over all tokens, and one for every bucket of unknown tokens.
COMPILED_VARIANTS = 64


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


class GraphMemory:
    """What passes share that never run at once: memory, and the stream that they are recorded on."""

    def __init__(self) -> None:
        self.handle = torch.cuda.graph_pool_handle()
        self._stream: Any = None

    def stream(self, device: torch.device) -> Any:
        """A stream of this device, always the same. torch has one for the whole process, which is of the device that
        was recorded on first: on another one it records nothing."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        return self._stream


class RecordedPass:
    """A pass recorded as a CUDA graph: everything it reads besides its input lies where it lay when it was recorded.

    `run` takes a tensor like `example` and returns a tensor. It must have run before, so that kernels are loaded.
    """

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor, memory: GraphMemory) -> None:
        self._input = example.clone()
        stream = memory.stream(example.device)
        with recording, torch.cuda.device(example.device):
            self._graph = torch.cuda.CUDAGraph()
            # Another thread may measure memory meanwhile, which concerns nobody here.
            with torch.cuda.graph(self._graph, pool=memory.handle, stream=stream, capture_error_mode="thread_local"):
                self._output = run(self._input)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """The pass over these tokens."""
        self._input.copy_(tokens)
        self._graph.replay()
        # The next pass overwrites what this one made.
        return self._output.clone()


class Recorder:
    """Passes by name: each runs as it is the first time, is recorded the second time, and is replayed from then on.

    Most of a loop's passes differ in nothing but their tokens and what they read from arrays that stay in place, and
    launching their kernels takes longer than the kernels do.
    """

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()
        self._recorded: dict[Hashable, RecordedPass] = {}
        self._memory = GraphMemory()

    def forget(self, name: Hashable) -> None:
        """The pass of this name is another one from here on."""
        self._seen.discard(name)
        self._recorded.pop(name, None)

    def __call__(
        self, name: Hashable, run: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor
    ) -> torch.Tensor:
        """`run(tokens)`; a name's `run` must do the same in every call."""
        if name in self._recorded:
            return self._recorded[name](tokens)
        if name not in self._seen:
            self._seen.add(name)
            return run(tokens)
        self._recorded[name] = RecordedPass(run, tokens, self._memory)
        return self._recorded[name](tokens)
