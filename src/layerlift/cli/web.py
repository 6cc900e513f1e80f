"""`layerlift app`: a local page on which the whole job is done."""

from pathlib import Path
from typing import Annotated

import typer

from layerlift.errors import InputError


def web(
    *,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER|CLIP",
            help="Folder to work in, the only one that is read and written; or a clip in it, to be opened at once "
            "(default: the current folder).",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", metavar="P", min=0, max=65535, help="Port to listen on; 0 is any free one.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser; the address is printed.")] = False,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Open the clip in the package, in FOLDER (default: ./layerlift_demo)."),
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="H",
            help="Address to listen on. Anything but this machine's own needs --token: whoever has the token can read "
            "and write FOLDER, and the connection is not encrypted.",
        ),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option("--token", metavar="T", help="Token that requests must have (default: a random one)."),
    ] = None,
) -> None:
    """Open a page in the browser on which the whole job is done: click, see, run, compare, save."""
    root, clip = place_of(folder, demo=demo)
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            "`layerlift app` needs starlette and uvicorn: run `pip install 'layerlift[app]'`, or `pip install "
            "starlette uvicorn`."
        ) from error
    from layerlift.app.serve import LOOPBACK, serve

    if host not in LOOPBACK and token is None:
        raise InputError(
            f"--host {host} lets other machines in, without encryption: add --token with a secret of your own, which "
            "lets whoever has it read and write the folder; or leave --host out."
        )
    if token is not None and not is_token(token):
        raise InputError("--token is too short or has other characters: give at least 8 of A-Z, a-z, 0-9, - and _.")
    if demo:
        from layerlift.app.demo import lay_out_demo

        clip = lay_out_demo(root)
    typer.echo(f"Working in {root}. Press Ctrl-C to stop.")
    serve(root, host=host, port=port, token=token, clip=clip, say=typer.echo, show=not no_open)


def place_of(given: Path | None, *, demo: bool) -> tuple[Path, str | None]:
    """The folder to work in, and the clip in it that was named. Raises InputError for what is neither."""
    if demo:
        folder = given or Path("layerlift_demo")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file, but --demo needs a folder: give another name.")
        return folder.absolute(), None
    path = (given or Path()).absolute()
    if path.is_file():
        return path.parent, path.name
    if not path.is_dir():
        raise InputError(f"{given} does not exist: give a folder, or a clip.")
    return path, None


def is_token(text: str) -> bool:
    """Whether a text will do as a token: it goes into an address and a cookie as it is."""
    return len(text) >= 8 and text.isascii() and all(c.isalnum() or c in "-_" for c in text)
