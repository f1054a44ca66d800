"""How long reading 50,000 rows takes, against another build of the library.

    python tests/benchmarks/reading.py --reference PATH_OF_THE_OTHER_BUILD [--pairs 7]

Each measurement is a process of its own; the two builds take turns (ABBA), and what is compared is processor time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROWS = 50_000
MEASURED = """
import sys, time
from vlmrobust.data import read_rows
began = time.process_time()
samples = read_rows(sys.argv[1])
print(time.process_time() - began, len(samples))
"""


def write_rows(folder: Path) -> Path:
    """Write rows as people have them: a question, four options, a group, metadata, captions with letters of others."""
    (folder / "a.png").write_bytes(b"not decoded")
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            row = {
                "id": f"q{number}",
                "image": "a.png",
                "question": f"What colour is ball {number}, left of the table?",
                "options": ["red", "blue", "green", "a black and white one"],
                "answer": number % 4,
                "distractor": (number + 1) % 4,
                "group": f"image {number // 5}",
                "category": "colour",
                "source": "café" if number % 10 == 0 else "made",
                "wrong_caption": "A photo of a ball.",
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def seconds(build: Path, rows: Path) -> float:
    """Return the processor time of one reading in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(build)}
    command = [sys.executable, "-c", MEASURED, str(rows)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=rows.parent).stdout
    time, count = told.split()
    assert int(count) == ROWS
    return float(time)


def main() -> None:
    """Measure pairs, and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    builds = {"reference": arguments.reference, "this": Path(__file__).parents[2]}
    times: dict[str, list[float]] = {name: [] for name in builds}
    with TemporaryDirectory() as folder:
        rows = write_rows(Path(folder))
        for pair in range(arguments.pairs):
            for name in list(builds) if pair % 2 == 0 else reversed(list(builds)):
                times[name].append(seconds(builds[name], rows))
            print(" ".join(f"{name} {values[-1]:.2f} s" for name, values in times.items()), flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = [this / reference for this, reference in zip(times["this"], times["reference"], strict=True)]
    ratio = medians["this"] / medians["reference"]
    print(f"medians: {medians['reference']:.2f} s and {medians['this']:.2f} s, ratio {ratio:.3f}")
    print(f"median of the pairs' ratios: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
