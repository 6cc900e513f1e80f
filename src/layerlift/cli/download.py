"""`layerlift download`: fetch a model's weights into huggingface_hub's cache."""

from functools import partial
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
    with_text_encoder: Annotated[
        bool,
        typer.Option(
            "--with-text-encoder",
            help="Fetch the text encoder, too, for prompts of your own (19 GB).",
        ),
    ] = False,
) -> None:
    """Download a model, with what it needs for the usual prompts, or a segmenter. Without NAME, list them."""
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
        say = partial(typer.echo, err=True)
        files = fetch(name, progress, with_text_encoder=with_text_encoder, say=say)
    typer.echo(f"{name} is in {files[0].parent}")
