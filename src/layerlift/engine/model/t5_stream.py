"""The T5 encoder in a stream: one block at a time is read from its memory-mapped files, run on every prompt, let go.

The full-size encoder has 9.5 GB of weights in half precision and is run once for two prompts: each weight is needed
once. So never more than one block (0.39 GB) is in memory. The computation is transformers' own `T5Block`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layerlift.engine.model.headers import TensorSpec
from layerlift.engine.model.weights import fill, open_tensor, part, release
from layerlift.progress import QUIET, StageProgress

if TYPE_CHECKING:
    import torch

    from layerlift.engine.device import Policy

EMBEDDING = "shared.weight"
STACK = "encoder."


def embed_stream(
    encoder: Any,
    tensors: Mapping[str, TensorSpec],
    tokens: Sequence[tuple["torch.Tensor", "torch.Tensor"]],
    policy: "Policy",
    progress: StageProgress = QUIET,
) -> list["torch.Tensor"]:
    """Embeddings (1, L, D) on the CPU in the policy's text dtype, one for each of `tokens`.

    `encoder`: a `T5EncoderModel` on the meta device, which is where it is left. `tensors`: where its weights lie, keyed
    as in its state dict. `tokens`: ids and masks (True = a token), both (1, L) and all of one length L. `progress`
    advances by one for every block.

    Each prompt goes through a block by itself: what it becomes does not depend on what it is encoded with.
    """
    import torch
    from transformers.masking_utils import create_bidirectional_mask

    stack, device = encoder.encoder, policy.text_device
    rows = open_tensor(tensors[EMBEDDING])
    dtype = getattr(torch, policy.text_dtype)
    # Of the table only the prompts' rows are read, not its 32128.
    states = [rows[ids].to(dtype).to(device) for ids, _ in tokens]
    del rows
    masks = [
        create_bidirectional_mask(config=stack.config, inputs_embeds=state, attention_mask=mask.to(device))
        for state, (_, mask) in zip(states, tokens, strict=True)
    ]
    # The first block makes the position bias that all of them add; it depends on the length alone.
    position_bias = None
    for index, block in enumerate(stack.block):
        fill(block, part(tensors, f"{STACK}block.{index}."), policy.text_dtype, device)
        bias = None
        for row, mask in enumerate(masks):
            states[row], bias, _ = block(states[row], mask, position_bias)
        position_bias = bias
        release(block)
        progress.advance()
    fill(stack.final_layer_norm, part(tensors, f"{STACK}final_layer_norm."), policy.text_dtype, device)
    found = [stack.final_layer_norm(state).cpu() for state in states]
    release(stack.final_layer_norm)
    return found
