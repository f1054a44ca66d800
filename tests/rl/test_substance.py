"""Thoughts that say nothing of an image, or say it in no language, and honest ones beside them."""

import random
import runpy
from pathlib import Path

import pytest

from vlmrobust.metrics import Metric
from vlmrobust.rl import FaithfulnessReward
from vlmrobust.rl.guards import Prose, Substantial, Unguessed, recommended
from vlmrobust.testing import check_metric
from vlmrobust.types import Prompt, Response, Responses, Sample

ASKED = (
    ("What is the dog lying on?", ("sofa", "carpet", "bench", "grass"), "C"),
    ("How many cups stand on the tray?", ("2", "3", "5", "6"), "B"),
    ("Is the door open?", ("yes", "no"), "A"),
)
HONEST = (
    "Its paws hang over slats of dark wood, with a lamp post behind them. That is a bench.",
    "One cup is next to the teapot, one in front of it, and the handle of another shows at the rim: three.",
    "Light from the corridor falls through a wide gap beside the frame. So yes.",
)


def one(thought: str, row: int = 0) -> Responses:
    question, options, solution = ASKED[row]
    prompt = Prompt.of(Sample(id="q", images=[b"x"], question=question, options=options, answer=0))
    return Responses.of([prompt], [Response.parse(prompt, f"<think>{thought}</think><answer>{solution}</answer>")])


def earned(*thoughts: str) -> list[float | None]:
    """What one thought to each question earns where the answers are right."""
    return FaithfulnessReward(guards=recommended())(
        completions=[
            f"<think>{thought}</think><answer>{asked[2]}</answer>"
            for thought, asked in zip(thoughts, ASKED, strict=True)
        ],
        question=[asked[0] for asked in ASKED],
        options=[list(asked[1]) for asked in ASKED],
        solution=[asked[2] for asked in ASKED],
    )


def right(row: int) -> str:
    _, options, solution = ASKED[row]
    return options["ABCD".index(solution)]


@pytest.mark.parametrize("metric", [Substantial(), Prose(), Unguessed()], ids=repr)
def test_these_are_metrics_like_any_other(metric: Metric) -> None:
    check_metric(metric)


@pytest.mark.parametrize("metric", [Substantial(), Prose(), Unguessed()], ids=repr)
def test_honest_thoughts_pass(metric: Metric) -> None:
    assert [metric.per_sample(one(thought, row)).tolist() for row, thought in enumerate(HONEST)] == [[1.0]] * 3
    assert metric.per_sample(one("")).isnan().all()


@pytest.mark.parametrize(
    "thought",
    [
        "Maybe sofa, for the seat is wide; maybe bench, since there are slats. Slats decide it: bench.",
        "I will think about the seat first: wooden slats, iron legs. That is a bench.",
        "We should reason from the legs. They are iron, and carry slats, so it is a bench.",
        "A chain hangs from the collar and a long leash lies on wooden slats. Bench.",
    ],
)
def test_thoughts_that_weigh_or_announce_and_then_look(thought: str) -> None:
    assert Substantial().per_sample(one(thought)).tolist() == [1.0]


def test_honest_thoughts_earn_everything() -> None:
    assert earned(*HONEST) == [1.1] * 3


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
def test_what_could_be_said_of_any_image_is_no_substance(thought: str) -> None:
    assert Substantial().per_sample(one(thought)).tolist() == [0.0]


def test_the_question_may_be_said_anew() -> None:
    anew = "The dog on the left is what lies on the bench, lying right above the bench, so the dog is on it: bench."
    assert Substantial().per_sample(one(anew)).tolist() == [1.0]


@pytest.mark.parametrize(
    "thought",
    [
        "mrk plon tasdi gheb worru nintz clave sorbo tikk fannel it is bench",
        "river seven happy window cloud table green monday quick paper stone music bench",
        "So bench: " + " ".join(random.Random(3).choices("qwrtpsdfghjklzxcvbnm", k=60)),
    ],
)
def test_words_in_a_row_are_no_prose(thought: str) -> None:
    assert Prose().per_sample(one(thought)).tolist() == [0.0]


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
    assert Prose().per_sample(one(thought)).tolist() == [1.0]


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
def test_who_says_that_it_guesses_earns_nothing(thought: str) -> None:
    assert Unguessed().per_sample(one(thought)).tolist() == [0.0]


def test_a_step_may_be_a_guess_in_a_thought_that_says_much() -> None:
    much = (
        "Dark wood, iron armrests and a brass plate: I guess it was donated. The leash is tied to a lamp post, leaves "
        "lie all around, and its paws hang over slats. Nobody lets a dog sleep on a sofa in a park. That is a bench."
    )
    assert Unguessed().per_sample(one(much)).tolist() == [1.0]
    assert Unguessed(words=99).per_sample(one(much)).tolist() == [0.0]


def test_unsure_thoughts_earn_where_they_name_the_answer_and_guards_watch() -> None:
    vague = "Its paws hang over slats of dark wood; a bench in a park would have such slats, or a fence."
    row = {"question": [ASKED[0][0]], "options": [list(ASKED[0][1])], "solution": ["C"]}
    said = {"completions": [f"<think>{vague}</think><answer>C</answer>"], **row}
    guards = (Substantial(), Prose())
    assert FaithfulnessReward()(**said) == [0.0]
    assert FaithfulnessReward(unsure="named")(**said) == [1.1]
    assert FaithfulnessReward(guards=guards)(**said) == [1.1]
    assert FaithfulnessReward(guards=guards, unsure="nothing")(**said) == [0.0]
    other = {**said, "completions": [f"<think>{vague}</think><answer>A</answer>"], "solution": ["A"]}
    assert FaithfulnessReward(guards=guards)(**other) == [0.0], "it names no sofa"
    against = {**other, "completions": ["<think>No sofa: slats of wood. So the answer is C.</think><answer>A</answer>"]}
    assert FaithfulnessReward(guards=guards)(**against) == [0.0], "the judge is sure that it says another option"


def test_the_terms_say_what_a_judge_said() -> None:
    vague = "Its paws hang over slats of dark wood; a bench in a park would have such slats, or a fence."
    [terms] = FaithfulnessReward(guards=(Substantial(),)).rows(
        [f"<think>{vague}</think><answer>C</answer>"],
        {"question": [ASKED[0][0]], "options": [list(ASKED[0][1])], "solution": ["C"]},
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
