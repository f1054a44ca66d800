"""Which module imports which: no circles, and no arrow that the architecture page does not have."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import vlmrobust

ROOT = Path(vlmrobust.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "pages" / "architecture.md"

FOR_CLI_ALONE = {"rl", "testing", "demo"}


class Imports(NamedTuple):
    """The modules of the package that a module imports.

    Attributes:
        at_once: when it is itself imported.
        later: inside a function, when that is called.
        for_types: under `TYPE_CHECKING`, never when the code runs.
    """

    at_once: frozenset[str]
    later: frozenset[str]
    for_types: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.at_once | self.later | self.for_types

    @property
    def run(self) -> frozenset[str]:
        return self.at_once | self.later


def modules_in(root: Path) -> dict[str, Path]:
    """Return the files of a package by their modules' names below it; the package itself is ``""``."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, source: str, is_package: bool, known: Iterable[str]) -> Imports:
    """Return what a module imports of the package.

    A name that a package re-exports counts as an import of the package, a module that is in it as one of the module.

    Args:
        module: its name below the package.
        source: its text.
        is_package: whether it is an `__init__`.
        known: the names of all modules.
    """
    names = frozenset(known)
    found: dict[str, set[str]] = {"at_once": set(), "later": set(), "for_types": set()}

    def visit(node: ast.AST, kind: str) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, "for_types")
            for child in node.orelse:
                visit(child, kind)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and kind == "at_once":
            kind = "later"
        if isinstance(node, ast.Import | ast.ImportFrom):
            found[kind] |= set(_targets(node, module, is_package)) & names
        for child in ast.iter_child_nodes(node):
            visit(child, kind)

    def _targets(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> Iterator[str]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "vlmrobust":
                    yield alias.name.removeprefix("vlmrobust").removeprefix(".")
            return
        if node.level:
            parts = [part for part in module.split(".") if part]
            above = node.level - 1 if is_package else node.level
            parts = parts[: len(parts) - above]
        elif (node.module or "").split(".")[0] == "vlmrobust":
            parts = []
        else:
            return
        parts += [part for part in (node.module or "").split(".") if part and (node.level or part != "vlmrobust")]
        for alias in node.names:
            whole = ".".join((*parts, alias.name))
            yield whole if whole in names else ".".join(parts)

    visit(ast.parse(source), "at_once")
    return Imports(*(frozenset(targets - {module}) for targets in found.values()))


def circles(graph: Mapping[str, Iterable[str]]) -> set[frozenset[str]]:
    """Return the sets of modules of which each reaches each: two modules are in one if they reach each other."""
    reached = {module: _reached_from(module, graph) for module in graph}
    return {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in graph
        if module in reached[module]
    }


def _reached_from(module: str, graph: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    pending = list(graph[module])
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            pending += graph.get(one, ())
    return seen


FILES = modules_in(ROOT)
IMPORTS = {
    module: imports_of(module, path.read_text(encoding="utf-8"), path.name == "__init__.py", FILES)
    for module, path in FILES.items()
}
# The package itself is imported for its version, and lists public names of everything for type checkers alone.
GRAPH = {module: found.all - {""} for module, found in IMPORTS.items() if module}


def test_there_are_no_import_cycles() -> None:
    found = sorted(map(sorted, circles(GRAPH)))
    assert found == [], "modules that import each other, directly or through others"


def test_imports_at_run_time_have_no_cycles() -> None:
    """Not the package itself either: `import` would depend on which module comes first."""
    assert circles({module: found.at_once for module, found in IMPORTS.items()}) == set()


# --- arrows -----------------------------------------------------------------------------------------------------------


def part_of(module: str) -> str:
    return module.split(".")[0]


def arrows() -> dict[str, set[str]]:
    """Return by part of the package (a module or package right below it) the parts that it imports."""
    found: dict[str, set[str]] = {part_of(module): set() for module in FILES if module}
    for module, imports in GRAPH.items():
        found[part_of(module)] |= {part_of(other) for other in imports} - {part_of(module)}
    return found


def layers_of_the_page() -> list[tuple[str, ...]]:
    """Return the parts of each layer in the page's table, the lowest layer last."""
    rows = re.findall(r"^\| (\d+) \|([^|]+)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(rows), 0, -1))
    return [tuple(re.findall(r"`(\w+)`", parts)) for _, parts in rows]


def test_every_part_of_the_package_has_one_place_in_the_table() -> None:
    placed = [part for parts in layers_of_the_page() for part in parts]
    assert sorted(placed) == sorted(arrows())


@pytest.mark.parametrize("part", sorted(arrows()))
def test_a_part_imports_lower_layers_alone(part: str) -> None:
    layers = layers_of_the_page()
    height = {name: -number for number, parts in enumerate(layers) for name in parts}
    upwards = {other for other in arrows()[part] if height[other] >= height[part]}
    assert upwards == set(), f"{part} imports what the architecture page has beside or above it"


@pytest.mark.parametrize("part", sorted(FOR_CLI_ALONE))
def test_some_parts_are_for_the_command_line_alone(part: str) -> None:
    assert {other for other, imported in arrows().items() if part in imported} <= {"cli"}


def test_the_picture_is_of_this_table() -> None:
    picture = (PAGE.parent / "images" / "architecture.svg").read_text(encoding="utf-8")
    rows: dict[str, list[str]] = {}
    for height, part in re.findall(r'<text x="\d+" y="(\d+)"[^>]*>(\w+)</text>', picture):
        rows.setdefault(height, []).append(part)
    assert [tuple(parts) for parts in rows.values()] == layers_of_the_page(), "run `python docs/architecture.py`"


def test_the_graph_is_read_from_every_form_of_import() -> None:
    known = ("", "a", "a.b", "a.c", "d", "d.e")
    source = """\
import os
import vlmrobust.d.e
from typing import TYPE_CHECKING
from . import c
from ..d import thing
if TYPE_CHECKING:
    from .. import a
def later():
    from vlmrobust.d import e
"""
    assert imports_of("a.b", source, False, known) == Imports(
        frozenset({"d.e", "a.c", "d"}), frozenset({"d.e"}), frozenset({"a"})
    )
    assert imports_of("a", "from .b import x\nfrom . import c\nfrom .. import d", True, known).all == {
        "a.b",
        "a.c",
        "d",
    }


def test_cycles_are_detected() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == {frozenset("abc")}
    assert circles({"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["c"]}) == {frozenset("ab"), frozenset("cd")}
    assert circles({"a": ["b"], "b": []}) == set()
