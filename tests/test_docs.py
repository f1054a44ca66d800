"""What README, documentation and examples show is run; what docstrings show is run too."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

import vlmrobust as vr
from vlmrobust import cli
from vlmrobust.data import samples_from
from vlmrobust.perturbations.catalogue import CONDITIONS, FROM_SAMPLES

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "tests/README.md")),
    *sorted((ROOT / "docs" / "pages").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def with_the_bundled_model(code: str) -> str:
    """Replace what needs a download by the bundled model, and shorten: the code is the same otherwise."""
    code = re.sub(r"vr\.(HFModel\.from_pretrained|VLLMModel)\([^)]*\)", "vr.demo.model()", code)
    return re.sub(r"demo\.samples\((\d+)", "demo.samples(3", code)


def test_the_replacements_reach_what_they_are_for() -> None:
    code = 'model = vr.HFModel.from_pretrained("a/b", dtype="bfloat16")\nsamples = vr.demo.samples(100, seed=0)'
    assert with_the_bundled_model(code) == "model = vr.demo.model()\nsamples = vr.demo.samples(3, seed=0)"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page.name == "README.md":
        write_rows(tmp_path, blocks(page, "json"))
    if page.name == "harnesses.md":
        shutil.copytree(ROOT / "tests" / "harnesses" / "logs", tmp_path / "logs")
    module = ModuleType("page")  # a module of its own: conditions and text sources are known by module and name
    monkeypatch.setitem(sys.modules, "page", module)
    for number, code in enumerate(blocks(page, "python"), start=1):
        exec(compile(with_the_bundled_model(code), f"{page.name}, block {number}", "exec"), module.__dict__)


def write_rows(folder: Path, rows: list[str]) -> None:
    from PIL import Image

    (folder / "rows.jsonl").write_text("".join(rows))
    for row in rows:
        Image.new("RGB", (56, 56), "blue").save(folder / json.loads(row)["image"])


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_run(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType(script.stem)
    module.__file__ = str(script)
    monkeypatch.setitem(sys.modules, script.stem, module)
    exec(compile(with_the_bundled_model(script.read_text()), str(script), "exec"), module.__dict__)


def command_lines() -> list[tuple[str, list[str]]]:
    lines = [(page.name, line) for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    parts = [(name, part) for name, line in lines for part in re.split(" [#>] ", line)[0].split("&&")]
    return [(name, shlex.split(part)) for name, part in parts if part.split()[:1] == ["vlmrobust"]]


@pytest.mark.parametrize(
    ("page", "words"), command_lines(), ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_command_lines_are_understood(
    page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command and flag shown exists, and their values are of the right kind; nothing is run."""
    monkeypatch.chdir(tmp_path)
    for path in (Path(value) for flag, value in pairwise(words) if flag == "--config"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(blocks(ROOT / "docs" / "pages" / "command_line.md", "toml")[0], encoding="utf-8")
    group: Any = typer.main.get_command(cli.app)
    arguments = words[1:]
    if arguments[0].startswith("--"):
        assert arguments[0] in {flag for param in group.params for flag in param.opts}
        return
    command = group.commands[arguments[0]]
    command.make_context(arguments[0], arguments[1:], resilient_parsing=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_json_blocks_are_rows(page: Path) -> None:
    for block in blocks(page, "json"):
        for line in block.splitlines():
            [sample] = samples_from([json.loads(line) | {"image": b"x"}])
            assert sample.id


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_condition_of_the_tables_has_its_place_in_the_documentation() -> None:
    papers, beyond = (
        (ROOT / "docs" / "pages" / page).read_text(encoding="utf-8") for page in ("conditions.md", "controls.md")
    )
    described = re.findall(r"^## `(\w+)`$", papers, re.MULTILINE)
    for row in re.findall(r"^\|((?: ?`\w+`)+) \|", beyond, re.MULTILINE):
        described += re.findall(r"\w+", row)
    assert sorted(described) == sorted([*CONDITIONS, *FROM_SAMPLES])


def test_the_texts_in_the_documentation_are_those_that_are_shown() -> None:
    page = ROOT / "docs" / "pages" / "conditions.md"
    sample = vr.Sample(
        id="q1", images=["cube.png"], question="Which colour is the cube?", options=["red", "blue"], answer=1
    )
    shown = [text.strip() for text in blocks(page, "text")]
    for prompt, text in zip(vr.expand([sample], vr.paper_conditions(), seed=0), shown, strict=False):
        assert text == (prompt.context or prompt.prefill or prompt.text)


def test_what_the_readme_leads_to_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)", text)
    files = [target for target in targets if not target.startswith("http")]
    assert "docs/pages/images/drops.svg" in files
    assert [target for target in files if not (ROOT / target).is_file()] == []


def test_the_changelog_has_a_section_for_this_version_below_what_is_to_come() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(vr.__version__)}\] - \d{{4}}-\d\d-\d\d", headings[1])


def test_the_readme_cites_this_version() -> None:
    [cited] = re.findall(r"version = \{([^}]+)\}", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert cited == vr.__version__


def test_the_citation_file_cites_this_version() -> None:
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {vr.__version__}" in lines
    [released] = re.findall(
        rf"^## \[{re.escape(vr.__version__)}\] - (.*)$",
        (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert f'date-released: "{released}"' in lines


def messages_of_the_package() -> Iterator[str]:
    """Yield every text in the code, with … for what is put into it."""
    for path in Path(vr.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[sdr]", "…", node.value)


def test_messages_of_the_troubleshooting_page_are_those_of_the_package() -> None:
    page = (ROOT / "docs" / "pages" / "troubleshooting.md").read_text(encoding="utf-8")
    shown = re.findall(r"^`(.+)`$", page, re.MULTILINE)
    assert len(shown) > 15
    known = "\n".join(messages_of_the_package())
    missing = [text for text in shown if not re.search(".*".join(map(re.escape, text.split("…"))), known)]
    assert missing == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"`((?:vlmrobust|tests|docs|examples)/[\w/.]+)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


def test_modules_named_for_contributors_are_there() -> None:
    for page in ("CONTRIBUTING.md", "tests/README.md", "docs/pages/architecture.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for name in re.findall(r"`((?:\w+/)+\w+\.py|\w+/)`", text):
            assert any((folder / name).exists() for folder in (ROOT, ROOT / "vlmrobust", ROOT / "tests")), (
                f"{page}: {name}"
            )


def test_the_readme_names_every_default_metric() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for metric in vr.metrics.default_metrics():
        assert f"`{metric.column}`" in text


@pytest.mark.parametrize("name", [module.name for module in pkgutil.walk_packages(vr.__path__, "vlmrobust.")])
def test_docstring_examples(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_the_reference_is_built_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Such as of entries that are put together under Args; `mkdocs build --quiet --strict` would not hear of them."""
    griffe = pytest.importorskip("griffe")
    package = griffe.load("vlmrobust", search_paths=[str(ROOT)], docstring_parser="google")
    pending, read = [package], 0
    with caplog.at_level("WARNING", logger="griffe"):
        while pending:
            one = pending.pop()
            read += len(one.docstring.parsed) if one.docstring else 0
            pending += [member for member in one.members.values() if not member.is_alias]
    assert read > 1000
    assert [record.getMessage() for record in caplog.records] == []


def test_there_are_docstring_examples_and_a_wrong_one_fails() -> None:
    from vlmrobust import seeding

    assert doctest.testmod(seeding).attempted >= 3
    wrong = ModuleType("wrong")
    wrong.__doc__ = ">>> 1 + 1\n3\n"
    assert doctest.testmod(wrong, report=False, verbose=False).failed == 1
