"""What `vlmrobust.functional` exports, and what it does not import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vlmrobust import functional

MODULES = sorted(Path(functional.__file__).parent.glob("*.py"))


def test_all_names_are_exported_and_sorted():
    kinds = {name: (not name.isupper(), name[0].islower(), name) for name in functional.__all__}
    assert functional.__all__ == sorted(functional.__all__, key=kinds.__getitem__)
    assert all(hasattr(functional, name) for name in functional.__all__)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_it_imports_nothing_else_of_the_package(module):
    imports = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]
    assert all(node.level <= 1 and not (node.module or "").startswith("vlmrobust") for node in imports)


def test_scipy_is_imported_when_it_is_needed():
    code = (
        "import sys, vlmrobust.functional as functional; assert not {'scipy', 'pandas'} & set(sys.modules); "
        "functional.wilson_interval(1, 2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    # The same check fails once scipy is in use.
    assert subprocess.run([sys.executable, "-c", f"{code}; assert 'scipy' not in sys.modules"], check=False).returncode
