"""`layerlift doctor`: what this machine has, in a form that fits a bug report."""

from dataclasses import fields

import typer

from layerlift.cli import options


def doctor(device: options.Device = None, dtype: options.Dtype = None, policy: options.PolicyName = None) -> None:
    """Say what layerlift finds here: versions, the device and its rules, the models."""
    from layerlift.device import choose_policy
    from layerlift.model.catalogue import CATALOGUE
    from layerlift.model.hub import find_checkpoint, find_text_encoder
    from layerlift.report import versions

    chosen = choose_policy(device, dtype, policy)
    lines = ["versions"]
    lines += [f"  {name:24} {number}" for name, number in versions().items()]
    lines += ["device"]
    lines += [f"  {field.name:24} {getattr(chosen, field.name)}" for field in fields(chosen)]
    found = {name: find_checkpoint(entry) for name, entry in CATALOGUE.items()} | {"text encoder": find_text_encoder()}
    lines += ["models"]
    lines += [f"  {name:24} {path or 'not on this machine'}" for name, path in found.items()]
    typer.echo("\n".join(lines))
