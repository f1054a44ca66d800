"""Test the pages of a study: their content, escaping, and look in a real browser."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from vlmrobust.study import StudyResult
from vlmrobust.study.sections import sections

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> | *a* [b](c)"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def failing(finished: StudyResult) -> StudyResult:
    """The finished study with one more run, and one more judgement, that failed with a hostile error."""
    run = replace(finished.run_rows[0], model="broken", status="failed", error=HOSTILE)
    judgement = replace(finished.judgement_rows[0], judge="hf:gone", status="failed", error=HOSTILE)
    result = StudyResult(finished.study, finished.out, [*finished.run_rows, run], [*finished.judgement_rows, judgement])
    vars(result).update(pictures=finished.pictures, _of_runs=finished._of_runs, _of_judges=finished._of_judges)
    return result


def test_every_number_has_its_interval_and_its_n(finished: StudyResult) -> None:
    by_key = {section.key: section for section in sections(finished)}
    for key in ("averages", "accuracy", "consistent-accuracy", "consistency", "probability", "entropy"):
        grid = by_key[key].grid
        assert grid.rows
        for row in grid.rows:
            for cell in row[grid.names :]:
                assert re.fullmatch(
                    r"–.*|−?[\d.]+\xa0\[.+,\xa0.+\](\n[+−][\d.]+\xa0\[.+\])?\nn \d+(, coverage \d+%)?(\n.+)*", cell.text
                ), cell.text
    for row in by_key["quadrants"].grid.rows:
        assert all(re.fullmatch(r"– .+|[\d.]+\xa0\[.+\]\nn \d+", cell.text) for cell in row[5:])
    for row in by_key["survival"].grid.rows:
        assert all(re.search(r"^– .+|\]\nn (\d+) = (\d+) \+ (\d+)", cell.text) for cell in row[5:])


def test_notes_on_what_only_the_table_has_are_said_once_with_their_number(finished: StudyResult) -> None:
    [survival] = [section for section in sections(finished) if section.key == "survival"]
    note = "base_auroc needs a second draw of base"
    count = int(finished.survival["note"].str.contains(note).sum())
    assert count > 1
    assert survival.hint.endswith(f" In survival.csv, {count} of {len(finished.survival)} rows: {note}.")
    assert not any("base_auroc" in cell.text for row in survival.grid.rows for cell in row)


def test_cells_are_the_numbers_of_the_tables(finished: StudyResult) -> None:
    [accuracy] = [section for section in sections(finished) if section.key == "accuracy"]
    assert accuracy.grid.header == ("model", "checkpoint", "benchmark", "base", "wrong think", "wrong caption")
    values = finished.summary.query("metric == 'accuracy'").set_index(["model", "checkpoint", "benchmark", "condition"])
    for row in accuracy.grid.rows:
        names = tuple(cell.text for cell in row[:3])
        for cell, condition in zip(row[3:], ("base", "wrong_think", "wrong_caption"), strict=True):
            found = values.loc[(*names, condition)]
            lines = cell.text.split("\n")
            assert lines[0].startswith(f"{found['value']:.3f}\xa0[{found['value_low']:.3f},")
            assert f"n {found['n']}" in lines
            if condition != "base":
                assert lines[1].startswith(f"{found['difference']:+.3f}\xa0[".replace("-", "−"))
                assert cell.is_quiet == (found["low"] <= 0 <= found["high"])


def test_sentences_are_listed_by_run(finished: StudyResult) -> None:
    [words] = [section for section in sections(finished) if section.key == "findings"]
    assert len(words.grid.rows) == len(finished.run_rows)
    for row, run in zip(words.grid.rows, finished.run_rows, strict=True):
        assert tuple(cell.text for cell in row[:3]) == (run.model, run.checkpoint, run.benchmark)
        here = finished.findings.query("model == @run.model and checkpoint == @run.checkpoint")
        here = here[here["benchmark"] == run.benchmark]
        for cell, is_limit in zip(row[3:], (False, True), strict=True):
            assert cell.text.split("\n") == here.loc[here["is_limit"] == is_limit, "text"].tolist()


def test_the_page_begins_with_the_result(finished: StudyResult, failing: StudyResult) -> None:
    """At most five sentences whose counts are those of the findings, then accuracy; runs and settings come last."""
    top, _, rest = finished.to_html().partition("</header>")
    said = re.findall(r"<li>(.*?)</li>", top)
    assert 2 <= len(said) <= 5
    assert said[0] == "6 of 6 runs finished."
    falls = finished.findings.query("kind == 'falls'")["condition"]
    for condition in falls.unique()[:3]:
        changes = finished.summary.query("metric == 'accuracy' and condition == @condition")["difference"]
        name = condition.replace("_", " ")
        expected = (
            f"Accuracy falls under {name} in {(falls == condition).sum()} of 6 runs, by up to {-changes.min():.3f}."
        )
        assert expected in said
    assert re.findall(r'<section id="([^"]+)"', rest)[0] == "accuracy"
    assert rest.index('id="runs"') < rest.index('id="study"')
    assert "6 of 7 runs finished; the table of runs says what failed." in failing.to_html()
    assert "6 of 6 runs finished" in finished.to_markdown().split("## ")[0]


def test_no_local_path_is_in_its_pages(finished: StudyResult) -> None:
    run = replace(
        finished.run_rows[0], model="/home/somebody/out/step-5", status="failed", error="no /home/somebody/x.png"
    )
    result = StudyResult(finished.study, finished.out, [run], [])
    for told in (result.to_html(), result.to_markdown()):
        assert "somebody" not in told
        assert "step-5" in told
        assert "…/x.png" in told
    assert str(finished.out) not in finished.to_html()


def test_grey_is_explained_where_it_is_used(failing: StudyResult) -> None:
    for section in sections(failing):
        cells = [cell for row in section.grid.rows for cell in row]
        if section.key in ("accuracy", "consistency", "probability", "entropy", "survival"):
            assert "Grey: " in section.hint
        elif any(cell.is_quiet for cell in cells):
            assert "Grey" in section.hint or all(cell.text.startswith("–") for cell in cells if cell.is_quiet)


def test_quadrants_add_up(finished: StudyResult) -> None:
    [quadrants] = [section for section in sections(finished) if section.key == "quadrants"]
    for row in quadrants.grid.rows:
        assert sum(float(cell.text.split("\xa0")[0]) for cell in row[5:]) == pytest.approx(1, abs=0.003)


def test_failures_are_shown_and_escaped(failing: StudyResult) -> None:
    page, text = failing.to_html(), failing.to_markdown()
    assert page.count("&lt;script&gt;window.hacked") == 2
    assert "<script" not in page
    assert text.count("\\<script>window.hacked") == 2
    assert r"\| \*a\* [b\](c)" in text
    assert "6 of 7" in page
    printed = str(failing)
    assert "6 of 7 runs finished" in printed
    assert "<script>" in printed


def test_control_characters_are_escaped(finished: StudyResult) -> None:
    """An error that a server wrote moves no cursor where the page is printed, and turns no line around."""
    run = replace(finished.run_rows[0], status="failed", error="no \x1b[2J file \u202egnp.exe")
    result = StudyResult(finished.study, finished.out, [run], [])
    for told in (result.to_html(), result.to_markdown()):
        assert "\x1b" not in told
        assert "\u202e" not in told
        assert r"\u001b[2J file" in told.replace("\\\\", "\\")


def test_links_lead_to_the_reports(failing: StudyResult) -> None:
    links = re.findall(r'<a href="(runs/[^"]+)"', failing.to_html())
    assert len(links) == 6
    assert all((failing.out / unquote(link)).is_file() for link in links)
    assert all(f"({link})" in failing.to_markdown() for link in links)


def test_a_study_without_a_finished_run_has_a_page(finished: StudyResult) -> None:
    run = replace(finished.run_rows[0], status="failed", error="no such file")
    empty = StudyResult(finished.study, finished.out, [run], [])
    assert empty.to_html().count("No run was finished.") == 8
    assert "Agreement needs two judges." in empty.to_markdown()
    assert empty.summary.columns.tolist() == finished.summary.columns.tolist()
    assert empty.judged.columns.tolist() == finished.judged.columns.tolist()
    assert empty.failed


@pytest.mark.browser
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver, which are not installed")
def test_the_page_in_a_browser(failing: StudyResult, tmp_path: Path) -> None:
    from selenium import webdriver

    options: Any = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    (tmp_path / "study.html").write_text(failing.to_html(), encoding="utf-8")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        driver.get((tmp_path / "study.html").as_uri())
        assert driver.execute_script("return window.hacked === undefined")
        assert driver.execute_script("return document.querySelectorAll('[onerror], script').length") == 0
        drawn = driver.execute_script(
            "return [...document.querySelectorAll('.curves img')].map((it) => it.naturalWidth)"
        )
        assert len(drawn) == 6  # two benchmarks, by themselves and by each judge
        assert min(drawn) > 100
        tables = driver.execute_script("return document.querySelectorAll('table').length")
        assert tables == len(sections(failing))
        for width in (360, 800, 1400):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        beyond = (
            "return [...document.querySelectorAll('tbody td')].map((cell) => cell.getBoundingClientRect())"
            ".filter((box) => box.left < 0 || box.right > 390).length"
        )
        assert driver.execute_script(beyond) == 0
        assert driver.get_log("browser") == []
    finally:
        driver.quit()
