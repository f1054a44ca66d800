"""Training with the paper's rewards, augmentation and curves, plugged into GRPO trainers as they are.

`vlmrobust.rl.rewards` works with any trainer; the modules that are called like a trainer hold what it looks for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .augment import Augment, to_grpo_rows
from .forms import save_rows, trainer_rows
from .mixture import paper_mixture
from .rewards import (
    AccuracyReward,
    ConsistencyReward,
    FaithfulnessReward,
    FormatReward,
    accuracy_reward,
    consistency_reward,
    faithfulness_reward,
    format_reward,
)
from .templates import continue_prefill

if TYPE_CHECKING:
    from .callback import RobustnessCallback

__all__ = [
    "AccuracyReward",
    "Augment",
    "ConsistencyReward",
    "FaithfulnessReward",
    "FormatReward",
    "RobustnessCallback",
    "accuracy_reward",
    "consistency_reward",
    "continue_prefill",
    "faithfulness_reward",
    "format_reward",
    "paper_mixture",
    "save_rows",
    "to_grpo_rows",
    "trainer_rows",
]


def __getattr__(name: str) -> Any:
    # The callback is a transformers class; rewards are used where another transformers is installed.
    if name == "RobustnessCallback":
        return importlib.import_module(".callback", __name__).RobustnessCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
