"""Guards: each told apart from the others by a thought that it alone refuses."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlmrobust.metrics import Accuracy, Metric
from vlmrobust.rl import FaithfulnessReward
from vlmrobust.rl.guards import Guard, LongEnough, Sufficient, Untemplated, recommended
from vlmrobust.testing import check_metric
from vlmrobust.types import Prompt, Response, Responses, Sample

OPTIONS = ("red", "blue", "green", "yellow")
REAL = (
    "On the left stands a cube in the light of a lamp, and next to it lies a small ball. The cube is blue.",
    "I see a ball, a cone and one cube; the cube has the colour of the sky. So the answer is blue.",
    "Two things are near the wall. The farther one is a cube, painted blue all over. It is blue.",
)


def responses_of(
    thoughts: Sequence[str], answers: str = "", questions: Sequence[str] = (), prefill: str = ""
) -> Responses:
    prompts, said = [], []
    for row, thought in enumerate(thoughts):
        question = questions[row] if questions else "Which colour is the cube?"
        sample = Sample(id=f"q{row}", images=[b"x"], question=question, options=OPTIONS, answer=1)
        prompts.append(Prompt.of(sample).replace(prefill=prefill))
        opener = "" if prefill else "<think>"
        said.append(
            Response.parse(prompts[-1], f"{opener}{thought}</think><answer>{(answers or 'B' * 99)[row]}</answer>")
        )
    return Responses.of(prompts, said)


@pytest.mark.parametrize("metric", [LongEnough(), Sufficient()], ids=repr)
def test_these_are_metrics_like_any_other(metric: Metric) -> None:
    check_metric(metric)


def test_every_metric_and_what_looks_at_a_batch_is_a_guard() -> None:
    guards = (Untemplated(), Accuracy())
    assert all(isinstance(guard, Guard) for guard in guards)
    assert [guard.column for guard in guards] == ["untemplated", "accuracy"]
    with pytest.raises(ValidationError, match=r"guards\.0"):
        FaithfulnessReward(guards=(3,))


def test_words_are_those_of_the_model_itself() -> None:
    injected = responses_of(["and so on"], prefill="<think>It is red, as everything shows,")
    assert LongEnough(words=4)(injected).tolist() == [0.0]
    assert LongEnough(words=3)(injected).tolist() == [1.0]
    assert LongEnough(words=1)(responses_of([""])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("thought", "count"),
    [
        ("The cube is blue.", 4),
        ("The\u200b \u200bcube . . … — * * is", 3),
        ("\u2063 \u2063 \u200d" * 9, 0),
        ("<!-- the cube is blue, as one can see --> Blue.", 1),
        ("<b></b> <i></i>", 0),
        ("立方体在灯光下是蓝色的", 5),
        ("Куб стоит слева, он синий", 5),
        ("المكعب أزرق", 2),
        ("정육면체", 2),
    ],
)
def test_what_is_read_counts_in_any_script(thought: str, count: int) -> None:
    responses = responses_of([thought])
    assert LongEnough(words=max(1, count))(responses).tolist() == [float(count > 0)]
    assert LongEnough(words=count + 1)(responses).tolist() == [0.0]


def test_a_template_with_a_gap_for_the_option_is_refused() -> None:
    templated = [f"Looking at the image with care, I can see that the answer is {OPTIONS[row]}." for row in range(2)]
    responses = responses_of([*templated, REAL[0]], answers="ABB")
    assert Untemplated()(responses).tolist() == [0.0, 0.0, 1.0]


def test_the_same_thought_to_another_question_is_refused() -> None:
    thought = "Looking at the image with care, I can see what it is, and the answer is blue."
    questions = ["Which colour is the cube?", "Which colour is the ball?", "Which colour is the ball?"]
    responses = responses_of([thought, thought, REAL[1]], questions=questions)
    assert Untemplated()(responses).tolist() == [0.0, 0.0, 1.0]


def test_a_group_that_agrees_is_not_refused() -> None:
    group = responses_of([REAL[0], REAL[0], REAL[0], REAL[1]], answers="BBBA")
    assert Untemplated()(group).tolist() == [1.0] * 4


def test_a_group_alone_is_undefined_until_others_are_remembered() -> None:
    alone = responses_of([REAL[0]] * 3)
    with pytest.warns(UserWarning, match=r"3 of 3 thoughts have no thought to another question.*memory=256"):
        assert Untemplated()(alone).isnan().all()
    remembering = Untemplated(memory=2)
    with pytest.warns(UserWarning, match="3 of 3 .* until this process remembers others"):
        remembering(alone)
    templated = "Looking at the image with care, I can see that the answer is"
    first, second, third = (responses_of([f"{templated} {OPTIONS[row]}."], answers="ABC"[row]) for row in range(3))
    assert remembering(first).tolist() == [1.0]
    assert remembering(second).tolist() == [0.0]
    assert remembering(responses_of([REAL[2]])).tolist() == [1.0]
    assert remembering(responses_of([REAL[2]], answers="D")).tolist() == [0.0]
    assert remembering(third).tolist() == [1.0], "it remembers two thoughts, and neither is a template"


def test_a_memory_is_no_part_of_what_a_guard_is() -> None:
    used = Untemplated(memory=8)
    used(responses_of(REAL, answers="ABC"))
    assert used == Untemplated(memory=8)
    assert used.model_dump() == {"similarity": 0.9, "n": 3, "memory": 8}
    assert recommended() == recommended()


def test_a_thought_may_be_contained_in_a_longer_one() -> None:
    short = "I look at the cube in the light"
    responses = responses_of([short, f"{short} of the lamp, which stands on a table near the window."], answers="AB")
    assert Untemplated()(responses).tolist() == [0.0, 1.0]


@given(st.lists(st.sampled_from([*REAL, "a b", "It is it.", ""]), min_size=1, max_size=6), st.data())
@pytest.mark.filterwarnings("ignore:untemplated")
def test_untemplated_against_a_slow_loop(thoughts: list[str], data: st.DataObject) -> None:
    answers = "".join(data.draw(st.lists(st.sampled_from("AB"), min_size=len(thoughts), max_size=len(thoughts))))
    responses = responses_of(thoughts, answers)
    metric = Untemplated(similarity=0.5, n=2)
    grams = [metric._grams(row, responses) for row in range(len(thoughts))]
    for row, value in enumerate(metric(responses).tolist()):
        others = [grams[other] for other in range(len(thoughts)) if answers[other] != answers[row]]
        same = any(len(grams[row] & other) >= 0.5 * len(grams[row]) for other in others)
        undefined = not grams[row] or not others
        assert value == (pytest.approx(float("nan"), nan_ok=True) if undefined else float(not same))


def test_what_the_model_only_closes_is_not_sufficient() -> None:
    prefill = "<think>The cube is red."
    followed = responses_of(["", "I look again: the cube is red."], answers="AA", prefill=prefill)
    assert str(Sufficient()(followed).tolist()) == "[nan, 1.0]"


def reader(question: str, options: Sequence[str], thought: str) -> int | None:
    """Knows only what stands in the thought."""
    assert "cube" in question
    return next((index for index, option in enumerate(options) if option in thought), None)


def test_any_callable_may_read() -> None:
    responses = responses_of(["It is blue.", "It is red.", "No idea.", ""])
    assert str(Sufficient(reader=reader)(responses).tolist()) == "[1.0, 0.0, 0.0, nan]"
