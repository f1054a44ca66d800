"""A run that kills itself with SIGKILL: `python unreported_run.py FOLDER WHEN`, where WHEN says at which moment.

`answered` is between the last answer and the report, `answering` in the middle of the samples, `written` between the
report and what is noted beside it, `never` not at all. `test_unreported.py` runs it.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from vlmrobust import Evaluator, Metric, Sample, unreported
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.testing import FakeModel

SAMPLES = [
    Sample(id=f"q{index}", images=[b"not decoded"], question="Which?", options=["red", "blue"], answer=index % 2)
    for index in range(6)
]
CONDITIONS = (StopThink(), WrongThink())


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(Metric):
    """Is measured when all is answered."""

    higher_is_better = True

    def per_sample(self, responses):
        die()
        return torch.zeros(len(responses))


class Dying(FakeModel):
    """Does not answer the fifth sample."""

    def respond(self, prompts):
        if any(prompt.sample.id == "q4" for prompt in prompts):
            die()
        return super().respond(prompts)

    def identity(self):
        return FakeModel(opens_images=False).identity()


def run(folder, when="never", samples=SAMPLES, conditions=CONDITIONS):
    model = (Dying if when == "answering" else FakeModel)(opens_images=False)
    metrics = [Accuracy(), *([Deadly()] if when == "answered" else [])]
    if when == "written":
        unreported.write_atomically = die
    return Evaluator(model, list(conditions), metrics, batch_size=2).run(samples, folder)


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2])
