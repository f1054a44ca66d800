"""The package as a whole: public names, what importing it costs, and which module may know which."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import vlmrobust

ROOT = Path(vlmrobust.__file__).parent

HEAVY = (
    "transformers",
    "datasets",
    "matplotlib",
    "trl",
    "pandas",
    "scipy",
    "PIL",
    "torchvision",
    "typer",
    "rich",
    "tqdm",
    "openai",
)


def heavy_modules_after(code: str) -> set[str]:
    """Return what `code` imports in a fresh interpreter, beyond what torch brings along (it imports tqdm)."""
    lines = (
        "import sys, torch",
        "before = set(sys.modules)",
        code,
        f"print([name for name in {HEAVY} if name in sys.modules and name not in before])",
    )
    result = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(result.stdout.splitlines()[-1]))


def test_all_is_complete_and_sorted() -> None:
    assert vlmrobust.__all__ == sorted(vlmrobust.__all__)
    for name in vlmrobust.__all__:
        assert getattr(vlmrobust, name) is not None
    assert set(vlmrobust.__all__) <= set(dir(vlmrobust))


@pytest.mark.parametrize("name", [name for name in vlmrobust.__all__ if name[0].isupper()])
def test_public_classes_are_documented(name: str) -> None:
    assert getattr(vlmrobust, name).__doc__


@pytest.mark.parametrize("package", sorted(path.parent.name for path in ROOT.glob("*/__init__.py")))
def test_all_of_every_package_is_there(package: str) -> None:
    module = importlib.import_module(f"vlmrobust.{package}")
    for name in module.__all__:
        assert hasattr(module, name), name


def test_import_does_not_import_what_is_heavy() -> None:
    assert heavy_modules_after("import vlmrobust") == set()
    assert heavy_modules_after("from vlmrobust import *") == set()


def test_import_leaves_torch_to_the_first_name_that_is_used() -> None:
    loaded = "'torch' in sys.modules"
    code = f"import sys, vlmrobust; before = {loaded}; vlmrobust.Sample; print(before, {loaded})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False True\n"


def test_modules_are_there_without_an_import_of_their_own() -> None:
    code = "import vlmrobust; print(vlmrobust.types.Sample is vlmrobust.Sample, hasattr(vlmrobust, 'nothing'))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"True False\n"


def test_the_test_above_can_fail() -> None:
    assert heavy_modules_after("import vlmrobust, PIL.Image, scipy") == {"PIL", "scipy"}


# --- arrows -----------------------------------------------------------------------------------------------------------

# A module may import those of lower layers alone, and its own parts.
LAYERS = (
    ("text",),
    ("secrecy", "local_paths"),
    ("log_records",),
    ("keyed", "naming", "machine", "jsonl", "prompting", "functional"),
    ("locking",),
    ("types",),
    ("styles",),
    ("perturbations", "models", "data"),
    ("judges",),
    ("metrics",),
    ("manifest",),
    ("store", "plots"),
    ("report",),
    ("merging", "workers", "harnesses"),
    ("evaluator",),
    ("named_conditions", "named_judges", "named_metrics", "named_styles"),
    ("rl", "testing", "demo"),
    ("study",),
    ("cli",),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
FOR_CLI_ALONE = {"rl", "testing", "demo"}


def imported_parts(source: str, module: tuple[str, ...], is_package: bool) -> set[str]:
    """Return the first names below `vlmrobust` that a module's source imports, anywhere in it."""
    parts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ("vlmrobust", *(module if is_package else module[:-1]))
            start = list(package[: len(package) - node.level + 1]) if node.level else []
            start += (node.module or "").split(".") if node.module else []
            targets = [[*start, alias.name] for alias in node.names]
        else:
            continue
        parts |= {target[1] for target in targets if target[0] == "vlmrobust" and len(target) > 1}
    return parts & LAYER.keys()


def all_modules() -> dict[tuple[str, ...], tuple[str, bool]]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).with_suffix("").parts
        is_package = module[-1] == "__init__"
        found[module[:-1] if is_package else module] = (path.read_text(encoding="utf-8"), is_package)
    return found


MODULES = all_modules()


@pytest.mark.parametrize("module", [module for module in MODULES if module], ids=".".join)
def test_arrows_point_one_way(module: tuple[str, ...]) -> None:
    owner, (source, is_package) = module[0], MODULES[module]
    assert owner in LAYER, f"{owner} has no layer yet: put it into LAYERS"
    wrong = {
        part
        for part in imported_parts(source, module, is_package)
        if part != owner and (LAYER[part] >= LAYER[owner] or (part in FOR_CLI_ALONE and owner != "cli"))
    }
    assert not wrong


def test_the_package_itself_does_not_import_what_is_for_later() -> None:
    names = sorted(f"vlmrobust.{name}" for name in FOR_CLI_ALONE | {"cli"})
    used = sorted(set(vlmrobust.__all__) - FOR_CLI_ALONE - {"Study"})
    code = (
        f"import sys; from vlmrobust import {', '.join(used)}; print([name for name in {names} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
    assert vlmrobust.demo.__name__ == "vlmrobust.demo"
    with pytest.raises(AttributeError, match="nothing"):
        _ = vlmrobust.nothing


@pytest.mark.parametrize(
    ("source", "module", "is_package", "expected"),
    [
        ("from ..types import Prompt", ("models", "base"), False, {"types"}),
        ("from ..types.response import parse_turn", ("models", "base"), False, {"types"}),
        ("from .. import demo as bundled", ("models", "base"), False, {"demo"}),
        ("from ..judges import Judge", ("metrics",), True, {"judges"}),
        ("from .judges import Judge", ("metrics",), True, {"metrics"}),
        ("from ..judges import Judge", ("metrics", "base"), False, {"judges"}),
        ("from . import demo", ("cli",), False, {"demo"}),
        ("def f():\n    import vlmrobust.rl.rewards", ("cli",), False, {"rl"}),
        ("from vlmrobust.testing import FakeModel", ("cli",), False, {"testing"}),
        ("from vlmrobust import testing", ("cli",), False, {"testing"}),
        ("import torch", ("cli",), False, set()),
    ],
)
def test_imports_are_found_however_they_are_written(
    source: str, module: tuple[str, ...], is_package: bool, expected: set[str]
) -> None:
    assert imported_parts(source, module, is_package) == expected


def test_typed() -> None:
    assert (ROOT / "py.typed").is_file()
