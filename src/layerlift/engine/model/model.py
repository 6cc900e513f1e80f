"""An opened model: what it is and how it wants to be run, and its components, each in turn on the device."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.engine.device import Policy, free_device
from layerlift.engine.device.needs import ModelFacts
from layerlift.engine.model import weights
from layerlift.engine.model.checkpoint import Checkpoint
from layerlift.engine.model.engine import TorchEngine
from layerlift.engine.model.settings import Settings
from layerlift.geometry.fit import Geometry
from layerlift.progress import QUIET, StageProgress

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    from layerlift.engine.model.text import TextEmbedding, TextSource


# A model of no more bytes on disk stays in memory from stage to stage; a larger one is read again for each.
SMALL_MODEL = 2**30


class Model(TorchEngine):
    """A checkpoint whose configs and settings are known and whose files fit; no weight is read yet.

    The three context managers put one component on the policy's device and free it on leaving, unless the policy says
    `resident`: then a component stays until `close()` or until it is asked for under another policy.
    """

    def __init__(
        self, name: str, checkpoint: Checkpoint, settings: Settings, geometry: Geometry, text_source: "TextSource"
    ) -> None:
        self.name = name
        self.settings = settings
        self.geometry = geometry
        self._checkpoint = checkpoint
        self._text = text_source
        # By kind and device: several devices have parts of their own.
        self._kept: dict[tuple[str, str], tuple[Policy, Any]] = {}
        self._facts: dict[Path | None, ModelFacts] = {}

    @property
    def path(self) -> Path:
        """The file or folder the weights are read from."""
        return self._checkpoint.path

    def stays_in_memory(self, memory: int | None = None) -> bool:
        """Whether the model is small enough to keep its parts in memory from stage to stage.

        Not where `memory`, bytes that may be taken, is given: a plan for it counts on the running part alone.
        """
        if memory is not None:
            return False
        files = self.path.rglob("*.safetensors") if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files) <= SMALL_MODEL

    @property
    def attention_heads(self) -> tuple[int, int]:
        """Layers of the transformer, and attention heads in each."""
        config = self._checkpoint.transformer.config
        return int(config["num_layers"]), int(config["num_attention_heads"])

    @property
    def known_prompts(self) -> tuple[str, ...] | None:
        """The prompts whose embeddings come with the model; None: any prompt, through a text encoder."""
        return self._text.known_prompts

    def check_prompts(self, prompts: Sequence[str], policy: Policy, cache: bool = True) -> None:
        """Raises InputError when `text` could not answer: an unknown prompt, or no text encoder; reads no weight."""
        self._text.check(prompts, policy, cache)

    def text(
        self, prompts: Sequence[str], policy: Policy, cache: bool = True, progress: StageProgress = QUIET
    ) -> "list[TextEmbedding]":
        """One embedding per prompt, on the CPU in float32; the text encoder is freed again.

        Raises InputError as `check_prompts`. `cache=False` neither reads nor writes the cache folder. `progress`
        advances while the text encoder runs.
        """
        return self._text.embed(prompts, policy, cache, progress)

    def facts(self, prompts: Sequence[str], policy: Policy, cache: bool = True) -> ModelFacts:
        """What a plan needs to know; reads no weight. `prompts`: those that will be embedded.

        Raises InputError as `check_prompts`.
        """
        from layerlift.engine.model.facts import read_facts

        folder = self._text.encoder_to_run(prompts, policy, cache)
        if folder not in self._facts:
            # The same each time, and a tenth of a second to find out.
            self._facts[folder] = read_facts(self.name, self._checkpoint, self.geometry, folder)
        return self._facts[folder]

    def vae_encoder(self, policy: Policy) -> "AbstractContextManager[AutoencoderKLLTXVideo]":
        """The VAE with only its encoder, in eval mode; `latents_mean` and `latents_std` are there too, in float32."""
        return self._component("encoder", policy, self._load_vae_half)

    def transformer(self, policy: Policy) -> "AbstractContextManager[LTXVideoTransformer3DModel]":
        """The transformer in eval mode, with the attention the policy asks for."""
        return self._component("transformer", policy, self._load_transformer)

    def vae_decoder(self, policy: Policy) -> "AbstractContextManager[AutoencoderKLLTXVideo]":
        """The VAE with only its decoder, in eval mode; `latents_mean` and `latents_std` are there too, in float32."""
        return self._component("decoder", policy, self._load_vae_half)

    def spare(self, device: str) -> int:
        """See `Engine`: what components that stayed take of a CUDA device."""
        if not device.startswith("cuda"):
            return 0
        number = device.partition(":")[2] or "0"
        return sum(
            tensor.nbytes
            for _, module in self._kept.values()
            for tensor in (*module.parameters(), *module.buffers())
            if str(tensor.device) == f"cuda:{number}"
        )

    def draws_while_decoding(self) -> bool:
        """See `Engine`: decoders of 0.9.1 add noise between their layers."""
        return any(self._checkpoint.vae.config.get("decoder_inject_noise") or ())

    def close(self) -> None:
        """Free every component that a resident policy kept."""
        kept = list(self._kept.values())
        self._kept.clear()
        for policy, module in kept:
            weights.release(module)
            free_device(policy.device)

    @contextmanager
    def _component(self, kind: str, policy: Policy, load: Callable[[str, Policy], Any]) -> Iterator[Any]:
        place = kind, policy.device
        kept_policy, module = self._kept.pop(place, (None, None))
        if kept_policy != policy:
            if module is not None:
                weights.release(module)
            module = load(kind, policy)
        try:
            yield module
        finally:
            if policy.resident:
                self._kept[place] = (policy, module)
            else:
                # The caller's `as` name outlives its block: so the memory goes even while the module is referred to.
                weights.release(module)
                del module
                free_device(policy.device)

    def _load_transformer(self, kind: str, policy: Policy) -> Any:
        from layerlift.engine.model.attention import apply_policy
        from layerlift.engine.model.residency import load_transformer

        transformer = load_transformer(self._checkpoint.transformer, policy)
        apply_policy(transformer, policy)
        return transformer

    def _load_vae_half(self, half: str, policy: Policy) -> Any:
        from layerlift.engine.model.vae_stream import set_frames_at_once

        # Who takes all frames at once runs diffusers' own modules, which want their weights there and as they compute.
        pieces = policy.vae_frames is not None
        vae = weights.load_vae_half(
            self._checkpoint.vae,
            half,
            policy.vae_dtype,
            policy.device,
            policy.vae_storage if pieces else None,
            streamed=policy.vae_streamed and pieces,
        )
        set_frames_at_once(vae, policy.vae_frames)
        return vae
