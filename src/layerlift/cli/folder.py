"""A folder of results that is there when it is whole, or not at all."""

import os
import re
from contextlib import AbstractContextManager
from pathlib import Path

from layerlift.cli.job import settle_folder
from layerlift.errors import InputError
from layerlift.names import HIDDEN
from layerlift.places import check_writable
from layerlift.whole import cannot_be_renamed, whole_folder

# The files that `layerlift run` writes: with --overwrite a folder is replaced when it holds nothing else.
_OURS = re.compile(
    r"(background|composite)\.(mp4|mov|mkv)|layer_\d+\.(mov|mkv)|object_mask_0\.mkv|total_mask\.mkv|report\.json|contact_sheet\.png"
)


def check_run_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises InputError unless the results of a run can be put at `folder`, be it in place of an earlier run's."""
    check_folder(folder, _OURS, overwrite=overwrite)


def check_folder(folder: Path, ours: re.Pattern[str], *, overwrite: bool) -> None:
    """Raises InputError unless results can be put at `folder`, be it in place of earlier ones, named like `ours`."""
    settle_folder(folder, overwrite=overwrite)
    place = Path(os.path.realpath(folder))
    if folder.is_dir():
        names = [path.name for path in folder.iterdir() if not path.name.startswith(HIDDEN)]
        others = sorted(name for name in names if not ours.fullmatch(name))
        if others:
            raise InputError(
                f"{folder} contains {others[0]}, which layerlift did not write, so it will not be replaced: choose "
                "another folder."
            )
    if not place.parent.is_dir():
        raise InputError(f"{folder} is in a folder that does not exist: create {place.parent} first.")
    check_writable(place if cannot_be_renamed(place) else place.parent, str(folder))


def results_folder(folder: Path, ours: re.Pattern[str] = _OURS, *, overwrite: bool) -> AbstractContextManager[Path]:
    """A hidden folder to write into; it takes the place of `folder` when the block ends, an exception removes it.

    Raises InputError as `check_folder`; see `whole_folder` for the rest.
    """

    def check() -> None:
        check_folder(folder, ours, overwrite=overwrite)

    check()
    return whole_folder(folder, check, overwrite=overwrite)
