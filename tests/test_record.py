"""Recording passes: what a graph would replay is right in every step. No CUDA here: a stand-in replays in its place."""

from collections.abc import Callable, Hashable

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel

from layerlift.engine.model import record
from layerlift.engine.model.passes import Passes, open_loops, open_passes
from layerlift.engine.model.record import Recorder
from layerlift.engine.model.speed import Speed
from layerlift.engine.sampling import token_coordinates
from layerlift.engine.schedule import linear_quadratic
from layerlift.geometry.fit import Geometry
from tiny_model import tiny_transformer_config

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
    sigmas = linear_quadratic(10)
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


def make_window(first: int, count: int, shift: float, tokens: int = TOKENS) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates of tokens that lie `shift` seconds on, and `count` of them unknown from `first` on."""
    moving = torch.zeros(tokens, dtype=torch.bool)
    moving[first : first + count] = True
    coordinates = token_coordinates(SHAPE, Geometry(16, 4, 8), 24)[:, :, :tokens].clone()
    coordinates[:, 0] += shift
    return coordinates, moving


@pytest.mark.parametrize(
    ("second", "recordings"),
    [
        (make_window(20, 13, 2.0), 2),  # as many unknown
        (make_window(20, 9, 2.0), 2),  # some fewer: a few are run twice
        (make_window(20, 17, 2.0), 3),  # more: the sparse pass is another one
        (make_window(20, 3, 2.0), 3),  # far fewer: running ten more for nothing costs more than recording
        (make_window(5, 13, 2.0, tokens=40), 4),  # another picture
    ],
)
def test_what_was_recorded_in_one_window_is_right_in_the_next(
    replays: list[Replay], second: tuple[torch.Tensor, torch.Tensor], recordings: int
) -> None:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(**tiny_transformer_config(layers=2)).eval()
    sigmas = linear_quadratic(10)
    windows = [make_window(10, 13, 0.0), second]
    batches = [(torch.randn(2, 6, 16), torch.ones(2, 6))]
    drawn = torch.randn(len(sigmas), 1, TOKENS, SHAPE[1])

    def run(passes: Passes, count: int) -> torch.Tensor:
        return torch.stack([passes(drawn[step, :, :count], step) for step in range(len(sigmas) - 1)])

    with torch.no_grad():
        given = {"sigmas": sigmas, "speed": Speed(0.15, hoist=True)}
        expected = []
        for coordinates, moving in windows:
            with open_loops(transformer, batches, **given) as loops:
                expected.append(run(loops.over(coordinates, moving), len(moving)))
        with open_loops(transformer, batches, **given) as loops:
            found, arrays = [], []
            for coordinates, moving in windows:
                passes = loops.over(coordinates, moving)
                passes.recorder = passes.recorder or Recorder()
                arrays.append([array.data_ptr() for array in places(passes)])
                found.append(run(passes, len(moving)))
    # A graph reads where it read when it was recorded.
    assert (arrays[0] == arrays[1]) == (recordings == 2)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert len(replays) == recordings


def places(passes: Passes) -> list[torch.Tensor]:
    """All that a recorded pass reads and that differs between windows."""
    assert passes.hoisted is not None
    assert passes.fresh_rotary is not None
    assert passes.hoisted.rotary is not None
    own = passes.moving, passes.coordinates, passes.fresh, passes.no_times
    return [*own, *passes.fresh_rotary, passes.hoisted.moving, *passes.hoisted.rotary]
