"""How long a GRPO step of `examples/train_grpo.py` takes, beside an earlier build's: 64 completions, eight a prompt.

Each run is a process of its own; pairs go first one way, then the other (ABBA), and what is shown is the median over
pairs, of seconds of the processor per step without the first. The reference is a checkout of that build, whose own
package and example are run. Not a test: timings depend on what else the machine does.

    python tests/benchmarks/grpo_step.py --reference ../reference --start runs/grpo/start
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def measure(tree: Path, start: Path | None, steps: int, temperature: float) -> dict[str, Any]:
    """Run a few steps with a checkout's own trainer, and return what they took."""
    import tempfile

    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    import vlmrobust as vr

    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("train_grpo", tree / "examples" / "train_grpo.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.process_time())

    folder = str(Path(vr.demo.__file__).parent / "weights") if start is None else str(start)
    engine = vr.HFModel.from_pretrained(folder, dtype="float32", generation=example.NEW_TOKENS)
    example.frozen_vision(engine.model)
    # The same samples for both: those of the bundled generator, whatever the example itself trains on.
    rows = vr.rl.Augment({}, seed=0)(vr.demo.samples(8 * steps, seed=101))
    settings = example.GRPO | {"learning_rate": 5e-5, "temperature": temperature}
    trainer_class = vr.rl.SharedGRPOTrainer if "SharedGRPOTrainer" in vr.rl.__all__ else GRPOTrainer
    with tempfile.TemporaryDirectory() as out:
        trainer = trainer_class(
            engine.model,
            [vr.rl.accuracy_reward, vr.rl.format_reward],
            args=GRPOConfig(
                out,
                max_steps=steps,
                seed=0,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=vr.rl.continue_prefill(engine.processor),
            callbacks=[Clock()],
        )
        trainer.train()
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    shared = getattr(trainer, "_shared", None)
    means = {name: statistics.mean(entry[name] for entry in logged) for name in ("reward", "completions/mean_length")}
    return {
        "trainer": type(trainer).__name__,
        "seconds": (times[-1] - times[0]) / (steps - 1),
        "row_steps": None if shared is None else shared.row_steps / steps,
        "no_advantage": statistics.mean(entry["frac_reward_zero_std"] for entry in logged),
        **means,
    }


def child(tree: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own, with the checkout's package."""
    command = [sys.executable, __file__, "--measure", str(tree), "--steps", str(arguments.steps)]
    command += ["--temperature", str(arguments.temperature)]
    command += [] if arguments.start is None else ["--start", str(arguments.start)]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tree, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of an earlier build")
    parser.add_argument("--start", type=Path, help="the model's folder; default: the bundled model")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.start, arguments.steps, arguments.temperature)))
        return
    if arguments.reference is None:
        parser.error("expected --reference, a checkout of an earlier build, got none")
    arguments.start = None if arguments.start is None else arguments.start.resolve()
    trees = [arguments.reference.resolve(), ROOT]
    ratios, seconds = [], ([], [])
    for pair in range(arguments.pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        found = {which: child(trees[which], arguments) for which in order}
        for which, own in found.items():
            seconds[which].append(own["seconds"])
        ratios.append(found[0]["seconds"] / found[1]["seconds"])
        print(
            f"pair {pair + 1}: {found[0]['seconds']:.3f} s and {found[1]['seconds']:.3f} s a step, {ratios[-1]:.2f}x",
            flush=True,
        )
    print(json.dumps(found, indent=1))
    reference, ours = (statistics.median(own) for own in seconds)
    print(
        f"{reference:.3f} s of the processor a step before, {ours:.3f} s now: "
        f"{statistics.median(ratios):.2f} times the steps per second "
        f"({min(ratios):.2f}-{max(ratios):.2f}, {len(ratios)} pairs)"
    )


if __name__ == "__main__":
    main()
