"""For the API reference: the defaults of option classes as values, not as the calls of `flag` that hold them."""

from dataclasses import MISSING, fields
from typing import Any

import griffe

from layerlift import options


class FlagDefaults(griffe.Extension):
    """Read by mkdocs.yml."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Put a field's value in place of its source."""
        if attr.module.path != options.__name__ or not isinstance(attr.parent, griffe.Class):
            return
        kind = getattr(options, attr.parent.name)
        default = next(field.default for field in fields(kind) if field.name == attr.name)
        if default is not MISSING:
            attr.value = repr(default)
