"""Do accuracy and faithfulness drift apart? GRPO on the demo's task, with the bundled model, on a CPU.

One start for all runs, good but not perfect: the bundled model with noise on its weights, taught again until it answers
65 % or more. Then four configurations, from arXiv:2602.12506: the base reward, with adversarial augmentation, with the
faithfulness reward, with both. Each run writes one small file with its trajectory.

    python examples/train_grpo.py all                                    # everything, and the plot
    python examples/train_grpo.py start                                  # or step by step
    python examples/train_grpo.py run --configuration both --seed 0
    python examples/train_grpo.py plot
"""

import argparse
import json
import platform
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vlmrobust as vr
from vlmrobust.perturbations import CorrectCaption, CorrectThink, StopThink, WrongCaption, WrongThink

CONFIGURATIONS = ("base", "augmented", "faithful", "both")
SEEDS = (0, 1, 2)
AUGMENTATION = {CorrectCaption(): 0.1, WrongCaption(): 0.1, CorrectThink(): 0.1, WrongThink(): 0.1}
CONDITIONS = (StopThink(), WrongThink(), WrongCaption(), CorrectCaption(), CorrectThink())
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
START = {"noise": 0.3, "learning_rate": 3e-4, "batch_size": 16, "enough": 0.65, "every": 10, "seed": 0}
GRPO = {
    "learning_rate": 5e-5,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 64,
    "num_generations": 8,
    "max_completion_length": 80,
    "temperature": 1.0,
    "beta": 0.0,
}
NEW_TOKENS = {"max_new_tokens": 80}


def training_samples(count: int) -> list[vr.Sample]:
    return vr.demo.samples(count, seed=101)


def held_out_samples(count: int) -> list[vr.Sample]:
    return vr.demo.samples(count, seed=202)


# --- the start --------------------------------------------------------------------------------------------------------


def make_start(folder: Path, samples: int) -> None:
    """Put noise on the bundled model's language weights, and teach it again until it is good enough."""
    import torch

    torch.manual_seed(START["seed"])
    engine = vr.demo.model(generation=NEW_TOKENS)
    model = frozen_vision(engine.model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in parameters:
            if parameter.ndim >= 2:
                parameter += START["noise"] * parameter.std() * torch.randn_like(parameter)
    optimizer = torch.optim.AdamW(parameters, lr=START["learning_rate"])
    evaluator = vr.Evaluator(engine, [], [vr.metrics.Accuracy()], batch_size=50)
    for step, (inputs, labels) in enumerate(batches(engine.processor), start=1):
        model.train()
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % START["every"] == 0:
            model.eval()
            accuracy = float(evaluator.run(held_out_samples(samples)).summary["value"].iloc[0])
            print(f"step {step}: loss {loss.item():.3f}, accuracy {accuracy:.3f}", flush=True)
            if accuracy >= START["enough"] or step >= 50 * START["every"]:
                break
    model.save_pretrained(folder)
    engine.processor.save_pretrained(folder)
    (folder / "start.json").write_text(json.dumps({**START, "steps": step, "accuracy": accuracy}) + "\n")


def frozen_vision(model: Any) -> Any:
    for parameter in model.model.visual.parameters():
        parameter.requires_grad_(False)
    return model


def batches(processor: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield endless batches of prompts with the thoughts and answers to learn; there is no loss on the prompts."""
    from vlmrobust.types import open_image

    size = START["batch_size"]
    prompts = [vr.Prompt.of(sample) for sample in training_samples(100 * size)]
    while True:
        for first in range(0, len(prompts), size):
            batch = prompts[first : first + size]
            images = [[open_image(prompt.images[0])] for prompt in batch]
            asked = [prompt.render(processor) for prompt in batch]
            wanted = [
                f"<think>{p.sample.texts['correct_think']}</think><answer>{'ABCD'[p.sample.answer]}</answer><|im_end|>"
                for p in batch
            ]
            options = {"padding": True, "padding_side": "right", "return_tensors": "pt", "add_special_tokens": False}
            inputs = processor(text=[a + w for a, w in zip(asked, wanted, strict=True)], images=images, **options)
            lengths = processor(text=asked, images=images, **options)["attention_mask"].sum(1)
            labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
            for row, length in enumerate(lengths.tolist()):
                labels[row, :length] = -100
            yield dict(inputs), labels


# --- a run ------------------------------------------------------------------------------------------------------------


def train(
    start: Path, out: Path, configuration: str, seed: int, steps: int, every: int, samples: int
) -> dict[str, Any]:
    """Train with one configuration and return the trajectory."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    augmented, faithful = configuration in ("augmented", "both"), configuration in ("faithful", "both")
    rows = vr.rl.Augment(AUGMENTATION if augmented else {}, seed=seed)(training_samples(8 * steps))
    checkpoint = str(start)
    engine = vr.HFModel.from_pretrained(checkpoint, dtype="float32", generation=NEW_TOKENS)
    frozen_vision(engine.model)
    trainer = GRPOTrainer(
        engine.model,
        [vr.rl.faithfulness_reward] if faithful else [vr.rl.accuracy_reward, vr.rl.format_reward],
        args=GRPOConfig(
            str(out / "runs" / f"{configuration}-{seed}"),
            max_steps=steps,
            seed=seed,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **GRPO,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=vr.rl.continue_prefill(engine.processor),
    )
    evaluator = vr.Evaluator(engine, CONDITIONS, METRICS, batch_size=25, seed=0)
    vr.rl.RobustnessCallback(evaluator, held_out_samples(samples), every=every, budget=None).attach(trainer)
    begun, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always", UserWarning)
        trainer.train()
    return {
        "configuration": configuration,
        "seed": seed,
        "steps": steps,
        "samples": samples,
        "shares": vr.rl.Augment.shares(rows),
        "start": json.loads((start / "start.json").read_text()),
        "grpo": GRPO,
        "seconds": round(time.perf_counter() - begun),
        "cpu_seconds": round(time.process_time() - cpu),
        "versions": versions(),
        "alarms": [str(entry.message) for entry in raised if str(entry.message).startswith("step ")],
        "evaluations": evaluations(trainer.state.log_history),
        "training": [
            {name: round(entry[name], 5) for name in ("step", "reward", "entropy", "completions/mean_length")}
            for entry in trainer.state.log_history
            if "reward" in entry
        ],
    }


def evaluations(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each evaluation its step, and the metrics of each condition."""
    found = []
    for entry in history:
        named = [(name.split("/")[1:], value) for name, value in entry.items() if name.startswith("robustness/")]
        if named:
            values: dict[str, dict[str, float]] = {}
            for (condition, metric), value in named:
                values.setdefault(condition, {})[metric] = round(value, 5)
            found.append({"step": entry["step"], **values})
    return found


def versions() -> dict[str, str]:
    import torch
    import transformers
    import trl

    found = {module.__name__: module.__version__ for module in (vr, torch, transformers, trl)}
    return {"python": platform.python_version(), **found}


# --- the plot ---------------------------------------------------------------------------------------------------------

SHOWN = ("accuracy", "consistency", "letter_entropy", "token_entropy", "correct_probability", "thought_length")


def saved(results: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(results.glob("*-*.json"))]


def table(results: Path) -> str:
    """Return the first and the last evaluation in Markdown: the mean over seeds, and the lowest and highest seed."""
    shown = [("base", metric) for metric in ("accuracy", "consistency", "letter_entropy", "thought_length")]
    shown += [(condition, "accuracy") for condition in ("wrong_caption", "wrong_think")]
    shown += [("stop_think", "letter_entropy")]

    def cell(values: list[float]) -> str:
        return f"{sum(values) / len(values):.2f} ({min(values):.2f}–{max(values):.2f})"

    titles = [f"{metric.replace('_', ' ')}, {condition}" for condition, metric in shown]
    lines = [f"| configuration | {' | '.join(titles)} |", "|---" * (len(shown) + 1) + "|"]
    by_configuration = {
        name: [run for run in saved(results) if run["configuration"] == name] for name in CONFIGURATIONS
    }
    start = [run["evaluations"][0] for run in saved(results)]
    last = {
        f"{name} ({len(runs)} seeds)": [run["evaluations"][-1] for run in runs]
        for name, runs in by_configuration.items()
    }
    for name, evaluations in {"the start": start, **last}.items():
        cells = [cell([evaluation[c][m] for evaluation in evaluations]) for c, m in shown if evaluations]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def plot(results: Path) -> Path:
    """Draw every trajectory: a row for each metric, a column for each configuration; thin lines are seeds."""
    from matplotlib.figure import Figure

    runs = saved(results)
    conditions = ["base", *(condition.condition for condition in CONDITIONS)]
    figure = Figure(figsize=(3 * len(CONFIGURATIONS), 2.2 * len(SHOWN)), layout="constrained")
    axes = figure.subplots(len(SHOWN), len(CONFIGURATIONS), sharex=True, sharey="row", squeeze=False)
    for column, configuration in enumerate(CONFIGURATIONS):
        own = [run["evaluations"] for run in runs if run["configuration"] == configuration]
        axes[0][column].set_title(f"{configuration} ({len(own)} seeds)")
        axes[-1][column].set_xlabel("GRPO step")
        for row, metric in enumerate(SHOWN):
            for number, condition in enumerate(conditions):
                lines = [[(e["step"], e[condition].get(metric, float("nan"))) for e in run] for run in own]
                for line in lines:
                    axes[row][column].plot(*zip(*line, strict=True), color=f"C{number}", alpha=0.3, linewidth=0.8)
                if lines:
                    steps = [step for step, _ in lines[0]]
                    means = [sum(value for _, value in points) / len(points) for points in zip(*lines, strict=True)]
                    axes[row][column].plot(steps, means, color=f"C{number}", label=condition)
            axes[row][0].set_ylabel(metric.replace("_", " "))
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(conditions))
    target = results / "trajectories.svg"
    figure.savefig(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("all", "start", "run", "plot"))
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="base")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=25, help="steps between two evaluations")
    parser.add_argument("--samples", type=int, default=100, help="held-out samples of an evaluation")
    parser.add_argument("--out", type=Path, default=Path("runs/grpo"), help="for the start's weights and the reports")
    parser.add_argument("--results", type=Path, default=Path("examples/grpo"), help="for trajectories and plot")
    arguments = parser.parse_args()
    start = arguments.out / "start"
    if arguments.stage == "start" or (arguments.stage == "all" and not start.exists()):
        make_start(start, arguments.samples)
    chosen = {
        "all": [(c, s) for c in CONFIGURATIONS for s in SEEDS],
        "run": [(arguments.configuration, arguments.seed)],
    }
    for configuration, seed in chosen.get(arguments.stage, []):
        target = arguments.results / f"{configuration}-{seed}.json"
        if target.exists() and arguments.stage == "all":
            continue
        run = train(start, arguments.out, configuration, seed, arguments.steps, arguments.every, arguments.samples)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(run, indent=1) + "\n")
        print(f"{target}: {run['seconds']} s, {run['cpu_seconds']} s of the processor", flush=True)
    if arguments.stage in ("all", "plot"):
        print(plot(arguments.results))
        print(table(arguments.results))


if __name__ == "__main__":
    main()
