"""Provide the paper's rewards, augmentation and training curves for existing GRPO trainers.

`vlmrobust.rl.rewards` works with any trainer; a module named after a trainer holds that trainer's entry point.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .formats import continue_prefill, save_rows, trainer_rows
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
from .rows import Augment, paper_mixture, to_grpo_rows

if TYPE_CHECKING:
    from .callback import RobustnessCallback
    from .shared_trainer import SharedGRPOTrainer

__all__ = [
    "AccuracyReward",
    "Augment",
    "ConsistencyReward",
    "FaithfulnessReward",
    "FormatReward",
    "RobustnessCallback",
    "SharedGRPOTrainer",
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

_LATE = {"RobustnessCallback": "callback", "SharedGRPOTrainer": "shared_trainer"}


def __getattr__(name: str) -> Any:
    # These subclass classes of transformers and TRL, which rewards must not require.
    if name in _LATE:
        return getattr(importlib.import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
