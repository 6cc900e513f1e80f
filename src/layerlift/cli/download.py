"""`layerlift download`: fetch a model's weights into huggingface_hub's cache."""

from typing import Annotated

import typer

from layerlift.cli.terminal import show_downloads


def download(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Model or segmenter to download, or text-encoder. Without NAME, they are listed.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Download a model, with the text encoder it needs, or a segmenter. Without NAME, list them."""
    from layerlift.engine.model.catalogue import CATALOGUE
    from layerlift.engine.segmenters import SEGMENTERS

    if name is None:
        for entry in CATALOGUE.values():
            typer.echo(f"{entry.name:24} {entry.gigabytes:5.1f} GB  {entry.title}\n{'':34}{entry.settings.licence}")
        for other in SEGMENTERS.values():
            typer.echo(f"{other.name:24} {other.gigabytes:5.2g} GB  {other.title}\n{'':34}{other.licence}")
        return
    from layerlift.engine.model.hub import download as fetch

    with show_downloads() as progress:
        files = fetch(name, progress)
    typer.echo(f"{name} is in {files[0].parent}")
