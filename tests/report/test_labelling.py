"""Test labelling in a real browser, by keys and mouse, and the use of the exported file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import make_samples

from vlmrobust import Labels, Report, Response, Sample, Style, expand
from vlmrobust.metrics import Accuracy, Consistency
from vlmrobust.perturbations import AbstainOption, WrongThink
from vlmrobust.testing import FakeModel

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'><svg onload=hacked=1>"
LETTERS = "abc0-"
SECRETS = ("✓", "✗", "correct", "wrong", "right", "inconsistent", "harmed", "contradict")


def page_of(report: Report, folder: Path, **options: Any) -> str:
    return report.to_html(folder / "page.html", **options).as_uri()


def page_with_thought(
    folder: Path,
    options: tuple[str, ...],
    thought: str,
    style: Style | None = None,
    question: str = "Which?",
    answer: int = 1,
    truth: int = 0,
) -> str:
    """Return the URL of a page with one thought to label."""
    sample = Sample(id=thought[:99], images=[b"x"], question=question, options=options, answer=truth)
    prompts = list(expand([sample], [], style=style))
    said = Response(sample_id=sample.id, condition="base", think=thought, answer=answer, status="answered")
    return page_of(Report.from_responses(prompts, [said], [Accuracy(), Consistency()]), folder, labels=1)


@pytest.fixture(scope="module")
def report() -> Report:
    prompts = list(expand(make_samples(36, question="Which is number {}?".format), [WrongThink(), AbstainOption()]))
    model = FakeModel(accuracy=0.7, follow_think=0.6, contradict=0.2, abstain=0.0, opens_images=False)
    return Report.from_responses(prompts, model.respond(prompts), [Accuracy(), Consistency()])


@pytest.fixture(scope="module")
def url(report: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(report, tmp_path_factory.mktemp("page"), labels=32, max_samples=5)


@pytest.fixture
def downloads(driver: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    driver.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    return folder


@pytest.fixture
def page(driver: Any, url: str) -> Iterator[Any]:
    """Open the page without stored labels, and check at the end that it logged nothing."""
    driver.get(url)
    resize(driver, 1366, 900)
    driver.execute_script("localStorage.clear(); labelling.isSaved = true")
    driver.get(url)
    yield driver
    assert driver.get_log("browser") == []
    driver.execute_script("localStorage.clear(); labelling.isSaved = true")


def resize(driver: Any, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def by_id(driver: Any, name: str) -> Any:
    return driver.find_element("id", name)


def text_of(driver: Any, name: str) -> str:
    return str(driver.execute_script("return document.getElementById(arguments[0]).textContent", name))


def buttons(driver: Any) -> list[Any]:
    return list(driver.find_elements("css selector", "#label-card button"))


def pressed(driver: Any) -> list[str]:
    script = (
        "return [...document.querySelectorAll('#label-card [aria-pressed=true] > span')].map((one) => one.textContent)"
    )
    return list(driver.execute_script(script))


def press(driver: Any, keys: str) -> None:
    driver.switch_to.active_element.send_keys(keys)


def choose(driver: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(by_id(driver, "label-condition")).select_by_value(condition)


def wait(driver: Any, until: Callable[[], Any]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 5, poll_frequency=0.05).until(lambda _: until())


def export(driver: Any, folder: Path) -> Path:
    by_id(driver, "label-export").click()
    wait(driver, lambda: (folder / "labels.json").exists())
    return folder / "labels.json"


def import_message(driver: Any, folder: Path, content: object) -> str:
    """Import a file, and return the page's message."""
    path = folder / "given.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    driver.execute_script("document.getElementById('label-said').textContent = ''")
    by_id(driver, "label-import").send_keys(str(path))
    wait(driver, lambda: text_of(driver, "label-said"))
    return text_of(driver, "label-said")


def drawn_thoughts(report: Report, condition: str) -> list[Any]:
    return [one for one in report.draw_labels(32) if one.condition == condition]


def expected(thoughts: list[Any], places: list[int | None]) -> list[Any]:
    """Return the labels that result from pressing the buttons at some positions; None = none."""
    pairs = zip(thoughts, places, strict=False)
    return [one.labelled(None if place is None else one.order[place]) for one, place in pairs]


def test_labels_made_with_keys_can_be_used_by_the_report(page: Any, report: Report, downloads: Path) -> None:
    choose(page, "base")
    by_id(page, "label-start").click()
    assert text_of(page, "label-keys") == "Keys are on: A B C 0, ← → go, ↑ ↓ scroll"
    keys = [LETTERS[number % 5] for number in range(30)]
    press(page, "".join(keys))
    assert text_of(page, "label-count") == "30 of 32 labelled"
    assert page.execute_script("return document.getElementById('label-progress').value") == 30
    options = page.execute_script("return [...document.getElementById('label-condition').options].map((o) => o.text)")
    assert options == [
        "all conditions, 30 of 96",
        "base, 30 of 32",
        "wrong think, 0 of 32",
        "abstain option, 0 of 32",
    ]
    by_id(page, "label-reader").send_keys(" Ada ")
    path = export(page, downloads)
    labels = Labels.read(path)
    places: list[int | None] = [{"a": 0, "b": 1, "c": 2}.get(key) for key in keys]
    assert list(labels.labels) == expected(drawn_thoughts(report, "base"), places)
    assert (labels.seed, labels.reader) == (0, "Ada")
    table = report.consistency(path).set_index("condition")
    assert set(table.loc["base", "labelled"]) == {30}
    assert list(json.loads(path.read_text())) == ["format", "seed", "reader", "labels"]


def test_labels_made_with_the_mouse_on_a_phone(page: Any, report: Report, downloads: Path) -> None:
    resize(page, 390, 844)
    choose(page, "abstain_option")
    places: list[int | None] = []
    for number in range(30):
        place = number % 5
        assert len(buttons(page)) == 5
        buttons(page)[place].click()
        assert page.execute_script("return document.activeElement.id") == "label-card"
        places.append(None if place == 4 else place)
    assert text_of(page, "label-count") == "30 of 32 labelled"
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    controls = "#labels button, #labels select, #label-reader, #labels .import"
    script = (
        "return [...document.querySelectorAll(arguments[0])].map((one) => one.offsetHeight).filter((one) => one > 0)"
    )
    assert min(page.execute_script(script, controls)) >= 44
    path = export(page, downloads)
    assert list(Labels.read(path).labels) == expected(drawn_thoughts(report, "abstain_option"), places)
    assert set(report.consistency(path).set_index("condition").loc["abstain_option", "labelled"]) == {30}


def test_going_back_can_change_a_label_but_not_skip_one(page: Any, downloads: Path, report: Report) -> None:
    from selenium.webdriver.common.keys import Keys

    by_id(page, "label-card").click()
    press(page, Keys.ARROW_RIGHT)  # not labelled, so there is no going on
    press(page, Keys.ARROW_LEFT)
    assert page.execute_script("return labelling.position") == 0
    assert not by_id(page, "label-next").is_enabled()
    press(page, "ab")
    press(page, Keys.ARROW_LEFT * 2)
    assert pressed(page) == [buttons(page)[0].text]
    press(page, "c")  # and on to the first that is open
    assert page.execute_script("return labelling.position") == 2
    assert pressed(page) == []
    by_id(page, "label-previous").click()
    by_id(page, "label-previous").click()
    assert pressed(page) == [buttons(page)[2].text]
    by_id(page, "label-next").click()
    press(page, Keys.CONTROL + "c" + Keys.NULL)  # copies, and labels nothing
    labels = Labels.read(export(page, downloads)).labels
    assert list(labels) == expected(report.draw_labels(32), [2, 1])


def test_the_end_offers_the_export(page: Any, downloads: Path) -> None:
    choose(page, "wrong_think")
    by_id(page, "label-start").click()
    press(page, "a" * 33)
    assert "All 32 are labelled." in text_of(page, "label-card")
    [button] = buttons(page)
    button.click()
    wait(page, (downloads / "labels.json").exists)
    assert len(Labels.read(downloads / "labels.json").labels) == 32
    by_id(page, "label-previous").click()
    press(page, "b")
    assert "All 32 are labelled." in text_of(page, "label-card")


def test_the_section_shows_neither_answer_nor_verdict(page: Any, report: Report) -> None:
    by_id(page, "label-start").click()
    for one in report.draw_labels(32)[:12]:
        shown = page.execute_script("return document.getElementById('label-card').outerHTML")
        plain = shown.replace(one.thought.replace("&", "&amp;"), "")
        assert len(plain) < len(shown)
        assert not [secret for secret in (*SECRETS, "<answer>", one.condition) if secret in plain]
        names = [f"{letter}. {text}" for letter, text in zip(one.letters, one.options, strict=True)]
        given = page.execute_script(
            "return [...document.querySelectorAll('.choices span')].map((one) => one.textContent)"
        )
        assert given == [*names, "None / undecided"]
        press(page, "0")
    kept = page.execute_script("return Object.keys(labelling.thoughts[0])")
    assert set(kept) == {"sample_id", "condition", "draw", "digest", "question", "options", "thought"}


def test_the_section_does_not_depend_on_answer_or_target(driver: Any, tmp_path: Path) -> None:
    sections = set()
    for number, (answer, truth) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        driver.get(page_with_thought(folder, ("red", "blue"), "It is red.", answer=answer, truth=truth))
        sections.add(driver.execute_script("return document.getElementById('labels').outerHTML"))
    assert len(sections) == 1


def test_an_import_is_merged_and_keeps_existing_labels(page: Any, report: Report, downloads: Path) -> None:
    first, second, third, fourth, fifth = report.draw_labels(32)[:5]
    by_id(page, "label-start").click()
    press(page, "ab")
    given = expected([first, second, third], [0, 2, None])
    foreign = [fifth.labelled(0).replace(thought="0" * 16), fourth.labelled(0).replace(draw=7)]
    unknown = [fourth.labelled(25)]
    labels = Labels(seed=0, reader="Bo", labels=[*given, *foreign, *unknown])
    said = import_message(page, downloads, labels.model_dump_json())
    assert said == (
        "Labels taken: 1. Here already: 1. Contradicting the label here, which was kept: 1. Of other thoughts: 2. "
        "Naming an option that was not shown: 1."
    )
    assert text_of(page, "label-count") == "3 of 96 labelled"
    exported = Labels.read(export(page, downloads))
    assert list(exported.labels) == expected([first, second, third], [0, 1, None])
    assert exported.reader == "Bo"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "Not imported: the file is no JSON."),
        ("null", "Not imported: its format is not “vlmrobust labels 1”."),
        ([1], "Not imported: its format is not “vlmrobust labels 1”."),
        (
            {"format": "vlmrobust labels 2", "seed": 0, "labels": []},
            "Not imported: its format is not “vlmrobust labels 1”.",
        ),
        ({"format": "vlmrobust labels 1", "seed": 0}, "Not imported: its format is not “vlmrobust labels 1”."),
        (
            {"format": "vlmrobust labels 1", "seed": 3, "labels": []},
            "Not imported: its seed is 3, that of this page 0.",
        ),
        (
            {"format": "vlmrobust labels 1", "seed": None, "labels": []},
            "Not imported: its seed is null, that of this page 0.",
        ),
        ({"format": "vlmrobust labels 1", "seed": 0, "labels": [None, 3]}, "Labels taken: 0. Of other thoughts: 2."),
    ],
)
def test_foreign_files_are_refused(page: Any, tmp_path: Path, content: object, sentence: str) -> None:
    assert import_message(page, tmp_path, content) == sentence
    assert text_of(page, "label-count") == "0 of 96 labelled"


def test_labels_survive_a_reload_and_belong_to_their_page(page: Any, url: str, report: Report, tmp_path: Path) -> None:
    by_id(page, "label-reader").send_keys("Ada")
    by_id(page, "label-start").click()
    press(page, "ab0")
    page.refresh()
    assert text_of(page, "label-count") == "3 of 96 labelled"
    assert page.execute_script("return labelling.position") == 3
    assert by_id(page, "label-reader").get_attribute("value") == "Ada"
    page.get(page_of(report, tmp_path, labels=31, max_samples=1))
    assert text_of(page, "label-count") == "0 of 93 labelled"
    page.get(url)
    assert text_of(page, "label-count") == "3 of 96 labelled"


def test_closing_asks_only_if_labels_would_be_lost(page: Any, downloads: Path) -> None:
    asks = "const e = new Event('beforeunload', { cancelable: true }); dispatchEvent(e); return e.defaultPrevented"
    by_id(page, "label-start").click()
    press(page, "a")
    assert page.execute_script(asks) is False
    page.execute_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
    assert page.execute_script(asks) is False
    press(page, "b")
    assert page.execute_script(asks) is True
    export(page, downloads)
    assert page.execute_script(asks) is False


def test_keys_label_inside_the_section_and_navigate_outside(page: Any) -> None:
    def current() -> str:
        return str(page.execute_script("return state.current.id"))

    body = page.find_element("tag name", "body")
    assert text_of(page, "label-keys") == "Keys are off"
    body.send_keys("abj")
    assert text_of(page, "label-count") == "0 of 96 labelled"
    assert current() == "q1"
    by_id(page, "label-start").click()
    assert not by_id(page, "label-start").is_displayed()
    press(page, "jj/k")  # neither letters of these options nor keys of the browser of samples
    assert (current(), page.execute_script("return document.activeElement.id")) == ("q1", "label-card")
    assert text_of(page, "label-count") == "0 of 96 labelled"
    by_id(page, "label-reader").send_keys("abc")
    assert text_of(page, "label-keys") == "Keys are off"
    assert text_of(page, "label-count") == "0 of 96 labelled"
    by_id(page, "list").click()
    wait(page, lambda: text_of(page, "label-keys") == "Keys are off")
    before = current()
    page.find_element("tag name", "body").send_keys("ak")
    assert current() != before
    assert text_of(page, "label-count") == "0 of 96 labelled"
    by_id(page, "label-start").click()
    press(page, "a")
    assert text_of(page, "label-count") == "1 of 96 labelled"


def test_letters_that_are_digits_or_n_select_options(driver: Any, tmp_path: Path) -> None:
    driver.get(page_with_thought(tmp_path, ("red", "blue"), "It is red.", Style(letters="01")))
    by_id(driver, "label-start").click()
    assert "0 1 -" in text_of(driver, "label-keys")
    given = "return [...labelling.labels.values()]"
    for key, label in (("0", 0), ("1", 1), ("-", None)):
        press(driver, key)
        assert driver.execute_script(given) == [label]
        by_id(driver, "label-previous").click()
    driver.get(page_with_thought(tmp_path, ("red", "blue"), "It is blue.", Style(letters="NJ")))
    by_id(driver, "label-start").click()
    for key, label in (("n", 0), ("J", 1), ("0", None)):
        press(driver, key)
        assert driver.execute_script(given) == [label]
        by_id(driver, "label-previous").click()
    assert driver.get_log("browser") == []


def test_long_words_wrap_and_long_thoughts_scroll_with_keys(driver: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    resize(driver, 390, 844)
    word = "Donaudampfschifffahrt" * 8
    driver.get(page_with_thought(tmp_path, (word, "blue"), f"{word}\n" * 40, question=word))
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    by_id(driver, "label-start").click()
    press(driver, Keys.ARROW_DOWN)
    assert driver.execute_script("return document.querySelector('#label-card .turn').scrollTop") > 0
    assert driver.execute_script("return document.querySelector('#label-card .turn').clientHeight") < 844 / 2
    assert driver.get_log("browser") == []


def test_hostile_text_is_not_executed(driver: Any, downloads: Path, tmp_path: Path) -> None:
    driver.get(page_with_thought(tmp_path, (HOSTILE, "blue"), HOSTILE, question=HOSTILE))
    assert text_of(driver, "label-card").count(HOSTILE) == 4  # question, option, thought, button
    by_id(driver, "label-start").click()
    press(driver, "a")
    assert Labels.read(export(driver, downloads)).labels[0].label == 0
    assert f"its seed is {json.dumps(HOSTILE)}" in import_message(
        driver, tmp_path, {"format": "vlmrobust labels 1", "seed": HOSTILE, "labels": []}
    )
    assert driver.execute_script("return document.scripts.length") == 2
    assert driver.execute_script("return window.hacked === undefined")
    assert driver.execute_script("return document.querySelectorAll('#labels img, #labels svg, [onerror]').length") == 0
    assert driver.get_log("browser") == []


def test_a_page_without_thoughts_has_no_section(driver: Any, report: Report, tmp_path: Path) -> None:
    driver.get(page_of(report, tmp_path, labels=0, max_samples=1))
    assert driver.execute_script("return document.querySelectorAll('#labels, [href=\"#labels\"]').length") == 0
    assert len(driver.find_elements("class name", "item")) == 1
    assert driver.get_log("browser") == []
