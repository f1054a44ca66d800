"""Pages that need nothing else: a template, one style, and the only script that may run in it.

What a model wrote, and what samples hold, is untrusted. Jinja escapes what stands in a page's text, the data are JSON
in which no tag can begin, scripts put them into the page as text, and the page's own policy lets no script run but its
own, nor anything be loaded.
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
    """Return a page.

    Args:
        template: its file in this package; it extends `layout.html`, which asks for `title` and `data`.
        scripts: files of this package, one after the other.
        styles: likewise.
        **values: what the template shows.
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
    """Return what renders a package's templates: text is escaped and printable, and an unknown name fails."""
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
