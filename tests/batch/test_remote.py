"""Inputs that lie elsewhere are copied once, and again when they change."""

from pathlib import Path

import pytest

from layerlift.batch.remote import fetch, localise
from layerlift.errors import InputError


def test_remote_places_become_copies_and_what_stands_after_them_stays(tmp_path: Path) -> None:
    typed = ["/a/b.mp4", "--object", "s3://bucket/m.png:2", "--reference", "s3://bucket/c.png@12", "--seed", "3"]
    words, copies = localise(typed, tmp_path)
    assert {*copies} == {"s3://bucket/m.png", "s3://bucket/c.png"}
    assert words == [
        "/a/b.mp4", "--object", f"{copies['s3://bucket/m.png']}:2", "--reference", f"{copies['s3://bucket/c.png']}@12",
        "--seed", "3",
    ]  # fmt: skip
    assert Path(copies["s3://bucket/m.png"]).name == "m.png"
    # Two of one name are two copies.
    assert len({*localise(["s3://a/m.png", "s3://b/m.png"], tmp_path)[0]}) == 2


def test_a_copy_is_made_once_and_again_when_the_original_changes(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    original = tmp_path / "original"
    original.write_bytes(b"one")
    (copy,), copies = localise([f"file://{original}"], tmp_path / "copies")
    fetch(copies)
    assert Path(copy).read_bytes() == b"one"
    Path(copy).write_bytes(b"the copy as it is")
    fetch(copies)
    assert Path(copy).read_bytes() == b"the copy as it is"
    original.write_bytes(b"another")
    fetch(copies)
    assert Path(copy).read_bytes() == b"another"


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    for url in (f"file://{tmp_path}", f"file://{tmp_path}/no", "abc://x"):
        with pytest.raises(InputError, match=url.partition(":")[0]):
            fetch(localise([url], tmp_path / "copies")[1])
