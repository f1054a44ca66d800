"""Test that a call for part of a study does not replace the page of the whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vlmrobust import Report
from vlmrobust.study import Study, StudyResult
from vlmrobust.study.pages import kept_page

Studies = Callable[..., Study]

pytestmark = pytest.mark.usefixtures("quick", "loaded")

BENCHMARKS = [{"name": name, "data": "rows.jsonl", "limit": limit} for name, limit in (("few", 2), ("more", 3))]
ALL: dict[str, Any] = {
    "models": [{"name": "one", "factory": "models.py:planted"}],
    "benchmarks": BENCHMARKS,
    "conditions": ["base", "wrong_think"],
    "judges": ["rules", "hf:org/contrary"],
    "metrics": ["repetition"],
    "draws": 2,
}


def content(result: StudyResult) -> dict[str, bytes]:
    """Return the files of the whole study."""
    files = [*result.out.glob("study.[hmj]*"), *(result.out / "tables").iterdir(), *result.out.rglob("report.*")]
    files += result.out.rglob("report-*")
    return {str(file.relative_to(result.out)): file.read_bytes() for file in files if ".part" not in file.name}


@pytest.mark.parametrize(
    ("less", "missing"),
    [
        ({"models": [{"name": "other", "factory": "models.py:planted"}]}, "(runs one/few, one/more)"),
        ({"benchmarks": BENCHMARKS[:1]}, "(runs one/more)"),
        ({"benchmarks": [BENCHMARKS[0], BENCHMARKS[1] | {"limit": 2}]}, "(samples of one/more of 3)"),
        ({"conditions": ["base"]}, "(conditions wrong_think)"),
        ({"judges": ["rules"]}, "(judges hf:org/contrary)"),
        ({"metrics": []}, "(metrics repetition)"),
        ({"draws": 1}, "(2 draws)"),
    ],
)
def test_a_smaller_page_does_not_replace_a_larger_one(
    study: Studies, folder: Path, caplog: pytest.LogCaptureFixture, less: dict[str, Any], missing: str
) -> None:
    whole = study(**ALL).run(folder / "out")
    before = content(whole)
    assert len([name for name in before if name.startswith("tables")]) == 8
    part = study(**ALL | less).run(folder / "out")
    assert not part.failed
    assert before.items() <= content(whole).items()
    [warning] = [record.message for record in caplog.records if "its page has more than this call (" in record.message]
    assert missing in warning
    assert warning.endswith("the page of this call is study.part.html")
    page = kept_page(folder / "out")
    assert page.name == "study.part.html"
    assert page.read_text() == part.to_html()
    assert json.loads((folder / "out" / "study.part.json").read_text()) == part.study.model_dump(mode="json")
    saved = pd.read_csv(folder / "out" / "tables.part" / "runs.csv")
    assert saved["responses"].tolist() == part.runs["responses"].tolist()
    caplog.clear()
    again = study(**ALL).run(folder / "out")  # replaces everything, and removes the files of the part
    assert before.items() <= content(again).items()
    assert not caplog.records
    assert not list((folder / "out").rglob("*.part*"))
    assert kept_page(folder / "out").name == "study.html"


def test_a_larger_page_replaces_a_smaller_one(study: Studies, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    study(**ALL | {"benchmarks": BENCHMARKS[:1], "draws": 1}).run(folder / "out")
    whole = study(**ALL).run(folder / "out")
    assert kept_page(folder / "out").read_text() == whole.to_html()
    assert not caplog.records


def test_links_of_a_part_lead_to_the_reports_of_the_part(study: Studies, folder: Path) -> None:
    study(**ALL).run(folder / "out")
    part = study(**ALL | {"conditions": ["base"]}).run(folder / "out")
    assert "(runs/one/few/report.part.html)" in part.to_markdown()
    assert "[the page](study.html)" not in (folder / "out" / "study.part.md").read_text()
    run = folder / "out" / "runs" / "one" / "few"
    assert (run / "report.part.html").is_file()
    judged = {row.file for row in part.judgement_rows if row.benchmark == "few" and row.model == "one"}
    assert judged == {f"runs/one/few/report.part-{name}.parquet" for name in ("rules", "hf-org+contrary")}
    for file in judged:
        assert set(Report.load(folder / "out" / file).conditions) == {"base"}
        whole = file.replace("report.part-", "report-")
        assert set(Report.load(folder / "out" / whole).conditions) == {"base", "wrong_think"}


def test_a_run_that_failed_is_not_missed_and_one_that_fails_now_is_shown(study: Studies, folder: Path) -> None:
    good, broken = {"name": "one", "factory": "models.py:planted"}, {"name": "two", "factory": "models.py:broken"}
    study(**ALL | {"models": [good, broken]}).run(folder / "out")
    study(**ALL | {"models": [good]}).run(folder / "out")
    assert kept_page(folder / "out").name == "study.html"
    study(**ALL | {"models": [{**good, "factory": "models.py:no_model"}]}).run(folder / "out")
    assert kept_page(folder / "out").name == "study.html"
    assert "failed" in (folder / "out" / "study.md").read_text()


def test_unreadable_results_are_overwritten(study: Studies, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "out" / "tables").mkdir(parents=True)
    (folder / "out" / "tables" / "runs.csv").write_text("model\n")
    (folder / "out" / "study.json").write_text('{"conditions": []}\n')
    result = study(**ALL | {"benchmarks": BENCHMARKS[:1]}).run(folder / "out")
    assert (folder / "out" / "study.html").read_text() == result.to_html()
    assert "its results cannot be read" in caplog.text
