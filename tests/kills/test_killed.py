"""What is killed at random moments and gone on with comes to the same as what was left alone; see `killed.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["plain", "pair", "ranks", "study", "judging", "growing"])
def test_killed_runs_end_in_equal_reports(tmp_path, kind):
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "runs", "--kills", "3", "--kinds", kind],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)[kind]
    assert found["kills"] >= 3
    assert (found["unequal"], found["faults"]) == (0, [])
