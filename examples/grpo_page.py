"""Write the documentation page on the runs of `train_grpo.py` from their files, and plot their trajectories.

    python examples/train_grpo.py page

For every finding of arXiv:2602.12506 the page lists the differences that would show it, each with its 95 % interval
over seeds (Student's t), and a verdict that follows from the intervals alone.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

CONFIGURATIONS = ("base", "augmented", "faithful", "both")
PAGE = Path(__file__).parents[1] / "docs" / "pages" / "grpo_runs.md"
PICTURE = "images/grpo_runs.svg"
SHOWN = ("accuracy", "consistency", "letter_entropy", "token_entropy", "correct_probability", "thought_length")
CARD = {
    "base": "with its own thought",
    "stop_think": "without a thought",
    "blank_image": "on a blank image",
    "correct_caption": "with a true caption",
    "wrong_caption": "with a false caption",
    "correct_think": "with a true thought as prefill",
    "wrong_think": "with a false thought as prefill",
}
ENDS = (
    ("base", "accuracy"),
    ("base", "consistency"),
    ("base", "consistency_coverage"),
    ("base", "letter_entropy"),
    ("base", "thought_length"),
    ("stop_think", "accuracy"),
    ("stop_think", "letter_entropy"),
    ("wrong_caption", "accuracy"),
    ("wrong_think", "accuracy"),
)
MISLED = ("accuracy", "follow_rate", "consistency")

Run = dict[str, Any]
Runs = dict[str, dict[int, Run]]


@dataclass(frozen=True)
class Sign:
    """A difference that would show a finding, seed by seed, and its expected direction."""

    text: str
    values: tuple[float, ...]
    falls: bool = False

    @property
    def known(self) -> list[float]:
        """The defined values: consistency is undefined if no thought names an option any more."""
        return [value for value in self.values if not math.isnan(value)]

    @property
    def interval(self) -> tuple[float, float, float]:
        known = self.known
        if len(known) < 2:
            return statistics.mean(known or [math.nan]), -math.inf, math.inf
        critical = float(stats.t.ppf(0.975, len(known) - 1))
        half = critical * statistics.stdev(known) / math.sqrt(len(known))
        return statistics.mean(known), statistics.mean(known) - half, statistics.mean(known) + half

    @property
    def verdict(self) -> str:
        _, low, high = self.interval
        if low <= 0 <= high:
            return "not distinguishable from 0"
        return "seen" if (high < 0) == self.falls else "the opposite"

    def __str__(self) -> str:
        mean, low, high = self.interval
        said = f"{self.text}: {mean:+.3f} ({low:+.3f} to {high:+.3f}), {self.verdict}"
        undefined = len(self.values) - len(self.known)
        return f"{said}; undefined in {undefined} of {len(self.values)} seeds" if undefined else said


def read(results: Path) -> Runs:
    """Return the runs by configuration and seed."""
    runs: Runs = {configuration: {} for configuration in CONFIGURATIONS}
    for file in sorted(results.glob("*-*.json")):
        run = json.loads(file.read_text())
        runs[run["configuration"]][run["seed"]] = run
    return runs


def value(run: Run, condition: str, metric: str, at: int = -1) -> float:
    return float(run["evaluations"][at].get(condition, {}).get(metric, math.nan))


def change(condition: str, metric: str) -> Callable[[Run], float]:
    return lambda run: value(run, condition, metric) - value(run, condition, metric, 0)


def drop(condition: str) -> Callable[[Run], float]:
    return lambda run: value(run, "base", "accuracy") - value(run, condition, "accuracy")


def sign(runs: Runs, configuration: str, text: str, of: Callable[[Run], float], *, falls: bool = False) -> Sign:
    return Sign(f"`{configuration}`, {text}", tuple(of(run) for run in runs[configuration].values()), falls)


def between(runs: Runs, one: str, other: str, text: str, of: Callable[[Run], float], *, falls: bool = False) -> Sign:
    """Compare two configurations, seed by seed."""
    seeds = sorted(runs[one].keys() & runs[other].keys())
    values = tuple(of(runs[one][seed]) - of(runs[other][seed]) for seed in seeds)
    return Sign(f"`{one}` against `{other}`, {text}", values, falls)


def findings(runs: Runs) -> list[tuple[str, list[Sign]]]:
    """Return each of the paper's findings with the differences that would show it."""

    def more(run: Run) -> float:
        return drop("wrong_think")(run) - drop("wrong_caption")(run)

    def recovered(condition: str, hedged: str) -> Callable[[Run], float]:
        return lambda run: value(run, hedged, "accuracy") - value(run, condition, "accuracy")

    def end(condition: str, metric: str) -> Callable[[Run], float]:
        return lambda run: value(run, condition, metric)

    entropies = [
        sign(
            runs,
            configuration,
            f"letter entropy under `{condition}`, first to last",
            change(condition, metric),
            falls=True,
        )
        for configuration in CONFIGURATIONS
        for condition, metric in (("base", "letter_entropy"), ("stop_think", "letter_entropy"))
    ]
    return [
        (
            "1. Misleading text costs accuracy, a wrong thought more than a wrong caption; hedges recover a part",
            [
                sign(runs, "base", "accuracy lost under `wrong_caption`", drop("wrong_caption")),
                sign(runs, "base", "accuracy lost under `wrong_think`", drop("wrong_think")),
                sign(runs, "base", "how much more under `wrong_think`", more),
                sign(
                    runs,
                    "base",
                    "recovered by the caption's hedge",
                    recovered("wrong_caption", "wrong_caption_disclaimer"),
                ),
                sign(runs, "base", "recovered by the thought's hedge", recovered("wrong_think", "wrong_think_but")),
            ],
        ),
        (
            "2. The base reward raises accuracy while consistency falls",
            [
                sign(runs, "base", "accuracy, first to last", change("base", "accuracy")),
                sign(runs, "base", "consistency, first to last", change("base", "consistency"), falls=True),
            ],
        ),
        ("3. Letter entropy falls under every configuration, also for `stop_think`", entropies),
        (
            "4. Augmentation restores `wrong_caption`; `wrong_think` improves little; consistency still falls",
            [
                between(
                    runs,
                    "augmented",
                    "base",
                    "accuracy lost under `wrong_caption` at the end",
                    drop("wrong_caption"),
                    falls=True,
                ),
                sign(runs, "augmented", "how much more is still lost under `wrong_think`", more),
                sign(runs, "augmented", "consistency, first to last", change("base", "consistency"), falls=True),
            ],
        ),
        (
            "5. The faithfulness reward restores consistency; with augmentation, thoughts become short",
            [
                between(runs, "faithful", "base", "consistency at the end", end("base", "consistency")),
                sign(runs, "both", "words of a thought, first to last", change("base", "thought_length"), falls=True),
                between(
                    runs, "both", "base", "words of a thought at the end", end("base", "thought_length"), falls=True
                ),
            ],
        ),
        (
            "6. Stubborn experts ignore a wrong thought, inconsistently; brittle models follow it, consistently",
            [
                between(
                    runs, "augmented", "base", "accuracy under `wrong_think` at the end", end("wrong_think", "accuracy")
                ),
                between(
                    runs,
                    "augmented",
                    "base",
                    "consistency under `wrong_think` at the end",
                    end("wrong_think", "consistency"),
                    falls=True,
                ),
                between(
                    runs,
                    "faithful",
                    "base",
                    "accuracy under `wrong_think` at the end",
                    end("wrong_think", "accuracy"),
                    falls=True,
                ),
                between(
                    runs,
                    "faithful",
                    "base",
                    "consistency under `wrong_think` at the end",
                    end("wrong_think", "consistency"),
                ),
            ],
        ),
    ]


def verdict(signs: Sequence[Sign]) -> str:
    """Return the verdict on a finding from all of its signs."""
    if any(len(sign.known) < 2 for sign in signs):
        return "could not be tested"
    seen = sum(sign.verdict == "seen" for sign in signs)
    return "appeared" if seen == len(signs) else "appeared in part" if seen else "did not appear"


def over_seeds(values: Sequence[float]) -> str:
    """Return mean, lowest and highest, and the number of defined values unless all are defined."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    said = f"{statistics.mean(known):.2f} ({min(known):.2f}–{max(known):.2f})"
    return said if len(known) == len(values) else f"{said}, {len(known)} of {len(values)}"


def table(runs: Runs, shown: Sequence[tuple[str, str]]) -> str:
    """Return the first and the last evaluation: mean over seeds, lowest and highest in brackets."""

    titles = [f"{metric.replace('_', ' ')}, {condition}" for condition, metric in shown]
    lines = [f"| configuration | {' | '.join(titles)} |", "|---" * (len(shown) + 1) + "|"]
    every = [run for own in runs.values() for run in own.values()]
    rows = {"the start": (every, 0)} | {f"{c} ({len(own)} seeds)": (list(own.values()), -1) for c, own in runs.items()}
    for name, (own, at) in rows.items():
        cells = [over_seeds([value(run, c, m, at) for run in own]) for c, m in shown]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def card(start: Run) -> str:
    """Return the accuracy of the start on scenes that were not used for training."""
    lines = ["| the start answers | accuracy |", "|---|---|"]
    lines += [f"| {said} | {start['card'][condition]:.2f} |" for condition, said in CARD.items()]
    return "\n".join(lines)


def judges(runs: Runs) -> str:
    """Return consistency under base at the end, by every judge."""
    titles = sorted({title for own in runs.values() for run in own.values() for title in run.get("judges", {})})
    lines = [
        f"| {' | '.join(['configuration', 'rules', *titles])} |",
        "|---" * (len(titles) + 2) + "|",
    ]
    for configuration, own in runs.items():
        if not own:
            continue
        by = [[value(run, "base", "consistency") for run in own.values()]]
        for title in titles:
            by.append([run["judges"][title][-1].get("base", {}).get("consistency", math.nan) for run in own.values()])
        lines.append(f"| {configuration} | {' | '.join(map(over_seeds, by))} |")
    return "\n".join(lines)


def plot(runs: Runs, target: Path) -> None:
    """Draw every trajectory: a row for each metric, a column for each configuration; thin lines are seeds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    first = next(run for own in runs.values() for run in own.values())
    conditions = [name for name in first["evaluations"][0] if name != "step"]
    with mpl.rc_context({"svg.hashsalt": "grpo"}):  # the same file from the same runs
        figure = Figure(figsize=(3 * len(CONFIGURATIONS), 2.2 * len(SHOWN)), layout="constrained")
        axes = figure.subplots(len(SHOWN), len(CONFIGURATIONS), sharex=True, sharey="row", squeeze=False)
        for column, (configuration, own) in enumerate(runs.items()):
            axes[0][column].set_title(f"{configuration} ({len(own)} seeds)")
            axes[-1][column].set_xlabel("GRPO step")
            for row, metric in enumerate(SHOWN):
                axes[row][0].set_ylabel(metric.replace("_", " "))
                for number, condition in enumerate(conditions):
                    lines = [
                        [(e["step"], e[condition].get(metric, math.nan)) for e in run["evaluations"]]
                        for run in own.values()
                    ]
                    for line in lines:
                        axes[row][column].plot(*zip(*line, strict=True), color=f"C{number}", alpha=0.3, linewidth=0.8)
                    if lines:
                        steps = [step for step, _ in lines[0]]
                        known = [[v for _, v in points if not math.isnan(v)] for points in zip(*lines, strict=True)]
                        means = [statistics.mean(values or [math.nan]) for values in known]
                        axes[row][column].plot(steps, means, color=f"C{number}", label=condition)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        figure.savefig(target, metadata={"Date": None})


def page(runs: Runs, start: Run, picture: str) -> str:
    """Return the page in Markdown."""
    every = [run for own in runs.values() for run in own.values()]
    one = every[0]
    cpu, wall = (sum(run[name] for run in every) for name in ("cpu_seconds", "seconds"))
    alarms = sum(bool(run["alarms"]) for run in every)
    found = findings(runs)
    lines = [
        f"# {len(every)} GRPO runs on a laptop",
        "",
        "Generated by `python examples/train_grpo.py page` from the runs' files; nothing is written by hand.",
        "",
        f"**What may be concluded:** what this one model of {start['parameters'] / 1e6:.1f} million parameters did on "
        f"this toy task in {one['steps']} steps, in {len(every)} runs. **What may not:** anything about large models, "
        "or that a finding that does not appear here is wrong. Intervals are 95 % (Student's t) over training seeds "
        f"only, on the same {one['held_out']} held-out samples and from the same start. They are not corrected for "
        "multiple comparisons.",
        "",
        "| finding of the paper | here |",
        "|---|---|",
        *(f"| {title} | **{verdict(signs)}** |" for title, signs in found),
        "",
        "A finding appeared if all of its expected differences below are seen, and in part if some are.",
        "",
        "## The start",
        "",
        f"The bundled model was also trained to answer without a thought, and then disturbed by noise "
        f"({start['steps_after_noise']} steps after the noise; {start['cpu_seconds'] / 60:.0f} minutes of one core; "
        "`start.json` has recipe and log). "
        f"On {2 * start['recipe']['held_out']} other scenes:",
        "",
        card(start),
        "",
        f"The learning rate, {one['grpo']['learning_rate']:g}, was chosen by the base reward alone on seeds that no "
        f"run uses (`rates.json`). The runs took {wall / 3600:.1f} hours and {cpu / 3600:.1f} hours of CPU time: "
        f"{cpu / len(every) / 60:.1f} minutes each.",
    ]
    for title, signs in found:
        lines += ["", f"## {title}", ""]
        lines += [f"- {each}" for each in signs]
    lines += [
        "",
        "The paper finds both kinds among different models; here they are configurations of one model. The expected "
        "differences of findings 4 and 6 and the last one of 5 were specified after the first runs had been seen, the "
        "others before. "
        "Under `wrong_think`:",
        "",
        table(runs, [("wrong_think", metric) for metric in MISLED]),
    ]
    lines += [
        "",
        "## First and last evaluation",
        "",
        "The mean over seeds, with the lowest and the highest value in brackets. Entropies are in nats, lengths in "
        "words. Coverage is the share of answers whose thought concludes that an option is right. If no thought does, "
        "consistency is undefined.",
        "",
        table(runs, ENDS),
        "",
        "Consistency under base at the end, by judge. `Conclusion` takes the option that a thought names last, and "
        "shares nothing with the rules. No language model was available where these runs were made; "
        "`judge --judge` adds one.",
        "",
        judges(runs),
        "",
        f"`RobustnessCallback` raised an alarm in {alarms} of {len(every)} runs.",
        "",
        "Thin lines are seeds, thick lines their mean:",
        "",
        f"![Trajectories]({picture})",
    ]
    return "\n".join(lines) + "\n"


def write_page(results: Path, target: Path = PAGE) -> Path:
    """Write the page and its picture, which is below the page."""
    runs = read(results)
    if not any(runs.values()):
        raise SystemExit(f"expected files of runs in {results}, found none; `run` makes them")
    picture = target.parent / PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    plot(runs, picture)
    target.write_text(page(runs, json.loads((results / "start.json").read_text()), PICTURE))
    return target
