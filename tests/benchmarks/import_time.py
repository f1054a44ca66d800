"""How long `import vlmrobust` takes against `import torch`, in fresh processes, the two taking turns.

Not a test: timings depend on what else the machine does. Ends with code 1 if the smallest time of several is more than
1.25 times torch's.

    python tests/benchmarks/import_time.py --repetitions 7
"""

import argparse
import statistics
import subprocess
import sys
import time

LIMIT = 1.25


def seconds(module: str) -> float:
    """Return how long a fresh interpreter takes to start and import a module."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def main() -> int:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    repetitions = parser.parse_args().repetitions
    seconds("vlmrobust")  # byte code and file caches
    times: dict[str, list[float]] = {"torch": [], "vlmrobust": []}
    for _ in range(repetitions):
        for module, measured in times.items():
            measured.append(seconds(module))
    for module, measured in times.items():
        print(f"import {module:<10} smallest {min(measured):.2f} s, median {statistics.median(measured):.2f} s")
    ratio = min(times["vlmrobust"]) / min(times["torch"])
    print(f"ratio of the smallest {ratio:.3f}, limit {LIMIT}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
