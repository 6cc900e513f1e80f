"""From attention to scores: coverage, head weights, and what happens without any."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from layerlift.engine.device import choose_policy
from layerlift.engine.model import Model, open_model
from layerlift.engine.model.effect_score import (
    HEADS_FILE,
    LEAST_MASS,
    Coverage,
    EvenHeads,
    FittedHeads,
    cells_of_frames,
    choose_prompt,
    choose_scorer,
    core_of,
    cover_tokens,
    object_columns,
    read_heads,
    score_tokens,
    token_shares,
)
from layerlift.engine.model.probe import AttentionProbe
from layerlift.engine.sampling import token_coordinates
from layerlift.errors import InputError
from layerlift.geometry.fit import Geometry
from tiny_model import write_tiny_model

GEOMETRY = Geometry(16, 4, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return open_model(folder)


def test_shares_count_the_first_frame_alone_then_four_at_a_time() -> None:
    masks = torch.zeros(1, 9, 32, 32, dtype=torch.bool)
    masks[0, 0, :8, :16] = True  # half of the first token in frame 0
    masks[0, 5:7, 16:, 16:] = True  # all of the last token in two frames of four
    shares = token_shares(masks, GEOMETRY)
    assert shares.shape == (1, 3, 2, 2)
    expected = torch.zeros(3, 2, 2)
    expected[0, 0, 0], expected[2, 1, 1] = 0.5, 0.5
    torch.testing.assert_close(shares[0], expected)


def test_where_objects_overlap_neither_is_looked_at() -> None:
    masks = torch.zeros(2, 1, 16, 48, dtype=torch.bool)
    masks[0, ..., :32] = True
    masks[1, ..., 16:] = True
    coverage = cover_tokens(masks, GEOMETRY)
    assert coverage.own[:, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert coverage.hidden[0, 0].tolist() == [1, 1, 1]


def test_an_object_that_is_always_hidden_is_taken_as_it_is() -> None:
    masks = torch.zeros(2, 1, 16, 48, dtype=torch.bool)
    masks[0, ..., 16:32] = True
    masks[1] = True
    assert cover_tokens(masks, GEOMETRY).own[:, 0, 0].tolist() == [[0, 1, 0], [1, 0, 1]]


def test_columns_are_what_is_touched_and_the_core() -> None:
    own = torch.tensor([0.0, 0.2, 0.95, 1.0, 0.0, 0.3]).view(2, 1, 1, 3)
    assert core_of(own).flatten().tolist() == [0, 0, 1, 1, 0, 0]
    assert object_columns(own)[0].T.tolist() == [[0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]]


def test_fitted_heads_are_a_logistic_of_weighted_logarithms() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 2, 3, 4, generator=generator)  # kinds, columns, layers, heads
    logs = torch.randn(2, 3, 4, 10, 1, 2, generator=generator)  # kinds, layers, heads, tokens, objects, columns
    heads = FittedHeads(weights, -0.5, 0.25)
    summed = sum(heads.weigh(logs[k, i], kind, i) for k, kind in enumerate(heads.kinds) for i in range(3))
    own = torch.zeros(1, 1, 2, 5)
    own[..., 0, 0] = 1
    scores = heads.finish(summed.T.view(1, 1, 2, 5), Coverage(own, own[0]))
    expected = torch.sigmoid(torch.einsum("kclh,klhsnc->ns", weights, logs) - 0.5)
    torch.testing.assert_close(scores.flatten(1), expected)
    # An object that is nowhere causes nothing.
    assert not heads.finish(summed.T.view(1, 1, 2, 5), Coverage(0 * own, own[0])).any()


def test_even_heads_put_the_usual_token_at_0_and_the_object_at_1() -> None:
    own = torch.zeros(2, 1, 1, 6)
    own[0, ..., 0] = 1
    own[1, ..., 5] = 1
    masses = torch.tensor([[8.0, 2, 2, 2, 5, 0.5], [0.5, 1, 1, 1, 1, 3]]).view(2, 1, 1, 6, 1).expand(-1, -1, -1, -1, 2)
    heads = EvenHeads((0, 1, 4))
    scores = heads.finish(3 * masses.log(), Coverage(own, own.sum(0)))
    # What the object fills of a token is no effect: the ends of the line are the objects themselves.
    torch.testing.assert_close(scores[0].flatten(), torch.tensor([0, 0, 0, 0, 0.5, 0]), atol=1e-6, rtol=0)
    assert not scores[1].any()
    everywhere = Coverage(torch.ones_like(own), torch.ones(1, 1, 6))
    assert not heads.finish(masses, everywhere).any()


def test_beside_an_object_in_its_token_is_what_the_object_does_not_explain() -> None:
    own = torch.tensor([1.0, 0.5, 0.5, 0, 0, 0]).view(1, 1, 1, 6)
    masses = torch.tensor([10.0, 5.0, 7.5, 0, 0, 0]).add(1e-6).view(1, 1, 1, 6, 1).expand(-1, -1, -1, -1, 2)
    scores = EvenHeads((0,)).finish(masses.log(), Coverage(own, own[0]))
    torch.testing.assert_close(scores.flatten(), torch.tensor([0, 0, 0.5, 0, 0, 0]), atol=1e-5, rtol=0)


def test_an_effect_belongs_to_the_object_whose_touched_tokens_it_looks_at() -> None:
    own = torch.zeros(2, 1, 1, 6)
    own[0, ..., 0] = own[1, ..., 5] = 1
    touched = torch.tensor([[9.0, 1, 4, 1, 1, 1], [1, 1, 1, 1, 1, 9.0]])
    core = torch.tensor([[9.0, 1, 2, 1, 1, 1], [1, 1, 6, 1, 1, 9.0]])  # by the core alone the other one's
    logs = torch.stack([touched, core], -1).log().view(2, 1, 1, 6, 2)
    scores = EvenHeads((0,)).finish(logs, Coverage(own, own.sum(0)))
    assert scores[0, 0, 0, 2] > 0.2
    assert scores[1, 0, 0, 2] == 0


def score(model: Model, scorer: object, own: torch.Tensor, **changes: object) -> torch.Tensor:
    policy = choose_policy("cpu")
    latents = torch.randn(1, 8, *own.shape[1:], generator=torch.Generator().manual_seed(3))
    text = model.text([""], policy)[0]
    given = {
        "scorer": scorer,
        "sigmas": (0.3,),
        "generator": torch.Generator().manual_seed(0),
        "policy": policy,
        **changes,
    }
    with model.transformer(policy) as transformer:
        coordinates = token_coordinates(latents.shape, model.geometry, 24)
        coverage = Coverage(own, own.sum(0).clamp(max=1))
        return score_tokens(transformer, latents, coverage, (text.embeds, text.mask), coordinates, **given)


@pytest.fixture
def own() -> torch.Tensor:
    own = torch.zeros(2, 2, 3, 4)
    own[0, :, 0, :2] = 1
    own[1, 1, 2, 2:] = torch.tensor([0.4, 1.0])
    return own


def test_scores_are_the_weighted_mass_of_one_pass(model: Model, own: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(5)
    heads = FittedHeads(torch.randn(2, 2, 2, 2, generator=generator), 0.1, 0.25)
    scores = score(model, heads, own)

    # The same pass by hand, with the whole of every head's mass.
    policy = choose_policy("cpu")
    latents = torch.randn(1, 8, *own.shape[1:], generator=torch.Generator().manual_seed(3))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    text = model.text([""], policy)[0]
    columns = object_columns(own)
    with (
        torch.no_grad(),
        model.transformer(policy) as transformer,
        AttentionProbe(transformer, columns, policy, kinds=("content", "positional")) as probe,
    ):
        transformer(
            hidden_states=(0.7 * latents + 0.3 * noise).flatten(2).transpose(1, 2),
            encoder_hidden_states=text.embeds,
            timestep=torch.full((1, 24), 300.0),
            encoder_attention_mask=text.mask.float(),
            video_coords=token_coordinates(latents.shape, model.geometry, 24),
            return_dict=False,
        )
    logs = torch.stack([probe.stacked(kind) for kind in ("content", "positional")])[:, :, 0]  # (k, l, H, S, n·c)
    logs = (logs / columns.mean((0, 1)) + LEAST_MASS).log().unflatten(-1, (2, 2))
    expected = torch.sigmoid(torch.einsum("kclh,klhsnc->ns", heads.weights, logs) + 0.1)
    torch.testing.assert_close(scores.flatten(1), expected, rtol=1e-4, atol=1e-5)


def test_several_sigmas_are_averaged_and_the_seed_decides(model: Model, own: torch.Tensor) -> None:
    heads = FittedHeads(torch.full((2, 2, 2, 2), 0.2), 0.0, 0.25)
    both, low = score(model, heads, own, sigmas=(0.2, 0.6)), score(model, heads, own, sigmas=(0.2,))
    assert not torch.allclose(both, low, atol=1e-4)
    again = score(model, heads, own, sigmas=(0.2, 0.6))
    assert torch.equal(both, again)
    other = score(model, heads, own, sigmas=(0.2, 0.6), generator=torch.Generator().manual_seed(9))
    assert not torch.equal(both, other)


def test_objects_in_one_pass_score_as_each_does_alone(model: Model, own: torch.Tensor) -> None:
    heads = FittedHeads(torch.full((2, 2, 2, 2), 0.2), 0.0, 0.25)
    together = score(model, heads, own)
    for index in range(2):
        torch.testing.assert_close(together[index], score(model, heads, own[index : index + 1])[0])


def test_layers_that_are_chosen_are_the_only_ones_that_count(model: Model, own: torch.Tensor) -> None:
    every, first = score(model, EvenHeads((0, 1)), own), score(model, EvenHeads((0,)), own)
    second = score(model, EvenHeads((1,)), own)
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first, every, atol=1e-3)


def test_auto_is_the_models_own_weights_where_it_has_them(model: Model, tmp_path: Path) -> None:
    assert choose_scorer(model, "auto") == EvenHeads((0, 1))
    deep = open_model(write_tiny_model(tmp_path / "deep", layers=4))
    assert choose_scorer(deep, "auto") == EvenHeads((1, 2))  # neither the first nor the last
    assert choose_scorer(deep, "all") == EvenHeads((0, 1, 2, 3))
    carrying = open_model(write_tiny_model(tmp_path / "tiny"))
    weights = torch.randn(2, 2, 2, 2)
    save_file({"weights": weights}, tmp_path / "tiny" / HEADS_FILE, {"bias": "0.5", "threshold": "0.3"})
    fitted = choose_scorer(carrying, "auto")
    assert isinstance(fitted, FittedHeads)
    assert torch.equal(fitted.weights, weights)
    assert (fitted.bias, fitted.threshold) == (0.5, 0.3)
    assert choose_scorer(carrying, "all") == EvenHeads((0, 1))
    assert choose_scorer(carrying, (1, 0, 1)) == EvenHeads((0, 1))


def test_the_demo_model_carries_weights_for_each_of_its_heads() -> None:
    demo = open_model("demo")
    fitted = choose_scorer(demo, "auto")
    assert isinstance(fitted, FittedHeads)
    assert fitted.weights.shape == (2, 2, *demo.attention_heads)
    assert choose_prompt(demo) == "objects"


@pytest.mark.parametrize("layers", [(2,), (-1,), (), "some"])
def test_layers_the_model_does_not_have(model: Model, layers: object) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        choose_scorer(model, layers)  # type: ignore[arg-type]


def test_weights_of_another_model(tmp_path: Path) -> None:
    carrying = open_model(write_tiny_model(tmp_path / "tiny"))
    save_file({"weights": torch.zeros(2, 2, 9, 6)}, tmp_path / "tiny" / HEADS_FILE, {"bias": "0", "threshold": "0.3"})
    with pytest.raises(InputError, match="2 layers of 2 heads"):
        choose_scorer(carrying, "auto")


def test_prompt_without_a_word_for_objects(model: Model) -> None:
    assert choose_prompt(model) == ""


def test_cells_are_touched_by_any_pixel() -> None:
    objects = torch.zeros(1, 2, 32, 48, dtype=torch.bool)
    objects[0, 1, 16, 47] = True
    cells = cells_of_frames(objects, Geometry(16, 4, 8))
    assert cells.shape == (1, 2, 2, 3)
    assert cells.nonzero().tolist() == [[0, 1, 1, 2]]


@pytest.mark.slow
def test_neither_opencv_nor_pyav_is_imported() -> None:
    """What looks at a window runs where neither is installed."""
    code = "import sys, layerlift.engine.model.parts; sys.exit(bool({'cv2', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("tensors", "about", "said"),
    [
        ({"other": torch.zeros(1)}, {"bias": "0", "threshold": "0.3"}, "has no head weights"),
        ({"weights": torch.zeros(1, dtype=torch.int64)}, {"bias": "0", "threshold": "0.3"}, "has no head weights"),
        ({"weights": torch.zeros(2, 2, 2, 2)}, {"bias": "0"}, "missing required field threshold"),
        ({"weights": torch.zeros(2, 2, 2, 2)}, {"bias": "x", "threshold": "0.3"}, "bias is 'x', expected a number"),
        ({"weights": torch.zeros(2, 2, 2, 2)}, {"bias": "nan", "threshold": "0.3"}, "bias is 'nan', expected a number"),
        ({"weights": torch.zeros(2, 2, 2, 2)}, {"bias": "0", "threshold": "7"}, "threshold is '7', expected a number"),
        ({"weights": torch.full((2, 2, 2, 2), torch.nan)}, {"bias": "0", "threshold": "0.3"}, "are no numbers"),
    ],
)
def test_hostile_head_weights(
    tmp_path: Path, tensors: dict[str, torch.Tensor], about: dict[str, str], said: str
) -> None:
    save_file(tensors, tmp_path / HEADS_FILE, about)
    with pytest.raises(InputError, match=said):
        read_heads(tmp_path)


def test_damaged_head_weights(tmp_path: Path) -> None:
    (tmp_path / HEADS_FILE).write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is not a safetensors file"):
        read_heads(tmp_path)
