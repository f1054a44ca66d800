"""End a command that has a report: print where its files are, and set the exit code."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .app import ExitCode
from .output import is_first_process, say

if TYPE_CHECKING:
    from ..report import Report

__all__ = ["finish"]


def finish(*reports: "Report", responses: Path | None = None, page: Path | None = None, problems: int = 0) -> None:
    """Print where the files are and how many rows are errors.

    Args:
        *reports: the reports that the command has shown.
        responses: the run directory.
        page: the HTML page of the report.
        problems: number of problems in the data.

    Raises:
        typer.Exit: some rows are errors.
    """
    if not is_first_process():
        return
    if responses is not None:
        from ..report.files import report_file
        from ..report.run_report import last_report_file

        kept = last_report_file(responses)
        say(
            f"Responses and report are in {responses}"
            if kept == report_file(responses)
            else f"Responses are in {responses}, and the report of this call is {kept}"
        )
    if page is not None:
        say(f"The page is {page}")
    errors = sum(int(report.responses.has_status("error").sum()) for report in reports)
    if errors or problems:
        say(f"Error rows: {errors}; problems in the data: {problems}. The numbers above leave them out.")
        raise typer.Exit(ExitCode.ERROR_ROWS)
