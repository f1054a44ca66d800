"""`vlmrobust merge`: run directories of several machines as one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .app import refusals
from .finishing import finish
from .output import as_json, say, show, show_data

__all__ = ["merge"]


class Differing(StrEnum):
    """What becomes of samples that two directories have answered differently."""

    refuse = "refuse"
    first = "first"


def merge(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Run directories of one model.", show_default=False)],
    *,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="A new directory, or one that holds a run, to which the others are added.",
            show_default=False,
        ),
    ],
    differing: Annotated[
        Differing,
        typer.Option(
            help="What becomes of samples that two directories have answered differently: refuse, or the first "
            "directory's answers stand and the others are counted."
        ),
    ] = Differing.refuse,
    json: options.Json = False,
) -> None:
    """Put runs of one model together: samples, conditions, draws and metrics of all. They stay as they are.

    The new directory goes on like any other. No model is asked.
    """
    with refusals(context):
        from ..merging import merge_runs

        merged = merge_runs(paths, out, differing=differing.value)
        show_data(as_json(merged.summary)) if json else show(merged)
        say(f"The run of {len(paths)} directories is in {out}")
    finish(merged)
