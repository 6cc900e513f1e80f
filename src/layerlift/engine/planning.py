"""From a job that is settled in all but how it is run to a plan for the memory there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from layerlift.engine.base import Engine
from layerlift.engine.device import Policy
from layerlift.engine.device.budget import usable_memory
from layerlift.engine.device.needs import Request
from layerlift.engine.device.plan import Plan, make_plan
from layerlift.errors import InputError
from layerlift.geometry.fit import Fit, Window, choose_windows, room_for

T = TypeVar("T")


def window_lengths(model: Engine, window: int | None) -> tuple[int, int]:
    """Frames of a window: as many as the model's own, and at the most; both are `window` where that is given.

    Raises InputError for a window of less than one token.
    """
    settings, time = model.settings, model.geometry.time
    if window is None:
        return settings.frames, settings.longest or settings.frames
    if window < 1 + time:
        raise InputError(
            f"--window is {window} frames, which is shorter than one token of this model: give at least {1 + time}"
        )
    return window, window


def plan_clip(
    model: Engine,
    fit: Fit,
    frame_count: int,
    prompts: Sequence[str],
    policy: Policy,
    *,
    window: int | None = None,
    memory: int | None = None,
    sparse: bool = True,
    context: int = 0,
    cache: bool = True,
) -> tuple[tuple[Window, ...], Plan]:
    """The windows in which a model sees all of a clip, of the model's own length or longer where the picture is small,
    and their plan. Reads no weight.

    Args:
        model, fit, prompts, policy, memory, sparse, context, cache: see `plan_windows`.
        frame_count: the clip's length.
        window: see `window_lengths`.

    Raises as `window_lengths` and `plan_windows`.
    """
    space, time = model.geometry.space, model.geometry.time
    frames, longest = window_lengths(model, window)
    cells, budget = ((width // space) * (height // space) for width, height in (fit.padded, model.settings.size))

    own = choose_windows(frame_count, frames, frames, time)
    made = plan_windows(model, fit, own, prompts, policy, memory=memory, sparse=sparse, context=context, cache=cache)

    def planned(most: int) -> tuple[tuple[Window, ...], Plan]:
        windows = choose_windows(frame_count, frames, most, time)
        return windows, replan(made, windows, fit.padded, context)

    return longest_alike(planned, frames, room_for(frames, longest, cells, budget, time), time)


def longest_alike(planned: Callable[[int], tuple[T, Plan]], frames: int, longest: int, time: int) -> tuple[T, Plan]:
    """What is `planned` for windows of up to so many frames, as many as run by the same means as `frames` do.

    Longer windows save what short ones have in common, which is less than they cost where there is no more room to keep
    keys and values for them.
    """
    own = planned(frames)
    most = longest
    while most > frames:
        try:
            found = planned(most)
        except InputError:  # that much does not fit; `own` did
            most -= time
            continue
        if means(found[1]) == means(own[1]):
            return found
        # As many frames as its windows have, or a few more, come to the same.
        most = min(most, found[1].request.frames) - time
    return own


def replan(plan: Plan, windows: Sequence[Window], size: tuple[int, int], context: int) -> Plan:
    """The plan for other windows of a picture of another size. Raises InputError when they do not fit."""
    frames = max(window.frame_count for window in windows)
    return make_plan(replace(plan.request, size=size, frames=frames, context=context if len(windows) > 1 else 0))


def least_memory(model: Engine, policy: Policy, devices: Sequence[str]) -> int:
    """Bytes that a job may take on each of several devices: as much as there is on the smallest."""
    found = (usable_memory(policy.on(device)) + model.spare(device) for device in devices)
    return min(size // devices.count(device) for size, device in zip(found, devices, strict=True))


def means(plan: Plan) -> tuple[bool, ...]:
    """What a plan does that costs much time, or changes the result."""
    policy = plan.policy
    return (
        plan.sparse, policy.batched_guidance, policy.int8 is True, policy.int4, policy.streamed_blocks > 0,
        policy.vae_streamed,
    )  # fmt: skip


def plan_windows(
    model: Engine,
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
        fit, windows: the picture and the clip's length, as `fit_size` and `choose_windows` made them.
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
            memory=usable_memory(policy) + model.spare(policy.device) if memory is None else memory,
            sparse=sparse,
            context=context if len(windows) > 1 else 0,
        )
    )
