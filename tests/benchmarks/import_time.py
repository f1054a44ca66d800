"""How long `import vlmrobust`, and the names of an evaluation, take against `import torch`, in processes of their own.

Not a test: timings depend on what else the machine does. Ends with code 1 if the smallest time of several is above its
limit: a quarter of torch's for the import, which leaves torch to the first name that is used, and 1.4 times torch's
where the names of an evaluation are used.

    python tests/benchmarks/import_time.py --repetitions 7
"""

import argparse
import statistics
import subprocess
import sys
import time

TORCH = "import torch"
LIMITS = {"import vlmrobust": 0.25, "from vlmrobust import Evaluator, HFModel, Report, metrics, paper_conditions": 1.4}


def seconds(code: str) -> float:
    """Return how long a fresh interpreter takes to start and run one line."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> int:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    repetitions = parser.parse_args().repetitions
    times: dict[str, list[float]] = {TORCH: [], **{code: [] for code in LIMITS}}
    for code in times:
        seconds(code)  # byte code and file caches
    for _ in range(repetitions):
        for code, measured in times.items():
            measured.append(seconds(code))
    smallest = {code: min(measured) for code, measured in times.items()}
    for code, measured in times.items():
        ratio = smallest[code] / smallest[TORCH]
        limit = f", ratio {ratio:.3f}, limit {LIMITS[code]}" if code in LIMITS else ""
        print(f"{code}: smallest {smallest[code]:.2f} s, median {statistics.median(measured):.2f} s{limit}")
    return int(any(smallest[code] > limit * smallest[TORCH] for code, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
