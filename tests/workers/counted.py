"""Define a model for workers in separate processes that logs its prompts and can kill its process once.

Run as `torchrun counted.py FOLDER`, or by another launcher, it evaluates the model in that folder and kills the rank
that first processes a certain sample. Every rank then repeats the call several times.
"""

import faulthandler
import json
import os
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from vlmrobust import Evaluator, Sample
from vlmrobust.metrics import Accuracy, CorrectProbability, TokenEntropy
from vlmrobust.perturbations import AbstainOption, EarlyAnswer, StopThink, WrongCaption, WrongThink
from vlmrobust.testing import FakeModel

SAMPLES = [
    Sample(
        id=f"q{index}", images=[b"not decoded"], question="Which?", options=["red", "blue", "green"], answer=index % 3
    )
    for index in range(26)
]
BATCH_SIZE = 2
# Early answers need the one under base: two phases.
CONDITIONS = [StopThink(), WrongThink(), WrongCaption() + AbstainOption(), EarlyAnswer()]
EARLY = EarlyAnswer().condition
METRICS = [Accuracy(), CorrectProbability(), TokenEntropy()]


class CountedModel(FakeModel):
    """Appends its prompts to a file before it responds.

    Attributes:
        log: the file.
        kills: condition and sample id at which it kills its process the first time.
        fails: sample id at which it raises.
    """

    log: Path
    kills: tuple[str, str] | None = None
    fails: str | None = None

    def identity(self):
        return {"class": "CountedModel"}

    def respond(self, prompts):
        keys = [(prompt.sample.id, prompt.condition, prompt.draw) for prompt in prompts]
        with self.log.open("a") as file:
            file.write("".join(json.dumps(key) + "\n" for key in keys))
        killed = self.log.with_name("killed")
        if any((condition, sample) == self.kills for sample, condition, _ in keys) and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if any(sample == self.fails for sample, _, _ in keys):
            raise ZeroDivisionError("cannot do this one")
        return super().respond(prompts)


class QueuedModel(CountedModel):
    """A concurrent variant with random delays; `busy` records how many prompts run at a time."""

    concurrency: int = 6

    _pool: Any = PrivateAttr(None)
    _now: list[int] = PrivateAttr(default_factory=list)

    def ask(self, prompt):
        self._pool = self._pool or ThreadPoolExecutor(self.concurrency)
        return self._pool.submit(self._answer, prompt)

    def _answer(self, prompt):
        self._now.append(1)
        with self.log.with_name("busy").open("a") as file:
            file.write(f"{os.getpid()} {len(self._now)}\n")
        time.sleep(random.Random(str(prompt.key)).choice([0.002, 0.005, 0.04]))
        [response] = self.respond([prompt])
        self._now.pop()
        return response


def busy(log):
    """Return the number of running prompts at each start, by process."""
    found = {}
    for process, number in (map(int, line.split()) for line in log.with_name("busy").read_text().splitlines()):
        found.setdefault(process, []).append(number)
    return found


def evaluator(log, *, on_error="record", kind=CountedModel, **behaviour):
    """Return an evaluator of a counted model, which every worker creates for itself."""
    log.parent.mkdir(parents=True, exist_ok=True)
    model = kind(log=log, opens_images=False, follow_think=0.7, truncated=0.1, **behaviour)
    return Evaluator(model, CONDITIONS, METRICS, draws=2, batch_size=BATCH_SIZE, seed=5, on_error=on_error)


def logged_keys(log):
    """Return the keys of all prompts, with repetitions."""
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def repeated(log):
    """Return the sample ids with repeated prompts of the same condition and draw."""
    keys = logged_keys(log)
    return sorted({key[0] for key in keys if keys.count(key) > 1})


def same(report, other):
    """Return whether two reports are exactly equal."""
    return bool(report.frame.equals(other.frame) and report.summary.equals(other.summary))


if __name__ == "__main__":
    faulthandler.dump_traceback_later(120, exit=True)  # ranks that miss one another would wait for days
    out = Path(sys.argv[1])
    reports = [evaluator(out / "log", kills=(EARLY, "q10")).run(SAMPLES, out=out) for _ in range(6)]
    assert all(same(report, reports[0]) for report in reports)
