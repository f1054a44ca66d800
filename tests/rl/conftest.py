"""Provide tiny models, GRPO trainers of the bundled one, and counts that start from 0."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zoo

import vlmrobust as vr
from vlmrobust.perturbations import CorrectCaption, CorrectThink, WrongCaption, WrongThink
from vlmrobust.rl import completions

PAPER = {CorrectCaption(): 0.15, WrongCaption(): 0.15, CorrectThink(): 0.15, WrongThink(): 0.3}


@pytest.fixture(autouse=True)
def nothing_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test log its first missing column or prefill, which is logged again only when the count doubles."""
    monkeypatch.setattr(completions, "_COUNTS", {})


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], zoo.Tiny]:
    """Return a builder of tiny models, each built once: a test that changes one builds its own."""
    return cache(zoo.build)


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """Return training rows of the demo, many of them with a prefilled thought."""
    return vr.rl.Augment(PAPER, seed=2)(vr.demo.samples(24, seed=9))


@pytest.fixture(scope="session")
def grpo(rows: list[dict[str, Any]]) -> Callable[..., Any]:
    """Return a builder of GRPO trainers of the bundled model on the CPU, loaded anew for each."""

    def build(
        out: Path,
        rewards: Any = vr.rl.accuracy_reward,
        callbacks: Any = (),
        train_dataset: Any = None,
        peft_config: Any = None,
        trainer_class: Any = None,
        **settings: Any,
    ) -> Any:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        # The bundled model is sure of nearly everything; at this temperature its completions differ.
        defaults = {
            "max_steps": 3,
            "per_device_train_batch_size": 16,
            "num_generations": 4,
            "max_completion_length": 64,
            "temperature": 2.0,
            "learning_rate": 1e-4,
            "logging_steps": 1,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        engine = vr.demo.model()
        return (trainer_class or GRPOTrainer)(
            engine.model,
            rewards,
            args=GRPOConfig(str(out), **(defaults | settings)),
            train_dataset=Dataset.from_list(rows) if train_dataset is None else train_dataset,
            processing_class=vr.rl.continue_prefill(engine.processor),
            callbacks=list(callbacks),
            peft_config=peft_config,
        )

    return build
