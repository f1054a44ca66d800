"""Trainers in environments of their own, and rows for them."""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import environments
import pytest
from known import make_rows, weights

import vlmrobust as vr


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    return make_rows()


@pytest.fixture(scope="session")
def continuing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the bundled model, whose chat template goes on with a prefill."""
    folder = tmp_path_factory.mktemp("continuing")
    for file in weights().iterdir():
        (folder / file.name).symlink_to(file)
    for file in (folder / "chat_template.jinja", *folder.glob("*config.json")):
        file.unlink()
    vr.rl.continue_prefill(vr.demo.model().processor).save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        (folder / name).symlink_to(weights() / name)
    return folder


@pytest.fixture(scope="session")
def python_of() -> Iterator[Callable[[str], Path]]:
    """Return a function that makes a trainer's environment, in `VLMROBUST_TRAINERS` where that names a folder."""
    kept = os.environ.get("VLMROBUST_TRAINERS")
    with nullcontext(kept) if kept else TemporaryDirectory(prefix="trainers") as folder:
        yield lambda name: environments.make(name, Path(folder))
