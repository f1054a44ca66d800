"""Test breakdowns of a report, concatenated reports, and macro averages."""

import math
import sys

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from vlmrobust import Evaluator, Report, Sample, Style
from vlmrobust.functional import average_interval, paired_interval
from vlmrobust.metrics import Accuracy, Consistency, CorrectProbability, FlipRate
from vlmrobust.perturbations import WrongCaption, WrongThink
from vlmrobust.report.breakdowns import Category, macro_rows
from vlmrobust.seeding import generator
from vlmrobust.testing import FakeModel

METRICS = [Accuracy(), Consistency(), FlipRate()]


def make_report(ids, *, metrics=METRICS, conditions=None, question="Which?", style=None, seed=0, groups=2, **planted):
    samples = [
        Sample(
            id=f"q{index}",
            images=[b"not decoded"],
            question=question,
            options=["red", "blue", "green"],
            answer=index % 3,
            group=f"g{index // groups}",
            metadata={"kind": "2D" if index % 4 == 0 else "3D"} if index else {},
        )
        for index in ids
    ]
    model = FakeModel(opens_images=False, **planted)
    conditions = [WrongThink()] if conditions is None else conditions
    return Evaluator(model, conditions, metrics, batch_size=99, style=style, seed=seed).run(samples)


@pytest.fixture(scope="module")
def models():
    return [make_report(range(24), accuracy=accuracy, follow_think=0.5, seed=3) for accuracy in (0.9, 0.5)]


@pytest.fixture(scope="module")
def pooled(models):
    return Report.concat(models, ["a/large", "a/small"], column="model")


def row_of(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    [found] = table.to_dict("records")
    return found


# --- concat -----------------------------------------------------------------------------------------------------------


def test_by_returns_each_concatenated_report(models, pooled):
    assert len(pooled) == sum(map(len, models))
    for name, model in zip(["a/large", "a/small"], models, strict=True):
        table = pooled.by("model")
        part = table[table["model"] == name].drop(columns="model").reset_index(drop=True)
        assert_frame_equal(part, model.summary)
    assert pooled.by("kind")["kind"].unique().tolist()[:2] == ["2D", "3D"]


def test_concatenated_values_are_over_all_samples(models, pooled):
    values = [row_of(model.summary, condition="wrong_think", metric="accuracy") for model in models]
    whole = row_of(pooled.summary, condition="wrong_think", metric="accuracy")
    assert whole["n"] == 48
    assert whole["difference"] == pytest.approx(np.mean([value["difference"] for value in values]))
    assert pooled.score(METRICS).summary.equals(pooled.summary)


def test_a_sample_run_on_several_models_is_resampled_together(models, pooled):
    assert set(pooled.frame["sample_id"].str.split("/").str[-1]) == {f"q{index}" for index in range(24)}
    # 12 images with two samples each in each report: 12 groups, not 24.
    assert set(pooled.frame["group"]) == {f"a/large/g{index}" for index in range(12)}
    twice = Report.concat([models[0], models[0]], ["one", "two"])
    width = {
        name: row_of(report.summary, condition="wrong_think", metric="accuracy")
        for name, report in (("once", models[0]), ("twice", twice))
    }
    widths = [found["high"] - found["low"] for found in width.values()]
    assert widths[1] == pytest.approx(widths[0], rel=0.02), "asking the same again is no new evidence"


def test_different_samples_with_the_same_id_are_in_different_groups(models):
    other = make_report(range(24), question="Which one?", seed=3, accuracy=0.9, follow_think=0.5)
    both = Report.concat([models[0], other], ["cv_bench", "whatsup"], column="benchmark")
    assert both.frame["sample_id"].nunique() == 48
    assert both.frame["group"].nunique() == 24
    assert both.frame["group"].str.split("/").str[0].unique().tolist() == ["cv_bench", "whatsup"]


def test_without_names_ids_are_unchanged_and_must_be_unique():
    first, second = make_report(range(8)), make_report(range(8, 12))
    both = Report.concat([first, second])
    assert both.frame["sample_id"].unique().tolist() == [f"q{index}" for index in range(12)]
    assert_frame_equal(both.summary, make_report(range(12)).summary)
    assert list(both.responses.metadata[-1]) == ["kind"]
    with pytest.raises(
        ValueError, match="sample 'q0' is in reports 0 and 1: expected other samples in each; give the reports 'names'"
    ):
        Report.concat([first, make_report(range(4))])


def test_the_manifest_contains_all_manifests(models, pooled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # pictures take their time
    assert pooled.manifest["reports"] == {
        name: model.manifest for name, model in zip(["a/large", "a/small"], models, strict=True)
    }
    assert pooled.manifest["style"] == models[0].manifest["style"]
    assert "model" not in pooled.manifest
    pooled.save(tmp_path)
    assert Report.load(tmp_path).summary.equals(pooled.summary)
    assert "Robustness" in pooled.to_html()


def test_concatenation_can_be_nested(models):
    other = [make_report(range(6), question="Where?", accuracy=accuracy) for accuracy in (0.9, 0.5)]
    whole = Report.concat(
        [
            Report.concat(reports, ["large", "small"], column="model")
            for reports in (models, other)
        ],
        ["first", "second"],
        column="benchmark",
    )  # fmt: skip
    assert whole.by("benchmark")["benchmark"].unique().tolist() == ["first", "second"]
    assert row_of(whole.by("model"), model="small", condition="base", metric="accuracy")["n"] == 30


def test_conditions_of_a_single_report_use_its_samples():
    both = Report.concat([make_report(range(4)), make_report(range(4), conditions=[WrongCaption()])], ["a", "b"])
    assert both.conditions == ("base", "wrong_think", "wrong_caption")
    assert row_of(both.summary, condition="wrong_caption", metric="accuracy")["n"] == 4
    assert row_of(both.summary, condition="base", metric="accuracy")["n"] == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": [Accuracy()]}, r"consistency, flip_rate is in 'a' or 'b' alone; score them with the same metrics"),
        (
            {"metrics": [Accuracy(), CorrectProbability(name="consistency"), FlipRate()]},
            r"metric 'consistency': expected the same in all reports, got Consistency.* and CorrectProb.*'b'",
        ),
        (
            {"conditions": [WrongThink(hedge="so", name="wrong_think")]},
            r"field 'conditions.wrong_think.name': expected the same .*, got None in 'a' and 'wrong_think' in 'b'; "
            r"compare them with Report.compare",
        ),
        ({"style": Style(system="Hello.")}, r"field 'style.system': expected the same"),
    ],
)
def test_incompatible_reports_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Report.concat([make_report(range(4)), make_report(range(4), **changes)], ["a", "b"])


def test_two_models_may_have_different_styles():
    other = make_report(range(4), style=Style(system="Hello."), accuracy=0.5)
    assert len(Report.concat([make_report(range(4)), other], ["a", "b"])) == 16


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", ""], ["a", "a/b"], []])
def test_invalid_names_are_refused(models, names):
    with pytest.raises(ValueError, match=r"field 'names': expected a name for each of .* for 2 reports"):
        Report.concat(models, names)


def test_an_existing_metadata_column_is_refused(models):
    with pytest.raises(ValueError, match=r"field 'column': .* got 'kind', which those of 'a' have"):
        Report.concat(models, ["a", "b"], column="kind")
    with pytest.raises(ValueError, match="for 0 reports"):
        Report.concat([])


def test_a_breakdown_resamples_the_groups_of_its_samples(make_pair):
    rng = np.random.default_rng(0)
    pairs, sides = [], {"base": [], "x": []}
    for index in range(60):
        right = {"base": int(rng.random() < 0.8), "x": int(rng.random() < (0.9 if index // 6 % 2 else 0.1))}
        kind = {"kind": "few" if index < 48 else "rest"}
        pairs += [make_pair(f"s{index}", name, right[name], group=f"g{index // 6}", metadata=kind) for name in right]
        for name in sides:
            sides[name].append(right[name])
    report = Report.from_responses(*zip(*pairs, strict=True), [Accuracy()], seed=5)
    found = row_of(report.by("kind"), kind="few", condition="x", metric="accuracy")
    groups = [f"g{index // 6}" for index in range(48)]
    of_kind = sides["base"][:48], sides["x"][:48]
    expected = paired_interval(*of_kind, groups, outcome="rate", rng=generator(5, "bootstrap"))
    assert (found["low"], found["high"], found["n"]) == (expected.low, expected.high, 48)
    alone = paired_interval(*of_kind, outcome="rate", rng=generator(5, "bootstrap"))
    assert found["high"] - found["low"] > 1.2 * (alone.high - alone.low)


# --- macro average ----------------------------------------------------------------------------------------------------


def test_macro_average_weighs_categories_equally(models):
    report = models[0]
    kinds = [row_of(report.by("kind"), kind=kind, condition="wrong_think", metric="accuracy") for kind in ("2D", "3D")]
    found = row_of(report.macro_average("kind"), condition="wrong_think", metric="accuracy")
    for name in ("value", "base_value", "difference"):
        assert found[name] == pytest.approx((kinds[0][name] + kinds[1][name]) / 2)
    assert found["weights"] == "1/2 each: 2D (n = 5), 3D (n = 18)"
    assert (found["categories"], found["n"]) == (2, 23)
    micro = row_of(report.summary, condition="wrong_think", metric="accuracy")
    assert (found["micro_value"], found["micro_difference"]) == (micro["value"], micro["difference"])
    assert found["micro_value"] != found["value"]
    base = row_of(report.macro_average("kind"), condition="base", metric="accuracy")
    assert math.isnan(base["difference"])
    assert base["value_low"] < base["value"] < base["value_high"]


def test_weights_name_each_of_twelve_categories(make_pair):
    pairs = [make_pair(f"s{i}", choice=int(i % 5 > 0), metadata={"category": f"c{i % 12:02}"}) for i in range(90)]
    found = Report.from_responses(*zip(*pairs, strict=True), [Accuracy()]).macro_average("category").iloc[0]
    shares = [np.mean([i % 5 > 0 for i in range(90) if i % 12 == place]) for place in range(12)]
    assert found["value"] == pytest.approx(np.mean(shares))
    assert found["weights"].startswith("1/12 each: c00 (n = 8), c01 (n = 8), ")
    assert found["value_low"] < found["micro_value"] < found["value_high"]


def test_samples_without_a_category_are_left_out_and_counted(models):
    assert models[0].macro_average("kind")["note"].str.contains("1 samples without 'kind' left out").all()
    with pytest.raises(KeyError, match=r"expected a column of the samples' metadata \(kind\); got 'colour'"):
        models[0].macro_average("colour")


def test_categories_that_share_groups_have_a_wider_interval(models, pooled):
    found = row_of(pooled.macro_average("model"), condition="wrong_think", metric="accuracy")
    parts = [row_of(model.summary, condition="wrong_think", metric="accuracy") for model in models]
    assert found["low"] == pytest.approx(np.mean([part["low"] for part in parts]))
    assert found["note"] == "categories share groups of samples: the interval allows for any dependence between them"
    apart = [make_report(range(24), question=question) for question in ("Which?", "Where?")]
    alone = row_of(Report.concat(apart, ["a", "b"]).macro_average("report"), condition="wrong_think", metric="accuracy")
    parts = [row_of(report.summary, condition="wrong_think", metric="accuracy") for report in apart]
    sides = [[part[name] for part in parts] for name in ("difference", "low", "high")]
    assert (alone["low"], alone["high"]) == pytest.approx(average_interval(*sides))
    assert alone["note"] == ""


def test_categories_are_linked_by_chains_of_groups(models):
    rows = models[0]._rows
    sets = {"a": {"1"}, "b": {"2"}, "c": {"1", "2"}, "d": {"3"}}
    categories = [Category(name, frozenset(groups), rows) for name, groups in sets.items()]
    found = macro_rows(categories, rows, "")[3]
    chosen = rows[3]
    sides = [[getattr(chosen, name)] * 4 for name in ("difference", "low", "high")]
    assert (found.low, found.high) == pytest.approx(average_interval(*sides, ["abc", "abc", "abc", "d"]))


def test_a_category_without_the_metric_is_left_out_and_named(make_pair):
    pairs = [
        make_pair(f"s{i}", condition, metadata={"kind": "ab"[i % 2]}) for i in range(12) for condition in ("base", "x")
    ]
    pairs = [pair for pair in pairs if not (pair[1].condition == "x" and int(pair[1].sample_id[1:]) % 2)]
    report = Report.from_responses(*zip(*pairs, strict=True), [Accuracy()])
    found = row_of(report.macro_average("kind"), condition="x", metric="accuracy")
    assert (found["note"], found["weights"]) == ("undefined in b, left out", "1/1 each: a (n = 6)")


def test_a_category_of_one_group_has_no_interval(make_pair):
    pairs = [make_pair(f"s{i}", group="ab"[i > 2], metadata={"kind": "ab"[i > 2]}, choice=i % 2) for i in range(6)]
    found = Report.from_responses(*zip(*pairs, strict=True), [Accuracy()]).macro_average("kind").iloc[0]
    assert math.isnan(found["value_low"])
    assert found["note"] == "no interval in a, b"


def test_without_defined_values_all_is_nan(make_pair):
    pairs = [make_pair("a", "base", None, metadata={"kind": "x"}, status="error", error="lost")]
    found = Report.from_responses(*zip(*pairs, strict=True), [Accuracy()]).macro_average("kind").iloc[0]
    assert math.isnan(found["value"])
    assert (found["categories"], found["n"], found["weights"]) == (0, 0, "")


@pytest.mark.parametrize("column", ["condition", "metric", "value", "n"])
def test_a_metadata_key_may_equal_a_summary_column(make_pair, column):
    pairs = [
        make_pair(f"s{i}", condition, metadata={column: "ab"[i % 2]}) for i in range(8) for condition in ("base", "x")
    ]
    report = Report.from_responses(*zip(*pairs, strict=True), [Accuracy()])
    table = report.by(column)
    assert list(table.columns[:2]) == [f"metadata.{column}", "condition"]
    assert table[f"metadata.{column}"].tolist() == ["a", "a", "b", "b"]
    assert set(table["condition"]) == {"base", "x"}
    assert len(report.macro_average(column)) == 2
