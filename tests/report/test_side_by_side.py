"""Test pages of two reports: answers won and lost, the source of images, and the page in a browser."""

import json
import re
from collections import Counter

import pytest
from PIL import Image

from vlmrobust import Report, Sample, expand
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import AreYouSure, WrongCaption, WrongThink
from vlmrobust.report.browse import samples_by_id
from vlmrobust.testing import FakeModel

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def make_samples(count=40, prefix=""):
    return [
        Sample(
            id=f"{prefix}q{index}",
            images=[Image.new("RGB", (64, 48), (index % 255, 90, 90))],
            question=f"Which is number {index}?",
            options=("red", "blue", "green"),
            answer=index % 3,
        )
        for index in range(count)
    ]


def make_report(samples, **planted):
    prompts = list(expand(samples, [WrongThink(), WrongCaption()]))
    return Report.from_responses(prompts, FakeModel(**planted).respond(prompts))


@pytest.fixture(scope="module")
def reports():
    samples = make_samples()
    return make_report(samples, accuracy=0.8, follow_think=0.2), make_report(
        samples, accuracy=0.6, follow_think=0.9, seed=1
    )


def data_of(page):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def cells_of(page):
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("<tbody>")[2], re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in rows]


def expected(reports):
    """Return the kind of each pair of answers, from the two frames."""
    one, other = (report.frame.set_index(["sample_id", "condition"]) for report in reports)
    kinds = {}
    for key, row in one.iterrows():
        here, there = row["accuracy"], other.loc[key, "accuracy"]
        differ = row["answer"] is not other.loc[key, "answer"] and row["answer"] != other.loc[key, "answer"]
        kinds[key] = {(1, 0): "won", (0, 1): "lost", (1, 1): "right"}.get(
            (here, there), "changed" if differ else "same"
        )
    return kinds


def test_won_and_lost_equal_the_frames(reports):
    one, other = reports
    found = data_of(one.side_by_side(other))
    kinds = {(found["samples"][flip["sample"]]["id"], flip["condition"]): flip["kind"] for flip in found["flips"]}
    assert kinds == {key: kind for key, kind in expected(reports).items() if kind in ("won", "lost", "changed")}
    assert {"won", "lost", "changed"} <= set(kinds.values())
    for flip in found["flips"]:
        assert (flip["here"]["correct"], flip["there"]["correct"]) == {
            "won": (True, False),
            "lost": (False, True),
            "changed": (False, False),
        }[flip["kind"]]


def test_second_turns_are_shown_on_both_sides():
    samples = make_samples(6)

    def second(accuracy):
        model = FakeModel(accuracy=accuracy)
        prompts = list(expand(samples, [AreYouSure()], base=model.respond(list(expand(samples, [])))))
        return Report.from_responses(prompts, model.respond(prompts))

    one, other = second(1.0), second(0.0)
    flips = [flip for flip in data_of(one.side_by_side(other))["flips"] if flip["condition"] == "are_you_sure"]
    assert len(flips) == 6
    for flip in flips:
        sample = samples[flip["sample"]]
        for side, is_right in (("here", True), ("there", False)):
            answer, reply = flip[side]["history"]
            assert (answer["role"], reply) == ("assistant", {"role": "user", "text": "Are you sure?"})
            assert (f"<answer>{'ABC'[sample.answer]}</answer>" in answer["text"]) is is_right


def test_the_table_equals_compare(reports):
    one, other = reports
    page = one.side_by_side(other)
    counts = Counter((condition, kind) for (_, condition), kind in expected(reports).items())
    accuracy = one.compare(other).query("metric == 'accuracy'").set_index("condition")
    rows = cells_of(page)
    assert [row[0] for row in rows] == ["base", "wrong_think", "wrong_caption"]
    for name, *cells in rows:
        pairs, won, lost, right, wrong = map(int, cells[:5])
        assert (won, lost, right) == tuple(counts[name, kind] for kind in ("won", "lost", "right"))
        assert pairs == won + lost + right + wrong == 40
        here, there, difference = (float(cell.replace("−", "-")) for cell in cells[5:8])
        assert here == pytest.approx((won + right) / pairs, abs=5e-4)
        assert there == pytest.approx((lost + right) / pairs, abs=5e-4)
        assert difference == pytest.approx((won - lost) / pairs, abs=5e-4)
        assert difference == pytest.approx(accuracy.loc[name, "difference"], abs=5e-4)


def test_the_headline_counts_all_pairs_and_names_differences(reports):
    one, other = reports
    page = one.side_by_side(other, names=("after", "before"))
    sentences = re.findall(r"<li>(.*?)</li>", page)
    kinds = Counter(expected(reports).values())
    assert sentences[0] == (
        f"Of 120 pairs of answers after alone is right in {kinds['won']}, and before alone in {kinds['lost']}."
    )
    assert 1 < len(sentences) <= 5
    assert sentences[1].startswith("wrong_think: accuracy is ")
    assert re.findall(r"<li>(.*?)</li>", one.side_by_side(one))[1] == (
        "Under none of the 3 conditions does the interval of the difference exclude 0."
    )


@pytest.mark.parametrize(
    ("in_report", "in_data"),
    [("", ""), ("bench/", ""), ("", "set/"), ("model/bench/", ""), ("bench-1_", "other:"), ("a/", "b/")],
)
def test_images_are_found_despite_id_prefixes(in_report, in_data):
    reports = [make_report(make_samples(12, in_report), accuracy=share) for share in (1.0, 0.0)]
    found = data_of(reports[0].side_by_side(reports[1], samples=make_samples(12, in_data)))
    assert len(found["samples"]) == 12
    assert all(sample["images"][0]["src"].startswith("data:image/") for sample in found["samples"])
    assert "not on this page" not in reports[0].side_by_side(reports[1], samples=make_samples(12, in_data))


def test_samples_with_another_question_give_no_image():
    """A matching suffix of the id is not enough: question, target and number of options must match."""
    report = make_report(make_samples(3, "bench/"))
    others = [sample.replace(question="Another?") for sample in make_samples(3)]
    assert samples_by_id(report.responses, others) == {}
    assert set(samples_by_id(report.responses, make_samples(2))) == {"bench/q0", "bench/q1"}
    twice = [*make_samples(1, "x/"), *make_samples(1, "y/")]
    assert samples_by_id(report.responses, twice) == {}  # which of the two, nobody can tell


def test_missing_images_are_noted():
    one, other = (make_report(make_samples(8), accuracy=share) for share in (1.0, 0.0))
    assert "Images of 8 of 8 samples are not on this page (q0, q1, q2, …): samples are needed" in one.side_by_side(
        other
    )
    page = one.side_by_side(other, samples=make_samples(6))
    assert "Images of 2 of 8 samples are not on this page (q6, q7): none of the samples given has" in page
    assert "Images of 2 of 8 samples are not on this page" in one.to_html(samples=make_samples(6))


def test_max_flips_does_not_change_the_counts(reports):
    one, other = reports
    page = one.side_by_side(other, max_flips=5)
    assert len(data_of(page)["flips"]) == 5
    total = sum(kind in ("won", "lost", "changed") for kind in expected(reports).values())
    assert f"The first 5 of {total} answers that differ can be looked at; counts are of all." in page
    assert cells_of(page) == cells_of(one.side_by_side(other))


def test_reports_without_a_sample_in_common_are_refused(reports):
    with pytest.raises(ValueError, match="samples in common"):
        reports[0].side_by_side(make_report(make_samples(3, "else-")))


def test_counts_do_not_need_accuracy(reports, tmp_path):
    from vlmrobust.metrics import LetterEntropy

    one, other = (report.score([LetterEntropy()]) for report in reports)
    path = one.side_by_side(other, tmp_path / "page.html")
    assert cells_of(path.read_text(encoding="utf-8"))[0][6:] == ["–"] * 4


@pytest.mark.browser
def test_filters_and_hostile_text_in_a_browser(driver, reports, tmp_path):
    one, other = reports
    path = one.side_by_side(other, tmp_path / "page.html", samples=make_samples())
    driver.get(path.as_uri())
    kinds = expected(reports)

    def run(script, *arguments):
        return driver.execute_script(script, *arguments)

    def shown():
        return run("return state.shown.map((flip) => [data.samples[flip.sample].id, flip.condition])")

    run("document.querySelector('[data-flag=won]').click()")
    assert {tuple(key) for key in shown()} == {key for key, kind in kinds.items() if kind == "won"}
    count = sum(kind == "won" for kind in kinds.values())
    assert run("return document.querySelector('[data-flag=won]').textContent") == f"won {count}"
    run("document.getElementById('condition').value = 'wrong_think'; filter()")
    won = {key for key, kind in kinds.items() if kind == "won" and key[1] == "wrong_think"}
    assert won
    assert {tuple(key) for key in shown()} == won
    cards = "return document.querySelectorAll('.flip').length"
    assert run(cards) == min(20, len(won))
    text = run("return document.querySelector('.flip').innerText")
    first = next(key for key in kinds if key in won)
    for report in reports:
        row = report.frame.set_index(["sample_id", "condition"]).loc[first]
        assert row["text"] in text
    assert run("return document.querySelector('.flip img').naturalWidth") == 64
    run(
        "document.querySelector('[data-flag=won]').click(); state.condition = ''; "
        "document.getElementById('condition').value = ''; filter()"
    )
    before = run(cards)
    assert before == 20
    run("document.getElementById('more').click()")
    assert run(cards) > before
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert run("return document.documentElement.scrollWidth") <= 390
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert driver.get_log("browser") == []

    sample = Sample(id=HOSTILE, images=[b"no image"], question=HOSTILE, options=(HOSTILE, "blue"), answer=1)
    prompts = list(expand([sample], []))
    reports = [
        Report.from_responses(
            prompts,
            [
                response.replace(text=HOSTILE)
                for response in FakeModel(accuracy=share, opens_images=False).respond(prompts)
            ],
            [Accuracy()],
        )
        for share in (1.0, 0.0)
    ]
    driver.get(reports[0].side_by_side(reports[1], tmp_path / "hostile.html", title=HOSTILE, samples=[sample]).as_uri())
    assert run("return document.getElementById('flips').textContent").count(HOSTILE) >= 3
    assert run("return window.hacked === undefined && document.scripts.length === 2")
    assert driver.get_log("browser") == []
