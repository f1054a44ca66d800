"""What several workers gain, what a row costs, and what a large run takes. Not a test: timings depend on the machine.

    python tests/benchmarks/scaling.py workers --samples 48 --turns 5    1 and 2 ranks in turn, the bundled model
    python tests/benchmarks/scaling.py rows --samples 4000               cost of prompts, rows on disk and report
    python tests/benchmarks/scaling.py plan --samples 1000000            work and time on GPUs, counted from assumptions

`rows` gives CPU seconds of one process, which hardly depend on what else the machine does.
"""

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from large_run import plan

from vlmrobust import Evaluator, Sample, Style, demo, paper_conditions, perturbations
from vlmrobust.metrics import Accuracy
from vlmrobust.store import RunDirectory
from vlmrobust.testing import FakeModel
from vlmrobust.workers.answering import answer_batches, recorded_responses
from vlmrobust.workers.plan import RunPlan

# --- workers ----------------------------------------------------------------------------------------------------------


def answer_as_rank(samples: int, out: Path) -> None:
    """Answer a share, as one rank of those that `torchrun` has started, and write down how long the call took."""
    model = demo.model()
    asked = demo.samples(samples, seed=0)
    model.respond(list(RunPlan(paper_conditions(), Style(), 1, 8, 0, "random", "raise").prompts(asked[:1])))  # warms up
    start = time.perf_counter()
    Evaluator(model, paper_conditions(), [Accuracy()]).run(asked, out=out)
    if os.environ["RANK"] == "0":
        (out / "seconds").write_text(str(time.perf_counter() - start))


def measure_workers(samples: int, turns: int, worlds: list[int]) -> None:
    """Run with each number of ranks in turn, one thread each, and print seconds and how many times faster."""
    taken: dict[int, list[float]] = {world: [] for world in worlds}
    with tempfile.TemporaryDirectory() as folder:
        for turn, world in itertools.product(range(turns), worlds):
            out = Path(folder) / f"{turn}-{world}"
            launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
            rank = [__file__, "rank", "--samples", str(samples), "--out", str(out)]
            threads = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([*launcher, *rank], check=True, env=threads, stderr=subprocess.DEVNULL)
            taken[world].append(float((out / "seconds").read_text()))
            print(f"turn {turn + 1}, {world} ranks: {taken[world][-1]:.2f} s", flush=True)
    first = statistics.median(taken[worlds[0]])
    for world, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"{world} ranks: {middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {first / middle:.2f} times")


# --- rows -------------------------------------------------------------------------------------------------------------


def sixteen_conditions() -> list[perturbations.Perturbation]:
    """Return the paper's eight conditions and each of them with an abstain option."""
    plain = list(paper_conditions())
    return [*plain, *(condition + perturbations.AbstainOption() for condition in plain)]


def fake_samples(number: int) -> list[Sample]:
    """Return samples without pixels."""
    options = ["a red cube", "a blue ball", "a green cone", "a yellow cylinder"]
    question = "Which of these objects stands to the left of the large metal sphere behind the small cube?"
    return [
        Sample(id=f"sample-{index:07d}", images=[b"not decoded"], question=question, options=options, answer=index % 4)
        for index in range(number)
    ]


def measure_rows(samples: int) -> None:
    """Print what a row costs in CPU seconds, bytes on disk and memory."""
    conditions = sixteen_conditions()
    asking = RunPlan(tuple(conditions), Style(), 1, 8, 0, "random", "raise")
    asked, model = fake_samples(samples), FakeModel(opens_images=False)
    rows = asking.size(asked)
    print(f"{rows} rows, {samples} samples x {len(conditions)} conditions, a fake model")

    def step(name: str, call: Callable[[], object]) -> None:
        start = time.process_time()
        call()
        seconds = time.process_time() - start
        print(f"{name}: {seconds:.2f} s of CPU, {rows / seconds:,.0f} rows/s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        step("make prompts", lambda: [len(asking.prompts(batch.samples)) for batch in asking.batches(asked)])
        step("ask the fake model and write", lambda: _write(asking, model, asked, out))
        size = sum(path.stat().st_size for path in out.glob("responses-*"))
        step("open the directory", lambda: RunDirectory(out))
        directory = RunDirectory(out)
        step("make prompts and read responses", lambda: deque(recorded_responses(asking, asked, directory), maxlen=0))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step("the same and report", lambda: Evaluator(model, conditions, [Accuracy()]).run(asked, out=out))
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"on disk {size / rows:,.0f} bytes/row; in memory while reporting {memory / rows:,.0f} bytes/row")


def _write(plan: RunPlan, model: FakeModel, asked: list[Sample], out: Path) -> None:
    with RunDirectory(out, plan.manifest(model)) as directory:
        deque(answer_batches(plan, model, plan.batches(asked), directory), maxlen=0)


def main() -> None:
    """Measure, or count, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["workers", "rows", "plan", "rank"])
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--conditions", type=int, default=16)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--row-bytes", type=float, default=600, help="as `rows` measures it")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what == "rank":
        answer_as_rank(given.samples, given.out)
    elif given.what == "workers":
        measure_workers(given.samples, given.turns, given.workers)
    elif given.what == "rows":
        measure_rows(given.samples)
    else:
        print(plan(given.samples, given.conditions, given.gpus, given.row_bytes))


if __name__ == "__main__":
    main()
