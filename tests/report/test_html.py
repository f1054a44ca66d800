"""Test the text of the page, and that untrusted text is escaped."""

import base64
import hashlib
import html
import html.parser
import json
import re
import sys
from importlib.resources import files

import pytest

from vlmrobust import Report, Response, expand
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import WrongCaption, WrongThink
from vlmrobust.testing import FakeModel
from vlmrobust.text import printable

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>{{ 7 * 7 }}&amp;\"'\u2028$x$"
)


class Page(html.parser.HTMLParser):
    """A page's tags, its tables, and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.scripts, self.texts = [], {}, [], []
        self._table = self._tag = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._tag = tag
        if tag == "table":
            self._table = self.tables.setdefault(attributes["id"], [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("th", "td"):
            self._table[-1].append([attributes, ""])

    def handle_endtag(self, tag):
        if tag == "table":
            self._table = None

    def handle_data(self, data):
        if self._tag == "script":
            self.scripts.append(data)
            self._tag = None
        elif self._table and self._table[-1]:
            self._table[-1][-1][1] += data.strip()
        else:
            self.texts.append(data)

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def report(make_sample):
    samples = [make_sample(f"q{index}", answer=index % 4) for index in range(12)]
    prompts = list(expand(samples, [WrongCaption(), WrongThink()]))
    model = FakeModel(accuracy=0.8, follow_caption=0.5)
    manifest = {"model": {"name": "a/b", "dtype": "bfloat16"}, "seed": 3, "versions": {"torch": "2.9"}}
    return Report.from_responses(prompts, model.respond(prompts), manifest=manifest)


@pytest.fixture(scope="module")
def text(report):
    return report.to_html(title="A page")


def test_the_head_describes_the_run(text):
    page = Page(text)
    shown = " ".join(" ".join(page.texts).split())
    for fact in (
        "model a/b",
        "dtype bfloat16",
        "seed 3",
        "samples 12",
        "conditions 3",
        "responses 36",
        "errors 0",
        "torch 2.9",
    ):
        assert fact in shown
    assert text.startswith("<!doctype html>")
    assert "<title>A page</title>" in text


def test_the_overview_equals_the_reports(report, text):
    header, *rows = Page(text).tables["overview"]
    table = report._overview()
    assert [cell for _, cell in header] == list(table.header)
    assert [[cell.replace("−", "-") for _, cell in row] for row in rows] == [list(row) for row in table.rows]
    accuracy = report.summary.query("metric == 'accuracy'")
    is_grey = ["quiet" in row[1][0].get("class", "") for row in rows]
    assert is_grey == ((accuracy["low"] <= 0) & (accuracy["high"] >= 0)).tolist()
    assert [float(row[1][0]["data-sort"]) for row in rows] == [float(row[1].split()[0]) for row in table.rows]


def test_all_numbers_of_the_summary_are_included(report, text):
    _, *rows = Page(text).tables["numbers"]
    assert len(rows) == len(report.summary)
    for row, (_, expected) in zip(rows, report.summary.iterrows(), strict=True):
        sort = [attributes["data-sort"] for attributes, _ in row]
        assert sort[0] == expected["condition"]
        for place, name in (
            (2, "value"),
            (4, "n_value"),
            (5, "paired_value"),
            (6, "base_value"),
            (7, "difference"),
            (9, "p"),
            (10, "p_adjusted"),
            (12, "errors"),
            (13, "not_applicable"),
        ):
            value = expected[name]
            assert sort[place] == ("" if value != value else str(value))
            assert row[place][1] == ("–" if value != value else row[place][1])
        is_compared = expected["difference"] == expected["difference"]
        assert row[11][1] == (str(expected["n"]) if is_compared else "–")
        finding = expected["low"] > 0 or expected["high"] < 0
        assert ("quiet" in row[7][0].get("class", "")) == (
            expected["difference"] == expected["difference"] and not finding
        )
    arrows = {row[1][1] for row in rows}
    assert {"accuracy ↑", "follow rate ↓", "letter entropy"} <= arrows


def test_the_page_begins_with_the_headline(report, text):
    """At most five sentences, then the table, then the limits; facts about the run are further down."""
    sentences = [html.unescape(one) for one in re.findall(r"<li>(.*?)</li>", text.partition("</header>")[0])]
    assert sentences == list(report.headline())
    assert 1 <= len(sentences) <= 5
    places = [text.index(f'id="{name}"') for name in ("against-base", "limits", "findings", "all-numbers", "run")]
    assert places == sorted(places)
    limits = text[places[1] : places[2]]
    assert [finding.text for finding in report.findings() if finding.is_limit] == sorted(
        map(html.unescape, re.findall(r"<li>(.*?)</li>", limits)),
        key=[finding.text for finding in report.findings()].index,
    )
    assert len(re.findall("<summary>", limits)) < limits.count("<li>") + 1


def test_grey_cells_are_explained_at_each_table(text):
    for start, end in (("against-base", "limits"), ("all-numbers", "run")):
        part = text[text.index(f'id="{start}"') : text.index(f'id="{end}"')]
        assert '<span class="quiet">Grey</span>: the interval of the' in part


def test_adjusted_p_can_be_recomputed_from_the_page(text):
    """Apply Holm's method step by step: p times the number of p-values not below it, never decreasing."""
    _, *rows = Page(text).tables["numbers"]
    by_metric = {}
    for row in rows:
        if row[9][0]["data-sort"]:
            by_metric.setdefault(row[1][1], []).append([float(row[place][0]["data-sort"]) for place in (9, 10)])
    assert len(by_metric) > 5
    for pairs in by_metric.values():
        most = 0.0
        for rank, (p, adjusted) in enumerate(sorted(pairs)):
            most = max(most, min(1.0, p * (len(pairs) - rank)))
            assert adjusted == pytest.approx(most)


def test_the_page_contains_no_local_paths(make_sample):
    """Neither the folder of a model or adapter nor those in errors and metadata; a name on the hub stays."""
    sample = make_sample("q1", metadata={"file": "/home/somebody/data/cube.png", "source": "org/set"})
    gone = make_sample("q2")
    gone = gone.replace(images=["/home/somebody/gone/q2.png"])
    prompts = list(expand([sample, gone], [WrongThink()]))
    responses = FakeModel().respond(prompts)
    responses[1] = Response.failed(prompts[1], "OSError: can't open '/home/somebody/My Data/q1.png'")
    model = {
        "name": "/home/somebody/out/checkpoint-500",
        "adapters": ["C:\\Users\\somebody\\lora"],
        "base": "org/model",
    }
    report = Report.from_responses(prompts, responses, manifest={"model": model, "server": "http://localhost:8000/v1"})
    text = report.to_html(samples=[sample, gone])
    assert "somebody" not in text
    assert "checkpoint-500 · 2 samples" in text
    assert "org/model" in text
    assert "http://localhost:8000/v1" in html.unescape(text)
    data = Page(text).data
    assert data["samples"][0]["metadata"] == {"file": "cube.png", "source": "org/set"}
    assert data["samples"][0]["responses"][1]["error"] == "OSError: can't open '…/q1.png'"
    assert "q2.png" in data["samples"][1]["images"][0]["error"]


def test_the_plots_are_in_the_page(report, text):
    images = [attributes for tag, attributes in Page(text).tags if tag == "img"]
    assert [image["alt"] for image in images] == [
        "drops accuracy", "drops consistency", "quadrants", "entropies", "probabilities", "reliability",
    ]  # fmt: skip
    for image in images:
        kind, content = image["src"].split(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"</svg>" in base64.b64decode(content)


def test_without_matplotlib_the_page_says_so(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = report.to_html()
    assert "pip install &#39;vlmrobust[plot]&#39;" in text
    assert "<img" not in text


def test_nothing_is_loaded_and_only_the_own_script_may_run(text):
    page = Page(text)
    assert not re.findall(r'(?:src|href|action)="(?!data:|#)', text.split("<script")[0])
    [policy] = [a["content"] for tag, a in page.tags if tag == "meta" and "content-security-policy" in str(a).lower()]
    assert policy.startswith("default-src 'none'; img-src data:;")
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "innerHTML" not in text
    assert "http" not in re.sub(r"data:image/\S+", "", text.replace("http-equiv", ""))


def test_untrusted_text_is_escaped(make_sample):
    sample = make_sample(
        HOSTILE, question=HOSTILE, options=(HOSTILE, "blue"), metadata={HOSTILE: HOSTILE}, group=HOSTILE, answer=1
    )
    prompts = [
        prompt.replace(context=HOSTILE, condition=name) for prompt in expand([sample], []) for name in ("base", HOSTILE)
    ]
    responses = [response.replace(text=HOSTILE, think=HOSTILE) for response in FakeModel().respond(prompts)]
    report = Report.from_responses(
        prompts, responses, [Accuracy()], manifest={"model": {"name": HOSTILE}, HOSTILE: HOSTILE}
    )
    text = report.to_html(title=HOSTILE, samples=[sample])
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert "49" not in text.split("<style>")[0]
    assert page.data["samples"][0]["question"] == HOSTILE
    assert page.data["samples"][0]["responses"][1]["text"] == HOSTILE
    assert page.data["samples"][0]["metadata"] == {HOSTILE: HOSTILE}
    assert page.tables["overview"][2][0][1] == printable(HOSTILE)
    assert "\u2028" not in page.scripts[0]


def test_invalid_unicode_can_be_written(make_sample, tmp_path):
    prompts = list(expand([make_sample()], []))
    responses = [response.replace(text="torn \ud83d") for response in FakeModel().respond(prompts)]
    path = Report.from_responses(prompts, responses, [Accuracy()]).to_html(tmp_path / "page.html")
    assert Page(path.read_text(encoding="utf-8")).data["samples"][0]["responses"][0]["text"] == "torn \ufffd"


def test_the_page_gives_the_number_of_shown_samples(report):
    text = report.to_html(max_samples=5)
    assert "The first 5 of 12 samples; tables and pictures are of all." in text
    assert len(Page(text).data["samples"]) == 5


def test_an_empty_report_has_a_page(tmp_path):
    text = Report.from_responses([], []).to_html()
    assert Page(text).data["samples"] == []
    assert "There is nothing to draw" in text


def test_the_page_is_written_to_the_path(report, text, tmp_path):
    path = report.to_html(str(tmp_path / "page.html"), title="A page")
    assert path == tmp_path / "page.html"
    assert path.read_text(encoding="utf-8") == text


def test_a_loaded_report_gives_the_same_page(report, text, tmp_path):
    report.save(tmp_path)
    assert Report.load(tmp_path).to_html(title="A page") == text


@pytest.mark.parametrize("name", ["layout.html", "macros.html", "page.html", "page.css", "common.js", "page.js"])
def test_page_files_are_in_the_package(name):
    assert files("vlmrobust.report").joinpath(name).is_file()
