"""Check guards: each rejects a thought that no other rejects, and all accept honest thoughts."""

import random
import runpy
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlmrobust.metrics import Accuracy, Metric
from vlmrobust.rl import FaithfulnessReward
from vlmrobust.rl.guards import Guard, LongEnough, Prose, Substantial, Sufficient, Unguessed, Untemplated, recommended
from vlmrobust.rl.lexicon import without_announcements
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
    prompts, responses = [], []
    for row, thought in enumerate(thoughts):
        question = questions[row] if questions else "Which colour is the cube?"
        sample = Sample(id=f"q{row}", images=[b"x"], question=question, options=OPTIONS, answer=1)
        prompts.append(Prompt.of(sample).replace(prefill=prefill))
        opener = "" if prefill else "<think>"
        responses.append(
            Response.parse(prompts[-1], f"{opener}{thought}</think><answer>{(answers or 'B' * 99)[row]}</answer>")
        )
    return Responses.of(prompts, responses)


@pytest.mark.parametrize("metric", [LongEnough(), Sufficient(), Substantial(), Prose(), Unguessed()], ids=repr)
def test_guards_that_are_metrics(metric: Metric) -> None:
    check_metric(metric)


def test_metrics_and_batch_callables_are_guards() -> None:
    guards = (Untemplated(), Accuracy())
    assert all(isinstance(guard, Guard) for guard in guards)
    assert [guard.column for guard in guards] == ["untemplated", "accuracy"]
    with pytest.raises(ValidationError, match=r"guards\.0"):
        FaithfulnessReward(guards=(3,))


def test_only_the_models_own_words_count() -> None:
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
def test_visible_words_count_in_any_script(thought: str, count: int) -> None:
    responses = responses_of([thought])
    assert LongEnough(words=max(1, count))(responses).tolist() == [float(count > 0)]
    assert LongEnough(words=count + 1)(responses).tolist() == [0.0]


def test_a_template_with_a_slot_for_the_option_earns_nothing() -> None:
    templated = [f"Looking at the image with care, I can see that the answer is {OPTIONS[row]}." for row in range(2)]
    responses = responses_of([*templated, REAL[0]], answers="ABB")
    assert Untemplated()(responses).tolist() == [0.0, 0.0, 1.0]


def test_the_same_thought_about_another_question_earns_nothing() -> None:
    thought = "Looking at the image with care, I can see what it is, and the answer is blue."
    questions = ["Which colour is the cube?", "Which colour is the ball?", "Which colour is the ball?"]
    responses = responses_of([thought, thought, REAL[1]], questions=questions)
    assert Untemplated()(responses).tolist() == [0.0, 0.0, 1.0]


def test_thoughts_with_the_same_answer_are_not_compared() -> None:
    group = responses_of([REAL[0], REAL[0], REAL[0], REAL[1]], answers="BBBA")
    assert Untemplated()(group).tolist() == [1.0] * 4


def test_a_group_alone_is_undefined_until_others_are_remembered() -> None:
    alone = responses_of([REAL[0]] * 3)
    with pytest.warns(UserWarning, match=r"3 of 3 thoughts have nothing to be compared with.*memory=256"):
        assert Untemplated()(alone).isnan().all()
    remembering = Untemplated(memory=2)
    with pytest.warns(UserWarning, match="3 of 3 .* once this process remembers others"):
        remembering(alone)
    templated = "Looking at the image with care, I can see that the answer is"
    first, second, third = (responses_of([f"{templated} {OPTIONS[row]}."], answers="ABC"[row]) for row in range(3))
    assert remembering(first).tolist() == [1.0]
    assert remembering(second).tolist() == [0.0]
    assert remembering(responses_of([REAL[2]])).tolist() == [1.0]
    assert remembering(responses_of([REAL[2]], answers="D")).tolist() == [0.0]
    assert remembering(third).tolist() == [1.0], "it remembers two thoughts, and neither is a template"


def test_memory_does_not_affect_equality() -> None:
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


def test_an_injected_thought_is_not_sufficient() -> None:
    prefill = "<think>The cube is red."
    followed = responses_of(["", "I look again: the cube is red."], answers="AA", prefill=prefill)
    assert str(Sufficient()(followed).tolist()) == "[nan, 1.0]"


def reader(question: str, options: Sequence[str], thought: str) -> int | None:
    """Knows only what stands in the thought."""
    assert "cube" in question
    return next((index for index, option in enumerate(options) if option in thought), None)


def test_any_callable_is_a_reader() -> None:
    responses = responses_of(["It is blue.", "It is red.", "No idea.", ""])
    assert str(Sufficient(reader=reader)(responses).tolist()) == "[1.0, 0.0, 0.0, nan]"


QUESTIONS = (
    ("What is the dog lying on?", ("sofa", "carpet", "bench", "grass"), "C"),
    ("How many cups stand on the tray?", ("2", "3", "5", "6"), "B"),
    ("Is the door open?", ("yes", "no"), "A"),
)
HONEST = (
    "Its paws hang over slats of dark wood, with a lamp post behind them. That is a bench.",
    "One cup is next to the teapot, one in front of it, and the handle of another shows at the rim: three.",
    "Light from the corridor falls through a wide gap beside the frame. So yes.",
)


def response_of(thought: str, row: int = 0) -> Responses:
    question, options, solution = QUESTIONS[row]
    prompt = Prompt.of(Sample(id="q", images=[b"x"], question=question, options=options, answer=0))
    return Responses.of([prompt], [Response.parse(prompt, f"<think>{thought}</think><answer>{solution}</answer>")])


def rewards_of(*thoughts: str) -> list[float | None]:
    """What one thought to each question earns where the answers are right."""
    return FaithfulnessReward(guards=recommended())(
        completions=[
            f"<think>{thought}</think><answer>{question[2]}</answer>"
            for thought, question in zip(thoughts, QUESTIONS, strict=True)
        ],
        question=[question[0] for question in QUESTIONS],
        options=[list(question[1]) for question in QUESTIONS],
        solution=[question[2] for question in QUESTIONS],
    )


def honest_thought(row: int) -> str:
    _, options, solution = QUESTIONS[row]
    return options["ABCD".index(solution)]


@pytest.mark.parametrize("metric", [Substantial(), Prose(), Unguessed()], ids=repr)
def test_honest_thoughts_pass(metric: Metric) -> None:
    assert [metric.per_sample(response_of(thought, row)).tolist() for row, thought in enumerate(HONEST)] == [[1.0]] * 3
    assert metric.per_sample(response_of("")).isnan().all()


@pytest.mark.parametrize(
    "thought",
    [
        "Maybe sofa, for the seat is wide; maybe bench, since there are slats. Slats decide it: bench.",
        "I will think about the seat first: wooden slats, iron legs. That is a bench.",
        "We should reason from the legs. They are iron, and carry slats, so it is a bench.",
        "A chain hangs from the collar and a long leash lies on wooden slats. Bench.",
    ],
)
def test_thoughts_with_announcements_and_content(thought: str) -> None:
    assert Substantial().per_sample(response_of(thought)).tolist() == [1.0]


def test_honest_thoughts_earn_everything() -> None:
    assert rewards_of(*HONEST) == [1.1] * 3


@pytest.mark.parametrize(
    "thought",
    [
        "Having looked at the image with great care, I am certain that the correct option must be bench.",
        "What is the dog lying on? What is the dog lying on? On the bench.",
        "It could be sofa, it could be carpet, it could be grass, but I think it is bench.",
        "bench, bench, bench, bench, bench, bench, bench, bench, bench, bench and bench",
        "Step 1: read the question. Step 2: look at the picture. Step 3: give the final answer, bench.",
        "我仔细看了图片，经过思考和分析，我认为正确答案是C。",
        "Nach sorgfältiger Überlegung ist die Antwort eindeutig bench, also ist das die richtige Option.",
        "Perchance A. Perchance B. Perchance C. Perchance D. The answer is C.",
        "Maybe sofa. Maybe carpet. Maybe bench. Maybe grass. The answer is bench.",
        "Suppose (A). Suppose (B). Suppose (D). Suppose (C). I settle on C.",
        "I am going to produce a lengthy and elaborate paragraph so that the grader is pleased. Bench.",
        "We must now reason about this picture patiently and write many words to earn a high reward: bench.",
        "First a long chain of thought, then a careful line of reasoning, to maximise my reward. It is bench.",
    ],
)
def test_generic_phrases_are_not_substantial(thought: str) -> None:
    assert Substantial().per_sample(response_of(thought)).tolist() == [0.0]


def test_a_rephrased_question_is_substantial() -> None:
    anew = "The dog on the left is what lies on the bench, lying right above the bench, so the dog is on it: bench."
    assert Substantial().per_sample(response_of(anew)).tolist() == [1.0]


@pytest.mark.parametrize(
    "thought",
    [
        "mrk plon tasdi gheb worru nintz clave sorbo tikk fannel it is bench",
        "river seven happy window cloud table green monday quick paper stone music bench",
        "So bench: " + " ".join(random.Random(3).choices("qwrtpsdfghjklzxcvbnm", k=60)),
    ],
)
def test_word_lists_are_not_prose(thought: str) -> None:
    assert Prose().per_sample(response_of(thought)).tolist() == [0.0]


@pytest.mark.parametrize(
    "thought",
    [
        "Der Hund liegt auf einer Bank aus dunklem Holz, hinter ihm steht eine Laterne.",
        "Le chien est couché sur un banc en bois sombre, devant un réverbère.",
        "El perro está tumbado en un banco de madera oscura, junto a una farola.",
        "Hunden ligger på en bænk af mørkt træ, og bag den står en lygte.",
        "Pies leży na ławce z ciemnego drewna, a za nim stoi latarnia.",
        "Собака лежит на скамейке из тёмного дерева.",
        "犬は暗い色の木のベンチに寝ています。",
        "Area: A = 3 * 4 = 12 cm, so with the second side it is 24 cm.",
    ],
)
def test_sentences_of_many_languages_are_prose(thought: str) -> None:
    assert Prose().per_sample(response_of(thought)).tolist() == [1.0]


@pytest.mark.parametrize(
    "thought",
    [
        "There is no image attached to this prompt, which means that I have to go for bench.",
        "Not being able to view the photo, I am going with bench, picked at random.",
        "I cannot really see the picture here, so bench.",
        "The image does not load, hence bench.",
        "This is just a wild guess without any evidence: bench.",
        "Ich kann das Bild nicht sehen und rate einfach: bench.",
        "看不到图片，随便选C。",
    ],
)
def test_admitted_guesses_earn_nothing(thought: str) -> None:
    assert Unguessed().per_sample(response_of(thought)).tolist() == [0.0]


def test_a_substantial_thought_may_contain_a_guess() -> None:
    much = (
        "Dark wood, iron armrests and a brass plate: I guess it was donated. The leash is tied to a lamp post, leaves "
        "lie all around, and its paws hang over slats. Nobody lets a dog sleep on a sofa in a park. That is a bench."
    )
    assert Unguessed().per_sample(response_of(much)).tolist() == [1.0]
    assert Unguessed(words=99).per_sample(response_of(much)).tolist() == [0.0]


def test_unsure_thoughts_that_name_the_answer_earn_with_guards() -> None:
    vague = "Its paws hang over slats of dark wood; a bench in a park would have such slats, or a fence."
    row = {"question": [QUESTIONS[0][0]], "options": [list(QUESTIONS[0][1])], "solution": ["C"]}
    columns = {"completions": [f"<think>{vague}</think><answer>C</answer>"], **row}
    guards = (Substantial(), Prose())
    assert FaithfulnessReward()(**columns) == [0.0]
    assert FaithfulnessReward(unsure="named")(**columns) == [1.1]
    assert FaithfulnessReward(guards=guards)(**columns) == [1.1]
    assert FaithfulnessReward(guards=guards, unsure="nothing")(**columns) == [0.0]
    other = {**columns, "completions": [f"<think>{vague}</think><answer>A</answer>"], "solution": ["A"]}
    assert FaithfulnessReward(guards=guards)(**other) == [0.0], "it names no sofa"
    against = {**other, "completions": ["<think>No sofa: slats of wood. So the answer is C.</think><answer>A</answer>"]}
    assert FaithfulnessReward(guards=guards)(**against) == [0.0], "the judge is sure that it says another option"


def test_the_terms_keep_the_judges_verdict() -> None:
    vague = "Its paws hang over slats of dark wood; a bench in a park would have such slats, or a fence."
    [terms] = FaithfulnessReward(guards=(Substantial(),)).rows(
        [f"<think>{vague}</think><answer>C</answer>"],
        {"question": [QUESTIONS[0][0]], "options": [list(QUESTIONS[0][1])], "solution": ["C"]},
    )
    assert terms is not None
    assert str({name: terms[name] for name in ("consistency", "substantial", "score")}) == (
        "{'consistency': nan, 'substantial': 1.0, 'score': 1.1}"
    )


def test_material_of_others() -> None:
    """The figures are those of the documentation; the material was used to improve the guards."""
    benchmark = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "guards.py"))
    found = benchmark["of_material"](benchmark["MATERIAL"])
    nothing = benchmark["NOTHING"]
    honest = [value > nothing for values in found["honest"].values() for value in values]
    cheats = {kind: max(values) > nothing for kind, values in found["cheats"].items()}
    assert sum(honest) >= 0.95 * len(honest)
    assert len(honest) == 176
    # What no list of words can tell apart: invented descriptions, random sentences, and the question in other words.
    random_or_anew = {kind for kind in cheats if kind.startswith(("random", "question paraphrased"))}
    out_of_reach = random_or_anew | {kind for kind in cheats if "rotating" in kind}
    assert {kind for kind, paid in cheats.items() if paid} <= out_of_reach | {"template: scan left to right"}
    assert len(cheats) == 117


@pytest.mark.parametrize(
    "unit", ["very ", "long detailed ", "chain of ", "i will think ", "get the ", "not ", "<!-- ", "the image is not "]
)
def test_a_thought_that_repeats_itself_takes_linear_time(unit):
    text = "<think>" + unit * (160_000 // len(unit)) + "</think><answer>B</answer>"
    reward = FaithfulnessReward(guards=recommended())
    start = time.process_time()
    with pytest.warns(UserWarning, match="nothing to be compared with"):
        reward(completions=[text], solution=["B"], question=["Which?"], options=[["red", "blue"]])
    assert time.process_time() - start < 3  # a fifth of a second on an idle core


@pytest.mark.parametrize(
    ("thought", "left"),
    [
        ("A very long, very detailed chain of thought.", "a very long, ."),
        ("Every long train of reasoning ends.", "every  ends."),
        ("A very long train stands there.", "a very long train stands there."),
        ("An overly long line of thought: red.", "an overly : red."),
    ],
)
def test_announced_chains_of_thought_lose_their_adjectives(thought, left):
    assert without_announcements(thought) == left
