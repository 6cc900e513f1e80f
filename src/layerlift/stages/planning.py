"""From a job that is settled in all but how it is run to a plan for the memory there is."""

from __future__ import annotations

from collections.abc import Sequence

from layerlift.device import Policy
from layerlift.device.budget import usable_memory
from layerlift.device.needs import Request
from layerlift.device.plan import Plan, make_plan
from layerlift.fit import Fit, Window
from layerlift.model import Model


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
        fit, windows: the picture and the clip's length, as `fit_size` and `fit_windows` made them.
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
