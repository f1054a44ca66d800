"""The notebooks among the examples hold the outputs that running them gives.

`pytest -m notebook` runs them, which takes a minute. After a change that is meant to show,
`WRITE_NOTEBOOKS=1 pytest -m notebook` writes the new outputs; look at them before you commit.
"""

import os
import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "examples"
NOTEBOOKS = pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
MARKUP = re.compile(r"<style.*?</style>|<[^>]+>", re.DOTALL)
PROGRESS = re.compile(r"^[-\d]+ [:\d]+ vlmrobust: \d+ of \d+ responses .*$", re.MULTILINE)  # of a slow machine
NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?")


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: NotebookNode) -> list[str]:
    """Return the words that a cell shows, and the kinds of its pictures; warnings and errors are refused."""
    words = []
    for output in cell.outputs:
        assert output.output_type != "error", f"{cell.source}\n{output.get('evalue')}"
        if output.get("name") == "stderr":
            assert not PROGRESS.sub("", output.text).strip(), f"{cell.source}\n{output.text}"
            continue
        data = output.get("data") or {"text/plain": output.text}
        words += sorted(kind for kind in data if kind.startswith("image/"))
        text = MARKUP.sub(" ", data["text/html"]) if "text/html" in data else data.get("text/plain", "")
        words += text.split()
    return words


def agree(word: str, other: str) -> bool:
    """Return whether two words are the same but for what another processor may do to their numbers."""
    numbers = [[float(number.replace("−", "-")) for number in NUMBER.findall(text)] for text in (word, other)]
    return NUMBER.sub("#", word) == NUMBER.sub("#", other) and all(
        abs(one - two) <= max(0.06, 0.1 * abs(one)) for one, two in zip(*numbers, strict=True)
    )


@NOTEBOOKS
def test_outputs_are_those_of_one_run_from_top_to_bottom(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(shown(cell) for cell in cells)
    assert all(not cell.metadata for cell in notebook.cells)
    assert path.stat().st_size < 500_000


@NOTEBOOKS
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", cell.source if cell.cell_type == "markdown" else ""):
            assert (path.parent / target).exists(), target


@pytest.mark.notebook
@NOTEBOOKS
def test_running_gives_the_outputs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # what tqdm says where there are no widgets
    committed = nbformat.read(path, as_version=4)
    run = deepcopy(committed)
    NotebookClient(run, timeout=600, record_timing=False, resources={"metadata": {"path": str(tmp_path)}}).execute()
    if os.environ.get("WRITE_NOTEBOOKS"):
        run.metadata = committed.metadata
        nbformat.write(run, path)
    for before, after in zip(code_cells(committed), code_cells(run), strict=True):
        words, new = shown(before), shown(after)
        where = f"{path.name}: the outputs are not those committed; {__doc__}\n{after.source}"
        assert len(words) == len(new), f"{where}\n{' '.join(new)}"
        for word, other in zip(words, new, strict=True):
            assert agree(word, other), f"{where}\nexpected {word!r}, got {other!r} in\n{' '.join(new)}"


@pytest.mark.parametrize(
    ("word", "other", "same"),
    [
        ("0.25", "0.275", True),
        ("[-0.50,", "[-0.47,", True),
        ("0.25", "0.4", False),
        ("A", "B", False),
        ("n=3", "n", False),
    ],
)
def test_agreement_allows_for_numbers_alone(word: str, other: str, same: bool) -> None:
    assert agree(word, other) is same
