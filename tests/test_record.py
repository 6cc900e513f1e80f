"""Recording passes: what a graph would replay is right in every step. No CUDA here: a stand-in replays in its place."""

from collections.abc import Callable, Hashable

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel

from layerlift.fit import Geometry
from layerlift.model import record
from layerlift.model.passes import open_passes
from layerlift.model.record import Recorder
from layerlift.model.speed import Speed
from layerlift.model.testing import tiny_transformer_config
from layerlift.sampling import token_coordinates
from layerlift.schedule import linear_quadratic

SHAPE = (1, 8, 3, 4, 5)
TOKENS = 60


class Replay:
    """Like a graph it does, for any tokens, what `run` does as it stood when it was recorded."""

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor, pool: object) -> None:
        self.run, self.count = run, 0
        run(example)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return self.run(tokens)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[Replay]:
    made: list[Replay] = []

    def make(*given: object) -> Replay:
        made.append(Replay(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(record, "RecordedPass", make)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    return made


def test_first_as_it_is_then_recorded_then_replayed(replays: list[Replay]) -> None:
    recorder, calls = Recorder(), []

    def run(tokens: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return tokens + 1

    names: list[Hashable] = ["a", "a", "b", "a", "b", "b"]
    for name in names:
        assert recorder(name, run, torch.zeros(2)).tolist() == [1, 1]
    assert [replay.count for replay in replays] == [2, 2]


@pytest.mark.parametrize("refresh", [None, 0.15])
@pytest.mark.parametrize("together", [False, True])
def test_what_was_recorded_in_one_step_is_right_in_all_others(
    replays: list[Replay], refresh: float | None, together: bool
) -> None:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(**tiny_transformer_config(layers=2)).eval()
    sigmas = tuple(linear_quadratic(10).tolist())
    moving = torch.zeros(TOKENS, dtype=torch.bool)
    moving[10:23] = True
    coordinates = token_coordinates(SHAPE, Geometry(16, 4, 8), 24)
    embeds, mask = torch.randn(2, 6, 16), torch.ones(2, 6)
    batches = [(embeds, mask)] if together else [(embeds[:1], mask[:1]), (embeds[1:], mask[1:])]
    tokens = torch.randn(len(sigmas), 1, TOKENS, SHAPE[1])
    found = []
    for recorded in (False, True):
        speed = Speed(refresh, hoist=True)
        with torch.no_grad(), open_passes(
            transformer, batches, coordinates, moving, sigmas=sigmas, speed=speed
        ) as passes:  # fmt: skip
            passes.recorder = Recorder() if recorded else None
            found.append([passes(tokens[step], step) for step in range(len(sigmas) - 1)])
    assert len(replays) == (1 if refresh is None else 2) * len(batches)
    for plain, replayed in zip(*found, strict=True):
        assert torch.equal(plain, replayed)
    # Steps differ, so that a recording that froze one of them would be seen.
    assert not torch.allclose(found[0][2], found[0][5])
