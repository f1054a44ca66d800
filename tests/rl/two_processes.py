"""Run a short training of the bundled model in two processes started by torchrun, and save what each one saw."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

import vlmrobust as vr
from vlmrobust.perturbations import WrongThink

STEPS = 10


def main(out: Path) -> None:
    seen: list[float] = []

    def watched(**columns: Any) -> list[float | None]:
        values = vr.rl.faithfulness_reward(**columns)
        seen.extend(value or 0.0 for value in values)
        return values

    watched.__name__ = "faithfulness_reward"
    engine = vr.demo.model()
    settings = {"max_steps": STEPS, "per_device_train_batch_size": 4, "num_generations": 2, "logging_steps": 1}
    trainer = GRPOTrainer(
        engine.model,
        watched,
        args=GRPOConfig(
            str(out / "trained"),
            **settings,
            **{"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "ddp_backend": "gloo"},
            **{"max_completion_length": 40, "temperature": 2.0, "learning_rate": 1e-3},
            **{"report_to": "none", "save_strategy": "no", "disable_tqdm": True},
        ),
        train_dataset=Dataset.from_list(vr.rl.Augment({WrongThink(): 0.5}, seed=2)(vr.demo.samples(16, seed=9))),
        processing_class=vr.rl.continue_prefill(engine.processor),
    )
    callback = vr.rl.RobustnessCallback([WrongThink()], vr.demo.samples(2), every=5, budget=None)
    callback.attach(trainer)
    trainer.train()
    results = {
        "steps": STEPS,
        "rewards": seen,
        "history": trainer.state.log_history,
        "weights": sum(float(value.detach().double().sum()) for value in engine.model.parameters()),
    }
    (out / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
