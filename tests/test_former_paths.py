"""Names are found where earlier versions had them: in imports, and in pickles."""

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import vlmrobust
from vlmrobust.former_paths import FORMER, FormerPaths

NAMES = Path(__file__).parent / "golden" / "names.txt"
"""For each module of 0.1.0 that defined or exported public names: its path, a colon, the names."""


def test_former_names_resolve() -> None:
    missing = []
    for line in NAMES.read_text().splitlines():
        path, _, names = line.partition(":")
        module = importlib.import_module(path)
        missing += [f"{path}.{name}" for name in names.split() if not hasattr(module, name)]
    assert missing == []


def test_former_paths_lead_to_existing_modules() -> None:
    for former, now in FORMER.items():
        for target in now.split():
            assert importlib.import_module(f"vlmrobust.{target}").__name__ == f"vlmrobust.{target}", former


def test_no_former_path_is_the_name_of_something_that_a_package_has() -> None:
    """Python binds a module that is imported to its name in the package, and would put it in the other's place."""
    source = "import importlib\nfrom vlmrobust.former_paths import FORMER\n"
    source += "paths = [f'vlmrobust.{former}'.rpartition('.') for former in FORMER]\n"
    source += "print([name for home, _, name in paths if name in vars(importlib.import_module(home))])"
    assert subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_class_of_a_former_module_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = FormerPaths("vlmrobust", {"kinds.question": "types.image types.sample", "kinds": "types"})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    sample = vlmrobust.Sample(id="q", images=["a.png"], question="Which?", options=["a", "b"], answer=0)
    written = pickle.dumps(sample, protocol=0).replace(b"vlmrobust.types.sample", b"vlmrobust.kinds.question")
    assert b"vlmrobust.kinds.question" in written
    try:
        assert pickle.loads(written) == sample
        with pytest.raises(AttributeError, match=r"it is now vlmrobust.types.image and vlmrobust.types.sample"):
            getattr(importlib.import_module("vlmrobust.kinds.question"), "Nothing")  # noqa: B009
    finally:
        for name in ("vlmrobust.kinds", "vlmrobust.kinds.question"):
            sys.modules.pop(name, None)


def test_unknown_modules_are_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"vlmrobust\.nothing"):
        importlib.import_module("vlmrobust.nothing")
