"""Kill a run ten times, resume it, and print as JSON how it compares with one that was left alone.

Run as `python killed_run.py FOLDER`; `test_evaluator.py` does. Every attempt is a forked child that its parent kills:
at a random moment, or, every third time, in the middle of writing a batch.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from builders import make_samples

from vlmrobust import jsonl
from vlmrobust.evaluator import Evaluator
from vlmrobust.metrics import Accuracy, CorrectProbability, TokenEntropy
from vlmrobust.perturbations import AbstainOption, StopThink, WrongCaption, WrongThink
from vlmrobust.testing import FakeModel

SAMPLES = make_samples(60)
CONDITIONS = [StopThink(), WrongThink(), WrongCaption() + AbstainOption()]
METRICS = [Accuracy(), CorrectProbability(), TokenEntropy()]
KILLS = 10


class LoggedModel(FakeModel):
    """Takes its time, and writes down what it has answered before anybody else does."""

    log: Path
    delay: float = 0.02

    def identity(self):
        return {"class": "LoggedModel"}

    def respond(self, prompts):
        time.sleep(self.delay)
        responses = super().respond(prompts)
        with self.log.open("a") as file:
            file.write("".join(json.dumps(response.key) + "\n" for response in responses))
        return responses


class HalfWritten:
    """A file whose `nth` write is cut in two by a kill."""

    def __init__(self, file, nth):
        self.file, self.left = file, nth

    def write(self, data):
        self.left -= 1
        if self.left == 0:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


def run(folder, log, delay=0.02):
    model = LoggedModel(log=log, delay=delay, opens_images=False, follow_think=0.7, truncated=0.1)
    return Evaluator(model, CONDITIONS, METRICS, draws=2, batch_size=2, seed=5).run(SAMPLES, out=folder)


def keys(log):
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def on_disk(folder):
    """The keys of whole batches, read without the library."""
    found = set()
    for path in folder.glob("responses-*.jsonl"):
        batch = []
        for line in path.read_text(errors="replace").split("\n")[:-1]:
            row = json.loads(line)
            batch.append((row["response"]["sample_id"], row["response"]["condition"], row["response"].get("draw", 0)))
            if row["batch"][0] + 1 == row["batch"][1]:
                found |= set(batch[-row["batch"][1] :])
    return found


def kill_one(folder, log, chance, in_a_write):
    child = os.fork()
    if child == 0:
        if in_a_write:
            create = jsonl.OwnFile._create
            nth = chance.randint(1, 4)
            jsonl.OwnFile._create = lambda self: (
                HalfWritten(create(self), nth) if self._stem == "responses" else create(self)
            )
        run(folder, log)
        os._exit(0)
    if not in_a_write:
        deadline = time.monotonic() + 60
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(folder):
    chance = random.Random(0)
    interrupted = folder / "interrupted"
    killed, repeated, progress = 0, 0, []
    for attempt in range(KILLS):
        log = folder / f"attempt{attempt}"
        finished = on_disk(interrupted)
        killed += kill_one(interrupted, log, chance, in_a_write=attempt % 3 == 2)
        repeated += len(finished & set(keys(log)))
        progress.append(len(on_disk(interrupted)))
    finished, log = on_disk(interrupted), folder / "last"
    resumed = run(interrupted, log, delay=0.0)
    repeated += len(finished & set(keys(log)))
    whole = run(folder / "whole", folder / "log of the whole", delay=0.0)
    again = run(interrupted, folder / "nothing left", delay=0.0)
    print(
        json.dumps(
            {
                "killed": killed,
                "progress": progress,
                "asked last": len(keys(log)),
                "asked when complete": len(keys(folder / "nothing left")),
                "repeated": repeated,
                "responses": len(whole),
                "same frame": resumed.frame.equals(whole.frame) and again.frame.equals(whole.frame),
                "same summary": resumed.summary.equals(whole.summary),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
