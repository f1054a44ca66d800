"""What users see and keep, as text in which dates, versions and paths are left out."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from values import samples

import vlmrobust as vr
from vlmrobust.testing import FakeModel

CONDITIONS = ("stop_think", "wrong_think", "wrong_caption", "abstain_option")
COLOURS = ("red", "blue", "green")


def demo_lines() -> list[str]:
    """Return the summary of the bundled model about two scenes under two of the paper's conditions."""
    conditions = [vr.perturbations.StopThink(), vr.perturbations.WrongThink()]
    report = vr.Evaluator(vr.demo.model(), conditions).run(vr.demo.samples(2, seed=1))
    return [*_summary_lines(report.summary), *(f"frame  {column}" for column in report.frame.columns)]


def report_lines() -> list[str]:
    """Return the tables of a report of a planted model."""
    report = planted_report()
    lines = [f"condition  {name}" for name in report.conditions]
    lines += [f"metric  {name}" for name in report.metrics]
    lines += [f"frame  {column}" for column in report.frame.columns]
    lines += _summary_lines(report.summary)
    for name in ("survival", "hedge_recovery", "robust_accuracy"):
        table = getattr(report, name)()
        lines += [f"{name}  {column}" for column in table.columns]
    lines += [f"headline  {line}" for line in report.headline()]
    lines += [f"finding  {finding.kind}: {finding.text}" for finding in report.findings()]
    return [*lines, *(f"terminal  {line}" for line in str(report).splitlines())]


def page_lines() -> list[str]:
    """Return the page of that report, without scripts, styles and pictures; and the keys of the data in it."""
    with _without_matplotlib():
        page = str(planted_report().to_html(samples=samples(16)))
    [data] = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    page = re.sub(r"<(script|style|svg)\b.*?</\1>", r"<\1>", page, flags=re.DOTALL)
    page = re.sub(r"data:[a-z]+/[^\"]*", "data:", page)
    page = re.sub(r"sha256-[^']*", "sha256", page)
    lines = [line for line in _neutral(page).splitlines() if line.strip()]
    return [*lines, *(f"data  {key}" for key in sorted(set(_keys(json.loads(data)))))]


def study_lines(folder: Path) -> list[str]:
    """Return the page of a study of one planted model at two checkpoints, its tables' heads, and its files."""
    from vlmrobust import Study

    rows = [
        {"id": f"q{n}", "image": "red.png", "question": f"Which is {n}?", "options": COLOURS, "answer": "ABC"[n % 3]}
        for n in range(8)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "red.png").write_bytes(b"not decoded")
    planted = {"opens_images": False, "follow_think": 0.5}
    study = Study(
        models=[
            {
                "name": "planted",
                "factory": "vlmrobust.testing:FakeModel",
                "checkpoints": [
                    {"step": 100, "arguments": {**planted, "accuracy": 0.5}},
                    {"step": 200, "arguments": {**planted, "accuracy": 0.9, "contradict": 0.4}},
                ],
            }
        ],
        benchmarks=[{"name": "boxes", "data": str(folder / "rows.jsonl")}],
        conditions=["base", "wrong_think", "wrong_caption"],
    )
    with _without_matplotlib():
        result = study.run(folder / "out")
    page = _neutral(result.to_markdown().replace(str(folder), "FOLDER"))
    files = sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*"))
    heads = [
        f"{path.name}  {column}"
        for path in sorted((folder / "out").rglob("*.csv"))
        for column in path.read_text(encoding="utf-8").splitlines()[0].split(",")
    ]
    return [*(line for line in page.splitlines() if line.strip()), *heads, *(f"file  {path}" for path in files)]


def planted_report() -> vr.Report:
    """Return a report of a model whose behaviours are planted."""
    from vlmrobust.named_conditions import conditions_named

    from vlmrobust.metrics.catalogue import metrics_named

    model = FakeModel(accuracy=0.75, follow_think=0.5, contradict=0.25, unparsed=0.125, opens_images=False)
    metrics = metrics_named(["accuracy", "correct_probability", "letter_entropy", "consistency"])
    return vr.Evaluator(model, conditions_named(CONDITIONS), metrics).run(samples(16))


def _summary_lines(summary: Any) -> Iterator[str]:
    """Yield one line a number: a new column, condition or metric adds lines and changes none."""
    for row in summary.to_dict("records"):
        for column, value in row.items():
            if column in ("condition", "metric") or value is None or value != value or value == "":
                continue
            text = f"{value:.3f}" if isinstance(value, float) else str(value)
            yield f"{row['condition']}, {row['metric']}, {column}  {text}"


def _keys(data: Any, path: str = "") -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            name = "*" if re.fullmatch(r"q?\d+", key) else key
            yield f"{path}.{name}"
            yield from _keys(value, f"{path}.{name}")
    elif isinstance(data, list):
        for value in data:
            yield from _keys(value, f"{path}[]")


def _neutral(text: str) -> str:
    quote = r"(?:\"|&#34;|&quot;)"
    text = re.sub(rf"({quote}versions{quote}: )\{{.*?\}}", r"\1{}", text, flags=re.DOTALL)
    text = re.sub(r"\d{4}-\d\d-\d\d(T[\d:.+]+)?", "DATE", text)
    return text.replace(vr.__version__, "VERSION")


@contextmanager
def _without_matplotlib() -> Iterator[None]:
    """Leave out the pictures: to draw them takes longer than everything else here together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        yield
