"""Do accuracy and faithfulness drift apart? GRPO on the demo's task, with a small model, on a CPU.

All runs start from one model, which answers from the image, with and without a thought, right about six times in ten
(`grpo_start.py`). There are four configurations, from arXiv:2602.12506: the base reward, with adversarial augmentation,
with the faithfulness reward, and with both; five seeds each. A run writes one small file. An interrupted run resumes
from its last checkpoint and gives the same file except for the seconds.

    export OMP_NUM_THREADS=1
    python examples/train_grpo.py start                                    # the initial model, with its log and card
    python examples/train_grpo.py rate                                     # choose the learning rate by the base reward
    python examples/train_grpo.py run --configuration both --seed 0        # one of the twenty runs
    python examples/train_grpo.py judge                                    # a second judge for all existing runs
    python examples/train_grpo.py judge --judge openai:NAME --base-url URL # a language model as another judge
    python examples/train_grpo.py page                                     # the page, from the result files
    python examples/train_grpo.py all                                      # all steps whose results are missing
"""

import argparse
import importlib
import json
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterable
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch

import vlmrobust as vr
from vlmrobust.demo import scenes
from vlmrobust.judges import Judge, Verdicts
from vlmrobust.perturbations import CorrectCaption, CorrectThink, WrongCaption, WrongThink, paper_conditions

CONFIGURATIONS = ("base", "augmented", "faithful", "both")
SEEDS = (0, 1, 2, 3, 4)
KINDS = ("colour", "shape", "position")
AUGMENTATION = {CorrectCaption(): 0.1, WrongCaption(): 0.1, CorrectThink(): 0.1, WrongThink(): 0.1}
CONDITIONS = paper_conditions()[1:]  # base is always included
METRICS = (
    vr.metrics.Accuracy(),
    vr.metrics.Consistency(),
    vr.metrics.ConsistencyCoverage(),
    vr.metrics.LetterEntropy(),
    vr.metrics.TokenEntropy(),
    vr.metrics.CorrectProbability(),
    vr.metrics.FollowRate(),
    vr.metrics.FormatRate(),
    vr.metrics.ThoughtLength(),
)
RATES = (1e-5, 3e-5, 1e-4)
RATE_SEEDS = (100, 101)
RATE_STEPS = 150
GRPO = {
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 64,
    "num_generations": 8,
    "max_completion_length": 80,
    "temperature": 1.0,
    "beta": 0.0,
}
NEW_TOKENS = {"max_new_tokens": 80}


class Conclusion(Judge):
    """A second judge that is independent of the rules: a thought asserts the option that it names last.

    It ignores negations, hedges and comparisons; the thoughts of this task have hardly any.
    """

    is_costly = False

    def conclude(self, responses: vr.Responses) -> Verdicts:
        asserted = []
        for thought, options, order in zip(responses.think, responses.options, responses.order, strict=True):
            said = {
                match.end(): -1 if index is None else index
                for option, index in zip(options, order, strict=True)
                for match in re.finditer(rf"\b{re.escape(option)}\b", thought or "", re.IGNORECASE)
            }
            asserted.append(said[max(said)] if said else None)
        option = torch.tensor([-1 if one is None else one for one in asserted], dtype=torch.int64)
        return Verdicts.of(option, torch.tensor([one is None for one in asserted], dtype=torch.bool))


def samples(number: int, seed: int) -> list[vr.Sample]:
    """Draw scenes not used to train the start, with the task's kinds of questions."""
    indices = (index for index in count() if scenes.KINDS[index % len(scenes.KINDS)] in KINDS)
    return [scenes.to_sample(index, seed) for index in islice(indices, number)]


def frozen_vision(model: Any) -> Any:
    for parameter in model.model.visual.parameters():
        parameter.requires_grad_(False)
    return model


# --- a run ------------------------------------------------------------------------------------------------------------


def train(
    start: Path, folder: Path, configuration: str, seed: int, steps: int, every: int, held_out: int, rate: float
) -> dict[str, Any]:
    """Train one configuration, resuming from the last checkpoint, and return the trajectory."""
    from datasets import Dataset
    from trl import GRPOConfig

    augmented, faithful = configuration in ("augmented", "both"), configuration in ("faithful", "both")
    rows = vr.rl.Augment(AUGMENTATION if augmented else {}, seed=seed)(samples(8 * steps, seed=1000 + seed))
    weights = str(start)
    engine = vr.HFModel.from_pretrained(weights, dtype="float32", generation=NEW_TOKENS)
    if (checkpoint := last_checkpoint(folder)) is not None:
        # transformers saves the weights of Qwen2.5-VL under other names than its Trainer expects when it resumes.
        engine.model.load_state_dict(type(engine.model).from_pretrained(checkpoint, dtype="float32").state_dict())
    frozen_vision(engine.model)
    clock = clock_callback()
    trainer = vr.rl.SharedGRPOTrainer(
        engine.model,
        [vr.rl.faithfulness_reward] if faithful else [vr.rl.accuracy_reward, vr.rl.format_reward],
        args=GRPOConfig(
            str(folder),
            learning_rate=rate,
            max_steps=steps,
            seed=seed,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            report_to="none",
            disable_tqdm=True,
            **GRPO,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=vr.rl.continue_prefill(engine.processor),
        callbacks=[clock],
    )
    evaluator = vr.Evaluator(engine, CONDITIONS, METRICS, batch_size=25, seed=0)
    vr.rl.RobustnessCallback(evaluator, samples(held_out, seed=202), every=every, budget=None).attach(trainer)
    trainer._load_from_checkpoint = lambda *args, **kwargs: None  # already loaded above
    trainer.train(resume_from_checkpoint=checkpoint)
    found = evaluations(trainer.state.log_history)
    return {
        "configuration": configuration,
        "seed": seed,
        "steps": steps,
        "held_out": held_out,
        "shares": vr.rl.Augment.shares(rows),
        "start": json.loads((start / "start.json").read_text())["sha256"],
        "grpo": GRPO | {"learning_rate": rate},
        **clock.spent(),
        "versions": versions(),
        "alarms": alarms(found),
        "evaluations": found,
        "training": [
            {name: round(entry[name], 5) for name in ("step", "reward", "entropy", "completions/mean_length")}
            for entry in trainer.state.log_history
            if "reward" in entry
        ],
    }


def last_checkpoint(folder: Path) -> str | None:
    """Return the last complete checkpoint; incomplete ones after it are deleted."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())  # the last file of a checkpoint
            return str(checkpoint)
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
    return None


def clock_callback() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Counts seconds over all processes of a run; time lost after the last checkpoint is not counted."""

        def __init__(self) -> None:
            self.before = {"seconds": 0.0, "cpu_seconds": 0.0}
            self.began = time.perf_counter(), time.process_time()

        def spent(self) -> dict[str, int]:
            now = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
            return {name: round(self.before[name] + more) for name, more in zip(self.before, now, strict=True)}

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "seconds.json"
            if file.exists():
                self.before = json.loads(file.read_text())

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / "seconds.json").write_text(json.dumps(self.spent()))

    return Clock()


def evaluations(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the step of each evaluation, and the metrics of each condition."""
    found = []
    for entry in history:
        # Names with one part are costs. A repeated evaluation after resuming has the same values as the first.
        named = [(name.split("/")[1:], value) for name, value in entry.items() if name.startswith("robustness/")]
        named = [(parts, value) for parts, value in named if len(parts) == 2]
        if named and entry["step"] not in {earlier["step"] for earlier in found}:
            values: dict[str, dict[str, float]] = {}
            for (condition, metric), value in named:
                values.setdefault(condition, {})[metric] = round(value, 5)
            found.append({"step": entry["step"], **values})
    return found


def alarms(found: list[dict[str, Any]]) -> list[str]:
    """Return the warnings of `RobustnessCallback`, whichever process raised them."""
    from vlmrobust.rl.callback import Alarms

    return [
        f"step {later['step']}: {message}"
        for later in found[1:]
        for message in Alarms().raised(found[0]["base"], later["base"])
    ]


def versions() -> dict[str, str]:
    import torch
    import transformers
    import trl

    found = {module.__name__: module.__version__ for module in (vr, torch, transformers, trl)}
    return {"python": platform.python_version(), **found}


def write(file: Path, value: dict[str, Any]) -> None:
    """Write one field per line, and one list entry per line."""
    fields = [f" {json.dumps(name)}: {_entries(entry)}" for name, entry in value.items()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{\n" + ",\n".join(fields) + "\n}\n")


def _entries(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in value) + "\n ]"


# --- results of all runs ----------------------------------------------------------------------------------------------


def choose_rate(start: Path, out: Path, results: Path) -> float:
    """Try learning rates with the base reward on seeds that no run uses, and keep the one with the largest gain."""
    tried = []
    for rate in RATES:
        for seed in RATE_SEEDS:
            run = train(start, out / "rates" / f"{rate}-{seed}", "base", seed, RATE_STEPS, RATE_STEPS, 60, rate)
            rewards = [entry["reward"] for entry in run["training"]]
            first, last = (sum(part) / len(part) for part in (rewards[:20], rewards[-20:]))
            tried.append({"rate": rate, "seed": seed, "first": round(first, 4), "last": round(last, 4)})
            print(json.dumps(tried[-1] | {"cpu_seconds": run["cpu_seconds"]}), flush=True)
    gains = {rate: sum(t["last"] - t["first"] for t in tried if t["rate"] == rate) for rate in RATES}
    chosen = max(gains, key=lambda rate: gains[rate])
    write(results / "rates.json", {"steps": RATE_STEPS, "tried": tried, "chosen": chosen})
    return chosen


def judge(out: Path, results: Path, name: str, base_url: str | None) -> None:
    """Judge the thoughts of every run's evaluations with another judge, and add the results to the run's file."""
    from vlmrobust.catalogue import judge_named, judged_metrics

    chosen = Conclusion() if name == "conclusion" else judge_named(name, base_url=base_url, where="--judge")
    for file in runs_of(results):
        run = json.loads(file.read_text())
        if chosen.title in run.get("judges", {}):
            continue
        said = []
        for evaluation in run["evaluations"]:
            saved = out / "runs" / file.stem / "robustness" / f"step-{evaluation['step']}"
            values = vr.Report.load(saved).score(judged_metrics(chosen), verdicts=saved / "verdicts").summary
            own: dict[str, dict[str, float]] = {}
            for row in values.to_dict("records"):
                if row["metric"] in ("consistency", "consistency_coverage") and row["value"] == row["value"]:
                    own.setdefault(row["condition"], {})[row["metric"]] = round(row["value"], 5)
            said.append({"step": evaluation["step"], **own})
        write(file, run | {"judges": run.get("judges", {}) | {chosen.title: said}})
        print(f"{file}: {chosen.title}", flush=True)


def runs_of(results: Path) -> list[Path]:
    names = {f"{configuration}-{seed}.json" for configuration in CONFIGURATIONS for seed in SEEDS}
    return [file for file in sorted(results.glob("*.json")) if file.name in names]


def beside(name: str) -> Any:
    """Return another module of the examples."""
    sys.path.insert(0, str(Path(__file__).parent))
    return importlib.import_module(name)


def main(words: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("all", "start", "rate", "run", "judge", "page"))
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations and between checkpoints")
    parser.add_argument("--samples", type=int, default=200, help="held-out samples per evaluation")
    parser.add_argument("--rate", type=float, help="learning rate; default: the one chosen by `rate`")
    parser.add_argument("--judge", default="conclusion", help="conclusion, rules, hf:NAME or openai:NAME")
    parser.add_argument("--base-url")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/grpo"), help="folder for weights, checkpoints and reports"
    )
    parser.add_argument("--results", type=Path, default=Path("examples/grpo_runs"), help="folder for the result files")
    given = parser.parse_args(None if words is None else list(words))
    start = given.out / "start"
    if given.stage == "start" or (given.stage == "all" and not (start / "start.json").exists()):
        beside("grpo_start").make_start(start)
        given.results.mkdir(parents=True, exist_ok=True)
        shutil.copy(start / "start.json", given.results / "start.json")
    rates = given.results / "rates.json"
    if given.stage == "rate" or (given.stage == "all" and given.rate is None and not rates.exists()):
        choose_rate(start, given.out, given.results)
    chosen = {
        "all": [(c, s) for s in SEEDS for c in CONFIGURATIONS],
        "run": [(given.configuration, given.seed)],
    }
    for configuration, seed in chosen.get(given.stage, []):
        target = given.results / f"{configuration}-{seed}.json"
        if target.exists() and given.stage == "all":
            continue
        rate = given.rate or json.loads(rates.read_text())["chosen"]
        folder = given.out / "runs" / target.stem
        run = train(start, folder, configuration, seed, given.steps, given.every, given.samples, rate)
        write(target, run)
        print(f"{target}: {run['seconds']} s, {run['cpu_seconds']} s CPU", flush=True)
    if given.stage in ("all", "judge"):
        judge(given.out, given.results, given.judge, given.base_url)
    if given.stage in ("all", "page"):
        print(beside("grpo_page").write_page(given.results))


if __name__ == "__main__":
    main()
