"""The package as a whole: its public names, and what importing it costs."""

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


def test_import_loads_no_heavy_dependencies() -> None:
    assert heavy_modules_after("import vlmrobust") == set()
    assert heavy_modules_after("from vlmrobust import *") == set()


def test_import_leaves_torch_to_the_first_name_that_is_used() -> None:
    loaded = "'torch' in sys.modules"
    code = f"import sys, vlmrobust; before = {loaded}; vlmrobust.Sample; print(before, {loaded})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False True\n"


def test_the_command_line_shows_its_help_without_torch() -> None:
    lines = ("import sys", "from vlmrobust.cli import app", "app(['--help'], standalone_mode=False)")
    code = "\n".join((*lines, "print('torch' in sys.modules)"))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "check-server" in result.stdout
    assert result.stdout.splitlines()[-1] == "False"


def test_modules_are_there_without_an_import_of_their_own() -> None:
    code = "import vlmrobust; print(vlmrobust.types.Sample is vlmrobust.Sample, hasattr(vlmrobust, 'nothing'))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"True False\n"


def test_the_test_above_can_fail() -> None:
    assert heavy_modules_after("import vlmrobust, PIL.Image, scipy") == {"PIL", "scipy"}


FOR_CLI_ALONE = {"rl", "testing", "demo"}


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


def test_typed() -> None:
    assert (ROOT / "py.typed").is_file()
