"""Test that a partial report does not replace a run's report (tests/test_merging.py tests that it grows)."""

import logging
import re

import pytest

from vlmrobust.evaluator import Evaluator
from vlmrobust.metrics import Accuracy, CorrectProbability
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.report import Report
from vlmrobust.report.files import last_report_file
from vlmrobust.testing import FakeModel

ALL = [StopThink(), WrongThink()]
METRICS = [Accuracy(), CorrectProbability()]


@pytest.fixture
def samples(make_sample):
    return [make_sample(sample_id=f"q{number}") for number in range(6)]


def run(samples, out, conditions=ALL, metrics=METRICS, draws=1):
    model = FakeModel(opens_images=False, accuracy=0.5)
    return Evaluator(model, conditions, metrics, draws=draws).run(samples, out)


@pytest.mark.parametrize(
    ("less", "message"),
    [
        ({"conditions": [StopThink()]}, r"\(6 of its 18 responses; conditions wrong_think\)"),
        ({"number": 2}, r"\(12 of its 18 responses; samples q2, q3, q4, q5\)"),
        ({"metrics": [Accuracy()]}, r"\(metrics correct_probability\)"),
    ],
)
def test_a_partial_report_does_not_replace_the_full_one(samples, tmp_path, caplog, less, message):
    caplog.set_level(logging.INFO)
    less = dict(less)
    whole = run(samples, tmp_path)
    content = (tmp_path / "report.parquet").read_bytes()
    part = run(samples[: less.pop("number", 6)], tmp_path, **less)
    assert (tmp_path / "report.parquet").read_bytes() == content
    assert Report.load(tmp_path).frame.equals(whole.frame)
    assert last_report_file(tmp_path).name == "report.part.parquet"
    assert Report.load(last_report_file(tmp_path)).summary.equals(part.summary)
    [record] = [record for record in caplog.records if "its report has more than this call names" in record.message]
    assert re.search(message, record.message)


def test_fewer_draws_are_partial_too(samples, tmp_path):
    whole = run(samples, tmp_path, draws=2)
    run(samples, tmp_path)
    assert Report.load(tmp_path).frame.equals(whole.frame)


def test_a_larger_report_replaces_both_files(samples, tmp_path, caplog):
    run(samples[:3], tmp_path, [StopThink()], [Accuracy()])
    run(samples[:2], tmp_path, [StopThink()], [Accuracy()])
    assert last_report_file(tmp_path).name == "report.part.parquet"
    caplog.clear()
    whole = run(samples, tmp_path)
    assert Report.load(tmp_path).frame.equals(whole.frame)
    assert not (tmp_path / "report.part.parquet").exists()
    assert not caplog.records


def test_unreadable_reports_are_overwritten(samples, tmp_path, caplog):
    (tmp_path / "report.jsonl").write_text('{"format": "vlmrobust report 1", "metrics": []}\n{"sample_id": 1}\n')
    whole = run(samples, tmp_path)
    assert Report.load(tmp_path).frame.equals(whole.frame)
    assert "is not a readable report" in caplog.text
