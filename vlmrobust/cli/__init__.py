"""Provide the command line `vlmrobust` and the meaning of its exit codes, `ExitCode`."""

from .app import ExitCode, app, main
from .check_server import check_server
from .compare import compare
from .conditions import conditions
from .demo import demo
from .grpo_rows import grpo_rows
from .judge import judge
from .merge import merge
from .report import report
from .run import run
from .study import study
from .texts import texts

__all__ = ["ExitCode", "app", "main"]

for command in (demo, conditions, check_server, run, study, report, compare, judge, merge, texts, grpo_rows):
    app.command()(command)
