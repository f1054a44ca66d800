"""Seconds and peak memory of a large report, stage by stage, here and against another checkout.

    python tests/benchmarks/million.py make --responses 800000            expand, answer, measure, save, page
    python tests/benchmarks/million.py ratios --other FOLDER --pairs 7    load and save 100,000 responses, ABBA

Eight conditions a sample, thoughts of 60 words, letters read, the default metrics. The answers are made, not parsed,
and the judge reads no more than each thought's last word: what parsing and judging cost is measured elsewhere. Every
process prints what it took, in seconds and seconds of CPU, and the most memory that it ever held. `ratios` makes a
report, has it as lines for the other checkout too, and then loads it and saves it anew in processes of their own, which
take turns. Not a test: timings depend on the machine.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parents[2]
CONDITIONS = 8
WORDS = 60


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print the seconds of a stage, and the most memory that the process has held until its end."""
    start, cpu = time.perf_counter(), time.process_time()
    yield
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{name} {seconds:.2f} s, CPU {cpu:.2f} s, peak {peak:.2f} GB", flush=True)


def make(folder: Path, count: int) -> None:
    """Make a report of so many responses, save it, and write its page."""
    import torch

    from vlmrobust import Prompt, Report, Response, Responses, Sample, expand, paper_conditions
    from vlmrobust.judges import Judge, Verdicts
    from vlmrobust.metrics import JudgedMetric, default_metrics

    words = [f"w{random.Random(number).randrange(10**4, 10**6)}" for number in range(3000)]
    options = ["red", "blue", "green", "yellow"]

    class LastWord(Judge):
        """Concludes the option that a thought ends with."""

        def conclude(self, responses: Responses) -> Verdicts:
            said = [options.index(thought.rsplit(" ", 1)[1][:-1]) for thought in responses.think]
            return Verdicts.of(torch.tensor(said), torch.zeros(len(said), dtype=torch.bool))

    def answer(prompt: Prompt) -> Response:
        rng = random.Random(f"{prompt.sample.id} {prompt.condition}")
        choice, concluded = rng.randrange(4), rng.randrange(4)
        own = f"{' '.join(rng.choices(words, k=WORDS - 8))} So the object in front must be {options[concluded]}."
        begun = prompt.prefill.removeprefix("<think>").strip()
        return Response(
            sample_id=prompt.sample.id,
            condition=prompt.condition,
            think=f"{begun}\n{own}" if begun else own,
            own_think=own,
            text=f"{'' if begun else '<think>'}{own}</think><answer>{'ABCD'[choice]}</answer>",
            answer=choice,
            status="answered",
            well_formed=True,
            option_logprobs=tuple(-0.25 - rng.random() for _ in options),
            readout="own_thought",
            token_entropy=rng.random(),
            n_tokens=90,
        )

    judge = LastWord()
    metrics = [one.replace(judge=judge) if isinstance(one, JudgedMetric) else one for one in default_metrics()]
    with stage("samples"):
        samples = [
            Sample(
                id=f"sample-{number:06d}",
                images=[f"images/{number:06d}.png"],
                question=f"Which colour has the object in front of cylinder {number}?",
                options=options,
                answer=number % 4,
                metadata={"category": f"c{number % 20}", "source": "benchmark"},
            )
            for number in range(count // CONDITIONS)
        ]
    with stage("expand, answer and measure"):
        prompts = expand(samples, paper_conditions())
        report = Report.from_responses(prompts, map(answer, prompts), metrics)
    with stage("summary"):
        assert len(report.summary) > 0
    with stage("save"):
        file = report.save(folder)
    print(f"file {file.stat().st_size / len(report):.0f} bytes a response")
    with stage("page"):
        report.to_html(folder / "report.html")


def load(folder: Path) -> None:
    """Load a report and save it anew."""
    from vlmrobust import Report

    with stage("load"):
        report = Report.load(folder)
    with tempfile.TemporaryDirectory() as other, stage("save"):
        report.save(other)


def lines(folder: Path) -> None:
    """Save a report once more, as lines, which every version reads."""
    from vlmrobust import Report

    report = Report.load(folder)
    (folder / "lines").mkdir()
    with stage("save lines"):
        file = report.save(folder / "lines" / "report.jsonl")
    head, *rows = file.read_text().splitlines(keepends=True)
    about = json.loads(head)
    for metric in about["metrics"]:
        for name in ("outcome", "reads_asserted"):  # which the versions that it is compared with do not know
            del metric[name]
    file.write_text("".join([json.dumps(about), "\n", *rows]))


def own_process(checkout: Path, *arguments: object) -> dict[str, float]:
    """Run a part in a process of its own, and return the seconds of its stages by name."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"{checkout}: {'; '.join(done.stdout.splitlines())}", file=sys.stderr, flush=True)
    lines = [line.split(" s, CPU")[0].rsplit(" ", 1) for line in done.stdout.splitlines() if " s, CPU" in line]
    return {name: float(seconds) for name, seconds in lines}


def ratios(other: Path, count: int, pairs: int, folder: Path) -> None:
    """Print how many times faster this checkout loads and saves than another."""
    checkouts = [HERE, other]
    if not (folder / "report.parquet").exists():
        own_process(HERE, "make", "--folder", folder, "--responses", count)
    folders = {HERE: folder, other: folder / "lines"}
    if not folders[other].exists():
        own_process(HERE, "lines", "--folder", folder)
    took: list[dict[Path, dict[str, float]]] = []
    for pair in range(pairs):
        turns = checkouts if pair % 2 == 0 else checkouts[::-1]
        took.append({checkout: own_process(checkout, "load", "--folder", folders[checkout]) for checkout in turns})
    for name in ("load", "save"):
        times = sorted(pair[other][name] / pair[HERE][name] for pair in took)
        medians = [statistics.median(pair[checkout][name] for pair in took) for checkout in checkouts]
        print(
            f"{name}: {medians[0]:.2f} s here, {medians[1]:.2f} s there; {statistics.median(times):.2f} times faster "
            f"({times[0]:.2f} to {times[-1]:.2f})"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "load", "lines", "ratios"])
    parser.add_argument("--responses", type=int, default=100_000)
    parser.add_argument("--other", type=Path, help="another checkout; this one is measured against it")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the reports are; None = a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if given.what == "make":
            make(folder, given.responses)
        elif given.what == "load":
            load(folder)
        elif given.what == "lines":
            lines(folder)
        else:
            ratios(given.other.resolve(), given.responses, given.pairs, folder)


if __name__ == "__main__":
    main()
