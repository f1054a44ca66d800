"""Where the images of a page come from when a report is shown again: a report holds none."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import say

if TYPE_CHECKING:
    from ..types import Sample

__all__ = ["samples_for_images"]


def samples_for_images(run: Path, data: str | None) -> "list[Sample]":
    """Return the samples of a run: of the data that are named, else as its `run.toml` says; none, with a line why.

    Args:
        run: a run directory, or a saved report.
        data: rows that the samples are read from.

    Raises:
        ValueError: something is wrong with the data that are named.
        FileNotFoundError: they are not there.
    """
    from .construction import samples_of

    if data is not None:
        return list(samples_of(**_asked({"data": data}), skip_bad_rows=True))
    file = (run if run.is_dir() else run.parent) / "run.toml"
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
        return list(samples_of(**_asked(given), skip_bad_rows=True))
    except (OSError, ValueError, ImportError, LookupError, AttributeError, TypeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        say(f"Note: the page has no images, as the samples of {run} were not found ({said}); name their file: --data")
        return []


def _asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of `vlmrobust run` that say where samples come from, each by default as there."""
    defaults = {
        "data": None,
        "benchmark": None,
        "split": None,
        "columns": None,
        "answer_as": "any",
        "limit": None,
        "download_urls": False,
    }
    return {"check_images": False, **{name: given.get(name, value) for name, value in defaults.items()}}
