"""Make the file of embeddings that comes with a release, with the real text encoder.

    layerlift download text-encoder
    python tools/make_prompts.py prompts.safetensors

The encoder is the one in the hub's cache, or a folder with `text_encoder` and `tokenizer` after the file's name.
"""

import sys
from pathlib import Path

import torch

from layerlift.engine.device import choose_policy
from layerlift.engine.model import t5
from layerlift.engine.model.hub import find_text_encoder, missing_text_encoder
from layerlift.engine.model.published import PROMPTS, PublishedText, write_published
from layerlift.engine.model.text import TEXT_LENGTH, TextEmbedding


def main(arguments: list[str]) -> None:
    if len(arguments) not in (1, 2):
        sys.exit("usage: python tools/make_prompts.py FILE [FOLDER]")
    made = Path(arguments[0])
    folder = Path(arguments[1]) if len(arguments) > 1 else find_text_encoder()
    if folder is None:
        sys.exit(str(missing_text_encoder()))
    policy = choose_policy("cpu")
    embedded = t5.embed(folder, PROMPTS, TEXT_LENGTH, policy)
    # Through the cache's dtype, as `text.EncodedText` does: the same numbers, however they are come by.
    dtype = getattr(torch, policy.cache_dtype)
    found = {
        prompt: TextEmbedding(embeds.to(dtype).float(), mask)
        for prompt, (embeds, mask) in zip(PROMPTS, embedded, strict=True)
    }
    write_published(made, t5.encoder_identity(folder), policy.text_dtype, found)
    checked = PublishedText(made)
    for prompt, one in checked.read(PROMPTS).items():
        print(f"{prompt!r}: {int(one.mask.sum())} tokens of width {checked.width}")
    print(f"{made}: {made.stat().st_size} bytes, encoder {checked.encoder}")


if __name__ == "__main__":
    main(sys.argv[1:])
