"""The guided filter against its definition, window by window."""

import numpy as np
import torch

from layerlift.pixels.guided import SMOOTHNESS, apply_models, box_mean, filter_twice, linear_models, make_guide


def test_box_mean_is_the_mean_of_the_square_around_each_cell() -> None:
    values = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    mean = box_mean(values, 2)
    torch.testing.assert_close(mean[:, :, 3, 4], values[:, :, 1:6, 2:7].mean((2, 3)))


def test_models_are_the_weighted_least_squares_of_each_window() -> None:
    generator = torch.Generator().manual_seed(1)
    pictures, maps = torch.rand(1, 3, 9, 9, generator=generator), torch.rand(1, 2, 9, 9, generator=generator)
    counts = (torch.rand(1, 1, 9, 9, generator=generator) > 0.3).float()
    guide = make_guide(pictures, counts, radius=1, step=1)
    slopes, offsets = linear_models(guide, maps)

    expected = []
    for y in range(3, 6):
        for x in range(3, 6):
            weights = guide.weights[0, 0, y - 1 : y + 2, x - 1 : x + 2].double().flatten()
            weights = weights / weights.sum()
            colours = pictures[0, :, y - 1 : y + 2, x - 1 : x + 2].double().flatten(1)
            values = maps[0, :, y - 1 : y + 2, x - 1 : x + 2].double().flatten(1)
            middle, average = colours @ weights, values @ weights
            spread = (colours - middle[:, None]) * weights @ (colours - middle[:, None]).T + SMOOTHNESS * torch.eye(3)
            joint = (values - average[:, None]) * weights @ (colours - middle[:, None]).T
            slope = joint @ spread.inverse()
            expected.append((slope, average - slope @ middle, guide.weights[0, 0, y, x].double()))
    total = sum(weight for *_, weight in expected)
    slope = sum(s * weight for s, _, weight in expected) / total
    offset = sum(o * weight for _, o, weight in expected) / total
    torch.testing.assert_close(slopes[0, :, :, 4, 4].double(), slope, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(offsets[0, :, 4, 4].double(), offset, rtol=1e-3, atol=1e-4)


def test_a_coarse_map_takes_the_shape_of_the_surface_it_lies_on() -> None:
    rows, columns = np.mgrid[:96, :131]
    disc = (rows - 50) ** 2 + (columns - 60) ** 2 < 25**2
    picture = np.where(disc[..., None], [60, 80, 90], [150, 140, 120])
    picture = picture + np.random.default_rng(0).normal(0, 3, picture.shape)
    pictures = torch.from_numpy(picture / 255).float().permute(2, 0, 1)[None]
    coarse = torch.nn.functional.avg_pool2d(torch.from_numpy(disc).float()[None, None], 16, ceil_mode=True)
    for step in (1, 2, 4):
        guide = make_guide(pictures, torch.ones(1, 1, 96, 131), radius=16, step=step)
        blurred = torch.nn.functional.interpolate(coarse, guide.colours.shape[2:], mode="bilinear")
        drawn = filter_twice(guide, blurred, pictures)[0, 0].numpy() > 0.5
        assert drawn.shape == disc.shape
        assert (drawn & disc).sum() / (drawn | disc).sum() > 0.97
        without = torch.nn.functional.interpolate(coarse, (96, 131), mode="bilinear")[0, 0].numpy() > 0.5
        assert (without & disc).sum() / (without | disc).sum() < 0.93


def test_what_does_not_count_does_not_speak() -> None:
    """The same map beside an object of any looks, and whatever the map says beneath it."""
    generator = torch.Generator().manual_seed(2)
    pictures, maps = torch.rand(1, 3, 40, 40, generator=generator), torch.rand(1, 1, 40, 40, generator=generator)
    counts = torch.ones(1, 1, 40, 40)
    counts[..., :20] = 0
    drawn = []
    for looks in (0.0, 1.0):
        changed_picture, changed_map = pictures.clone(), maps.clone()
        changed_picture[..., :20] = looks
        changed_map[..., :20] = looks
        guide = make_guide(changed_picture, counts, radius=4, step=1)
        drawn.append(filter_twice(guide, changed_map, changed_picture)[..., 21:])
    torch.testing.assert_close(drawn[0], drawn[1], atol=0.05, rtol=0)


def test_apply_models() -> None:
    slopes, offsets = torch.ones(1, 2, 3, 2, 2), torch.full((1, 2, 2, 2), 0.5)
    torch.testing.assert_close(apply_models(slopes, offsets, torch.ones(1, 3, 2, 2)), torch.full((1, 2, 2, 2), 3.5))
