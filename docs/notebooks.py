"""Puts the notebooks and pictures of `examples/` into the site, and lets links lead to them.

In the repository a page links to `../../examples/01_first_look.ipynb`, and a notebook to `../docs/pages/data.md`: both
work where the files are looked at. In the site the notebooks are the pages `notebooks/*.md`.
"""

import posixpath
import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and all pictures."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        text, pictures = page_of(path)
        files.append(File.generated(config, f"{FOLDER}/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{FOLDER}/{name}", content=content))
    for path in sorted(EXAMPLES.glob("*/*.svg")):
        name = path.relative_to(EXAMPLES).as_posix()
        files.append(File.generated(config, f"{FOLDER}/{name}", content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links to notebooks lead to their pages, and those to pictures to the copies."""
    to_folder = posixpath.relpath(FOLDER, posixpath.dirname(page.file.src_uri) or ".")
    markdown = re.sub(r"\]\((?:\.\./)+examples/(\w+)\.ipynb", rf"]({to_folder}/\1.md", markdown)
    return re.sub(r"\]\((?:\.\./)+examples/(\w+/\w+\.svg)", rf"]({to_folder}/\1", markdown)


def page_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by name."""
    text, resources = MarkdownExporter().from_notebook_node(
        nbformat.read(path, as_version=4), {"output_files_dir": path.stem}
    )
    text = re.sub(r"<style scoped>.*?</style>", "", text, flags=re.DOTALL)  # pandas' own look
    text = text.replace(' border="1" class="dataframe"', "")
    text = re.sub(r"\]\((\w+)\.ipynb", r"](\1.md", text.replace("](../docs/pages/", "](../"))
    return text, resources["outputs"]
