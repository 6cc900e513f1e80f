"""The package's MobileSAM: what it finds, how it is stored, and that it can be stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from threading import Timer

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from layerlift.engine import onnx as running
from layerlift.engine.mobile_sam import BOTTOM_RIGHT, LOW, POSITIVE, SIDE, TOP_LEFT, as_input, open_mobile_sam
from layerlift.progress import Cancellation, CancelledError

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import make_mobile_sam

MOST_BYTES = 10_500_000  # of both files: the repository stays small


@pytest.fixture(scope="module")
def disc() -> np.ndarray:
    """An orange disc on green, (192, 256, 3) uint8; its centre is (150, 90), its radius 40."""
    picture = np.full((192, 256, 3), (60, 110, 60), np.uint8)
    picture += np.random.default_rng(0).integers(0, 12, picture.shape, dtype=np.uint8)
    cv2.circle(picture, (150, 90), 40, (230, 130, 40), -1)
    return picture


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """The disc as the network's masks show it, (256, 256) bool."""
    y, x = np.mgrid[:LOW, :LOW]
    return (x - 150) ** 2 + (y - 90) ** 2 <= 40**2


@pytest.fixture(scope="module")
def embedding(disc: np.ndarray) -> np.ndarray:
    return open_mobile_sam().encode(disc)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def test_the_files_are_small_and_hold_data_alone() -> None:
    networks = [files("layerlift.engine.mobile_sam") / f"{name}.onnx" for name in ("encoder", "decoder")]
    assert sum(len(network.read_bytes()) for network in networks) <= MOST_BYTES
    for network in networks:
        model = onnx.load_from_string(network.read_bytes())
        assert {node.domain for node in model.graph.node} == {""}, "an operator from elsewhere would be code"
        assert not model.functions
        assert all(tensor.data_location == TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_a_click_and_a_box_find_the_disc(embedding: np.ndarray, truth: np.ndarray) -> None:
    sam, scale = open_mobile_sam(), SIDE / 256
    masks, scores = sam.decode(embedding, np.array([(150, 90)]) * scale, np.array([POSITIVE]))
    assert masks.shape == (4, LOW, LOW)
    assert scores.shape == (4,)
    assert max(iou(mask > 0, truth) for mask in masks) > 0.95
    box = np.array([(110, 50), (191, 131)]) * scale
    masks, _ = sam.decode(embedding, box, np.array([TOP_LEFT, BOTTOM_RIGHT]))
    assert iou(masks[0] > 0, truth) > 0.95


def test_the_same_picture_gives_the_same_numbers(disc: np.ndarray, embedding: np.ndarray) -> None:
    np.testing.assert_array_equal(open_mobile_sam().encode(disc), embedding)


def test_a_picture_is_scaled_to_the_top_left_normalised_and_padded_with_zeros() -> None:
    picture = np.full((100, 200, 3), (124, 116, 104), np.uint8)
    made = as_input(picture)
    assert made.shape == (1, 3, SIDE, SIDE)
    assert np.abs(made[0, :, : SIDE // 2]).max() < 0.02, "ImageNet's mean becomes 0"
    assert not made[0, :, SIDE // 2 :].any()
    white = as_input(np.full((64, 64, 3), 255, np.uint8))[0, :, 0, 0]
    np.testing.assert_allclose(white, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-3)


OPEN = """
from layerlift.engine.onnx import open_network, providers
providers("cpu")
open_network("layerlift.engine.mobile_sam", "decoder.onnx")
"""


def test_nothing_is_told_to_its_maker(tmp_path: Path) -> None:
    """onnxruntime's telemetry begins with an identifier in the user's cache; it is off by itself under CI."""
    switches = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "GITHUB_ACTIONS", "TF_BUILD")
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    command = [sys.executable, "-c", OPEN]
    ended = subprocess.run(
        command, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    assert list(tmp_path.rglob("*")) == []


def test_encoding_ends_when_that_is_asked_for_in_the_middle_of_it(disc: np.ndarray) -> None:
    cancellation = Cancellation()
    timer = Timer(0.05, cancellation.cancel)
    timer.start()
    try:
        with pytest.raises(CancelledError):
            open_mobile_sam().encode(disc, cancellation)
    finally:
        timer.join()


def test_every_backend_ends_with_the_cpu_and_threads_are_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {backend: providers[0][0] for backend, providers in running.PROVIDERS.items()} == {
        "cuda": "CUDAExecutionProvider",
        "mps": "CoreMLExecutionProvider",
        "cpu": "CPUExecutionProvider",
    }
    assert all(providers[-1][0] == "CPUExecutionProvider" for providers in running.PROVIDERS.values())
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert running.threads() == 3
    for odd in ("²", "9" * 5000, "-1", "x"):
        monkeypatch.setenv("OMP_NUM_THREADS", odd)
        assert running.threads() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "999999999")
    assert running.threads() == running.MOST_THREADS
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert running.threads() >= 1


def test_weights_are_stored_in_8_bits_for_each_output_channel_and_small_ones_in_half() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 128)).astype(np.float32) * np.geomspace(1e-3, 10, 128, dtype=np.float32)
    bias = rng.normal(size=128).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    sizes = {"x": 64, "y": 128}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in sizes.items()}
    weights = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(nodes, "test", [values["x"]], [values["y"]], weights)
    make_mobile_sam.shrink(graph)
    make_mobile_sam.shorten(graph)
    kinds = sorted(numpy_helper.to_array(tensor).dtype.name for tensor in graph.initializer)
    assert kinds == ["float16", "float32", "int8"]

    import onnxruntime as ort

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    given = rng.normal(size=(1, 64)).astype(np.float32)
    (made,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": given})
    expected = given @ weight + bias
    scale = np.abs(weight).max(0) * np.sqrt((given**2).sum())
    assert (np.abs(made - expected)[0] < 0.01 * scale + 0.01).all(), "each channel is exact by its own measure"


def test_what_attention_adds_by_distance_becomes_a_table() -> None:
    rng = np.random.default_rng(0)
    side, heads = 7, 2
    y, x = np.divmod(np.arange(side * side), side)
    which = np.abs(y[:, None] - y) * side + np.abs(x[:, None] - x)
    table = rng.normal(size=(heads, side * side)).astype(np.float16).astype(np.float32)
    made = numpy_helper.from_array(table[:, which])
    node = helper.make_node("Constant", [], ["added"], value=made)
    output = helper.make_tensor_value_info("added", TensorProto.FLOAT, made.dims)
    graph = helper.make_graph([node], "test", [], [output])
    make_mobile_sam.fold_distances(graph)
    assert sum(len(tensor.raw_data) for tensor in graph.initializer) < len(made.raw_data) / 4

    import onnxruntime as ort

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    (again,) = ort.InferenceSession(model.SerializeToString()).run(None, {})
    np.testing.assert_array_equal(again, table[:, which])
