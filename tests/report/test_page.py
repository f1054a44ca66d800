"""Test the page in a real browser: sorting, filters, keys; no foreign scripts, requests or log messages."""

from collections.abc import Sequence

import pytest
from builders import make_samples

from vlmrobust import Perturbation, Report, Response, Sample, expand
from vlmrobust.metrics import Accuracy, Consistency, LetterEntropy
from vlmrobust.perturbations import AreYouSure, StopThink, WrongCaption, WrongThink
from vlmrobust.testing import FakeModel

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'><svg onload=hacked=1>"
CONDITIONS = [StopThink(), WrongCaption(), WrongThink()]
METRICS = [Accuracy(), Consistency(), LetterEntropy()]


def make_report(
    count: int, conditions: Sequence[Perturbation] = CONDITIONS, **planted: float
) -> tuple[Report, list[Sample]]:
    from PIL import Image

    samples = make_samples(
        count,
        images=lambda number: [Image.new("RGB", (64, 48), (number % 255, 90, 90))],
        question="Which is number {}?".format,
    )
    prompts = list(expand(samples, conditions))
    responses = FakeModel(**planted).respond(prompts)
    return Report.from_responses(prompts, responses, METRICS, manifest={"seed": 0}), samples


@pytest.fixture(scope="module")
def report_and_samples():
    return make_report(40, accuracy=0.7, follow_think=0.6, follow_caption=0.3, contradict=0.2, unparsed=0.1)


@pytest.fixture(scope="module")
def url(report_and_samples, tmp_path_factory):
    report, samples = report_and_samples
    return report.to_html(tmp_path_factory.mktemp("page") / "page.html", samples=samples).as_uri()


@pytest.fixture
def page(driver, url):
    """Open the page, and check at the end that it logged nothing."""
    driver.get_log("performance")
    driver.get(url)
    yield driver
    assert driver.get_log("browser") == []


def run_script(page, script, *arguments):
    return page.execute_script(script, *arguments)


def click(page, selector):
    run_script(page, "document.querySelector(arguments[0]).click()", selector)


def column(page, table, index):
    """Return the visible cells of a column, from the top."""
    rows = "[...document.getElementById(arguments[0]).tBodies[0].rows].filter((row) => !row.hidden)"
    return run_script(page, f"return {rows}.map((row) => row.children[arguments[1]].innerText)", table, index)


def listed_ids(page):
    """Return the ids of all samples that pass the filters, scrolling to the end."""
    return run_script(page, "return state.shown.map((sample) => sample.id)")


def choose(page, selector, value):
    script = "const it = document.querySelector(arguments[0]); it.value = arguments[1]; "
    run_script(
        page, script + "it.dispatchEvent(new Event(it.tagName === 'SELECT' ? 'change' : 'input'))", selector, value
    )


def type_search(page, words):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    box = page.find_element(By.ID, "search")
    box.clear()
    box.send_keys(words)
    WebDriverWait(page, 5).until(lambda page: run_script(page, "return state.query") == words.lower())


def test_numbers_sort_as_numbers_and_missing_values_come_last(page, report_and_samples):
    report, _ = report_and_samples
    choose(page, "#metric", "")
    place = 7
    click(page, f"#numbers th:nth-child({place + 1}) button")
    known = sorted(report.summary["difference"].dropna())
    expected = [f"{value:+.3f}".replace("-", "−") for value in known]
    missing = len(report.summary) - len(known)
    assert missing > 0
    assert column(page, "numbers", place) == expected + ["–"] * missing
    assert run_script(page, "return document.querySelectorAll('#numbers th')[7].ariaSort") == "ascending"
    click(page, f"#numbers th:nth-child({place + 1}) button")
    assert column(page, "numbers", place) == expected[::-1] + ["–"] * missing
    assert run_script(page, "return document.querySelectorAll('#numbers th[aria-sort=none]').length") == 16


def test_names_sort_as_text_and_rows_stay_together(page):
    before = dict(zip(column(page, "overview", 0), column(page, "overview", 1), strict=True))
    click(page, "#overview th button")
    names = column(page, "overview", 0)
    assert names == sorted(before)
    assert dict(zip(names, column(page, "overview", 1), strict=True)) == before


def test_one_metric_is_shown_at_a_time(page):
    assert set(column(page, "numbers", 1)) == {"accuracy ↑"}
    choose(page, "#metric", "letter_entropy")
    assert column(page, "numbers", 1) == ["letter entropy"] * 4
    choose(page, "#metric", "")
    assert len(column(page, "numbers", 1)) == 12


def expected_ids(report, condition):
    """Return the base and condition responses of every sample, if scored."""
    table = report.frame.pivot(index="sample_id", columns="condition", values="accuracy")
    order = list(dict.fromkeys(report.frame["sample_id"]))
    return table.loc[order, "base"], table.loc[order, condition]


def test_filters_keep_samples_with_a_matching_response(page, report_and_samples):
    report, _ = report_and_samples
    assert len(listed_ids(page)) == 40
    choose(page, "#condition", "wrong_think")
    click(page, "[data-flag=harmed]")
    base, here = expected_ids(report, "wrong_think")
    harmed = base.index[(base == 1) & (here == 0)].tolist()
    assert 0 < len(harmed) < 40
    assert listed_ids(page) == harmed
    assert run_script(page, "return document.getElementById('count').textContent") == f"{len(harmed)} of 40 samples"
    assert (
        run_script(page, "return document.querySelector('[data-flag=harmed]').textContent") == f"harmed {len(harmed)}"
    )
    click(page, "[data-flag=followed]")  # both on the same response
    rows = report.frame.query("condition == 'wrong_think' and answer == asserted")
    assert set(listed_ids(page)) == set(harmed) & set(rows["sample_id"])
    click(page, "[data-flag=followed]")
    click(page, "[data-flag=harmed]")
    choose(page, "#condition", "")
    assert len(listed_ids(page)) == 40
    click(page, "[data-flag='no answer']")
    unparsed = report.frame.query("status == 'unparsed'")["sample_id"]
    assert set(listed_ids(page)) == set(unparsed)
    click(page, "[data-flag='no answer']")
    click(page, "[data-flag=inconsistent]")
    assert set(listed_ids(page)) == set(report.frame.query("consistency == 0")["sample_id"])


def test_search_finds_text_in_all_fields(page):
    type_search(page, "NUMBER 17?")
    assert listed_ids(page) == ["q17"]
    type_search(page, "no such words")
    assert listed_ids(page) == []
    assert run_script(page, "return document.getElementById('list').innerText") == "No sample matches."
    assert run_script(page, "return document.getElementById('detail').innerText") == ""


def test_a_sample_is_shown_with_prompts_and_answers(page, report_and_samples):
    report, samples = report_and_samples
    text = run_script(page, "return document.getElementById('detail').innerText")
    rows = report.frame.query("sample_id == 'q0'")
    assert samples[0].question in text
    assert "A. red ✓ correct" in text
    for value in rows["text"]:
        assert value in text
    injected = run_script(page, "return [...document.querySelectorAll('.injected')].map((node) => node.textContent)")
    kept = report.responses.select(rows.index.tolist())
    assert set(injected) == {part for part in (*kept.prefill, *kept.context) if part}
    drawn = "return [...document.querySelectorAll('.response:nth-child(' + arguments[0] + ') .share')]"
    for place, letters in enumerate(kept.option_logprobs.exp(), start=1):
        shares = [] if letters.isnan().all() else [f"{share:.2f}" for share in (letters / letters.sum()).tolist()]
        assert run_script(page, f"{drawn}.map((node) => node.textContent)", place) == shares
    assert run_script(page, "return document.querySelector('.about img').naturalWidth") == 64


def test_keys_navigate_the_samples(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def current():
        return run_script(page, "return document.querySelector('[aria-selected=true] .name span').textContent")

    body = page.find_element(By.TAG_NAME, "body")
    assert current() == "q0"
    body.send_keys("jjk")
    assert current() == "q1"
    body.send_keys("kkk")
    assert current() == "q0"
    page.find_element(By.ID, "list").send_keys(Keys.ARROW_DOWN)
    assert current() == "q1"
    body.send_keys("/")
    assert run_script(page, "return document.activeElement.id") == "search"
    page.switch_to.active_element.send_keys("j")  # a letter like any other while one types
    assert run_script(page, "return document.getElementById('search').value") == "j"
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert run_script(page, "return document.activeElement.tagName") == "BODY"


def requested_urls(driver):
    import json

    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def test_nothing_is_requested_but_the_page(page, url):
    click(page, "[data-flag=harmed]")
    found = requested_urls(page)
    assert [address for address in found if not address.startswith("data:")] == [url]


def second_turn(answer, reply):
    return [{"role": "assistant", "text": answer}, {"role": "user", "text": reply}]


def test_a_second_turn_is_shown_in_order(driver, tmp_path):
    _, samples = make_report(3, [])
    prompts = list(expand(samples, [AreYouSure()], base=FakeModel().respond(list(expand(samples, [])))))
    report = Report.from_responses(prompts, FakeModel().respond(prompts), METRICS)
    driver.get(report.to_html(tmp_path / "page.html", samples=samples).as_uri())
    words = "[...document.querySelectorAll('.response:nth-child(2) .turn')].map((node) => node.textContent)"
    assert run_script(driver, f"return {words}") == [
        *(turn.text for turn in prompts[1].history),
        report.responses.text[1],
    ]
    assert run_script(driver, "return document.querySelector('.injected').textContent") == "Are you sure?"
    type_search(driver, "are you sure?")
    assert len(listed_ids(driver)) == 3
    assert driver.get_log("browser") == []


def test_hostile_text_is_not_executed(driver, tmp_path):
    sample = Sample(
        id=HOSTILE,
        images=[b"no image"],
        question=HOSTILE,
        options=(HOSTILE, "blue"),
        answer=1,
        metadata={HOSTILE: HOSTILE},
    )
    prompts = [
        prompt.replace(condition=name, context=HOSTILE, prefill=HOSTILE, history=second_turn(HOSTILE, HOSTILE))
        for prompt in expand([sample], [])
        for name in ("base", HOSTILE)
    ]
    responses = [Response.parse(prompt, f"<answer>B</answer>{HOSTILE}") for prompt in prompts]
    responses[1] = Response.failed(prompts[1], HOSTILE)
    report = Report.from_responses(prompts, responses, METRICS, manifest={"model": {"name": HOSTILE}})
    driver.get(report.to_html(tmp_path / "page.html", title=HOSTILE, samples=[sample]).as_uri())
    assert driver.title == HOSTILE
    text = run_script(driver, "return document.getElementById('detail').textContent")
    assert text.count(HOSTILE) >= 10
    assert run_script(driver, "return document.scripts.length") == 2
    assert run_script(driver, "return window.hacked === undefined")
    assert run_script(driver, "return document.querySelectorAll('[onerror], [onload], #detail svg').length") == 0
    assert driver.get_log("browser") == []


def test_foreign_scripts_do_not_run(driver, url, tmp_path):
    """The content security policy alone is enough: even injected markup could run nothing."""
    from pathlib import Path
    from urllib.parse import unquote, urlparse

    text = Path(unquote(urlparse(url).path)).read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("<main>", f"<main>{HOSTILE}"), encoding="utf-8")
    driver.get((tmp_path / "page.html").as_uri())
    assert run_script(driver, "return document.querySelectorAll('[onerror]').length") == 1
    assert run_script(driver, "return window.hacked === undefined")
    assert "Content Security Policy" in str(driver.get_log("browser"))


def test_two_thousand_samples_are_listed_while_scrolling(driver, tmp_path):
    report, _ = make_report(2000, conditions=[])
    driver.get(report.to_html(tmp_path / "page.html", max_samples=2000).as_uri())
    items = "return document.querySelectorAll('.item').length"
    assert len(listed_ids(driver)) == 2000
    first = run_script(driver, items)
    assert first < 200
    run_script(driver, "const list = document.getElementById('list'); list.scrollTop = list.scrollHeight")
    run_script(driver, "document.getElementById('list').dispatchEvent(new Event('scroll'))")
    assert first < run_script(driver, items) < 400
    type_search(driver, "number 1999?")
    assert listed_ids(driver) == ["q1999"]
    run_script(driver, "document.getElementById('search').value = ''; filter(); select(state.shown[1500])")
    assert run_script(driver, "return document.querySelector('[aria-selected=true] .name span').textContent") == "q1500"
    assert driver.get_log("browser") == []


def test_all_numbers_fit_a_phones_screen(page):
    """No cell extends beyond the edge, and the table begins on the first screen."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    choose(page, "#metric", "")
    edges = (
        "return [...document.querySelectorAll('#overview td, #overview th[scope=row], #numbers td')]"
        ".map((cell) => cell.getBoundingClientRect()).filter((box) => box.left < 0 || box.right > 390).length"
    )
    assert run_script(page, edges) == 0
    assert run_script(page, "return document.querySelector('#overview tbody td').getBoundingClientRect().top") < 844
    label = "return getComputedStyle(document.querySelector('#overview tbody td:nth-child(2)'), '::before').content"
    assert run_script(page, label) == '"accuracy ↑"'
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_is_never_wider_than_the_window(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    assert run_script(page, "return document.documentElement.scrollWidth") <= width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
