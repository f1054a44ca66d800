"""A study as one page of HTML that needs nothing else, and leads to the reports of its runs.

Names and errors are untrusted text: Jinja escapes all of it, and the page's policy lets no script run.
"""

import json
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..local_paths import without_local_paths
from ..text import printable_part
from .headline import headline

if TYPE_CHECKING:
    from .result import StudyResult

__all__ = ["page"]


def page(result: "StudyResult") -> str:
    """Return the page of a study."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vlmrobust.study", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=printable_part,
    )
    return environment.get_template("page.html").render(
        style=_style("vlmrobust.report") + _style("vlmrobust.study"),
        headline=headline(result),
        facts=_facts(result),
        sections=result.sections,
        curves=result.pictures,
        study=json.dumps(without_local_paths(result.study.model_dump(mode="json", exclude_defaults=True)), indent=2),
        quote=quote,
    )


def _style(package: str) -> str:
    return files(package).joinpath("page.css").read_text(encoding="utf-8")


def _facts(result: "StudyResult") -> list[tuple[str, str]]:
    study, rows = result.study, result.run_rows
    failed = sum(row.status == "failed" for row in rows)
    facts = {
        "models": len(study.models),
        "benchmarks": len(study.benchmarks),
        "conditions": len(study.conditions),
        "judges": ", ".join(judge.name for judge in study.judges) or "none",
        "runs finished": f"{len(rows) - failed} of {len(rows)}",
        "responses": sum(row.responses for row in rows),
        "error rows": sum(row.errors for row in rows),
        "draws": study.draws,
        "seed": study.seed,
    }
    return [(name, str(value)) for name, value in facts.items()]
