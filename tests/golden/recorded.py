"""What is recorded beside this file, and how it is compared with what the code of today gives."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import outputs
import runs
import signatures
import values

HERE = Path(__file__).parent
PICKLES, RUN = HERE / "pickles.json", HERE / "run"
_CLOSE = 2e-3  # of numbers in the demo's lines: another processor may round a real model's otherwise


def _study_lines() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return outputs.study_lines(Path(folder))


TEXTS: dict[str, Callable[[], list[str]]] = {
    "signatures.txt": signatures.signature_lines,
    "import_paths.txt": signatures.import_paths,
    "demo.txt": outputs.demo_lines,
    "report.txt": outputs.report_lines,
    "page.txt": outputs.page_lines,
    "study.txt": _study_lines,
}


class Differences(NamedTuple):
    """Lines that are recorded and no longer there, and lines that are there and not recorded."""

    gone: list[str]
    added: list[str]


def recorded(name: str) -> list[str]:
    """Return the lines of a recorded text."""
    return (HERE / name).read_text(encoding="utf-8").splitlines()


def compared(old: Iterable[str], new: Iterable[str]) -> Differences:
    """Return what differs between recorded lines and those of today, in whatever order they stand.

    A number after two spaces may be off by 0.002.
    """
    before, now = Counter(old), Counter(new)
    gone, added = list((before - now).elements()), list((now - before).elements())
    numbers = {line.rpartition("  ")[0]: line for line in added if _number(line) is not None}
    for line in list(gone):
        was, other = _number(line), numbers.get(line.rpartition("  ")[0])
        if was is not None and other is not None and abs(was - float(_number(other) or 0)) <= _CLOSE:
            gone.remove(line)
            added.remove(other)
    return Differences(gone, added)


def _number(line: str) -> float | None:
    try:
        return float(line.rpartition("  ")[2]) if "." in line else None
    except ValueError:
        return None


def record() -> list[str]:
    """Record the texts of today, and return the names of the files that changed.

    Pickles and the run directory stand for what users have made before: they are made where they are missing, and
    never made anew. Import paths join those that are there.
    """
    changed = []
    for name, make in TEXTS.items():
        path = HERE / name
        lines = make()
        if name == "import_paths.txt" and path.exists():
            lines = sorted({*recorded(name), *lines})
        text = "\n".join(lines) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    known = json.loads(PICKLES.read_text(encoding="utf-8")) if PICKLES.exists() else {}
    missing = {name: values.pickled(values.value_of(name)) for name in values.names_of_today() if name not in known}
    if missing:
        PICKLES.write_text(json.dumps(known | missing, indent=1) + "\n", encoding="utf-8")
        changed.append(PICKLES.name)
    if not RUN.exists():
        with tempfile.TemporaryDirectory() as folder:
            runs.go_on(Path(folder) / "run", runs.planted())
            shutil.copytree(Path(folder) / "run", RUN)
        changed.append(RUN.name)
    return changed
