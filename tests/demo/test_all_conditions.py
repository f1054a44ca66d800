"""Every condition of the library in one call on the bundled model, and the page that shows them."""

import pytest

from vlmrobust import Evaluator, Report, demo
from vlmrobust.perturbations.catalogue import CONDITIONS, FROM_SAMPLES

CONDITIONS_THAT_NEVER_FIT = {"rotated_options_4", "rotated_options_5"}  # four options


@pytest.fixture(scope="module")
def report() -> Report:
    samples = demo.samples(5, seed=8)
    conditions = [make() for make in CONDITIONS.values()] + [make(pool=samples) for make in FROM_SAMPLES.values()]
    model = demo.model(generation={"max_new_tokens": 64})
    return Evaluator(model, conditions, batch_size=5).run(samples)


def test_every_condition_is_asked_and_answered(report: Report) -> None:
    frame = report.frame
    assert set(report.conditions) == {*CONDITIONS, *FROM_SAMPLES}
    assert not (frame["status"] == "error").any(), frame["error"].dropna().tolist()
    unfit = set(frame["condition"]) - set(frame.loc[frame["status"] != "not_applicable", "condition"])
    assert unfit == CONDITIONS_THAT_NEVER_FIT
    answered = set(frame.loc[frame["status"] == "answered", "condition"])
    # It learnt the letters A to D alone.
    assert set(frame["condition"]) - answered == CONDITIONS_THAT_NEVER_FIT | {"option_letters"}


def test_the_page_shows_them_all(report: Report) -> None:
    page = report.to_html(samples=demo.samples(5, seed=8))
    for condition in report.conditions:
        assert condition in page
    assert page.count("data:image/svg+xml") >= 5
