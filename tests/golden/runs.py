"""A run directory as today's build leaves it, and going on with it."""

from pathlib import Path

from values import samples
from vlmrobust.named_conditions import conditions_named

import vlmrobust as vr
from vlmrobust.metrics.catalogue import metrics_named
from vlmrobust.testing import FakeModel

CONDITIONS = (
    "stop_think",
    "wrong_think",
    "wrong_think_but",
    "wrong_caption",
    "wrong_caption_disclaimer",
    "correct_caption",
    "correct_think",
    "abstain_option",
    "removed_image",
    "shuffled_options",
    "early_answer_50",
    "wrong_caption+abstain_option",
)
SAMPLES = 3
METRICS = ("accuracy", "follow_rate", "consistency")


def planted() -> FakeModel:
    """Return the model that was asked, which knows what it has been asked since."""
    return FakeModel(accuracy=0.75, follow_think=0.5, abstain=0.5, opens_images=False)


def go_on(folder: Path, model: FakeModel, *more: str) -> vr.Report:
    """Begin the run in a folder, or go on with the one that is there."""
    evaluator = vr.Evaluator(model, conditions_named([*CONDITIONS, *more]), metrics_named(METRICS), seed=5, draws=2)
    return evaluator.run(samples(SAMPLES), folder)
