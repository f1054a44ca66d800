"""Seconds of CPU of a whole run of `Evaluator` on `FakeModel` with a run directory, here and in another checkout.

Everything but the model: prompts, files, reading and judging of answers, report; or, with `--rows`, reading so many
rows from a file. Each run is a process of its own with one thread, and the two checkouts take turns (ABBA), so that
both see the same machine. `planted` gives the model shares between 0 and 1, for each of which it draws. Imports count
in a run, but not in the reading of rows. Not a test: timings depend on the machine.

    python tests/benchmarks/evaluating.py --other FOLDER --pairs 7
    python tests/benchmarks/evaluating.py --other FOLDER --rows 50000
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[2]
PLANTED = {"accuracy": 0.8, "follow_caption": 0.6, "follow_think": 0.7, "contradict": 0.1, "unparsed": 0.05}


def run(samples: int, *, planted: bool) -> None:
    """Ask a fake model so many samples under the paper's conditions, and print the seconds of CPU."""
    from vlmrobust import Sample
    from vlmrobust.evaluator import Evaluator
    from vlmrobust.perturbations import paper_conditions
    from vlmrobust.testing import FakeModel

    asked = [
        Sample(
            id=f"q{number}",
            images=[b"not decoded"],
            question=f"Which colour has object number {number}?",
            options=["red", "blue", "green", "yellow"],
            answer=number % 4,
        )
        for number in range(samples)
    ]
    model = FakeModel(opens_images=False, **(PLANTED if planted else {}))
    with tempfile.TemporaryDirectory() as out:
        report = Evaluator(model, paper_conditions()).run(asked, out=out)
    assert len(report.responses) == samples * len(paper_conditions())
    print(time.process_time())


def write_rows(folder: Path, count: int) -> Path:
    """Write rows as people have them: a question, four options, a group, metadata, captions with letters of others."""
    (folder / "a.png").write_bytes(b"not decoded")
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
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


def read(count: int) -> None:
    """Read so many rows from a file, and print the seconds of CPU."""
    from vlmrobust.data import read_rows

    with tempfile.TemporaryDirectory() as folder:
        path = write_rows(Path(folder), count)
        start = time.process_time()
        samples = read_rows(path)
        print(time.process_time() - start)
    assert len(samples) == count


def seconds(checkout: Path, options: list[str]) -> float:
    """Return the seconds of CPU that a run takes in a checkout."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, __file__, *options, "--once"],
        env={**os.environ, **threads, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> None:
    """Print the medians, and the median of the pairs' ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, help="another checkout; this one is measured against it")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--rows", type=int, help="read so many rows instead")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        read(arguments.rows) if arguments.rows else run(arguments.samples, planted=arguments.planted)
        return
    options = ["--rows", str(arguments.rows)] if arguments.rows else ["--samples", str(arguments.samples)]
    options += ["--planted"] if arguments.planted else []
    checkouts = [HERE, *([arguments.other.resolve()] if arguments.other else [])]
    took: dict[Path, list[float]] = {checkout: [] for checkout in checkouts}
    for pair in range(arguments.pairs):
        for checkout in checkouts if pair % 2 == 0 else checkouts[::-1]:
            took[checkout].append(seconds(checkout, options))
            print(f"pair {pair}, {checkout}: {took[checkout][-1]:.2f} s", file=sys.stderr, flush=True)
    medians = {checkout: statistics.median(times) for checkout, times in took.items()}
    print(", ".join(f"{checkout}: {median:.2f} s" for checkout, median in medians.items()))
    if arguments.other:
        ratios = sorted(here / other for here, other in zip(*took.values(), strict=True))
        print(f"ratio: median {statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}")


if __name__ == "__main__":
    main()
