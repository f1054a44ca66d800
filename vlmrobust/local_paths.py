"""Paths of one's own machine, left out of what is sent to others."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["without_local_paths"]

# A root, folders, and a name: `/home/me/x`, `~/x/y`, `C:\me\x`, `\\host\share\x`, `file:///home/me/x`.
_ROOT = r"(?:file://(?:localhost)?/|~[\\/]|[A-Za-z]:[\\/]|\\\\|/)"
_WHOLE = re.compile(
    rf"\s*(?!/[^/\\]*$)(?!.*\s(?:~?/|[A-Za-z]:\\)){_ROOT}(?![/\\])(?:[^\n\\/;\"'<>|*?]+[\\/])*[^\n\\/;\"'<>|*?]+[\\/]?\s*"
)
_QUOTED = re.compile(rf"(?P<quote>['\"`“])(?P<path>{_ROOT}(?![/\\])[^'\"`“”\n]*[\\/][^'\"`“”\n]*)(?=['\"`”])")
# Not within a word, a tag or an address; a colon may stand before it, as in `hf:/models/x`.
_WITHIN = re.compile(
    rf"(?<![\w/\\.~<>…-]){_ROOT}(?![/\\])(?:[^\s\\/'\"`“”<>|*?,;:()\[\]{{}}]+[\\/]+)+[^\s\\/'\"`“”<>|*?,;:()\[\]{{}}]+"
)
_ENDS = re.compile(r"[\\/]")


def without_local_paths(value: Any) -> Any:
    r"""Return JSON values in which an absolute path has its last part alone, in keys as well.

    A path that is the whole text becomes its name; one within a text begins with an ellipsis. Relative paths, names on
    the hub and addresses stay.

    Args:
        value: text, or texts in mappings, lists and tuples; whatever else is returned as it is.

    Example:
        >>> without_local_paths({"name": "/home/me/out/checkpoint-500", "url": "http://localhost:8000/v1"})
        {'name': 'checkpoint-500', 'url': 'http://localhost:8000/v1'}
        >>> without_local_paths("no such file: '/home/me/My Pictures/cube.png'")
        "no such file: '…/cube.png'"
        >>> without_local_paths("org/model says a/b, </think> and/or ~ 1/2")
        'org/model says a/b, </think> and/or ~ 1/2'
    """
    if isinstance(value, str):
        return _shortened(value)
    if isinstance(value, Mapping):
        return {without_local_paths(key): without_local_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(without_local_paths, value)) if type(value) in (list, tuple) else value
    return value


def _shortened(text: str) -> str:
    if not _ENDS.search(text):
        return text
    if _WHOLE.fullmatch(text) and len(text) < 4096:
        return _name(text.strip())
    text = _QUOTED.sub(lambda found: f"{found['quote']}…/{_name(found['path'])}", text)
    return _WITHIN.sub(lambda found: f"…/{_name(found[0])}", text)


def _name(path: str) -> str:
    return _ENDS.split(path.rstrip("\\/"))[-1]
