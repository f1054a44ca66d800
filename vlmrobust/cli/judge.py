"""Implement `vlmrobust judge`: judge the thoughts of an existing run again, with another judge."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..locking import DirectoryLock
from . import options
from .app import finish, refusals
from .difference_table import show_rows
from .output import as_json, rows_of, say, show, show_data

if TYPE_CHECKING:
    from ..judges import Judge, LabelledThought, Rate
    from ..metrics import Metric
    from ..report import Report
    from ..report.formats import Table

__all__ = ["PanelRule", "judge"]


class PanelRule(StrEnum):
    """How a panel of judges decides."""

    majority = "majority"
    strict = "strict"
    first_sure = "first_sure"


_SHOWN = 5


def judge(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Run directory or saved report; with --check a JSON Lines file of labelled thoughts. Default: those "
            "that come with the package.",
            show_default=False,
        ),
    ] = None,
    *,
    judges: Annotated[
        list[str],
        typer.Option(
            "--judge",
            metavar="JUDGE",
            help="rules, self (the model of the run), hf:NAME (a checkpoint), vllm:NAME (one on vLLM) or openai:NAME "
            "(a model behind a server); several form a panel.",
            autocompletion=options.complete_judges,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="New file for the judged report: JSON lines if its name ends in .jsonl, else Parquet. Default: next "
            "to the report, named after the judge.",
        ),
    ] = None,
    rule: Annotated[
        PanelRule,
        typer.Option(
            help="How a panel decides: the option named by more than half, by all, or by the first sure judge."
        ),
    ] = PanelRule.majority,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    engine_option: options.EngineOption = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="Metrics that depend on the judge, separated by commas, to compute and show; those in the report are "
            "always computed.",
            autocompletion=options.complete_judged_metrics,
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Measure the judge on labelled thoughts instead.")] = False,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: labels of the run's own thoughts, exported by its page."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Judge the thoughts of a run again, and show the changes. The model does not run; its report stays as it is."""
    with refusals(context):
        from ..catalogue import JUDGED_METRICS
        from ..judges.base import title_of
        from ..report.files import LINES, report_file
        from ..report.formats import terminal_table
        from .construction import engine_options
        from .report import load_report

        given = context.params | {"engine_option": engine_options(engine_option)}
        if labels is not None and not (check and path):
            raise ValueError("--labels: expected --check and the run of the labels with it")
        if check and metrics:
            raise ValueError("--metrics: cannot be combined with --check, which has measures of its own")
        if check:
            run = None if labels is None or path is None else load_report(path)
            checked = _judge_of(given, run)
            _check(checked, path, None if run is None or labels is None else run.labelled(labels), json=json)
            return
        if path is None:
            raise ValueError("expected a run directory or a saved report, or --check, got neither")
        folder = path if path.is_dir() else path.parent
        name = _file_name(judges)
        file, existing = (folder / name, report_file(folder, name)) if out is None else (out, out)
        with _locked(folder, file, judges):
            old = load_report(path)
            chosen = _judge_for(old, existing, given)
            new, names = _rejudged(old, chosen, folder / "verdicts", options.listed(metrics))
            new.save(file)
            if out is None:  # written by earlier versions
                file.with_suffix(LINES).unlink(missing_ok=True)
        result = _agreement(old, new)
        before, after = old.judge, new.judge
        if json:
            rows = new.summary[new.summary["metric"].isin(names or JUDGED_METRICS)]
            show_data(as_json({"old": before, "new": after, "agreement": asdict(result), "summary": rows}))
        else:
            show(f"{title_of(before)} → {title_of(after)}\n{_agreement_text(result)}\n")
            if names:
                show_rows(new.summary, names, csv=False, json=False, judge=after)
            else:
                show(terminal_table(_by_condition(old, new)))
    say(f"The judged report is {file}; vlmrobust report and compare read it")
    finish(new)


def _judge_for(report: "Report", file: Path, given: Mapping[str, Any]) -> "Judge":
    """Return the judge of a call; refuse to replace a judged report that is not outdated, or is by another judge."""
    from ..report import Report

    previous = Report.load(file) if file.exists() else None
    if previous is not None and not _is_outdated(previous, report):
        raise ValueError(f"expected a new file, but {file} exists; give another one with --out")
    judge = _judge_of(given, report)
    if previous is not None and previous.judge != judge.identity():
        raise ValueError(f"expected a file of this judge, but {file} is by another; use --out")
    return judge


def _is_outdated(judged: "Report", run: "Report") -> bool:
    """Return whether the judge failed on some thoughts, or the run has new responses or metrics since."""
    from ..report.files import keys_of
    from ..report.metric_columns import metric_errors

    known = set(keys_of(judged.responses))
    has_grown = any(key not in known for key in keys_of(run.responses)) or not set(run.metrics) <= set(judged.metrics)
    return has_grown or any(metric_errors(judged._columns, len(judged)))


def _judge_of(given: Mapping[str, Any], report: "Report | None") -> "Judge":
    """Return the judge of a call, or its panel of several.

    Args:
        given: the options of the call by name, those of the engine parsed.
        report: the report whose model is the judge `self`, on the engine of its run.

    Raises:
        ValueError: a name has no known form, or options of vLLM are given without a judge on vLLM.
    """
    from ..catalogue import judge_named
    from ..judges import Panel

    names = given["judges"]
    model = (report.manifest.get("model") or {}) if report else {}
    is_on_vllm = str(model.get("class", "")).endswith(".VLLMModel")
    itself = None
    if {"weights", "all_weights"} & model.keys():  # a server's model cannot be loaded
        itself = f"{'vllm' if is_on_vllm else 'hf'}:{model.get('name')}"
    engine_of_run = dict(model.get("engine", {})) if is_on_vllm else {}
    resolved = [itself if name == "self" and itself else name for name in names]
    on_vllm = given["engine_option"]
    if on_vllm and not any(name.startswith("vllm:") for name in resolved):
        raise ValueError(f"--engine-option: expected a judge on vLLM (vllm:NAME), got {', '.join(names)}")
    judges = []
    for name, checkpoint in zip(names, resolved, strict=True):
        settings = {field: given[field] for field in ("base_url", "api_key_env", "dtype", "device")}
        if checkpoint.startswith("vllm:"):
            settings |= {"device": None, "options": (engine_of_run if name == "self" else {}) | on_vllm}
        judges.append(judge_named(name, **settings, itself=itself, where="--judge"))
    return judges[0] if len(judges) == 1 else Panel(*judges, rule=PanelRule(given["rule"]).value)


def _rejudged(report: "Report", judge: "Judge", verdicts: Path, names: Sequence[str]) -> "tuple[Report, list[str]]":
    """Return a report judged by another judge, and the columns of some metrics; all others stay unchanged.

    Args:
        report: the report of the thoughts.
        judge: the new judge.
        verdicts: the folder of saved verdicts.
        names: metrics that depend on the judge, to be computed even if the report lacks them.

    Raises:
        ValueError: a metric does not depend on the judge, or is unknown.
    """
    from ..catalogue import judged_metrics
    from ..metrics import JudgedMetric
    from ..metrics.catalogue import metrics_named
    from ..naming import unknown_name
    from .construction import measured

    known = {metric.column: metric for metric in judged_metrics(judge)}
    metrics: dict[str, Metric] = {
        name: metric for name, metric in known.items() if name in report.metrics or name == "consistency"
    }
    columns = []
    for name, metric in zip(names, metrics_named(names, known), strict=True):
        if not isinstance(metric, JudgedMetric):
            raise ValueError(f"--metrics: expected metrics that depend on the judge, {unknown_name(name, known)}")
        metrics[metric.column] = metric.replace(judge=judge)
        columns.append(metric.column)
    judged = measured(report, list(metrics.values()), verdicts)
    judged.manifest["judge"] = judge.identity()
    return judged, columns


@dataclass(frozen=True, slots=True)
class _Agreement:
    """Agreement of two judges on a report's responses.

    Attributes:
        answered: number of answered responses.
        old_verdicts, new_verdicts: number of these with a verdict of each judge on their consistency.
        both: number with a verdict of both; `same` and `kappa` refer to these.
        same: share with the same verdict, in [0, 1].
        kappa: Fleiss' κ, at most 1.
        changed: sample, condition and draw of those with different verdicts.
    """

    answered: int
    old_verdicts: int
    new_verdicts: int
    both: int
    same: float
    kappa: float
    changed: tuple[tuple[str, str, int], ...]


def _agreement(old: "Report", new: "Report") -> _Agreement:
    """Return the agreement of the verdicts in two reports on the same responses."""
    import torch

    from ..functional import fleiss_kappa, strict_agreement

    missing = [float("nan")] * len(old)
    before, after = (
        torch.tensor(list(report.frame.get("consistency", missing)), dtype=torch.float64) for report in (old, new)
    )
    ratings = torch.stack([before, after], dim=1)
    both = ~ratings.isnan().any(dim=1)
    differ = (both & (before != after)).nonzero()[:, 0].tolist()
    responses = new.responses
    return _Agreement(
        answered=int(responses.has_status("answered").sum()),
        old_verdicts=int((~before.isnan()).sum()),
        new_verdicts=int((~after.isnan()).sum()),
        both=int(both.sum()),
        same=strict_agreement(ratings),
        kappa=fleiss_kappa(ratings),
        changed=tuple((responses.sample_id[row], responses.condition[row], int(responses.draw[row])) for row in differ),
    )


def _check(judge: "Judge", path: Path | None, thoughts: Sequence["LabelledThought"] | None, *, json: bool) -> None:
    """Show how well a judge does on labelled thoughts: those given, those of a file, or those of the package."""
    from ..judges import check, labelled_thoughts, read_labelled
    from ..report.formats import Table, terminal_table

    if thoughts is None:
        thoughts = labelled_thoughts() if path is None else read_labelled(path)
    result = check(judge, thoughts)
    if json:
        show_data(as_json(result.to_dict()))
        return
    columns = ("balanced accuracy", "coverage", "wrong", "false alarms", "misses", "named")
    parts = {"all": result, **result.styles}
    rows = [
        (name, str(part.thoughts), *(_rate(part.rates()[column.replace(" ", "_")]) for column in columns))
        for name, part in parts.items()
    ]
    notes = ("Thoughts of the package: written to be hard, not representative of a model.",) if path is None else ()
    show(f"{result.judge}, 95 % intervals in brackets\n")
    show(terminal_table(Table(header=("style", "thoughts", *columns), rows=tuple(rows), notes=notes)))


def _rate(rate: "Rate") -> str:
    if rate.value != rate.value:
        return "–"
    interval = "no interval" if rate.low != rate.low else f"{rate.low:.2f}, {rate.high:.2f}"
    return f"{rate.value:.2f} [{interval}]"


def _locked(folder: Path, file: Path, judges: list[str]) -> AbstractContextManager[Any]:
    """Lock a run directory if verdicts or the judged report will be written to it."""
    is_written = file.resolve().parent == folder.resolve() or set(judges) != {"rules"}
    return DirectoryLock(folder) if folder.is_dir() and is_written else nullcontext()


def _file_name(judges: list[str]) -> str:
    from ..catalogue import slug_of

    return f"report-{'-'.join(map(slug_of, judges))}.parquet"


def _agreement_text(result: _Agreement) -> str:
    lines = [
        f"Verdicts on {result.old_verdicts} → {result.new_verdicts} of {result.answered} answers; "
        f"the same on {_percent(result.same)} of the {result.both} with both, Fleiss' κ {result.kappa:.2f}."
    ]
    for sample, condition, draw in result.changed[:_SHOWN]:
        lines.append(f"  changed: {sample}, {condition}{f', draw {draw}' if draw else ''}")
    if len(result.changed) > _SHOWN:
        lines.append(f"  … and {len(result.changed) - _SHOWN} more")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "–" if share != share else f"{share:.1%}"


def _by_condition(old: "Report", new: "Report") -> "Table":
    """Return consistency and coverage under each condition by both judges."""
    from ..report.formats import Table

    sides = [
        {row["condition"]: row for row in rows_of(report.summary) if row["metric"] == "consistency"}
        for report in (old, new)
    ]
    cells = [
        (
            name,
            *(f"{side[name]['value']:.3f} ({side[name]['coverage']:.0%})" if name in side else "–" for side in sides),
        )
        for name in new.conditions
    ]
    return Table(header=("condition", "consistency before (judged)", "now (judged)"), rows=tuple(cells))
