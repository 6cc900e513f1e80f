"""Files that a page sends: streamed to the disk, whole or not at all, and never more than there is room for."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from anyio import to_thread

from layerlift.app.refusal import RefusalError
from layerlift.errors import reason_of
from layerlift.room import megabytes
from layerlift.whole import Unfinished

MOST_CLIP = 64 * 2**30  # bytes
MOST_MASK = 4 * 2**30
STAYS_FREE = 512 * 2**20  # on the disk, for what else is written there
LOOK_EVERY = 64 * 2**20  # bytes, between two looks at what is free


async def receive(chunks: AsyncIterator[bytes], said: str | None, path: Path, most: int) -> int:
    """Write what comes to a path; returns its bytes. `said` is the request's content-length.

    Raises RefusalError: 413 for more than `most`, 507 where the disk has no room, 400 for an empty or torn body.
    """
    expected = int(said) if said is not None and said.isascii() and said.isdigit() and len(said) < 16 else None
    _check_size(expected or 0, most)
    _check_room(expected or 0, path.parent)
    unfinished = Unfinished(path, overwrite=False)
    try:
        count = looked = 0
        with unfinished.path.open("wb") as file:
            async for chunk in chunks:
                count += len(chunk)
                _check_size(count, most)
                if count - looked > LOOK_EVERY:
                    _check_room(0, path.parent)
                    looked = count
                file.write(chunk)
        if count == 0 or (expected is not None and count != expected):
            raise RefusalError(400, f"{path.name} did not arrive whole: send it again.")
        await to_thread.run_sync(unfinished.commit)  # until all of it is on the disk, which may take long
        return count
    except OSError as error:
        raise RefusalError(507, f"{path.name} cannot be kept: {reason_of(error)}.") from error
    finally:
        unfinished.discard()


def _check_size(count: int, most: int) -> None:
    if count > most:
        raise RefusalError(413, f"this file has more than {megabytes(most)}: copy it into the folder instead.")


def _check_room(wanted: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if wanted + STAYS_FREE > free:
        raise RefusalError(
            507, f"there is no room for {megabytes(wanted)}, only {megabytes(free)} are free: free some space."
        )
