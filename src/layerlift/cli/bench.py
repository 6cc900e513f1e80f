"""`layerlift bench`: tables measured on scenes whose truth is known."""

import typer

app = typer.Typer(no_args_is_help=True, help="Measure on scenes whose truth is known.")
