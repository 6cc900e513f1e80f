"""What a container can hold of a clip's sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlift.clip.clip import Clip
from layerlift.clip.container import open_input

if TYPE_CHECKING:
    from av.audio.stream import AudioStream


def sound_codecs(like: Clip) -> set[str]:
    """Names of the codecs of a clip's sound tracks."""
    if like.path is None:
        return set()
    with open_input(like.path) as source:
        return {_codec(stream) for stream in source.streams.audio}


def refused_codecs(like: Clip, container_format: str) -> list[str]:
    """Names of the codecs of a clip's sound tracks that a container (FFmpeg's name) cannot hold."""
    import io

    import av

    names = sound_codecs(like)
    if not names:
        return []
    with av.open(io.BytesIO(), "w", format=container_format) as target:
        return sorted(names - target.supported_codecs)


def _codec(stream: AudioStream) -> str:
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else "unknown"
