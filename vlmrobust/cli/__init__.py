"""Provide the command line `vlmrobust` and the meaning of its exit codes, `ExitCode`."""

from .app import ExitCode, app, main
from .compare import compare
from .data import grpo_rows, texts
from .demo import conditions, demo
from .judge import judge
from .report import merge, report
from .run import check_server, run, study

__all__ = ["ExitCode", "app", "main"]

for command in (demo, conditions, check_server, run, study, report, compare, judge, merge, texts, grpo_rows):
    app.command()(command)
