"""Test the model card section with the hub's own parser and a Markdown parser."""

import math

import pytest
from builders import make_samples
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from vlmrobust import Evaluator, Report
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import WrongCaption, WrongThink
from vlmrobust.report.formats import block, inline
from vlmrobust.testing import FakeModel

HOSTILE = "# <script>alert(1)</script> | [a](http://x) *b* `c` _d_ & ~~e~~ ![f](g)\n---\n- x: y"


def make_report(conditions, n=20, draws=2, **planted):
    samples = make_samples(n, images=[b"x"])
    return Evaluator(FakeModel(opens_images=False, **planted), conditions, draws=draws, batch_size=n).run(samples)


@pytest.fixture(scope="module")
def report():
    return make_report([WrongCaption(), WrongThink()], accuracy=0.8, guess=0.2)


def render_markdown(text):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def test_the_hubs_parser_reads_the_card(report):
    card = report.model_card("me/my-model", "nyu-visionx/CV-Bench")
    read = ModelCard(str(card))
    assert read.data.model_name == "me/my-model"
    assert read.data.eval_results == card.data.eval_results
    assert read.text.strip() == card.text.strip()
    assert card.data.to_dict()["model-index"][0]["results"][0]["dataset"]["type"] == "nyu-visionx/CV-Bench"


def test_every_number_has_its_n_and_interval(report):
    card = report.model_card("m", "d")
    rows = {(row.condition, row.metric): row for row in report._rows}
    assert len(card.data.eval_results) == 12
    for result in card.data.eval_results:
        args = result.metric_args
        row = rows[args["condition"], result.metric_type]
        assert result.metric_value == row.value
        assert (args["n"], args["value_low"], args["value_high"]) == (row.n, row.value_low, row.value_high)
        assert (args["level"], args["draws"], args["noise_floor"]) == (0.95, 2, row.noise_floor)
        for name in ("base_value", "difference", "low", "high"):
            assert args.get(name, math.nan) == pytest.approx(getattr(row, name), nan_ok=True)
        label = result.metric_name.split(" under ")[0]
        cells = (args["condition"], label, f"{row.value:.3f} [{row.value_low:.3f}, {row.value_high:.3f}]")
        [line] = [line for line in card.text.splitlines() if line.startswith(f"| {' | '.join(cells)} |")]
        assert line.endswith(f" | {row.n} | {row.errors} |")
    for finding in report.findings():
        assert f"- {block(finding.text)}" in card.text


def test_values_without_an_interval_are_not_shown(make_pair):
    pairs = [make_pair(f"s{i}", choice=i % 2, group="g") for i in range(4)]
    one_group = Report.from_responses(*zip(*pairs, strict=True))
    with pytest.raises(ValueError, match="expected a report in which one of accuracy, follow_rate has an interval"):
        one_group.model_card("m", "d", metrics=["accuracy", "follow_rate"])


def test_several_data_sets_are_several_results(report):
    other = make_report([WrongCaption()], n=12)
    both = Report.concat([report, other], ["CV-Bench", "What's up?"], column="benchmark")
    ids = {"CV-Bench": "nyu-visionx/CV-Bench", "What's up?": "me/whatsup"}
    card = both.model_card("m", ids, by="benchmark", metrics=["accuracy"])
    results = ModelCard(str(card)).data.eval_results
    assert [(result.dataset_type, result.dataset_name, result.metric_args["n"]) for result in results] == [
        *[("nyu-visionx/CV-Bench", "CV-Bench", 20)] * 3,
        *[("me/whatsup", "What's up?", 12)] * 2,
    ]
    assert [line for line in card.text.splitlines() if line.startswith("#")] == [
        "## Robustness to injected text", "### CV-Bench", "### What's up?",
    ]  # fmt: skip
    with pytest.raises(KeyError, match=r"expected an id in 'dataset' for each value of 'benchmark', got none for What"):
        both.model_card("m", {"CV-Bench": "a"}, by="benchmark")
    with pytest.raises(ValueError, match="field 'dataset': expected ids that differ"):
        both.model_card("m", dict.fromkeys(ids, "a"), by="benchmark")
    for wrong in ({"dataset": ids}, {"dataset": "a", "by": "benchmark"}):
        with pytest.raises(TypeError, match="expected a mapping in 'dataset' with 'by', and an id without"):
            both.model_card("m", **wrong)


def test_untrusted_text_is_escaped():
    report = make_report([WrongThink(name=HOSTILE)], draws=1)
    card = report.model_card(HOSTILE, HOSTILE)
    read = ModelCard(str(card))
    assert read.data.model_name == HOSTILE
    assert read.data.eval_results == card.data.eval_results
    rendered = render_markdown(read.text)
    for tag in ("<script", "<a ", "<em>", "<code>", "<s>", "<img", "<hr", "<h1"):
        assert tag not in rendered
    shown = " ".join(HOSTILE.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert rendered.count(shown) > 5
    assert rendered.count("<table>") == 1


@pytest.mark.parametrize(
    "text", [HOSTILE, "1. a", "+ a", "- a", "> a", "=== a", "wrong_think", "a\\*b", "$x$", "a] [b"]
)
def test_escaped_text_renders_literally(text):
    shown = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert render_markdown(block(text)) == f"<p>{shown}</p>\n"
    assert render_markdown(f"x {inline(text)}") == f"<p>x {shown}</p>\n"
    assert render_markdown(f"- {block(text)}") == f"<ul>\n<li>{shown}</li>\n</ul>\n"


def test_tables_in_markdown_are_escaped_too():
    report = make_report([WrongThink(name=HOSTILE)], draws=1).score([Accuracy()])
    rendered = render_markdown(report.to_markdown())
    assert "<script" not in rendered
    assert rendered.count("<tr>") == 3
