"""`vlmrobust judge`: the thoughts of an existing run, read by another judge."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import typer

from ..catalogue import judge_named, judged_metrics
from ..functional import fleiss_kappa, strict_agreement
from ..judges import Judge, Panel, RuleJudge
from ..locking import DirectoryLock
from ..metrics import JudgedMetric, Metric
from ..metrics.catalogue import metrics_named
from ..naming import unknown_name
from ..report import Report
from ..report.columns import metric_errors
from ..report.contents import keys_of
from . import options
from .app import refusals
from .construction import measured
from .finishing import finish
from .options import PanelRule
from .output import as_json, rows_of, say, show, show_data, show_rows

if TYPE_CHECKING:
    from ..judges import Judge, LabelledThought, Rate
    from ..report import Report
    from ..report.tables import Table

__all__ = ["JUDGED", "Agreement", "agreement", "is_outdated", "judge", "judges_named", "rejudged"]


JUDGED = tuple(metric.column for metric in judged_metrics(RuleJudge()))
"""The metrics that depend on the judge."""


def judges_named(
    names: Sequence[str],
    rule: Literal["majority", "strict", "first_sure"],
    *,
    base_url: str | None,
    api_key_env: str | None,
    dtype: str,
    device: str | None,
    engine: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> Judge:
    """Return the judge of some names, several being a panel.

    Args:
        names: `rules`, `self`, `hf:NAME` (a checkpoint), `vllm:NAME` (one on vLLM), `openai:NAME` (a model behind a
            server).
        rule: how a panel decides.
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: of checkpoints.
        device: of checkpoints that transformers computes.
        engine: options of vLLM.
        report: whose model `self` is, on the engine that computed its answers.

    Raises:
        ValueError: a name is of none of these forms, or there are options of vLLM and nobody to take them.
    """
    model = (report.manifest.get("model") or {}) if report else {}
    is_on_vllm = str(model.get("class", "")).endswith(".VLLMModel")
    itself = None
    if {"weights", "all_weights"} & model.keys():  # what a server runs cannot be loaded
        itself = f"{'vllm' if is_on_vllm else 'hf'}:{model.get('name')}"
    own = dict(model.get("engine", {})) if is_on_vllm else {}
    called = [itself if name == "self" and itself else name for name in names]
    options = dict(engine or {})
    if options and not any(name.startswith("vllm:") for name in called):
        raise ValueError(f"--engine-option: expected it beside a judge on vLLM, got it beside {', '.join(names)}")
    judges = []
    for name, loaded in zip(names, called, strict=True):
        places: dict[str, Any] = {"base_url": base_url, "api_key_env": api_key_env, "dtype": dtype, "device": device}
        if loaded.startswith("vllm:"):
            places |= {"device": None, "options": (own if name == "self" else {}) | options}
        judges.append(judge_named(name, **places, itself=itself, where="--judge"))
    return judges[0] if len(judges) == 1 else Panel(*judges, rule=rule)


def rejudged(report: Report, judge: Judge, verdicts: Path, names: Sequence[str] = ()) -> tuple[Report, list[str]]:
    """Return a report whose thoughts are judged by another judge; all that does not depend on it stays as it was.

    Args:
        report: of the thoughts.
        judge: who reads them.
        verdicts: the folder in which its verdicts are kept.
        names: of metrics that depend on the judge, and are measured though the report lacks them.

    Returns:
        The report, and the columns of the metrics that are named.

    Raises:
        ValueError: a metric does not depend on a judge, or is not known.
    """
    ours = {metric.column: metric for metric in judged_metrics(judge)}
    wanted: dict[str, Metric] = {
        name: metric for name, metric in ours.items() if name in report.metrics or name == "consistency"
    }
    columns = []
    for name, metric in zip(names, metrics_named(names, ours), strict=True):
        if not isinstance(metric, JudgedMetric):
            raise ValueError(f"--metrics: expected metrics that depend on the judge, {unknown_name(name, ours)}")
        wanted[metric.column] = metric.replace(judge=judge)
        columns.append(metric.column)
    again = measured(report, list(wanted.values()), verdicts)
    again.manifest["judge"] = judge.identity()
    return again, columns


def is_outdated(judged: Report, run: Report) -> bool:
    """Return whether a judge failed on some thoughts of a report, or the run has got responses or metrics since."""
    known = set(keys_of(judged.responses))
    has_grown = any(key not in known for key in keys_of(run.responses)) or not set(run.metrics) <= set(judged.metrics)
    return has_grown or any(metric_errors(judged._columns, len(judged)))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges say the same of a report's responses.

    Attributes:
        answered: number of answered responses.
        old_verdicts, new_verdicts: of how many of them each says whether thought and answer are consistent.
        both: of how many both do; `same` and `kappa` are on these.
        same: the share of which they say the same, in [0, 1].
        kappa: Fleiss' κ, at most 1.
        changed: sample, condition and draw of those of which they do not.
    """

    answered: int
    old_verdicts: int
    new_verdicts: int
    both: int
    same: float
    kappa: float
    changed: tuple[tuple[str, str, int], ...]


def agreement(old: Report, new: Report) -> Agreement:
    """Return how far the verdicts of two reports on the same responses agree."""
    missing = [float("nan")] * len(old)
    before, after = (
        torch.tensor(list(report.frame.get("consistency", missing)), dtype=torch.float64) for report in (old, new)
    )
    ratings = torch.stack([before, after], dim=1)
    both = ~ratings.isnan().any(dim=1)
    differ = (both & (before != after)).nonzero()[:, 0].tolist()
    responses = new.responses
    return Agreement(
        answered=int(responses.has_status("answered").sum()),
        old_verdicts=int((~before.isnan()).sum()),
        new_verdicts=int((~after.isnan()).sum()),
        both=int(both.sum()),
        same=strict_agreement(ratings),
        kappa=fleiss_kappa(ratings),
        changed=tuple((responses.sample_id[row], responses.condition[row], int(responses.draw[row])) for row in differ),
    )


_SHOWN = 5


def judge(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A run directory or a saved report; with --check a JSON Lines file of labelled thoughts, by default "
            "those that ship with the package.",
            show_default=False,
        ),
    ] = None,
    *,
    judges: Annotated[
        list[str],
        typer.Option(
            "--judge",
            metavar="JUDGE",
            help="rules, self (the run's own model), hf:NAME (a checkpoint), vllm:NAME (one on vLLM) or openai:NAME (a "
            "model behind a server); several are a panel.",
            autocompletion=options.complete_judges,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The judged report, a new file: Parquet, or lines where it ends in .jsonl. Default: beside the "
            "report, by the judge.",
        ),
    ] = None,
    rule: Annotated[
        PanelRule,
        typer.Option(
            help="How a panel decides: more than half or all name the same option, or the first that names one."
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
            help="Metrics that depend on the judge, by name, separated by commas, to be measured and shown; all of the "
            "report's are measured in any case.",
            autocompletion=options.complete_judged_metrics,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say how good the judge is on labelled thoughts instead.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: labels of the run's own thoughts, as its page exports them."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Judge the thoughts of a run again, and say what has changed. The model is not asked, the run's report stays."""
    with refusals(context):
        from ..judges.measured import title_of
        from ..report import Report
        from ..report.files import LINES, report_file
        from ..report.formats import terminal_table
        from .construction import engine_options

        servers: dict[str, Any] = {"base_url": base_url, "api_key_env": api_key_env, "dtype": dtype, "device": device}
        servers["engine"] = engine_options(engine_option)
        if labels is not None and not (check and path):
            raise ValueError("expected --labels beside --check and the run that they are of, got it without")
        if check and metrics:
            raise ValueError("expected --metrics, or --check, which has measures of its own, got both")
        if check:
            run = None if labels is None or path is None else Report.load(path)
            judging = judges_named(judges, rule.value, **servers, report=run)
            _check(judging, path, None if run is None or labels is None else run.labelled(labels), json=json)
            return
        if path is None:
            raise ValueError("expected a run directory or a saved report, or --check, got neither")
        folder = path if path.is_dir() else path.parent
        name = _named_after(judges)
        file, before = (folder / name, report_file(folder, name)) if out is None else (out, out)
        with _held(folder, file, judges):
            old = Report.load(path)
            there = Report.load(before) if before.exists() else None
            if there is not None and not is_outdated(there, old):
                raise ValueError(f"expected a file that is not there yet, {before} is; name another with --out")
            chosen = judges_named(judges, rule.value, **servers, report=old)
            if there is not None and there.judge != chosen.identity():
                raise ValueError(f"expected a file of this judge, {before} is by another; name another with --out")
            new, names = rejudged(old, chosen, folder / "verdicts", options.listed(metrics))
            new.save(file)
            if out is None:  # as earlier versions wrote it
                file.with_suffix(LINES).unlink(missing_ok=True)
        agreed = agreement(old, new)
        was, now = old.judge, new.judge
        if json:
            rows = new.summary[new.summary["metric"].isin(names or JUDGED)]
            show_data(as_json({"old": was, "new": now, "agreement": asdict(agreed), "summary": rows}))
        else:
            show(f"{title_of(was)} → {title_of(now)}\n{_in_words(agreed)}\n")
            if names:
                show_rows(new.summary, names, csv=False, json=False, judge=now)
            else:
                show(terminal_table(_by_condition(old, new)))
    say(f"The judged report is {file}; vlmrobust report and compare read it")
    finish(new)


def _check(judge: "Judge", path: Path | None, thoughts: Sequence["LabelledThought"] | None, *, json: bool) -> None:
    """Show how good a judge is on labelled thoughts: those given, those of a file, or those that ship."""
    from ..judges import check, labelled_thoughts, read_labelled
    from ..report.formats import Table, terminal_table

    if thoughts is None:
        thoughts = labelled_thoughts() if path is None else read_labelled(path)
    found = check(judge, thoughts)
    if json:
        show_data(as_json(found.to_dict()))
        return
    columns = ("balanced accuracy", "coverage", "wrong", "false alarms", "misses", "named")
    parts = {"all": found, **found.styles}
    rows = [
        (name, str(part.thoughts), *(_rate(part.rates()[column.replace(" ", "_")]) for column in columns))
        for name, part in parts.items()
    ]
    ours = "Thoughts that ship with the package: written to be hard, a figure about no model." if path is None else ""
    show(f"{found.judge}, 95 % intervals in brackets\n")
    show(terminal_table(Table(header=("style", "thoughts", *columns), rows=tuple(rows), notes=(ours,) if ours else ())))


def _rate(rate: "Rate") -> str:
    if rate.value != rate.value:
        return "–"
    known = "no interval" if rate.low != rate.low else f"{rate.low:.2f}, {rate.high:.2f}"
    return f"{rate.value:.2f} [{known}]"


def _held(folder: Path, file: Path, judges: list[str]) -> AbstractContextManager[Any]:
    """Keep runs and other judges out of a run directory that is written into: by verdicts, or by the judged report."""
    is_written = file.resolve().parent == folder.resolve() or set(judges) != {"rules"}
    return DirectoryLock(folder) if folder.is_dir() and is_written else nullcontext()


def _named_after(judges: list[str]) -> str:
    from ..catalogue import slug_of

    return f"report-{'-'.join(map(slug_of, judges))}.parquet"


def _in_words(agreed: "Agreement") -> str:
    """Return what two judges say of the same answers."""
    lines = [
        f"Verdicts on {agreed.old_verdicts} → {agreed.new_verdicts} of {agreed.answered} answers; "
        f"of {agreed.both} on both sides the same: {_percent(agreed.same)}, Fleiss' κ {agreed.kappa:.2f}."
    ]
    for sample, condition, draw in agreed.changed[:_SHOWN]:
        lines.append(f"  changed: {sample}, {condition}{f', draw {draw}' if draw else ''}")
    if len(agreed.changed) > _SHOWN:
        lines.append(f"  … and {len(agreed.changed) - _SHOWN} more")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "–" if share != share else f"{share:.1%}"


def _by_condition(old: "Report", new: "Report") -> "Table":
    """Return consistency and its coverage under each condition, by both judges."""
    from ..report.tables import Table

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
