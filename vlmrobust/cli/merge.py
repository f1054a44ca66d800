"""Implement `vlmrobust merge`: combine the run directories of several machines."""

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
    """How to treat samples whose responses differ between directories."""

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
            help="New directory, or an existing run directory to add the others to.",
            show_default=False,
        ),
    ],
    differing: Annotated[
        Differing,
        typer.Option(
            help="How to treat samples whose responses differ between directories: refuse, or keep those of the "
            "first directory and count the others."
        ),
    ] = Differing.refuse,
    json: options.Json = False,
) -> None:
    """Merge runs of one model: their samples, conditions, draws and metrics. The runs stay unchanged.

    The new run directory can be resumed like any other. No model is loaded.
    """
    with refusals(context):
        from ..merging import merge_runs

        merged = merge_runs(paths, out, differing=differing.value)
        show_data(as_json(merged.summary)) if json else show(merged)
        say(f"The merged run of {len(paths)} directories is in {out}")
    finish(merged)
