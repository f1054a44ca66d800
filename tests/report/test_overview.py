"""Test the overview of a report, and its headline: which sentences it has, and that numbers equal the summary's."""

import re

import pytest
import torch
from builders import report_of

import vlmrobust as vr
from vlmrobust import Metric, Report
from vlmrobust.metrics import Accuracy, FlipRate, LetterEntropy, default_metrics
from vlmrobust.report.findings import KINDS
from vlmrobust.report.formats import terminal_table
from vlmrobust.report.html import LIMITS, grouped_limits


@pytest.fixture(autouse=True)
def a_terminal_of_120_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def small_report(make_pair):
    pairs = [make_pair(f"s{index}") for index in range(8)]
    pairs += [make_pair(f"s{index}", "wrong_caption_disclaimer", 0 if index < 6 else None) for index in range(7)]
    pairs += [make_pair("s7", "wrong_caption_disclaimer", None, status="error", error="boom")]
    return report_of(pairs)


def test_the_overview_shows_value_change_interval_and_counts(small_report):
    [base, wrong] = [line.split() for line in str(small_report).splitlines()[3:5]]
    assert base[:2] == ["base", "1.00"]
    assert base[-3:] == ["0%/0%", "8", "0"]
    assert wrong[:3] == ["wrong_caption_disclaimer", "0.00", "-1.00"]
    low, high = (float(bound.strip("[,]")) for bound in wrong[3:5])
    assert low <= -1.0 < high < -0.2
    assert wrong[-3:] == ["14%/0%", "7", "1"]


def test_titles_have_the_direction(small_report):
    header = small_report.to_markdown().splitlines()[0]
    assert "accuracy ↑, change [95 % interval]" in header
    assert "follow rate ↓" in header
    assert "letter entropy |" in header


def test_the_overview_fits_120_columns(make_pair):
    pairs = [
        make_pair(f"s{index}", condition) for index in range(3) for condition in ("base", "wrong_think_but+abstain")
    ]
    text = terminal_table(report_of(pairs)._overview(), width=120)
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("condition") == 1


def test_columns_continue_below_in_a_narrow_terminal(small_report):
    text = terminal_table(small_report._overview(), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("wrong_caption_disclaimer") >= 2
    for word in ("accuracy", "consistency", "entropy", "errors"):
        assert word in text


def test_printing_in_a_notebook_gives_text(small_report, monkeypatch):
    expected = str(small_report)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(small_report) == expected


def test_own_metrics_are_shown_beside_the_main_ones(make_pair):
    class Shouting(Metric):
        """Share of texts in capitals."""

        higher_is_better = False

        def per_sample(self, responses):
            return torch.tensor([text.isupper() for text in responses.text])

    table = report_of(
        [make_pair("a", text="A"), make_pair("a", "x", text="b")], [*default_metrics(), Shouting()]
    )._overview()
    assert "shouting ↓" in table.header
    only = report_of([make_pair("a", text="A"), make_pair("a", "x", text="b")], [Shouting()])._overview()
    assert only.header[1] == "shouting ↓,\nchange [95 % interval]"
    assert only.rows[1][1].startswith("0.00 -1.00 [")


def test_notes_say_what_is_missing(make_pair):
    letters = {"option_logprobs": (-2.0, -0.5, -3.0)}
    pairs = [
        make_pair("a", readout="own_thought", **letters),
        make_pair("a", "stop", readout="fixed_prefix", **letters),
    ]
    pairs += [make_pair("a", "rotated", None, status="not_applicable", error="too short")]
    notes = report_of(pairs, [Accuracy(), LetterEntropy()])._overview().notes
    assert "stop: read-outs differ (own_thought under base, fixed_prefix here) – letter_entropy" in notes
    assert "rotated: not applicable to 1 responses" in notes


@pytest.mark.parametrize("turned", [False, True])
def test_values_on_other_samples_than_the_pairs_have_a_note(make_pair, turned):
    """Base is right on 32 of 80; on the 40 that the condition answers, base is right on 32, the condition on 24."""
    lost = {"status": "error", "error": "lost"}
    whole = [make_pair(f"s{n}", "x" if turned else "base", int(n < 32)) for n in range(80)]
    part = [make_pair(f"s{n}", "base" if turned else "x", int(n < 24)) for n in range(40)]
    part += [make_pair(f"s{n}", "base" if turned else "x", None, **lost) for n in range(40, 80)]
    text = " ".join(str(report_of([*part, *whole] if turned else [*whole, *part])).split())
    pair = "0.80, base 0.60" if turned else "0.60, base 0.80"
    assert f"x: accuracy on 40 pairs: {pair}" in text


def test_labels_include_the_carrier(make_pair):
    pairs = [make_pair("a"), make_pair("a", "x", carrier="user_text"), make_pair("b"), make_pair("b", "x")]
    labels = [row[0] for row in report_of(pairs, [Accuracy()])._overview().rows]
    assert labels == ["base", "x [user_text]", "x [assistant_prefill]"]


def test_notebooks_and_terminals_show_the_same_numbers(small_report):
    cells = [cell for row in small_report._overview().rows for cell in row]
    assert all(cell in small_report._repr_html_() for cell in cells)
    assert repr(small_report) == str(small_report)


def test_a_floor_without_an_interval_says_so(make_pair):
    pairs = [make_pair(f"s{index}", draw=draw, group="one") for index in range(3) for draw in (0, 1)]
    note = "noise floor, base against base over 2 draws: flip rate 0.00 [no interval]"
    assert note in report_of(pairs, ["accuracy", "flip_rate"])._overview().notes


# --- headline ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def make_report(make_pair):
    """Return a builder of a report on 60 samples, right under base, with the given number right per condition."""

    def build(**right):
        pairs = [make_pair(f"q{index}") for index in range(60)]
        for condition, count in right.items():
            pairs += [make_pair(f"q{index}", condition, 1 if index < count else 0) for index in range(60)]
        prompts, responses = zip(*pairs, strict=True)
        return Report.from_responses(prompts, responses, [Accuracy(), FlipRate()])

    return build


def test_falls_share_a_sentence_that_names_the_largest(make_report):
    report = make_report(mild=40, bad=6, same=60)
    first, second = report.headline()
    row = report.summary.query("condition == 'bad' and metric == 'accuracy'").iloc[0]
    assert first.startswith("Accuracy falls under 2 of 3 conditions, most under bad: from 1.00 to 0.10, by 0.90 [")
    assert [float(end) for end in re.findall(r"\d\.\d\d(?=[,\]])", first)][-2:] == [
        round(-row["high"], 2),
        round(-row["low"], 2),
    ]
    same = report.summary.query("condition == 'same' and metric == 'accuracy'").iloc[0]
    assert second == (
        f"Accuracy can't be told from base under same; a fall of up to {-same['low']:.2f} is not excluded."
    )


def test_base_alone_gives_its_accuracy(make_report):
    assert make_report().headline() == (
        "Accuracy under base is 1.00 [0.94, 1.00] (n = 60); no condition is compared with it.",
    )


def test_there_are_at_most_five_sentences(make_report):
    many = {f"c{index}": index for index in range(0, 61, 3)}
    assert len(make_report(**many).headline()) <= 5
    assert "21 conditions" in make_report(**dict.fromkeys(many, 60)).headline()[0]


def test_an_empty_report_has_no_headline():
    assert Report.from_responses([], []).headline() == ()


def test_patterns_name_the_condition():
    model = vr.testing.FakeModel(accuracy=1.0, follow_think=1.0)
    report = vr.Evaluator(model, [vr.perturbations.WrongThink()]).run(vr.demo.samples(60))
    assert report.headline()[1].startswith("Brittle under wrong_think: ")


def test_every_kind_of_limit_has_a_group():
    kinds = list(KINDS)
    limits = kinds[kinds.index("form") :]
    assert sorted(kind for of_group in LIMITS.values() for kind in of_group) == sorted(limits)


def test_grouping_keeps_all_limits(make_report):
    report = make_report(bad=6)
    groups = grouped_limits(report.findings())
    sentences = [text for texts in groups.values() for text in texts]
    assert sorted(sentences) == sorted(finding.text for finding in report.findings() if finding.is_limit)
    assert "Chance" in groups
