"""Test findings on models with planted behaviour."""

import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from builders import make_samples

from vlmrobust import Evaluator, Report, Response, expand
from vlmrobust.metrics import (
    AbstainRate,
    Accuracy,
    Consistency,
    FlipRate,
    FollowRate,
    LetterEntropy,
    TruncatedRate,
    UnparsedRate,
)
from vlmrobust.perturbations import (
    AbstainOption,
    CorrectCaption,
    CorrectThink,
    NeutralCaption,
    NeutralThink,
    Spacing,
    StopThink,
    WrongCaption,
    WrongThink,
)
from vlmrobust.report.findings import KINDS
from vlmrobust.testing import FakeModel

N = 60
METRICS = [
    Accuracy(),
    Consistency(),
    FollowRate(),
    FlipRate(),
    TruncatedRate(),
    UnparsedRate(),
    AbstainRate(),
    LetterEntropy(),
]


class Planted:
    """Behaves in one way without a prefill, and in another with one."""

    def __init__(self, alone=None, begun=None, **both):
        self.alone, self.begun = (FakeModel(opens_images=False, **both, **(own or {})) for own in (alone, begun))

    def respond(self, prompts):
        return [(self.begun if prompt.prefill else self.alone).respond([prompt])[0] for prompt in prompts]


def make_report(model, conditions, draws=1, n=N, question="Which?", **options):
    samples = make_samples(n, images=[b"x"], question=question, **options)
    return Evaluator(model, conditions, METRICS, draws=draws, batch_size=n).run(samples)


def findings_by_kind(report, **options):
    found = {}
    for finding in report.findings(**options):
        assert finding.kind in KINDS
        assert str(finding) == finding.text
        found.setdefault(finding.kind, []).append(finding)
    return found


def row_of(report, condition, metric):
    [found] = [row for row in report._rows if (row.condition, row.metric) == (condition, metric)]
    return found


def change_text(row):
    low, high = sorted(abs(limit) for limit in (row.low, row.high))
    return f"{abs(row.difference):.2f} [{low:.2f}, {high:.2f}] (n = {row.n})"


def test_a_model_that_follows_the_wrong_thought_falls_and_is_brittle():
    report = make_report(FakeModel(accuracy=1, follow_think=0.95, opens_images=False), [WrongThink(), CorrectThink()])
    found = findings_by_kind(report)
    accuracy, follow, consistency = (
        row_of(report, "wrong_think", name) for name in ("accuracy", "follow_rate", "consistency")
    )
    [falls] = found["falls"]
    assert falls.text == f"wrong_think: accuracy falls by {change_text(accuracy)}."
    assert (falls.condition, falls.is_limit) == ("wrong_think", False)
    [brittle] = found["brittle"]
    assert brittle.text == (
        f"wrong_think: brittle. Accuracy falls by more than 0.10 ({accuracy.difference:+.2f} [{accuracy.low:+.2f}, "
        f"{accuracy.high:+.2f}], n = 60), the asserted wrong option is answered in {follow.value:.2f} "
        f"[{follow.value_low:.2f}, {follow.value_high:.2f}] of the samples (base: 0.00; n = 60), and the thought "
        f"concludes the answer in {consistency.value:.2f} [{consistency.value_low:.2f}, {consistency.value_high:.2f}] "
        "of the judged responses (n = 60): it follows the wrong thought consistently to the wrong answer."
    )
    assert "stubborn" not in found
    [undecided] = found["undecided"]
    control = row_of(report, "correct_think", "accuracy")
    assert undecided.text == (
        f"correct_think: accuracy can't be told from base: +0.00 [{control.low:+.2f}, {control.high:+.2f}] (n = 60); a "
        f"fall of up to {-control.low:.2f} is not excluded."
    )


def test_a_model_that_ignores_its_prefilled_thought_is_a_stubborn_expert():
    model = Planted(begun={"contradict": 1}, accuracy=1, follow_think=0)
    report = make_report(model, [WrongThink(), NeutralThink()])
    found = findings_by_kind(report)
    accuracy, consistency = (row_of(report, "wrong_think", name) for name in ("accuracy", "consistency"))
    [stubborn] = found["stubborn"]
    assert stubborn.text == (
        f"wrong_think: a stubborn expert. Accuracy is kept within 0.10 of base (+0.00 [{accuracy.low:+.2f}, "
        f"{accuracy.high:+.2f}], n = 60), while the thought concludes the answer in 0.00 [0.00, "
        f"{consistency.value_high:.2f}] of the judged responses only (n = 60; against base -1.00 "
        f"[-1.00, {consistency.high:+.2f}], n = 60): it is right against its own begun thought."
    )
    assert "brittle" not in found
    # A neutral thought has no assertion to be stubborn against.
    assert [one.condition for one in found["stubborn"]] == ["wrong_think"]


def test_interval_ends_and_margin_decide():
    model = Planted(begun={"contradict": 1}, accuracy=1, follow_think=0)
    few = make_report(model, [WrongThink()], n=8)
    # Nothing fell, but with 8 samples a fall of 0.1 is not excluded.
    assert row_of(few, "wrong_think", "accuracy").difference == 0
    assert "stubborn" not in findings_by_kind(few)
    [neither] = findings_by_kind(few)["neither"]
    assert neither.text.startswith(
        "wrong_think: neither a stubborn expert nor brittle by these intervals: accuracy +0.00 [-0.32, +0.32], the "
        "wrong option answered in 0.00 [0.00, 0.32], consistency 0.00 [0.00, 0.32] (n = 8, 8, 8)."
    )
    assert "stubborn" in findings_by_kind(few, margin=0.5)
    for margin in (0, 1):
        with pytest.raises(ValueError, match=f"field 'margin': expected a number between 0 and 1, got {margin}"):
            few.findings(margin=margin)


@pytest.mark.parametrize(
    "model",
    [
        FakeModel(accuracy=1, follow_think=0, opens_images=False),  # ignores the thought, and concludes what it answers
        FakeModel(accuracy=1, follow_think=0, contradict=1, opens_images=False),  # inconsistent under base as well
        FakeModel(accuracy=1, follow_think=0.5, opens_images=False),
        Planted(begun={"contradict": 1}, accuracy=1, follow_think=1),  # wrong, but not by its thought
    ],
)
def test_other_models_are_neither(model):
    found = findings_by_kind(make_report(model, [WrongThink()]))
    assert len(found["neither"]) == 1
    assert not {"stubborn", "brittle"} & set(found)


def test_following_captions_is_not_called_brittle():
    found = findings_by_kind(make_report(FakeModel(accuracy=1, opens_images=False), [WrongCaption()]))
    assert set(found) == {"falls", "no_control", "one_draw", "judged"}
    assert found["no_control"][0].text == (
        "wrong_caption: no true or neutral text of the same form was asked, so a fall may come from the form, not from "
        "what the text says."
    )
    assert found["no_control"][0].is_limit
    assert "no_control" not in findings_by_kind(
        make_report(FakeModel(opens_images=False), [WrongCaption(), CorrectCaption()])
    )


@pytest.mark.parametrize("question", ["Which?", 'Is it "red", blue\nor green?'])
def test_a_text_is_located_by_its_assertion(question):
    def found(*conditions, **texts):
        return findings_by_kind(
            make_report(FakeModel(accuracy=1, opens_images=False), conditions, question=question, texts=texts)
        )

    # Neither a prefilled thought without an assertion nor a quoted question turns a caption into a thought.
    for begun in (NeutralThink(), StopThink()):
        captioned = found(WrongCaption() + begun, CorrectCaption())
        assert not {"brittle", "stubborn", "neither", "no_control"} & set(captioned)
    for begun in (WrongThink(), WrongThink(hedge="but I think"), NeutralCaption() + WrongThink()):
        thought = found(begun, CorrectCaption())
        assert len(thought["brittle"]) == len(thought["no_control"]) == 1
    # A thought in the sample's own words need not name the option.
    assert found(WrongThink(), wrong_think=dict.fromkeys(range(3), "It is the other one."))["brittle"]


def test_a_true_text_may_help_or_harm_by_its_form():
    helped = findings_by_kind(make_report(FakeModel(accuracy=0.3, opens_images=False), [CorrectThink()]))
    assert helped["rises"][0].text.startswith("correct_think: accuracy rises by ")
    model = Planted(alone={"accuracy": 1}, begun={"accuracy": 0.3, "follow_think": 0})
    [form] = findings_by_kind(make_report(model, [CorrectThink()]))["form"]
    assert re.match(r"correct_think: accuracy falls by 0\.\d+ \[.*\] \(n = 60\) although the text asserts", form.text)
    assert form.is_limit
    # Truncated answers are not wrong choices: no cause is given if a count contradicts it.
    cut = findings_by_kind(make_report(Planted(begun={"truncated": 1}, accuracy=1), [CorrectThink()]))
    assert "form" not in cut
    assert cut["truncation"][0].text.startswith("correct_think: 1.00 of the answers were cut off")


def test_flips_are_compared_with_the_noise_floor():
    noisy = make_report(
        FakeModel(accuracy=1, follow_caption=0, guess=0.6, opens_images=False), [WrongCaption()], draws=4
    )
    found = findings_by_kind(noisy)
    flips = row_of(noisy, "wrong_caption", "flip_rate")
    [by_chance] = found["flips_by_chance"]
    assert by_chance.text == (
        f"wrong_caption: {flips.value:.2f} of the answers flip (n = 60), which sampling alone may do: "
        f"{flips.difference:+.2f} [{flips.low:+.2f}, {flips.high:+.2f}] against the noise floor of "
        f"{flips.noise_floor:.2f}."
    )
    assert not {"flips", "one_draw"} & set(found)
    greedy = make_report(FakeModel(accuracy=1, opens_images=False), [WrongCaption()], draws=4)
    [flip] = findings_by_kind(greedy)["flips"]
    assert flip.text == (
        "wrong_caption: 1.00 of the answers flip (n = 60), +1.00 [+0.94, +1.00] above the noise floor of 0.00."
    ).replace("+0.94", f"{row_of(greedy, 'wrong_caption', 'flip_rate').low:+.2f}")


def test_a_change_with_objections_is_weak():
    report = make_report(FakeModel(accuracy=1, follow_caption=0.2, opens_images=False), [WrongCaption()])
    found = next(
        index for index, row in enumerate(report._rows) if row.metric == "accuracy" and row.condition != "base"
    )
    strong = report._rows[found]
    assert findings_by_kind(report)["falls"]

    def with_row(**changes):
        rows = [*report._rows[:found], replace(strong, **changes), *report._rows[found + 1 :]]
        return findings_by_kind(Report(report.responses, report._columns, summary=rows))

    [corrected] = with_row(p=0.08)["weak"]
    assert corrected.text.endswith("; but corrected for the number of comparisons p = 0.08.")
    # The interval includes the noise of draws already.
    assert with_row(noise_floor=0.2)["falls"]


def test_all_tests_of_a_report_are_corrected_jointly():
    """Four conditions and two metrics: eight p-values of 0.007 are 0.056 after Holm."""
    model = FakeModel(accuracy=1, follow_caption=0.5, guess=0.1, opens_images=False)
    report = make_report(model, [WrongCaption(name=f"caption {place}") for place in range(4)], draws=2)
    rows = [replace(row, p=0.007) if row.metric in ("accuracy", "flip_rate") else row for row in report._rows]
    found = findings_by_kind(Report(report.responses, report._columns, summary=rows))
    assert len(found["weak"]) == len(found["flips_by_chance"]) == 4
    assert not {"falls", "flips"} & set(found)


@pytest.mark.parametrize("draws", [1, 3])
def test_false_findings_occur_in_at_most_5_percent_of_chance_reports(draws):
    """150 runs of one sampler under base and five conditions: false findings in at most 5 %, plus sampling error."""
    names = [f"x{place}" for place in range(5)]
    samples = make_samples(24, images=[b"x"], options=("a", "b"), answer=0)
    conditions = [Spacing(name=name) for name in names]
    prompts = list(expand(samples, conditions, draws=draws))
    false = 0
    for seed in range(150):
        generator = np.random.default_rng(seed)
        chance = {sample.id: generator.beta(4, 2) for sample in samples}
        responses = [
            Response(
                sample_id=prompt.sample.id,
                condition=prompt.condition,
                draw=prompt.draw,
                text="x",
                answer=int(generator.random() > chance[prompt.sample.id]),
                status="answered",
            )
            for prompt in prompts
        ]
        report = Report.from_responses(prompts, responses, [Accuracy(), FlipRate()])
        false += bool({"falls", "rises", "flips"} & set(findings_by_kind(report)))
    assert false <= 150 * (0.05 + 3 * math.sqrt(0.05 * 0.95 / 150))


def test_abstaining_is_reported_and_is_not_an_effect_of_form():
    model = Planted(begun={"abstain": 0.6}, accuracy=1, follow_think=0)
    report = make_report(model, [AbstainOption() + CorrectThink(), CorrectThink()])
    name = "abstain_option+correct_think"
    share = row_of(report, name, "abstain_rate").value
    assert share > 0.4
    found = findings_by_kind(report)
    [finding] = found["abstention"]
    assert finding.condition == name
    assert finding.text.startswith(f"{name}: {share:.2f} [")
    assert f"so up to {share:.2f} of the fall of {share:.2f} in accuracy may be abstaining" in finding.text
    assert "form" not in found
    assert "abstained/ unparsed/ truncated" in " ".join(report._overview().header)
    assert f"{share:.0%}/0%/0%" in str(report)


def test_inconsistent_thoughts_under_base_are_reported():
    found = findings_by_kind(make_report(FakeModel(accuracy=1, contradict=1, opens_images=False), []))
    [finding] = found["inconsistent"]
    assert finding.text.startswith(
        "base: the thought concludes the answer in 0.00 [0.00, 0.06] of the 60 judged responses"
    )
    assert not finding.is_limit
    assert "inconsistent" not in findings_by_kind(make_report(FakeModel(accuracy=1, opens_images=False), []))


def test_conditions_with_the_same_limit_share_a_sentence():
    found = findings_by_kind(
        make_report(Planted(begun={"unparsed": 0.5}), [WrongThink(), CorrectThink(), NeutralThink()])
    )
    [coverage] = found["coverage"]
    assert coverage.text.startswith("wrong_think, correct_think, neutral_think: the judge has a verdict on 0.")
    assert coverage.condition is None


def test_truncation_may_explain_a_fall():
    report = make_report(Planted(begun={"truncated": 0.5}, accuracy=1, follow_think=0), [WrongThink()])
    share = row_of(report, "wrong_think", "truncated_rate").value
    [cut] = findings_by_kind(report)["truncation"]
    assert cut.text == (
        f"wrong_think: {share:.2f} of the answers were cut off and 0.00 can't be read (n = 60; base: 0.00 together); "
        f"they count as wrong, so up to {share:.2f} of the fall of {share:.2f} in accuracy may be the token limit "
        "or the format, no wrong choice."
    )
    base = findings_by_kind(make_report(FakeModel(accuracy=1, truncated=0.5, opens_images=False), []))
    assert base["truncation"][0].text.startswith("base: 0.")
    assert "so accuracy may be up to 0." in base["truncation"][0].text
    assert "truncation" not in findings_by_kind(make_report(FakeModel(accuracy=1, opens_images=False), [WrongThink()]))


def test_an_increased_status_may_explain_a_fall_even_if_another_decreased():
    alone, begun = {"accuracy": 1, "truncated": 0.3}, {"follow_think": 1, "unparsed": 0.2}
    report = make_report(Planted(alone=alone, begun=begun), [WrongThink()])
    truncated, unparsed = (row_of(report, "wrong_think", f"{name}_rate") for name in ("truncated", "unparsed"))
    assert unparsed.low > 0 > truncated.high
    assert unparsed.difference + truncated.difference < 0
    [cut] = [one for one in findings_by_kind(report)["truncation"] if one.condition == "wrong_think"]
    # Some unreadable answers were wrong under base too, and do not contribute to the fall.
    rows = list(zip(report.responses.sample_id, report.responses.condition, report.responses.status, strict=True))
    right = (report.responses.choice == report.responses.target).tolist()
    before = {sample: right[place] for place, (sample, condition, _) in enumerate(rows) if condition == "base"}
    lost = sum(
        before[sample] for sample, condition, status in rows if (condition, status) == ("wrong_think", "unparsed")
    )
    assert 0 < lost < 60 * unparsed.value
    assert f"so up to {lost / 60:.2f} of the fall" in cut.text


def test_unjudged_conditions_are_reported():
    silent = findings_by_kind(make_report(FakeModel(opens_images=False), [StopThink()]))
    assert [one.text for one in silent["coverage"]] == [
        "stop_think: the judge has no verdict on any response: consistency says nothing here."
    ]
    fewer = findings_by_kind(make_report(Planted(begun={"unparsed": 0.5}), [WrongThink()]))
    [coverage] = fewer["coverage"]
    assert coverage.text.startswith("wrong_think: the judge has a verdict on 0.")
    assert coverage.text.endswith(
        " of the responses (base: 1.00): consistency is about those, and says nothing of the others; a change of it is "
        "about the pairs that have two."
    )


def test_read_outs_carriers_errors_and_few_groups_are_limits(make_pair):
    letters = {"option_logprobs": (-2.0, -0.5, -3.0)}
    pairs = [make_pair(f"s{i}", readout="own_thought", group="g", **letters) for i in range(4)]
    pairs += [make_pair(f"s{i}", "x", i, readout="direct", carrier="user_text", group="g", **letters) for i in range(3)]
    pairs += [make_pair("s3", "x", None, group="g", status="error", error="lost")]
    pairs += [make_pair("s3", "y", None, group="g", status="not_applicable", error="does not fit")]
    found = findings_by_kind(Report.from_responses(*zip(*pairs, strict=True)))
    assert [one.text for one in found["carrier"]] == [
        "x [user_text]: the text was put into the user's turn, not into the assistant's: not the same condition as one "
        "that was prefilled, and not to be compared with it."
    ]
    assert found["readouts"][0].text.startswith("x [user_text]: P(correct), P(correct) with added, distractor ")
    assert found["readouts"][0].text.endswith(
        ": read-outs differ (own_thought under base, direct here); these are different quantities."
    )
    assert [one.text for one in found["left_out"]] == [
        "x [user_text]: failed responses: 1. They are in no number.",
        "y: prompts that the condition does not fit: 1. They are in no number.",
    ]
    assert found["few_groups"][0].text == (
        "Independent groups of samples: 1. Below about 50, take every interval as rough."
    )
    assert [one.text for one in found["undefined"]] == [
        "x [user_text]: accuracy can't be compared with base: too few for an interval: 1 group.",
        "y: accuracy can't be compared with base: defined for no sample both under base and here.",
    ]


def test_a_single_draw_is_a_limit():
    [one] = findings_by_kind(make_report(FakeModel(opens_images=False), []))["one_draw"]
    assert one.text.startswith("Each prompt was asked once: how many answers flip by sampling alone is not known.")
    assert one.condition is None


def test_findings_depend_on_the_metrics():
    report = make_report(FakeModel(accuracy=1, opens_images=False), [WrongThink()])
    assert "brittle" not in findings_by_kind(report.score([Accuracy(), FollowRate()]))
    assert set(findings_by_kind(report.score([Consistency()]))) == {"no_control", "one_draw", "judged"}
    assert Report.from_responses([], []).findings() == ()


def test_findings_on_the_page_are_escaped(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # pictures take their time, and are tested elsewhere
    hostile = "<script>alert(1)</script>"
    report = make_report(FakeModel(accuracy=1, opens_images=False), [WrongThink(name=hostile)])
    page = report.to_html()
    assert hostile not in page.split("<script id=")[0]
    for finding in report.findings():
        assert finding.text.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in page
    assert page.index("Every condition against base") < page.index("In words")
    assert "What can't be concluded" in page


def test_a_saved_report_has_the_same_findings(tmp_path):
    report = make_report(
        FakeModel(accuracy=0.8, follow_think=0.7, guess=0.2, opens_images=False), [WrongThink()], draws=2
    )
    report.save(tmp_path)
    assert Report.load(tmp_path).findings() == report.findings()
    assert not any("nan" in finding.text for finding in report.findings())


def test_losses_are_counted_by_pair(make_pair):
    """As many abstain as under base, but on other samples: all losses are abstentions, none an effect of form."""
    pairs = []
    for number in range(100):
        pairs.append(make_pair(f"s{number:02d}", "base", None if number < 30 else 1, **abstained_fields(number < 30)))
        begun = None if 30 <= number < 60 else 0 if number < 30 else 1
        prompt, response = make_pair(f"s{number:02d}", "x", begun, **abstained_fields(30 <= number < 60))
        pairs.append((prompt.replace(context="The answer is blue.", asserted=1), response))
    found = findings_by_kind(Report.from_responses(*zip(*pairs, strict=True), METRICS))
    assert "form" not in found
    [finding] = [one for one in found["abstention"] if one.condition == "x"]
    assert finding.text.endswith("so up to 0.30 of the fall of 0.30 in accuracy may be abstaining, no wrong choice.")


def abstained_fields(is_so):
    return {"status": "abstained"} if is_so else {}


def test_stubborn_is_subject_to_the_correction():
    model = Planted(begun={"contradict": 1}, accuracy=1, follow_think=0)
    report = make_report(model, [WrongThink()])
    place = next(i for i, r in enumerate(report._rows) if (r.condition, r.metric) == ("wrong_think", "consistency"))
    rows = [*report._rows]
    rows[place] = replace(rows[place], p=0.04)
    assert "stubborn" not in findings_by_kind(Report(report.responses, report._columns, summary=rows))


def findings_of_unanswered(make_pair, status, count, wrong, n, draws_of_group=1):
    """Findings for a neutral text: of n samples the first `count` have that status, the next `wrong` are wrong."""
    pairs = []
    for number in range(n):
        name, group = f"s{number:03d}", f"g{number // draws_of_group:03d}"
        pairs.append(make_pair(name, group=group))
        lost = {"status": status} if number < count else {}
        choice = None if number < count else 0 if number < count + wrong else 1
        pairs.append(make_pair(name, "neutral_x", choice, group=group, **lost))
    return findings_by_kind(Report.from_responses(*zip(*pairs, strict=True), METRICS))


@pytest.mark.parametrize(("count", "wrong", "n"), [(2, 8, 20), (2, 5, 12), (9, 20, 100), (5, 40, 100)])
def test_abstention_and_truncation_explain_a_fall_alike(make_pair, count, wrong, n):
    part, fall = count / n, (count + wrong) / n
    for status, kind in (("abstained", "abstention"), ("truncated", "truncation")):
        [finding] = findings_of_unanswered(make_pair, status, count, wrong, n)[kind]
        assert f"so up to {part:.2f} of the fall of {fall:.2f} in accuracy may be " in finding.text


def test_zero_abstention_is_not_mentioned(make_pair):
    assert not {"abstention", "truncation"} & set(findings_of_unanswered(make_pair, "abstained", 0, 10, 40))
    assert "abstention" not in findings_of_unanswered(
        make_pair, "abstained", 1, 12, 40
    )  # 0.03, which is not set apart from none


@pytest.mark.parametrize(("status", "kind"), [("abstained", "abstention"), ("truncated", "truncation")])
def test_with_few_groups_unanswered_shares_decide(make_pair, status, kind):
    found = findings_of_unanswered(make_pair, status, 122, 0, 200, draws_of_group=50)
    assert found["undefined"][0].text.endswith("too few for an interval: 4 groups.")
    [finding] = found[kind]
    assert finding.text.startswith("neutral_x: 0.61 ")
    assert "nan" not in finding.text
    assert kind not in findings_of_unanswered(make_pair, status, 8, 0, 200, draws_of_group=50)  # 0.04


def test_conditions_without_a_verdict_share_a_sentence(make_pair):
    names = ["base", *(f"c{number}" for number in range(5))]
    pairs = [make_pair(f"s{number}", name) for number in range(20) for name in names]
    found = findings_by_kind(Report.from_responses(*zip(*pairs, strict=True), METRICS))
    assert [(one.condition, one.text) for one in found["coverage"]] == [
        (None, "base, c0, c1, c2, c3, c4: the judge has no verdict on any response: consistency says nothing here.")
    ]


def test_incomparable_conditions_and_equal_counts_share_a_sentence(make_pair):
    lost = {"status": "error", "error": "lost"}
    pairs = [make_pair(f"s{number}", group=f"g{number % 3}") for number in range(30)]
    for name, missing in (("a", 2), ("b", 2), ("c", 4)):
        pairs += [
            make_pair(f"s{n}", name, None, group=f"g{n % 3}", **lost)
            if n < missing
            else make_pair(f"s{n}", name, group=f"g{n % 3}")
            for n in range(30)
        ]
    found = findings_by_kind(Report.from_responses(*zip(*pairs, strict=True), [Accuracy()]))
    assert [one.text for one in found["undefined"]] == [
        "a, b, c: accuracy can't be compared with base: too few for an interval: 3 groups."
    ]
    assert [one.text for one in found["left_out"]] == [
        "a, b: failed responses: 2 each. They are in no number.",
        "c: failed responses: 4. They are in no number.",
    ]


def test_brittle_gives_the_base_rate_of_the_asserted_option(make_pair):
    """The text asserts option 2, which 15 of 60 answer under base too; nobody answers the distractor."""
    pairs = []
    for number in range(60):
        own, begun = ({"think": thought, "own_think": thought} for thought in ("So it is blue.", "So it is green."))
        pairs.append(make_pair(f"s{number:02d}", "base", 2 if number < 15 else 1, **own))
        prompt, response = make_pair(f"s{number:02d}", "x", 2, **begun)
        pairs.append((prompt.replace(prefill="<think>The answer is green.", asserted=2), response))
    found = findings_by_kind(Report.from_responses(*zip(*pairs, strict=True), METRICS))
    [brittle] = found["brittle"]
    assert "is answered in 1.00 [0.94, 1.00] of the samples (base: 0.25; n = 60)" in brittle.text


def test_brittle_gives_both_values_if_base_lacks_samples(make_pair):
    pairs = []
    for number in range(60):
        own, begun = ({"think": thought, "own_think": thought} for thought in ("So it is blue.", "So it is red."))
        lost = {"status": "error", "error": "lost"} if number < 20 else own
        pairs.append(make_pair(f"s{number:02d}", "base", None if number < 20 else 1, **lost))
        prompt, response = make_pair(f"s{number:02d}", "x", 1 if number < 4 else 0, **begun)
        pairs.append((prompt.replace(prefill="<think>The answer is red.", asserted=0), response))
    [brittle] = findings_by_kind(Report.from_responses(*zip(*pairs, strict=True), METRICS))["brittle"]
    assert " of the samples (n = 60; on 40 pairs 1.00, base: 0.00)" in brittle.text
