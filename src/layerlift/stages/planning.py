"""From a job that is settled in all but how it is run to a plan for the memory there is."""

from __future__ import annotations

from collections.abc import Sequence

from layerlift.device import Policy
from layerlift.device.budget import usable_memory
from layerlift.device.needs import Request
from layerlift.device.plan import Plan, make_plan
from layerlift.errors import InputError
from layerlift.fit import Fit, Window, choose_windows, room_for
from layerlift.model import Model


def window_lengths(model: Model, window: int | None) -> tuple[int, int]:
    """Frames of a window: as many as the model's own, and at the most; both are `window` where that is given.

    Raises InputError for a window of less than one token.
    """
    settings, time = model.settings, model.geometry.time
    if window is None:
        return settings.frames, settings.longest or settings.frames
    if window < 1 + time:
        raise InputError(
            f"a window of {window} frames is shorter than one token of this model: give at least {1 + time}"
        )
    return window, window


def model_windows(model: Model, fit: Fit, frame_count: int, window: int | None = None) -> tuple[Window, ...]:
    """The windows in which a model sees a clip: those of its own length, or longer ones of a picture that is small.

    Raises as `window_lengths`.
    """
    space, time = model.geometry.space, model.geometry.time
    frames, longest = window_lengths(model, window)
    cells, budget = ((width // space) * (height // space) for width, height in (fit.padded, model.settings.size))
    return choose_windows(frame_count, frames, room_for(frames, longest, cells, budget, time), time)


def plan_windows(
    model: Model,
    fit: Fit,
    windows: Sequence[Window],
    prompts: Sequence[str],
    policy: Policy,
    *,
    memory: int | None = None,
    sparse: bool = True,
    context: int = 0,
    cache: bool = True,
) -> Plan:
    """The plan of a job that encodes, denoises and decodes these windows. Reads no weight.

    Args:
        model: what runs.
        fit, windows: the picture and the clip's length, as `fit_size` and `model_windows` made them.
        prompts: the prompt, and with guidance the negative prompt before it.
        policy: the rules to start from.
        memory: bytes that may be taken, device and host together; None is what the machine reports as usable.
        sparse: whether keys and values are to be kept between passes when there is room.
        context: latent frames of other windows that each is shown.
        cache: whether embeddings in the cache will be used.

    Raises:
        InputError: the memory is too small, with the smallest thing to change; and as `Model.check_prompts`.
    """
    return make_plan(
        Request(
            facts=model.facts(prompts, policy, cache),
            policy=policy,
            size=fit.padded,
            frames=max(window.frame_count for window in windows),
            native=fit.native,
            branches=len(prompts),
            memory=usable_memory(policy) if memory is None else memory,
            sparse=sparse,
            context=context if len(windows) > 1 else 0,
        )
    )
