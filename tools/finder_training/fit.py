"""Training the finder's network on samples that lie on the device."""

from __future__ import annotations

import time

import torch
from torch.nn import functional as F

from finder_training.samples import IGNORED
from layerlift.engine.finder.network import KINDS, FinderNet
from layerlift.finder.inputs import CHANNELS

BATCH = 48
LOOKS = 0.35  # the share of a batch whose plate tells nothing
RATE, DECAY = 2e-3, 1e-2
KEEP = 0.999  # of the weights' moving average
COLOURS = [CHANNELS.index(name) for name in ("frame", "change", "travelling", "mirror")]


def numbers_of(name: str) -> list[int]:
    """The channels that hold this."""
    return [number for number, own in enumerate(CHANNELS) if own == name]


_TOLD = ("change", "known", "travelling", "travelling size", "steady", "seen")
EVIDENCE = [number for name in _TOLD for number in numbers_of(name)]


def batch_of(
    data: tuple[torch.Tensor, ...], chosen: torch.Tensor, random: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs (B, C, H, W), kinds and strengths (B, H, W) of samples; varied where there is a generator."""
    given, kinds, strength = (part[chosen] for part in data)
    x = (given.float() - 128) / 127
    y, s = kinds.long(), strength.float() / 255
    if random is None:
        return x, y, s
    count, device = len(chosen), x.device

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random, device=device)

    # Colours change places, and light its strength.
    order = torch.stack([torch.randperm(3, generator=random, device=device) for _ in range(count)])  # (B, 3)
    keep = draw(count) < 0.5
    order[keep] = torch.arange(3, device=device)
    for first in COLOURS:
        part = x[:, first : first + 3]
        x[:, first : first + 3] = torch.gather(part, 1, order[:, :, None, None].expand_as(part))
    gain = torch.exp(0.25 * (draw(count, 1, 1, 1) * 2 - 1))
    x[:, :3] = (x[:, :3] + 1) * gain - 1 + 0.1 * (draw(count, 1, 1, 1) - 0.5)
    for first in COLOURS[1:]:
        x[:, first : first + 3] *= gain
    for name in ("travelling size", "stir", "travelling stir"):
        for number in numbers_of(name):
            x[:, number] *= gain[:, 0]
    x[:, :3] += torch.randn(count, 3, *x.shape[2:], generator=random, device=device) * 0.02 * draw(count, 1, 1, 1)
    # Some clips tell nothing by their plate.
    mute = draw(count) < 0.08
    for channel in EVIDENCE:
        x[mute, channel] = 0
    # What stirs is not known of every frame, and is not to be leant on.
    still = draw(count) < 0.25
    for name in ("stir", "travelling stir"):
        for channel in numbers_of(name):
            x[still, channel] = 0
    # Place, size and side.
    scale = torch.exp(0.3 * (draw(count) * 2 - 1))
    flip = torch.where(draw(count) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = flip * scale, scale
    theta[:, :, 2] = 0.4 * (draw(count, 2) - 0.5)
    grid = F.affine_grid(theta, [count, 1, *x.shape[2:]], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x[:, CHANNELS.index("x")] *= flip[:, None, None]
    y = F.grid_sample(y[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0].long()
    s = F.grid_sample(s[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    beyond = (grid.abs() > 1).any(-1)
    y[beyond] = IGNORED
    for name in ("object", "others", "known", "mirrored", "seen"):
        x[:, CHANNELS.index(name)] *= ~beyond
    return x.clamp(-1, 1), y, s


def loss_of(net: FinderNet, x: torch.Tensor, y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the kinds, overlap of effects (soft Dice), and the distance of strengths."""
    logits, strength = net(x)
    logits, strength = logits.float(), strength.float()[:, 0]
    counted = y != IGNORED
    entropy = F.cross_entropy(logits, y, ignore_index=IGNORED)
    effect = (1 - logits.softmax(1)[:, 0]) * counted
    truth = ((y > 0) & counted).float()
    both, total = (effect * truth).sum((1, 2)), (effect + truth).sum((1, 2))
    dice = 1 - (2 * both + 40) / (total + 40)
    off = ((torch.sigmoid(strength) - s).abs() * counted).sum() / counted.sum()
    return entropy + 0.3 * dice.mean() + 0.5 * off


def fit(
    data: tuple[torch.Tensor, ...],
    looks: torch.Tensor,
    seconds: float,
    *,
    seed: int,
    start: dict[str, torch.Tensor] | None = None,
) -> FinderNet:
    """Train for so many seconds; the weights returned are a moving average's.

    `looks` (N,) bool are the samples whose plate tells nothing.
    """
    device = data[0].device
    torch.manual_seed(seed)
    net = FinderNet().to(device)
    if start is not None:
        net.load_state_dict(start)
    kept = FinderNet().to(device)
    kept.load_state_dict(net.state_dict())
    random = torch.Generator(device).manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    share = torch.where(looks, LOOKS / looks.sum().clamp(min=1), (1 - LOOKS) / (~looks).sum().clamp(min=1))
    began, step = time.time(), 0
    while (done := (time.time() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 200) * max(1 - done, 0.0) ** 0.9 + 1e-6
        chosen = torch.multinomial(share, BATCH, replacement=True, generator=random)
        batch = batch_of(data, chosen, random)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(net, *batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        keep = min(KEEP, (step + 1) / (step + 10))
        with torch.no_grad():
            for mine, theirs in zip(kept.parameters(), net.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)
        if step % 500 == 0:
            print(f"{time.time() - began:.0f} s, step {step}: loss {loss.item():.4f}", flush=True)
        step += 1
    print(f"{step} steps", flush=True)
    return kept


@torch.no_grad()
def judged(net: FinderNet, data: tuple[torch.Tensor, ...]) -> dict[str, float]:
    """Mean IoU and recall of samples with effects, by kind, and what is found of samples without, by their object."""
    values: dict[str, list[float]] = {}
    for first in range(0, len(data[0]), BATCH):
        chosen = torch.arange(first, min(first + BATCH, len(data[0])), device=data[0].device)
        x, y, _ = batch_of(data, chosen, None)
        found = net(x)[0].argmax(1)
        for mine, truth, given in zip(found, y, x, strict=True):
            counted = truth != IGNORED
            own, true = (mine > 0) & counted, (truth > 0) & counted
            if true.sum() < 30:
                if not true.any():
                    size = (given[CHANNELS.index("object")] > 0).sum()
                    values.setdefault("none: found by object", []).append(float(own.sum() / size.clamp(min=1)))
                continue
            kind = KINDS[int(torch.bincount(truth[true], minlength=5).argmax())]
            both = float((own & true).sum())
            for name, value in (("IoU", both / float((own | true).sum())), ("recall", both / float(true.sum()))):
                values.setdefault(name, []).append(value)
                values.setdefault(f"{kind} {name}", []).append(value)
            right = float(((mine == truth) & true & own).sum()) / max(both, 1)
            values.setdefault("kind right", []).append(right)
    return {name: sum(those) / len(those) for name, those in sorted(values.items())}
