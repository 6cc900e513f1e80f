"""The command line: talks to the user and decides nothing. Only `main` is meant for other code."""

from layerlift.cli.app import main

__all__ = ["main"]
