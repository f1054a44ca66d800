"""The check for a GPU runs through on a CPU, with tiny sizes: what fails on the day is then not the check itself."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "benchmarks" / "gpu_check.py"


def test_a_dry_run_writes_both_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", tmp_path, "--dry-run"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found["device"] == "CPU (dry run, tiny sizes)"
    assert not [row for part in ("numbers", "prefixes") for row in found[part] if "failed" in row or "left out" in row]
    same = found["numbers"][0]
    assert (same["model"], same["dtype"], same["check_model"], same["texts equal"]) == (
        "demo",
        "float32",
        "passes",
        "8/8",
    )
    assert same["letters, nats"] < 1e-4
    assert {row["dtype"] for row in found["numbers"]} == {"float32", "bfloat16"}
    assert {(row["task"], row["K"]) for row in found["prefixes"]} == {
        (task, count) for task in ("forced", "4 new tokens") for count in (1, 2)
    }
    if importlib.util.find_spec("vllm") is None:  # with it: tests/engines
        assert found["vllm"] == [{"left out": "vLLM is not installed"}]
    table = (tmp_path / "gpu_check.md").read_text()
    assert table.startswith("# CPU (dry run, tiny sizes)")
    assert "| tiny | 16 | 2 | forced |" in table


def test_what_fails_is_a_row_and_the_rest_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    check = importlib.import_module("gpu_check")
    scale = check.Scale("cpu", {"tiny": check.TINY}, (16,), (1, 2), 4, 1, (), time.monotonic() + 60)
    timed = check._timed

    def short_of_memory(*given: Any, forced: bool) -> dict[str, Any]:
        if forced:
            raise RuntimeError("out of memory")
        return timed(*given, forced=forced)

    monkeypatch.setattr(check, "_timed", short_of_memory)
    rows = list(check.rows_of(check.prefixes, scale))
    assert [(row["task"], row["K"], row.get("failed")) for row in rows] == [
        ("forced", 1, "RuntimeError: out of memory"),
        ("forced", 2, "RuntimeError: out of memory"),
        ("4 new tokens", 1, None),
        ("4 new tokens", 2, None),
    ]
    monkeypatch.setattr(check.prefix, "build", lambda *_, **__: {}["no weights"])
    assert list(check.rows_of(check.prefixes, scale)) == [{"failed": "KeyError: 'no weights'"}]


def test_without_a_card_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "expected a CUDA card, found none" in done.stderr
    assert not list(tmp_path.iterdir())
