"""Safetensors headers: read without weights, and every kind of broken file named."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from layerlift.engine.model.headers import open_weights, read_header
from layerlift.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}, path, metadata={"who": "me"})
    return path


def test_shapes_dtypes_and_metadata(file: Path) -> None:
    specs, metadata = read_header(file)
    assert {key: (spec.shape, spec.dtype, spec.file) for key, spec in specs.items()} == {
        "a": ((2, 3), "F32", file),
        "b": ((4,), "BF16", file),
    }
    assert metadata["who"] == "me"


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_truncated_in_the_data(file: Path, cut: int) -> None:
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(InputError, match=f"truncated .{file.stat().st_size} bytes of"):
        read_header(file)


def test_truncated_in_the_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(InputError, match="truncated"):
        read_header(file)


def test_header_length_that_looks_like_a_pickle_is_no_pickle(tmp_path: Path) -> None:
    # 0x0280 = 640 bytes of header begin with the very bytes of a protocol-2 pickle
    path = tmp_path / "w.safetensors"
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(0x280)
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert list(read_header(path)[0]) == ["a"]


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="is a pickle"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"short", b"version https://git-lfs.github.com/spec/v1\noid", b"\0" * 64])
def test_no_safetensors_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a safetensors file"):
        read_header(path)


@pytest.mark.parametrize(
    "header", [b"[1, 2]", b'{"a": {"dtype": "F32"}}', b'{"a": 5}', b"{not json", b"[" * 10**5, b' {"a": {}}']
)
def test_damaged_header(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match="header is damaged"):
        read_header(path)


def write_header(path: Path, header: object, data: bytes) -> Path:
    """A safetensors file of this header and data."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"data_offsets": [0, 4]}, "a has 4 bytes, which is not what .2. takes"),
        ({"shape": [2, 2]}, "a has 8 bytes, which is not what .2, 2. takes"),
        ({"dtype": "F64"}, "a has 8 bytes"),
        ({"dtype": "F33"}, "a has the unknown type 'F33'"),
        ({"data_offsets": [8, 16]}, "a begins at byte 8 of the data instead of 0"),
        ({"data_offsets": [8, 0]}, "a begins at byte 8 of the data instead of 0"),
        ({"shape": [-2]}, "its header is damaged"),
        ({"shape": [2**62, 2**62]}, "its header is damaged"),
        ({"shape": [1] * 9}, "its header is damaged"),
        ({"shape": None}, "its header is damaged"),
        ({"data_offsets": [0, 8, 9]}, "its header is damaged"),
        ({"more": 1}, "its header is damaged"),
    ],
)
def test_what_a_header_says_of_a_tensor_fits_its_bytes(tmp_path: Path, entry: dict, said: str) -> None:
    header = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **entry},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
    }
    with pytest.raises(InputError, match=said):
        read_header(write_header(tmp_path / "w.safetensors", header, bytes(16)))


def test_bytes_that_belong_to_no_tensor(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    with pytest.raises(InputError, match="2 bytes belong to no tensor"):
        read_header(write_header(tmp_path / "w.safetensors", header, bytes(10)))


@pytest.mark.parametrize("metadata", [None, [], {"a": 1}, {"a": None}])
def test_metadata_is_text(tmp_path: Path, metadata: object) -> None:
    with pytest.raises(InputError, match="its header is damaged"):
        read_header(write_header(tmp_path / "w.safetensors", {"__metadata__": metadata}, b""))


def test_what_was_changed_since_its_header_was_read(file: Path) -> None:
    read_header(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="is not a safetensors file"):
        open_weights(file)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_header(tmp_path / "none.safetensors")


def test_more_tensors_than_any_model_has(tmp_path: Path) -> None:
    entry = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    text = ("{" + ",".join(f'"{number}":{entry}' for number in range(100_001)) + "}").encode()
    (tmp_path / "many.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(InputError, match="it has 100001 tensors"):
        read_header(tmp_path / "many.safetensors")
