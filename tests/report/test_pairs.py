"""Test that each printed value has its own n, and each difference its pairs, in all outputs."""

import re

import pytest
from typer.testing import CliRunner

from vlmrobust import Metric, Report, cli
from vlmrobust.metrics import Accuracy, Consistency
from vlmrobust.report import Labels
from vlmrobust.report.overview import values_on_pairs

RIGHT, LOST = 1, {"status": "error", "error": "lost"}


class Half(Metric):
    """Is defined for every other sample under base, and for all under other conditions."""

    is_rate = True

    def per_sample(self, responses):
        known = Accuracy().per_sample(responses)
        for row, (sample, condition) in enumerate(zip(responses.sample_id, responses.condition, strict=True)):
            if condition == "base" and int(sample[1:]) % 2:
                known[row] = float("nan")
        return known


def uneven_report(make_pair):
    """Base is defined on the even 20 of 40 samples, all right; the condition on all, with only the even ones right."""
    pairs = [make_pair(f"s{n}", condition, int(n % 2 == 0)) for n in range(40) for condition in ("base", "x")]
    return Report.from_responses(*zip(*pairs, strict=True), [Half()])


def thinned_report(make_pair):
    """Under base 30 of 40 are answered, 24 right; under the condition 20 failed and 12 of the others are right."""
    pairs = [
        make_pair(f"s{n}", "base", RIGHT if n < 24 else 0) if n < 30 else make_pair(f"s{n}", "base", None, **LOST)
        for n in range(40)
    ]
    pairs += [
        make_pair(f"s{n}", "x", RIGHT if n < 12 else 0) if n < 20 else make_pair(f"s{n}", "x", None, **LOST)
        for n in range(40)
    ]
    return Report.from_responses(*zip(*pairs, strict=True), [Accuracy()])


def cells_after(text, *names):
    """Return the words after some names in the last line that begins with them."""
    lines = [line.split() for line in text.splitlines() if line.split()[: len(names)] == list(names)]
    return lines[-1][len(names) :]


def run_cli(*arguments):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code in (0, 1), result.output  # 1: rows are errors
    return result.stdout


@pytest.mark.parametrize("flags", [["--metrics", "half"], ["--contrast", "x", "base"]])
def test_the_command_line_prints_each_value_with_its_own_n(make_pair, tmp_path, flags):
    path = uneven_report(make_pair).save(tmp_path / "report.jsonl")
    table = run_cli("report", path, *flags)
    value, n, paired, base, difference, *_, pairs, errors = cells_after(table, "x", "half")
    assert (value, n) == ("0.500", "40")
    assert (paired, base, difference, pairs, errors) == ("1.000", "1.000", "+0.000", "20", "0")


def test_uncompared_rows_have_no_pairs(make_pair, tmp_path):
    table = run_cli("report", uneven_report(make_pair).save(tmp_path / "report.jsonl"), "--metrics", "half")
    assert cells_after(table, "base", "half") == ["1.000", "20", "–", "–", "–", "–", "0"]


def test_reports_are_compared_on_common_samples(make_pair, tmp_path):
    this = uneven_report(make_pair).save(tmp_path / "this.jsonl")
    pairs = [
        make_pair(f"s{n}", "x", int(n < 10)) if n < 20 else make_pair(f"s{n}", "x", None, **LOST) for n in range(40)
    ]
    other = Report.from_responses(*zip(*pairs, strict=True), [Half()]).save(tmp_path / "other.jsonl")
    table = run_cli("compare", this, other, "--conditions", "x", "--metrics", "half")
    # Of the first 20 samples, the even ones are right here, the first 10 there.
    value, n, paired, there, difference, *_, count, _ = cells_after(table, "x", "half")
    assert (value, n, paired, there, difference, count) == ("0.500", "40", "0.500", "0.500", "+0.000", "20")


def test_failed_rows_reduce_the_pairs_of_base(make_pair, tmp_path):
    report = thinned_report(make_pair)
    table = run_cli("report", report.save(tmp_path / "report.jsonl"), "--metrics", "accuracy")
    value, n, paired, base, difference, *_ = cells_after(table, "x", "accuracy")
    assert float(paired) - float(base) == pytest.approx(float(difference))
    assert (value, n, paired, base, difference) == ("0.600", "20", "0.600", "1.000", "-0.400")
    assert cells_after(str(report), "x")[-2:] == ["20", "20"]  # n, errors
    assert "x: accuracy on 20 pairs: 0.60, base 1.00" in " ".join(str(report).split())
    assert "20; 20 pairs: 0.600, base 1.000" in report.model_card("m", "d", metrics=["accuracy"]).text


def test_inapplicable_samples_are_in_no_pair(make_pair):
    """Nothing failed and coverage is complete, but base differs on the pairs."""
    pairs = [make_pair(f"s{n}", "base", int(n < 10)) for n in range(40)]
    unfit = {"status": "not_applicable", "error": "too short"}
    pairs += [make_pair(f"s{n}", "x", RIGHT) if n < 20 else make_pair(f"s{n}", "x", None, **unfit) for n in range(40)]
    report = Report.from_responses(*zip(*pairs, strict=True), [Accuracy()])
    assert "20; 20 pairs: 1.000, base 0.500" in report.model_card("m", "d", metrics=["accuracy"]).text
    assert "x: accuracy on 20 pairs: 1.00, base 0.50" in report._overview().notes


def test_the_page_counts_pairs_of_comparisons_only(make_pair):
    page = uneven_report(make_pair).to_html()
    rows = re.findall(r'<tr data-metric="half".*?</tr>', page, re.S)
    texts = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows]
    base, x = ([text.strip() for text in row] for row in texts)
    assert (base[2], base[4], base[5], base[11]) == ("1.000", "20", "–", "–")
    assert (x[2], x[4], x[5], x[6], x[11]) == ("0.500", "40", "1.000", "1.000", "20")


def test_there_is_no_note_if_printed_values_can_be_subtracted(make_pair):
    pairs = [make_pair(f"s{n}", condition, int(n < 20)) for n in range(40) for condition in ("base", "x")]
    report = Report.from_responses(*zip(*pairs, strict=True), [Accuracy()])
    base, x = report.summary.to_dict("records")
    assert values_on_pairs(x, base, 3) == values_on_pairs(base, base, 3) == ""
    assert "pairs" not in str(report)
    assert values_on_pairs(x | {"n": 30}, base, 3) == "30 pairs: 0.500, base 0.500"
    assert values_on_pairs(x | {"n": 30}, base, 3, is_subtracted=False) == ""


def test_consistency_estimates_have_both_values_of_the_difference(make_pair):
    """All thoughts are labelled, so estimates are labelled shares: base has half of the samples, with another share."""
    thoughts = {True: "So the answer is blue.", False: "So the answer is red."}
    pairs = []
    for n in range(80):
        for condition, agrees in (("base", n % 4 > 0), ("x", n < 40 and n % 2 == 0)):
            if condition == "x" or n < 40:
                pairs.append(make_pair(f"s{n:02}", condition, think=thoughts[agrees], own_think=thoughts[agrees]))
    report = Report.from_responses(*zip(*pairs, strict=True), [Consistency()])
    read = [one.labelled(int("blue" in one.thought)) for one in report.draw_labels(100)]
    table = report.consistency(Labels(seed=0, labels=read)).set_index(["condition", "verdict"])
    row = table.loc[("x", "consistent")]
    assert (row["value"], row["labelled"], row["labelled_pairs"]) == (pytest.approx(0.25), 80, 40)
    assert (row["paired_value"], row["base_value"], row["difference"]) == pytest.approx((0.5, 0.75, -0.25))
