"""What a search for effects will do, checked before any weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import get_args

from layerlift.clip import Clip
from layerlift.engine.planning import plan_windows
from layerlift.errors import InputError
from layerlift.finder.decide import THRESHOLD
from layerlift.finder.small import small_size
from layerlift.flags import check_ranges
from layerlift.geometry.fit import choose_box, fit_size, fit_windows
from layerlift.jobs.keeper import Keeper
from layerlift.masks import Mask, union_masks
from layerlift.options import DEFAULT_SIGMAS, EffectOptions, Refinement, RemovalOptions, Witnesses
from layerlift.parse import EFFECT_KINDS
from layerlift.pixels.effects import Decision, cell_side
from layerlift.runtime import Runtime
from layerlift.stages.choose_model import NO_MODEL, choose_model, require_model
from layerlift.stages.effects.brushes import Brush, GivenBrush, open_brushes
from layerlift.stages.effects.look import AttentionPlan
from layerlift.stages.inputs import GivenClip, GivenMask, as_clip, as_objects
from layerlift.stages.removal import RemovalPlan, plan_removal

LOOKING = "finding effects with --witnesses model"

# `plate` first removes more than `edges` would call an effect: what the model leaves as it is falls away again.
GENEROUS = 0.7

# What only a model takes, by field and flag.
_OF_MODELS = {"sigmas": "--sigma", "layers": "--layers", "prompt": "--prompt"}


@dataclass(frozen=True, slots=True)
class EffectPlan:
    """A search for effects that was checked.

    Attributes:
        clip: what is looked at.
        masks: of its objects.
        options: the user's.
        threshold: from which score on it is an effect.
        in_clip: whether the clip itself is asked.
        attention: how the model looks; None where none is asked.
        brushes: what the user painted.
        removal: what effects are compared with, of the objects alone; None where that is not wanted.
        notes: what the user should know, a sentence each.
        runtime: what it runs with.
        seen: where what is seen in the clip is kept for other searches; None is the runtime's keeper.
    """

    clip: Clip
    masks: Sequence[Mask]
    options: EffectOptions
    threshold: float
    in_clip: bool
    attention: AttentionPlan | None
    brushes: tuple[Brush, ...]
    removal: RemovalPlan | None
    notes: tuple[str, ...]
    runtime: Runtime
    seen: Keeper | None = None

    @property
    def side(self) -> tuple[float, float]:
        """Width and height, in pixels of the clip, of what has one score."""
        if not self.in_clip and self.attention is not None:
            return cell_side(self.attention.fit, self.attention.model.geometry)
        width, height = small_size(self.clip)
        return self.clip.width / width, self.clip.height / height


def plan_effects(
    clip: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    options: EffectOptions | None = None,
    runtime: Runtime | None = None,
    plate: RemovalOptions | None = None,
    *,
    effects: Sequence[GivenBrush] = (),
    not_effects: Sequence[GivenBrush] = (),
) -> EffectPlan:
    """Open and check everything, and plan how the clip is looked at; no weight is read. Takes `mask`'s arguments.

    `plate`: choices for the clean plate that ``refine="plate"`` compares with; None uses the seed and size of
    `options`.

    Raises InputError for what cannot be used.
    """
    options, runtime = options or EffectOptions(), runtime or Runtime()
    # 1. Open: headers and settings.
    clip = as_clip(clip)
    masks = as_objects(objects, clip)
    if not masks:
        raise InputError("no object mask was given: give one for each object whose effects you want")
    brushes = open_brushes(clip, effects, not_effects)

    # 2. Check what the user chose.
    check_effects(options)
    in_clip, notes = options.witnesses != "model", list[str]()
    model = None
    if options.witnesses == "model":
        model = require_model(runtime, LOOKING)
    elif options.witnesses == "all":
        model, notes = choose_model(runtime)
    if model is None:
        refuse_model_s_own(options)
    attention = None if model is None else plan_attention(clip, masks, options, replace(runtime, model=model))
    threshold = options.threshold
    if threshold is None:
        threshold = THRESHOLD if in_clip or attention is None else attention.scorer.threshold
    if options.refine == "plate":
        threshold *= GENEROUS
    if attention is not None:
        own = attention.scorer.threshold if in_clip else threshold
        decision = Decision(own, attention.scorer.clear, options.max_distance, edges=options.refine != "none")
        attention = replace(attention, decision=decision)
    removal = None
    if options.refine == "plate":
        plate = plate or RemovalOptions(seed=options.seed, size=options.size)
        removing = replace(runtime.part("plate"), model=model or NO_MODEL)
        removal = plan_removal(clip, union_masks(masks), plate, removing)
    return EffectPlan(clip, masks, options, threshold, in_clip, attention, brushes, removal, tuple(notes), runtime)


def plan_attention(clip: Clip, masks: Sequence[Mask], options: EffectOptions, runtime: Runtime) -> AttentionPlan:
    """How clip and model meet, in the memory there is; the decision is that of the model alone."""
    model = require_model(runtime, LOOKING)
    scorer = model.scorer(options.layers)
    prompt = model.scoring_prompt() if options.prompt is None else options.prompt
    model.check_prompts([prompt], runtime.policy, runtime.cache)
    native = (clip.width, clip.height)
    space, time = model.geometry.space, model.geometry.time
    fit = fit_size(native, choose_box(native, model.settings.size, options.size, space), space)
    windows = fit_windows(clip.frame_count, model.settings.frames, time)
    memory = plan_windows(
        model,
        fit,
        windows,
        [prompt],
        runtime.policy,
        memory=runtime.memory_for(model),
        sparse=False,
        cache=runtime.cache,
    )
    return AttentionPlan(
        clip=clip,
        masks=masks,
        options=options,
        model=model,
        scorer=scorer,
        prompt=prompt,
        temporal_radius=time // 2 if options.temporal_radius is None else options.temporal_radius,
        decision=Decision(scorer.threshold),
        fit=fit,
        windows=windows,
        memory=memory,
        runtime=runtime,
    )


def refuse_model_s_own(options: EffectOptions) -> None:
    """Raises InputError for a choice that only a model could follow."""
    defaults = {field.name: field.default for field in fields(EffectOptions)}
    for name, flag in _OF_MODELS.items():
        if getattr(options, name) != defaults[name]:
            raise InputError(f"{flag} needs a model, but none is asked for effects: leave it out, or choose a --model.")


def check_effects(options: EffectOptions) -> None:
    """Raises InputError for a choice that makes no sense whatever the clip is."""
    check_ranges(options)
    if options.refine not in get_args(Refinement):
        raise InputError(f"unknown --refine {options.refine!r}: choose {', '.join(get_args(Refinement))}")
    if options.witnesses not in get_args(Witnesses):
        raise InputError(f"unknown --witnesses {options.witnesses!r}: choose {', '.join(get_args(Witnesses))}")
    unknown = [kind for kind in options.kinds if kind not in EFFECT_KINDS]
    if unknown or not options.kinds:
        given = ", ".join(options.kinds) or "nothing"
        raise InputError(f"--kinds is {given}: choose from {', '.join(EFFECT_KINDS)}")
    if set(options.kinds) < set(EFFECT_KINDS) and options.witnesses == "model":
        raise InputError("--kinds needs the clip's own witness, which tells kinds apart: leave --witnesses out")
    if options.threshold is not None and not 0 < options.threshold <= 1:
        raise InputError(f"--threshold is {options.threshold}: give a number above 0 and up to 1")
    if not options.sigmas or not all(isfinite(sigma) and 0 < sigma < 1 for sigma in options.sigmas):
        given = ", ".join(str(sigma) for sigma in options.sigmas) or "none"
        raise InputError(f"--sigma is {given}: give numbers between 0 and 1, such as {DEFAULT_SIGMAS[0]}")
    for name, value in (
        ("--dilate", options.dilate),
        ("--temporal-radius", options.temporal_radius),
        ("--max-distance", options.max_distance),
    ):
        if value is not None and not value >= 0:
            raise InputError(f"{name} is {value}: give 0 or more")
