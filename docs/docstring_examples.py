"""Lets mkdocstrings render the sections that docstrings call `Example:`; it knows them as `Examples:` alone."""

import re
from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Renames the section before docstrings are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every object once it is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
