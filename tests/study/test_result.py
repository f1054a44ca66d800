"""Test that the tables of a study have the numbers of its reports."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.stats.inter_rater import fleiss_kappa

from vlmrobust import Report, Responses
from vlmrobust.judges import Judge, RuleJudge
from vlmrobust.metrics import ConsistentAccuracy, Metric, default_metrics
from vlmrobust.study import StudyResult
from vlmrobust.study.sections import stepped
from vlmrobust.study.tables import JudgementRow, agreement


def test_every_run_has_its_report_and_all_tables_name_it(finished: StudyResult, contrary: Judge) -> None:
    result = finished
    assert not result.failed
    runs = result.runs
    assert runs[["model", "checkpoint", "step", "benchmark", "samples", "responses"]].to_numpy().tolist() == [
        ["trained", "step 500", "500", "colours", 24, 72],
        ["trained", "step 500", "500", "few", 10, 30],
        ["trained", "step 250", "250", "colours", 24, 72],
        ["trained", "step 250", "250", "few", 10, 30],
        ["other", "", "", "colours", 24, 72],
        ["other", "", "", "few", 10, 30],
    ]
    assert set(runs["status"]) == {"finished"}
    names = ["model", "checkpoint", "benchmark"]
    for row in result.run_rows:
        report = Report.load(result.out / row.folder)
        assert (result.out / row.folder / "report.html").is_file()
        here = (result.summary[names] == [row.model, row.checkpoint, row.benchmark]).all(axis=1)
        own = report.summary[report.summary["metric"].isin(set(result.summary["metric"]))]
        pd.testing.assert_frame_equal(
            result.summary[here].drop(columns=names).reset_index(drop=True), own.reset_index(drop=True)
        )
        here = (result.survival[names] == [row.model, row.checkpoint, row.benchmark]).all(axis=1)
        pd.testing.assert_frame_equal(
            result.survival[here].drop(columns=names).reset_index(drop=True), report.survival()
        )
        here = (result.findings[names] == [row.model, row.checkpoint, row.benchmark]).all(axis=1)
        expected = [(one.condition or "", one.kind, one.is_limit, one.text) for one in report.findings()]
        assert expected
        assert list(result.findings[here].drop(columns=names).itertuples(index=False, name=None)) == expected
        for judge, asked in (("rules", RuleJudge()), ("hf:org/contrary", contrary)):
            expected = report.score([ConsistentAccuracy(judge=asked)]).summary["value"].tolist()
            here = (result.judged[[*names, "judge"]] == [row.model, row.checkpoint, row.benchmark, judge]).all(axis=1)
            found = result.judged[here & (result.judged["metric"] == "consistent_accuracy")]
            assert found["value"].tolist() == pytest.approx(expected, nan_ok=True)
    assert "brier_score" in set(result.summary["metric"])
    assert set(result.summary["metric"]) | set(result.judged["metric"]) == {
        *(metric.column for metric in default_metrics()),
        "brier_score",
        "consistent_accuracy",
    }
    assert not set(result.summary["metric"]) & set(result.judged["metric"])
    saved = {path.stem for path in (result.out / "tables").iterdir()}
    assert saved == {"runs", "judgements", "summary", "judged", "survival", "agreement", "averages", "findings"}
    read = pd.read_csv(result.out / "tables" / "summary.csv")
    assert read["value"].tolist() == pytest.approx(result.summary["value"].tolist(), nan_ok=True)


def test_averages_weigh_every_benchmark_the_same(finished: StudyResult) -> None:
    result = finished
    summary = result.summary.set_index(["model", "checkpoint", "benchmark", "condition", "metric"])["value"]
    for row in result.averages.query("metric == 'accuracy'").to_dict("records"):
        one, other = (
            summary[row["model"], row["checkpoint"], name, row["condition"], "accuracy"] for name in ("colours", "few")
        )
        assert row["value"] == pytest.approx((one + other) / 2)
        assert row["categories"] == 2


def test_curves_are_of_the_checkpoints_in_their_order(finished: StudyResult) -> None:
    assert stepped(finished) == {
        ("trained", "colours"): {250: "step 250", 500: "step 500"},
        ("trained", "few"): {250: "step 250", 500: "step 500"},
    }
    assert [next(iter(steps)) for steps in stepped(finished).values()] == [250, 250]
    titles = [picture.title for picture in finished.pictures]
    assert titles == [
        f"trained, {benchmark}{by}"
        for benchmark in ("colours", "few")
        for by in ("", ", judged by rules", ", judged by hf:org/contrary")
    ]
    assert all(picture.svg.startswith("<?xml") and not picture.missing for picture in finished.pictures)


def judged_reports(result: StudyResult) -> Iterator[tuple[JudgementRow, Report]]:
    for row in result.judgement_rows:
        yield row, Report.load(result.out / row.file)


def test_agreement_is_fleiss_kappa_with_an_interval_over_samples(finished: StudyResult) -> None:
    [row] = finished.agreement.query(
        "model == 'trained' and checkpoint == 'step 500' and benchmark == 'colours'"
    ).to_dict("records")
    assert row["judges"] == "rules & hf:org/contrary"
    reports = [
        report
        for judged, report in judged_reports(finished)
        if (judged.model, judged.checkpoint, judged.benchmark) == ("trained", "step 500", "colours")
    ]
    ratings = np.stack([report.frame["consistency"].to_numpy(dtype=float) for report in reports], axis=1)
    complete = ~np.isnan(ratings).any(axis=1)
    sample = np.array(reports[0].responses.sample_id)[complete]
    ones = ratings[complete].sum(axis=1)

    def kappa(rows: np.ndarray) -> float:
        return float(fleiss_kappa(np.stack([ones[rows], 2 - ones[rows]], axis=1)))

    everything = np.arange(len(ones))
    assert row["n"] == len(ones) > 20
    assert row["strict"] == pytest.approx(float(np.mean(ones != 1)))
    assert row["kappa"] == pytest.approx(kappa(everything))
    chance, names = np.random.default_rng(0), np.unique(sample)
    rows_of = {name: np.flatnonzero(sample == name) for name in names}
    slow = [kappa(np.concatenate([rows_of[name] for name in chance.choice(names, len(names))])) for _ in range(600)]
    low, high = np.quantile(slow, [0.025, 0.975])
    assert row["low"] == pytest.approx(low, abs=0.08)
    assert row["high"] == pytest.approx(high, abs=0.08)


class AlwaysConsistent(Metric):
    name: str = "consistency"

    def per_sample(self, responses: Responses) -> torch.Tensor:
        return torch.ones(len(responses))


def test_undefined_agreement_has_a_note(finished: StudyResult) -> None:
    report = next(judged_reports(finished))[1].score([AlwaysConsistent()])
    same = agreement([report, report], seed=0)
    assert (same["strict"], same["note"]) == (1.0, f"all {same['n']} verdicts are the same: chance alone would agree")
    assert np.isnan(float(same["kappa"]))


class ConsistentAlternately(Metric):
    name: str = "consistency"

    def per_sample(self, responses: Responses) -> torch.Tensor:
        return (torch.arange(len(responses)) % 2).double()


def test_judges_that_never_differ_have_an_interval_and_none_for_kappa(finished: StudyResult) -> None:
    report = next(judged_reports(finished))[1].score([ConsistentAlternately()])
    same = agreement([report, report], seed=0)
    assert (same["strict"], same["kappa"], same["note"]) == (1.0, 1.0, "κ has no interval: no two verdicts differ")
    assert 0.5 < same["strict_low"] < same["strict_high"] == 1.0
    assert np.isnan([float(same["low"]), float(same["high"])]).all()
