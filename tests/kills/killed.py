"""Kill runs of every kind at random moments until they end, and print as JSON how they compare with ones left alone.

    python tests/kills/killed.py FOLDER --kills 200

kills 200 times, as often by each way of `KINDS`; `test_killed.py` does it a few times. Every attempt is a forked child,
or two of them, on the directory that the one before has left; where one ends by itself, its report is compared, and
another directory is begun.
"""

import argparse
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch

from vlmrobust import Evaluator, Sample, merge_runs
from vlmrobust.judges import Judge, Verdicts
from vlmrobust.locking import DirectoryInUseError
from vlmrobust.metrics import Accuracy, Consistency, CorrectProbability, TokenEntropy
from vlmrobust.perturbations import AbstainOption, EarlyAnswer, StopThink, WrongThink
from vlmrobust.report import Report
from vlmrobust.study import Study
from vlmrobust.testing import FakeModel
from vlmrobust.workers.ranks import default_workers

SAMPLES = [
    Sample(
        id=f"q{index}", images=[b"not decoded"], question="Which?", options=["red", "blue", "green"], answer=index % 3
    )
    for index in range(16)
]
# Early answers need the one under base: two phases.
CONDITIONS = [StopThink(), WrongThink() + AbstainOption(), EarlyAnswer()]
METRICS = [Accuracy(), CorrectProbability(), TokenEntropy()]
PAUSE = 0.01


class SlowModel(FakeModel):
    def identity(self):
        return {"class": "SlowModel"}

    def respond(self, prompts):
        time.sleep(PAUSE)
        return super().respond(prompts)


class SlowJudge(Judge):
    """Reads a thought's length, and takes its time."""

    def conclude(self, responses):
        time.sleep(PAUSE)
        option = torch.tensor([len(thought) % 3 for thought in responses.think])
        return Verdicts(option, torch.zeros_like(option, dtype=torch.bool), torch.full(option.shape, 0.9))

    def identity(self):
        return {"class": "SlowJudge"}


def slow_model():
    """Return the model of the study, by name."""
    return SlowModel(opens_images=False, follow_think=0.7, truncated=0.1)


def ask(out, metrics=METRICS, workers=None):
    return Evaluator(slow_model(), CONDITIONS, metrics, draws=2, batch_size=2, seed=5).run(
        SAMPLES, out=out, workers=workers
    )


def judged(out):
    """Ask, and have every thought judged, a few at a time."""
    return ask(out, [Accuracy(), Consistency(judge=SlowJudge())])


def growing(out):
    """Let one directory grow call by call, make another, and put the two together."""
    first, second = (out.parent / f"{out.name} {name}" for name in ("first", "second"))
    calls = [
        (first, SAMPLES[:6], CONDITIONS[:1], METRICS[:1], 1),
        (first, SAMPLES[6:10], CONDITIONS[:1], METRICS[:1], 1),
        (first, SAMPLES[:10], CONDITIONS[1:], METRICS[1:], 2),
        (first, SAMPLES[:10], CONDITIONS[:1], METRICS[:1], 2),
        (second, SAMPLES[10:], CONDITIONS, METRICS, 2),
    ]
    for folder, samples, conditions, metrics, draws in calls:
        Evaluator(slow_model(), conditions, metrics, draws=draws, batch_size=2, seed=5).run(samples, out=folder)
    merge_runs([first, second], out)


def study(out):
    data = out.parent / f"{out.name} data"
    data.mkdir(exist_ok=True)
    file = data / "rows.jsonl"
    if not file.exists():
        picture = data / "a.png"
        from PIL import Image

        Image.new("RGB", (8, 8), "red").save(picture)
        rows = [
            {"id": f"q{index}", "image": "a.png", "question": "Which?", "options": ["red", "blue"], "answer": index % 2}
            for index in range(6)
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = [{"name": name, "factory": f"{Path(__file__)}:slow_model"} for name in ("one", "other")]
    made = Study(
        models=entries,
        benchmarks=[{"name": "own", "data": str(file)}],
        conditions=["base", "wrong_think", "early_answer_50"],
        judges=["rules"],
        batch_size=1,
    )
    return made.run(out)


def in_child(action, setting):
    """Run `action` in a forked child; return its number."""
    child = os.fork()
    if child:
        return child
    os.environ |= setting
    code = 0
    try:
        action()
    except DirectoryInUseError:
        code = 3
    except RuntimeError as error:  # a rank whose neighbour was killed
        code = 4 if "one has died or failed" in str(error) or "RANK" in setting else 5
        if code == 5:
            traceback.print_exc()
    except BaseException:  # noqa: BLE001 - the parent tells
        traceback.print_exc()
        code = 5
    os._exit(code)


def alone(out, action):
    return [in_child(lambda: action(out), {})]


def pair(out):
    return [in_child(lambda: ask(out), {}) for _ in range(2)]


def ranks(out):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [
        in_child(lambda: ask(out, workers=default_workers()), {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]


def report_of(out):
    report = Report.load(out)
    return report.frame.to_csv() + report.summary.to_csv()


def tables_of(out):
    names = ("runs", "summary", "judged", "agreement")
    return "".join((out / "tables" / f"{name}.csv").read_text() for name in names)


# How a run is begun, who does it when it is left alone, what it comes to.
KINDS = {
    "plain": (lambda out: alone(out, ask), ask, report_of),
    "pair": (pair, ask, report_of),
    "ranks": (ranks, ask, report_of),
    "study": (lambda out: alone(out, study), study, tables_of),
    "judging": (lambda out: alone(out, judged), judged, report_of),
    "growing": (lambda out: alone(out, growing), growing, report_of),
}


def ended(children):
    """Wait for children; return how each ended: its exit code, or less than 0 = the signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def killed(kind, folder, kills, chance):
    start, undisturbed, came_to = KINDS[kind]
    begun = time.monotonic()
    [whole] = ended([in_child(lambda: undisturbed(folder / "whole"), {})])
    took = time.monotonic() - begun
    assert whole == 0
    expected = came_to(folder / "whole")
    done, rounds, unequal, faults = 0, 0, 0, []
    while done < kills:
        out, attempts = folder / f"run {rounds}", 0
        rounds += 1
        while True:
            children = start(out)
            # The first attempts are cut short; then they get longer, so that a round ends.
            time.sleep(chance.uniform(0, took * (0.6 + 0.1 * attempts)))
            for child in children if kind == "ranks" else chance.sample(children, chance.randint(1, len(children))):
                if done < kills:
                    os.kill(child, signal.SIGKILL)  # one that has ended waits to be waited for
            codes = ended(children)
            done += sum(code == -signal.SIGKILL for code in codes)
            attempts += 1
            faults += [f"{out.name}: exit {code}" for code in codes if code not in (0, 3, 4, -signal.SIGKILL)]
            if 0 in codes or faults or done >= kills:
                break
        last = ended(start(out))
        faults += [f"{out.name}, at last: exit {code}" for code in last if code not in (0, 3)]
        unequal += came_to(out) != expected
        left = [str(path) for path in out.rglob(".running")]
        faults += [f"left behind: {left}"] if left else []
    return {"kills": done, "runs": rounds, "unequal": unequal, "faults": faults[:5]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    given = parser.parse_args()
    torch.set_num_threads(1)  # threads do not survive a fork
    result = {}
    for kind in given.kinds:
        folder = given.folder / kind
        folder.mkdir(parents=True)
        share = -(-given.kills // len(given.kinds))
        result[kind] = killed(kind, folder, share, random.Random(given.seed))
        print(kind, result[kind], file=sys.stderr, flush=True)
    print(json.dumps(result))
    return int(any(found["unequal"] or found["faults"] for found in result.values()))


if __name__ == "__main__":
    sys.exit(main())
