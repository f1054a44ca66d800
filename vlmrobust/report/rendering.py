"""Render self-contained pages: a template, one style sheet and one script.

Outputs of models and contents of samples are untrusted. Jinja escapes them in a page's text, the data are JSON in which
no tag can begin, scripts insert them as text, and the page's content security policy allows its own script only and no
loading.
"""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ..text import printable_part

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_page", "templates"]


def render_page(template: str, *, scripts: Sequence[str], styles: Sequence[str], **values: Any) -> str:
    """Render a page.

    Args:
        template: a file in this package that extends `layout.html`, which needs `title` and `data`.
        scripts: files in this package, to be joined in this order.
        styles: likewise.
        **values: for the template.
    """
    environment = templates("vlmrobust.report")
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    script = "\n".join(map(_own_file, scripts))
    return environment.get_template(template).render(
        style="".join(map(_own_file, styles)),
        script=script,
        script_digest=b64encode(sha256(script.encode()).digest()).decode(),
        **values,
    )


def templates(package: str) -> "Environment":
    """Return an environment for a package's templates: text is escaped and printable, and unknown names raise."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=printable_part,
    )


def _own_file(name: str) -> str:
    return files("vlmrobust.report").joinpath(name).read_text(encoding="utf-8")
