"""SAM 2 through transformers: tiny random networks, laid out as the hub's cache lays them out, against transformers'
own session."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch

from layerlift.clip import Clip, write_clip
from layerlift.engine.device import choose_policy
from layerlift.engine.model import hub
from layerlift.engine.sam2 import BOTTOM_RIGHT, POSITIVE, TOP_LEFT, Sam2, family_of
from layerlift.engine.segmenters import FILES, SEGMENTERS, best_installed, find_segmenter
from layerlift.errors import InputError
from layerlift.progress import Cancellation, CancelledError
from layerlift.runtime import Runtime
from layerlift.stages.segment import Prompts, Target, open_segmenter
from layerlift.stages.segment.choose import choose_segmenter
from layerlift.stages.segment.sam2 import Sam2Segmenter
from layerlift.stages.spool import resumed_frames
from support import layerlift, survive
from tiny_sam2 import SIDE, WIDE, write_tiny_sam2

SIZE = (72, 96)  # height, width of the clip
FRAMES = 24  # more than the memory looks back on
ROUNDING = 1e-5  # of logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="module")
def sam(folder: Path) -> Sam2:
    return Sam2(folder)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """Coloured noise in which a bright square moves, (F, H, W, 3) uint8."""
    frames = np.random.default_rng(0).integers(0, 120, (FRAMES, *SIZE, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[20:44, 20 + index : 44 + index] = (230, 200, 60)
    return frames


def test_pictures_are_scaled_to_a_square_and_normalised_by_the_published_constants(sam: Sam2) -> None:
    model = sam.model("Sam2Model")
    white = sam.as_input(np.full((*SIZE, 3), 255, np.uint8), model)
    assert white.shape == (1, 3, SIDE, SIDE)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(white[0, :, 5, 7], expected, rtol=1e-5)
    ramp = np.repeat(np.linspace(0, 255, SIZE[1]).astype(np.uint8)[None, :, None], SIZE[0], 0).repeat(3, 2)
    row = sam.as_input(ramp, model)[0, 0, 3] * 0.229 + 0.485
    assert torch.corrcoef(torch.stack([row, torch.linspace(0, 1, SIDE)]))[0, 1] > 0.999, "the whole width is seen"
    points = sam.as_points(np.array([(SIZE[1] / 2, SIZE[0] / 4)]), SIZE[::-1], model)
    np.testing.assert_allclose(points, [(SIDE / 2, SIDE / 4)])


def test_sam_3_is_normalised_by_its_own_constants(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam3_video"}))
    family = family_of(tmp_path)
    assert (family.mean, family.deviation) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert family.video == "Sam3TrackerVideoModel"


def own_session(sam: Sam2, video: np.ndarray) -> tuple[Any, Any]:
    """transformers' own session of the whole video, with its model."""
    from transformers import Sam2VideoInferenceSession

    model = sam.model("Sam2VideoModel")
    pixels = torch.cat([sam.as_input(frame, model) for frame in video])
    return model, Sam2VideoInferenceSession(
        video=pixels, video_height=SIZE[0], video_width=SIZE[1], dtype=torch.float32
    )


def own_box(session: Any, number: int, index: int, box: tuple[float, ...]) -> None:
    """Say a box as transformers' processor says it."""
    scale = torch.tensor([SIDE / SIZE[1], SIDE / SIZE[0]])
    given = {
        "point_coords": (torch.tensor(box).reshape(1, 1, 2, 2) * scale),
        "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32),
    }
    session.add_point_inputs(session.obj_id_to_idx(number), index, given)
    session.obj_with_new_inputs = [*session.obj_with_new_inputs, number]


BOX = (20.0, 20.0, 44.0, 44.0)
CORNERS = np.array([TOP_LEFT, BOTTOM_RIGHT])


def test_following_is_what_transformers_own_session_does_but_keeps_few_frames(sam: Sam2, video: np.ndarray) -> None:
    model, session = own_session(sam, video)
    for number, shift in ((0, 0), (1, 10)):
        own_box(session, number, 0, tuple(np.add(BOX, shift)))
    expected = [made.pred_masks[:, 0].numpy() for made in model.propagate_in_video_iterator(session, 0)]

    following = sam.follow(SIZE[::-1], FRAMES)
    for number, shift in ((0, 0), (1, 10)):
        following.say(number, 0, np.reshape(np.add(BOX, shift), (2, 2)).astype(np.float32), CORNERS)
    for index, frame in enumerate(video):
        numbers, masks = following.step(index, frame)
        assert numbers == [0, 1]
        np.testing.assert_allclose(masks, expected[index], atol=ROUNDING)
    change = [np.abs(a - b).max() for a, b in pairwise(expected)]
    assert min(change) > 20 * ROUNDING, "each frame has masks of its own"
    kept = following._session
    assert not kept.processed_frames
    assert len(kept.output_dict_per_obj[0]["non_cond_frame_outputs"]) <= 17 < FRAMES


def test_it_goes_backward_as_transformers_own_session_does(sam: Sam2, video: np.ndarray) -> None:
    model, session = own_session(sam, video)
    start = FRAMES - 2
    own_box(session, 0, start, BOX)
    model(session, frame_idx=start)
    expected = [made.pred_masks[:, 0].numpy() for made in model.propagate_in_video_iterator(session, reverse=True)]
    following = sam.follow(SIZE[::-1], FRAMES)
    following.say(0, start, np.reshape(BOX, (2, 2)).astype(np.float32), CORNERS)
    for index in range(start + 1)[::-1]:
        _, masks = following.step(index, video[index], reverse=True)
        np.testing.assert_allclose(masks, expected[start - index], atol=ROUNDING)


def test_a_known_mask_is_shown_as_transformers_shows_it(sam: Sam2, video: np.ndarray) -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[20:44, 20:44] = True
    model, session = own_session(sam, video)
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(), (SIDE, SIDE), mode="bilinear", antialias=True
    )
    session.add_mask_inputs(session.obj_id_to_idx(0), 0, (scaled >= 0.5).float())
    session.obj_with_new_inputs = [0]
    expected = [model(session, frame_idx=index).pred_masks[0, 0].numpy() for index in range(4)]
    following = sam.follow(SIZE[::-1], FRAMES)
    following.show(0, 0, mask)
    for index in range(4):
        _, masks = following.step(index, video[index])
        np.testing.assert_allclose(masks[0], expected[index], atol=ROUNDING)


def test_a_prediction_is_that_of_transformers_picture_model(folder: Path, sam: Sam2, video: np.ndarray) -> None:
    from transformers import Sam2Model

    model = Sam2Model.from_pretrained(folder).eval()
    scale = torch.tensor([SIDE / SIZE[1], SIDE / SIZE[0]])
    with torch.inference_mode():
        made = model(
            pixel_values=sam.as_input(video[0], model),
            input_points=torch.tensor([[[[30.0, 30.0]]]]) * scale,
            input_labels=torch.tensor([[[POSITIVE]]]),
            multimask_output=True,
        )
    segmenter = Sam2Segmenter("tiny", folder)
    view = segmenter.embed(video[0])
    said = Prompts(np.array([(30, 30)], np.float32), np.array([True]))
    predicted = segmenter.predict(view, said)
    np.testing.assert_allclose(predicted.masks, made.pred_masks[0, 0].numpy(), rtol=1e-4, atol=1e-4)
    assert predicted.best == int(made.iou_scores[0, 0].argmax())
    assert predicted.mask().shape == SIZE
    again = segmenter.predict(view, Prompts(said.points, said.inside, BOX, predicted.masks[predicted.best]))
    assert len(again.masks) == 1, "a clear question has one answer"
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(CancelledError):
        segmenter.embed(video[0], cancellation)


def test_on_apple_s_gpus_no_attention_is_torch_s_own(
    folder: Path, sam: Sam2, video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is silently wrong there on permuted views, which is what it would be given."""
    assert [Sam2(folder, device).attention for device in ("mps", "cpu", "cuda:1")] == ["eager", "sdpa", "sdpa"]
    other = Sam2(folder)
    other.attention = "eager"
    calls = []
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *given, **more: (calls.append(given), real(*given, **more))[1],
    )
    for one, there in ((sam, True), (other, False)):
        calls.clear()
        found = one.encode(video[0])
        assert bool(calls) == there
        if one is sam:
            expected = found
    for theirs, ours in zip(expected, found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    # In the networks for videos, too: the switch is the same.
    video_model = other.model(other.family.video)
    assert {module.config._attn_implementation for module in video_model.modules() if hasattr(module, "config")} == {
        "eager"
    }


def test_every_frame_of_a_clip_is_labelled_from_wherever_it_was_touched(
    folder: Path, video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A random network's masks are nothing in particular.
    monkeypatch.setattr("layerlift.stages.segment.sam2.is_nothing", lambda *_: False)
    segmenter, clip = Sam2Segmenter("tiny", folder), Clip.from_array(video)
    mask = np.zeros(SIZE, np.bool_)
    mask[20:44, 25:49] = True
    late = Target("late", {9: Prompts(box=BOX), 12: Prompts(np.array([(30, 30)], np.float32), np.zeros(1, np.bool_))})
    labels = list(segmenter.track(clip, [Target("known", {}, {5: mask}), late]))
    assert len(labels) == FRAMES
    assert all(label.shape == SIZE and label.dtype == np.uint8 and label.max() <= 2 for label in labels)
    again = list(segmenter.track(clip, [Target("known", {}, {5: mask}), late]))
    np.testing.assert_array_equal(labels, again)


@pytest.mark.slow
@pytest.mark.parametrize("every", [6, 9])
def test_a_video_that_is_killed_goes_on_with_all_that_was_remembered(
    every: int, folder: Path, video: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerlift.stages.segment.sam2.is_nothing", lambda *_: False)
    monkeypatch.setattr("layerlift.stages.segment.sam2.EVERY", 3)
    segmenter, clip = Sam2Segmenter("tiny", folder), Clip.from_array(video)
    mask = np.zeros(SIZE, np.bool_)
    mask[20:44, 25:49] = True
    late = Target("late", {9: Prompts(box=BOX), 12: Prompts(np.array([(30, 30)], np.float32), np.zeros(1, np.bool_))})

    def work(runtime: Runtime) -> np.ndarray:
        runtime = runtime.part("objects")
        track = partial(segmenter.track, clip, [Target("known", {}, {7: mask}), late])
        labels = resumed_frames(runtime.keeper, "labels", partial(track, runtime.progress, runtime.keeper))
        return np.stack(list(labels))

    made, kills = survive(tmp_path / "job", Runtime(), work, every)
    assert kills >= 2
    np.testing.assert_array_equal(made, work(Runtime()))


def test_a_click_on_nothing_is_told(folder: Path, video: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerlift.stages.segment.sam2.is_nothing", lambda *_: True)
    with pytest.raises(InputError, match="nothing was found for dog in frame 3"):
        next(Sam2Segmenter("tiny", folder).track(Clip.from_array(video), [Target("dog", {3: Prompts(box=BOX)})]))


@pytest.fixture
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with the tiny networks in the place of the smallest SAM 2, linked as the hub links."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / f"models--{SEGMENTERS['sam2-tiny'].repo.replace('/', '--')}"
    snapshot = repo / "snapshots" / "0123abcd"
    for place in (repo / "blobs", repo / "refs", snapshot):
        place.mkdir(parents=True)
    (repo / "refs" / "main").write_text("0123abcd")
    for number, file in enumerate(FILES):
        (repo / "blobs" / str(number)).write_bytes((folder / file).read_bytes())
        (snapshot / file).symlink_to(Path("../../blobs") / str(number))
    return tmp_path


def test_what_was_downloaded_is_found_and_auto_takes_it_where_there_is_a_gpu(cache: Path) -> None:
    tiny, large = SEGMENTERS["sam2-tiny"], SEGMENTERS["sam2-large"]
    assert find_segmenter(tiny) == cache / "models--facebook--sam2.1-hiera-tiny" / "snapshots" / "0123abcd"
    assert find_segmenter(large) is None
    assert best_installed() is tiny
    assert choose_segmenter("auto", Runtime()) == "mobile-sam"
    assert choose_segmenter("auto", Runtime(policy=choose_policy("cpu", force="cuda"))) == "sam2-tiny"
    assert choose_segmenter("auto", Runtime(policy=choose_policy("cpu", force="mps"))) == "sam2-tiny"
    assert open_segmenter("sam2-tiny").name == "sam2-tiny"
    with pytest.raises(InputError, match=r"sam2-large is not on this machine \(0.9 GB\): run `layerlift download"):
        choose_segmenter("sam2-large", Runtime())


def test_without_any_download_auto_is_the_package_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert best_installed() is None
    assert choose_segmenter("auto", Runtime(policy=choose_policy("cpu", force="cuda"))) == "mobile-sam"


def test_a_segmenter_is_downloaded_with_its_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def fetch(repo: str, file: str, **_: object) -> str:
        asked.append((repo, file))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    hub.download("sam2-small")
    assert asked == [("facebook/sam2.1-hiera-small", file) for file in ("config.json", "model.safetensors")]


def test_every_segmenter_is_listed_with_size_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert layerlift("download") == 0
    printed = capsys.readouterr().out
    for name, entry in SEGMENTERS.items():
        assert name in printed
        assert entry.licence == "Apache-2.0"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "has no config.json that can be read"),
        ("no json", "has no config.json that can be read"),
        ("[" * 100_000, "has no config.json that can be read"),
        ('{"model_type": "llama"}', "holds a model of type 'llama', not SAM 2 or SAM 3"),
        ('{"model_type": ["sam2"]}', "holds a model of type .*, not SAM 2 or SAM 3"),
    ],
)
def test_a_folder_of_something_else_is_told(config: str | None, said: str, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=said):
        choose_segmenter(str(tmp_path), Runtime())


def test_weights_that_are_not_whole_are_told(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(InputError, match="cannot be read"):
        Sam2(tmp_path).model("Sam2VideoModel")
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "memory" not in name}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="are not whole"):
        Sam2(tmp_path).model("Sam2VideoModel")


def test_the_command_takes_a_folder(
    folder: Path, video: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("layerlift.stages.segment.sam2.is_nothing", lambda *_: False)
    write_clip("toy.mkv", video[:4], Clip.from_array(video[:4]), lossless=True)
    asked = ("--box", "20,20,44,44", "--segmenter", folder, "-o", "mask.mkv", "--report", "report.json")
    assert layerlift("segment", "toy.mkv", *asked) == 0
    assert json.loads(Path("report.json").read_text())["results"]["segmenter"] == str(folder)


def test_sam_3_in_a_folder_finds_objects_too(
    tmp_path: Path, video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel, Sam3VisionConfig, Sam3ViTConfig

    side, cells = 112, 8
    backbone = Sam3ViTConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=side,
        window_size=4, global_attn_indexes=[1], pretrain_image_size=side,
    )  # fmt: skip
    vision = Sam3VisionConfig(
        backbone_config=backbone, fpn_hidden_size=WIDE,
        backbone_feature_sizes=[[cells * scale] * 2 for scale in (4, 2, 1)],
    )  # fmt: skip
    config = Sam3TrackerVideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": WIDE, "image_size": side, "patch_size": 14, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": WIDE, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        image_size=side, memory_attention_hidden_size=WIDE, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[cells] * 2,
        memory_encoder_hidden_size=WIDE, mask_downsampler_embed_dim=WIDE, memory_fuser_embed_dim=WIDE,
        memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip
    Sam3TrackerVideoModel(config).save_pretrained(tmp_path)
    monkeypatch.setattr("layerlift.stages.segment.sam2.is_nothing", lambda *_: False)
    assert choose_segmenter(str(tmp_path), Runtime()) == str(tmp_path)
    segmenter = Sam2Segmenter("sam3", tmp_path)
    assert segmenter.predict(segmenter.embed(video[0]), Prompts(box=BOX)).mask().shape == SIZE
    labels = list(segmenter.track(Clip.from_array(video[:5]), [Target("dog", {2: Prompts(box=BOX)})]))
    assert len(labels) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"memory_attention_num_layers": 10**6}, "memory_attention_num_layers is 1000000"),
        ({"prompt_encoder_config": {"image_size": 2**17}}, "image_size is 131072"),
        ({"mask_decoder_config": {"mlp_dim": 10**30}}, "mlp_dim is 1000000000000000000000000000000"),
        ({"x": [0] * 30_000}, "it has too many values"),
        ({"mask_decoder_config": {"hidden_size": WIDE, "mlp_dim": 2**18, "num_hidden_layers": 200}}, "but the weights"),
    ],
)
def test_a_config_of_a_network_that_is_not_there_builds_nothing(
    folder: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    (tmp_path / "model.safetensors").hardlink_to(folder / "model.safetensors")
    with pytest.raises(InputError, match=said):
        Sam2(tmp_path).model("Sam2VideoModel")
